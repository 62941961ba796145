//! An authorization server in the test's own process: it signs any token, right or wrong, and serves its keys.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::AUDIENCE;
use super::upstream::{Recorded, Reply, Upstream};

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// The same with SHA-384.
    Rs384,
    /// The same with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256, by the same key.
    Ps256,
    /// The same with SHA-384.
    Ps384,
    /// The same with SHA-512.
    Ps512,
    /// ECDSA on P-256.
    Es256,
    /// ECDSA on P-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Alg {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// How its RSA signatures are encoded; `None` for other keys.
    fn rsa(self) -> Option<&'static dyn RsaEncoding> {
        Some(match self {
            Self::Rs256 => &RSA_PKCS1_SHA256,
            Self::Rs384 => &RSA_PKCS1_SHA384,
            Self::Rs512 => &RSA_PKCS1_SHA512,
            Self::Ps256 => &RSA_PSS_SHA256,
            Self::Ps384 => &RSA_PSS_SHA384,
            Self::Ps512 => &RSA_PSS_SHA512,
            Self::Es256 | Self::Es384 | Self::EdDsa => return None,
        })
    }

    /// The `alg` value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// The keys of one generation.
struct Keys {
    generation: u64,
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

impl Keys {
    /// The first generation is made once a process: RSA keys take long.
    fn first() -> Arc<Self> {
        static FIRST: OnceLock<Arc<Keys>> = OnceLock::new();
        Arc::clone(FIRST.get_or_init(|| Arc::new(Self::generate(1))))
    }

    fn generate(generation: u64) -> Self {
        Self {
            generation,
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            ed25519: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn kid(&self, alg: Alg) -> String {
        let kind = match alg {
            Alg::Es256 => "p256",
            Alg::Es384 => "p384",
            Alg::EdDsa => "ed25519",
            _ => "rsa",
        };
        format!("{kind}-{}", self.generation)
    }

    fn sign(&self, alg: Alg, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        if let Some(encoding) = alg.rsa() {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &random, message, &mut signature).unwrap();
            return signature;
        }
        match alg {
            Alg::Es256 => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            Alg::Es384 => self.p384.sign(&random, message).unwrap().as_ref().to_vec(),
            _ => self.ed25519.sign(message).as_ref().to_vec(),
        }
    }

    fn jwks(&self) -> Vec<Value> {
        let ec = |key: &EcdsaKeyPair, crv: &str, alg: Alg| {
            let point = key.public_key().as_ref();
            let (x, y) = point[1..].split_at((point.len() - 1) / 2);
            json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y), "use": "sig", "alg": alg.name(),
                "kid": self.kid(alg)})
        };
        let modulus = self.rsa.public_key().modulus().big_endian_without_leading_zero().to_vec();
        let exponent = self.rsa.public_key().exponent().big_endian_without_leading_zero().to_vec();
        vec![
            json!({"kty": "RSA", "n": b64(&modulus), "e": b64(&exponent), "use": "sig", "kid": self.kid(Alg::Rs256)}),
            ec(&self.p256, "P-256", Alg::Es256),
            ec(&self.p384, "P-384", Alg::Es384),
            json!({"kty": "OKP", "crv": "Ed25519", "x": b64(self.ed25519.public_key().as_ref()), "use": "sig",
                "alg": "EdDSA", "kid": self.kid(Alg::EdDsa)}),
        ]
    }
}

/// What the issuer does when it is asked for its metadata or keys.
#[derive(Clone)]
pub enum Behaviour {
    /// Answers.
    Well,
    /// Closes every connection without an answer.
    Down,
    /// Answers 500.
    Failing,
    /// Answers an empty key set.
    Empty,
    /// Answers when it gets the sign.
    Slow(Arc<Notify>),
    /// Answers metadata that names this issuer.
    OtherIssuer(String),
    /// Answers these bytes in place of the key set.
    Jwks(String),
}

struct State {
    behaviour: Mutex<Behaviour>,
    keys: Mutex<Vec<Arc<Keys>>>,
    jwks_requests: AtomicUsize,
    metadata_requests: AtomicUsize,
}

/// A running issuer.
pub struct TestIssuer {
    server: Upstream,
    url: String,
    state: Arc<State>,
}

impl TestIssuer {
    /// Starts on a free port, with the keys that all issuers of this process begin with.
    pub async fn start() -> Self {
        Self::with(Keys::first()).await
    }

    /// Starts on a free port, with keys of its own under the names of everybody's first ones.
    pub async fn with_own_keys() -> Self {
        Self::with(Arc::new(Keys::generate(1))).await
    }

    async fn with(keys: Arc<Keys>) -> Self {
        let state = Arc::new(State {
            behaviour: Mutex::new(Behaviour::Well),
            keys: Mutex::new(vec![keys]),
            jwks_requests: AtomicUsize::new(0),
            metadata_requests: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        let url = Arc::new(OnceLock::<String>::new());
        let own = Arc::clone(&url);
        let server = Upstream::start(move |request| shared.answer(request, own.get().unwrap())).await;
        let url = url.get_or_init(|| server.url()).clone();
        Self { server, url, state }
    }

    /// Its `iss`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn server_address(&self) -> std::net::SocketAddr {
        self.server.address()
    }

    /// Where its keys are.
    pub fn jwks_uri(&self) -> String {
        format!("{}/jwks", self.url)
    }

    /// Its key set.
    pub fn jwks(&self) -> String {
        self.state.jwks()
    }

    /// How often its keys were fetched.
    pub fn jwks_requests(&self) -> usize {
        self.state.jwks_requests.load(Ordering::SeqCst)
    }

    /// How often its metadata was fetched.
    pub fn metadata_requests(&self) -> usize {
        self.state.metadata_requests.load(Ordering::SeqCst)
    }

    /// Changes what it does from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock().unwrap() = behaviour;
    }

    /// Adds a generation of keys, which signs from now on; the old ones stay published.
    pub fn add_keys(&self) {
        let mut keys = self.state.keys.lock().unwrap();
        let next = keys.last().map_or(1, |last| last.generation + 1);
        keys.push(Arc::new(Keys::generate(next)));
    }

    /// Takes back all keys but the newest.
    pub fn withdraw_old_keys(&self) {
        let mut keys = self.state.keys.lock().unwrap();
        let old = keys.len() - 1;
        keys.drain(..old);
    }

    /// Replaces all keys.
    pub fn rotate(&self) {
        self.add_keys();
        self.withdraw_old_keys();
    }

    /// Replaces all keys by others with the same `kid`s.
    pub fn replace_keys(&self) {
        for keys in self.state.keys.lock().unwrap().iter_mut() {
            *keys = Arc::new(Keys::generate(keys.generation));
        }
    }

    /// A token in the making: an RFC 9068 access token for [`AUDIENCE`] with the scope `orders:read`, for ten minutes.
    pub fn token(&self) -> TokenBuilder {
        static COUNTER: AtomicU64 = AtomicU64::new(1);
        let now = now();
        let claims = json!({
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "alice",
            "client_id": "mobile-app",
            "scope": "orders:read",
            "iat": now,
            "exp": now + 600,
            "jti": format!("test-{}", COUNTER.fetch_add(1, Ordering::Relaxed)),
        });
        let Value::Object(claims) = claims else { unreachable!() };
        let keys = Arc::clone(self.state.keys.lock().unwrap().last().unwrap());
        TokenBuilder { keys, alg: Alg::Es256, header: Map::new(), without_header: Vec::new(), claims }
    }
}

impl State {
    fn jwks(&self) -> String {
        let keys: Vec<Value> = self.keys.lock().unwrap().iter().flat_map(|keys| keys.jwks()).collect();
        json!({ "keys": keys }).to_string()
    }

    fn answer(&self, request: &Recorded, issuer: &str) -> Reply {
        let behaviour = self.behaviour.lock().unwrap().clone();
        let is_jwks = request.target == "/jwks";
        let is_metadata = request.target.starts_with("/.well-known/");
        self.jwks_requests.fetch_add(usize::from(is_jwks), Ordering::SeqCst);
        self.metadata_requests.fetch_add(usize::from(is_metadata), Ordering::SeqCst);
        let json = |body: &str| Reply::with(200, "Content-Type: application/json\r\n", body);
        let metadata = |issuer: &str, own: &str| {
            json!({"issuer": issuer, "jwks_uri": format!("{own}/jwks")}).to_string()
        };
        let well = || match (is_jwks, is_metadata) {
            (true, _) => json(&self.jwks()),
            (_, true) => json(&metadata(issuer, issuer)),
            _ => Reply::with(404, "", ""),
        };
        match behaviour {
            Behaviour::Well => well(),
            Behaviour::Down => Reply::CloseEarly,
            Behaviour::Failing => Reply::with(500, "", "out of order"),
            Behaviour::Empty if is_jwks => json(r#"{"keys":[]}"#),
            Behaviour::Jwks(bytes) if is_jwks => json(&bytes),
            Behaviour::OtherIssuer(other) if is_metadata => json(&metadata(&other, issuer)),
            Behaviour::Empty | Behaviour::Jwks(_) | Behaviour::OtherIssuer(_) => well(),
            Behaviour::Slow(sign) => Reply::When(sign, Box::new(well())),
        }
    }
}

/// A token in the making.
#[derive(Clone)]
pub struct TokenBuilder {
    keys: Arc<Keys>,
    alg: Alg,
    header: Map<String, Value>,
    without_header: Vec<String>,
    claims: Map<String, Value>,
}

impl TokenBuilder {
    /// Signed with this algorithm.
    pub fn alg(mut self, alg: Alg) -> Self {
        self.alg = alg;
        self
    }

    /// With this claim, in place of the one it has.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Without this claim.
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// With these scopes, separated by spaces.
    pub fn scope(self, scopes: &str) -> Self {
        self.claim("scope", scopes)
    }

    /// Issued and expiring at these offsets from now, in seconds.
    pub fn times(self, issued: i64, expires: i64) -> Self {
        let now = now();
        self.claim("iat", now + issued).claim("exp", now + expires)
    }

    /// With this member in the JOSE header, in place of the one it has.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Without this member of the JOSE header.
    pub fn without_header(mut self, name: &str) -> Self {
        self.without_header.push(name.to_owned());
        self
    }

    /// The signed token.
    pub fn mint(&self) -> String {
        let message = self.message();
        let signature = self.keys.sign(self.alg, message.as_bytes());
        format!("{message}.{}", b64(&signature))
    }

    /// The token with this in place of its signature.
    pub fn mint_with_signature(&self, signature: &[u8]) -> String {
        format!("{}.{}", self.message(), b64(signature))
    }

    /// Exactly these bytes as header and payload, signed.
    pub fn mint_bytes(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        self.mint_text(&b64(header.as_ref()), &b64(payload.as_ref()))
    }

    /// Exactly this text as the encoded header and payload, signed.
    pub fn mint_text(&self, header: &str, payload: &str) -> String {
        let message = format!("{header}.{payload}");
        format!("{message}.{}", b64(&self.keys.sign(self.alg, message.as_bytes())))
    }

    /// The claims as they stand.
    pub fn claims(&self) -> Value {
        Value::Object(self.claims.clone())
    }

    fn message(&self) -> String {
        let part = |value: &Value| b64(value.to_string().as_bytes());
        format!("{}.{}", part(&self.header_value()), part(&self.claims()))
    }

    /// The JOSE header as it stands.
    pub fn header_value(&self) -> Value {
        let mut header = HashMap::from([
            ("alg".to_owned(), json!(self.alg.name())),
            ("typ".to_owned(), json!("at+jwt")),
            ("kid".to_owned(), json!(self.keys.kid(self.alg))),
        ]);
        header.extend(self.header.clone());
        header.retain(|name, _| !self.without_header.contains(name));
        json!(header)
    }
}

/// Unpadded base64url.
pub fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
