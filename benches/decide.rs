//! What one decision costs, stage by stage: `cargo bench --bench decide`.
//!
//! - `decide/remembered`: a token seen before: digest, look-up, times, route, audience, scope, claim rule.
//! - `decide/new ALGORITHM`: a token never seen: parsing and signature as well.
//! - `decide/missing`: no credential.
//! - `route/N`: the look-up alone in a table of N routes.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop where a gateway may not")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use scopegate::admit::Head;
use scopegate::config;
use scopegate::decide::{Verdict, decide};
use scopegate::observe::metrics::Metrics;
use scopegate::route::path::CanonicalPath;
use scopegate::state::clock;
use scopegate::state::live::{Live, LiveKnowledge};
use scopegate::state::token_cache::TokenCache;
use serde_json::{Value, json};

/// Signs with each algorithm, and knows the public keys.
struct Signer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Signer {
    fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn jwks(&self) -> Value {
        let modulus = self.rsa.public_key().modulus();
        let point = self.ec.public_key().as_ref();
        json!({ "keys": [
            { "kty": "RSA", "kid": "RS256", "alg": "RS256", "e": "AQAB",
              "n": BASE64.encode(modulus.big_endian_without_leading_zero()) },
            { "kty": "EC", "kid": "ES256", "alg": "ES256", "crv": "P-256",
              "x": BASE64.encode(point.get(1..33).unwrap()), "y": BASE64.encode(point.get(33..).unwrap()) },
            { "kty": "OKP", "kid": "EdDSA", "alg": "EdDSA", "crv": "Ed25519",
              "x": BASE64.encode(self.ed.public_key().as_ref()) },
        ] })
    }

    fn token(&self, algorithm: &str, id: u64) -> String {
        let now = clock::now().0;
        let header = json!({ "alg": algorithm, "typ": "at+jwt", "kid": algorithm });
        let claims = json!({
            "iss": "https://idp.example.com/", "sub": "alice", "client_id": "mobile-app",
            "aud": "https://api.example.com", "scope": "openid profile orders:read orders:write",
            "iat": now, "exp": now + 3600, "jti": format!("{id:032x}"), "department": "sales", "tenant_id": "acme",
        });
        let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match algorithm {
            "RS256" => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            "ES256" => self.ec.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            _ => self.ed.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", BASE64.encode(signature))
    }
}

fn live(folder: &Path, signer: &Signer, routes: usize) -> Live {
    std::fs::write(folder.join("keys.json"), signer.jwks().to_string()).unwrap();
    let mut policy = String::from(
        "version: 1
gateway: { listen: [{ http: 127.0.0.1:0 }] }
issuers:
  corp: { issuer: https://idp.example.com/, keys: { jwks_file: keys.json }, algorithms: [RS256, ES256, EdDSA] }
upstreams: { api: { url: http://127.0.0.1:9 } }
routes:
",
    );
    for number in 0..routes {
        let _ = write!(
            policy,
            "  - id: r{number}
    match: {{ host: api.example.com, path: '/v1/r{number}/{{tenant}}/orders/{{id}}', methods: [GET] }}
    require:
      issuers: [corp]
      audience: https://api.example.com
      scopes: [orders:read]
      claims: {{ department: {{ one_of: [sales, ops] }} }}
    upstream: api
    forward: {{ identity_headers: {{ X-User: sub }} }}
"
        );
    }
    policy.push_str("...\n");
    let loaded = config::parse("routes.yaml", policy.as_bytes(), folder, &|_| None).unwrap();
    Live::new(loaded.snapshot, None, &Metrics::new()).unwrap()
}

fn headers(token: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("api.example.com"));
    headers.insert("user-agent", HeaderValue::from_static("bench/1.0"));
    headers.insert("accept", HeaderValue::from_static("application/json"));
    if let Some(token) = token {
        headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    }
    headers
}

fn permitted(live: &Live, tokens: &TokenCache, headers: &HeaderMap, uri: &Uri) -> bool {
    let head = Head { method: &Method::GET, uri, version: Version::HTTP_11, headers };
    let now = clock::now();
    let knowledge = LiveKnowledge::new(live, tokens, now, Instant::now());
    let record = decide(&live.snapshot, &head, &knowledge, now);
    if let Some(principal) = record.principal() {
        knowledge.remember(principal);
    }
    matches!(record.verdict, Verdict::Permit(..))
}

fn decisions(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let live = live(folder.path(), &signer, 100);
    let uri = Uri::from_static("/v1/r50/acme/orders/4711?expand=lines");
    let mut group = criterion.benchmark_group("decide");

    let tokens = TokenCache::new(64 << 20);
    let known = headers(Some(&signer.token("RS256", 0)));
    assert!(permitted(&live, &tokens, &known, &uri));
    group.bench_function("remembered", |bencher| {
        bencher.iter(|| assert!(permitted(&live, &tokens, black_box(&known), &uri)));
    });
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let new = headers(Some(&signer.token(algorithm, 1)));
        // A cache without room forgets at once, so that the same token is new each time.
        let tokens = TokenCache::new(1);
        group.bench_function(format!("new {algorithm}"), |bencher| {
            bencher.iter(|| assert!(permitted(&live, &tokens, black_box(&new), &uri)));
        });
    }
    let missing = headers(None);
    group.bench_function("missing", |bencher| {
        bencher.iter(|| assert!(!permitted(&live, &tokens, black_box(&missing), &uri)));
    });
    group.finish();
}

fn routes(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let mut group = criterion.benchmark_group("route");
    for size in [10, 1_000, 100_000] {
        let live = live(folder.path(), &signer, size);
        let raw = format!("/v1/r{}/acme/orders/4711", size / 2);
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter(|| {
                let path = CanonicalPath::parse(black_box(&raw)).unwrap();
                let found = live.snapshot.table.find("api.example.com", &path, &Method::GET);
                assert!(found.is_ok());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decisions, routes);
criterion_main!(benches);
