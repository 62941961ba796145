//! Group H, bytes: signatures, base64url and JSON in every dialect but the one. A token has one spelling.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::jose::sign_with;
use crate::support::{Alg, Client, Policy, b64};
use crate::trial::{RARE, Row, Trial};

const MALFORMED: &str = "401 token_malformed";
const SIGNATURE: &str = "401 signature_invalid";

/// The order of P-256 and of P-384 (FIPS 186-4 §D.1.2), and of Ed25519 (RFC 8032 §5.1, little-endian).
const P256: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const P384: &str =
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";
const ED25519: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// `a - b` and `a + b` of big-endian numbers of one length; `None` where it does not fit.
fn minus(a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
    let mut borrow = 0i16;
    let mut digits: Vec<u8> = Vec::new();
    for (x, y) in a.iter().rev().zip(b.iter().rev()) {
        let digit = i16::from(*x) - i16::from(*y) - borrow;
        borrow = i16::from(digit < 0);
        digits.push(u8::try_from(digit.rem_euclid(256)).unwrap());
    }
    digits.reverse();
    (borrow == 0).then_some(digits)
}

fn plus(a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
    let mut carry = 0u16;
    let mut digits: Vec<u8> = Vec::new();
    for (x, y) in a.iter().rev().zip(b.iter().rev()) {
        let digit = u16::from(*x) + u16::from(*y) + carry;
        carry = digit >> 8;
        digits.push(u8::try_from(digit & 0xff).unwrap());
    }
    digits.reverse();
    (carry == 0).then_some(digits)
}

/// An ECDSA signature as DER, as X.509 has it.
fn der(signature: &[u8]) -> Vec<u8> {
    let integer = |digits: &[u8]| {
        let start = digits.iter().position(|digit| *digit != 0).unwrap_or(digits.len() - 1);
        let digits = &digits[start..];
        let zero: &[u8] = if digits[0] >= 0x80 { &[0] } else { &[] };
        let content = [zero, digits].concat();
        [vec![2, u8::try_from(content.len()).unwrap()], content].concat()
    };
    let (r, s) = signature.split_at(signature.len() / 2);
    let content = [integer(r), integer(s)].concat();
    [vec![0x30, u8::try_from(content.len()).unwrap()], content].concat()
}

/// Other spellings of a signature, none of which may count.
fn spellings(alg: Alg, signature: &[u8]) -> Vec<(String, Vec<u8>)> {
    let last = signature.len() - 1;
    let mut all = vec![
        ("a byte short".to_owned(), signature[..last].to_vec()),
        ("a byte short in front".to_owned(), signature[1..].to_vec()),
        ("a zero behind".to_owned(), [signature, &[0]].concat()),
        ("a zero in front".to_owned(), [&[0], signature].concat()),
        ("twice".to_owned(), [signature, signature].concat()),
        ("half".to_owned(), signature[..=last / 2].to_vec()),
        ("zeros behind".to_owned(), [signature, &[0; 64]].concat()),
        ("one byte".to_owned(), vec![1]),
        ("all zero".to_owned(), vec![0; signature.len()]),
        ("all ones".to_owned(), vec![0xff; signature.len()]),
        ("backwards".to_owned(), signature.iter().rev().copied().collect()),
    ];
    all.extend((0..signature.len() * 8).step_by(7).map(|bit| {
        let mut flipped = signature.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (format!("bit {bit} flipped"), flipped)
    }));
    let order = match alg {
        Alg::Es256 => hex(P256),
        Alg::Es384 => hex(P384),
        _ => Vec::new(),
    };
    if !order.is_empty() {
        let (r, s) = signature.split_at(order.len());
        let one: Vec<u8> = (1..order.len()).map(|_| 0).chain([1]).collect();
        let zero = vec![0; order.len()];
        let edges = [zero, one.clone(), minus(&order, &one).unwrap(), order.clone(), vec![0xff; order.len()]];
        for (i, r) in edges.iter().enumerate() {
            all.extend(
                edges.iter().enumerate().map(|(j, s)| (format!("edge {i} and {j}"), [&r[..], s].concat())),
            );
        }
        all.push(("DER".to_owned(), der(signature)));
        all.push(("r and s the other way round".to_owned(), [s, r].concat()));
        all.push(("minus r".to_owned(), [&minus(&order, r).unwrap()[..], s].concat()));
        all.extend(plus(r, &order).map(|r| ("r and the order".to_owned(), [&r[..], s].concat())));
        all.extend(plus(s, &order).map(|s| ("s and the order".to_owned(), [r, &s[..]].concat())));
    }
    if alg == Alg::EdDsa {
        // s + L verifies the same equation; RFC 8032 §5.1.7 refuses it.
        let (r, s) = signature.split_at(32);
        let mut big: Vec<u8> = s.iter().rev().copied().collect();
        let order: Vec<u8> = hex(ED25519).iter().rev().copied().collect();
        big = plus(&big, &order).unwrap();
        all.push((
            "s and the order".to_owned(),
            [r, &big.iter().rev().copied().collect::<Vec<u8>>()[..]].concat(),
        ));
    }
    all
}

#[tokio::test]
async fn h12_a_signature_has_one_encoding() {
    let mut trial = Trial::start().await;
    for alg in Alg::ALL {
        let token = trial.rig.issuer.token().alg(alg);
        let minted = token.mint();
        let signature = URL_SAFE_NO_PAD.decode(minted.rsplit('.').next().unwrap()).unwrap();
        // The good one is known by the time the others come: nothing may be found by part of a token.
        trial.judge(&Row::token("H12", format!("{alg:?}, as it is"), &minted, "200 -", "RFC 7518 §3")).await;
        for (what, other) in spellings(alg, &signature) {
            let token = token.mint_with_signature(&other);
            let source = "RFC 7518 §3.4, Wycheproof JWS 379 to 401";
            trial.judge(&Row::token("H12", format!("{alg:?}, {what}"), &token, SIGNATURE, source)).await;
        }
    }
    trial.finish().await;
}

/// ECDSA holds for s and for n - s, so who has a token can write it in a second way. It is the same caller, and takes no
/// second place in memory.
#[tokio::test]
async fn h12_the_twin_of_a_signature_is_no_second_token() {
    let mut trial = Trial::start().await;
    for (alg, order) in [(Alg::Es256, hex(P256)), (Alg::Es384, hex(P384))] {
        let token = trial.rig.issuer.token().alg(alg).mint();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let (r, s) = signature.split_at(order.len());
        let twin = format!("{message}.{}", b64(&[r, &minus(&order, s).unwrap()].concat()));
        let bytes = || async { trial.rig.gateway.metric("scopegate_token_cache_bytes", &[]).await };
        let source = "RFC 7518 §3.4";
        let row =
            |what: &str, token: &str| Row::token("H12", format!("{alg:?}, {what}"), token, "200 -", source);
        let empty = bytes().await;
        let one = trial.rig.gateway.get("/orders/1").token(&token).send().await;
        let held = bytes().await;
        assert!(one.status == 200 && held > empty, "{held} bytes");
        for _ in 0..3 {
            let other = trial.rig.gateway.get("/orders/1").token(&twin).send().await;
            assert_eq!(other.verdict(), "200 -", "{alg:?}: the twin is as good");
            assert_eq!(trial.rig.upstream.last().header("x-user"), Some("alice"));
            assert_eq!(bytes().await, held, "{alg:?}: the twin takes the place of the first");
            assert_eq!(trial.rig.gateway.get("/orders/1").token(&token).send().await.verdict(), "200 -");
            assert_eq!(bytes().await, held, "{alg:?}: and the first that of the twin");
        }
        trial.judge(&row("at the end", &token)).await;
    }
    trial.finish().await;
}

#[tokio::test]
async fn h13_base64url_is_strict_at_every_place() {
    let mut trial = Trial::start().await;
    for alg in [Alg::Es256, Alg::Rs256, Alg::EdDsa] {
        let good = trial.rig.issuer.token().alg(alg).mint();
        let source = "RFC 7515 §2, Wycheproof JWS 360 to 375";
        trial.judge(&Row::token("H13", "as it is", &good, "200 -", source)).await;
        for at in 0..=good.len() {
            // The last two may end a b64token; neither is part of base64url.
            for inserted in ["+", "/", "~", " ", "\t", "?", "%3D", "%", "\\n", "\"", ",", "=", "=="] {
                let token = format!("{}{inserted}{}", &good[..at], &good[at..]);
                let what = format!("{alg:?}, {inserted:?} at {at}");
                // White space at the end is no part of a field's value: it is the token itself.
                let outside = at == good.len() && [" ", "\t"].contains(&inserted);
                let expected = if outside { "200 -" } else { MALFORMED };
                trial.judge(&Row::token("H13", what, &token, expected, source)).await;
            }
            if at < good.len() && &good[at..=at] != "." {
                for replaced in ["+", "/", "=", "~", " "] {
                    let token = format!("{}{replaced}{}", &good[..at], &good[at + 1..]);
                    let outside = at + 1 == good.len() && replaced == " ";
                    let expected =
                        if outside { "401 token_malformed|401 signature_invalid" } else { MALFORMED };
                    let what = format!("{alg:?}, {replaced:?} for {at}");
                    trial.judge(&Row::token("H13", what, &token, expected, source)).await;
                }
            }
        }
    }
    trial.finish().await;
}

#[tokio::test]
async fn h13_spare_bits_are_zero() {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut trial = Trial::start().await;
    let mut tried = 0;
    // Claims of three lengths, so that the payload ends in two, four or no spare bits.
    for pad in ["", "x", "xx"] {
        let good = trial.rig.issuer.token().claim("pad", pad).mint();
        let ends: Vec<usize> =
            good.match_indices('.').map(|(at, _)| at - 1).chain([good.len() - 1]).collect();
        let starts = [0, ends[0] + 2, ends[1] + 2];
        for (start, end) in starts.into_iter().zip(ends) {
            let spare = match (end + 1 - start) % 4 {
                2 => 4,
                3 => 2,
                _ => continue,
            };
            let last = ALPHABET.iter().position(|letter| *letter == good.as_bytes()[end]).unwrap();
            assert_eq!(last % (1 << spare), 0, "the issuer itself is strict");
            for bits in 1..1 << spare {
                let mut token = good.clone().into_bytes();
                token[end] = ALPHABET[last | bits];
                let token = String::from_utf8(token).unwrap();
                let row = Row::token(
                    "H13",
                    format!("spare bits {bits} at {end}"),
                    &token,
                    MALFORMED,
                    "RFC 4648 §3.5",
                );
                trial.judge(&row).await;
                tried += 1;
            }
        }
    }
    assert!(tried > 20, "{tried} tokens");
    trial.finish().await;
}

#[tokio::test]
async fn h13_no_letter_of_a_token_can_change() {
    let policy = Policy::default().issuer("key_refresh: { interval: 1h, unknown_kid_cooldown: 1h }");
    let mut trial = Trial::with(policy).await;
    let good = trial.rig.issuer.token().mint();
    let before = trial.calls();
    let expected = "401 token_malformed|401 signature_invalid|401 token_type_refused|401 algorithm_refused|\
        401 issuer_unknown|401 key_unknown|401 token_claim_missing|401 token_claim_invalid|401 token_opaque";
    for at in 0..good.len() {
        for letter in ["A", "B", "g", "_", "."] {
            let token = format!("{}{letter}{}", &good[..at], &good[at + 1..]);
            if token != good {
                let row = Row::token("H13", format!("{letter} for {at}"), &token, expected, "RFC 7515 §5.2");
                trial.judge_but_for_calls(&row).await;
            }
        }
    }
    // Some of them name another key: one fetch in a cooldown, discovery counted.
    assert!(trial.calls() - before <= 3, "{} calls", trial.calls() - before);
    trial.finish().await;
}

#[tokio::test]
async fn h17_h18_the_size_and_depth_of_a_token_are_bounded() {
    let limits = "limits: { token: 1MiB, header_bytes: 1MiB }";
    let mut trial = Trial::with(Policy::default().gateway(limits).issuer(RARE)).await.without_fetches().await;
    let good = trial.rig.issuer.token();
    let open = |n: usize| "[".repeat(n);
    let deep = |n: usize| format!("{{\"x\":{}{}}}", open(n), "]".repeat(n));
    let objects = |n: usize| format!("{}1{}", "{\"x\":".repeat(n), "}".repeat(n));
    let many = |n: usize| {
        let members: Vec<String> = (0..n).map(|n| format!("\"m{n}\":{n}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let hostile = [
        ("100,000 deep", deep(100_000)),
        ("open 100,000 times", open(100_000)),
        ("open 100,000 times in an object", format!("{{\"x\":{}", open(100_000))),
        ("objects 20,000 deep", objects(20_000)),
        ("17 deep", deep(16)),
        ("50,000 members", many(50_000)),
        ("101 members", many(101)),
        ("100,000 items", format!("{{\"x\":[{}1]}}", "1,".repeat(100_000))),
        ("100,000 empty objects", format!("{{\"x\":[{}{{}}]}}", "{},".repeat(100_000))),
        ("a number of 100,000 digits", format!("{{\"exp\":{}}}", "9".repeat(100_000))),
        ("100,000 spaces, then nothing", " ".repeat(100_000)),
    ];
    let source = "CVE-2025-30204, RFC 8725 §3";
    for (what, text) in &hostile {
        let payload = good.mint_bytes(good.header_value().to_string(), text);
        let header = good.mint_bytes(text, good.claims().to_string());
        trial.judge(&Row::token("H18", format!("payload, {what}"), &payload, MALFORMED, source)).await;
        trial.judge(&Row::token("H18", format!("header, {what}"), &header, MALFORMED, source)).await;
    }
    let long = "x".repeat(600_000);
    let rows = [
        ("a long claim", good.clone().claim("x", long.clone()).mint(), "200 -"),
        ("a long header", good.clone().header("x", long.clone()).mint(), "200 -"),
        ("a long signature", good.mint_with_signature(&vec![1; 600_000]), SIGNATURE),
        ("dots", ".".repeat(1_000_000), MALFORMED),
        ("dots and letters", "a.".repeat(500_000), MALFORMED),
        ("two dots and letters", format!("{long}.a.a"), MALFORMED),
        ("one letter a million times", "a".repeat(1_000_000), "401 token_opaque"),
        (
            "nearly as long as a header section may be",
            "a".repeat(1024 * 1024 - 1024),
            "401 token_opaque|401 token_malformed",
        ),
    ];
    for (what, token, expected) in rows {
        trial.judge(&Row::token("H17", what, &token, expected, source)).await;
    }
    let peak = trial.rig.gateway.peak_memory();
    assert!(peak < 200 << 20, "{peak} bytes at the most");
    trial.finish().await;
}

#[tokio::test]
async fn h17_the_usual_limits_cut_before_anything_is_decoded() {
    let mut trial = Trial::start().await;
    let sized = |bytes: usize| {
        let good = trial.rig.issuer.token();
        let bare = good.clone().claim("x", "").mint().len();
        let mut pad = (bytes - bare) * 3 / 4;
        loop {
            let token = good.clone().claim("x", "x".repeat(pad)).mint();
            if token.len() >= bytes {
                return token;
            }
            pad += 1;
        }
    };
    let (fits, over) = (sized(16 * 1024 - 4), sized(16 * 1024 + 1));
    assert!(fits.len() <= 16 * 1024 && over.len() > 16 * 1024, "{} and {}", fits.len(), over.len());
    let source = "product's limit of 16 KiB";
    trial.judge(&Row::token("H17", "16 KiB", &fits, "200 -", source)).await;
    trial.judge(&Row::token("H17", "a little more", &over, MALFORMED, source)).await;
    trial.judge(&Row::token("H17", "30 KiB of dots", &".".repeat(30 * 1024), MALFORMED, source)).await;
    for size in [64 * 1024, 1024 * 1024] {
        // More than a header section may be: a bare 431 and a closed connection.
        trial
            .judge(&Row::token("H17", format!("{size} bytes"), &".".repeat(size), "431 -|closed", source))
            .await;
    }
    trial.finish().await;
}

/// What is no JSON object, or could be read in two ways.
fn dialects(claims: &str) -> Vec<(String, Vec<u8>)> {
    let open = claims.trim_end_matches('}');
    let mut all: Vec<(String, Vec<u8>)> = [
        ("a byte order mark", format!("\u{feff}{claims}")),
        ("a comment behind", format!("{claims}/* */")),
        ("a line comment", format!("{open}// \n}}")),
        ("a comment within", claims.replacen(':', ":/**/", 1)),
        ("a trailing comma", format!("{open},}}")),
        ("a leading comma", claims.replacen('{', "{,", 1)),
        ("single quotes", claims.replace('"', "'")),
        ("names without quotes", claims.replacen("\"aud\"", "aud", 1)),
        ("two objects", format!("{claims}{claims}")),
        ("two lines of objects", format!("{claims}\n{claims}")),
        ("something behind", format!("{claims} x")),
        ("a zero byte behind", format!("{claims}\u{0}")),
        ("an array around", format!("[{claims}]")),
        ("NaN", format!("{open},\"x\":NaN}}")),
        ("Infinity", format!("{open},\"x\":-Infinity}}")),
        ("a plus", format!("{open},\"x\":+1}}")),
        ("a leading zero", format!("{open},\"x\":01}}")),
        ("hexadecimal", format!("{open},\"x\":0x1}}")),
        ("a dot behind", format!("{open},\"x\":1.}}")),
        ("1e400", format!("{open},\"x\":1e400}}")),
        ("True", format!("{open},\"x\":True}}")),
        ("undefined", format!("{open},\"x\":undefined}}")),
        ("a lone high surrogate", format!("{open},\"x\":\"\\ud800\"}}")),
        ("a lone low surrogate", format!("{open},\"x\":\"\\udc00\"}}")),
        ("an unknown escape", format!("{open},\"x\":\"\\x41\"}}")),
        ("a raw tab", format!("{open},\"x\":\"\t\"}}")),
        ("a raw line end", format!("{open},\"x\":\"\n\"}}")),
        ("a member twice", format!("{open},\"scope\":\"orders:admin\"}}")),
        ("a member twice, alike", format!("{open},\"sub\":\"alice\"}}")),
        ("a member twice, escaped", format!("{open},\"\\u0073cope\":\"orders:admin\"}}")),
        ("a member twice, deep", format!("{open},\"x\":[{{\"a\":1,\"a\":1}}]}}")),
        ("issuers twice", format!("{open},\"iss\":\"https://evil.example.com\"}}")),
        ("null", "null".into()),
        ("true", "true".into()),
        ("a number", "1".into()),
        ("a string", format!("{:?}", "x")),
        ("an array", "[]".into()),
        ("cut off", open.into()),
        ("nothing but space", " ".into()),
        ("a form", "iss=x&sub=alice".into()),
        ("YAML", "iss: x".into()),
        ("XML", "<iss/>".into()),
        ("form feed as space", claims.replacen(':', ":\u{c}", 1)),
        ("no-break space", claims.replacen(':', ":\u{a0}", 1)),
    ]
    .into_iter()
    .map(|(what, text)| (what.to_owned(), text.into_bytes()))
    .collect();
    let wide = |big: bool| -> Vec<u8> {
        let bytes = move |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        claims.encode_utf16().flat_map(bytes).collect()
    };
    all.push(("UTF-16BE".to_owned(), wide(true)));
    all.push(("UTF-16LE with its mark".to_owned(), [vec![0xff, 0xfe], wide(false)].concat()));
    let raw = |what: &str, bytes: &[u8]| {
        (what.to_owned(), [format!("{open},\"x\":\"").as_bytes(), bytes, b"\"}"].concat())
    };
    all.push(raw("a stray byte", b"\xff"));
    all.push(raw("an overlong slash", b"\xc0\xaf"));
    all.push(raw("a surrogate in UTF-8", b"\xed\xa0\x80"));
    all.push(raw("beyond Unicode", b"\xf4\x90\x80\x80"));
    all.push(raw("a cut character", b"\xe2\x82"));
    all
}

#[tokio::test]
async fn h20_other_dialects_of_json_are_refused_though_signed() {
    let mut trial = Trial::start().await;
    let good = trial.rig.issuer.token();
    let (header, claims) = (good.header_value().to_string(), good.claims().to_string());
    let source = "RFC 8259, RFC 7515 §4, RFC 7519 §7.2";
    for (what, text) in dialects(&claims) {
        let token = good.mint_bytes(&header, &text);
        trial.judge(&Row::token("H20", format!("payload, {what}"), &token, MALFORMED, source)).await;
    }
    for (what, text) in dialects(&header) {
        // These two write members of the claims, which mean nothing to a header that has them once.
        if what.starts_with("issuers twice")
            || what.starts_with("a member twice")
            || what.contains("without quotes")
        {
            continue;
        }
        let token = good.mint_bytes(&text, &claims);
        trial.judge(&Row::token("H20", format!("header, {what}"), &token, MALFORMED, source)).await;
    }
    for member in [
        "\"alg\":\"none\"",
        "\"alg\":\"ES256\"",
        "\"kid\":\"x\"",
        "\"typ\":\"JWT\"",
        "\"\\u0061lg\":\"none\"",
    ] {
        let twice = format!("{},{member}}}", header.trim_end_matches('}'));
        let token = good.mint_bytes(twice, &claims);
        trial.judge(&Row::token("H20", format!("header, {member} as well"), &token, MALFORMED, source)).await;
    }
    trial.finish().await;
}

#[tokio::test]
async fn h20_the_suite_for_json_is_judged_right() {
    let mut trial = Trial::start().await;
    let good = trial.rig.issuer.token();
    let (header, claims) = (good.header_value().to_string(), good.claims().to_string());
    let (open_header, open_claims) = (header.trim_end_matches('}'), claims.trim_end_matches('}'));
    let within = |open: &str, text: &[u8]| [open.as_bytes(), b",\"x\":", text, b"}"].concat();
    let source = "JSONTestSuite";
    let (mut accepted, mut refused) = (0, 0);
    for line in include_str!("vectors/json_test_suite.txt").lines().filter(|line| !line.starts_with('#')) {
        let (name, text) = line.split_once(' ').unwrap();
        let text = STANDARD.decode(text).unwrap();
        let alone = good.mint_bytes(&header, &text);
        let in_claims = good.mint_bytes(&header, within(open_claims, &text));
        let in_header = good.mint_bytes(within(open_header, &text), &claims);
        let expected = match &name[..2] {
            // Beside what the grammar allows there is what a reader of tokens must not: members that stand twice.
            "y_" if name.contains("duplicated_key") => MALFORMED,
            "y_" => "200 -",
            "n_" => MALFORMED,
            _ => "200 -|401 token_malformed",
        };
        match expected {
            MALFORMED => refused += 1,
            _ => accepted += 1,
        }
        trial.judge(&Row::token("H20", format!("{name} in the claims"), &in_claims, expected, source)).await;
        trial.judge(&Row::token("H20", format!("{name} in the header"), &in_header, expected, source)).await;
        // Alone it is either no object, or one without any claim.
        let expected = "401 token_malformed|401 token_claim_missing";
        trial.judge(&Row::token("H20", format!("{name} as payload"), &alone, expected, source)).await;
    }
    assert!(refused >= 186 && accepted >= 90, "{refused} refused, {accepted} accepted or free");
    trial.finish().await;
}

#[tokio::test]
async fn h24_what_is_remembered_of_one_token_serves_no_other() {
    let mut trial = Trial::start().await;
    let issuer = &trial.rig.issuer;
    let good = issuer.token();
    let minted = good.mint();
    let parts: Vec<String> = minted.split('.').map(str::to_owned).collect();
    let admin = good.clone().scope("orders:read orders:admin").claim("sub", "root").mint();
    let other = issuer.token().claim("sub", "bob").mint();
    let of = |token: &str, part: usize| token.split('.').nth(part).unwrap().to_owned();
    let forged = [
        ("another payload", format!("{}.{}.{}", parts[0], of(&admin, 1), parts[2])),
        ("another's signature", format!("{}.{}.{}", parts[0], parts[1], of(&other, 2))),
        ("another's payload", format!("{}.{}.{}", parts[0], of(&other, 1), parts[2])),
        ("a signature of its own", sign_with(&good, |message| message.iter().take(64).copied().collect())),
    ];
    let prefix = minted[..minted.len() - 1].to_owned();
    let source = "CVE-2026-35030, CVE-2026-71326";
    let expected = "401 signature_invalid|401 token_malformed";
    for (what, token) in forged.iter().map(|(what, token)| (*what, token.clone())).chain([
        ("a letter less", prefix.clone()),
        ("a letter more", format!("{minted}A")),
        ("four letters more", format!("{minted}AAAA")),
        ("upper case", minted.to_uppercase()),
    ]) {
        for _ in 0..3 {
            trial.judge(&Row::token("H24", format!("{what}, before"), &token, expected, source)).await;
        }
        trial.judge(&Row::token("H24", "the good one", &minted, "200 -", source)).await;
        for _ in 0..3 {
            trial.judge(&Row::token("H24", format!("{what}, after"), &token, expected, source)).await;
        }
    }
    // All at once, with a good token that was never seen before.
    let fresh = trial.rig.issuer.token().claim("sub", "carol").mint();
    let (message, _) = fresh.rsplit_once('.').unwrap();
    let mut storm = tokio::task::JoinSet::new();
    for n in 0..64u8 {
        let (address, good) = (trial.rig.gateway.address(), n % 2 == 0);
        let token = if good { fresh.clone() } else { format!("{message}.{}", b64(&[n; 64])) };
        let call = crate::support::Call::new(address, "GET", "/orders/1").token(&token);
        storm.spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..10 {
                let verdict = call.on(&mut client).await.unwrap().verdict();
                assert_eq!(verdict, if good { "200 -" } else { SIGNATURE });
            }
        });
    }
    storm.join_all().await;
    trial.also_refused(SIGNATURE, 32 * 10);
    trial.finish().await;
}
