//! Protected resource metadata (RFC 9728): where a client that was refused learns how to get a token.
#![cfg(test)]

mod support;

use serde_json::json;
use support::{Policy, Rig, TestIssuer, process};

/// Two resources on one host, and a third whose host has no public origin.
const ROUTES: &str = "
- id: orders
  match: { host: api.example.com, path: '/orders/{*rest}' }
  require: { issuers: [corp], audience: 'https://api.example.com/orders', scopes: [orders:read] }
  upstream: orders
- id: orders-write
  match: { host: api.example.com, path: '/orders-write/{*rest}' }
  require: { issuers: [corp], audience: 'https://api.example.com/orders', scopes: [orders:write] }
  upstream: orders
- id: stock
  match: { host: api.example.com, path: '/stock/{*rest}' }
  require: { issuers: [corp], audience: 'https://api.example.com/stock', scopes: any_authenticated }
  upstream: orders
- id: catch-all
  match: { host: api.example.com, path: '/{*rest}' }
  public: true
  upstream: orders
";

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The path of the `resource_metadata` in a challenge.
fn advertised(challenge: &str) -> Option<String> {
    let url = challenge.split_once("resource_metadata=\"")?.1.split('"').next()?;
    Some(url.strip_prefix("https://api.example.com").unwrap_or(url).to_owned())
}

#[tokio::test]
async fn a_challenge_leads_to_the_document_of_its_resource() {
    let rig = Rig::routes(ROUTES).await;
    for (path, resource) in [("/orders/1", "orders"), ("/stock/1", "stock"), ("/orders-write/1", "orders")] {
        let refused = rig.gateway.get(path).send().await;
        let location = advertised(refused.challenge()).unwrap_or_else(|| panic!("{path}: {refused:?}"));
        let document = rig.gateway.get(&location).send().await;
        assert_eq!(document.status, 200, "{path}: {location}");
        assert_eq!(document.json()["resource"], format!("https://api.example.com/{resource}"), "{location}");
        // RFC 9728 §3.1: between host and path.
        assert_eq!(location, format!("{WELL_KNOWN}/{resource}"));
    }
    assert_eq!(rig.upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_document_names_issuers_and_scopes_of_its_resource_alone() {
    let rig = Rig::routes(ROUTES).await;
    let response = rig.gateway.get(&format!("{WELL_KNOWN}/orders")).send().await;
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("access-control-allow-origin"), Some("*"), "scripts of any origin may ask");
    let document = response.json();
    assert_eq!(document["authorization_servers"], json!([rig.issuer.url()]));
    let mut scopes: Vec<_> = document["scopes_supported"].as_array().unwrap().clone();
    scopes.sort_by_key(ToString::to_string);
    assert_eq!(scopes, [json!("orders:read"), json!("orders:write")]);
    assert_eq!(document["bearer_methods_supported"], json!(["header"]));
    let stock = rig.gateway.get(&format!("{WELL_KNOWN}/stock")).send().await.json();
    assert!(stock.get("scopes_supported").is_none(), "an empty list would be a lie (RFC 9728 §2): {stock}");
}

#[tokio::test]
async fn it_is_read_only_and_unknown_resources_are_not_found() {
    let rig = Rig::routes(ROUTES).await;
    let path = format!("{WELL_KNOWN}/orders");
    let whole = rig.gateway.get(&path).send().await;
    let head = rig.gateway.call("HEAD", &path).send().await;
    assert_eq!((head.status, head.header("content-length")), (200, whole.header("content-length")));
    let origin = rig.gateway.call("OPTIONS", &path).header("Origin", "https://app.example.org");
    let preflight = origin
        .header("Access-Control-Request-Method", "GET")
        .header("Access-Control-Request-Headers", "mcp-protocol-version");
    for (what, asked) in [("a preflight", preflight), ("OPTIONS alone", rig.gateway.call("OPTIONS", &path))] {
        let response = asked.send().await;
        assert_eq!((response.status, response.text().as_str()), (204, ""), "{what}");
        assert_eq!(response.header("access-control-allow-origin"), Some("*"), "{what}");
        let fields = response.header("access-control-allow-headers").unwrap_or_default().to_owned();
        assert!(fields.contains("mcp-protocol-version"), "{what}: {fields}");
        assert_eq!(response.header("access-control-allow-methods"), Some("GET, HEAD"), "{what}");
        assert_eq!(response.header("access-control-allow-credentials"), None, "{what}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let response = rig.gateway.call(method, &path).body("").send().await;
        assert_eq!(response.status, 405, "{method}: {response:?}");
        assert!(response.header("allow").is_some_and(|allow| allow.contains("GET")), "{response:?}");
    }
    for unknown in ["", "/", "/nothing", "/orders/", "/orders/1", "/ORDERS", "x"] {
        let response = rig.gateway.get(&format!("{WELL_KNOWN}{unknown}")).send().await;
        // Without the slash it is another name, which the route for everything takes.
        let wanted = if unknown == "x" { 200 } else { 404 };
        assert_eq!(response.status, wanted, "{unknown:?}: {}", response.text());
    }
    let seen: Vec<_> = rig.upstream.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(seen, [format!("{WELL_KNOWN}x")], "no route takes the well-known path");
}

#[tokio::test]
async fn it_follows_a_reload() {
    let rig = Rig::routes(ROUTES).await;
    let changed = Policy::default().routes(&ROUTES.replace("orders:write", "orders:change"));
    rig.gateway.replace_config(&changed.render(rig.issuer.url(), &rig.upstream.url()));
    rig.gateway.wait_loaded().await;
    let document = rig.gateway.get(&format!("{WELL_KNOWN}/orders")).send().await.text();
    assert!(document.contains("orders:change") && !document.contains("orders:write"), "{document}");
}

#[tokio::test]
async fn a_host_without_a_public_origin_advertises_nothing_of_the_request() {
    let rig = Rig::routes(&ROUTES.replace("host: api.example.com, ", "")).await;
    let refused = rig.gateway.get("/orders/1").host("evil.example.com").send().await;
    assert_eq!(refused.verdict(), "401 credential_missing");
    assert!(!refused.challenge().contains("evil"), "{}", refused.challenge());
    let url = format!("http://{}/orders/1", rig.gateway.address());
    let curl = process::curl(["-i", &url]).await;
    assert!(
        curl.stdout.contains("401") && !curl.stdout.contains(&format!("{}/.well", rig.gateway.address())),
        "{curl:?}"
    );
}

/// What both issuers say about scopes, the scopes of three challenges, those of the metadata, and what the row is about.
type ScopeRow<'a> = (&'a str, &'a str, [Option<&'a str>; 3], &'a [&'a str], &'a str);

/// A second issuer on two of the routes, and what the first and the second say about scopes.
fn two_issuers(corp: &str, partner: &str, url: &str) -> Policy {
    let routes = "
- id: one
  match: { host: api.example.com, path: /one }
  require: { issuers: [corp], audience: 'https://api.example.com', scopes: [read, { any: [write, admin] }] }
  upstream: orders
- id: both
  match: { host: api.example.com, path: /both }
  require: { issuers: [corp, partner], audience: 'https://api.example.com/both', scopes: [read] }
  upstream: orders
- id: any
  match: { host: api.example.com, path: /any }
  require: { issuers: [corp], audience: 'https://api.example.com', scopes: any_authenticated }
  upstream: orders
- id: unpublished
  match: { host: other.example.com, path: /one }
  require: { issuers: [corp], audience: 'https://api.example.com', scopes: [read] }
  upstream: orders
";
    let second =
        format!("partner: {{ issuer: {url}, keys: {{ discovery: true }}, algorithms: [ES256]{partner} }}");
    Policy::default().routes(routes).issuer(corp).issuers(&second)
}

#[tokio::test]
async fn scopes_are_named_as_clients_must_ask_for_them() {
    let prefix = "advertised_scopes: { prefix: 'api://app/', admin: 'https://admin.example/.default' }";
    let same = format!(", {prefix}");
    let app = "api://app/read api://app/write https://admin.example/.default";
    let rows: [ScopeRow; 4] = [
        ("", "", [Some("read write admin"), Some("read"), None], &["read"], "nothing said"),
        (prefix, &same, [Some(app), Some("api://app/read"), None], &["api://app/read"], "both alike"),
        (prefix, "", [Some(app), None, None], &["api://app/read", "read"], "one of two"),
        (
            "advertised_scopes: { read: 'urn:read' }",
            ", advertised_scopes: { read: 'urn:other' }",
            [Some("urn:read write admin"), None, None],
            &["urn:read", "urn:other"],
            "two ways",
        ),
    ];
    let other = TestIssuer::start().await;
    for (corp, partner, challenged, supported, what) in rows {
        let rig = Rig::with(two_issuers(corp, partner, other.url())).await;
        for (path, expected) in ["/one", "/both", "/any"].into_iter().zip(challenged) {
            let refused = rig.gateway.get(path).send().await;
            assert_eq!(refused.verdict(), "401 credential_missing", "{what}: {path}");
            assert_eq!(scope_of(refused.challenge()).as_deref(), expected, "{what}: {path}");
        }
        let hidden = rig.gateway.get("/one").host("other.example.com").send().await;
        assert_eq!(scope_of(hidden.challenge()), None, "{what}: a host that publishes nothing");
        let document = rig.gateway.get(&format!("{WELL_KNOWN}/both")).send().await.json();
        assert_eq!(document["scopes_supported"], json!(supported), "{what}");
        let token = rig.issuer.token().scope("write").claim("aud", "https://api.example.com/both").mint();
        let lacking = rig.gateway.get("/both").token(&token).send().await;
        assert_eq!(lacking.verdict(), "403 scope_missing", "{what}");
        assert_eq!(
            scope_of(lacking.challenge()).as_deref(),
            Some(supported[0]),
            "{what}: of the token's issuer"
        );
        // The names are for clients: the token has the scope of the policy.
        let token = rig.issuer.token().scope("read").claim("aud", "https://api.example.com/both").mint();
        assert_eq!(rig.gateway.get("/both").token(&token).send().await.status, 200, "{what}");
        let token =
            rig.issuer.token().scope(supported[0]).claim("aud", "https://api.example.com/both").mint();
        let status = if supported[0] == "read" { 200 } else { 403 };
        assert_eq!(rig.gateway.get("/both").token(&token).send().await.status, status, "{what}");
    }
}

/// The `scope` of a challenge.
fn scope_of(challenge: &str) -> Option<String> {
    Some(challenge.split_once("scope=\"")?.1.split('"').next()?.to_owned())
}
