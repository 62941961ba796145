//! What the benchmarks share: a policy, who signs tokens for it, and the head of a request.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use scopegate::admit::Head;
use scopegate::config;
use scopegate::decide::{DecisionRecord, decide};
use scopegate::observe::metrics::Metrics;
use scopegate::state::clock;
use scopegate::state::live::{Live, LiveKnowledge};
use scopegate::state::token_cache::TokenCache;
use serde_json::{Value, json};

/// The host of every route.
pub(crate) const HOST: &str = "api.example.com";

/// The scopes of a usual token.
pub(crate) const SCOPES: &str = "openid profile orders:read orders:write";

/// Signs with each algorithm, and knows the public keys.
pub(crate) struct Signer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Signer {
    /// Makes new keys; RSA ones of 2048 bits.
    pub(crate) fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// The key set; the id of each key is the name of its algorithm.
    fn jwks(&self) -> Value {
        let rsa = |algorithm: &str| {
            let modulus = self.rsa.public_key().modulus().big_endian_without_leading_zero();
            json!({ "kty": "RSA", "kid": algorithm, "alg": algorithm, "e": "AQAB", "n": BASE64.encode(modulus) })
        };
        let ec = |key: &EcdsaKeyPair, algorithm: &str, curve: &str| {
            // After the mark of an uncompressed point, the two coordinates have one length.
            let (_, point) = key.public_key().as_ref().split_first().unwrap();
            let (x, y) = point.split_at(point.len() / 2);
            json!({ "kty": "EC", "kid": algorithm, "alg": algorithm, "crv": curve,
                "x": BASE64.encode(x), "y": BASE64.encode(y) })
        };
        let ed = BASE64.encode(self.ed.public_key().as_ref());
        json!({ "keys": [
            rsa("RS256"),
            rsa("PS256"),
            ec(&self.p256, "ES256", "P-256"),
            ec(&self.p384, "ES384", "P-384"),
            { "kty": "OKP", "kid": "EdDSA", "alg": "EdDSA", "crv": "Ed25519", "x": ed },
        ] })
    }

    /// A token with these scopes. `id` makes it another token.
    pub(crate) fn token(&self, algorithm: &str, scope: &str, id: u64) -> String {
        let now = clock::now().0;
        let header = json!({ "alg": algorithm, "typ": "at+jwt", "kid": algorithm });
        let claims = json!({
            "iss": "https://idp.example.com/", "sub": "alice", "client_id": "mobile-app",
            "aud": "https://api.example.com", "scope": scope,
            "iat": now, "exp": now + 3600, "jti": format!("{id:032x}"), "department": "sales", "tenant_id": "acme",
        });
        let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let random = SystemRandom::new();
        let rsa = |padding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(padding, &random, message.as_bytes(), &mut signature).unwrap();
            signature
        };
        let ec = |key: &EcdsaKeyPair| key.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec();
        let signature = match algorithm {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "ES256" => ec(&self.p256),
            "ES384" => ec(&self.p384),
            _ => self.ed.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", BASE64.encode(signature))
    }
}

/// A policy in force: this many routes to one upstream, each with every kind of usual demand. The target of route 7 is
/// `/v1/r7/{tenant}/orders/{id}`.
pub(crate) fn live(
    folder: &Path,
    signer: &Signer,
    routes: usize,
    upstream: SocketAddr,
    metrics: &Arc<Metrics>,
) -> Live {
    std::fs::write(folder.join("keys.json"), signer.jwks().to_string()).unwrap();
    let mut policy = format!(
        "version: 1
gateway: {{ listen: [{{ http: 127.0.0.1:0 }}] }}
issuers:
  corp:
    issuer: https://idp.example.com/
    keys: {{ jwks_file: keys.json }}
    algorithms: [RS256, PS256, ES256, ES384, EdDSA]
upstreams: {{ api: {{ url: http://{upstream} }} }}
routes:
"
    );
    for number in 0..routes {
        let _ = write!(
            policy,
            "  - id: r{number}
    match: {{ host: {HOST}, path: '/v1/r{number}/{{tenant}}/orders/{{id}}', methods: [GET] }}
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
    let loaded = config::parse(
        "routes.yaml",
        policy.as_bytes(),
        folder,
        &|_| None,
        scopegate::types::Timestamp(1_800_000_000),
    )
    .unwrap();
    Live::new(loaded.snapshot, None, metrics).unwrap()
}

/// The fields of a usual request.
pub(crate) fn headers(token: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static(HOST));
    headers.insert("user-agent", HeaderValue::from_static("bench/1.0"));
    headers.insert("accept", HeaderValue::from_static("application/json"));
    if let Some(token) = token {
        headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    }
    headers
}

/// Decides on a GET as the gateway does, and remembers the token.
pub(crate) fn judge<'l>(
    live: &'l Live,
    tokens: &TokenCache,
    headers: &HeaderMap,
    uri: &Uri,
) -> DecisionRecord<'l> {
    let head = Head { method: &Method::GET, uri, version: Version::HTTP_11, headers };
    let now = clock::now();
    let knowledge = LiveKnowledge::new(live, tokens, now, Instant::now());
    let record = decide(&live.snapshot, &head, &knowledge, now);
    if let Some(principal) = record.principal() {
        knowledge.remember(principal);
    }
    record
}
