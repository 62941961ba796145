//! Properties of the decision over generated policies and requests.

#![cfg(test)]

mod asserted;
mod lenient;

use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};
use proptest::prelude::ProptestConfig;
use scopegate::admit::Head;
use scopegate::authenticate::json::Object;
use scopegate::authenticate::keys::KeySet;
use scopegate::authenticate::{KeyThumbprint, Knowledge, TokenFacts, claims};
use scopegate::config::{self, Loaded};
use scopegate::decide::{DecisionRecord, decide};
use scopegate::snapshot::Snapshot;
use scopegate::types::{IssuerIndex, Timestamp};
use serde_json::{Value, json};

/// `PROPTEST_CASES` overrides the number of cases, for longer runs.
fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = cases.unwrap_or(default);
    ProptestConfig { cases, max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() }
}

const NOW: i64 = 1_800_000_000;

/// Knows the facts of one token: what the gateway reads from these claims of a verified token.
struct Known<'k> {
    snapshot: &'k Snapshot,
    /// Claims beside the times; `None` for a caller without a token.
    claims: Option<Value>,
}

impl Knowledge for Known<'_> {
    fn facts(&self, _: &str) -> Option<Arc<TokenFacts>> {
        let mut claims = self.claims.clone()?;
        for (name, value) in [("iat", json!(NOW - 1)), ("exp", json!(NOW + 60)), ("jti", json!("1"))] {
            claims[name] = value;
        }
        let (_, policy) = self.snapshot.issuers.find(claims["iss"].as_str()?)?;
        let claims = Object::parse(claims.to_string().as_bytes()).unwrap();
        claims::read(claims, policy, 1, KeyThumbprint([0; 32])).ok().map(Arc::new)
    }
    fn keys(&self, _: IssuerIndex) -> Option<Arc<KeySet>> {
        None
    }
    fn epoch(&self, _: IssuerIndex) -> u64 {
        1
    }
}

fn parse(policy: &str) -> Option<Loaded> {
    config::parse("routes.yaml", policy.as_bytes(), Path::new(""), &|_| None, Timestamp(NOW)).ok()
}

/// Decides a request of a caller with these claims. `None` for a request that is no HTTP.
fn decided<'s>(
    snapshot: &'s Snapshot,
    method: &str,
    host: &str,
    target: &str,
    claims: Option<&Value>,
) -> Option<DecisionRecord<'s>> {
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    let uri: Uri = target.parse().ok()?;
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_str(host).ok()?);
    if claims.is_some() {
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer token"));
    }
    let head = Head { method: &method, uri: &uri, version: Version::HTTP_11, headers: &headers };
    let known = Known { snapshot, claims: claims.cloned() };
    Some(decide(snapshot, &head, &known, Timestamp(NOW)))
}
