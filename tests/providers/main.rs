//! The policies in `examples/providers`, each against tokens, discovery document and key set of the shape that the
//! provider documents. The tests sign the tokens and play the provider under its real name, behind an egress proxy.
//!
//! Each `<provider>.json` beside this file holds one shape:
//!
//! - `documentation`: where the provider describes its tokens.
//! - `documents`: what the provider serves, by host and path; `jwks`: the place of its key set; `jwks_members`: what that
//!   holds beside `keys`; `jwks_token`: the token without which the provider shows nothing.
//! - `field`: the header field that tokens are sent in; `Authorization` if there is none.
//! - `jwk`, `header`: members that differ from a plain key and a plain JOSE header; null removes one.
//! - `accepted`, `refused`: tokens. A number such as `now+300` counts seconds; `because` names the reasons that may refuse
//!   the token.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;
mod world;

use serde_json::{Map, Value, json};
use support::{Alg, Gateway, TestIssuer, Upstream, has_keys, now, ok};
use world::World;

/// Declares a test for each provider, and the list of them all.
macro_rules! providers {
    ($($test:ident = $name:literal,)*) => {
        const PROVIDERS: &[&str] = &[$($name),*];
        $(
            #[tokio::test]
            async fn $test() {
                judge($name).await;
            }
        )*
    };
}

providers! {
    adfs = "adfs",
    auth0 = "auth0",
    cloudflare_access = "cloudflare-access",
    cognito = "cognito",
    entra_multi_tenant = "entra-multi-tenant",
    entra_v1 = "entra-v1",
    entra_v2 = "entra-v2",
    firebase = "firebase",
    github_actions = "github-actions",
    google = "google",
    google_iap = "google-iap",
    hydra = "hydra",
    keycloak_client_roles = "keycloak-client-roles",
    keycloak_organizations = "keycloak-organizations",
    keycloak_realm_roles = "keycloak-realm-roles",
    kubernetes = "kubernetes",
    kubernetes_in_cluster = "kubernetes-in-cluster",
    okta = "okta",
    spire = "spire",
    xsuaa = "xsuaa",
}

#[test]
fn every_example_has_a_test() {
    let stems = |folder: &str, ending: &str| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut stems: Vec<String> =
            names.filter_map(|name| Some(name.to_str()?.strip_suffix(ending)?.to_owned())).collect();
        stems.sort();
        stems
    };
    assert_eq!(stems("examples/providers", ".yaml"), PROVIDERS);
    assert_eq!(stems("tests/providers", ".json"), PROVIDERS);
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/providers.md")).unwrap();
    for provider in PROVIDERS {
        assert!(
            page.contains(&format!("examples/providers/{provider}.yaml")),
            "{provider} is not on the page"
        );
    }
}

/// Runs the gateway with a provider's policy, and sends it the provider's tokens.
async fn judge(provider: &str) {
    let shape = Shape::read(provider);
    let issuer = TestIssuer::start().await;
    let token = shape.json["jwks_token"].as_str();
    let world = World::start(shape.documents(&issuer), token).await;
    let upstream = Upstream::start(|_| ok("hello")).await;
    let policy = shape.policy(&world, &upstream);
    let files = [("ca.crt", world.authority()), ("token", token.unwrap_or_default())];
    let gateway = Gateway::start_with(&policy, &files).await;
    has_keys(&gateway).await;
    for token in shape.tokens("accepted") {
        let verdict = token.send(&shape, &issuer, &gateway).await;
        assert_eq!(verdict, "200 -", "{provider}: {}", token.what());
    }
    let served = upstream.requests().len();
    for token in shape.tokens("refused") {
        let verdict = token.send(&shape, &issuer, &gateway).await;
        let because = token.0["because"].as_str().unwrap();
        let (status, reason) = verdict.split_once(' ').unwrap();
        assert!(matches!(status, "401" | "403"), "{provider}: {}: {verdict}", token.what());
        assert!(because.split('|').any(|one| one == reason), "{}: {verdict}", token.what());
    }
    assert_eq!(upstream.requests().len(), served, "{provider}: a refused token reached the API");
}

/// One `<provider>.json` with its policy.
struct Shape {
    policy: String,
    json: Value,
}

impl Shape {
    fn read(provider: &str) -> Self {
        let read = |path: String| std::fs::read_to_string(path).unwrap();
        let root = env!("CARGO_MANIFEST_DIR");
        let json = read(format!("{root}/tests/providers/{provider}.json"));
        Self {
            policy: read(format!("{root}/examples/providers/{provider}.yaml")),
            json: serde_json::from_str(&json).unwrap(),
        }
    }

    /// The algorithm that the provider signs with.
    fn alg(&self) -> Alg {
        match self.json["alg"].as_str() {
            Some("ES256") => Alg::Es256,
            Some(other) => panic!("no test key for {other}"),
            None => Alg::Rs256,
        }
    }

    /// The policy as the example has it, but for addresses, and with the way to the tests' provider.
    fn policy(&self, world: &World, upstream: &Upstream) -> String {
        let replaced = [
            ("http: 127.0.0.1:8080", "http: 127.0.0.1:0".to_owned()),
            ("address: 127.0.0.1:9090", "address: 127.0.0.1:0".to_owned()),
            ("http://127.0.0.1:9000", upstream.url()),
            ("gateway:\n", format!("gateway:\n  egress_proxy: {{ url: \"http://{}\" }}\n", world.proxy())),
        ];
        let mounted = "/var/run/secrets/kubernetes.io/serviceaccount/";
        let policy = match self.json["jwks_token"].is_string() {
            true => self.policy.replace(mounted, ""),
            false => self.policy.replace("keys: { ", "keys: { ca: ca.crt, "),
        };
        assert!(policy.contains("ca: ca.crt"), "the example has other keys");
        replaced.into_iter().fold(policy, |policy, (from, to)| {
            assert!(policy.contains(from), "the example lacks `{from}`");
            policy.replace(from, &to)
        })
    }

    /// What the provider serves: content type and body by host and path.
    fn documents(&self, issuer: &TestIssuer) -> Vec<(String, String, String)> {
        let json = "application/json";
        let documents = self.json["documents"].as_object().unwrap().iter();
        let mut served: Vec<_> =
            documents.map(|(place, body)| (place.clone(), json.to_owned(), body.to_string())).collect();
        let keys: Value = serde_json::from_str(&issuer.jwks()).unwrap();
        let kind = if self.alg() == Alg::Es256 { "P-256" } else { "RSA" };
        let is_kind = |key: &&Value| key["crv"] == *kind || key["kty"] == *kind;
        let mut key = keys["keys"].as_array().unwrap().iter().find(is_kind).unwrap().clone();
        merge(key.as_object_mut().unwrap(), &self.json["jwk"]);
        let mut set = json!({ "keys": [key] });
        merge(set.as_object_mut().unwrap(), &self.json["jwks_members"]);
        served.push((self.json["jwks"].as_str().unwrap().into(), json.into(), set.to_string()));
        served
    }

    fn tokens(&self, list: &str) -> Vec<Token<'_>> {
        let tokens: Vec<_> = self.json[list].as_array().unwrap().iter().map(Token).collect();
        assert!(!tokens.is_empty(), "the shape has no {list} tokens");
        tokens
    }
}

/// A token with the request that carries it.
struct Token<'s>(&'s Value);

impl Token<'_> {
    fn what(&self) -> &str {
        self.0["what"].as_str().unwrap()
    }

    /// Sends it to the path of the shape; gives status and reason.
    async fn send(&self, shape: &Shape, issuer: &TestIssuer, gateway: &Gateway) -> String {
        let mut header = Map::new();
        header.insert("alg".into(), shape.alg().name().into());
        header.insert("kid".into(), shape.json["jwk"]["kid"].clone());
        merge(&mut header, &shape.json["header"]);
        merge(&mut header, &self.0["header"]);
        let claims = self.0["claims"].as_object().unwrap().iter();
        let claims: Map<String, Value> =
            claims.map(|(name, value)| (name.clone(), in_time(value, now()))).collect();
        let signer = issuer.token().alg(shape.alg());
        let token = signer.mint_bytes(Value::Object(header).to_string(), Value::Object(claims).to_string());
        let named = |member: &str| self.0[member].as_str().or_else(|| shape.json[member].as_str());
        let call = gateway.get(named("path").unwrap_or("/orders/1"));
        let call = match named("field") {
            None | Some("Authorization") => call.token(&token),
            Some(field) => call.header(field, &token),
        };
        call.send().await.verdict()
    }
}

/// Replaces members of an object; null removes one.
fn merge(object: &mut Map<String, Value>, members: &Value) {
    for (name, value) in members.as_object().into_iter().flatten() {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
}

/// `now+300` as a number, everything else as it is.
fn in_time(value: &Value, now: i64) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix("now").map(str::parse::<i64>) {
            Some(Ok(offset)) => (now + offset).into(),
            Some(Err(_)) | None => value.clone(),
        },
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), in_time(value, now))).collect()
        }
        other => other.clone(),
    }
}
