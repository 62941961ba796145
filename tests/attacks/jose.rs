//! Group H, headers: which algorithm, which key, which kind of token. A token never chooses any of them.

use serde_json::{Value, json};

use crate::support::{Alg, Behaviour, Gateway, Policy, Rig, TestIssuer, Upstream, b64, ok};
use crate::trial::{RARE, Row, Trial};

const MALFORMED: &str = "401 token_malformed";
const ALGORITHM: &str = "401 algorithm_refused";
const SIGNATURE: &str = "401 signature_invalid";
const RFC8725: &str = "RFC 8725 §3";

#[tokio::test]
async fn h01_no_spelling_of_no_algorithm_is_one() {
    let mut trial = Trial::start().await;
    let good = trial.rig.issuer.token();
    let source = "RFC 8725 §2.1, Wycheproof JWS 16 and 341 to 344, GHSA-88q6";
    let spellings =
        ["none", "None", "NONE", "nOnE", "none ", " none", "", "null", "none\u{0}", "n\u{200b}one"];
    let values: Vec<Value> = spellings
        .map(Value::from)
        .into_iter()
        .chain([Value::Null, json!(0), json!([]), json!(["none"]), json!({}), json!(false)])
        .collect();
    for alg in values {
        for kid in [Some(json!("p256-1")), None, Some(json!("none"))] {
            let mut token = good.clone().header("alg", alg.clone());
            token = match kid {
                Some(kid) => token.header("kid", kid),
                None => token.without_header("kid"),
            };
            let signed = token.mint();
            let (message, _) = signed.rsplit_once('.').unwrap();
            trial
                .judge_all([
                    Row::token("H01", format!("alg {alg}, a signature"), &signed, ALGORITHM, source),
                    Row::token("H01", format!("alg {alg}, none"), &format!("{message}."), MALFORMED, source),
                    Row::token("H01", format!("alg {alg}, two parts"), message, MALFORMED, source),
                ])
                .await;
        }
    }
    let absent = good.without_header("alg").mint();
    trial.judge(&Row::token("H01", "no alg", &absent, ALGORITHM, source)).await;
    trial.finish().await;
}

#[tokio::test]
async fn h01_names_beside_the_list_are_refused_whatever_signed() {
    let mut trial = Trial::start().await;
    let names = [
        "HS256",
        "HS384",
        "HS512",
        "ES512",
        "ES256K",
        "RS1",
        "RSA1_5",
        "RSA-OAEP",
        "dir",
        "A128KW",
        "Ed25519",
        "Ed448",
        "EdDSA ",
        "rs256",
        "Rs256",
        "RS256 ",
        " RS256",
        "RS256\n",
        "RS256\u{0}",
        "ES256\u{0}RS256",
        "PS256,RS256",
        "ML-DSA-44",
        "RS2567",
        "RS25",
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    ];
    for name in names {
        for alg in [Alg::Rs256, Alg::Es256, Alg::EdDsa] {
            let token = trial.rig.issuer.token().alg(alg).header("alg", name).mint();
            trial.judge(&Row::token("H01", format!("{name:?} by {alg:?}"), &token, ALGORITHM, RFC8725)).await;
        }
    }
    trial.finish().await;
}

/// What of a public key an attacker could take for the secret of an HMAC.
fn secrets_of(jwks: &str) -> Vec<(String, Vec<u8>)> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    let set: Value = serde_json::from_str(jwks).unwrap();
    let key = set["keys"].as_array().unwrap().iter().find(|key| key["kty"] == "RSA").unwrap();
    let n = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
    let integer = |bytes: &[u8]| der(2, &[&[0], bytes].concat());
    let pkcs1 = der(0x30, &[integer(&n), der(2, &[1, 0, 1])].concat());
    let rsa_encryption = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0];
    let spki = der(0x30, &[rsa_encryption.to_vec(), der(3, &[&[0], pkcs1.as_slice()].concat())].concat());
    let pem = |label: &str, bytes: &[u8]| {
        let text = STANDARD.encode(bytes);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----", lines.join("\n"))
    };
    let (public, rsa) = (pem("PUBLIC KEY", &spki), pem("RSA PUBLIC KEY", &pkcs1));
    vec![
        ("PEM".into(), public.clone().into()),
        ("PEM with a line end".into(), format!("{public}\n").into()),
        ("PEM with CRLF".into(), public.replace('\n', "\r\n").into()),
        ("PKCS#1 PEM".into(), rsa.clone().into()),
        ("PKCS#1 PEM with a line end".into(), format!("{rsa}\n").into()),
        ("DER".into(), spki),
        ("PKCS#1 DER".into(), pkcs1),
        ("JWK".into(), key.to_string().into()),
        ("JWK Set".into(), jwks.into()),
        ("modulus".into(), n),
        ("modulus in base64url".into(), key["n"].as_str().unwrap().into()),
        ("empty".into(), Vec::new()),
    ]
}

/// One DER element of up to 64 KiB.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match length {
        [0, short @ 0..=127] => vec![tag, short],
        [0, long] => vec![tag, 0x81, long],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [head, content.to_vec()].concat()
}

fn hmac(alg: &str, secret: &[u8], message: &[u8]) -> Vec<u8> {
    use aws_lc_rs::hmac;
    let algorithm = match alg {
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    hmac::sign(&hmac::Key::new(algorithm, secret), message).as_ref().to_vec()
}

#[tokio::test]
async fn h02_h04_an_hmac_is_no_signature_whatever_its_secret() {
    let mut trial = Trial::start().await;
    let common = [
        "secret",
        "password",
        "changeme",
        "your-256-bit-secret",
        "key",
        "test",
        "jwt",
        "admin",
        "supersecret",
        "private",
        "default",
        "hmac-secret",
        "secretkey",
        "123456",
        "qwerty",
        "token",
        "s3cr3t",
        "null",
        "undefined",
        "...",
    ];
    let secrets = secrets_of(&trial.rig.issuer.jwks())
        .into_iter()
        .chain(common.map(|secret| (format!("the secret {secret:?}"), secret.into())));
    for (what, secret) in secrets {
        for alg in ["HS256", "HS384", "HS512"] {
            for kid in ["rsa-1", "p256-1"] {
                let claimed = trial.rig.issuer.token().header("alg", alg).header("kid", kid);
                let signed = sign_with(&claimed, |message| hmac(alg, &secret, message));
                let row = Row::token("H02", format!("{alg}, {what}"), &signed, ALGORITHM, "CVE-2026-39999");
                trial.judge(&row).await;
            }
            // The name of an asymmetric algorithm over the same bytes.
            let rs256 = trial.rig.issuer.token().alg(Alg::Rs256);
            let signed = sign_with(&rs256, |message| hmac(alg, &secret, message));
            let row = Row::token("H04", format!("RS256 over {alg}, {what}"), &signed, SIGNATURE, RFC8725);
            trial.judge(&row).await;
        }
    }
    trial.finish().await;
}

/// The token with the signature that this makes of its signing input.
pub(crate) fn sign_with(token: &crate::support::TokenBuilder, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let unsigned = token.mint_with_signature(b"");
    let message = unsigned.trim_end_matches('.');
    format!("{message}.{}", b64(&sign(message.as_bytes())))
}

#[tokio::test]
async fn h05_algorithm_key_and_signature_must_all_agree() {
    let mut trial = Trial::start().await;
    let names = Alg::ALL.map(Alg::name).into_iter().chain(["HS256", "ES512", "ES256K", "RS1", "Ed25519"]);
    let kid_of = |name: &str| match name {
        "ES256" => "p256-1",
        "ES384" => "p384-1",
        "EdDSA" => "ed25519-1",
        _ => "rsa-1",
    };
    for name in names {
        for kid in [Some("rsa-1"), Some("p256-1"), Some("p384-1"), Some("ed25519-1"), None] {
            for signer in Alg::ALL {
                let token = trial.rig.issuer.token().alg(signer).header("alg", name);
                let token = match kid {
                    Some(kid) => token.header("kid", kid),
                    None => token.without_header("kid"),
                };
                let known = Alg::ALL.iter().any(|alg| alg.name() == name);
                let fits = kid.is_none_or(|kid| kid == kid_of(name));
                let expected = match (known, fits, name == signer.name()) {
                    (false, ..) => ALGORITHM,
                    (true, false, _) => "401 key_unknown",
                    (true, true, false) => SIGNATURE,
                    (true, true, true) => "200 -",
                };
                let what = format!("alg {name}, kid {kid:?}, signed by {signer:?}");
                let source = "Wycheproof JWS 331 to 340";
                trial.judge(&Row::token("H05", what, &token.mint(), expected, source)).await;
            }
        }
    }
    trial.finish().await;
}

#[tokio::test]
async fn h06_a_key_that_names_its_algorithm_serves_no_other() {
    let rsa = [Alg::Rs256, Alg::Rs384, Alg::Rs512, Alg::Ps256, Alg::Ps384, Alg::Ps512];
    for pinned in rsa {
        let issuer = TestIssuer::start().await;
        let mut set: Value = serde_json::from_str(&issuer.jwks()).unwrap();
        set["keys"][0]["alg"] = pinned.name().into();
        issuer.behave(Behaviour::Jwks(set.to_string()));
        let upstream = Upstream::start(|_| ok("hello")).await;
        let policy = Policy::default().issuer(RARE);
        let gateway = Gateway::start(&policy.render(issuer.url(), &upstream.url())).await;
        let mut trial = Trial::over(Rig { issuer, upstream, gateway }).await.without_fetches().await;
        for alg in rsa {
            let expected = if alg == pinned { "200 -" } else { "401 key_unknown" };
            let token = trial.rig.issuer.token().alg(alg).mint();
            let what = format!("a key for {pinned:?}, a token by {alg:?}");
            trial.judge(&Row::token("H06", what, &token, expected, "RFC 8725 §3.1, RFC 7517 §4.4")).await;
        }
        trial.finish().await;
    }
}

#[tokio::test]
async fn h08_a_token_never_says_where_its_key_is() {
    let mut trial = Trial::start().await;
    let attacker = TestIssuer::start().await;
    attacker.rotate();
    let set: Value = serde_json::from_str(&attacker.jwks()).unwrap();
    let jwk = set["keys"][1].clone();
    let trap = Upstream::start(|_| ok("{}")).await;
    let places = [
        attacker.jwks_uri(),
        format!("{}/keys", trap.url()),
        format!("http://{}/latest/meta-data", trap.address()),
        "file:///etc/passwd".into(),
        "gopher://127.0.0.1:70/x".into(),
        format!("//{}/x", trap.address()),
    ];
    let values = places.iter().flat_map(|place| ["jku", "x5u"].map(|name| (name, json!(place)))).chain([
        ("jwk", jwk.clone()),
        ("jwk", json!({"keys": [jwk]})),
        ("jwk", json!("x")),
        ("x5c", json!(["MIIB"])),
        ("x5c", json!([])),
        ("x5t", json!("AAAA")),
        ("x5t#S256", json!(7)),
        ("jku", json!([attacker.jwks_uri()])),
        ("jku", Value::Null),
    ]);
    let forged = attacker.token().claim("iss", trial.rig.issuer.url()).header("kid", "p256-1");
    for (name, value) in values {
        let source = "CVE-2026-27962, RFC 8725 §3.10, Wycheproof JWS 32";
        let (what, token) = (format!("{name}: {value}"), forged.clone().header(name, value.clone()).mint());
        trial.judge(&Row::token("H08", format!("forged, {what}"), &token, SIGNATURE, source)).await;
        let good = trial.rig.issuer.token().header(name, value).mint();
        trial.judge(&Row::token("H08", format!("good, {what}"), &good, "200 -", source)).await;
    }
    assert_eq!((trap.connections(), attacker.jwks_requests(), attacker.metadata_requests()), (0, 0, 0));
    trial.finish().await;
}

#[tokio::test]
async fn h09_h10_h16_headers_that_change_the_meaning_are_refused() {
    let mut trial = Trial::start().await;
    let crit = [
        json!(["x-policy"]),
        json!(["exp"]),
        json!(["b64"]),
        json!(["alg"]),
        json!([]),
        json!("b64"),
        json!(["exp", "exp"]),
        json!(["not-there"]),
        json!([""]),
        json!([7]),
        json!({}),
        Value::Null,
        json!(false),
    ];
    let good = trial.rig.issuer.token();
    let mut rows = Vec::new();
    for value in crit {
        let token = good.clone().header("crit", value.clone()).header("x-policy", 1).header("exp", 1).mint();
        let source = "RFC 7515 §4.1.11, CVE-2026-32597, CVE-2025-59420";
        rows.push(Row::token("H09", format!("crit {value}"), &token, MALFORMED, source));
    }
    for b64_value in [json!(false), json!(true), json!("false"), Value::Null] {
        for crit in [None, Some(json!(["b64"]))] {
            let mut token = good.clone().header("b64", b64_value.clone());
            if let Some(crit) = crit.clone() {
                token = token.header("crit", crit);
            }
            let what = format!("b64 {b64_value}, crit {crit:?}");
            rows.push(Row::token("H10", what.clone(), &token.mint(), MALFORMED, "RFC 7797"));
            let claims = good.claims().to_string();
            let raw = token.mint_text(&b64(token.header_value().to_string().as_bytes()), &claims);
            // Not even a legal credential: braces and quotes are no b64token.
            rows.push(Row::token(
                "H10",
                format!("{what}, payload as it is"),
                &raw,
                MALFORMED,
                "RFC 7797 §5.2",
            ));
        }
    }
    let minted = good.mint();
    let (header, signature) = (minted.split('.').next().unwrap(), minted.rsplit('.').next().unwrap());
    let detached = format!("{header}..{signature}");
    rows.push(Row::token("H10", "a detached payload", &detached, MALFORMED, "RFC 7515 appendix F"));
    for zip in [json!("DEF"), json!(""), Value::Null] {
        let token = good.clone().header("zip", zip.clone()).mint();
        rows.push(Row::token("H10", format!("zip {zip}"), &token, MALFORMED, "RFC 7516 §4.1.3"));
    }
    let nested = |cty: Value| {
        let outer = good.clone().header("cty", cty);
        outer.mint_bytes(outer.header_value().to_string(), &minted)
    };
    for cty in ["JWT", "jwt", "application/jwt", "Application/JWT"] {
        rows.push(Row::token(
            "H16",
            format!("cty {cty}, a token"),
            &nested(json!(cty)),
            MALFORMED,
            "RFC 7519 §5.2",
        ));
        let claims = good.clone().header("cty", cty).mint();
        rows.push(Row::token("H16", format!("cty {cty}, claims"), &claims, MALFORMED, "RFC 7519 §5.2"));
    }
    for cty in [json!(7), Value::Null, json!(["JWT"])] {
        let token = good.clone().header("cty", cty.clone()).mint();
        rows.push(Row::token("H16", format!("cty {cty}"), &token, MALFORMED, "RFC 7519 §5.2"));
    }
    rows.push(Row::token("H16", "a token within, unsaid", &nested(json!("json")), MALFORMED, RFC8725));
    for kid in [json!(7), Value::Null, json!(["p256-1"]), json!({}), json!("k".repeat(257))] {
        let token = good.clone().header("kid", kid.clone()).mint();
        rows.push(Row::token("H05", format!("kid {kid}"), &token, MALFORMED, "RFC 7515 §4.1.4"));
    }
    trial.judge_all(rows).await;
    trial.finish().await;
}

#[tokio::test]
async fn h05_a_hostile_kid_is_only_compared() {
    // Each of these is a key id nobody publishes. One fetch in a cooldown is all they cause together.
    let mut trial =
        Trial::with(Policy::default().issuer("key_refresh: { interval: 1h, unknown_kid_cooldown: 1h }"))
            .await;
    let kids = [
        "../../../../dev/null",
        "/etc/passwd",
        "file:///etc/passwd",
        "http://169.254.169.254/",
        "' OR 1=1 --",
        "p256-1' --",
        "p256-1\u{0}",
        "P256-1",
        " p256-1",
        "p256-1 ",
        "p256‐1",
        "${jndi:ldap://x}",
        "$(id)",
        "`id`",
        "|id",
        "%00",
        "{{7*7}}",
        "\r\nSet-Cookie: a=b",
        "",
        "\u{202e}1-652p",
        "0",
        "-1",
        "null",
        "true",
    ];
    let before = trial.calls();
    for kid in kids {
        let token = trial.rig.issuer.token().header("kid", kid).mint();
        let row = Row::token("H05", format!("kid {kid:?}"), &token, "401 key_unknown", "RFC 8725 §3.10");
        trial.judge_but_for_calls(&row).await;
    }
    assert!(trial.calls() - before <= 3, "{} calls for {} key ids", trial.calls() - before, kids.len());
    trial.finish().await;
}

#[tokio::test]
async fn h14_only_the_compact_form_of_three_parts_is_read() {
    let mut trial = Trial::start().await;
    let good = trial.rig.token();
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{good}") };
    let general = json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]});
    let flattened = json!({"payload": payload, "protected": header, "signature": signature});
    let polyglot = format!("{{\"x\":\"{good}\"}}");
    let source = "RFC 7515 §7.2, Wycheproof JWS 3 to 17, CVE-2025-30204";
    let malformed = [
        ("two parts", format!("{header}.{payload}")),
        ("payload and signature", format!("{payload}.{signature}")),
        ("four parts", format!("{good}.x")),
        ("five parts", format!("{header}..{payload}..{signature}")),
        ("an encrypted token", format!("{header}.{payload}.{payload}.{payload}.{signature}")),
        ("six parts", format!("{good}.a.b.c")),
        ("a dot", ".".into()),
        ("two dots", "..".into()),
        ("three dots", "...".into()),
        ("a dot in front", format!(".{good}")),
        ("a dot behind", format!("{good}.")),
        ("no header", format!(".{payload}.{signature}")),
        ("no payload", format!("{header}..{signature}")),
        ("no signature", format!("{header}.{payload}.")),
        ("only a signature", format!("..{signature}")),
        ("parts in another order", format!("{payload}.{header}.{signature}")),
        ("the header twice", format!("{header}.{header}.{signature}")),
        ("two tokens", format!("{good}.{good}")),
        ("two tokens in a row", format!("{good}{good}")),
        ("the general JSON form", general.to_string()),
        ("the flattened JSON form", flattened.to_string()),
        ("a token and JSON at once", polyglot),
    ];
    // A header is an object as well as claims are, if not one with an issuer.
    let expected = "401 token_malformed|401 token_claim_missing";
    for (what, token) in malformed {
        trial.judge(&Row::token("H14", what, &token, expected, source)).await;
    }
    for (what, token) in [
        ("one part", header),
        ("a signature alone", signature),
        ("an opaque token", "2YotnFZFEjr1zCsicMWpAA"),
    ] {
        trial.judge(&Row::token("H14", what, token, "401 token_opaque", source)).await;
    }
    trial.finish().await;
}

#[tokio::test]
async fn h21_only_access_tokens_are_access_tokens() {
    let mut trial = Trial::start().await;
    let refused = "401 token_type_refused";
    let source = "RFC 9068 §4, RFC 8725 §3.11";
    for typ in ["at+jwt", "AT+JWT", "At+Jwt", "application/at+jwt", "Application/AT+JWT"] {
        let token = trial.rig.issuer.token().header("typ", typ).mint();
        trial.judge(&Row::token("H21", format!("typ {typ}"), &token, "200 -", source)).await;
    }
    for typ in [
        json!("JWT"),
        json!("jwt"),
        json!("logout+jwt"),
        json!("secevent+jwt"),
        json!("dpop+jwt"),
        json!("token-introspection+jwt"),
        json!("rt+jwt"),
        json!("at+jwt "),
        json!(" at+jwt"),
        json!("at+jwt;v=1"),
        json!("text/at+jwt"),
        json!("application/application/at+jwt"),
        json!("at"),
        json!(""),
        json!(["at+jwt"]),
        json!(7),
        Value::Null,
        json!("at\u{2b}jwt\u{0}"),
        json!("application/"),
    ] {
        let token = trial.rig.issuer.token().header("typ", typ.clone()).mint();
        trial.judge(&Row::token("H21", format!("typ {typ}"), &token, refused, source)).await;
    }
    let bare = trial.rig.issuer.token().without_header("typ").mint();
    let id_token = trial
        .rig
        .issuer
        .token()
        .header("typ", "JWT")
        .claim("aud", "mobile-app")
        .claim("nonce", "n-0S6_WzA2Mj")
        .without("client_id");
    trial.judge(&Row::token("H21", "no typ", &bare, refused, source)).await;
    trial.judge(&Row::token("H21", "an ID token", &id_token.mint(), refused, source)).await;
    trial.finish().await;

    // An issuer that marks its access tokens as plain JWTs: its ID tokens lack a claim that only access tokens have.
    let relaxed = "token_type: { accept: [at+jwt, JWT, none], require_claims: [client_id] }";
    let mut trial = Trial::with(Policy::default().issuer(relaxed)).await;
    let plain = trial.rig.issuer.token().header("typ", "JWT");
    let bare = trial.rig.issuer.token().without_header("typ");
    let rows = [
        ("typ JWT", plain.clone(), "200 -"),
        ("no typ", bare.clone(), "200 -"),
        ("typ null", plain.clone().header("typ", Value::Null), refused),
        ("an ID token", plain.clone().without("client_id").claim("nonce", "n"), "401 token_claim_missing"),
        ("an ID token without typ", bare.without("client_id"), "401 token_claim_missing"),
        ("a logout token", plain.header("typ", "logout+jwt"), refused),
    ];
    for (what, token, expected) in rows {
        trial.judge(&Row::token("H21", format!("{what}, relaxed"), &token.mint(), expected, source)).await;
    }
    trial.finish().await;
}
