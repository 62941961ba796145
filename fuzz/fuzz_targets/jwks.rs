//! Any key set. The first octet chooses the algorithms that the issuer may use; what follows is the set.
//!
//! 1. It is refused, or it has usable keys, which are found again under their thumbprint. Reading it twice gives the same.
//! 2. Each key that is found for an algorithm is, to a foreign reader of JSON, in the document: a public key for signatures
//!    whose `kty`, `crv` and `alg` fit that algorithm, under its `kid` and its thumbprint (RFC 7638). The algorithm is allowed.
//! 3. It verifies a genuine token only if it is the key that signed it, and for the token's own algorithm.
#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use scopegate::authenticate::keys::{KeySet, MAX_KEYS, VerificationKey};
use scopegate::authenticate::{Algorithm, AlgorithmSet};
use scopegate_fuzz::world::{KEYS, TOKENS};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Some((bits, document)) = data.split_first() else { return };
    // Spread over eleven algorithms; `*` (0x2a) and most letters allow several.
    let allowed = |i: usize| if i < 8 { bits >> i & 1 == 1 } else { bits >> (i - 8) & 1 == 0 };
    let all = Algorithm::ALL.into_iter().enumerate();
    let allowed: AlgorithmSet = all.filter(|(i, _)| allowed(*i)).map(|(_, algorithm)| algorithm).collect();
    let Ok((keys, warnings)) = KeySet::from_jwks(document, allowed) else { return };
    assert!(!keys.is_empty());
    assert!(keys.len() + warnings.len() <= MAX_KEYS);

    let document_read: Value = serde_json::from_slice(document).expect("a key set is JSON");
    let items = document_read["keys"].as_array().expect("a key set has keys");
    let mut found = 0;
    for algorithm in Algorithm::ALL {
        for key in keys.find(None, algorithm) {
            assert!(allowed.contains(algorithm), "{algorithm:?} is not allowed");
            assert!(items.iter().any(|item| is_key(item, key, algorithm)), "{key:?} is for {algorithm:?}");
            assert!(keys.contains(&key.thumbprint()));
            check_tokens(key, algorithm);
            found += 1;
        }
    }
    assert!(found > 0, "keys that are found for no algorithm");
    let (again, _) = KeySet::from_jwks(document, allowed).expect("it was accepted before");
    assert!(keys == again, "read twice, it is two sets");
});

/// Whether a member of the document is this key, and fits the algorithm (RFC 7517 §4, RFC 7518 §3.1 and §6, RFC 8037 §2).
fn is_key(item: &Value, key: &VerificationKey, algorithm: Algorithm) -> bool {
    let alg = algorithm.as_str();
    let (kty, crv) = match alg {
        "ES256" => ("EC", Some("P-256")),
        "ES384" => ("EC", Some("P-384")),
        "ES512" => ("EC", Some("P-521")),
        "EdDSA" | "Ed25519" => ("OKP", Some("Ed25519")),
        _ => ("RSA", None),
    };
    let named = |name: &Value| name.as_str().is_some_and(|name| is_same(name, alg));
    // `null` is as good as absent.
    let member = |name: &str| item.get(name).filter(|value| !value.is_null());
    let private = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
    item["kty"] == kty
        && (kty == "RSA" || item["crv"].as_str() == crv)
        && member("alg").is_none_or(named)
        && member("use").is_none_or(|purpose| purpose == "sig")
        && item.get("kid").and_then(Value::as_str) == key.kid()
        && private.iter().all(|name| member(name).is_none())
        && thumbprint(item).as_deref() == Some(key.thumbprint().0.as_slice())
}

/// Whether two names mean one algorithm: Ed25519 has two (RFC 9864 §2.2).
fn is_same(one: &str, other: &str) -> bool {
    let ed25519 = |name| matches!(name, "EdDSA" | "Ed25519");
    one == other || (ed25519(one) && ed25519(other))
}

/// The SHA-256 thumbprint (RFC 7638 §3).
fn thumbprint(item: &Value) -> Option<Vec<u8>> {
    let names: &[&str] = match item["kty"].as_str()? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        _ => &["crv", "kty", "x"],
    };
    let members: Option<Vec<String>> =
        names.iter().map(|name| Some(format!("{name:?}:{:?}", item[name].as_str()?))).collect();
    let text = format!("{{{}}}", members?.join(","));
    Some(digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec())
}

/// A genuine token: what is signed, its signature, its algorithm, and the thumbprint of the key that signed it.
type Token = (Vec<u8>, Vec<u8>, String, Vec<u8>);

static GENUINE: LazyLock<Vec<Token>> = LazyLock::new(|| {
    let keys: Value = serde_json::from_str(KEYS).expect("the keys are JSON");
    let keys = keys["keys"].as_array().expect("there are keys");
    let token = |token: &str| {
        let (message, signature) = token.rsplit_once('.').expect("a token has a signature");
        let (header, _) = message.split_once('.').expect("a token has a header");
        let decode = |text| URL_SAFE_NO_PAD.decode(text).expect("a token is base64url");
        let header: Value = serde_json::from_slice(&decode(header)).expect("a header is JSON");
        let signer = keys.iter().find(|key| key["kid"] == header["kid"]).expect("its key is there");
        let alg = header["alg"].as_str().expect("its algorithm is there").to_owned();
        let signer = thumbprint(signer).expect("a key has a thumbprint");
        (message.as_bytes().to_vec(), decode(signature), alg, signer)
    };
    // One for each key and algorithm.
    let mut tokens: Vec<Token> = TOKENS.lines().map(token).collect();
    tokens.dedup_by(|one, next| (&one.2, &one.3) == (&next.2, &next.3));
    tokens
});

/// Verifying costs much, so it is asked only of keys that signed one of the tokens, which alone could verify too much.
fn check_tokens(key: &VerificationKey, algorithm: Algorithm) {
    let own = key.thumbprint().0;
    for (message, signature, alg, signer) in GENUINE.iter().filter(|(.., signer)| *signer == own) {
        let right = is_same(algorithm.as_str(), alg);
        assert_eq!(key.verifies(message, signature), right, "{key:?} and a token in {alg} of {signer:x?}");
        let mut forged = message.clone();
        forged.push(b'x');
        assert!(!key.verifies(&forged, signature), "{key:?} verifies what nobody signed");
    }
}
