use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::authenticate::testing::{P256, P384, jwks, policy};
use crate::reload::fetch::Egress;
use crate::reload::testing::{Reply, Server};
use crate::types::Issuer;

const HOUR: Duration = Duration::from_secs(3_600);

/// A policy for a server on this machine that refreshes hardly ever by itself.
fn local(server: &Server, path: &str) -> IssuerPolicy {
    let mut policy = policy();
    policy.keys = KeySource::Uri(server.uri(path));
    policy.plain_http = true;
    policy.refresh.interval = HOUR;
    policy.refresh.unknown_kid_cooldown = HOUR;
    policy
}

/// A running refresher and what it reports.
struct Running {
    cell: Arc<IssuerCell>,
    task: JoinHandle<()>,
    outcomes: UnboundedReceiver<RefreshOutcome>,
}

impl Running {
    fn start(policy: IssuerPolicy) -> Self {
        Self::of(IssuerCell::new(policy))
    }

    fn of(cell: Arc<IssuerCell>) -> Self {
        let (sender, outcomes) = unbounded_channel();
        let on_refresh: OnRefresh = Arc::new(move |name, outcome| {
            assert_eq!(name.as_str(), "corp");
            let _ = sender.send(outcome);
        });
        let fetcher = Fetcher::new(None, Egress::default()).unwrap();
        let task = spawn_refresher(&cell, fetcher, on_refresh, &Handle::current());
        Self { cell, task, outcomes }
    }

    /// The outcome of the next attempt.
    async fn next(&mut self) -> RefreshOutcome {
        tokio::time::timeout(Duration::from_secs(10), self.outcomes.recv())
            .await
            .expect("an attempt ends")
            .unwrap()
    }

    fn has_key(&self, kid: &str) -> bool {
        self.cell.usable(Instant::now()).is_some_and(|keys| keys.has_kid(kid))
    }
}

/// Keys that can be changed, and an outage that can be switched on.
#[derive(Default)]
struct Switch {
    down: AtomicBool,
    rotated: AtomicBool,
}

impl Switch {
    fn reply(&self) -> Reply {
        if self.down.load(Ordering::SeqCst) {
            return Reply::status("500 Oops", "", "");
        }
        match self.rotated.load(Ordering::SeqCst) {
            false => Reply::ok(jwks(&[P256.jwk("old")])),
            true => Reply::ok(jwks(&[P256.jwk("old"), P384.jwk("new")])),
        }
    }
}

async fn switched() -> (Arc<Switch>, Server) {
    let switch = Arc::new(Switch::default());
    let script = Arc::clone(&switch);
    let server = Server::start(move |_| script.reply()).await;
    (switch, server)
}

#[tokio::test]
async fn keys_are_found_by_discovery() {
    let origin = Arc::new(Mutex::new(String::new()));
    let script = Arc::clone(&origin);
    let server = Server::start(move |path| match path {
        "/.well-known/openid-configuration/realms/a" => {
            let origin = script.lock().unwrap();
            Reply::ok(
                json!({"issuer": format!("{origin}/realms/a"), "jwks_uri": format!("{origin}/certs")})
                    .to_string(),
            )
        }
        "/certs" => Reply::ok(jwks(&[P256.jwk("a")])),
        _ => Reply::status("404 Not Found", "", ""),
    })
    .await;
    *origin.lock().unwrap() = server.origin();
    let mut policy = local(&server, "/");
    policy.keys = KeySource::Discovery;
    policy.issuer = Issuer::new(format!("{}/realms/a", server.origin()));
    let mut running = Running::start(policy.clone());
    assert_eq!(running.next().await, RefreshOutcome::Changed);
    assert!(running.has_key("a"));
    assert_eq!(server.count("/.well-known/oauth-authorization-server/realms/a"), 1, "asked first");

    policy.issuer = Issuer::new(format!("{}/realms/a/", server.origin()));
    let mut running = Running::start(policy);
    assert_eq!(running.next().await, RefreshOutcome::Failed);
    assert!(!running.cell.has_had_keys());
    let (_, error) = running.cell.status(Instant::now()).last_error.unwrap();
    let origin = server.origin();
    let named = format!(
        "the metadata names the issuer \"{origin}/realms/a\", not the configured \"{origin}/realms/a/\""
    );
    assert_eq!(*error, *named);
}

#[tokio::test]
async fn metadata_is_looked_for_in_all_places() {
    for first in [
        Reply::status("302 Found", "Location: http://localhost:1/login\r\n", ""),
        Reply::status("503 Service Unavailable", "", ""),
        Reply::status("204 No Content", "", ""),
        Reply::ok("<html></html>"),
    ] {
        let origin = Arc::new(std::sync::Mutex::new(String::new()));
        let own = Arc::clone(&origin);
        let first = std::sync::Mutex::new(Some(first));
        let server = Server::start(move |path| {
            let origin = own.lock().unwrap();
            match path {
                "/.well-known/oauth-authorization-server" => first.lock().unwrap().take().unwrap(),
                "/.well-known/openid-configuration" => {
                    Reply::ok(json!({"issuer": *origin, "jwks_uri": format!("{origin}/certs")}).to_string())
                }
                _ => Reply::ok(jwks(&[P256.jwk("a")])),
            }
        })
        .await;
        *origin.lock().unwrap() = server.origin();
        let mut policy = local(&server, "/");
        policy.keys = KeySource::Discovery;
        policy.issuer = Issuer::new(server.origin());
        let mut running = Running::start(policy);
        assert_eq!(running.next().await, RefreshOutcome::Changed);
        assert!(running.has_key("a"));
    }
}

#[tokio::test]
async fn pause_that_a_server_asks_for_ends_the_search() {
    let server = Server::start(|path| match path {
        "/.well-known/oauth-authorization-server" => {
            Reply::status("503 Service Unavailable", "Retry-After: 60\r\n", "")
        }
        _ => Reply::status("404 Not Found", "", ""),
    })
    .await;
    let mut policy = local(&server, "/");
    policy.keys = KeySource::Discovery;
    policy.issuer = Issuer::new(server.origin());
    let mut running = Running::start(policy);
    assert_eq!(running.next().await, RefreshOutcome::Failed);
    assert_eq!(server.count("/.well-known/openid-configuration"), 0);
    let (_, error) = running.cell.status(Instant::now()).last_error.unwrap();
    assert!(error.contains("503"), "{error}");
}

#[tokio::test]
async fn keys_are_fetched_again_after_the_interval() {
    let (switch, server) = switched().await;
    let mut policy = local(&server, "/keys");
    policy.refresh.interval = Duration::from_millis(20);
    let mut running = Running::start(policy);
    assert_eq!(running.next().await, RefreshOutcome::Changed);
    assert_eq!(running.next().await, RefreshOutcome::Unchanged);
    switch.rotated.store(true, Ordering::SeqCst);
    while running.next().await != RefreshOutcome::Changed {}
    assert!(running.has_key("new") && running.has_key("old"));
}

#[tokio::test]
async fn an_outage_keeps_the_old_keys_until_they_are_too_old() {
    let (switch, server) = switched().await;
    let mut policy = local(&server, "/keys");
    policy.refresh.interval = Duration::from_millis(20);
    policy.refresh.max_stale = HOUR;
    let mut running = Running::start(policy);
    assert_eq!(running.next().await, RefreshOutcome::Changed);
    switch.down.store(true, Ordering::SeqCst);
    while running.next().await != RefreshOutcome::Failed {}
    let now = Instant::now();
    assert!(running.has_key("old"));
    assert!(running.cell.usable(now + HOUR - Duration::from_secs(30)).is_some());
    assert!(running.cell.usable(now + HOUR + Duration::from_secs(1)).is_none(), "too old");
    let status = running.cell.status(now);
    assert!(status.usable && status.last_error.is_some_and(|(_, error)| error.contains("500")));

    switch.down.store(false, Ordering::SeqCst);
    while running.next().await == RefreshOutcome::Failed {}
    let status = running.cell.status(Instant::now());
    assert_eq!(status.last_error, None, "recovered without a restart");
    assert!(status.age.unwrap() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_bad_answer_keeps_the_old_keys() {
    for (body, why) in [
        ("<html>", "HTML"),
        (r#"{"keys":[]}"#, "no keys"),
        (r#"{"keys":{}}"#, "no array"),
        (r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#, "only unusable keys"),
        (r#"{"keys":["#, "cut off"),
    ] {
        let broken = Arc::new(AtomicBool::new(false));
        let script = Arc::clone(&broken);
        let server = Server::start(move |_| match script.load(Ordering::SeqCst) {
            false => Reply::ok(jwks(&[P256.jwk("old")])),
            true => Reply::ok(body),
        })
        .await;
        let mut running = Running::start(local(&server, "/keys"));
        assert_eq!(running.next().await, RefreshOutcome::Changed, "{why}");
        broken.store(true, Ordering::SeqCst);
        running.cell.request_newer(Instant::now()).unwrap().await;
        assert_eq!(running.next().await, RefreshOutcome::Failed, "{why}");
        assert!(running.has_key("old"), "{why}");
    }
}

#[tokio::test]
async fn a_storm_of_unknown_kids_causes_one_fetch_per_cooldown() {
    for down in [false, true] {
        let (switch, server) = switched().await;
        let mut running = Running::start(local(&server, "/keys"));
        running.next().await;
        switch.down.store(down, Ordering::SeqCst);
        switch.rotated.store(true, Ordering::SeqCst);

        let at = Instant::now();
        let waiting: Vec<_> = (0..1_000).filter_map(|_| running.cell.request_newer(at)).collect();
        assert_eq!(waiting.len(), 1_000, "all wait for the one fetch");
        futures_util::future::join_all(waiting).await;
        assert_eq!(server.count("/keys"), 2, "down: {down}");
        assert_eq!(running.has_key("new"), !down);
        running.next().await;

        for _ in 0..1_000 {
            assert!(
                running.cell.request_newer(at + HOUR - Duration::from_secs(1)).is_none(),
                "within the cooldown"
            );
        }
        assert!(running.has_key("old"), "valid tokens are not disturbed");
        running.cell.request_newer(at + HOUR).expect("after the cooldown").await;
        assert_eq!(server.count("/keys"), 3, "down: {down}");
    }
}

#[tokio::test]
async fn a_wake_up_that_an_attempt_has_answered_causes_no_other() {
    let (_, server) = switched().await;
    let mut running = Running::start(local(&server, "/keys"));
    running.next().await;
    // The first wakes the sleeping task, the second is still there when the attempt has ended.
    running.cell.wake().notify_one();
    running.cell.request_newer(Instant::now()).unwrap().await;
    running.next().await;
    // Whatever the task would still ask for comes before the last of these.
    for _ in 0..5 {
        let fetcher = Fetcher::new(None, Egress::default()).unwrap();
        fetcher.get(&server.uri("/barrier"), Plain::Loopback).await.unwrap();
    }
    assert_eq!(server.count("/keys"), 2);
}

#[tokio::test]
async fn a_cold_start_is_one_fetch_for_all_who_wait() {
    let (_, server) = switched().await;
    let cell = IssuerCell::new(local(&server, "/keys"));
    let at = Instant::now();
    let mut waiting: Vec<_> = (0..1_000).map(|_| cell.request_newer(at).unwrap()).collect();
    // The first to ask go away: nobody else notices.
    waiting.drain(..500);
    let mut running = Running::of(cell);
    futures_util::future::join_all(waiting).await;
    assert!(running.has_key("old"));
    assert_eq!(running.next().await, RefreshOutcome::Changed);
    assert_eq!(server.count("/keys"), 1);
    drop(running.cell.request_newer(Instant::now()).expect("the first fetch used up no cooldown"));
    assert!(running.cell.is_wanted());
}

#[tokio::test]
async fn workers_on_another_runtime_wait_for_the_fetch() {
    let (_, server) = switched().await;
    let running = Running::start(local(&server, "/keys"));
    let cell = Arc::clone(&running.cell);
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut tries = 0;
            while cell.usable(Instant::now()).is_none() && tries < 2 {
                tries += 1;
                if let Some(fetch) = cell.request_newer(Instant::now()) {
                    tokio::time::timeout(Duration::from_secs(10), fetch).await.unwrap();
                }
            }
            cell.usable(Instant::now()).is_some()
        })
    });
    let usable = tokio::task::spawn_blocking(|| worker.join().unwrap()).await.unwrap();
    assert!(usable);
}

#[tokio::test]
async fn a_server_that_asks_to_be_left_alone_is() {
    let server = Server::start(|_| Reply::status("429 Too Many", "retry-after: 1800\r\n", "")).await;
    let mut running = Running::start(local(&server, "/keys"));
    assert_eq!(running.next().await, RefreshOutcome::Failed);
    let now = Instant::now();
    let next = running.cell.status(now).next_attempt.unwrap();
    assert!(next > Duration::from_secs(1_700) && next <= Duration::from_secs(1_800), "{next:?}");
    assert!(running.cell.request_newer(now).is_none(), "for workers too");
    assert!(running.cell.request_newer(now + HOUR / 2).is_some());
}

#[tokio::test]
async fn a_silent_issuer_delays_no_other() {
    let silent = Server::start(|_| Reply::Silence).await;
    let (_, server) = switched().await;
    let _stuck = Running::start(local(&silent, "/keys"));
    let mut running = Running::start(local(&server, "/keys"));
    assert_eq!(running.next().await, RefreshOutcome::Changed);
}

#[tokio::test]
async fn the_task_ends_with_its_cell() {
    let (_, server) = switched().await;
    let mut running = Running::start(local(&server, "/keys"));
    running.next().await;
    let Running { cell, task, .. } = running;
    assert_eq!(Arc::strong_count(&cell), 1, "a sleeping task does not hold its cell");
    drop(cell);
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
}

#[tokio::test]
async fn plain_http_keys_are_refused_unless_allowed() {
    let (_, server) = switched().await;
    let mut policy = local(&server, "/keys");
    policy.plain_http = false;
    let mut running = Running::start(policy);
    assert_eq!(running.next().await, RefreshOutcome::Failed);
    assert!(server.heads().is_empty());
}

#[test]
fn pauses_double_up_to_the_interval() {
    let interval = Duration::from_secs(60);
    for (earlier, whole) in [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (31, 60), (32, 60), (u32::MAX, 60)] {
        let pause = backoff(earlier, interval);
        let whole = Duration::from_secs(whole);
        assert!(pause >= whole / 2 && pause <= whole, "after {earlier}: {pause:?}");
    }
    assert!(backoff(0, Duration::from_millis(10)) <= Duration::from_millis(10));
    for _ in 0..100 {
        let factor = between(0.9, 1.1);
        assert!((0.9..=1.1).contains(&factor), "{factor}");
    }
}

#[tokio::test]
async fn the_token_is_read_for_each_fetch_and_goes_to_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "first\n").unwrap();
    let server = Server::start(|_| Reply::ok(jwks(&[P256.jwk("a")]))).await;
    let mut policy = local(&server, "/keys");
    policy.key_token = Some(KeyToken::File(path.clone()));
    let mut running = Running::start(policy);
    assert_eq!(running.next().await, RefreshOutcome::Changed);
    std::fs::write(&path, "second\n").unwrap();
    running.cell.request_newer(Instant::now()).unwrap().await;
    assert_eq!(running.next().await, RefreshOutcome::Unchanged);
    let sent: Vec<bool> = ["Bearer first", "Bearer second"]
        .iter()
        .zip(server.heads())
        .map(|(token, head)| head.contains(&format!("authorization: {token}\r\n")))
        .collect();
    assert_eq!(sent, [true, true]);
    // Without a usable token, nothing is asked.
    std::fs::write(&path, "").unwrap();
    let cell = IssuerCell::new(running.cell.policy().clone());
    let mut running = Running::of(cell);
    assert_eq!(running.next().await, RefreshOutcome::Failed);
    let (_, error) = running.cell.status(Instant::now()).last_error.unwrap();
    assert_eq!(*error, *format!("the token in {} cannot be used: the file is empty", path.display()));
    assert_eq!(server.heads().len(), 2);
}

#[tokio::test]
async fn metadata_does_not_choose_who_gets_the_token() {
    let other = Server::start(|_| Reply::ok(jwks(&[P256.jwk("a")]))).await;
    let urls = Arc::new(Mutex::new((String::new(), String::new())));
    let script = Arc::clone(&urls);
    let server = Server::start(move |path| {
        let (issuer, keys) = &*script.lock().unwrap();
        match path {
            "/.well-known/oauth-authorization-server" => {
                Reply::ok(json!({"issuer": issuer, "jwks_uri": keys}).to_string())
            }
            _ => Reply::ok(jwks(&[P256.jwk("a")])),
        }
    })
    .await;
    for (keys, gets_it) in [(other.uri("/keys").to_string(), false), (server.uri("/keys").to_string(), true)]
    {
        *urls.lock().unwrap() = (server.origin(), keys);
        let mut policy = local(&server, "/");
        policy.keys = KeySource::Discovery;
        policy.issuer = Issuer::new(server.origin());
        policy.key_token = Some(KeyToken::Fixed(crate::types::Secret::new("fixed")));
        let mut running = Running::start(policy);
        assert_eq!(running.next().await, RefreshOutcome::Changed);
        assert_eq!(
            server.heads().iter().filter(|head| head.contains("GET /keys ")).count(),
            usize::from(gets_it)
        );
    }
    assert!(server.heads().iter().all(|head| head.contains("authorization: Bearer fixed\r\n")));
    assert!(other.heads().iter().all(|head| !head.contains("authorization")) && !other.heads().is_empty());
}
