//! Where verification keys come from, and what happens while they cannot be had.
#![cfg(test)]

mod support;

use std::sync::Arc;

use support::{AUDIENCE, Alg, Behaviour, Gateway, Policy, Reply, Rig, TestIssuer, Upstream, eventually, ok};

/// Routes for each issuer alone, for both, and a public one.
const TWO: &str = "
- id: first
  match: { path: '/first' }
  require: { issuers: [corp], audience: AUDIENCE, scopes: [orders:read] }
  upstream: orders
- id: second
  match: { path: '/second' }
  require: { issuers: [partner], audience: AUDIENCE, scopes: [orders:read] }
  upstream: orders
- id: both
  match: { path: '/both' }
  require: { issuers: [corp, partner], audience: AUDIENCE, scopes: [orders:read] }
  upstream: orders
- id: open
  match: { path: '/open' }
  public: true
  upstream: orders
";

const FAST: &str = "key_refresh: { interval: 1s, unknown_kid_cooldown: 1s }";

struct Two {
    first: TestIssuer,
    second: TestIssuer,
    _upstream: Upstream,
    gateway: Gateway,
}

/// Two issuers that publish keys under the same `kid`s; the second behaves so from the start.
async fn two(second: Behaviour) -> Two {
    let (first, other) = (TestIssuer::start().await, TestIssuer::with_own_keys().await);
    other.behave(second);
    let upstream = Upstream::start(|_| ok("hello")).await;
    let issuers = format!(
        "partner:\n  issuer: {}\n  keys: {{ discovery: true }}\n  algorithms: [ES256]\n  {FAST}",
        other.url()
    );
    let policy = Policy::default().issuer(FAST).issuers(&issuers).routes(&TWO.replace("AUDIENCE", AUDIENCE));
    let gateway = Gateway::start(&policy.render(first.url(), &upstream.url())).await;
    Two { first, second: other, _upstream: upstream, gateway }
}

impl Two {
    async fn verdict(&self, path: &str, issuer: &TestIssuer) -> String {
        self.gateway.get(path).token(&issuer.token().mint()).send().await.verdict()
    }

    async fn until(&self, path: &str, issuer: &TestIssuer, wanted: &str) {
        eventually(wanted, || async { (self.verdict(path, issuer).await == wanted).then_some(()) }).await;
    }

    async fn issuer_status(&self, name: &str) -> serde_json::Value {
        let status = self.gateway.status().await;
        let issuers = status["issuers"].as_array().unwrap();
        issuers.iter().find(|issuer| issuer["name"] == name).unwrap().clone()
    }
}

#[tokio::test]
async fn keys_come_from_a_file_a_uri_or_discovery() {
    let issuer = TestIssuer::start().await;
    let upstream = Upstream::start(|_| ok("hello")).await;
    for (keys, fetches) in [
        ("keys: { jwks_file: keys.json }".to_owned(), (0, 0)),
        (format!("keys: {{ jwks_uri: '{}' }}", issuer.jwks_uri()), (0, 1)),
        ("keys: { discovery: true }".to_owned(), (1, 1)),
    ] {
        let before = (issuer.metadata_requests(), issuer.jwks_requests());
        let text = Policy::default().issuer(&keys).render(issuer.url(), &upstream.url());
        let gateway = Gateway::start_with(&text, &[("keys.json", &issuer.jwks())]).await;
        for alg in Alg::ALL {
            let response = gateway.get("/orders/1").token(&issuer.token().alg(alg).mint()).send().await;
            assert_eq!(response.verdict(), "200 -", "{keys} {alg:?}");
        }
        let after = (issuer.metadata_requests() - before.0, issuer.jwks_requests() - before.1);
        assert_eq!(after, fetches, "{keys}");
    }
}

#[tokio::test]
async fn metadata_is_found_under_every_name_and_with_a_path() {
    let signer = TestIssuer::start().await;
    for (path, place) in [
        ("", "/.well-known/oauth-authorization-server"),
        ("", "/.well-known/openid-configuration"),
        ("/realms/a", "/.well-known/oauth-authorization-server/realms/a"),
        ("/realms/a", "/.well-known/openid-configuration/realms/a"),
        ("/realms/a", "/realms/a/.well-known/openid-configuration"),
        ("/", "/.well-known/openid-configuration"),
    ] {
        let jwks_uri = signer.jwks_uri();
        let front = Upstream::start(|_| Reply::with(404, "", "")).await;
        let issuer = format!("{}{path}", front.url());
        let metadata = serde_json::json!({ "issuer": issuer, "jwks_uri": jwks_uri }).to_string();
        front.answers(move |request| match request.target == place {
            true => Reply::with(200, "Content-Type: application/json\r\n", &metadata),
            false => Reply::with(404, "", ""),
        });
        let upstream = Upstream::start(|_| ok("hello")).await;
        let gateway = Gateway::start(&Policy::default().render(&issuer, &upstream.url())).await;
        let token = signer.token().claim("iss", issuer).mint();
        assert_eq!(gateway.get("/orders/1").token(&token).send().await.verdict(), "200 -", "{path} {place}");
    }
}

#[tokio::test]
async fn issuers_may_share_key_ids_and_never_each_others_keys() {
    let both = two(Behaviour::Well).await;
    let (first, second) = (&both.first, &both.second);
    assert_eq!(first.token().header_value()["kid"], second.token().header_value()["kid"]);
    for issuer in [first, second] {
        assert_eq!(both.verdict("/both", issuer).await, "200 -", "with the keys of both at hand");
    }
    for (signer, named) in [(first, second), (second, first)] {
        let forged = signer.token().claim("iss", named.url()).mint();
        let verdict = both.gateway.get("/both").token(&forged).send().await.verdict();
        assert_eq!(verdict, "401 signature_invalid", "the key of the other issuer under the same name");
    }
    assert_eq!(both.verdict("/first", &both.second).await, "401 issuer_refused");
}

#[tokio::test]
async fn a_dead_issuer_is_its_own_outage_and_recovers_without_a_restart() {
    let both = two(Behaviour::Down).await;
    let ready = || async { both.gateway.admin("GET", "/readyz").send().await.status };
    let refused = both.gateway.get("/second").token(&both.second.token().mint()).send().await;
    assert_eq!(refused.verdict(), "503 keys_unavailable");
    assert!(refused.header("retry-after").is_some() && refused.challenge().is_empty(), "{refused:?}");
    for (path, wanted) in [("/first", "200 -"), ("/both", "200 -"), ("/open", "200 -")] {
        assert_eq!(both.verdict(path, &both.first).await, wanted, "{path}");
    }
    assert_eq!(both.verdict("/both", &both.second).await, "503 keys_unavailable");
    assert_eq!(ready().await, 503);
    let status = both.issuer_status("partner").await;
    assert!(status["usable"] == false && status["last_error"]["error"].is_string(), "{status}");
    let failed = [r#"issuer="partner""#, r#"outcome="failed""#];
    // Whoever waits for the keys is told before it is counted.
    eventually("the failure is counted", || async {
        (both.gateway.metric("scopegate_jwks_refreshes_total", &failed).await >= 1.0).then_some(())
    })
    .await;

    both.second.behave(Behaviour::Well);
    both.until("/second", &both.second, "200 -").await;
    assert_eq!(ready().await, 200);
    let status = both.issuer_status("partner").await;
    assert!(status["usable"] == true && status["last_error"].is_null(), "{status}");
    assert!(status["keys"].as_array().is_some_and(|keys| !keys.is_empty()), "{status}");
    assert_eq!(both.gateway.metric("scopegate_jwks_keys", &[r#"issuer="partner""#]).await, 1.0);
}

#[tokio::test]
async fn an_issuer_that_hangs_holds_up_nobody_else() {
    let both = two(Behaviour::Slow(Arc::default())).await;
    assert_eq!(both.verdict("/first", &both.first).await, "200 -", "its own keys come first");
    let waiting = both.gateway.get("/second").token(&both.second.token().mint());
    let waiting = tokio::spawn(async move { waiting.send().await.verdict() });
    let started = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(both.verdict("/first", &both.first).await, "200 -");
    }
    // Each would wait two seconds for keys, forty in all.
    assert!(started.elapsed().as_secs() < 20, "held up for {:?}", started.elapsed());
    assert_eq!(waiting.await.unwrap(), "503 keys_unavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_unknown_keys_is_one_fetch_a_cooldown() {
    let rig =
        Rig::with(Policy::default().issuer("key_refresh: { interval: 1h, unknown_kid_cooldown: 1h }")).await;
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    let before = rig.issuer.jwks_requests();
    let mut storm = tokio::task::JoinSet::new();
    for n in 0..200 {
        let call = rig
            .gateway
            .get("/orders/1")
            .token(&rig.issuer.token().header("kid", format!("nobody-{n}")).mint());
        storm.spawn(async move { call.send().await.verdict() });
    }
    for verdict in storm.join_all().await {
        assert_eq!(verdict, "401 key_unknown");
    }
    assert_eq!(rig.issuer.jwks_requests() - before, 1);
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
}

#[tokio::test]
async fn keys_replaced_under_their_kid_are_found_once_a_cooldown() {
    let rig =
        Rig::with(Policy::default().issuer("key_refresh: { interval: 1h, unknown_kid_cooldown: 1h }")).await;
    let old = rig.issuer.token().mint();
    assert_eq!(rig.gateway.get("/orders/1").token(&old).send().await.status, 200);
    let before = rig.issuer.jwks_requests();
    rig.issuer.replace_keys();
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    assert_eq!(rig.issuer.jwks_requests() - before, 1);
    assert_eq!(rig.gateway.get("/orders/1").token(&old).send().await.verdict(), "401 signature_invalid");
    for _ in 0..20 {
        let forged = rig.issuer.token().mint_with_signature(&[7; 64]);
        assert_eq!(
            rig.gateway.get("/orders/1").token(&forged).send().await.verdict(),
            "401 signature_invalid"
        );
    }
    assert_eq!(rig.issuer.jwks_requests() - before, 1, "within the cooldown");
    assert_eq!(rig.get("/orders/1").send().await.status, 200, "good tokens are not disturbed");
}

#[tokio::test]
async fn unknown_keys_while_the_issuer_is_down_ask_it_once_a_cooldown() {
    let rig =
        Rig::with(Policy::default().issuer("key_refresh: { interval: 1h, unknown_kid_cooldown: 1h }")).await;
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    rig.issuer.behave(Behaviour::Failing);
    let before = rig.issuer.metadata_requests();
    for n in 0..30 {
        let token = rig.issuer.token().header("kid", format!("nobody-{n}")).mint();
        let response = rig.gateway.get("/orders/1").token(&token).send().await;
        assert!(
            ["503 keys_unavailable", "401 key_unknown"].contains(&response.verdict().as_str()),
            "{response:?}"
        );
    }
    // Its own retries after the failure come besides: one second apart at least, then two, …
    let asked = rig.issuer.metadata_requests() - before;
    assert!((1..=6).contains(&asked), "{asked} fetches");
    assert_eq!(rig.get("/orders/1").send().await.status, 200, "known keys serve on");
}

#[tokio::test]
async fn keys_older_than_max_stale_are_no_keys() {
    let policy =
        Policy::default().issuer("key_refresh: { interval: 1s, unknown_kid_cooldown: 1s, max_stale: 3s }");
    let rig = Rig::with(policy).await;
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    rig.issuer.behave(Behaviour::Failing);
    let response = eventually("the keys are too old", || async {
        let response = rig.get("/orders/1").send().await;
        (response.status != 200).then_some(response)
    })
    .await;
    assert_eq!(response.verdict(), "503 keys_unavailable");
    assert!(response.header("retry-after").is_some() && response.challenge().is_empty(), "{response:?}");
    assert!(rig.gateway.metric("scopegate_jwks_age_seconds", &[r#"issuer="corp""#]).await >= 3.0);
    assert_eq!(rig.gateway.status().await["issuers"][0]["usable"], false);
    rig.issuer.behave(Behaviour::Well);
    eventually("it recovers", || async { (rig.get("/orders/1").send().await.status == 200).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_redirect_to_another_host_gives_no_keys() {
    let evil = TestIssuer::start().await;
    let target = evil.jwks_uri();
    let front = Upstream::start(move |_| Reply::with(302, &format!("Location: {target}\r\n"), "")).await;
    let upstream = Upstream::start(|_| ok("hello")).await;
    let keys = format!("keys: {{ jwks_uri: '{}/jwks' }}", front.url());
    let gateway =
        Gateway::start(&Policy::default().issuer(&keys).render(&front.url(), &upstream.url())).await;
    let token = evil.token().claim("iss", front.url()).mint();
    assert_eq!(gateway.get("/orders/1").token(&token).send().await.verdict(), "503 keys_unavailable");
    assert_eq!((evil.jwks_requests(), front.requests().is_empty()), (0, false));
    let error = gateway.status().await["issuers"][0]["last_error"]["error"].to_string();
    assert!(error.contains("redirect"), "{error}");
}

#[tokio::test]
async fn what_is_no_good_key_set_replaces_nothing() {
    let rig = Rig::with(Policy::default().issuer(FAST)).await;
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    let weak = r#"{"keys":[{"kty":"oct","k":"AAAA","kid":"p256-1"},{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"weak"}]}"#;
    for bad in ["", "[]", "{}", "<html>", weak, &format!("{{\"keys\":[{}]}}", "{},".repeat(1_000_000))] {
        let before = rig.issuer.jwks_requests();
        rig.issuer.behave(Behaviour::Jwks(bad.to_owned()));
        eventually("it is fetched", || async { (rig.issuer.jwks_requests() > before + 1).then_some(()) })
            .await;
        let shown: String = bad.chars().take(40).collect();
        assert_eq!(rig.get("/orders/1").send().await.status, 200, "{shown}");
        let status = rig.gateway.status().await;
        assert!(status["issuers"][0]["last_error"].is_object(), "{shown}: {status}");
        rig.issuer.behave(Behaviour::Well);
        eventually("it is well again", || async {
            rig.gateway.status().await["issuers"][0]["last_error"].is_null().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_key_file_is_read_again_with_the_policy() {
    let (issuer, upstream) = (TestIssuer::start().await, Upstream::start(|_| ok("hello")).await);
    let text =
        Policy::default().issuer("keys: { jwks_file: keys.json }").render(issuer.url(), &upstream.url());
    let gateway = Gateway::start_with(&text, &[("keys.json", &issuer.jwks())]).await;
    let old = issuer.token().mint();
    assert_eq!(gateway.get("/orders/1").token(&old).send().await.status, 200);
    issuer.rotate();
    std::fs::write(gateway.dir().join("keys.new"), issuer.jwks()).unwrap();
    std::fs::rename(gateway.dir().join("keys.new"), gateway.dir().join("keys.json")).unwrap();
    eventually("the new key counts", || async {
        (gateway.get("/orders/1").token(&issuer.token().mint()).send().await.status == 200).then_some(())
    })
    .await;
    assert_eq!(
        gateway.get("/orders/1").token(&old).send().await.verdict(),
        "401 key_unknown",
        "and the old one is dead"
    );
}
