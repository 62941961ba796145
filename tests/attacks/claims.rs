//! Group I: what a token says, signed and all. Nothing is converted, nothing is guessed, nothing is joined.

use serde_json::{Map, Value, json};

use crate::support::{
    AUDIENCE, Behaviour, Call, Gateway, Policy, Rig, TestIssuer, TokenBuilder, Upstream, has_keys, now, ok,
};
use crate::trial::{Row, Trial};

const PERMIT: &str = "200 -";
const INVALID: &str = "401 token_claim_invalid";
const ABSENT: &str = "401 token_claim_missing";
const EXPIRED: &str = "401 token_expired";
const AHEAD: &str = "401 token_not_yet_valid";
const LONG: &str = "401 token_lifetime_excessive";
const MALFORMED: &str = "401 token_malformed";
const SCOPE: &str = "403 scope_missing";
const AUDIENCE_REFUSED: &str = "401 audience_mismatch";
const ISSUER: &str = "401 issuer_unknown";

/// The token with this text as the value of a claim, whatever it is.
fn raw(token: &TokenBuilder, claim: &str, text: &str) -> String {
    let claims = token.clone().without(claim).claims().to_string();
    let payload = format!("{},\"{claim}\":{text}}}", claims.trim_end_matches('}'));
    token.mint_bytes(token.header_value().to_string(), payload)
}

#[tokio::test]
async fn i01_i02_times_are_seconds_in_range() {
    // With a leeway that is long beside what a slow machine takes.
    let mut trial = Trial::with(Policy::default().issuer("leeway: 1m\nkey_refresh: { interval: 1h }")).await;
    let good = trial.rig.issuer.token();
    let soon = now() + 600;
    let (string, float, exponent) = (format!("\"{soon}\""), format!("{soon}.0"), format!("{}e2", soon / 100));
    let fraction = format!("{soon}.9");
    // Of no type that a time has, for each of the claims that are one.
    let never = [
        string.as_str(),
        "1e300",
        "-1e300",
        "true",
        "false",
        "[]",
        "{}",
        "\"\"",
        "\"soon\"",
        "\"1e9\"",
        "\"0x7fffffff\"",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "99999999999999999999999999",
    ];
    let list = format!("[{soon}]");
    let source = "CVE-2026-25537, RFC 7519 §2";
    for claim in ["exp", "nbf", "iat"] {
        for text in never.iter().copied().chain([list.as_str(), "{\"v\":1}"]) {
            let expected = "401 token_claim_invalid|401 token_claim_missing";
            let row =
                Row::token("I02", format!("{claim}: {text}"), &raw(&good, claim, text), expected, source);
            trial.judge(&row).await;
        }
        for text in
            ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "01", "+1", "1_000", "0x1", ".5", "5."]
        {
            let row =
                Row::token("I02", format!("{claim}: {text}"), &raw(&good, claim, text), MALFORMED, source);
            trial.judge(&row).await;
        }
    }
    for (claim, text, expected) in [
        // Fractions and exponents are numbers of seconds too.
        ("exp", float.as_str(), PERMIT),
        ("exp", &exponent, PERMIT),
        ("exp", &fraction, PERMIT),
        ("exp", "1E9", EXPIRED),
        ("exp", "-0.0", EXPIRED),
        ("exp", "1e-300", EXPIRED),
        ("exp", "9.9e9", LONG),
        ("exp", "null", "401 token_claim_missing"),
        ("nbf", &fraction, AHEAD),
        ("nbf", "1e-300", PERMIT),
        ("nbf", "null", PERMIT),
        ("iat", &float, AHEAD),
        ("iat", "1E9", LONG),
        ("iat", "null", "401 token_claim_missing"),
    ] {
        trial
            .judge(&Row::token("I02", format!("{claim}: {text}"), &raw(&good, claim, text), expected, source))
            .await;
    }
    let rows: [(&str, &str, &str); 18] = [
        ("exp", "0", EXPIRED),
        ("exp", "-1", EXPIRED),
        ("exp", "1", EXPIRED),
        ("exp", "-9223372036854775808", EXPIRED),
        ("exp", "9007199254740993", LONG),
        ("exp", "9223372036854775807", LONG),
        ("exp", "4294967296", LONG),
        ("nbf", "0", PERMIT),
        ("nbf", "-1", PERMIT),
        ("nbf", "-9223372036854775808", PERMIT),
        ("nbf", "9223372036854775807", AHEAD),
        ("nbf", "9007199254740993", AHEAD),
        ("iat", "9223372036854775807", AHEAD),
        ("iat", "9007199254740993", AHEAD),
        ("iat", "0", LONG),
        ("iat", "-1", LONG),
        ("iat", "-9223372036854775808", LONG),
        ("iat", "-9223372036854775807", LONG),
    ];
    for (claim, text, expected) in rows {
        trial
            .judge(&Row::token("I02", format!("{claim}: {text}"), &raw(&good, claim, text), expected, source))
            .await;
    }
    let rows = [
        ("I01", "no exp", good.clone().without("exp"), ABSENT),
        ("I01", "no iat", good.clone().without("iat"), ABSENT),
        ("I03", "expired two minutes ago", good.clone().times(-600, -120), EXPIRED),
        ("I03", "expired within the leeway", good.clone().times(-600, -10), PERMIT),
        ("I04", "nbf in five minutes", good.clone().claim("nbf", now() + 300), AHEAD),
        ("I04", "nbf within the leeway", good.clone().claim("nbf", now() + 10), PERMIT),
        ("I05", "iat in five minutes", good.clone().times(300, 600), AHEAD),
        ("I05", "iat within the leeway", good.clone().times(10, 600), PERMIT),
        ("I05", "iat after exp", good.clone().times(600, 60), AHEAD),
        ("I06", "a day", good.clone().times(0, 86_400), PERMIT),
        ("I06", "a day and a second", good.clone().times(0, 86_401), LONG),
        ("I06", "two days, half over", good.clone().times(-86_400, 86_400), LONG),
    ];
    for (id, what, token, expected) in rows {
        trial.judge(&Row::token(id, what, &token.mint(), expected, "RFC 7519 §4.1, RFC 8725 §3")).await;
    }
    trial.finish().await;
}

#[tokio::test]
async fn i08_the_issuer_is_one_string_byte_for_byte() {
    let mut trial = Trial::start().await;
    let url = trial.rig.issuer.url().to_owned();
    let port = url.rsplit(':').next().unwrap().to_owned();
    let texts = [
        format!("{url}/"),
        format!("{url}//"),
        format!("{url}?"),
        format!("{url}#"),
        format!("{url} "),
        format!(" {url}"),
        format!("{url}\u{0}"),
        format!("{url}\n"),
        format!("{url}.evil.example.com"),
        format!("{url}@evil.example.com"),
        format!("{url}/../x"),
        format!("{url}%2f"),
        url.replace("http:", "https:"),
        url.replace("http:", "HTTP:"),
        url.replace("http://", ""),
        url.replace("127.0.0.1", "localhost"),
        url.replace("127.0.0.1", "127.0.0.2"),
        url.replace("127.0.0.1", "127.1"),
        url.replace("127.0.0.1", "2130706433"),
        url.replace("127.0.0.1", "[::ffff:127.0.0.1]"),
        url.replace("127.0.0.1", "user@127.0.0.1"),
        url.replace('1', "\u{ff11}"),
        url.replace("http", "\u{29}ttp"),
        url.to_uppercase(),
        url[..url.len() - 1].to_owned(),
        format!("http://127.0.0.1:0{port}"),
        "corp".to_owned(),
        "*".to_owned(),
        String::new(),
        "https://evil.example.com".to_owned(),
        format!("https://evil.example.com/?{url}"),
    ];
    let source = "RFC 8725 §3.8, RFC 7519 §4.1.1";
    for text in texts {
        let token = trial.rig.issuer.token().claim("iss", text.clone()).mint();
        trial.judge(&Row::token("I08", format!("iss {text:?}"), &token, ISSUER, source)).await;
    }
    let others =
        [json!([url]), json!([url, url]), json!({"url": url}), json!(7), json!(true), Value::Null, json!([])];
    for value in others {
        let token = trial.rig.issuer.token().claim("iss", value.clone()).mint();
        let expected = "401 token_claim_invalid|401 token_claim_missing";
        trial.judge(&Row::token("I08", format!("iss {value}"), &token, expected, source)).await;
    }
    let none = trial.rig.issuer.token().without("iss").mint();
    trial.judge(&Row::token("I08", "no iss", &none, ABSENT, source)).await;
    trial.finish().await;
}

#[tokio::test]
async fn i07_the_audience_is_this_api_byte_for_byte() {
    let mut trial = Trial::start().await;
    let source = "RFC 7519 §4.1.3, RFC 9068 §4";
    for value in [
        json!(AUDIENCE),
        json!([AUDIENCE]),
        json!(["https://other.example.com", AUDIENCE]),
        json!([AUDIENCE, AUDIENCE]),
    ] {
        let token = trial.rig.issuer.token().claim("aud", value.clone()).mint();
        trial.judge(&Row::token("I07", format!("aud {value}"), &token, PERMIT, source)).await;
    }
    for text in [
        format!("{AUDIENCE}/"),
        format!("{AUDIENCE} "),
        AUDIENCE.to_uppercase(),
        AUDIENCE.replace("https", "http"),
        AUDIENCE.replace("api.", ""),
        format!("{AUDIENCE}.evil.example.com"),
        format!("{AUDIENCE}:443"),
        format!("x {AUDIENCE}"),
        format!("{AUDIENCE},x"),
        "*".into(),
        "api".into(),
        "mobile-app".into(),
        "account".into(),
    ] {
        for value in [json!(text), json!([text]), json!([text, "x"])] {
            let token = trial.rig.issuer.token().claim("aud", value.clone()).mint();
            trial.judge(&Row::token("I07", format!("aud {value}"), &token, AUDIENCE_REFUSED, source)).await;
        }
    }
    for value in [
        json!(""),
        json!([]),
        json!([""]),
        json!([AUDIENCE, ""]),
        json!([AUDIENCE, 7]),
        json!([AUDIENCE, null]),
        json!([[AUDIENCE]]),
        json!({"aud": AUDIENCE}),
        json!(7),
        json!(true),
        Value::Null,
    ] {
        let token = trial.rig.issuer.token().claim("aud", value.clone()).mint();
        let expected = "401 token_claim_invalid|401 token_claim_missing";
        trial.judge(&Row::token("I07", format!("aud {value}"), &token, expected, source)).await;
    }
    trial.finish().await;
}

#[tokio::test]
async fn i09_i10_scopes_are_whole_words_between_spaces() {
    let mut trial = Trial::start().await;
    let source = "RFC 6749 §3.3, RFC 8693 §4.2";
    // What stands in `scope` and in `scp`; `None` is a claim that is not there.
    let rows: Vec<(Option<Value>, Option<Value>, &str)> = vec![
        (Some(json!("orders:read")), None, PERMIT),
        (Some(json!("a orders:read b")), None, PERMIT),
        (Some(json!(" orders:read")), None, PERMIT),
        (Some(json!("orders:read ")), None, PERMIT),
        (Some(json!("a  orders:read")), None, PERMIT),
        (Some(json!(["orders:read"])), None, PERMIT),
        (Some(json!(["a", "orders:read"])), None, PERMIT),
        (None, Some(json!("orders:read")), PERMIT),
        (None, Some(json!(["orders:read"])), PERMIT),
        // Near it, and not it.
        (Some(json!("orders:read,orders:write")), None, SCOPE),
        (Some(json!("orders:readonly")), None, SCOPE),
        (Some(json!("orders:read:all")), None, SCOPE),
        (Some(json!("orders:rea")), None, SCOPE),
        (Some(json!("xorders:read")), None, SCOPE),
        (Some(json!("ORDERS:READ")), None, SCOPE),
        (Some(json!("orders:Read")), None, SCOPE),
        (Some(json!("orders:*")), None, SCOPE),
        (Some(json!("orders")), None, SCOPE),
        (Some(json!("orders:")), None, SCOPE),
        (Some(json!("*")), None, SCOPE),
        (Some(json!("orders%3Aread")), None, SCOPE),
        (Some(json!("orders+read")), None, SCOPE),
        (Some(json!("orders:read;")), None, SCOPE),
        (Some(json!("[orders:read]")), None, SCOPE),
        (Some(json!("")), None, SCOPE),
        (Some(json!(" ")), None, SCOPE),
        (Some(json!([])), None, SCOPE),
        (None, None, SCOPE),
        // No scope-token at all: another reader could make two of them.
        (Some(json!("orders:read\torders:write")), None, INVALID),
        (Some(json!("orders:read\norders:write")), None, INVALID),
        (Some(json!("orders:read\r\nX-Scopes: admin")), None, INVALID),
        (Some(json!("a\u{a0}orders:read")), None, INVALID),
        (Some(json!("a\u{2003}orders:read")), None, INVALID),
        (Some(json!("a\u{b}orders:read")), None, INVALID),
        (Some(json!("orders:read\u{0}")), None, INVALID),
        (Some(json!("orders:read\u{200b}")), None, INVALID),
        (Some(json!("ｏrders:read")), None, INVALID),
        (Some(json!("\"orders:read\"")), None, INVALID),
        (Some(json!("orders\\:read")), None, INVALID),
        // An item that is no scope-token grants nothing, and the others count.
        (Some(json!(["orders:read admin"])), None, SCOPE),
        (Some(json!(["orders:read", "a b"])), None, PERMIT),
        (Some(json!(["orders:read", ""])), None, PERMIT),
        (Some(json!(["orders:read", null])), None, INVALID),
        (Some(json!(["orders:read", 1])), None, INVALID),
        (Some(json!([["orders:read"]])), None, INVALID),
        (Some(json!({"orders:read": true})), None, INVALID),
        (Some(json!(1)), None, INVALID),
        (Some(json!(true)), None, INVALID),
        (Some(Value::Null), None, SCOPE),
        // Both, at odds: the first that is there counts alone.
        (Some(json!("orders:write")), Some(json!("orders:read")), SCOPE),
        (Some(json!("orders:write")), Some(json!(["orders:read"])), SCOPE),
        (Some(json!("")), Some(json!("orders:read")), SCOPE),
        (Some(json!([])), Some(json!("orders:read")), SCOPE),
        (Some(Value::Null), Some(json!("orders:read")), PERMIT),
        (Some(json!(1)), Some(json!("orders:read")), INVALID),
        (Some(json!("orders:read")), Some(json!("orders:write")), PERMIT),
        (Some(json!("orders:read")), Some(json!(7)), PERMIT),
    ];
    for (scope, scp, expected) in rows {
        let mut token = trial.rig.issuer.token().without("scope");
        for (name, value) in [("scope", &scope), ("scp", &scp)] {
            if let Some(value) = value {
                token = token.claim(name, value.clone());
            }
        }
        // Claims that only look like scopes grant nothing.
        token = token
            .claim("scopes", "orders:read")
            .claim("permissions", json!(["orders:read"]))
            .claim("roles", "orders:read");
        let what = format!("scope {scope:?}, scp {scp:?}");
        trial.judge(&Row::token("I09", what, &token.mint(), expected, source)).await;
    }
    trial.finish().await;
}

#[tokio::test]
async fn i12_all_that_is_needed_is_named_at_once() {
    let all = "{ issuers: [corp], audience: https://api.example.com, scopes: [orders:read, orders:write] }";
    let rig = Rig::with(Policy::default().require(all)).await;
    for (scope, verdict) in [
        ("orders:read", SCOPE),
        ("orders:write", SCOPE),
        ("", SCOPE),
        ("orders:readorders:write", SCOPE),
        ("orders:write orders:read", PERMIT),
    ] {
        let token = rig.issuer.token().scope(scope).mint();
        let response = rig.gateway.get("/orders/1").token(&token).send().await;
        assert_eq!(response.verdict(), verdict, "I12 {scope:?}");
        if verdict == SCOPE {
            assert!(
                response.challenge().contains(r#"scope="orders:read orders:write""#),
                "{}",
                response.challenge()
            );
        }
    }
    assert_eq!(rig.upstream.requests().len(), 1);
}

/// A second issuer with keys of its own under the same names, and a route for each and for both.
async fn two_issuers() -> (Rig, TestIssuer) {
    let (issuer, partner) = (TestIssuer::start().await, TestIssuer::start().await);
    partner.rotate();
    let mut keys: Value = serde_json::from_str(&partner.jwks()).unwrap();
    for key in keys["keys"].as_array_mut().unwrap() {
        key["kid"] = key["kid"].as_str().unwrap().replace("-2", "-1").into();
    }
    partner.behave(Behaviour::Jwks(keys.to_string()));
    let route = |id: &str, issuers: &str| {
        format!(
            "
- id: {id}
  match: {{ path: '/{id}' }}
  require: {{ issuers: [{issuers}], audience: {AUDIENCE}, scopes: [orders:read] }}
  upstream: orders
  forward: {{ identity_headers: {{ X-User: sub, X-Issuer: issuer }} }}
"
        )
    };
    let routes = [route("ours", "corp"), route("theirs", "partner"), route("both", "corp, partner")].concat();
    let other = format!(
        "partner: {{ issuer: '{}', keys: {{ discovery: true }}, algorithms: [ES256] }}",
        partner.url()
    );
    let upstream = Upstream::start(|_| ok("hello")).await;
    let text = Policy::default().issuers(&other).routes(&routes).render(issuer.url(), &upstream.url());
    let gateway = Gateway::start(&text).await;
    has_keys(&gateway).await;
    (Rig { issuer, upstream, gateway }, partner)
}

#[tokio::test]
async fn i13_j09_issuers_are_never_mixed_up() {
    let (rig, partner) = two_issuers().await;
    let theirs = || partner.token().header("kid", "p256-1");
    let rows = [
        ("/ours", rig.token(), PERMIT),
        ("/theirs", theirs().mint(), PERMIT),
        ("/both", rig.token(), PERMIT),
        ("/both", theirs().mint(), PERMIT),
        ("/ours", theirs().mint(), "401 issuer_refused"),
        ("/theirs", rig.token(), "401 issuer_refused"),
        // Each signs in the name of the other, under a key id that both publish.
        ("/both", theirs().claim("iss", rig.issuer.url()).mint(), "401 signature_invalid"),
        ("/both", rig.issuer.token().claim("iss", partner.url()).mint(), "401 signature_invalid"),
        // An algorithm that only one of them may use.
        (
            "/both",
            partner.token().header("kid", "rsa-1").alg(crate::support::Alg::Rs256).mint(),
            "401 algorithm_refused",
        ),
    ];
    for (n, (path, token, verdict)) in rows.into_iter().enumerate() {
        let response = rig.gateway.get(path).token(&token).send().await;
        assert_eq!(response.verdict(), verdict, "I13 {path}");
        if verdict == PERMIT {
            let sent = rig.upstream.last();
            // One name at two issuers is two callers: the issuer goes with it.
            let issuer = if n % 2 == 0 { rig.issuer.url() } else { partner.url() };
            assert_eq!(
                (sent.header("x-user"), sent.header("x-issuer")),
                (Some("alice"), Some(issuer)),
                "{path}"
            );
        }
    }
    assert_eq!(rig.upstream.requests().len(), 4);
}

/// What may be wrong with a credential, each with its verdict.
fn bad_credentials(rig: &Rig) -> Vec<(&'static str, String, &'static str)> {
    let token = || rig.issuer.token();
    let bearer = |token: String| format!("Bearer {token}");
    let mut all = vec![
        ("empty", String::new(), "401 credential_missing"),
        ("another scheme", "Basic YTpi".into(), "401 credential_missing"),
        ("no token", "Bearer".into(), MALFORMED),
        ("an opaque token", bearer("abc".into()), "401 token_opaque"),
        ("garbage", bearer("a.b.c".into()), MALFORMED),
    ];
    let tokens = [
        ("expired", token().times(-700, -100), EXPIRED),
        ("an unknown issuer", token().claim("iss", "https://evil.example.com"), ISSUER),
        ("an unknown key", token().header("kid", "nobody"), "401 key_unknown"),
        ("another algorithm", token().header("alg", "HS256"), "401 algorithm_refused"),
        ("an ID token", token().header("typ", "JWT"), "401 token_type_refused"),
        ("another audience", token().claim("aud", "x"), AUDIENCE_REFUSED),
    ];
    all.extend(tokens.into_iter().map(|(what, token, verdict)| (what, bearer(token.mint()), verdict)));
    all.push(("forged", bearer(token().mint_with_signature(&[7; 64])), "401 signature_invalid"));
    all
}

#[tokio::test]
async fn i14_a_bad_token_is_never_no_token() {
    let routes = "
- id: watched
  match: { path: '/watched' }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [orders:read] }
  mode: shadow
  upstream: orders
  forward: { identity_headers: { X-User: sub } }
- id: anyone
  match: { path: '/anyone' }
  require: { issuers: [corp], audience: https://api.example.com, scopes: any_authenticated }
  upstream: orders
- id: open
  match: { path: '/open' }
  public: true
  upstream: orders
";
    let rig = Rig::with(Policy::default().routes(routes)).await;
    assert_eq!(rig.get("/watched").send().await.verdict(), PERMIT);
    rig.upstream.forget();
    for (what, credential, verdict) in bad_credentials(&rig) {
        let get = |path: &str| rig.gateway.get(path).header("Authorization", &credential);
        let anyone = get("/anyone").send().await.verdict();
        assert_eq!(anyone, verdict, "I14 {what}: any caller is not every caller");
        let watched = get("/watched").send().await.verdict();
        // Shadow mode lets refusals of authorization through, and nothing of authentication.
        let expected = if verdict == AUDIENCE_REFUSED { PERMIT } else { verdict };
        assert_eq!(watched, expected, "I14 {what}: in shadow mode");
        // A public route asks nobody who they are: it neither believes the token nor hands it on.
        let open = get("/open").header("X-User", "root").send().await.verdict();
        assert_eq!(open, PERMIT, "I14 {what}: on a public route");
        let sent = rig.upstream.last();
        assert!(!sent.fields.has("authorization") && !sent.fields.has("x-user"), "I14 {what}: {sent:?}");
    }
}

#[tokio::test]
async fn i16_names_are_compared_whole_and_absent_ones_are_nobody() {
    let only = "{ issuers: [corp], audience: https://api.example.com, scopes: [orders:read], clients: [mobile-app], subjects: [alice] }";
    let mut trial = Trial::with(Policy::default().require(only)).await;
    let source = "RFC 9068 §2.2, D01";
    let good = trial.rig.issuer.token();
    let names = [
        "Alice",
        "ALICE",
        "alice ",
        " alice",
        "alic",
        "alicee",
        "alice\u{0}",
        "a*",
        "*",
        "álice",
        "alice,bob",
        "\u{430}lice",
    ];
    let mut rows: Vec<(String, TokenBuilder, &str)> = names
        .iter()
        .map(|name| (format!("sub {name:?}"), good.clone().claim("sub", *name), "403 subject_refused"))
        .collect();
    for name in ["Mobile-App", "mobile-app ", "mobile", "mobile-app2", "*", "mobile_app"] {
        rows.push((format!("client {name:?}"), good.clone().claim("client_id", name), "403 client_refused"));
    }
    rows.push((
        "azp beside client_id".into(),
        good.clone().claim("client_id", "x").claim("azp", "mobile-app"),
        "403 client_refused",
    ));
    for claim in ["sub", "client_id", "jti"] {
        rows.push((format!("no {claim}"), good.clone().without(claim), ABSENT));
        rows.push((format!("{claim} empty"), good.clone().claim(claim, ""), "401 token_claim_missing"));
        for value in [json!(7), json!(["alice"]), json!({}), json!(true)] {
            rows.push((format!("{claim} {value}"), good.clone().claim(claim, value), INVALID));
        }
        rows.push((
            format!("{claim} null"),
            good.clone().claim(claim, Value::Null),
            "401 token_claim_missing",
        ));
    }
    for (what, token, expected) in rows {
        trial.judge(&Row::token("I16", what, &token.mint(), expected, source)).await;
    }
    trial.finish().await;
}

/// Makes another token of one.
type Change = fn(TokenBuilder) -> TokenBuilder;

/// All of an answer but what is new in each.
fn told(response: &crate::support::Response) -> (u16, Vec<(String, String)>, Map<String, Value>) {
    let passing = ["x-request-id", "date", "content-length"];
    let passes = |name: &str| passing.iter().any(|passing| passing.eq_ignore_ascii_case(name));
    let fields = response.fields.0.iter().filter(|(name, _)| !passes(name)).cloned().collect();
    let Value::Object(mut problem) = response.json() else { panic!("{response:?}") };
    problem.remove("request_id");
    (response.status, fields, problem)
}

/// An unknown issuer, an unknown key and a wrong signature differ in the name of the reason alone, which is made of what is
/// public anyway: the list of issuers (RFC 9728) and their key sets. What is known only to who holds a good token is not told
/// before a signature has verified.
#[tokio::test]
async fn i17_a_refusal_before_the_signature_tells_nothing_of_the_token() {
    let rig =
        Rig::with(Policy::default().issuer("key_refresh: { interval: 1h, unknown_kid_cooldown: 1h }")).await;
    assert_eq!(rig.get("/orders/1").send().await.verdict(), PERMIT);
    let token = || rig.issuer.token();
    let send = |token: String| {
        let call = rig.gateway.get("/orders/1").token(&token);
        async move { call.send().await }
    };
    let answers = [
        send(token().claim("iss", "https://evil.example.com").mint()).await,
        send(token().header("kid", "nobody").mint()).await,
        send(token().mint_with_signature(&[7; 64])).await,
        send(token().header("alg", "HS256").mint()).await,
    ];
    let plain = |answer: &crate::support::Response| {
        let (status, fields, mut problem) = told(answer);
        assert!(problem.remove("reason").is_some() && problem.remove("type").is_some());
        (status, fields, problem)
    };
    for answer in &answers {
        assert_eq!(plain(answer), plain(&answers[0]), "I17");
        let text = answer.text() + answer.challenge();
        assert!(
            !text.contains(rig.issuer.url()) && !text.contains("kid") && !text.contains("p256"),
            "I17: {text}"
        );
    }
    // With a wrong signature the claims do not matter, good or bad: nobody learns whether they would have been enough.
    let claims: [(&str, Change); 7] = [
        ("good", |token| token),
        ("expired", |token| token.times(-700, -100)),
        ("for another", |token| token.claim("aud", "x")),
        ("no scope", |token| token.without("scope")),
        ("of the wrong type", |token| token.claim("exp", "soon")),
        ("of another subject", |token| token.claim("sub", "root")),
        ("another tenant", |token| token.claim("tenant", "globex")),
    ];
    for signature in [vec![7; 64], vec![7; 63], vec![0; 64]] {
        for (what, change) in claims {
            let answer = send(change(token()).mint_with_signature(&signature)).await;
            assert_eq!(told(&answer), told(&answers[2]), "I17 {what}, a wrong signature");
        }
    }
    for (what, change) in claims {
        let answer = send(change(token().header("kid", "nobody")).mint()).await;
        assert_eq!(told(&answer), told(&answers[1]), "I17 {what}, an unknown key");
    }
    let call: Call = rig.get("/orders/1");
    assert_eq!(call.send().await.verdict(), PERMIT);
}
