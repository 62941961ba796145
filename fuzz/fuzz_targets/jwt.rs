//! Forged tokens: none is ever permitted.
//!
//! The input is a token in the making: a line with the header, one with the payload, and one that says how it is signed:
//! `@3` with the signature of the third genuine token, `own` by a key of the forger's, `hmac` with the issuer's public
//! key as the secret, anything else is the text of the signature. An input without a line break is a token as it is.
//! `@3` in place of a header or payload is that of the third genuine token.
//!
//! 1. What is permitted is what the issuer signed, on a route that its scopes and audience open, and not before or after
//!    its time.
//! 2. Claims that are read are within their bounds, whatever they say.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};
use libfuzzer_sys::fuzz_target;
use scopegate::admit::Head;
use scopegate::authenticate::json::Object;
use scopegate::authenticate::{KeyThumbprint, claims};
use scopegate::decide::{Verdict, decide};
use scopegate::types::{IssuerIndex, Timestamp};
use scopegate_fuzz::world::{HOST, KEYS, KNOWN, NOW, SNAPSHOT, TOKENS};

/// The genuine tokens; the last is for another audience.
static GENUINE: LazyLock<Vec<[&str; 3]>> = LazyLock::new(|| {
    let parts = |token: &'static str| token.split('.').collect::<Vec<_>>().try_into().expect("three parts");
    TOKENS.lines().map(parts).collect()
});

/// A key that no issuer published.
static OWN: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed is 32 octets"));

fuzz_target!(|data: &[u8]| {
    let Some(token) = token(data) else { return };
    for (path, open) in [("/api/x", true), ("/api/admin/x", false)] {
        let permitted = permits(&token, path, NOW);
        if permitted {
            assert!(open, "no token was ever given this scope");
            assert!(is_genuine(&token), "forged: {token}");
            let late = NOW.0 + 3_600;
            assert!(!permits(&token, path, Timestamp(late)), "the token has expired");
            assert!(!permits(&token, path, Timestamp(NOW.0 - 3_600)), "the token is from the future");
        }
    }
    if let Some(payload) = data.split(|byte| *byte == b'\n').nth(1) {
        read(payload);
    }
});

/// The token that the input describes.
fn token(data: &[u8]) -> Option<String> {
    let lines: Vec<&[u8]> = data.splitn(3, |byte| *byte == b'\n').collect();
    let [header, payload, signature] = lines.as_slice() else {
        return String::from_utf8(data.to_vec()).ok();
    };
    let part = |text: &[u8], position: usize| match genuine(text) {
        Some(token) => token[position].to_owned(),
        None => URL_SAFE_NO_PAD.encode(text),
    };
    let signed = format!("{}.{}", part(header, 0), part(payload, 1));
    let signature = match (genuine(signature), *signature) {
        (Some(token), _) => token[2].to_owned(),
        (None, b"own") => URL_SAFE_NO_PAD.encode(OWN.sign(signed.as_bytes())),
        (None, b"hmac") => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, KEYS.as_bytes());
            URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()))
        }
        (None, text) => String::from_utf8(text.to_vec()).ok()?,
    };
    Some(format!("{signed}.{signature}"))
}

fn genuine(text: &[u8]) -> Option<&'static [&'static str; 3]> {
    match text {
        [b'@', digit @ b'1'..=b'9'] => GENUINE.get(usize::from(digit - b'1')),
        _ => None,
    }
}

/// Whether the issuer signed this. An ECDSA signature has two spellings, so the signature is not compared.
fn is_genuine(token: &str) -> bool {
    let own = GENUINE.iter().take(GENUINE.len() - 1);
    own.map(|[header, payload, _]| format!("{header}.{payload}.")).any(|signed| token.starts_with(&signed))
}

fn permits(token: &str, path: &'static str, now: Timestamp) -> bool {
    let Ok(credential) = HeaderValue::from_str(&format!("Bearer {token}")) else { return false };
    let headers = HeaderMap::from_iter([
        (header::HOST, HeaderValue::from_static(HOST)),
        (header::AUTHORIZATION, credential),
    ]);
    let uri = Uri::from_static(path);
    let head = Head { method: &Method::GET, uri: &uri, version: Version::HTTP_11, headers: &headers };
    matches!(decide(&SNAPSHOT, &head, &*KNOWN, now).verdict, Verdict::Permit(..))
}

/// Reads claims as if their signature had been good.
fn read(payload: &[u8]) {
    let Ok(object) = Object::parse(payload) else { return };
    let policy = SNAPSHOT.issuers.get(IssuerIndex(0)).expect("the policy has an issuer");
    let Ok(facts) = claims::read(object, policy, 1, KeyThumbprint([0; 32])) else { return };
    assert!(facts.scopes.iter().all(|scope| !scope.is_empty() && !scope.contains(' ')));
    assert!(!facts.audience.is_empty());
    assert!(facts.weight() > 0);
    if claims::check_times(&facts, policy, NOW).is_ok() {
        let leeway = i64::try_from(policy.leeway.as_secs()).expect("a leeway is short");
        assert!(facts.expires.0 > NOW.0 - leeway, "expired");
        assert!(facts.not_before.is_none_or(|from| from.0 <= NOW.0 + leeway), "not yet valid");
        let longest = policy.max_lifetime + Duration::from_secs(2 * policy.leeway.as_secs());
        let latest = NOW.0.saturating_add(i64::try_from(longest.as_secs()).expect("a lifetime is short"));
        assert!(facts.expires.0 <= latest, "it lives longer than the issuer's tokens may");
    }
}
