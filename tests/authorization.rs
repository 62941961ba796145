//! What the caller may do here: each requirement of a route permits what it should and nothing more.
#![cfg(test)]

mod support;

use serde_json::json;
use support::{AUDIENCE, Policy, Rig, TestIssuer, TokenBuilder};

/// The verdict on `/orders/1` for each of these tokens.
async fn check(rig: &Rig, rows: &[(&str, TokenBuilder, &str)]) {
    for (what, token, wanted) in rows {
        let response = rig.gateway.get("/orders/1").token(&token.mint()).send().await;
        assert_eq!(response.verdict(), *wanted, "{what}");
    }
    let permitted = rows.iter().filter(|(_, _, wanted)| wanted.starts_with("200")).count();
    assert_eq!(rig.upstream.requests().len(), permitted, "what was refused reached the upstream");
}

/// A gateway whose route at `/orders/{*rest}` has these requirements beside issuer and audience.
async fn rig(requirements: &str) -> Rig {
    let all = format!("{{ issuers: [corp], audience: {AUDIENCE}, {requirements} }}");
    Rig::with(Policy::default().require(&all)).await
}

#[tokio::test]
async fn all_of_the_scopes_are_needed() {
    let rig = rig("scopes: [orders:read, orders:list]").await;
    let token = |scope: &str| rig.issuer.token().scope(scope);
    check(
        &rig,
        &[
            ("both", token("orders:read orders:list"), "200 -"),
            ("both among others, in another order", token("x orders:list y orders:read"), "200 -"),
            ("one", token("orders:read"), "403 scope_missing"),
            ("a longer name", token("orders:read orders:listing"), "403 scope_missing"),
            ("another case", token("orders:read Orders:List"), "403 scope_missing"),
            ("separated by a comma", token("orders:read,orders:list"), "403 scope_missing"),
            ("a wildcard", token("orders:* *"), "403 scope_missing"),
            ("none", token(""), "403 scope_missing"),
            ("no scope claim", rig.issuer.token().without("scope"), "403 scope_missing"),
            ("as a list", rig.issuer.token().claim("scope", json!(["orders:read", "orders:list"])), "200 -"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_missing_scope_is_named_in_the_challenge_and_the_problem() {
    let rig = Rig::start().await;
    let token = rig.issuer.token().scope("profile").mint();
    let response = rig.gateway.get("/orders/1").token(&token).send().await;
    assert_eq!(response.verdict(), "403 scope_missing");
    let challenge = response.challenge();
    for part in [
        r#"error="insufficient_scope""#,
        r#"scope="orders:read""#,
        r#"resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"#,
    ] {
        assert!(challenge.starts_with("Bearer ") && challenge.contains(part), "{challenge}");
    }
    let problem = response.json();
    assert_eq!(problem["control"], "authorization");
    assert_eq!(problem["route"], "orders");
    assert_eq!(problem["owner"], "orders-team@example.com");
    assert_eq!(problem["required_scopes"], json!(["orders:read"]));
}

#[tokio::test]
async fn scopes_combine_with_any_and_all() {
    let rig = rig("scopes: { any: [orders:admin, { all: [orders:read, audit] }] }").await;
    let token = |scope: &str| rig.issuer.token().scope(scope);
    check(
        &rig,
        &[
            ("the one", token("orders:admin"), "200 -"),
            ("the pair", token("audit orders:read"), "200 -"),
            ("half of the pair", token("audit"), "403 scope_missing"),
            ("neither", token("profile"), "403 scope_missing"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_scope_implies_only_what_the_configuration_says() {
    let implied = "scopes:\n  orders:admin: [orders:write]\n  orders:write: [orders:read]";
    let rig = Rig::with(Policy::default().section(implied)).await;
    let token = |scope: &str| rig.issuer.token().scope(scope);
    check(
        &rig,
        &[
            ("implied", token("orders:write"), "200 -"),
            ("implied by what is implied", token("orders:admin"), "200 -"),
            ("unrelated", token("orders"), "403 scope_missing"),
        ],
    )
    .await;
}

#[tokio::test]
async fn any_authenticated_needs_a_token_and_no_scope() {
    let rig = rig("scopes: any_authenticated").await;
    assert_eq!(rig.gateway.get("/orders/1").send().await.verdict(), "401 credential_missing");
    check(&rig, &[("no scope at all", rig.issuer.token().without("scope"), "200 -")]).await;
}

#[tokio::test]
async fn the_audience_is_compared_byte_for_byte() {
    let rig = Rig::start().await;
    let token = |audience: serde_json::Value| rig.issuer.token().claim("aud", audience);
    let wrong = "401 audience_mismatch";
    check(
        &rig,
        &[
            ("it", token(json!(AUDIENCE)), "200 -"),
            ("among others", token(json!(["https://other.example.com", AUDIENCE])), "200 -"),
            ("another", token(json!("https://other.example.com")), wrong),
            ("a slash more", token(json!(format!("{AUDIENCE}/"))), wrong),
            ("a prefix", token(json!("https://api.example")), wrong),
            ("another case", token(json!("https://API.example.com")), wrong),
        ],
    )
    .await;
    let response = rig.gateway.get("/orders/1").token(&token(json!("x")).mint()).send().await;
    assert!(response.challenge().contains(r#"error="invalid_token""#), "{}", response.challenge());
    assert_eq!(response.json()["control"], "authorization");
}

#[tokio::test]
async fn an_issuer_counts_only_on_the_routes_that_accept_it() {
    let other = support::TestIssuer::start().await;
    let partners =
        format!("partners: {{ issuer: {}, keys: {{ discovery: true }}, algorithms: [ES256] }}", other.url());
    let rig = Rig::with(Policy::default().issuers(&partners)).await;
    check(
        &rig,
        &[
            ("the route's issuer", rig.issuer.token(), "200 -"),
            ("another known issuer", other.token(), "401 issuer_refused"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_tenant_of_the_path_must_be_that_of_the_token() {
    let rig = Rig::routes(&format!(
        "
- id: orders
  match: {{ host: api.example.com, path: '/{{tenant}}/orders' }}
  require: {{ audience: {AUDIENCE}, issuers: [corp], scopes: [orders:read], tenant: {{ from: path.tenant }} }}
  upstream: orders
"
    ))
    .await;
    let acme = rig.issuer.token().claim("tenant", "acme").mint();
    for (path, token, wanted) in [
        ("/acme/orders", acme.clone(), "200 -"),
        ("/other/orders", acme.clone(), "403 tenant_mismatch"),
        ("/ACME/orders", acme.clone(), "403 tenant_mismatch"),
        ("/acm/orders", acme.clone(), "403 tenant_mismatch"),
        ("/acme/orders", rig.token(), "403 tenant_mismatch"),
    ] {
        assert_eq!(rig.gateway.get(path).token(&token).send().await.verdict(), wanted, "{path}");
    }
    assert_eq!(rig.upstream.requests().len(), 1);
}

#[tokio::test]
async fn the_tenant_may_be_fixed_or_come_from_the_host() {
    let rig = Rig::routes(&format!(
        "
- id: fixed
  match: {{ host: api.example.com, path: /fixed }}
  require: {{ audience: {AUDIENCE}, issuers: [corp], scopes: [orders:read], tenant: {{ equals: [acme, beta] }} }}
  upstream: orders
- id: by-host
  match: {{ host: '*.tenants.example.com', path: /by-host }}
  require: {{ audience: {AUDIENCE}, issuers: [corp], scopes: [orders:read], tenant: {{ from: host.1 }} }}
  upstream: orders
"
    ))
    .await;
    let token = |tenant: &str| rig.issuer.token().claim("tenant", tenant).mint();
    let at = |host: &str, path: &str| rig.gateway.get(path).host(host);
    for (call, tenant, wanted) in [
        (at("api.example.com", "/fixed"), "beta", "200 -"),
        (at("api.example.com", "/fixed"), "gamma", "403 tenant_mismatch"),
        (at("acme.tenants.example.com", "/by-host"), "acme", "200 -"),
        (at("acme.tenants.example.com", "/by-host"), "beta", "403 tenant_mismatch"),
    ] {
        assert_eq!(call.token(&token(tenant)).send().await.verdict(), wanted, "{tenant}");
    }
}

#[tokio::test]
async fn clients_and_subjects_are_allow_lists() {
    let rig = rig("scopes: [orders:read], clients: [mobile-app, batch], subjects: [alice]").await;
    check(
        &rig,
        &[
            ("both fit", rig.issuer.token(), "200 -"),
            ("another client", rig.issuer.token().claim("client_id", "evil"), "403 client_refused"),
            ("another subject", rig.issuer.token().claim("sub", "bob"), "403 subject_refused"),
        ],
    )
    .await;
    let challenge =
        rig.gateway.get("/orders/1").token(&rig.issuer.token().claim("sub", "bob").mint()).send().await;
    assert_eq!(challenge.challenge(), "", "other credentials would not help by themselves");
}

#[tokio::test]
async fn claims_must_satisfy_their_rules() {
    let rig = rig(
        "scopes: [orders:read], claims: { department: { one_of: [sales, ops] }, realm_access.roles: { contains: clerk } }",
    )
    .await;
    let token = |department: serde_json::Value, roles: serde_json::Value| {
        rig.issuer.token().claim("department", department).claim("realm_access", json!({ "roles": roles }))
    };
    let refused = "403 claim_mismatch";
    check(
        &rig,
        &[
            ("both fit", token(json!("ops"), json!(["boss", "clerk"])), "200 -"),
            ("another department", token(json!("hr"), json!(["clerk"])), refused),
            ("a list where one value is meant", token(json!(["ops", "hr"]), json!(["clerk"])), refused),
            ("no such role", token(json!("ops"), json!(["boss"])), refused),
            ("a longer role", token(json!("ops"), json!(["clerks"])), refused),
            ("no claims", rig.issuer.token(), refused),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_token_too_old_for_the_route_is_stale() {
    let rig = rig("scopes: [orders:read], max_token_age: 15m").await;
    check(
        &rig,
        &[
            ("young", rig.issuer.token().times(-60, 3600), "200 -"),
            ("old, though not expired", rig.issuer.token().times(-3600, 3600), "401 token_stale"),
        ],
    )
    .await;
}

#[tokio::test]
async fn shadow_lets_authorization_failures_through_and_says_so() {
    let rig = Rig::routes(&format!(
        "
- id: orders
  match: {{ host: api.example.com, path: '/orders/{{*rest}}' }}
  require: {{ issuers: [corp], audience: {AUDIENCE}, scopes: [orders:read] }}
  upstream: orders
  mode: shadow
"
    ))
    .await;
    let token = rig.issuer.token();
    for (what, token, wanted) in [
        ("no scope", token.clone().scope("profile").mint(), "200 -"),
        ("another audience", token.clone().claim("aud", "https://other.example.com").mint(), "200 -"),
        ("expired", token.clone().times(-700, -100).mint(), "401 token_expired"),
        ("forged", token.clone().mint_with_signature(&[0; 64]), "401 signature_invalid"),
    ] {
        assert_eq!(rig.gateway.get("/orders/1").token(&token).send().await.verdict(), wanted, "{what}");
    }
    assert_eq!(rig.gateway.get("/orders/1").send().await.verdict(), "401 credential_missing");
    assert_eq!(rig.upstream.requests().len(), 2);
    let entry = rig.gateway.wait_for_log(|entry| entry["reason"] == "scope_missing").await;
    assert_eq!((&entry["status"], &entry["subject"]), (&json!(200), &json!("alice")), "{entry}");
    assert!(entry["decision"].as_str().unwrap().contains("shadow"), "{entry}");
}

#[tokio::test]
async fn a_public_route_is_open_and_ignores_credentials() {
    let rig = Rig::start().await;
    assert_eq!(rig.gateway.get("/status").send().await.status, 200);
    assert_eq!(rig.gateway.get("/status").token("rubbish").send().await.status, 200);
    for request in rig.upstream.requests() {
        assert!(
            !request.fields.has("authorization"),
            "an unread credential is nobody's business: {request:?}"
        );
    }
}

#[tokio::test]
async fn what_no_route_publishes_is_not_found() {
    let rig = Rig::routes(&format!(
        "
- id: read
  match: {{ host: api.example.com, path: '/orders/{{id}}', methods: [GET, HEAD] }}
  require: {{ issuers: [corp], audience: {AUDIENCE}, scopes: [orders:read] }}
  upstream: orders
- id: write
  match: {{ host: api.example.com, path: '/orders/{{id}}', methods: [PUT] }}
  require: {{ issuers: [corp], audience: {AUDIENCE}, scopes: [orders:write] }}
  upstream: orders
"
    ))
    .await;
    let call = |method: &str, path: &str| rig.gateway.call(method, path).token(&rig.token());
    assert_eq!(call("GET", "/orders/1").send().await.verdict(), "200 -");
    assert_eq!(call("PUT", "/orders/1").body("{}").send().await.verdict(), "403 scope_missing");
    assert_eq!(call("GET", "/nothing").send().await.verdict(), "404 route_unknown");
    assert_eq!(
        call("GET", "/orders/1").host("other.example.com").send().await.verdict(),
        "404 route_unknown"
    );
    let response = call("DELETE", "/orders/1").send().await;
    assert_eq!(response.verdict(), "405 method_not_allowed");
    let mut allowed: Vec<_> = response.header("allow").unwrap().split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "PUT"]);
    assert_eq!(rig.upstream.requests().len(), 1);
}

#[tokio::test]
async fn two_spellings_of_a_path_cannot_differ_in_what_they_need() {
    let rig = Rig::start().await;
    for path in [
        "/status/../orders/1",
        "/status/%2e%2e/orders/1",
        "/status/..;/orders/1",
        "//orders/1",
        "/orders//1",
        "/orders/%2F1",
        "/orders/a%5Cb",
        "/orders\\1",
        "/status;x=1",
        "/orders/%00",
        "/orders/%zz",
    ] {
        let response = rig.get(path).send().await;
        let verdict = response.verdict();
        let refused = ["400 path_ambiguous", "400 request_invalid", "400 -", "404 route_unknown"];
        assert!(refused.contains(&verdict.as_str()), "{path}: {verdict}");
    }
    assert_eq!(rig.upstream.requests().len(), 0, "{:?}", rig.upstream.requests());
}

#[tokio::test]
async fn protected_resource_metadata_is_made_from_the_policy() {
    let rig = Rig::start().await;
    let response = rig.gateway.get("/.well-known/oauth-protected-resource").send().await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    let metadata = response.json();
    assert_eq!(metadata["resource"], AUDIENCE);
    assert_eq!(metadata["authorization_servers"], json!([rig.issuer.url()]));
    assert_eq!(metadata["scopes_supported"], json!(["orders:read"]));
    assert_eq!(metadata["bearer_methods_supported"], json!(["header"]));
    assert_eq!(rig.upstream.requests().len(), 0);
}

/// A gateway that accepts two issuers at the route `orders`, with these members of each and these requirements.
async fn two_issuers(corp: &str, partner: &str, route: &str) -> (Rig, TestIssuer) {
    let partner_issuer = TestIssuer::with_own_keys().await;
    let issuers = format!(
        "partner:\n  issuer: {}\n  keys: {{ discovery: true }}\n  algorithms: [ES256]\n{}",
        partner_issuer.url(),
        partner.lines().map(|line| format!("  {line}\n")).collect::<String>()
    );
    let rig = Rig::with(Policy::default().issuer(corp).issuers(&issuers).routes(route)).await;
    (rig, partner_issuer)
}

#[tokio::test]
async fn issuer_asserts_no_tenant_of_another() {
    let route = |tenant: &str| {
        format!(
            "
- id: orders
  match: {{ host: api.example.com, path: '/t/{{tenant}}' }}
  require: {{ issuers: [corp, partner], audience: {AUDIENCE}, scopes: any_authenticated{tenant} }}
  upstream: orders
  forward: {{ identity_headers: {{ X-Tenant: tenant, X-Tid: claim.tid }} }}
"
        )
    };
    let listed = ("claims: { tenant: tid }\ntenants: [acme]", "claims: { tenant: tid }\ntenants: [globex]");
    let constant = ("claims: { client: client_id }\ntenant: acme", "tenant: globex");
    for (corp, partner) in [listed, constant] {
        let (rig, partner_issuer) =
            two_issuers(corp, partner, &route(", tenant: { from: path.tenant }")).await;
        for (path, issuer, claim, wanted) in [
            ("/t/acme", &rig.issuer, "acme", "200 -"),
            ("/t/globex", &partner_issuer, "globex", "200 -"),
            ("/t/globex", &rig.issuer, "globex", "403 tenant_mismatch"),
            ("/t/globex", &rig.issuer, "acme", "403 tenant_mismatch"),
            ("/t/acme", &partner_issuer, "acme", "403 tenant_mismatch"),
        ] {
            let token = issuer.token().claim("tid", claim).mint();
            let response = rig.gateway.get(path).token(&token).send().await;
            assert_eq!(response.verdict(), wanted, "{corp:?}: {path} with {claim}");
        }
        assert_eq!(rig.upstream.requests().len(), 2, "a refused request reached the upstream");
    }
    // A route without a tenant rule does not vouch for such a tenant either.
    let (rig, partner_issuer) = two_issuers(listed.0, listed.1, &route("")).await;
    for (claim, tenant) in [("acme", None), ("globex", Some("globex"))] {
        let token = partner_issuer.token().claim("tid", claim).mint();
        assert_eq!(rig.gateway.get("/t/x").token(&token).send().await.status, 200, "{claim}");
        assert_eq!(rig.upstream.last().header("x-tenant"), tenant, "{claim}");
        assert_eq!(rig.upstream.last().header("x-tid"), tenant, "{claim}, by its path");
    }
}

#[tokio::test]
async fn qualified_names_count_for_their_issuer() {
    let route = |rule: &str| {
        format!(
            "
- id: orders
  match: {{ host: api.example.com, path: '/orders' }}
  require: {{ issuers: [corp, partner], audience: {AUDIENCE}, scopes: any_authenticated, {rule} }}
  upstream: orders
"
        )
    };
    for (rule, corp, partner) in [
        ("clients: [corp/mobile-app]", "200 -", "403 client_refused"),
        ("subjects: [partner/alice, corp/bob]", "403 subject_refused", "200 -"),
        ("subjects: [alice]", "200 -", "200 -"),
        ("subjects: [other/alice]", "403 subject_refused", "403 subject_refused"),
    ] {
        let (rig, partner_issuer) = two_issuers("", "", &route(rule)).await;
        for (issuer, wanted) in [(&rig.issuer, corp), (&partner_issuer, partner)] {
            let response = rig.gateway.get("/orders").token(&issuer.token().mint()).send().await;
            assert_eq!(response.verdict(), wanted, "{rule}");
        }
    }
}

#[tokio::test]
async fn tenant_label_is_the_only_one_of_a_wildcard() {
    let rig = Rig::with(Policy::default().issuer("claims: { tenant: tid }").routes(&format!(
        "
- id: orders
  match: {{ host: '*.tenants.example.com', path: '/orders' }}
  require:
    issuers: [corp]
    audience: {AUDIENCE}
    scopes: any_authenticated
    tenant: {{ from: host.1 }}
  upstream: orders
"
    )))
    .await;
    let token = rig.issuer.token().claim("tid", "acme").mint();
    for (host, wanted) in [
        ("acme.tenants.example.com", "200 -"),
        ("globex.tenants.example.com", "403 tenant_mismatch"),
        ("acme.globex.tenants.example.com", "403 tenant_mismatch"),
        ("acme.acme.tenants.example.com", "403 tenant_mismatch"),
    ] {
        let response = rig.gateway.get("/orders").host(host).token(&token).send().await;
        assert_eq!(response.verdict(), wanted, "{host}");
    }
}

#[tokio::test]
async fn shadow_mode_vouches_for_accepted_issuers_only() {
    let route = format!(
        "
- id: orders
  match: {{ host: api.example.com, path: '/orders' }}
  require: {{ issuers: [corp], audience: {AUDIENCE}, scopes: [admin] }}
  upstream: orders
  mode: shadow
  forward: {{ identity_headers: {{ X-User: sub, X-Issuer: issuer }} }}
- id: partners
  match: {{ host: api.example.com, path: '/partners' }}
  require: {{ issuers: [partner], audience: {AUDIENCE}, scopes: any_authenticated }}
  upstream: orders
"
    );
    let (rig, partner_issuer) = two_issuers("", "", &route).await;
    for (issuer, user) in [(&rig.issuer, Some("alice")), (&partner_issuer, None)] {
        let call = rig.gateway.get("/orders").token(&issuer.token().mint()).header("X-User", "ceo");
        assert_eq!(call.send().await.status, 200);
        let seen = rig.upstream.last();
        assert_eq!(seen.header("x-user"), user);
        assert_eq!(seen.fields.has("x-issuer"), user.is_some());
    }
    let elsewhere = rig.issuer.token().claim("aud", "https://other.example.com").mint();
    assert_eq!(rig.gateway.get("/orders").token(&elsewhere).send().await.status, 200);
    assert!(!rig.upstream.last().fields.has("x-user"), "a token for another audience");
}

#[tokio::test]
async fn sender_bound_token_is_refused_everywhere() {
    let rig = Rig::start().await;
    let token =
        rig.issuer.token().claim("cnf", json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}));
    for _ in 0..2 {
        let response = rig.gateway.get("/orders/1").token(&token.mint()).send().await;
        assert_eq!(response.verdict(), "401 binding_missing");
        assert!(response.challenge().contains("invalid_token"));
    }
    assert!(rig.upstream.requests().is_empty());
}

#[tokio::test]
async fn rounded_numbers_identify_nobody() {
    let rig = Rig::routes(&format!(
        "
- id: orders
  match: {{ host: api.example.com, path: '/orders' }}
  require: {{ issuers: [corp], audience: {AUDIENCE}, scopes: any_authenticated }}
  upstream: orders
  forward: {{ identity_headers: {{ X-Account: claim.account }} }}
"
    ))
    .await;
    for (number, header) in [
        ("18446744073709551615", Some("18446744073709551615")),
        ("-7", Some("-7")),
        ("100000000000000000001", None),
        ("1e20", None),
        ("1.0", None),
        ("[1, 1e20]", None),
    ] {
        let template = rig.issuer.token().claim("account", "NUMBER");
        let claims = template.claims().to_string().replace("\"NUMBER\"", number);
        let token = template.mint_bytes(template.header_value().to_string(), claims);
        assert_eq!(rig.gateway.get("/orders").token(&token).send().await.verdict(), "200 -", "{number}");
        assert_eq!(rig.upstream.last().header("x-account"), header, "{number}");
    }
}

#[tokio::test]
async fn lenient_readings_reach_no_laxer_route() {
    let rig = Rig::routes(&format!(
        "
- {{ id: lax, match: {{ path: '/{{*rest}}' }}, public: true, upstream: orders }}
- id: strict
  match: {{ path: /secret }}
  require: {{ issuers: [corp], audience: {AUDIENCE}, scopes: [admin] }}
  upstream: orders
- {{ id: item-read, match: {{ path: '/item/{{id}}', methods: [GET, POST] }}, public: true, upstream: orders }}
- id: item-delete
  match: {{ path: '/item/{{id}}', methods: [DELETE] }}
  require: {{ issuers: [corp], audience: {AUDIENCE}, scopes: [admin] }}
  upstream: orders
- id: own
  match: {{ path: '/own/{{id}}', methods: [POST], allow_method_query: true }}
  public: true
  upstream: orders
"
    ))
    .await;
    for (method, target, wanted) in [
        ("GET", "/secret", "401 credential_missing"),
        ("GET", "/secret/", "400 path_ambiguous"),
        ("HEAD", "/secret/", "400"),
        ("GET", "/Secret/", "400 path_ambiguous"),
        ("GET", "/secrets/", "200 -"),
        ("get", "/x", "400 request_invalid"),
        ("DeLeTe", "/item/7", "400 request_invalid"),
        ("propfind", "/x", "400 request_invalid"),
        ("PROPFIND", "/x", "200 -"),
        ("Custom", "/x", "200 -"),
        ("POST", "/item/7?_method=DELETE", "400 request_invalid"),
        ("POST", "/item/7?a=1&%5Fmethod=delete", "400 request_invalid"),
        ("GET", "/item/7?_method=PATCH", "400 request_invalid"),
        ("GET", "/item/7?_method=POST", "200 -"),
        ("POST", "/own/7?_method=DELETE", "200 -"),
    ] {
        let response = rig.gateway.call(method, target).send().await;
        let verdict = if method == "HEAD" { response.status.to_string() } else { response.verdict() };
        assert_eq!(verdict, wanted, "{method} {target}");
    }
}
