use http::{HeaderMap, HeaderValue, header as field};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::authenticate::credential::TokenPlace;
use crate::authenticate::testing::{
    ED25519, ISSUER, Keys, NOW, OTHER_RSA, P256, RSA, TestKey, claims, claims_with, encode, header, policy,
};
use crate::authenticate::{Presented, Principal, authenticate};
use crate::types::{Issuer, IssuerName};

const ES: Algorithm = Algorithm::Es256;

fn issuers() -> Issuers {
    Issuers::new(vec![policy()])
}

/// Knows a P-256 key `ec` and an RSA key `rsa` (RS256 only).
fn known() -> Keys {
    let mut rsa = RSA.jwk("rsa");
    rsa["alg"] = json!("RS256");
    Keys::of(&[P256.jwk("ec"), rsa])
}

fn run(token: &str, issuers: &Issuers, keys: &Keys) -> Result<(IssuerIndex, TokenFacts), Stop> {
    verify(bearer(token), issuers, keys, NOW, &mut Checks::default())
}

fn bearer(token: &str) -> Credential<'_> {
    Credential { token, place: TokenPlace::Authorization }
}

fn reason(token: &str) -> Option<Reason> {
    match run(token, &issuers(), &known()) {
        Ok(_) => None,
        Err(Stop::Reject(reject)) => Some(reject.reason),
        // Keys may have been replaced under the same `kid`.
        Err(Stop::Need(need)) => Some(need.unmet()),
    }
}

fn good() -> String {
    P256.sign(ES, &header(ES, "ec"), &claims())
}

/// A good token with some header members replaced; null removes.
fn with_header(changes: Value) -> String {
    let mut header = header(ES, "ec");
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(header.as_object_mut().unwrap().remove(name)),
            value => header[name] = value.clone(),
        }
    }
    P256.sign(ES, &header, &claims())
}

/// `Ed25519` is another name of what `EdDSA` means here.
fn is_same(one: Algorithm, other: Algorithm) -> bool {
    let ed25519 = |algorithm| matches!(algorithm, Algorithm::EdDsa | Algorithm::Ed25519);
    one == other || (ed25519(one) && ed25519(other))
}

#[test]
fn every_algorithm_verifies_its_own_signatures_and_no_others() {
    for signed_by in Algorithm::ALL {
        let key = TestKey::for_algorithm(signed_by);
        for named in Algorithm::ALL {
            let token = key.sign(signed_by, &header(named, "k"), &claims());
            for published in Algorithm::ALL {
                let mut jwk = TestKey::for_algorithm(published).jwk("k");
                jwk["alg"] = json!(published.as_str());
                let result = run(&token, &issuers(), &Keys::of(&[jwk]));
                let expected = is_same(signed_by, named) && is_same(named, published);
                assert_eq!(
                    result.is_ok(),
                    expected,
                    "signed by {signed_by:?}, says {named:?}, the key is for {published:?}"
                );
            }
        }
    }
}

#[test]
fn the_checks_are_made_in_their_order() {
    let mut checks = Checks::default();
    verify(bearer(&good()), &issuers(), &known(), NOW, &mut checks).unwrap();
    let made: Vec<Check> = checks.iter().map(|result| result.check).collect();
    assert_eq!(made, CHECKS);
    let mut sorted = made.clone();
    sorted.sort_unstable();
    assert_eq!(made, sorted, "the order of the variants is the order of the checks");
}

#[test]
fn facts_remember_epoch_and_key() {
    let keys = known();
    let (issuer, facts) = run(&good(), &issuers(), &keys).unwrap();
    assert_eq!((issuer, facts.epoch), (IssuerIndex(0), 7));
    assert!(keys.0[&issuer].contains(&facts.key));
}

#[test]
fn tokens_that_are_no_compact_jws_are_refused() {
    use Reason::{TokenMalformed, TokenOpaque};
    let good = good();
    let [head, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let rows = [
        ("abc".to_owned(), TokenOpaque, "no dots"),
        (String::new(), TokenOpaque, "nothing"),
        (".".to_owned(), TokenMalformed, "one dot"),
        ("..".to_owned(), TokenMalformed, "two dots"),
        ("...".to_owned(), TokenMalformed, "three dots"),
        (".".repeat(1_000_000), TokenMalformed, "a million dots"),
        (format!("{head}.{payload}"), TokenMalformed, "two parts"),
        (format!("{head}.{payload}."), TokenMalformed, "no signature"),
        (format!("{head}..{signature}"), TokenMalformed, "a detached payload"),
        (format!(".{payload}.{signature}"), TokenMalformed, "no header"),
        (format!(".{good}"), TokenMalformed, "a leading dot"),
        (format!("{good}."), TokenMalformed, "a trailing dot"),
        (format!("{good}.x.y"), TokenMalformed, "five parts"),
        (format!("{good}.x.y.z"), TokenMalformed, "six parts"),
        (format!("{good}="), TokenMalformed, "padding"),
        (format!("{head}=.{payload}.{signature}"), TokenMalformed, "padding in the header"),
        (format!("{head}.{payload}.{signature}\n"), TokenMalformed, "a line end"),
        (format!("{head}. {payload}.{signature}"), TokenMalformed, "a space"),
        (format!("{head}.{payload}.{signature}+"), TokenMalformed, "the other alphabet"),
        (format!("{head}.{payload}?.{signature}"), TokenMalformed, "a question mark"),
        (
            format!(r#"{{"payload":"{payload}.","signature":".{signature}"}}"#),
            TokenMalformed,
            "JSON serialisation",
        ),
    ];
    for (token, expected, why) in rows {
        assert_eq!(reason(&token), Some(expected), "{why}");
    }
}

#[test]
fn spare_bits_in_the_last_character_are_refused() {
    let token = good();
    // 64 bytes leave four spare bits in the last character.
    let last = token.chars().last().unwrap();
    assert!("AQgw".contains(last), "{last}");
    for other in "BCDEFGHIJKLMNOPRSTUVWXYZabcdefhijklmnopqrstuvxyz0123456789-_".chars() {
        let changed = format!("{}{other}", &token[..token.len() - 1]);
        assert_eq!(reason(&changed), Some(Reason::TokenMalformed), "{other}");
    }
}

#[test]
fn headers_that_change_the_meaning_are_refused() {
    for changes in [
        json!({"crit": ["x-policy"]}),
        json!({"crit": ["exp"], "exp": 1}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"crit": []}),
        json!({"crit": "b64"}),
        json!({"b64": false}),
        json!({"b64": true}),
        json!({"zip": "DEF"}),
        json!({"cty": "JWT"}),
        json!({"cty": "application/jwt"}),
        json!({"cty": ["JWT"]}),
        json!({"kid": 1}),
        json!({"kid": ["ec"]}),
        json!({"kid": "k".repeat(257)}),
    ] {
        assert_eq!(reason(&with_header(changes.clone())), Some(Reason::TokenMalformed), "{changes}");
    }
}

#[test]
fn keys_a_token_brings_along_are_ignored() {
    let attacker = TestKey::p256();
    let mut header = header(ES, "ec");
    header["jwk"] = attacker.jwk("ec");
    header["jku"] = json!("http://169.254.169.254/keys");
    header["x5u"] = json!("file:///etc/passwd");
    header["x5c"] = json!(["AAAA"]);
    let forged = attacker.sign(ES, &header, &claims());
    assert_eq!(reason(&forged), Some(Reason::SignatureInvalid));
    assert_eq!(reason(&P256.sign(ES, &header, &claims())), None, "signed by the published key");
}

#[test]
fn only_exact_names_of_allowed_algorithms_count() {
    for alg in [
        json!("none"),
        json!("None"),
        json!("NONE"),
        json!("nOnE"),
        json!("none "),
        json!(""),
        json!(0),
        json!([]),
        json!(["ES256"]),
        json!("es256"),
        json!("ES256 "),
        json!("ES256K"),
        json!("ES521"),
        json!("RS1"),
        json!("HS256"),
        json!("HS384"),
        json!("HS512"),
        json!("RSA-OAEP"),
        json!("dir"),
        json!("ed25519"),
        json!("Ed448"),
        json!(true),
    ] {
        let token = with_header(json!({ "alg": alg }));
        assert_eq!(reason(&token), Some(Reason::AlgorithmRefused), "{alg}");
    }
    assert_eq!(reason(&with_header(json!({"alg": null}))), Some(Reason::AlgorithmRefused), "absent");
    let mut header = header(ES, "ec");
    header["alg"] = Value::Null;
    assert_eq!(reason(&P256.sign(ES, &header, &claims())), Some(Reason::AlgorithmRefused), "null");

    let mut narrow = policy();
    narrow.algorithms = [Algorithm::Rs256].into_iter().collect();
    let result = run(&good(), &Issuers::new(vec![narrow]), &known());
    assert!(
        matches!(result, Err(Stop::Reject(r)) if r.reason == Reason::AlgorithmRefused),
        "not on the list"
    );
}

#[test]
fn an_hmac_with_the_public_key_is_refused() {
    let jwk = RSA.jwk("rsa");
    for secret in [jwk.to_string(), jwk["n"].as_str().unwrap().to_owned(), "secret".to_owned()] {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        for alg in ["HS256", "RS256"] {
            let head = json!({"typ": "at+jwt", "alg": alg, "kid": "rsa"}).to_string();
            let signed = format!("{}.{}", encode(head), encode(claims().to_string()));
            let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
            let expected = if alg == "HS256" { Reason::AlgorithmRefused } else { Reason::SignatureInvalid };
            assert_eq!(reason(&format!("{signed}.{}", encode(tag))), Some(expected), "{alg}");
        }
    }
}

#[test]
fn only_accepted_types_of_token_pass() {
    for (typ, accepted) in [
        (json!("at+jwt"), true),
        (json!("AT+JWT"), true),
        (json!("application/at+jwt"), true),
        (json!("Application/At+Jwt"), true),
        (json!(null), false),
        (json!("JWT"), false),
        (json!(""), false),
        (json!("logout+jwt"), false),
        (json!("dpop+jwt"), false),
        (json!("secevent+jwt"), false),
        (json!("at+jwt "), false),
        (json!("x/at+jwt"), false),
        (json!(["at+jwt"]), false),
        (json!(1), false),
    ] {
        let expected = (!accepted).then_some(Reason::TokenTypeRefused);
        assert_eq!(reason(&with_header(json!({ "typ": typ }))), expected, "{typ}");
    }
    let mut relaxed = policy();
    relaxed.token_types.accept = vec!["jwt".into()];
    relaxed.token_types.accept_absent = true;
    let relaxed = Issuers::new(vec![relaxed]);
    for (typ, accepted) in [(json!("JWT"), true), (json!(null), true), (json!("at+jwt"), false)] {
        let token = with_header(json!({ "typ": typ }));
        assert_eq!(run(&token, &relaxed, &known()).is_ok(), accepted, "relaxed: {typ}");
    }
}

#[test]
fn the_issuer_is_compared_byte_for_byte() {
    use Reason::{IssuerUnknown, TokenClaimInvalid, TokenClaimMissing};
    for (iss, expected) in [
        (json!("https://idp.example.com"), IssuerUnknown),
        (json!("https://IDP.example.com/"), IssuerUnknown),
        (json!("http://idp.example.com/"), IssuerUnknown),
        (json!("https://idp.example.com/x"), IssuerUnknown),
        (json!("https://idp.example.com@evil/"), IssuerUnknown),
        (json!("https://idp.example.c\u{43e}m/"), IssuerUnknown),
        (json!(""), IssuerUnknown),
        (json!([ISSUER]), TokenClaimInvalid),
        (json!({"a": 1}), TokenClaimInvalid),
        (json!(null), TokenClaimMissing),
    ] {
        let token = P256.sign(ES, &header(ES, "ec"), &claims_with(json!({ "iss": iss })));
        assert_eq!(reason(&token), Some(expected), "{iss}");
    }
}

#[test]
fn one_issuers_key_does_not_sign_for_another() {
    let mut second = policy();
    second.name = IssuerName::new("second");
    second.issuer = Issuer::new("https://second.example.com");
    let issuers = Issuers::new(vec![policy(), second]);
    // Both publish a key under the same kid.
    let mut keys = Keys::of(&[P256.jwk("k")]);
    let other = TestKey::p256();
    keys.0.extend(Keys::of(&[other.jwk("k")]).0.into_values().map(|set| (IssuerIndex(1), set)));
    let second = claims_with(json!({"iss": "https://second.example.com"}));
    let header = header(ES, "k");
    assert!(run(&other.sign(ES, &header, &second), &issuers, &keys).is_ok());
    for token in [P256.sign(ES, &header, &second), other.sign(ES, &header, &claims())] {
        let stop = run(&token, &issuers, &keys).unwrap_err();
        assert_eq!(stop.reason(), Reason::SignatureInvalid);
    }
}

#[test]
fn a_strange_encoding_of_a_signature_is_refused() {
    let head = header(ES, "ec").to_string();
    let signed = format!("{}.{}", encode(head), encode(claims().to_string()));
    let raw = P256.sign_bytes(ES, signed.as_bytes());
    let der = {
        let integer = |bytes: &[u8]| [&[2, bytes.len() as u8 + 1, 0], bytes].concat();
        let body = [integer(&raw[..32]), integer(&raw[32..])].concat();
        [&[0x30, body.len() as u8][..], &body].concat()
    };
    for (signature, why) in [
        (der, "DER"),
        (raw[..63].to_vec(), "63 bytes"),
        ([&raw[..], &[0]].concat(), "65 bytes"),
        ([&[0], &raw[..32], &[0], &raw[32..]].concat(), "66 bytes"),
        (vec![0; 64], "r and s zero"),
        ([&[0; 32], &raw[32..]].concat(), "r zero"),
        (vec![0xff; 64], "r and s beyond the order"),
    ] {
        let token = format!("{signed}.{}", encode(signature));
        assert_eq!(reason(&token), Some(Reason::SignatureInvalid), "{why}");
    }
    assert_eq!(reason(&format!("{signed}.{}", encode(raw))), None);
}

#[test]
fn a_payload_that_is_no_strict_object_is_refused_though_signed() {
    let head = header(ES, "ec").to_string();
    let good = claims().to_string();
    let twice = good.replacen('{', r#"{"scope":"admin","#, 1);
    for payload in [
        "[]",
        "\"x\"",
        "null",
        "",
        " ",
        "{",
        "{\"a\":NaN}",
        twice.as_str(),
        &format!("\u{feff}{good}"),
        &format!("{good} x"),
    ] {
        let token = P256.sign_text(ES, &head, payload);
        assert_eq!(reason(&token), Some(Reason::TokenMalformed), "{payload}");
    }
    let twice = head.replacen('{', r#"{"alg":"none","#, 1);
    for head in ["[]", "{}x", twice.as_str(), &format!(r#"{{"a":{}"#, "[".repeat(5_000))] {
        let token = P256.sign_text(ES, head, &good);
        assert_eq!(reason(&token), Some(Reason::TokenMalformed), "{head:.40}");
    }
}

#[test]
fn newer_keys_are_asked_for_only_by_plausible_tokens() {
    let need = |token: &str, keys: &Keys| match run(token, &issuers(), keys) {
        Err(Stop::Need(need)) => Some(need),
        Err(Stop::Reject(reject)) => {
            assert!(matches!(reject.reason.row().status, 401 | 503), "{reject}");
            None
        }
        Ok(_) => panic!("accepted"),
    };
    let unknown = |claims: &Value| TestKey::p256().sign(ES, &header(ES, "new"), claims);
    let (known, none) = (known(), Keys::default());
    assert_eq!(need(&unknown(&claims()), &known), Some(Need::NewerKeys(IssuerIndex(0))));
    assert_eq!(need(&unknown(&claims()), &none), Some(Need::Keys(IssuerIndex(0))));
    for changes in [
        json!({"exp": NOW.0 - 60}),
        json!({"exp": null}),
        json!({"exp": "soon"}),
        json!({"aud": null}),
        json!({"aud": []}),
        json!({"iss": "https://evil.example.com"}),
    ] {
        for keys in [&known, &none] {
            assert_eq!(need(&unknown(&claims_with(changes.clone())), keys), None, "{changes}");
        }
    }
    for changes in [json!({"alg": "HS256"}), json!({"typ": "JWT"}), json!({"crit": ["x"]})] {
        let mut head = header(ES, "new");
        head.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        assert_eq!(need(&P256.sign(ES, &head, &claims()), &known), None, "{changes}");
    }
    // A key may be replaced by one for another algorithm, or by another one under the same kid, or without kid.
    let of_other_alg = RSA.sign(Algorithm::Ps256, &header(Algorithm::Ps256, "rsa"), &claims());
    assert_eq!(need(&of_other_alg, &known), Some(Need::NewerKeys(IssuerIndex(0))));
    let mut no_kid = header(ES, "x");
    no_kid.as_object_mut().unwrap().remove("kid");
    for header in [no_kid, header(ES, "ec")] {
        let forged = |claims: &Value| TestKey::p256().sign(ES, &header, claims);
        assert_eq!(need(&forged(&claims()), &known), Some(Need::ReplacedKeys(IssuerIndex(0))));
        assert_eq!(need(&forged(&claims_with(json!({"exp": NOW.0 - 60}))), &known), None);
    }
}

#[test]
fn without_keys_the_refusal_is_503_and_never_blames_the_token() {
    let mut checks = Checks::default();
    let stop = verify(bearer(&good()), &issuers(), &Keys::default(), NOW, &mut checks).unwrap_err();
    assert_eq!(stop.reason(), Reason::KeysUnavailable);
    assert_eq!(checks.iter().last().unwrap().check, Check::Key);
}

#[test]
fn a_token_without_kid_is_tried_with_all_keys_that_fit() {
    let mut head = header(ES, "x");
    head.as_object_mut().unwrap().remove("kid");
    let token = P256.sign(ES, &head, &claims());
    let many: Vec<Value> =
        (0..7).map(|i| TestKey::p256().jwk(&format!("k{i}"))).chain([P256.jwk("ec")]).collect();
    assert!(run(&token, &issuers(), &Keys::of(&many)).is_ok(), "the eighth of eight");
    let more: Vec<Value> = [TestKey::p256().jwk("k")].into_iter().chain(many).collect();
    assert!(
        run(&token, &issuers(), &Keys::of(&more)).is_err(),
        "the ninth is not tried: the work is bounded"
    );
}

#[test]
fn a_forged_token_does_not_profit_from_a_good_one() {
    let forged = {
        let (signed, signature) = RSA
            .sign(Algorithm::Rs256, &header(Algorithm::Rs256, "rsa"), &claims())
            .rsplit_once('.')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        let (head, _) = signed.split_once('.').unwrap();
        format!("{head}.{}.{signature}", encode(claims_with(json!({"scope": "admin"})).to_string()))
    };
    assert_eq!(reason(&forged), Some(Reason::SignatureInvalid));
    let other = OTHER_RSA.sign(Algorithm::Rs256, &header(Algorithm::Rs256, "rsa"), &claims());
    assert_eq!(reason(&other), Some(Reason::SignatureInvalid));
    let edwards = ED25519.sign(Algorithm::EdDsa, &header(Algorithm::EdDsa, "ec"), &claims());
    assert_eq!(reason(&edwards), Some(Reason::KeyUnknown));
}

fn caller(token: &str) -> Result<Principal, Stop> {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    let headers = HeaderMap::from_iter([(field::AUTHORIZATION, value)]);
    let presented = Presented { headers: &headers, places: None, handshake: false, max_token: 16 * 1024 };
    authenticate(presented, &issuers(), &known(), NOW, &mut Checks::default())
}

#[test]
fn the_whole_way_ends_in_a_principal_or_a_reason() {
    let principal = caller(&good()).unwrap();
    assert!(!principal.remembered() && !principal.is_service());
    assert_eq!(principal.facts().subject.as_deref(), Some("alice"));
    let expired =
        P256.sign(ES, &header(ES, "ec"), &claims_with(json!({"iat": NOW.0 - 99, "exp": NOW.0 - 60})));
    assert_eq!(caller(&expired).unwrap_err().reason(), Reason::TokenExpired);
    let large = P256.sign(ES, &header(ES, "ec"), &claims_with(json!({"x": "x".repeat(16 * 1024)})));
    assert_eq!(caller(&large).unwrap_err().reason(), Reason::TokenMalformed);
    let service = P256.sign(ES, &header(ES, "ec"), &claims_with(json!({"sub": "app"})));
    assert!(caller(&service).unwrap().is_service());
}

#[test]
fn no_refusal_repeats_the_token() {
    for token in [
        good(),
        good() + "x",
        with_header(json!({"crit": ["x"]})),
        "secret-opaque".to_owned(),
        "a.secret.c".to_owned(),
    ] {
        if let Err(Stop::Reject(reject)) = run(&token, &Issuers::default(), &known()) {
            for part in token.split('.').filter(|part| part.len() > 3) {
                assert!(!reject.to_string().contains(part), "{reject}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_refused(token in "[A-Za-z0-9_.=~+/-]{0,200}") {
        prop_assert!(run(&token, &issuers(), &known()).is_err());
    }

    #[test]
    fn any_signed_bytes_are_judged(head in proptest::collection::vec(any::<u8>(), 0..60), payload in proptest::collection::vec(any::<u8>(), 0..60)) {
        let token = P256.sign_text(ES, head, payload);
        prop_assert!(run(&token, &issuers(), &known()).is_err());
    }

    #[test]
    fn a_changed_token_is_never_accepted(at in any::<proptest::sample::Index>(), to in "[A-Za-z0-9_.=~+/-]") {
        let token = good();
        let at = at.index(token.len());
        let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
        if changed != token {
            prop_assert!(run(&changed, &issuers(), &known()).is_err(), "{at} {to}");
        }
    }

    #[test]
    fn a_cut_or_longer_token_is_never_accepted(cut in any::<proptest::sample::Index>(), more in "[A-Za-z0-9_.=-]{1,9}") {
        let token = good();
        prop_assert!(run(&token[..cut.index(token.len())], &issuers(), &known()).is_err());
        let longer = format!("{token}{more}");
        prop_assert!(run(&longer, &issuers(), &known()).is_err());
    }
}
