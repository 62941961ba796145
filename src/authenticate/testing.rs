//! Keys, tokens and policies for the tests of this crate.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self as crypto, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use smallvec::smallvec;

use super::keys::KeySet;
use super::{
    Algorithm, AlgorithmSet, ClaimMap, ClaimPath, IssuerPolicy, KeyRefresh, KeySource, KeyThumbprint,
    Knowledge, TokenFacts, TokenTypes,
};
use crate::types::{Issuer, IssuerIndex, IssuerName, Timestamp};

pub(crate) const ISSUER: &str = "https://idp.example.com/";
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);

/// A private key that signs by any algorithm of its type.
pub(crate) enum TestKey {
    Rsa(crypto::RsaKeyPair),
    Ec(crypto::EcdsaKeyPair, &'static str),
    Ed(crypto::Ed25519KeyPair),
}

fn rsa() -> TestKey {
    TestKey::Rsa(crypto::RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap())
}

/// Making an RSA key takes long: the tests share two.
pub(crate) static RSA: LazyLock<TestKey> = LazyLock::new(rsa);
pub(crate) static OTHER_RSA: LazyLock<TestKey> = LazyLock::new(rsa);
pub(crate) static P256: LazyLock<TestKey> = LazyLock::new(TestKey::p256);
pub(crate) static P384: LazyLock<TestKey> = LazyLock::new(|| {
    TestKey::Ec(crypto::EcdsaKeyPair::generate(&crypto::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(), "P-384")
});
pub(crate) static P521: LazyLock<TestKey> = LazyLock::new(|| {
    TestKey::Ec(crypto::EcdsaKeyPair::generate(&crypto::ECDSA_P521_SHA512_FIXED_SIGNING).unwrap(), "P-521")
});
pub(crate) static ED25519: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::Ed(crypto::Ed25519KeyPair::generate().unwrap()));

impl TestKey {
    pub(crate) fn p256() -> Self {
        Self::Ec(crypto::EcdsaKeyPair::generate(&crypto::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), "P-256")
    }

    /// The shared key that signs by this algorithm.
    pub(crate) fn for_algorithm(algorithm: Algorithm) -> &'static Self {
        match super::keys::key_type(algorithm) {
            "RSA" => &RSA,
            "OKP" => &ED25519,
            _ if algorithm == Algorithm::Es384 => &P384,
            _ if algorithm == Algorithm::Es512 => &P521,
            _ => &P256,
        }
    }

    /// The public JWK, without `alg`.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                let (n, e) = rsa_numbers(pair.public_key().as_ref());
                json!({"kty": "RSA", "kid": kid, "n": encode(n), "e": encode(e)})
            }
            Self::Ec(pair, crv) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": crv, "kid": kid, "x": encode(x), "y": encode(y)})
            }
            Self::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode(pair.public_key())})
            }
        }
    }

    /// The signature of `message` by the algorithm, which must fit the key.
    pub(crate) fn sign_bytes(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let scheme: &'static dyn crypto::RsaEncoding = match algorithm {
                    Algorithm::Rs256 => &crypto::RSA_PKCS1_SHA256,
                    Algorithm::Rs384 => &crypto::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &crypto::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &crypto::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &crypto::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &crypto::RSA_PSS_SHA512,
                    other => panic!("{other:?} is not for RSA"),
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(scheme, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ec(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token of these parts, whatever they say of themselves.
    pub(crate) fn sign(&self, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        self.sign_text(algorithm, header.to_string(), claims.to_string())
    }

    /// A token of these texts, JSON or not.
    pub(crate) fn sign_text(
        &self,
        algorithm: Algorithm,
        header: impl AsRef<[u8]>,
        claims: impl AsRef<[u8]>,
    ) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.sign_bytes(algorithm, signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }
}

/// The two integers of an RSAPublicKey in DER.
fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    fn element(der: &[u8]) -> (&[u8], &[u8]) {
        let (length, start) = match der[1] {
            short @ 0..=0x7f => (usize::from(short), 2),
            long => {
                let count = usize::from(long & 0x7f);
                let length = der[2..2 + count].iter().fold(0, |n, b| n << 8 | usize::from(*b));
                (length, 2 + count)
            }
        };
        der[start..].split_at(length)
    }
    fn unsigned(integer: &[u8]) -> &[u8] {
        &integer[usize::from(integer[0] == 0)..]
    }
    let (sequence, _) = element(der);
    let (n, rest) = element(sequence);
    let (e, _) = element(rest);
    (unsigned(n), unsigned(e))
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn all_algorithms() -> AlgorithmSet {
    Algorithm::ALL.into_iter().collect()
}

/// A JWK Set.
pub(crate) fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

/// The header of an access token.
pub(crate) fn header(algorithm: Algorithm, kid: &str) -> Value {
    json!({"typ": "at+jwt", "alg": algorithm.as_str(), "kid": kid})
}

/// The claims of a good access token (RFC 9068 §2.2).
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "alice", "aud": "https://api.example.com", "client_id": "app",
        "iat": NOW.0 - 10, "exp": NOW.0 + 300, "jti": "id-1", "scope": "orders:read orders:write"
    })
}

/// Claims with some replaced, and those that are null removed.
pub(crate) fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

pub(crate) fn paths(texts: &[&str]) -> Vec<ClaimPath> {
    texts.iter().map(|text| ClaimPath::parse(text).unwrap()).collect()
}

/// A strict issuer that allows every algorithm.
pub(crate) fn policy() -> IssuerPolicy {
    IssuerPolicy {
        token_header: None,
        name: IssuerName::new("corp"),
        issuer: Issuer::new(ISSUER),
        keys: KeySource::Discovery,
        algorithms: all_algorithms(),
        token_types: TokenTypes {
            accept: vec!["at+jwt".into()],
            accept_absent: false,
            required_claims: paths(&["sub", "client_id", "iat", "jti"]),
        },
        max_lifetime: Duration::from_secs(3_600),
        leeway: Duration::from_secs(10),
        tenants: super::TenantAssertion::Any,
        template: None,
        claims: ClaimMap {
            scope: paths(&["scope", "scp"]),
            client: paths(&["client_id", "azp"]),
            audience: vec![ClaimPath::parse("aud").unwrap()],
            tenant: Some(ClaimPath::parse("tenant_id").unwrap()),
            roles: None,
        },
        refresh: KeyRefresh {
            interval: Duration::from_secs(300),
            unknown_kid_cooldown: Duration::from_secs(30),
            max_stale: Duration::from_secs(86_400),
        },
        plain_http: false,
        key_token: None,
        ca: None,
        advertised_scopes: super::AdvertisedScopes::default(),
    }
}

/// Facts of some token.
pub(crate) fn facts(subject: &str, expires: Timestamp) -> TokenFacts {
    TokenFacts {
        epoch: 1,
        key: KeyThumbprint([0; 32]),
        issuer: Issuer::new(ISSUER),
        subject: Some(subject.into()),
        client: None,
        tenants: smallvec![],
        actor: None,
        token_id: None,
        audience: smallvec!["https://api.example.com".into()],
        scopes: smallvec!["orders:read".into()],
        expires,
        not_before: None,
        issued: None,
        claims: super::json::Object::default(),
    }
}

/// Knows keys and remembers no token.
#[derive(Default)]
pub(crate) struct Keys(pub(crate) HashMap<IssuerIndex, Arc<KeySet>>);

impl Keys {
    /// The first issuer's keys.
    pub(crate) fn of(keys: &[Value]) -> Self {
        let (set, _) = KeySet::from_jwks(&jwks(keys), all_algorithms()).unwrap();
        Self([(IssuerIndex(0), Arc::new(set))].into())
    }
}

impl Knowledge for Keys {
    fn facts(&self, _: &str) -> Option<Arc<TokenFacts>> {
        None
    }

    fn keys(&self, issuer: IssuerIndex) -> Option<Arc<KeySet>> {
        self.0.get(&issuer).cloned()
    }

    fn epoch(&self, _: IssuerIndex) -> u64 {
        7
    }
}
