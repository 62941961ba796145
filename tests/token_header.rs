//! Tokens in a field of their own (`token_header`): they count in that field alone, and no API sees the field unasked.
#![cfg(test)]

mod support;

use support::{Call, Client, Gateway, Policy, Reply, TestIssuer, Upstream, has_keys, ok};

const FIELD: &str = "Cf-Access-Jwt-Assertion";

const ROUTES: &str = "
- id: orders
  match: { host: api.example.com, path: '/orders/{*rest}' }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
- id: edge
  match: { host: api.example.com, path: '/edge/{*rest}', methods: [GET, POST] }
  require: { issuers: [edge], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
  forward: { identity_headers: { X-User: sub } }
  cors: { origins: [https://app.example.com], headers: [X-Trace] }
- id: both
  match: { host: api.example.com, path: '/both/{*rest}' }
  require: { issuers: [corp, edge], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
- id: handed-on
  match: { host: api.example.com, path: '/handed-on/{*rest}' }
  require: { issuers: [corp, edge], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
  forward: { forward_token: true }
- id: open
  match: { host: api.example.com, path: '/open/{*rest}' }
  public: true
  upstream: orders
  forward: { forward_token: true }
- id: status
  match: { host: api.example.com, path: /status }
  public: true
  upstream: orders
";

/// Two issuers: tokens of `corp` come in `Authorization`, those of `edge` in [`FIELD`].
struct World {
    corp: TestIssuer,
    edge: TestIssuer,
    upstream: Upstream,
    gateway: Gateway,
}

fn policy(edge: &TestIssuer, more: &str) -> Policy {
    let issuer = format!(
        "edge:\n  issuer: {}\n  keys: {{ discovery: true }}\n  algorithms: [ES256]\n  token_header: {FIELD}\n{more}",
        edge.url()
    );
    Policy::default().routes(ROUTES).issuers(&issuer)
}

impl World {
    async fn start() -> Self {
        let (corp, edge) = (TestIssuer::start().await, TestIssuer::with_own_keys().await);
        let upstream = Upstream::start(|_| ok("hello")).await;
        let gateway = Gateway::start(&policy(&edge, "").render(corp.url(), &upstream.url())).await;
        has_keys(&gateway).await;
        Self { corp, edge, upstream, gateway }
    }

    /// A GET with these tokens: one in `Authorization`, one in the field.
    fn get(&self, path: &str, authorization: Option<&str>, field: Option<&str>) -> Call {
        let mut call = self.gateway.get(path);
        if let Some(token) = authorization {
            call = call.token(token);
        }
        if let Some(token) = field {
            call = call.header(FIELD, token);
        }
        call
    }
}

#[tokio::test]
async fn a_token_counts_in_the_field_of_its_issuer_alone() {
    let world = World::start().await;
    let (corp, edge) = (world.corp.token().mint(), world.edge.token().mint());
    let (corp, edge) = (Some(&*corp), Some(&*edge));
    // Twice, so that the second of each row is about a token that is known.
    for round in ["new", "known"] {
        for (path, authorization, field, verdict, why) in [
            ("/orders/1", corp, None, "200 -", "where it belongs"),
            ("/orders/1", None, corp, "401 credential_missing", "the route reads Authorization alone"),
            ("/orders/1", edge, None, "401 credential_misplaced", "of the other issuer"),
            ("/orders/1", None, edge, "401 credential_missing", "the route reads Authorization alone"),
            ("/orders/1", corp, edge, "200 -", "the field does not count here"),
            ("/edge/1", None, edge, "200 -", "where it belongs"),
            ("/edge/1", edge, None, "401 credential_missing", "the route does not read Authorization"),
            ("/edge/1", None, corp, "401 credential_misplaced", "of the other issuer"),
            ("/edge/1", corp, edge, "200 -", "Authorization does not count here"),
            ("/edge/1", None, None, "401 credential_missing", "no token"),
            ("/both/1", corp, None, "200 -", "where it belongs"),
            ("/both/1", None, edge, "200 -", "where it belongs"),
            ("/both/1", edge, None, "401 credential_misplaced", "in the other issuer's place"),
            ("/both/1", None, corp, "401 credential_misplaced", "in the other issuer's place"),
            ("/both/1", corp, edge, "400 credential_ambiguous", "both count"),
            ("/both/1", edge, corp, "400 credential_ambiguous", "both count"),
            ("/both/1", edge, edge, "400 credential_ambiguous", "one token in two places"),
            ("/both/1", None, None, "401 credential_missing", "no token"),
        ] {
            let response = world.get(path, authorization, field).send().await;
            assert_eq!(response.verdict(), verdict, "{round} {path}: {why}");
            if response.status == 401 {
                assert!(response.challenge().starts_with("Bearer "), "{path}: {why}");
            }
        }
    }
    assert_eq!(world.corp.jwks_requests() + world.edge.jwks_requests(), 2, "no refusal asked for keys");
}

#[tokio::test]
async fn the_log_says_where_the_token_should_have_been() {
    let world = World::start().await;
    let (corp, edge) = (world.corp.token().mint(), world.edge.token().mint());
    let cases = [
        (
            world.get("/both/1", Some(&edge), None),
            "expected tokens of issuer `edge` in `cf-access-jwt-assertion`",
        ),
        (
            world.get("/edge/1", None, Some(&corp)),
            "expected tokens of issuer `corp` in Authorization, found one",
        ),
        (
            world.get("/both/1", Some(&corp), Some(&edge)),
            "in both Authorization and `cf-access-jwt-assertion`",
        ),
        (world.get("/edge/1", None, None), "the request has no `cf-access-jwt-assertion` field"),
    ];
    for (call, cause) in cases {
        let refused = call.send().await;
        let id = refused.header("x-request-id").unwrap().to_owned();
        let line = world.gateway.wait_for_log(|line| line["request_id"] == *id).await;
        assert!(line["cause"].as_str().unwrap().contains(cause), "{line}");
        let said = format!("{line}{}", refused.text());
        assert!(!said.contains(&corp) && !said.contains(&edge), "{said}");
    }
    assert_eq!(world.upstream.requests().len(), 0);
}

#[tokio::test]
async fn doubtful_values_of_the_field_are_refused() {
    let world = World::start().await;
    let token = world.edge.token().mint();
    let once = |value: &[u8]| [FIELD.as_bytes(), b": ", value, b"\r\n"].concat();
    let twice =
        |first: &str, second: &str| format!("{FIELD}: {first}\r\ncf-access-jwt-assertion: {second}\r\n");
    for (fields, verdict, why) in [
        (once(token.as_bytes()), "200 -", "one token"),
        (once(format!(" {token}\t").as_bytes()), "200 -", "white space around a value is not part of it"),
        (format!("cF-aCCESS-jwt-assertion: {token}\r\n").into(), "200 -", "another letter case"),
        (once(b""), "401 token_malformed", "an empty field"),
        (once(format!("Bearer {token}").as_bytes()), "401 token_malformed", "a scheme"),
        (once(format!("{token},").as_bytes()), "401 token_malformed", "a comma"),
        (once(format!("{token}, {token}").as_bytes()), "401 token_malformed", "a list"),
        (once(format!("\"{token}\"").as_bytes()), "401 token_malformed", "quotes"),
        (once(&[token.as_bytes(), b"\xff"].concat()), "401 token_malformed", "an octet beyond ASCII"),
        (once(format!("{token}x").as_bytes()), "401 signature_invalid|401 token_malformed", "altered"),
        (once("a".repeat(17 << 10).as_bytes()), "401 token_malformed", "longer than `limits.token`"),
        (once("a".repeat(1 << 20).as_bytes()), "431 -", "a megabyte"),
        (once(&[token.as_bytes(), b"\0"].concat()), "400 -", "NUL"),
        (twice(&token, &token).into(), "400 credential_ambiguous", "twice"),
        (twice(&token, "").into(), "400 credential_ambiguous", "an empty one behind"),
        (twice("", &token).into(), "400 credential_ambiguous", "an empty one in front"),
        (format!("cf_access_jwt_assertion: {token}\r\n").into(), "401 credential_missing", "`_` for `-`"),
        (format!("cf-access-jwt-assertion : {token}\r\n").into(), "400 -", "a space before the colon"),
        (format!("cf-access-jwt-assertion:\r\n {token}\r\n").into(), "400 -", "a folded field"),
        (format!("X-{FIELD}: {token}\r\n").into(), "401 credential_missing", "another field"),
    ] {
        let served = world.upstream.requests().len();
        let send = async |version: &str| {
            let mut client = Client::connect(world.gateway.address()).await;
            let head = format!("GET /edge/1 HTTP/{version}\r\nHost: api.example.com\r\n");
            client.send([head.as_bytes(), &fields, b"\r\n"].concat()).await;
            client
        };
        let response = send("1.1").await.response_to("GET").await.expect("a response");
        let seen = response.verdict();
        assert!(verdict.split('|').any(|verdict| seen == verdict), "{why}: {seen}");
        // The same to a client of HTTP/1.0.
        let head = send("1.0").await.until("\r\n").await;
        assert_eq!(head.split(' ').nth(1), Some(&*response.status.to_string()), "{why}: {head}");
        let good = usize::from(response.status == 200);
        assert_eq!(world.upstream.requests().len() - served, 2 * good, "{why}");
    }
    // In a trailer it comes too late to be a credential, and does not go on.
    let mut client = Client::connect(world.gateway.address()).await;
    for (path, extra, verdict) in
        [("/edge/1", "", "401 credential_missing"), ("/edge/1", &*format!("{FIELD}: {token}\r\n"), "200 -")]
    {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\nTrailer: {FIELD}\r\n{extra}\r\n\
            1\r\nx\r\n0\r\n{FIELD}: {token}\r\n\r\n"
        );
        client.send(request).await;
        assert_eq!(client.response_to("POST").await.unwrap().verdict(), verdict);
        client = Client::connect(world.gateway.address()).await;
    }
    let bytes = world.upstream.bytes().concat();
    assert!(!String::from_utf8_lossy(&bytes).contains(&token), "the token reached the API");
}

#[tokio::test]
async fn the_field_reaches_no_api_unasked() {
    let world = World::start().await;
    let (corp, edge) = (world.corp.token().mint(), world.edge.token().mint());
    let (corp, edge) = (Some(&*corp), Some(&*edge));
    let bearer = corp.map(|token| format!("Bearer {token}"));
    let authorization = Some("authorization").zip(bearer.as_deref());
    let field = Some("cf-access-jwt-assertion").zip(edge);
    for (path, sent, goes_on, why) in [
        ("/orders/1", (corp, edge), None, "another issuer's field"),
        ("/edge/1", (None, edge), None, "the token"),
        ("/edge/1", (corp, edge), None, "the token, and what is none here"),
        ("/status", (corp, edge), None, "a public route"),
        ("/open/1", (corp, edge), authorization, "a public route that hands Authorization on"),
        ("/open/1", (None, edge), None, "a public route that hands Authorization on"),
        ("/handed-on/1", (None, edge), field, "the route hands the token on"),
        ("/handed-on/1", (corp, None), authorization, "the route hands the token on"),
    ] {
        let response = world.get(path, sent.0, sent.1).header("cf_access_jwt_assertion", "x").send().await;
        assert_eq!(response.verdict(), "200 -", "{path}: {why}");
        let request = world.upstream.last();
        for name in ["authorization", "cf-access-jwt-assertion", "cf_access_jwt_assertion"] {
            let expected = goes_on.filter(|(known, _)| *known == name).map(|(_, value)| value);
            assert_eq!(request.header(name), expected, "{path}: {why}");
        }
    }
    // `Connection` cannot keep the field from the gateway, nor from being removed.
    let call = world.get("/edge/1", None, edge).header("Connection", "cf-access-jwt-assertion");
    assert_eq!(call.send().await.verdict(), "200 -");
    assert_eq!(world.upstream.last().header("x-user"), Some("alice"));
    assert!(world.upstream.last().header("cf-access-jwt-assertion").is_none());
}

#[tokio::test]
async fn the_field_works_over_http2() {
    let world = World::start().await;
    let token = world.edge.token().mint();
    let url = format!("http://{}/edge/1", world.gateway.address());
    let field = format!("-Hcf-access-jwt-assertion: {token}");
    for (fields, status) in [(vec![&*field], "200"), (vec![&*field, &*field], "400"), (vec![], "401")] {
        let mut args = vec!["-v", "-H:authority: api.example.com"];
        args.extend(&fields);
        args.push(&url);
        let output = support::process::nghttp(args).await.stdout;
        assert!(output.contains(&format!(":status: {status}")), "{fields:?}: {output}");
    }
    assert!(world.upstream.request().header("cf-access-jwt-assertion").is_none());
}

#[tokio::test]
async fn responses_to_such_tokens_are_private() {
    let world = World::start().await;
    let (corp, edge) = (world.corp.token().mint(), world.edge.token().mint());
    for (path, sent, of_upstream, expected) in [
        ("/edge/1", (None, Some(&*edge)), "", vec!["private"]),
        ("/edge/1", (None, Some(&*edge)), "Cache-Control: max-age=9\r\n", vec!["max-age=9", "private"]),
        ("/edge/1", (None, Some(&*edge)), "Cache-Control: public\r\n", vec!["public"]),
        ("/orders/1", (Some(&*corp), None), "", vec![]),
        ("/status", (None, None), "", vec![]),
    ] {
        world.upstream.answers(move |_| Reply::with(200, of_upstream, "hello"));
        let response = world.get(path, sent.0, sent.1).send().await;
        assert_eq!(response.fields.all("cache-control"), expected, "{path} {of_upstream:?}");
    }
}

#[tokio::test]
async fn clients_are_told_where_tokens_are_read() {
    let world = World::start().await;
    let preflight = |path: &str| {
        let call = world.gateway.call("OPTIONS", path).header("Origin", "https://app.example.com");
        call.header("Access-Control-Request-Method", "GET")
            .header("Access-Control-Request-Headers", "cf-access-jwt-assertion")
    };
    let response = preflight("/edge/1").send().await;
    let allowed = response.header("access-control-allow-headers");
    assert_eq!(allowed, Some("authorization, content-type, cf-access-jwt-assertion, x-trace"));

    // The metadata is for clients that ask an issuer and send `Authorization`.
    let metadata =
        || async { world.gateway.get("/.well-known/oauth-protected-resource").send().await.json() };
    let document = metadata().await;
    assert_eq!(document["authorization_servers"], serde_json::json!([world.corp.url()]));
    assert_eq!(document["bearer_methods_supported"], serde_json::json!(["header"]));
    let only = policy(&world.edge, "").routes(
        "
- id: edge
  match: { host: api.example.com, path: '/edge/{*rest}' }
  require: { issuers: [edge], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
",
    );
    world.gateway.replace_config(&only.render(world.corp.url(), &world.upstream.url()));
    world.gateway.wait_loaded().await;
    let document = metadata().await;
    assert_eq!(document["bearer_methods_supported"], serde_json::json!([]));
    assert!(document.get("authorization_servers").is_none() && document.get("scopes_supported").is_none());
    let refused = world.gateway.get("/edge/1").send().await;
    assert!(refused.challenge().starts_with("Bearer resource_metadata="), "{}", refused.challenge());
}

#[tokio::test]
async fn a_reload_moves_the_place_of_tokens_at_once() {
    let world = World::start().await;
    let token = world.edge.token().mint();
    let verdict = |field: &'static str| {
        let value = if field == "Authorization" { format!("Bearer {token}") } else { token.clone() };
        let call = world.gateway.get("/edge/1").header(field, &value);
        async move { call.send().await.verdict() }
    };
    assert_eq!(verdict(FIELD).await, "200 -");
    let render = |policy: Policy| policy.render(world.corp.url(), &world.upstream.url());
    let text = render(policy(&world.edge, ""));
    world.gateway.replace_config(&text.replace(&format!("token_header: {FIELD}"), "leeway: 5s"));
    world.gateway.wait_loaded().await;
    assert_eq!(verdict(FIELD).await, "401 credential_missing");
    assert_eq!(verdict("Authorization").await, "200 -");
    assert_eq!(world.upstream.last().header(FIELD), None);
    world.gateway.replace_config(&text);
    world.gateway.wait_loaded().await;
    assert_eq!(verdict("Authorization").await, "401 credential_missing");
    assert_eq!(verdict(FIELD).await, "200 -");
}
