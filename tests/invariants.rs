//! What must hold whatever else changes, where no test of a single module can see it. ARCHITECTURE.md lists all invariants.
#![cfg(test)]

mod support;

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use scopegate::admit::Head;
use scopegate::authenticate::keys::KeySet;
use scopegate::authenticate::{AlgorithmSet, Knowledge, TokenFacts};
use scopegate::config;
use scopegate::decide::{DecisionRecord, Verdict, decide};
use scopegate::reject::Reason;
use scopegate::snapshot::Snapshot;
use scopegate::types::{Check, IssuerIndex, Outcome, Timestamp};
use serde_json::json;
use support::{Behaviour, Policy, Rig};

/// The key pair of RFC 8037 §A.1.
const JWKS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const NOW: i64 = 1_800_000_000;

/// What is known: keys, or none.
struct Known(Option<Arc<KeySet>>);

impl Knowledge for Known {
    fn facts(&self, _: &str) -> Option<Arc<TokenFacts>> {
        None
    }
    fn keys(&self, _: IssuerIndex) -> Option<Arc<KeySet>> {
        self.0.clone()
    }
    fn epoch(&self, _: IssuerIndex) -> u64 {
        1
    }
}

fn keys() -> Known {
    let allowed: AlgorithmSet = scopegate::authenticate::Algorithm::ALL.into_iter().collect();
    Known(Some(Arc::new(KeySet::from_jwks(JWKS.as_bytes(), allowed).unwrap().0)))
}

fn snapshot(mode: &str) -> Snapshot {
    let text = format!(
        "version: 1
gateway: {{ listen: [http: 127.0.0.1:0] }}
issuers:
  corp: {{ issuer: 'https://idp.example.com', keys: {{ discovery: true }}, algorithms: [EdDSA] }}
upstreams:
  orders: {{ url: 'http://127.0.0.1:9' }}
routes:
  - id: orders
    match: {{ path: /orders }}
    require: {{ issuers: [corp], audience: 'https://api.example.com', scopes: [orders:read] }}
    upstream: orders
    mode: {mode}
...
"
    );
    config::parse("routes.yaml", text.as_bytes(), Path::new(""), &|_| None, Timestamp(1_800_000_000))
        .unwrap()
        .snapshot
}

/// A good token for [`snapshot`], with this scope and this expiry.
fn token(scope: &str, expires: i64) -> String {
    let mut key = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    key.extend(URL_SAFE_NO_PAD.decode(SEED).unwrap());
    let claims = json!({
        "iss": "https://idp.example.com", "aud": "https://api.example.com", "sub": "alice", "client_id": "app",
        "jti": "1", "scope": scope, "iat": expires - 600, "exp": expires,
    });
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some("at+jwt".into());
    header.kid = Some("a".into());
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&key)).unwrap()
}

fn decided<'s>(snapshot: &'s Snapshot, token: &str, known: &Known) -> DecisionRecord<'s> {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("api.example.com"));
    if !token.is_empty() {
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    }
    let uri = Uri::from_static("/orders");
    let head = Head { method: &Method::GET, uri: &uri, version: Version::HTTP_11, headers: &headers };
    decide(snapshot, &head, known, Timestamp(NOW))
}

fn reason(record: &DecisionRecord<'_>) -> Option<Reason> {
    match &record.verdict {
        Verdict::Reject(reject) => Some(reject.reason),
        Verdict::Permit(..) | Verdict::Options(..) | Verdict::Preflight(_) | Verdict::Metadata(_) => None,
    }
}

#[test]
fn authorization_runs_only_after_authentication_has_passed() {
    let good = token("orders:read", NOW + 60);
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    for mode in ["enforce", "shadow"] {
        let snapshot = snapshot(mode);
        for (what, token, expected) in [
            ("no token", "", Reason::CredentialMissing),
            ("an opaque token", "opaque", Reason::TokenOpaque),
            ("a forged token", forged.as_str(), Reason::SignatureInvalid),
            ("an expired token", &token("orders:read", NOW - 60), Reason::TokenExpired),
            ("an expired token without the scope", &token("profile", NOW - 60), Reason::TokenExpired),
        ] {
            let record = decided(&snapshot, token, &keys());
            assert_eq!(reason(&record), Some(expected), "{what}, {mode}");
            let last = record.checks.iter().last().unwrap();
            assert_eq!(last.outcome, Outcome::Failed(expected), "{what}, {mode}: nothing follows a failure");
            assert!(record.checks.iter().all(|seen| seen.check < Check::RouteIssuer), "{what}, {mode}");
            assert!(record.principal().is_none(), "{what}, {mode}");
        }
    }
}

#[test]
fn the_record_shows_the_verdicts_of_both_questions() {
    let snapshot = snapshot("enforce");
    let record = decided(&snapshot, &token("profile", NOW + 60), &keys());
    assert_eq!(reason(&record), Some(Reason::ScopeMissing));
    let outcome = |wanted| record.checks.iter().find(|seen| seen.check == wanted).map(|seen| seen.outcome);
    assert_eq!(outcome(Check::Signature), Some(Outcome::Passed));
    assert_eq!(outcome(Check::Lifetime), Some(Outcome::Passed));
    assert_eq!(outcome(Check::Scope), Some(Outcome::Failed(Reason::ScopeMissing)));
    assert_eq!(record.principal().unwrap().facts().subject.as_deref(), Some("alice"));

    let record = decided(&snapshot, &token("orders:read", NOW + 60), &keys());
    assert!(matches!(record.verdict, Verdict::Permit(..)), "{record:?}");
}

#[test]
fn what_cannot_be_decided_is_refused_in_shadow_mode_too() {
    for mode in ["enforce", "shadow"] {
        let snapshot = snapshot(mode);
        for scope in ["orders:read", "profile"] {
            let record = decided(&snapshot, &token(scope, NOW + 60), &Known(None));
            assert_eq!(reason(&record), Some(Reason::KeysUnavailable), "{mode}, {scope}");
            assert!(record.need.is_some(), "the pipeline can wait for the keys");
            assert_eq!(Reason::KeysUnavailable.row().status, 503);
        }
    }
}

#[test]
fn only_the_decision_makes_permits_and_only_the_pipeline_forwards() {
    let mut callers = Vec::new();
    search(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut callers);
    callers.sort();
    assert_eq!(
        callers,
        [
            ("admit_public(", "decide.rs"),
            ("authorize::authorize(", "decide.rs"),
            ("forward(&permit", "pipeline/mod.rs")
        ]
        .map(|(call, file)| (call.to_owned(), file.to_owned()))
    );
}

/// Which files call what leads to an upstream. Definitions, comments and tests are left out.
fn search(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let file = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
        for call in ["admit_public(", "authorize::authorize(", "forward(&permit"] {
            let called = |line: &&str| {
                line.contains(call) && !line.contains("fn ") && !line.trim_start().starts_with("//")
            };
            if !path.ends_with("tests.rs") && code.lines().any(|line| called(&line)) {
                found.push((call.to_owned(), file.display().to_string()));
            }
        }
    }
}

#[tokio::test]
async fn no_part_of_a_token_leaves_the_gateway_in_any_way() {
    let rig = Rig::with(Policy::default().issuer("key_refresh: { unknown_kid_cooldown: 1s }")).await;
    let tokens = [
        rig.token(),
        rig.issuer.token().scope("profile").mint(),
        rig.issuer.token().times(-700, -100).mint(),
        rig.issuer.token().header("kid", "nobody").mint(),
        rig.issuer.token().mint_with_signature(&[0; 64]),
    ];
    let mut seen = String::new();
    for token in &tokens {
        let get = |target: &str| rig.gateway.get(target);
        for call in [
            get("/orders/1").token(token),
            get("/status").token(token),
            get("/nothing").token(token),
            get(&format!("/{token}")),
            get("/orders/1").header("Authorization", &format!("bearer  {token}")),
            get("/orders/1").header("Authorization", &format!("Basic {token}")),
            get("/orders/1").token(token).header("Authorization", &format!("Bearer {token}")),
        ] {
            let response = call.send().await;
            seen.push_str(&format!("{} {}\n{}\n", response.verdict(), response.challenge(), response.text()));
        }
    }
    rig.issuer.behave(Behaviour::Down);
    rig.gateway.get("/orders/1").token(&tokens[3]).send().await;
    rig.gateway.reload().await;
    let expected = tokens.len() * 7 + 1;
    support::eventually("all are logged", || async { (rig.gateway.log().len() >= expected).then_some(()) })
        .await;

    seen.push_str(&rig.gateway.output());
    seen.push_str(&rig.gateway.metrics().await);
    seen.push_str(&rig.gateway.status().await.to_string());
    seen.push_str(&rig.gateway.admin("GET", "/api/v1/routes").send().await.text());
    for request in rig.upstream.requests() {
        seen.push_str(&format!("{request:?}"));
    }
    for token in &tokens {
        for part in token.split('.').skip(1).filter(|part| !part.starts_with("AAAA")) {
            assert!(!seen.contains(part), "a part of a token left the gateway");
        }
    }
}
