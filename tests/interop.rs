//! Tokens of a real OpenID provider, from its metadata to the upstream.
#![cfg(test)]

mod support;

use support::oidc::OidcProvider;
use support::{Gateway, Policy, Upstream, ok};

const ES256: &str = "https://api.example.com/es256";

/// Takes any of the provider's audiences for this API.
const ROUTES: &str = "
- id: orders
  match: { host: api.example.com, path: '/orders/{*rest}' }
  require:
    issuers: [corp]
    audience: [https://api.example.com/rs256, https://api.example.com/es256, https://api.example.com/eddsa]
    scopes: [orders:read]
  upstream: orders
  forward:
    identity_headers: { X-User: sub, X-Client: client, X-Scopes: scope }
";

async fn start() -> (OidcProvider, Upstream, Gateway) {
    let provider = OidcProvider::start().await;
    let upstream = Upstream::start(|_| ok("hello")).await;
    let policy = Policy::default()
        .issuer("algorithms: [RS256, ES256, EdDSA]\nkey_refresh: { interval: 2s, unknown_kid_cooldown: 1s }")
        .routes(ROUTES);
    let gateway = Gateway::start(&policy.render(&provider.issuer, &upstream.url())).await;
    (provider, upstream, gateway)
}

#[tokio::test]
async fn real_tokens_of_every_algorithm_reach_the_upstream_as_identity_headers() {
    let (provider, upstream, gateway) = start().await;
    for algorithm in ["rs256", "es256", "eddsa"] {
        let token = provider.token(&format!("https://api.example.com/{algorithm}"), "orders:read").await;
        let response = gateway.get("/orders/1").token(&token).header("X-User", "root").send().await;
        assert_eq!(response.verdict(), "200 -", "{algorithm}");
        let seen = upstream.last();
        assert_eq!(seen.header("x-client"), Some("batch"), "{algorithm}");
        assert_eq!(seen.header("x-user"), Some("batch"), "{algorithm}");
        assert_eq!(seen.header("x-scopes"), Some("orders:read"), "{algorithm}");
        assert!(!seen.fields.has("authorization"), "{algorithm}: {seen:?}");
    }
}

#[tokio::test]
async fn a_users_access_token_is_accepted_and_the_id_token_is_not() {
    let (provider, upstream, gateway) = start().await;
    let tokens = provider.login(ES256, "orders:read").await;
    let call = |name: &str| gateway.get("/orders/1").token(tokens[name].as_str().unwrap());
    assert_eq!(call("access_token").send().await.verdict(), "200 -");
    assert_eq!(upstream.last().header("x-user"), Some("alice"));
    assert_eq!(upstream.last().header("x-client"), Some("mobile-app"));
    assert_eq!(call("id_token").send().await.verdict(), "401 token_type_refused");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_token_for_another_resource_or_without_the_scope_is_refused() {
    let (provider, upstream, gateway) = start().await;
    let other = provider.token("https://other.example.com", "orders:read").await;
    assert_eq!(gateway.get("/orders/1").token(&other).send().await.verdict(), "401 audience_mismatch");
    let write = provider.token(ES256, "orders:write").await;
    let response = gateway.get("/orders/1").token(&write).send().await;
    assert_eq!(response.verdict(), "403 scope_missing");
    assert!(response.challenge().contains(r#"scope="orders:read""#), "{}", response.challenge());
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_key_rotation_is_followed_without_a_restart() {
    let (provider, _upstream, gateway) = start().await;
    let old = provider.token(ES256, "orders:read").await;
    assert_eq!(gateway.get("/orders/1").token(&old).send().await.verdict(), "200 -");
    provider.rotate().await;
    let new = provider.token(ES256, "orders:read").await;
    support::eventually("the next token is accepted", || async {
        (gateway.get("/orders/1").token(&new).send().await.status == 200).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/orders/1").token(&old).send().await.verdict(), "401 key_unknown");
}

#[tokio::test]
async fn tokens_are_accepted_while_the_provider_is_down() {
    let (provider, _upstream, gateway) = start().await;
    let first = provider.token(ES256, "orders:read").await;
    let second = provider.token(ES256, "orders:read").await;
    assert_eq!(gateway.get("/orders/1").token(&first).send().await.verdict(), "200 -");
    provider.set_down(true).await;
    let failed = [r#"issuer="corp""#, r#"outcome="failed""#];
    support::eventually("the gateway has asked in vain", || async {
        (gateway.metric("scopegate_jwks_refreshes_total", &failed).await > 0.0).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/orders/1").token(&second).send().await.verdict(), "200 -", "not seen before");
    provider.set_down(false).await;
}
