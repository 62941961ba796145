//! Group M: how a token is presented. One field, one scheme, one token; everything else is nothing, or refused.

use crate::support::{Call, Client, Policy, Rig, ok};
use crate::trial::{Row, Trial};

const MALFORMED: &str = "401 token_malformed";
const MISSING: &str = "401 credential_missing";
const AMBIGUOUS: &str = "400 credential_ambiguous";
const RFC6750: &str = "RFC 6750 §2.1";

#[tokio::test]
async fn m01_two_credentials_are_never_one() {
    let mut trial = Trial::start().await;
    let good = format!("Bearer {}", trial.rig.token());
    let other = format!("Bearer {}", trial.rig.issuer.token().claim("sub", "bob").mint());
    let values =
        ["", " ", "Bearer", "Bearer x", "Basic YTpi", "Negotiate", "DPoP x", "\u{e9}", &good, &other];
    let names = ["Authorization", "authorization", "AUTHORIZATION", "aUTHORIZATION"];
    let source = "CVE-2020-25017, RFC 9110 §5.3";
    for (n, value) in values.iter().enumerate() {
        let (first, second) = (names[n % 4], names[(n + 1) % 4]);
        for (what, fields) in [
            ("behind", format!("{first}: {good}\r\n{second}: {value}\r\n")),
            ("in front", format!("{first}: {value}\r\n{second}: {good}\r\n")),
            ("with fields between", format!("{first}: {good}\r\nX-A: 1\r\nX-B: 2\r\n{second}: {value}\r\n")),
            ("three times", format!("{first}: {good}\r\n{second}: {value}\r\n{first}: {good}\r\n")),
        ] {
            trial.judge(&Row::fields("M01", format!("{value:?} {what}"), fields, AMBIGUOUS, source)).await;
        }
    }
    // The same over HTTP/2, where a field may stand in the table of the connection.
    let forwarded = trial.rig.upstream.requests().len();
    let url = format!("http://{}/orders/1", trial.rig.gateway.address());
    for (first, second) in
        [(&good, &good), (&good, &other), (&good, &"Basic YTpi".into()), (&"Bearer x".into(), &good)]
    {
        let fields = [first, second].map(|value| format!("-Hauthorization: {value}"));
        let args = ["-v", "-H:authority: api.example.com", &fields[0], &fields[1], &url];
        let output = crate::support::process::nghttp(args).await.stdout;
        assert!(output.contains(":status: 400"), "M01 over HTTP/2: {output}");
        trial.also_refused(AMBIGUOUS, 1);
    }
    assert_eq!(trial.rig.upstream.requests().len(), forwarded, "M01 over HTTP/2");
    trial.finish().await;
}

#[tokio::test]
async fn m02_m05_one_space_and_one_token() {
    let mut trial = Trial::start().await;
    let good = trial.rig.token();
    let field = |value: &str| format!("Authorization: {value}\r\n").into_bytes();
    let raw = |bytes: &[u8]| [b"Authorization: Bearer ", bytes, b"\r\n"].concat();
    let mut rows = Vec::new();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        rows.push(Row::fields("M02", scheme, field(&format!("{scheme} {good}")), "200 -", "RFC 9110 §11.1"));
    }
    // Optional white space around a value is not part of it (RFC 9110 §5.5).
    for (what, value) in
        [("spaces around", format!("  Bearer {good}  ")), ("a tab behind", format!("Bearer {good}\t"))]
    {
        rows.push(Row::fields("M02", what, field(&value), "200 -", "RFC 9110 §5.5"));
    }
    for value in [
        "Bearer".to_owned(),
        "Bearer ".into(),
        format!("Bearer  {good}"),
        format!("Bearer\t{good}"),
        format!("Bearer \t{good}"),
        format!("Bearer {good} x"),
        format!("Bearer {good} {good}"),
        format!("Bearer {good}, Bearer {good}"),
        format!("Bearer {good},"),
        format!("Bearer {good};"),
        format!("Bearer ,{good}"),
        format!("Bearer \"{good}\""),
        format!("Bearer '{good}'"),
        format!("Bearer <{good}>"),
        format!("Bearer token=\"{good}\""),
        format!("Bearer token={good}"),
        format!("Bearer realm=x, {good}"),
        format!("Bearer:{good}"),
        format!("Bearer: {good}"),
        format!("Bearer={good}"),
        format!("Bearer/{good}"),
        format!("Bearer Bearer {good}"),
        format!("Bearer {good}="),
        format!("Bearer {good}%20"),
        format!("Bearer %20{good}"),
        "Bearer =".into(),
        "Bearer ...=".into(),
    ] {
        rows.push(Row::fields("M02", format!("{:.40}", value), field(&value), MALFORMED, RFC6750));
    }
    for value in [
        String::new(),
        format!("Bearer{good}"),
        format!("Bear {good}"),
        format!("Bearers {good}"),
        format!("Basic {good}"),
        format!("DPoP {good}"),
        format!("Token {good}"),
        format!("JWT {good}"),
        format!("MAC {good}"),
        format!("X-Bearer {good}"),
        good.clone(),
        "Basic QmVhcmVyOng=".into(),
    ] {
        rows.push(Row::fields("M02", format!("{:.40}", value), field(&value), MISSING, RFC6750));
    }
    for (what, bytes) in [
        ("a byte outside ASCII", [good.as_bytes(), b"\xff"].concat()),
        ("UTF-8", [good.as_bytes(), "é".as_bytes()].concat()),
        ("a no-break space in front", ["\u{a0}".as_bytes(), good.as_bytes()].concat()),
        ("full width dots", good.replace('.', "\u{ff0e}").into_bytes()),
        ("nothing but 0xff", vec![0xff; 20]),
    ] {
        rows.push(Row::fields("M05", what, raw(&bytes), MALFORMED, "CVE-2026-73552"));
    }
    trial.judge_all(rows).await;
    // What HTTP itself does not allow in a value ends the connection with a bare 400.
    for byte in (0..=0x1fu8).filter(|byte| ![b'\t', b'\n', b'\r'].contains(byte)).chain([0x7f]) {
        for value in [[good.as_bytes(), &[byte]].concat(), [&[byte], good.as_bytes()].concat()] {
            let row =
                Row::fields("M05", format!("byte {byte:#x}"), raw(&value), "400 -|closed", "RFC 9110 §5.5");
            trial.judge(&row).await;
        }
    }
    trial.finish().await;
}

#[tokio::test]
async fn m04_m06_a_token_elsewhere_is_none() {
    let rig = Rig::start().await;
    rig.upstream.answers(|request| ok(&request.target));
    let (good, bad) = (rig.token(), "x.y.z");
    let get = |target: &str| rig.gateway.get(target);
    let form = format!("access_token={good}");
    let chunked = format!(
        "POST /orders/1 HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n\
        1\r\nx\r\n0\r\nAuthorization: Bearer {good}\r\n\r\n"
    );
    let mut calls: Vec<(&str, Call)> = [
        "Proxy-Authorization",
        "X-Authorization",
        "X-Forwarded-Authorization",
        "X-Original-Authorization",
        "X-Access-Token",
        "X-Auth-Token",
        "Authentication",
        "Authorization-",
        "HTTP-Authorization",
        "Sec-WebSocket-Protocol",
    ]
    .map(|name| (name, get("/orders/1").header(name, &format!("Bearer {good}"))))
    .into();
    calls.extend([
        ("a cookie", get("/orders/1").header("Cookie", &format!("access_token={good}; token={good}"))),
        ("the query", get(&format!("/orders/1?access_token={good}"))),
        ("the query, upper case", get(&format!("/orders/1?ACCESS_TOKEN={good}"))),
        (
            "an empty field and the query",
            get(&format!("/orders/1?access_token={good}")).header("Authorization", ""),
        ),
        (
            "a form",
            rig.gateway
                .call("POST", "/orders/1")
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(form.clone()),
        ),
        ("the path", get(&format!("/orders/{good}"))),
    ]);
    for (what, call) in calls {
        assert_eq!(call.send().await.verdict(), MISSING, "M06 {what}");
    }
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(chunked).await;
    assert_eq!(client.response_to("POST").await.unwrap().verdict(), MISSING, "M06 trailers");
    // A bad one in the field is not helped by a good one elsewhere, and a good one is not harmed by a bad one.
    let mixed =
        get(&format!("/orders/1?access_token={good}")).header("Authorization", &format!("Bearer {bad}"));
    assert_eq!(mixed.send().await.verdict(), MALFORMED, "M04");
    assert_eq!(rig.upstream.requests().len(), 0);
    let harmless = get(&format!("/orders/1?access_token={bad}")).token(&good).send().await;
    assert_eq!(
        harmless.text(),
        format!("/orders/1?access_token={bad}"),
        "M04: the query is the API's own affair"
    );
    assert_eq!(rig.gateway.metric("scopegate_panics_total", &[]).await, 0.0);
}

#[tokio::test]
async fn m05_a_credential_of_any_size_is_refused_before_it_is_read() {
    let mut trial = Trial::start().await;
    for kib in [17, 31, 32, 33, 64, 256, 1024] {
        for letter in ["a", ".", "=", "A.", " "] {
            let token = letter.repeat(kib * 1024 / letter.len());
            // Above the limit of a header section there is no request to answer: a bare 431, then the end.
            let expected = if kib < 32 { MALFORMED } else { "401 token_malformed|431 -|closed" };
            let fields = format!("Authorization: Bearer {token}x\r\n");
            trial
                .judge(&Row::fields("M05", format!("{kib} KiB of {letter:?}"), fields, expected, RFC6750))
                .await;
        }
    }
    trial.finish().await;
}

#[tokio::test]
async fn m08_only_a_real_preflight_of_an_open_route_needs_no_token() {
    let routes = "
- id: orders
  match: { host: api.example.com, path: '/orders/{*rest}', methods: [GET, POST, OPTIONS] }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
  cors: { origins: [https://app.example.com] }
- id: closed
  match: { host: api.example.com, path: '/closed/{*rest}' }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
";
    let rig = Rig::with(Policy::default().routes(routes)).await;
    let options = |path: &str| rig.gateway.call("OPTIONS", path);
    let asked = |call: Call, method: &str| {
        call.header("Origin", "https://app.example.com").header("Access-Control-Request-Method", method)
    };
    assert_eq!(asked(options("/orders/1"), "POST").send().await.status, 204, "M08: a preflight");
    for (what, call) in [
        ("without CORS", asked(options("/closed/1"), "GET")),
        ("no method asked for", options("/orders/1").header("Origin", "https://app.example.com")),
        ("no origin", options("/orders/1").header("Access-Control-Request-Method", "GET")),
        ("the real method", asked(rig.gateway.call("POST", "/orders/1"), "POST")),
        ("GET as if it were one", asked(rig.gateway.get("/orders/1"), "GET")),
        (
            "overridden",
            asked(rig.gateway.get("/orders/1"), "GET").header("X-HTTP-Method-Override", "OPTIONS"),
        ),
    ] {
        let verdict = call.send().await.verdict();
        assert!(
            ["400 request_invalid", "401 credential_missing", "405 method_not_allowed"]
                .contains(&verdict.as_str()),
            "M08 {what}: {verdict}"
        );
    }
    let lower_case = asked(rig.gateway.call("options", "/closed/1"), "GET");
    assert_eq!(lower_case.send().await.verdict(), "400 request_invalid", "M08 lower case");
    assert_eq!(rig.upstream.requests().len(), 0);
}
