//! The whole decision, from the head of a request to the verdict.

use std::hint::black_box;

use criterion::Criterion;
use http::{HeaderMap, Method, Uri};
use scopegate::authorize::{Context, authorize};
use scopegate::decide::Verdict;
use scopegate::route::path::CanonicalPath;
use scopegate::snapshot::Access;
use scopegate::state::clock;
use scopegate::state::live::Live;
use scopegate::state::token_cache::TokenCache;
use scopegate::types::Checks;

use crate::support::{HOST, SCOPES, Signer, headers, judge};
use crate::{TARGET, live};

/// `remembered`, `new RS256`, `missing`, `scope missing`: the decision; `authorize`: its last stage alone.
pub(crate) fn decisions(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let live = live(folder.path(), &signer, 100);
    let tokens = TokenCache::new(64 << 20);
    // A cache without room forgets at once, so that the same token is new each time.
    let forgetful = TokenCache::new(1);
    let uri = Uri::from_static(TARGET);
    let known = headers(Some(&signer.token("RS256", SCOPES, 0)));
    let narrow = headers(Some(&signer.token("RS256", "openid", 0)));
    let permitted = |tokens: &TokenCache, headers: &HeaderMap| {
        matches!(judge(&live, tokens, black_box(headers), &uri).verdict, Verdict::Permit(..))
    };

    let mut group = criterion.benchmark_group("decide");
    group.bench_function("remembered", |bencher| bencher.iter(|| assert!(permitted(&tokens, &known))));
    group.bench_function("new RS256", |bencher| bencher.iter(|| assert!(permitted(&forgetful, &known))));
    let missing = headers(None);
    group.bench_function("missing", |bencher| bencher.iter(|| assert!(!permitted(&tokens, &missing))));
    group.bench_function("scope missing", |bencher| bencher.iter(|| assert!(!permitted(&tokens, &narrow))));
    group.bench_function("authorize", |bencher| authorization(bencher, &live, &tokens, &known));
    group.finish();
}

fn authorization(
    bencher: &mut criterion::Bencher<'_>,
    live: &Live,
    tokens: &TokenCache,
    headers: &HeaderMap,
) {
    let uri = Uri::from_static(TARGET);
    let record = judge(live, tokens, headers, &uri);
    let principal = record.principal().unwrap();
    let path = CanonicalPath::parse(uri.path()).unwrap();
    let found = live.snapshot.table.find(HOST, &path, &Method::GET).unwrap();
    let Access::Protected(requirement) = &live.snapshot.route(found.route).unwrap().access else {
        unreachable!("no route of the policy is public");
    };
    let issuers = &live.snapshot.issuers;
    let context = Context { params: &found.params, host: HOST, issuers, now: clock::now() };
    bencher.iter(|| {
        let mut checks = Checks::default();
        let principal = black_box(principal).clone();
        assert!(authorize(found.route, principal, requirement, &context, &mut checks).is_ok());
    });
}
