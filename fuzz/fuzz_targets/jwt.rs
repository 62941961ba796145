//! Any token, and any header and payload in a well-formed token: without the private key nothing is accepted. The claims
//! are read and judged all the same, as if the signature had been good.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use scopegate::authenticate::json::Object;
use scopegate::authenticate::keys::KeySet;
use scopegate::authenticate::{
    Algorithm, ClaimMap, ClaimPath, IssuerPolicy, Issuers, KeyRefresh, KeySource, KeyThumbprint, Knowledge, TokenFacts,
    TokenTypes, claims, jwt,
};
use scopegate::types::{Checks, Issuer, IssuerIndex, IssuerName, Timestamp};

/// The key of RFC 8037 appendix A, as a JWK Set.
const KEYS: &[u8] = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

struct Known(Arc<KeySet>);

impl Knowledge for Known {
    fn facts(&self, _: &str) -> Option<Arc<TokenFacts>> {
        None
    }

    fn keys(&self, _: IssuerIndex) -> Option<Arc<KeySet>> {
        Some(Arc::clone(&self.0))
    }

    fn epoch(&self, _: IssuerIndex) -> u64 {
        1
    }
}

static WORLD: LazyLock<(Issuers, Known)> = LazyLock::new(|| {
    let (keys, _) = KeySet::from_jwks(KEYS, Algorithm::ALL.into_iter().collect()).expect("a good key set");
    (Issuers::new(vec![policy()]), Known(Arc::new(keys)))
});

fn policy() -> IssuerPolicy {
    let paths = |names: &[&str]| names.iter().filter_map(|name| ClaimPath::parse(name)).collect();
    let hour = Duration::from_secs(3_600);
    IssuerPolicy {
        name: IssuerName::new("i"),
        issuer: Issuer::new("i"),
        keys: KeySource::Discovery,
        algorithms: Algorithm::ALL.into_iter().collect(),
        token_types: TokenTypes {
            accept: vec!["at+jwt".into(), "jwt".into()],
            accept_absent: true,
            required_claims: Vec::new(),
        },
        max_lifetime: hour,
        leeway: Duration::from_secs(10),
        claims: ClaimMap {
            scope: paths(&["scope", "scp"]),
            client: paths(&["client_id", "azp"]),
            tenant: ClaimPath::parse("t.id"),
            roles: None,
        },
        refresh: KeyRefresh {
            interval: hour,
            unknown_kid_cooldown: hour,
            max_stale: hour,
        },
        plain_http: false,
        ca: None,
    }
}

fuzz_target!(|data: (&str, &[u8], &[u8], i64)| {
    let (token, header, payload, now) = data;
    let now = Timestamp(now);
    let (issuers, known) = &*WORLD;
    let refused = |token: &str| {
        assert!(jwt::verify(token, issuers, known, now, &mut Checks::default()).is_err());
    };
    refused(token);
    refused(&format!("{}.{}.{}", encode(header), encode(payload), encode(&[1; 64])));
    if let Ok(object) = Object::parse(payload) {
        let policy = policy();
        if let Ok(facts) = claims::read(object, &policy, 1, KeyThumbprint([0; 32])) {
            let _ = claims::check_times(&facts, &policy, now);
            assert!(facts.scopes.iter().all(|scope| !scope.is_empty() && !scope.contains(' ')));
            assert!(!facts.audience.is_empty());
            assert!(facts.weight() > 0);
        }
    }
});

/// base64url without padding.
fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(word >> (18 - 6 * position)) as usize & 63]));
        }
    }
    text
}
