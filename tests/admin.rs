//! The admin listener: what operators and monitoring read, and who may change anything.
#![cfg(test)]

mod support;

use support::{ADMIN_TOKEN, Gateway, Policy, Rig, TestIssuer, Upstream, ok, process};

#[tokio::test]
async fn the_metrics_are_what_prometheus_understands_and_count_each_request() {
    let rig = Rig::start().await;
    for _ in 0..3 {
        rig.get("/orders/1").send().await;
    }
    rig.gateway.get("/orders/1").send().await;
    rig.gateway.get("/nothing").send().await;
    let keys = ["outcome=\"changed\""];
    support::eventually("the fetch of the keys is counted", || async {
        (rig.gateway.metric("scopegate_jwks_refreshes_total", &keys).await == 1.0).then_some(())
    })
    .await;
    let count = |labels: &'static [&'static str]| rig.gateway.metric("scopegate_requests_total", labels);
    // Each is counted when its answer is on its way.
    support::eventually("each request is counted", || async {
        let good = count(&[r#"route="orders""#, r#"status="200""#, r#"method="GET""#]).await;
        let refused = count(&[r#"route="orders""#, r#"status="401""#]).await;
        ((good, refused, count(&[r#"status="404""#]).await) == (3.0, 1.0, 1.0)).then_some(())
    })
    .await;
    let decisions = |labels: &'static [&'static str]| rig.gateway.metric("scopegate_decisions_total", labels);
    assert_eq!(decisions(&[r#"route="orders""#, r#"reason="credential_missing""#]).await, 1.0);

    let metrics = rig.gateway.metrics().await;
    let output = process::promtool_check_metrics(&metrics).await;
    assert_eq!(output.code, Some(0), "{output:?}\n{metrics}");
    for name in [
        "scopegate_request_duration_seconds_bucket",
        "scopegate_decision_duration_seconds_bucket",
        "scopegate_upstream_duration_seconds_bucket",
        "scopegate_token_cache_hits_total",
        "scopegate_token_cache_misses_total",
        "scopegate_jwks_age_seconds",
        "scopegate_jwks_refreshes_total",
        "scopegate_policy_info",
        "scopegate_policy_last_success_timestamp_seconds",
        "scopegate_connections",
        "scopegate_in_flight_requests",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name} is missing:\n{metrics}");
    }
}

#[tokio::test]
async fn no_client_can_add_a_series() {
    let rig = Rig::start().await;
    let series = |metrics: String| metrics.lines().filter(|line| !line.starts_with('#')).count();
    rig.gateway.get("/nothing").send().await;
    rig.gateway.call("BREW", "/nothing").send().await;
    // Each is counted when its connection has ended, which is after its answer; and the issuer's keys, which bring their
    // own series, are fetched from the start on.
    let counted = |name, labels: &'static [&'static str]| rig.gateway.metric(name, labels);
    support::eventually("both are counted, and the keys are here", || async {
        let requests = counted("scopegate_requests_total", &[r#"route="none""#]).await;
        let closed = counted("scopegate_connections_closed_total", &[r#"cause="client""#]).await;
        let keys = counted("scopegate_jwks_refreshes_total", &[r#"outcome="changed""#]).await;
        (requests == 2.0 && closed == 2.0 && keys == 1.0).then_some(())
    })
    .await;
    let before = series(rig.gateway.metrics().await);
    for n in 0..50 {
        let call = rig.gateway.call(&format!("M{n}"), &format!("/x{n}"));
        call.host(&format!("h{n}.example.com")).header("User-Agent", &n.to_string()).send().await;
    }
    assert_eq!(series(rig.gateway.metrics().await), before);
}

#[tokio::test]
async fn health_and_readiness_differ() {
    let issuer = TestIssuer::start().await;
    issuer.behave(support::Behaviour::Down);
    let upstream = Upstream::start(|_| ok("hello")).await;
    let policy = Policy::default().issuer("key_refresh: { interval: 1s }");
    let gateway = Gateway::start(&policy.render(issuer.url(), &upstream.url())).await;
    let status = |path: &'static str| async { gateway.admin("GET", path).send().await.status };
    assert_eq!(status("/healthz").await, 200);
    assert_eq!(status("/readyz").await, 503, "without keys nobody could be let in");
    issuer.behave(support::Behaviour::Well);
    let gateway = &gateway;
    support::eventually("ready", || async {
        (gateway.admin("GET", "/readyz").send().await.status == 200).then_some(())
    })
    .await;
    // The failures before the keys came are counted too.
    let failures = || gateway.metric("scopegate_jwks_refreshes_total", &[r#"outcome="failed""#]);
    let before = failures().await;
    issuer.behave(support::Behaviour::Down);
    support::eventually("it fails again", || async { (failures().await > before).then_some(()) }).await;
    assert_eq!(status("/readyz").await, 200, "a later outage of one issuer unreadies no replica");
}

#[tokio::test]
async fn the_status_tells_what_is_loaded_and_keeps_secrets() {
    let rig = Rig::start().await;
    rig.get("/orders/1").send().await;
    let status = rig.gateway.status().await;
    assert_eq!(status["policy"]["hash"], rig.gateway.config_hash());
    assert!(status["policy"]["loaded"].is_string(), "{status}");
    assert!(status["reload"]["error"].is_null(), "{status}");
    let text = status.to_string();
    assert!(text.contains("corp") && text.contains(&rig.gateway.address().to_string()), "{status}");
    assert!(!text.contains(ADMIN_TOKEN), "{status}");
    let routes = rig.gateway.admin("GET", "/api/v1/routes").send().await;
    assert!(routes.status == 200 && routes.text().contains("orders:read"), "{}", routes.text());
}

#[tokio::test]
async fn a_change_needs_the_token() {
    let rig = Rig::start().await;
    let reload = || rig.gateway.admin("POST", "/api/v1/reload").body("");
    for (what, call) in [
        ("no token", reload()),
        ("another token", reload().token("wrong")),
        ("a part of the token", reload().token(&ADMIN_TOKEN[..ADMIN_TOKEN.len() - 1])),
        ("an access token", reload().token(&rig.token())),
        ("another scheme", reload().header("Authorization", &format!("Basic {ADMIN_TOKEN}"))),
    ] {
        let status = call.send().await.status;
        assert!([401, 403].contains(&status), "{what}: {status}");
    }
    assert_eq!(rig.gateway.reload().await.status, 200);
    assert_eq!(rig.gateway.admin("GET", "/api/v1/reload").send().await.status, 405, "a read changes nothing");
}

#[tokio::test]
async fn without_a_token_in_the_configuration_every_change_is_refused() {
    let issuer = TestIssuer::start().await;
    let upstream = Upstream::start(|_| ok("hello")).await;
    let config =
        Policy::default().render(issuer.url(), &upstream.url()).replace(", token: { file: admin.token }", "");
    let gateway = Gateway::start(&config).await;
    for token in ["", "undefined", ADMIN_TOKEN] {
        let status = gateway.admin("POST", "/api/v1/reload").token(token).body("").send().await.status;
        assert!([401, 403].contains(&status), "{token:?}: {status}");
    }
    assert_eq!(gateway.status().await["policy"]["hash"], gateway.config_hash(), "reading goes on");
}

#[tokio::test]
async fn off_loopback_only_metrics_and_health_answer_without_the_token() {
    let issuer = TestIssuer::start().await;
    let upstream = Upstream::start(|_| ok("hello")).await;
    let text = Policy::default()
        .render(issuer.url(), &upstream.url())
        .replace("address: 127.0.0.1:0", "address: 0.0.0.0:0");
    for (what, config, with_token) in [
        ("no token", text.replace(", token: { file: admin.token }", ""), 403),
        ("a token", text.clone(), 200),
    ] {
        let gateway = Gateway::start(&config).await;
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], gateway.admin_address().port()));
        let call = |path: &str| support::Call::new(address, "GET", path).host(&address.to_string());
        for path in ["/metrics", "/healthz", "/readyz"] {
            assert_eq!(call(path).send().await.status, 200, "{what}: {path}");
        }
        for path in ["/api/v1/status", "/api/v1/routes"] {
            let status = call(path).send().await.status;
            assert!([401, 403].contains(&status), "{what}: {path} {status}");
            assert_eq!(call(path).token(ADMIN_TOKEN).send().await.status, with_token, "{what}: {path}");
        }
    }
}

#[tokio::test]
async fn a_web_page_elsewhere_can_neither_read_nor_change() {
    let rig = Rig::start().await;
    let address = rig.gateway.admin_address();
    for host in ["evil.example.com", &format!("evil.example.com:{}", address.port()), ""] {
        let status = rig.gateway.admin("GET", "/api/v1/status").host(host).send().await.status;
        assert!((400..500).contains(&status), "Host {host:?}: {status}");
    }
    for host in [format!("localhost:{}", address.port()), address.to_string()] {
        assert_eq!(rig.gateway.admin("GET", "/api/v1/status").host(&host).send().await.status, 200, "{host}");
    }
    let cross = |name: &str, value: &str| {
        rig.gateway.admin("POST", "/api/v1/reload").token(ADMIN_TOKEN).header(name, value).body("")
    };
    for (name, value) in
        [("Origin", "https://evil.example.com"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")]
    {
        let response = cross(name, value).send().await;
        assert_eq!(response.status, 403, "{name}: {value}");
        assert!(!response.fields.has("access-control-allow-origin"), "{response:?}");
    }
}

#[tokio::test]
async fn the_public_listener_serves_nothing_of_the_admins() {
    let rig = Rig::start().await;
    for path in ["/metrics", "/healthz", "/readyz", "/api/v1/status", "/"] {
        assert_eq!(rig.get(path).send().await.verdict(), "404 route_unknown", "{path}");
    }
    assert_eq!(
        rig.gateway.admin("GET", "/orders/1").token(&rig.token()).send().await.status,
        404,
        "nor the reverse"
    );
}
