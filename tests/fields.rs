//! Header fields that a route sets or removes, and the gateway's own credentials for upstreams.
#![cfg(test)]

mod support;

use support::{Client, Gateway, Policy, Reply, Rig, TestIssuer, Upstream, has_keys};

const ROUTES: &str = "
- id: orders
  match: { host: api.example.com, path: '/orders/{*rest}' }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
  forward:
    identity_headers: { X-User: sub }
    headers: { set: { X-Api-Version: '1', X_Key: k }, remove: [X-Debug, Cookie] }
    answer_headers: { set: { X-Frame-Options: DENY, Cache-Control: no-store }, remove: [Server, X-Powered-By] }
- { id: plain, match: { host: api.example.com, path: /plain }, public: true, upstream: orders }
";

#[tokio::test]
async fn fixed_request_fields_replace_those_of_the_client() {
    let rig = Rig::routes(ROUTES).await;
    let call = |path: &str| {
        let call =
            rig.get(path).header("x-api-version", "9").header("X-Api-Version", "8").header("X-KEY", "forged");
        let call = call
            .header("X_Key", "forged")
            .header("X-Debug", "1")
            .header("Cookie", "a=1")
            .header("X-Other", "1");
        call.header("Connection", "x-api-version, x_key")
    };
    assert_eq!(call("/orders/1").send().await.verdict(), "200 -");
    let seen = rig.upstream.last();
    assert_eq!(seen.fields.all("x-api-version"), ["1"]);
    assert_eq!(seen.fields.all("x_key"), ["k"]);
    for name in ["x-key", "x-debug", "cookie"] {
        assert!(!seen.fields.has(name), "{name}: {seen:?}");
    }
    assert_eq!((seen.header("x-other"), seen.header("x-user")), (Some("1"), Some("alice")));

    assert_eq!(call("/plain").send().await.verdict(), "200 -");
    let seen = rig.upstream.last();
    assert!(
        seen.fields.has("cookie") && seen.fields.has("x-debug"),
        "another route changes nothing: {seen:?}"
    );
}

#[tokio::test]
async fn fixed_response_fields_replace_those_of_the_upstream() {
    let rig = Rig::routes(ROUTES).await;
    let fields = "Server: nginx/1\r\nX-Powered-By: PHP\r\nx-powered-by: ASP\r\nX-Frame-Options: ALLOWALL\r\nX-Own: 1\r\n";
    rig.upstream.answers(move |_| Reply::with(200, fields, "hello"));
    let response = rig.get("/orders/1").send().await;
    assert_eq!(response.text(), "hello");
    assert_eq!(response.fields.all("x-frame-options"), ["DENY"]);
    assert_eq!(response.fields.all("cache-control"), ["no-store"]);
    assert_eq!(response.header("x-own"), Some("1"));
    assert!(!response.fields.has("server") && !response.fields.has("x-powered-by"), "{response:?}");

    let plain = rig.gateway.get("/plain").send().await;
    assert_eq!((plain.header("server"), plain.fields.all("x-powered-by").len()), (Some("nginx/1"), 2));
    let refused = rig.gateway.get("/orders/1").send().await;
    assert!(!refused.fields.has("x-frame-options"), "the gateway's own responses stay: {refused:?}");
}

#[tokio::test]
async fn trailers_cannot_bring_back_what_is_set_or_removed() {
    let rig = Rig::routes(ROUTES).await;
    let mut client = Client::connect(rig.gateway.address()).await;
    let head =
        rig.gateway.call("POST", "/orders/1").token(&rig.token()).header("Transfer-Encoding", "chunked");
    client.send(head.header("Trailer", "X-Sum, X-Api-Version, X-Debug").bytes()).await;
    client.send("3\r\nabc\r\n0\r\nX-Sum: 6\r\nX-Api-Version: 9\r\nX-Debug: 1\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    let seen = rig.upstream.request();
    assert_eq!(seen.trailers.get("x-sum"), Some("6"));
    assert!(!seen.trailers.has("x-api-version") && !seen.trailers.has("x-debug"), "{seen:?}");
}

/// A gateway whose upstream gets this credential, with the secret in a file.
async fn with_credential(credential: &str) -> (TestIssuer, Upstream, Gateway) {
    let issuer = TestIssuer::start().await;
    let upstream = Upstream::start(|_| support::ok("hello")).await;
    let policy = Policy::default().upstream(&format!("credential: {credential}"));
    let policy = policy.render(issuer.url(), &upstream.url());
    let gateway = Gateway::start_with(&policy, &[("key", "s3cret one\n")]).await;
    has_keys(&gateway).await;
    (issuer, upstream, gateway)
}

#[tokio::test]
async fn a_credential_of_the_gateway_replaces_the_clients() {
    for (credential, name, value) in [
        ("{ header: { name: X-Api-Key, value: { file: key } } }", "x-api-key", "s3cret one"),
        ("{ basic: { user: gw, password: { file: key } } }", "authorization", "Basic Z3c6czNjcmV0IG9uZQ=="),
    ] {
        let (issuer, upstream, gateway) = with_credential(credential).await;
        let token = issuer.token().mint();
        for path in ["/orders/1", "/status"] {
            let call =
                gateway.get(path).token(&token).header("X-API-KEY", "forged").header("x-api-key", "two");
            assert_eq!(call.header("Connection", "X-Api-Key").send().await.verdict(), "200 -");
            let seen = upstream.last();
            assert_eq!(seen.fields.all(name), [value], "{path}");
        }
        let output = gateway.output();
        assert!(!output.contains("s3cret") && !output.contains("Z3c6"), "{output}");
        let status = gateway.admin("GET", "/api/v1/routes").send().await.text();
        assert!(!status.contains("s3cret"), "{status}");
    }
}

#[tokio::test]
async fn a_new_secret_is_sent_without_a_restart() {
    let (issuer, upstream, gateway) =
        with_credential("{ header: { name: X-Api-Key, value: { file: key } } }").await;
    let token = issuer.token().mint();
    std::fs::write(gateway.dir().join("key"), "other").unwrap();
    let applied = gateway.reload().await;
    assert_eq!(applied.status, 200, "{}", applied.text());
    assert_eq!(gateway.get("/orders/1").token(&token).send().await.verdict(), "200 -");
    assert_eq!(upstream.last().fields.all("x-api-key"), ["other"]);
    // A secret that is no value of a field leaves the last good policy in force.
    std::fs::write(gateway.dir().join("key"), "a\nb").unwrap();
    assert_eq!(gateway.reload().await.status, 422);
    assert_eq!(gateway.get("/orders/1").token(&token).send().await.verdict(), "200 -");
    assert_eq!(upstream.last().fields.all("x-api-key"), ["other"]);
}
