//! The credential: a token that was seen before, and one that was not, by algorithm.

use std::hint::black_box;
use std::time::Instant;

use criterion::Criterion;
use http::HeaderMap;
use scopegate::authenticate::{Presented, Principal, authenticate};
use scopegate::state::clock;
use scopegate::state::live::{Live, LiveKnowledge};
use scopegate::state::token_cache::{TokenCache, TokenDigest};
use scopegate::types::Checks;

use crate::live;
use crate::support::{SCOPES, Signer, headers};

/// `digest` and `look-up` are parts of `remembered`: credential, digest, look-up, epoch and key, times.
pub(crate) fn tokens(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let live = live(folder.path(), &signer, 1);
    let tokens = TokenCache::new(64 << 20);
    let mut group = criterion.benchmark_group("token");

    let token = signer.token("RS256", SCOPES, 0);
    let known = headers(Some(&token));
    let principal = caller(&live, &tokens, &known);
    let digest = TokenDigest::of(&token);
    tokens.insert(digest, principal.facts().clone());
    group.bench_function("digest", |bencher| bencher.iter(|| TokenDigest::of(black_box(&token))));
    group.bench_function("look-up", |bencher| {
        let now = clock::now();
        bencher.iter(|| assert!(tokens.get(black_box(&digest), now).is_some()));
    });
    group.bench_function("remembered", |bencher| {
        bencher.iter(|| assert!(caller(&live, &tokens, black_box(&known)).remembered()));
    });
    for algorithm in ["RS256", "PS256", "ES256", "ES384", "EdDSA"] {
        // Nothing is remembered, so the same token is new each time.
        let new = headers(Some(&signer.token(algorithm, SCOPES, 1)));
        group.bench_function(format!("new {algorithm}"), |bencher| {
            bencher.iter(|| assert!(!caller(&live, &tokens, black_box(&new)).remembered()));
        });
    }
    group.finish();
}

fn caller(live: &Live, tokens: &TokenCache, headers: &HeaderMap) -> Principal {
    let now = clock::now();
    let knowledge = LiveKnowledge::new(live, tokens, now, Instant::now());
    let limit = live.snapshot.gateway.limits.token;
    let presented = Presented { headers, places: None, handshake: false, max_token: limit };
    authenticate(presented, &live.snapshot.issuers, &knowledge, now, &mut Checks::default()).unwrap()
}
