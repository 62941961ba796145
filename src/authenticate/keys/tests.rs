use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::authenticate::testing::{
    ED25519, OTHER_RSA, P256, P384, RSA, TestKey, all_algorithms, encode, jwks,
};

fn parse(keys: &[Value]) -> Result<(KeySet, Vec<KeyWarning>), JwksError> {
    KeySet::from_jwks(&jwks(keys), all_algorithms())
}

fn with(mut jwk: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(jwk.as_object_mut().unwrap().remove(name)),
            value => jwk[name] = value.clone(),
        }
    }
    jwk
}

/// An RSA key of this many bits, not the product of two primes but odd.
fn rsa_of_bits(bits: usize) -> String {
    let mut n = vec![0xff; bits.div_ceil(8)];
    n[0] >>= (8 - bits % 8) % 8;
    encode(n)
}

#[test]
fn usable_keys_are_found_by_kid_and_algorithm() {
    let (set, warnings) = parse(&[
        with(RSA.jwk("a"), json!({"alg": "RS256", "use": "sig"})),
        with(P256.jwk("a"), json!({"key_ops": ["verify"]})),
        P384.jwk("c"),
        with(ED25519.jwk("d"), json!({"kid": null})),
        OTHER_RSA.jwk("e"),
    ])
    .unwrap();
    assert_eq!((set.len(), warnings), (5, vec![]));
    let count = |kid, algorithm| set.find(kid, algorithm).count();
    assert_eq!(count(Some("a"), Algorithm::Rs256), 1);
    assert_eq!(count(Some("a"), Algorithm::Es256), 1, "the same kid, another kty");
    assert_eq!(count(Some("a"), Algorithm::Ps256), 0, "the key's alg is RS256");
    assert_eq!(count(Some("e"), Algorithm::Ps256), 1, "a key without alg serves what fits");
    assert_eq!(count(Some("e"), Algorithm::Es256), 0);
    assert_eq!(count(Some("d"), Algorithm::EdDsa), 1, "where no key has the kid, one without is tried");
    assert_eq!(count(Some("a"), Algorithm::EdDsa), 0, "a key without kid is not tried beside one with it");
    assert_eq!(count(None, Algorithm::EdDsa), 1);
    assert_eq!(count(None, Algorithm::Rs256), 2);
    assert!(set.has_kid("c") && !set.has_kid("d"));
    for key in set.iter() {
        assert!(set.contains(&key.thumbprint()));
    }
    assert!(!set.contains(&KeyThumbprint([0; 32])));
}

#[test]
fn the_thumbprint_is_that_of_the_rfc() {
    // RFC 7638 §3.1.
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjh\
             MstnRctBhzyfE0-9JXktKZPYT9o3mYhtr0-n4eZ7Jm1Kn8Yt4-CdrD5wMh7lF8vF9JQhRzR-L-J2VA_Hj_3WVpbp9ZTrYGcwj0KYVMJ2RVDQWBGSYjX\
             2XnlqCrSLDR7QIFQNmTjA7YGUJzZ0dpQz5gDW-ZlGLAfnZ0gFKOyBmdkvgGAm4hHXvTgdKoOELCQvyENHMsOlxJqK-vJcUzDA-cfzvUXQUYGGo5V7w".replace(' ', "");
    let text = json!({"keys": [{"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}]})
        .to_string();
    if let Ok((set, _)) = KeySet::from_jwks(text.as_bytes(), all_algorithms()) {
        let key = set.iter().next().unwrap();
        let pre = format!(r#"{{"e":"AQAB","kty":"RSA","n":"{n}"}}"#);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, pre.as_bytes());
        assert_eq!(key.thumbprint().0, digest.as_ref());
    } else {
        panic!("the key of the RFC is usable");
    }
}

#[test]
fn unusable_keys_are_left_out_with_a_reason() {
    let point = P256.jwk("x");
    let mut off = URL_SAFE_NO_PAD.decode(point["y"].as_str().unwrap()).unwrap();
    off[31] ^= 1;
    let rows = [
        (json!("x"), "not an object"),
        (json!({}), "no kty"),
        (with(RSA.jwk("x"), json!({"kid": 7})), "kid number"),
        (with(RSA.jwk("x"), json!({"kid": ""})), "kid empty"),
        (with(RSA.jwk("x"), json!({"kid": "k".repeat(257)})), "kid too long"),
        (with(RSA.jwk("x"), json!({"use": "enc"})), "for encryption"),
        (with(RSA.jwk("x"), json!({"use": ["sig"]})), "use array"),
        (with(RSA.jwk("x"), json!({"key_ops": ["encrypt"]})), "key_ops without verify"),
        (with(RSA.jwk("x"), json!({"key_ops": "verify"})), "key_ops string"),
        (with(RSA.jwk("x"), json!({"alg": "ES256"})), "alg of another kty"),
        (with(RSA.jwk("x"), json!({"alg": "HS256"})), "a symmetric alg"),
        (with(RSA.jwk("x"), json!({"alg": "RSA-OAEP"})), "an encryption alg"),
        (with(RSA.jwk("x"), json!({"alg": "none"})), "none"),
        (with(RSA.jwk("x"), json!({"alg": 1})), "alg number"),
        (with(P256.jwk("x"), json!({"alg": "ES384"})), "alg of another curve"),
        (with(P256.jwk("x"), json!({"alg": "EdDSA"})), "EdDSA on P-256"),
        (with(RSA.jwk("x"), json!({"d": "AQAB"})), "a private exponent"),
        (with(P256.jwk("x"), json!({"d": "AQAB"})), "a private scalar"),
        (json!({"kty": "oct", "kid": "x", "k": "c2VjcmV0"}), "symmetric"),
        (json!({"kty": "oct", "kid": "x"}), "symmetric without its key"),
        (with(RSA.jwk("x"), json!({"n": rsa_of_bits(1024)})), "RSA 1024"),
        (with(RSA.jwk("x"), json!({"n": rsa_of_bits(2047)})), "RSA 2047"),
        (with(RSA.jwk("x"), json!({"n": rsa_of_bits(8193)})), "RSA 8193"),
        (with(RSA.jwk("x"), json!({"n": rsa_of_bits(16384)})), "RSA 16384"),
        (with(RSA.jwk("x"), json!({"n": ""})), "no modulus"),
        (with(RSA.jwk("x"), json!({"n": encode([0; 256])})), "modulus zero"),
        (with(RSA.jwk("x"), json!({"n": encode([0xfe; 256])})), "modulus even"),
        (with(RSA.jwk("x"), json!({"e": "AQ"})), "exponent 1"),
        (with(RSA.jwk("x"), json!({"e": "Aw"})), "exponent 3"),
        (with(RSA.jwk("x"), json!({"e": "AQAA"})), "exponent even"),
        (with(RSA.jwk("x"), json!({"e": ""})), "no exponent"),
        (with(RSA.jwk("x"), json!({"e": encode([0xff; 9])})), "exponent too large"),
        (with(RSA.jwk("x"), json!({"e": "AQAB="})), "padding"),
        (with(RSA.jwk("x"), json!({"e": null})), "e missing"),
        (with(RSA.jwk("x"), json!({"n": 5})), "n number"),
        (with(P256.jwk("x"), json!({"y": encode(&off)})), "off the curve"),
        (with(P256.jwk("x"), json!({"x": encode([0; 32]), "y": encode([0; 32])})), "the point 0,0"),
        (with(P256.jwk("x"), json!({"x": encode([1; 31])})), "a short coordinate"),
        (with(P256.jwk("x"), json!({"crv": "P-384"})), "the wrong curve"),
        (with(P256.jwk("x"), json!({"crv": "secp256k1"})), "a curve not supported"),
        (with(P256.jwk("x"), json!({"crv": "P-521"})), "P-521"),
        (with(ED25519.jwk("x"), json!({"crv": "X25519"})), "a key for agreement"),
        (with(ED25519.jwk("x"), json!({"crv": "Ed448"})), "Ed448"),
        (with(ED25519.jwk("x"), json!({"x": encode([1; 31])})), "a short x"),
        (with(RSA.jwk("x"), json!({"kty": "rsa"})), "kty in lower case"),
    ];
    for (jwk, why) in rows {
        let (set, warnings) = parse(&[P384.jwk("good"), jwk.clone()]).unwrap();
        assert_eq!(set.len(), 1, "{why}");
        assert_eq!(warnings.len(), 1, "{why}");
        assert_eq!(warnings[0].position, 1, "{why}");
        assert!(matches!(parse(&[jwk]), Err(JwksError::NoUsableKey(_))), "{why}, alone");
    }
    let (_, warnings) = parse(&[P384.jwk("good"), with(RSA.jwk("weak"), json!({"e": "Aw"}))]).unwrap();
    assert_eq!(warnings[0].to_string(), r#"key "weak": its exponent is not an odd number from 65537"#);
}

#[test]
fn keys_with_one_kid_are_all_tried_within_a_bound() {
    let (set, warnings) = parse(&[RSA.jwk("a"), OTHER_RSA.jwk("a"), P256.jwk("a")]).unwrap();
    assert_eq!((set.len(), warnings), (3, vec![]));
    assert_eq!(set.find(Some("a"), Algorithm::Rs256).count(), 2);
    let many: Vec<Value> = (0..20).map(|_| TestKey::p256().jwk("a")).collect();
    let (set, warnings) = parse(&many).unwrap();
    assert_eq!((set.find(Some("a"), Algorithm::Es256).count(), warnings.len()), (8, 12));
}

#[test]
fn null_members_of_a_key_count_as_absent() {
    let nulls =
        json!({"d": null, "p": null, "k": null, "alg": null, "use": null, "key_ops": null, "x5c": null});
    let (set, warnings) = parse(&[with(RSA.jwk("a"), nulls)]).unwrap();
    assert_eq!((set.len(), warnings), (1, vec![]));
    assert!(parse(&[with(RSA.jwk("a"), json!({"d": "AQAB"}))]).is_err());
}

#[test]
fn the_issuers_list_decides_which_algorithms_a_key_serves() {
    let only: AlgorithmSet = [Algorithm::Ps256].into_iter().collect();
    let (set, warnings) = KeySet::from_jwks(&jwks(&[RSA.jwk("a"), P256.jwk("b")]), only).unwrap();
    let served: Vec<_> = set.iter().map(VerificationKey::algorithm).collect();
    assert_eq!(served, [Algorithm::Ps256]);
    assert_eq!(warnings[0].kid.as_deref(), Some("b"));
    assert!(KeySet::from_jwks(&jwks(&[RSA.jwk("a")]), AlgorithmSet::default()).is_err(), "an empty list");
}

#[test]
fn a_set_that_is_no_set_is_an_error() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":null}"#,
        "<html></html>",
        r#"{"keys":[]}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":["#,
    ] {
        assert!(KeySet::from_jwks(text.as_bytes(), all_algorithms()).is_err(), "{text}");
    }
    let key = P256.jwk("a");
    assert!(parse(&vec![key.clone(); 100]).is_ok());
    assert!(matches!(parse(&vec![key.clone(); 101]), Err(JwksError::TooManyKeys)));
    let mut large = jwks(&[key]);
    large.resize(MAX_JWKS_BYTES + 1, b' ');
    assert!(matches!(KeySet::from_jwks(&large, all_algorithms()), Err(JwksError::TooLarge)));
    large.truncate(MAX_JWKS_BYTES);
    assert!(KeySet::from_jwks(&large, all_algorithms()).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_are_a_set_or_an_error(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = KeySet::from_jwks(&text, all_algorithms());
    }

    #[test]
    fn any_members_are_a_key_or_a_warning(
        kty in "RSA|EC|OKP|oct|x", crv in "P-256|P-384|Ed25519|x",
        x in proptest::collection::vec(any::<u8>(), 0..70), n in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let jwk = json!({"kty": kty, "crv": crv, "x": encode(&x), "y": encode(&x), "n": encode(&n), "e": "AQAB"});
        match parse(&[jwk]) {
            Ok((set, warnings)) => prop_assert!(set.len() == 1 && warnings.is_empty()),
            Err(JwksError::NoUsableKey(warnings)) => prop_assert_eq!(warnings.len(), 1),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
