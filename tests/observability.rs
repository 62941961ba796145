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

#[tokio::test]
async fn every_refusal_has_a_cause_in_the_log() {
    let requirements = "{ issuers: [corp], audience: https://api.example.com, scopes: [orders:read], tenant: { equals: [acme] }, \
        clients: [mobile-app], subjects: [alice], max_token_age: 300s, claims: { level: { equals: 3 } } }";
    let policy = Policy::default()
        .require(requirements)
        .gateway("limits: { uri: 1KiB, body: 1KiB }")
        .issuers("other:\n  issuer: https://other.example.com/\n  keys: { discovery: true }\n  algorithms: [RS256]");
    let rig = Rig::with(policy).await;
    let good = || rig.issuer.token().claim("level", 3).claim("tenant", "acme");
    let get = |target: &str| rig.gateway.get(target);
    let with = |token: String| get("/orders/1").token(&token);
    let long = "i".repeat(5000);
    let rows: Vec<(Call, &str, &[&str])> = vec![
        (get("/nothing"), "route_unknown", &["none matches the path"]),
        (get("/x").host("unknown.example.com"), "route_unknown", &["no route names this host"]),
        (get(&format!("/{}", "x".repeat(1024))), "uri_too_long", &["1025 bytes", "`limits.uri` is 1024"]),
        (get("/orders/1"), "credential_missing", &["no Authorization field"]),
        (
            with(good().claim("aud", "orders-api").mint()),
            "audience_mismatch",
            &["expected audience `https://api.example.com`, found `orders-api`"],
        ),
        (
            with(good().claim("iss", "https://other.example.com").mint()),
            "issuer_unknown",
            &["(unverified): `https://other.example.com`", "expected `https://other.example.com/`", "slash"],
        ),
        (
            with(good().claim("iss", format!("{long}\u{1b}[31m")).mint()),
            "issuer_unknown",
            &["(unverified): `iii", "…`"],
        ),
        (with(good().times(-700, -312).mint()), "token_expired", &["expired 31", " s ago (exp 20"]),
        (
            with(good().times(100, 700).mint()),
            "token_not_yet_valid",
            &["`iat` lies ", " s ahead", "`leeway` is 10 s"],
        ),
        (
            with(good().times(-10, 90_000).mint()),
            "token_lifetime_excessive",
            &["90010 s", "`max_lifetime` is 86400 s"],
        ),
        (
            with(good().header("typ", "JWT").mint()),
            "token_type_refused",
            &["expected `typ` `at+jwt`, found `JWT` (unverified)"],
        ),
        (
            with(good().header("alg", "HS256").mint()),
            "algorithm_refused",
            &["expected `alg` `RS256`", "found `HS256` (unverified)"],
        ),
        (with(good().header("kid", "nobody").mint()), "key_unknown", &["issuer `corp` has no key"]),
        (
            with(good().mint_with_signature(&[0; 64])),
            "signature_invalid",
            &["the signature is not that of a key of issuer `corp`"],
        ),
        (with(good().without("jti").mint()), "token_claim_missing", &["`jti` is missing"]),
        (
            with(good().scope("orders:write x").mint()),
            "scope_missing",
            &["scopes `orders:read`; found: `orders:write`, `x`"],
        ),
        (with(good().scope(&"s ".repeat(2000)).mint()), "scope_missing", &["found: `s`", " more"]),
        (
            with(good().claim("client_id", "batch").mint()),
            "client_refused",
            &["found `batch` of issuer `http"],
        ),
        (with(good().claim("sub", "bob").mint()), "subject_refused", &["found `bob` of issuer `http"]),
        (
            with(good().claim("tenant", "globex").mint()),
            "tenant_mismatch",
            &["expected tenant `acme`, found `globex`"],
        ),
        (
            with(good().claim("level", 4).mint()),
            "claim_mismatch",
            &["claim `level`: expected the value of the route's rule, found another number"],
        ),
        (
            with(good().times(-400, 500).mint()),
            "token_stale",
            &["issued 40", " s ago (iat 20", "`max_token_age` is 300 s"],
        ),
        (
            with(good().mint()).body(vec![b'x'; 1025]),
            "body_too_large",
            &["Content-Length is 1025", "`limits.body` is 1024"],
        ),
        (with(good().mint()).header("Expect", "magic"), "expectation_failed", &["100-continue"]),
    ];
    for (number, (call, reason, _)) in rows.iter().enumerate() {
        let answer = call.send().await;
        let problem = answer.json();
        assert_eq!(problem["reason"], *reason, "row {number}: {problem}");
        assert!(problem.get("cause").is_none(), "callers are not told: {problem}");
        // The request id joins the response with its line.
        let line = rig.gateway.wait_for_log(|entry| entry["request_id"] == problem["request_id"]).await;
        let cause = line["cause"].as_str().unwrap_or_else(|| panic!("no cause: {line}"));
        for part in rows[number].2 {
            assert!(cause.contains(part), "{reason}: {part:?} is not in {cause:?}");
        }
        assert!(cause.len() < 700 && !cause.contains('\u{1b}'), "{cause:?}");
    }
}

#[tokio::test]
async fn the_access_log_follows_its_file() {
    let rig = Rig::with(Policy::default().gateway("access_log: { file: access.jsonl }")).await;
    let path = rig.gateway.dir().join("access.jsonl");
    let moved = |name: &str| std::fs::rename(&path, rig.gateway.dir().join(name)).unwrap();
    let lines = |name: &str| {
        let text = std::fs::read_to_string(rig.gateway.dir().join(name)).unwrap_or_default();
        text.lines()
            .filter(|line| serde_json::from_str::<serde_json::Value>(line).unwrap().is_object())
            .count()
    };
    let mut sent = 0;
    rig.get("/orders/1").send().await;
    sent += 1;
    eventually("the line is written", || async { (lines("access.jsonl") == 1).then_some(()) }).await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o037, 0, "others may not read it, and its group may not write it: {mode:o}");
    // A request is enough, if the file was moved.
    moved("first.jsonl");
    while !path.exists() {
        rig.get("/orders/2").send().await;
        sent += 1;
        assert!(sent < 100_000, "the file is not made again");
    }
    // So is the signal alone.
    moved("second.jsonl");
    rig.gateway.signal("HUP");
    eventually("the file is made again", || async { path.exists().then_some(()) }).await;
    rig.get("/orders/3").send().await;
    sent += 1;
    let all = || ["first.jsonl", "second.jsonl", "access.jsonl"].map(lines).iter().sum::<usize>();
    eventually("no line is lost", || async { (all() == sent).then_some(()) }).await;
    assert_eq!(rig.gateway.log().len(), 0, "nothing goes to standard output");
    // What cannot be written is counted, and no request waits for it.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    rig.gateway.signal("HUP");
    eventually("the loss is counted", || async {
        assert_eq!(rig.get("/orders/4").send().await.status, 200);
        (rig.gateway.metric("scopegate_access_log_dropped_total", &[]).await > 0.0).then_some(())
    })
    .await;
    assert!(
        rig.gateway.output().contains("the access log cannot be opened again"),
        "{}",
        rig.gateway.output()
    );
    std::fs::remove_dir(&path).unwrap();
    rig.gateway.signal("HUP");
    eventually("it goes on", || async {
        rig.get("/orders/5").send().await;
        (lines("access.jsonl") > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_access_log_that_cannot_be_opened_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("admin.token"), ADMIN_TOKEN).unwrap();
    let text = Policy::default().render("https://idp.example.com", "http://127.0.0.1:9");
    let config = dir.path().join("routes.yaml");
    for (file, cause) in [
        ("nowhere/access.jsonl", "No such file"),
        (".", "Is a directory"),
        ("/dev/null", "not a regular file"),
    ] {
        let line = format!("  access_log: {{ file: {file} }}\n  admin:");
        std::fs::write(&config, text.replace("  admin:", &line)).unwrap();
        let output = process::scopegate(["run", "--config", config.to_str().unwrap()]).await;
        assert_eq!(output.code, Some(1), "{output:?}");
        for part in ["cannot open the access log", file, cause, "`gateway.access_log.file`"] {
            assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
        }
    }
}
