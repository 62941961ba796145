//! One policy, the keys of its issuer, and all tokens that this issuer ever signed.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use scopegate::authenticate::keys::KeySet;
use scopegate::authenticate::{Algorithm, Knowledge, TokenFacts};
use scopegate::config;
use scopegate::snapshot::Snapshot;
use scopegate::types::{IssuerIndex, Timestamp};

/// The policy.
pub const POLICY: &str = include_str!("../fixtures/policy.yaml");
/// The issuer's keys.
pub const KEYS: &str = include_str!("../fixtures/keys.json");
/// Its tokens, one a line. The private keys were thrown away.
pub const TOKENS: &str = include_str!("../fixtures/tokens.txt");
/// A time at which the tokens are valid.
pub const NOW: Timestamp = Timestamp(1_800_000_000);
/// The host of the policy's routes.
pub const HOST: &str = "api.example.com";

/// [`POLICY`], compiled.
pub static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| compile(POLICY).expect("the policy is valid"));

/// Compiles a policy without variables and without files beside it.
pub fn compile(text: &str) -> Option<Snapshot> {
    config::parse(
        "fuzz.yaml",
        text.as_bytes(),
        Path::new("/nonexistent"),
        &|_| None,
        scopegate::types::Timestamp(1_800_000_000),
    )
    .ok()
    .map(|loaded| loaded.snapshot)
}

/// Knows the issuer's keys and has seen no token before.
pub struct Known(Arc<KeySet>);

/// [`KEYS`], parsed.
pub static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let all = Algorithm::ALL.into_iter().collect();
    let (keys, _) = KeySet::from_jwks(KEYS.as_bytes(), all).expect("the keys are valid");
    Known(Arc::new(keys))
});

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
