//! Protected resource metadata (RFC 9728): where a client that was refused learns how to get a token.
#![cfg(test)]

mod support;

use serde_json::json;
use support::{Policy, Rig, process};

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
