//! What operators rely on: the names of the metrics, and a log that holds up nobody.
#![cfg(test)]

mod support;

use std::process::{Command, Stdio};

use support::{ADMIN_TOKEN, Call, Client, Policy, Rig, TestIssuer, Upstream, eventually, ok, process};

/// The metrics that are promised, with their labels and kinds.
const PROMISED: &[(&str, &[&str], &str)] = &[
    ("scopegate_requests_total", &["route", "method", "status"], "counter"),
    ("scopegate_decisions_total", &["route", "decision", "reason"], "counter"),
    ("scopegate_request_duration_seconds", &["route"], "histogram"),
    ("scopegate_decision_duration_seconds", &[], "histogram"),
    ("scopegate_upstream_duration_seconds", &["upstream"], "histogram"),
    ("scopegate_upstream_errors_total", &["upstream", "reason"], "counter"),
    ("scopegate_token_cache_hits_total", &[], "counter"),
    ("scopegate_token_cache_misses_total", &[], "counter"),
    ("scopegate_token_cache_evictions_total", &[], "counter"),
    ("scopegate_jwks_age_seconds", &["issuer"], "gauge"),
    ("scopegate_jwks_refreshes_total", &["issuer", "outcome"], "counter"),
    ("scopegate_policy_reloads_total", &["outcome"], "counter"),
    ("scopegate_policy_info", &["hash"], "gauge"),
    ("scopegate_policy_last_success_timestamp_seconds", &[], "gauge"),
    ("scopegate_connections", &["listener"], "gauge"),
    ("scopegate_in_flight_requests", &[], "gauge"),
    ("process_resident_memory_bytes", &[], "gauge"),
    ("process_open_fds", &[], "gauge"),
    ("process_cpu_seconds_total", &[], "counter"),
];

#[tokio::test]
async fn every_promised_metric_is_there_with_its_labels() {
    let rig = Rig::start().await;
    rig.get("/orders/1").send().await;
    rig.gateway.get("/orders/1").send().await;
    rig.upstream.answers(|_| support::Reply::CloseEarly);
    rig.get("/orders/1").send().await;
    rig.gateway.reload().await;
    let metrics = rig.gateway.metrics().await;
    for (name, labels, kind) in PROMISED {
        assert!(metrics.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind}:\n{metrics}");
        let series = metrics.lines().find(|line| {
            let rest = line.strip_prefix(name).map(|rest| rest.trim_start_matches("_bucket"));
            rest.is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        });
        let series = series.unwrap_or_else(|| panic!("{name} has no series:\n{metrics}"));
        for label in *labels {
            assert!(series.contains(&format!("{label}=\"")), "{label} is missing: {series}");
        }
    }
    let output = process::promtool_check_metrics(&metrics).await;
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_no_request_and_its_losses_are_counted() {
    let (issuer, upstream) = (TestIssuer::start().await, Upstream::start(|_| ok("hello")).await);
    let dir = tempfile::tempdir().unwrap();
    let admin = process::free_address();
    let listen = process::free_address();
    let policy = Policy::default().gateway("workers: 1").listen(&format!("- http: {listen}"));
    let text = policy
        .render(issuer.url(), &upstream.url())
        .replace("address: 127.0.0.1:0", &format!("address: {admin}"));
    std::fs::write(dir.path().join("routes.yaml"), text).unwrap();
    std::fs::write(dir.path().join("admin.token"), ADMIN_TOKEN).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_scopegate"));
    let command = command.current_dir(dir.path()).stdin(Stdio::null()).stderr(Stdio::null());
    // A pipe whose reading end stays open, and is never read.
    let mut gateway = command.stdout(Stdio::piped()).spawn().unwrap();
    eventually("it listens", || async { tokio::net::TcpStream::connect(listen).await.ok() }).await;
    let mut client = Client::connect(listen).await;
    let call = Call::new(listen, "GET", &format!("/status/{}", "x".repeat(2000)));
    let dropped = || async {
        let metrics = Call::new(admin, "GET", "/metrics").host(&admin.to_string()).send().await.text();
        let line = metrics.lines().find(|line| line.starts_with("scopegate_access_log_dropped_total"));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).unwrap_or_default()
    };
    for n in 0..100 {
        for _ in 0..100 {
            assert_eq!(call.on(&mut client).await.unwrap().status, 404);
        }
        if dropped().await > 0.0 {
            break;
        }
        assert!(n < 99, "10,000 requests with long paths, and nothing was dropped: who reads them?");
    }
    assert_eq!(Call::new(listen, "GET", "/status").send().await.text(), "hello");
    process::kill(gateway.id(), "TERM");
    let ended = eventually("it ends although its log is stuck", || {
        let status = gateway.try_wait().unwrap();
        async move { status }
    })
    .await;
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn the_log_tells_who_called_what_and_why_it_was_refused() {
    let rig = Rig::start().await;
    rig.get("/orders/1?x=1").send().await;
    let token = rig.issuer.token().scope("other").mint();
    let refused = rig.gateway.call("POST", "/orders/2").token(&token).body("order").send().await;
    let good = rig.gateway.wait_for_log(|entry| entry["path"] == "/orders/1").await;
    for (field, wanted) in [
        ("method", "GET"),
        ("route", "orders"),
        ("decision", "permit"),
        ("client", "mobile-app"),
        ("subject", "alice"),
        ("upstream", "orders"),
        ("host", "api.example.com"),
        ("address", "127.0.0.1"),
    ] {
        assert_eq!(good[field], wanted, "{field}: {good}");
    }
    assert_eq!((&good["status"], &good["response_bytes"]), (&200.into(), &5.into()), "{good}");
    assert!(good["upstream_ms"].is_number() && good["reason"].is_null(), "{good}");
    let bad = rig.gateway.wait_for_log(|entry| entry["path"] == "/orders/2").await;
    for (field, wanted) in [
        ("reason", "scope_missing"),
        ("control", "authorization"),
        ("owner", "orders-team@example.com"),
        ("subject", "alice"),
    ] {
        assert_eq!(bad[field], wanted, "{field}: {bad}");
    }
    assert!(bad["upstream"].is_null(), "it was not sent there: {bad}");
    assert_eq!(bad["request_id"], refused.json()["request_id"], "the caller can name the line");
    assert_eq!(refused.header("x-request-id"), bad["request_id"].as_str());
}
