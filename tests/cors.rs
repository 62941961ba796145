//! Cross-origin requests, as a browser makes them (Fetch standard §3.3).
#![cfg(test)]

mod support;

use support::{AUDIENCE, Call, Policy, Reply, Response, Rig};

const APP: &str = "https://app.example.com";

/// A route for one origin with credentials, one for any origin, and one that knows nothing of origins.
const ROUTES: &str = "
- id: list
  match: { host: api.example.com, path: '/orders/{*rest}', methods: [GET, HEAD] }
  require: { issuers: [corp], audience: AUDIENCE, scopes: [orders:read] }
  upstream: orders
  cors: { origins: [https://app.example.com, 'http://localhost:3000'], credentials: true, headers: [X-Own], expose: [X-Total], max_age: 5m }
- id: write
  match: { host: api.example.com, path: '/orders/{*rest}', methods: [PUT] }
  require: { issuers: [corp], audience: AUDIENCE, scopes: [orders:write] }
  upstream: orders
  cors: { origins: [https://app.example.com] }
- id: any
  match: { host: api.example.com, path: /any }
  public: true
  upstream: orders
  cors: { origins: '*' }
- id: none
  match: { host: api.example.com, path: /none }
  require: { issuers: [corp], audience: AUDIENCE, scopes: [orders:read] }
  upstream: orders
- id: open
  match: { host: api.example.com, path: /open }
  public: true
  upstream: orders
";

async fn rig() -> Rig {
    Rig::with(Policy::default().routes(&ROUTES.replace("AUDIENCE", AUDIENCE))).await
}

/// A preflight from this origin for this method.
fn preflight(rig: &Rig, path: &str, origin: &str, method: &str) -> Call {
    let call = rig.gateway.call("OPTIONS", path).header("Origin", origin);
    call.header("Access-Control-Request-Method", method)
        .header("Access-Control-Request-Headers", "authorization,x-own")
}

fn allowed_origin(response: &Response) -> Option<&str> {
    response.header("access-control-allow-origin")
}

/// The members of a list that may be spread over several fields.
fn list(response: &Response, name: &str) -> Vec<String> {
    response.fields.all(name).join(",").split(',').map(|item| item.trim().to_ascii_lowercase()).collect()
}

#[tokio::test]
async fn a_preflight_of_an_allowed_origin_is_answered_without_a_token() {
    let rig = rig().await;
    let response = preflight(&rig, "/orders/1", APP, "GET").send().await;
    assert_eq!((response.status, allowed_origin(&response)), (204, Some(APP)));
    assert_eq!(response.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(response.header("access-control-max-age"), Some("300"));
    let methods = list(&response, "access-control-allow-methods");
    assert!(
        ["get", "head", "put"].iter().all(|method| methods.contains(&(*method).to_owned())),
        "{methods:?}"
    );
    let headers = list(&response, "access-control-allow-headers");
    assert!(
        ["authorization", "x-own"].iter().all(|name| headers.contains(&(*name).to_owned())),
        "{headers:?}"
    );
    let vary = list(&response, "vary");
    for name in ["origin", "access-control-request-method", "access-control-request-headers"] {
        assert!(vary.contains(&name.to_owned()), "{vary:?}");
    }
    assert!(response.body.is_empty() && rig.upstream.requests().is_empty());
}

#[tokio::test]
async fn a_preflight_of_another_origin_is_allowed_nothing() {
    let rig = rig().await;
    for origin in [
        "https://evil.example.com",
        "https://app.example.com.evil.com",
        "http://app.example.com",
        "https://app.example.com:444",
        "https://APP.example.com",
        "null",
        "",
    ] {
        let response = preflight(&rig, "/orders/1", origin, "GET").send().await;
        let allowed =
            response.fields.names().any(|name| name.to_ascii_lowercase().starts_with("access-control-allow"));
        assert!(!allowed, "{origin}: {response:?}");
        assert!(list(&response, "vary").contains(&"origin".to_owned()), "{origin}: {response:?}");
    }
    assert_eq!(rig.upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_preflight_for_a_method_that_is_not_there_does_not_allow_it() {
    let rig = rig().await;
    for method in ["DELETE", "BREW", "CONNECT"] {
        let response = preflight(&rig, "/orders/1", APP, method).send().await;
        let allowed = list(&response, "access-control-allow-methods");
        assert!(!allowed.contains(&method.to_ascii_lowercase()), "{method}: {response:?}");
        assert!(response.status < 500, "{method}");
    }
    assert_eq!(rig.upstream.requests().len(), 0);
}

#[tokio::test]
async fn without_cors_a_preflight_is_an_ordinary_request() {
    let rig = rig().await;
    let refused = preflight(&rig, "/none", APP, "GET").send().await;
    assert_eq!((refused.verdict().as_str(), allowed_origin(&refused)), ("401 credential_missing", None));
    let unknown = preflight(&rig, "/nothing", APP, "GET").send().await;
    assert_eq!((unknown.verdict().as_str(), allowed_origin(&unknown)), ("404 route_unknown", None));
    assert_eq!(rig.upstream.requests().len(), 0);
    assert_eq!(preflight(&rig, "/open", APP, "GET").send().await.status, 200);
    assert_eq!(rig.upstream.request().method, "OPTIONS", "a public route's upstream answers for itself");
    let plain = rig.gateway.call("OPTIONS", "/orders/1").header("Origin", APP).send().await;
    assert_eq!(
        plain.verdict(),
        "405 method_not_allowed",
        "OPTIONS without a method asked for is no preflight"
    );
}

#[tokio::test]
async fn a_script_of_an_allowed_origin_can_read_answers_and_refusals() {
    let rig = rig().await;
    let other = rig.issuer.token().scope("other").mint();
    let call = || rig.gateway.get("/orders/1").header("Origin", APP);
    for (wanted, response) in [
        ("200 -", call().token(&rig.token()).send().await),
        ("401 credential_missing", call().send().await),
        ("403 scope_missing", call().token(&other).send().await),
    ] {
        assert_eq!(response.verdict(), wanted);
        assert_eq!(allowed_origin(&response), Some(APP), "{wanted}");
        assert_eq!(response.header("access-control-allow-credentials"), Some("true"), "{wanted}");
        let exposed = list(&response, "access-control-expose-headers");
        assert!(
            exposed.contains(&"www-authenticate".into()) && exposed.contains(&"x-total".into()),
            "{exposed:?}"
        );
        assert!(list(&response, "vary").contains(&"origin".to_owned()), "{wanted}");
    }
    let stranger = rig.get("/orders/1").header("Origin", "https://evil.example.com").send().await;
    assert_eq!(
        (stranger.status, allowed_origin(&stranger)),
        (200, None),
        "CORS hides answers; it refuses nothing"
    );
}

#[tokio::test]
async fn any_origin_is_a_star_without_credentials() {
    let rig = rig().await;
    for response in [
        preflight(&rig, "/any", "https://x.example", "GET").send().await,
        rig.gateway.get("/any").header("Origin", "null").send().await,
    ] {
        assert_eq!(allowed_origin(&response), Some("*"), "{response:?}");
        assert!(!response.fields.has("access-control-allow-credentials"));
    }
}

#[tokio::test]
async fn the_route_answers_for_what_the_upstream_says_of_origins() {
    let rig = rig().await;
    let fields = "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nVary: Accept\r\n\
        Access-Control-Expose-Headers: X-Secret\r\nAccess-Control-Allow-Methods: DELETE\r\n";
    rig.upstream.answers(move |_| Reply::with(200, fields, "hello"));
    let mine = rig.get("/orders/1").header("Origin", APP).send().await;
    assert_eq!(allowed_origin(&mine), Some(APP));
    assert!(!list(&mine, "access-control-expose-headers").contains(&"x-secret".to_owned()));
    let vary = list(&mine, "vary");
    assert!(vary.contains(&"accept".into()) && vary.contains(&"origin".into()), "{vary:?}");
    let stranger = rig.get("/orders/1").header("Origin", "https://evil.example.com").send().await;
    assert_eq!(allowed_origin(&stranger), None);
    assert!(!stranger.fields.has("access-control-allow-credentials"), "{stranger:?}");
    let own = rig.get("/none").header("Origin", APP).send().await;
    assert_eq!(allowed_origin(&own), Some("*"), "without `cors` the upstream answers for itself");
}
