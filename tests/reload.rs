//! A new policy takes effect whole, or not at all, and costs no request.
#![cfg(test)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use support::{ADMIN_TOKEN, AUDIENCE, Client, Gateway, Policy, Reply, Rig, TestIssuer, Upstream, ok};
use tokio::sync::Notify;

/// A policy whose route at `/orders/{*rest}` needs this scope.
fn needs(scope: &str) -> Policy {
    Policy::default().require(&format!("{{ issuers: [corp], audience: {AUDIENCE}, scopes: [{scope}] }}"))
}

/// This policy, with the rig's issuer and upstream.
fn text(rig: &Rig, policy: &Policy) -> String {
    policy.render(rig.issuer.url(), &rig.upstream.url())
}

/// The verdict on a request with the scope `orders:read`.
async fn verdict(rig: &Rig) -> String {
    rig.get("/orders/1").send().await.verdict()
}

async fn until_verdict(rig: &Rig, wanted: &str) {
    support::eventually(wanted, || async { (verdict(rig).await == wanted).then_some(()) }).await;
}

const REFUSED: &str = "403 scope_missing";
const PERMITTED: &str = "200 -";

#[tokio::test]
async fn a_file_that_is_replaced_takes_effect_by_itself() {
    let rig = Rig::with(needs("orders:read")).await;
    assert_eq!(verdict(&rig).await, PERMITTED);
    rig.gateway.replace_config(&text(&rig, &needs("orders:other")));
    until_verdict(&rig, REFUSED).await;
    // A rename is whole by nature: the end mark is not needed.
    rig.gateway.replace_config(&text(&rig, &needs("orders:read").without_end()));
    until_verdict(&rig, PERMITTED).await;
    rig.gateway.wait_loaded().await;
}

#[tokio::test]
async fn a_file_written_in_place_takes_effect_when_its_end_is_marked() {
    let rig = Rig::with(needs("orders:read")).await;
    rig.gateway.write_config_in_place(&text(&rig, &needs("orders:other")));
    until_verdict(&rig, REFUSED).await;
}

#[tokio::test]
async fn a_file_written_in_place_without_its_end_waits_and_says_so() {
    let rig = Rig::with(needs("orders:other")).await;
    rig.gateway.write_config_in_place(&text(&rig, &needs("orders:read").without_end()));
    let report = rig.gateway.wait_reload_error().await;
    assert!(report.contains("..."), "it must say what it waits for: {report}");
    assert_eq!(verdict(&rig).await, REFUSED);
    assert_eq!(rig.gateway.reload().await.status, 200, "an explicit reload is a decision");
    assert_eq!(verdict(&rig).await, PERMITTED);
    assert!(rig.gateway.status().await["reload"]["error"].is_null());
}

#[tokio::test]
async fn another_file_takes_effect_though_the_policy_has_no_end_mark() {
    let rig = Rig::with(needs("orders:other")).await;
    rig.gateway.write_config_in_place(&text(&rig, &needs("orders:read").without_end()));
    rig.gateway.wait_reload_error().await;
    assert_eq!(rig.gateway.reload().await.status, 200);
    let token = "another-admin-token-0123456789abcdef";
    std::fs::write(rig.gateway.dir().join("new"), token).unwrap();
    std::fs::rename(rig.gateway.dir().join("new"), rig.gateway.dir().join("admin.token")).unwrap();
    support::eventually("the new token counts", || async {
        let reload = rig.gateway.admin("POST", "/api/v1/reload").token(token).body("");
        (reload.send().await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_swap_of_a_mounted_folder_takes_effect() {
    let issuer = TestIssuer::start().await;
    let upstream = Upstream::start(|_| ok("hello")).await;
    let text = |scope: &str| needs(scope).render(issuer.url(), &upstream.url());
    // As a container platform mounts a configuration: routes.yaml -> ..data/routes.yaml, and ..data -> a dated folder.
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let put = |name: &str, scope: &str| {
        std::fs::create_dir(root.join(name)).unwrap();
        std::fs::write(root.join(name).join("routes.yaml"), text(scope)).unwrap();
        std::os::unix::fs::symlink(name, root.join("..data.new")).unwrap();
        std::fs::rename(root.join("..data.new"), root.join("..data")).unwrap();
    };
    put("..2026_01", "orders:other");
    std::os::unix::fs::symlink("..data/routes.yaml", root.join("routes.yaml")).unwrap();
    let gateway = Gateway::start_in(dir).await;
    let verdict = || async { gateway.get("/orders/1").token(&issuer.token().mint()).send().await.verdict() };
    assert_eq!(verdict().await, REFUSED);
    put("..2026_02", "orders:read");
    support::eventually("the second folder counts", || async {
        (verdict().await == PERMITTED).then_some(())
    })
    .await;
    std::fs::remove_dir_all(root.join("..2026_01")).unwrap();
    put("..2026_03", "orders:other");
    support::eventually("and the third", || async { (verdict().await == REFUSED).then_some(()) }).await;
}

#[tokio::test]
async fn a_signal_and_the_api_reload() {
    let rig = Rig::with(needs("orders:read")).await;
    rig.gateway.write_config_in_place(&text(&rig, &needs("orders:other").without_end()));
    rig.gateway.signal("HUP");
    until_verdict(&rig, REFUSED).await;
    rig.gateway.write_config_in_place(&text(&rig, &needs("orders:read").without_end()));
    let response = rig.gateway.reload().await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(verdict(&rig).await, PERMITTED, "the answer came after the swap");
}

/// Waits until the log of the process has this.
async fn until_logged(rig: &Rig, wanted: &str) {
    support::eventually(wanted, || async { rig.gateway.output().contains(wanted).then_some(()) }).await;
}

#[tokio::test]
async fn a_reload_says_what_it_did() {
    let rig = Rig::with(needs("orders:read")).await;
    rig.gateway.signal("HUP");
    until_logged(&rig, "policy unchanged").await;
    let good = text(&rig, &needs("orders:read"));
    rig.gateway.replace_config("routes: [");
    rig.gateway.wait_reload_error().await;
    until_logged(&rig, "policy refused; the last good one stays in force").await;
    assert!(!rig.gateway.output().contains("accepted again"));
    rig.gateway.replace_config(&good);
    until_logged(&rig, "policy accepted again; it is the one in force").await;
    rig.gateway.replace_config(&text(&rig, &needs("orders:other")));
    until_logged(&rig, "policy applied").await;
}

#[tokio::test]
async fn a_policy_that_is_wrong_changes_nothing_and_is_reported() {
    let rig = Rig::with(needs("orders:read")).await;
    let good = text(&rig, &needs("orders:read"));
    let hash = rig.gateway.status().await["policy"]["hash"].clone();
    for (what, text) in [
        ("no YAML", "routes: [".to_owned()),
        ("empty", String::new()),
        ("cut off", format!("{}\n...\n", &good[..good.len() / 2])),
        ("an unknown key", good.replace("upstream: orders", "upstream: orders\n    pubilc: true")),
        ("a duplicate key", good.replace("version: 1", "version: 1\nversion: 1")),
        ("an unknown upstream", good.replace("upstream: orders", "upstream: nobody")),
        ("no requirement", good.replace(", scopes: [orders:read]", "")),
    ] {
        rig.gateway.replace_config(&text);
        let response = rig.gateway.reload().await;
        assert!((400..500).contains(&response.status), "{what}: {} {}", response.status, response.text());
        let error = rig.gateway.wait_reload_error().await;
        assert!(error.contains("routes.yaml"), "{what}: an error has its place: {error}");
        assert_eq!(verdict(&rig).await, PERMITTED, "{what}");
        assert_eq!(rig.gateway.status().await["policy"]["hash"], hash, "{what}");
    }
    assert!(rig.gateway.metric("scopegate_policy_reloads_total", &[r#"outcome="refused""#]).await >= 7.0);
    rig.gateway.replace_config(&text(&rig, &needs("orders:other")));
    until_verdict(&rig, REFUSED).await;
    support::eventually("a good policy ends the alarm", || async {
        rig.gateway.status().await["reload"]["error"].is_null().then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_lives_as_long_as_the_process_is_refused_whole() {
    let rig = Rig::with(needs("orders:read")).await;
    let other = needs("orders:other").listen("- http: 127.0.0.1:0\n- http: 127.0.0.1:0");
    rig.gateway.replace_config(&text(&rig, &other));
    let error = rig.gateway.wait_reload_error().await;
    assert!(error.contains("restart needed: gateway.listen"), "{error}");
    assert_eq!(verdict(&rig).await, PERMITTED, "no part of it took effect");
}

#[tokio::test]
async fn a_running_request_ends_on_the_policy_it_began_with() {
    let rig = Rig::with(needs("orders:read")).await;
    let sign = Arc::new(Notify::new());
    let held = Arc::clone(&sign);
    rig.upstream.answers(move |_| Reply::When(Arc::clone(&held), Box::new(ok("at last"))));
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(rig.get("/orders/1").bytes()).await;
    rig.upstream.wait("the request arrives", |upstream| upstream.requests().len() == 1).await;
    rig.gateway.replace_config(&text(&rig, &needs("orders:other")));
    rig.gateway.wait_loaded().await;
    sign.notify_one();
    assert_eq!(client.response().await.text(), "at last");
    // The connection goes on, and the next request on it meets the new policy.
    assert_eq!(rig.get("/orders/2").on(&mut client).await.unwrap().verdict(), REFUSED);
}

#[tokio::test]
async fn keys_and_connections_outlive_a_reload() {
    // One worker, so that each request meets the same kept connection.
    let policy = needs("orders:read").gateway("workers: 1\ntimeouts: { upstream_keep_alive: 5m }");
    let rig = Rig::with(policy).await;
    assert_eq!(verdict(&rig).await, PERMITTED);
    for _ in 0..20 {
        assert_eq!(rig.gateway.reload().await.status, 200);
        assert_eq!(verdict(&rig).await, PERMITTED);
    }
    assert_eq!(rig.issuer.jwks_requests(), 1, "an issuer that did not change keeps its keys");
    assert_eq!(rig.upstream.connections(), 1, "an upstream that did not change keeps its connections");
}

#[tokio::test]
async fn an_issuers_stricter_rules_count_for_cached_tokens_too() {
    let rig = Rig::with(needs("orders:read")).await;
    let token = rig.token();
    let verdict = || async { rig.gateway.get("/orders/1").token(&token).send().await.verdict() };
    assert_eq!(verdict().await, PERMITTED);
    rig.gateway.replace_config(&text(&rig, &needs("orders:read").issuer("max_lifetime: 1m")));
    rig.gateway.wait_loaded().await;
    assert_eq!(verdict().await, "401 token_lifetime_excessive");
}

#[tokio::test]
async fn the_metrics_tell_which_policy_is_loaded() {
    let rig = Rig::with(needs("orders:read")).await;
    let series = |hash: String| format!("hash=\"{hash}\"");
    let before = series(rig.gateway.config_hash());
    assert_eq!(rig.gateway.metric("scopegate_policy_info", &[&before]).await, 1.0);
    rig.gateway.replace_config(&text(&rig, &needs("orders:other")));
    rig.gateway.wait_loaded().await;
    let after = series(rig.gateway.config_hash());
    assert_eq!(rig.gateway.metric("scopegate_policy_info", &[&after]).await, 1.0);
    assert_eq!(rig.gateway.metric("scopegate_policy_info", &[&before]).await, 0.0, "the old series goes");
    // A reload is counted after all that it does.
    support::eventually("it is counted", || async {
        let applied = [r#"outcome="applied""#];
        (rig.gateway.metric("scopegate_policy_reloads_total", &applied).await >= 1.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_reloads_under_load_lose_no_request() {
    const RELOADS: usize = 10_000;
    const CLIENTS: usize = 4;
    // One connection for the whole time, however many requests that are; the admin listener's is open for `idle`.
    let endless =
        |more| format!("limits: {{ connection_requests: 1000000000{more} }}\ntimeouts: {{ idle: 1h }}");
    let policy = || needs("orders:read").gateway(&endless(""));
    let rig = Rig::with(policy()).await;
    // Where the disk is slow, this takes longer than the usual token is good for.
    let call = rig.gateway.get("/orders/1").token(&rig.issuer.token().times(0, 3600).mint());
    let stop = Arc::new(AtomicBool::new(false));
    let good = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (call, stop, good) = (call.clone(), Arc::clone(&stop), Arc::clone(&good));
        let mut client = Client::connect(rig.gateway.address()).await;
        clients.spawn(async move {
            // A reload may not cost it.
            while !stop.load(Ordering::Relaxed) {
                let response = call.on(&mut client).await.expect("a reload closed a connection");
                assert_eq!(response.verdict(), PERMITTED);
                good.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let other = needs("orders:read").gateway(&endless(", body: 1MiB"));
    let texts = [policy(), other].map(|p| text(&rig, &p));
    let mut admin = Client::connect(rig.gateway.admin_address()).await;
    let reload = rig.gateway.admin("POST", "/api/v1/reload").token(ADMIN_TOKEN).body("");
    for n in 0..RELOADS {
        rig.gateway.replace_config(&texts[n % 2]);
        let response = reload.on(&mut admin).await.expect("the admin listener closed");
        assert_eq!(response.status, 200, "reload {n}: {}", response.text());
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(result) = clients.join_next().await {
        result.unwrap();
    }
    let good = good.load(Ordering::Relaxed);
    assert!(good >= CLIENTS * 10, "only {good} requests ran meanwhile: no load");
    println!("{RELOADS} reloads while {good} requests were answered");
}
