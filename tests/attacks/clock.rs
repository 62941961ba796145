//! Row I18: a wall clock that is stepped while the gateway runs.
//!
//! libfaketime stands between the gateway and the C library. It adds an offset to the wall clock alone and reads it from a file
//! that the test replaces. The monotonic clock goes on as it does when a real clock is stepped; and a machine that wakes
//! from sleep is, to a process, one whose wall clock was stepped forward.

use std::path::PathBuf;
use std::sync::Mutex;

use tokio::sync::mpsc;

use crate::support::tls::{Authority, Connect, Front};
use crate::support::{
    Client, Gateway, Policy, Reply, Rig, TestIssuer, Upstream, eventually, has_keys, now, ok, process,
};

const DAY: i64 = 86_400;

/// The wall clock of one process.
struct Clock {
    dir: tempfile::TempDir,
}

impl Clock {
    /// The true time.
    fn new() -> Self {
        let clock = Self { dir: tempfile::tempdir().unwrap() };
        clock.step(0);
        clock
    }

    /// As many seconds from the true time as this, from now on. The next look at the clock sees it.
    fn step(&self, seconds: i64) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }

    /// What a process must be started with.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let library = std::fs::read_dir("/usr/lib")
            .unwrap()
            .map(|folder| folder.unwrap().path().join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.exists())
            .expect("libfaketime must be installed (scripts/setup)");
        let mut variables = vec![
            ("LD_PRELOAD", library.to_str().unwrap().to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().to_str().unwrap().to_owned()),
        ];
        for name in ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"] {
            variables.push((name, "1".to_owned()));
        }
        variables
    }

    async fn gateway(&self, config: &str, files: &[(&str, &str)]) -> Gateway {
        let variables = self.environment();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Gateway::start_with_environment(config, files, &variables).await
    }

    async fn rig(&self, policy: Policy) -> Rig {
        let issuer = TestIssuer::start().await;
        let upstream = Upstream::start(|_| ok("hello")).await;
        let gateway = self.gateway(&policy.render(issuer.url(), &upstream.url()), &[]).await;
        has_keys(&gateway).await;
        Rig { issuer, upstream, gateway }
    }
}

/// How often the issuer was asked for anything.
fn asked(issuer: &TestIssuer) -> usize {
    issuer.jwks_requests() + issuer.metadata_requests()
}

#[tokio::test]
async fn i18_a_step_moves_the_validity_of_tokens_and_no_timer() {
    let clock = Clock::new();
    let rig = clock
        .rig(Policy::default().issuer(
            "leeway: 5m\nmax_lifetime: 7d\nkey_refresh: { interval: 1h, max_stale: 1h, unknown_kid_cooldown: 1h }",
        ))
        .await;
    let token = |from, until| rig.issuer.token().times(from, until);
    let today = token(0, 600).mint();
    let tomorrow = token(DAY, DAY + 600).mint();
    let yesterday = token(-DAY, -DAY + 600).mint();
    let week = token(-2 * DAY, 3 * DAY).mint();
    let not_before = token(0, 2 * DAY).claim("nbf", now() + DAY).mint();
    let foreign = |at| token(at, at + 600).header("kid", format!("nobody-{at}")).mint();
    let mut client = Client::connect(rig.gateway.address()).await;
    let mut idle = Client::connect(rig.gateway.address()).await;
    let call = |token: &str| rig.gateway.get("/orders/1").token(token);
    assert_eq!(call(&week).on(&mut idle).await.unwrap().verdict(), "200 -");
    // From here on, the keys are there and the cooldown runs.
    assert_eq!(call(&foreign(0)).on(&mut client).await.unwrap().verdict(), "401 key_unknown");
    let before = asked(&rig.issuer);

    let (expired, ahead, unknown) = ("401 token_expired", "401 token_not_yet_valid", "401 key_unknown");
    let steps: [(i64, &[(&str, &str)]); 9] = [
        // The second time, the facts are remembered.
        (0, &[(&today, "200 -"), (&today, "200 -"), (&tomorrow, ahead), (&yesterday, expired)]),
        (DAY, &[(&today, expired), (&tomorrow, "200 -"), (&week, "200 -"), (&foreign(DAY), unknown)]),
        (0, &[(&today, "200 -"), (&tomorrow, ahead), (&not_before, ahead), (&week, "200 -")]),
        // The leeway counts from the new time. A slow test has some minutes.
        (700, &[(&today, "200 -")]),
        (1_000, &[(&today, expired), (&not_before, ahead)]),
        (DAY - 100, &[(&tomorrow, "200 -"), (&not_before, "200 -")]),
        (-200, &[(&today, "200 -")]),
        (-DAY, &[(&today, ahead), (&yesterday, "200 -"), (&week, "200 -"), (&foreign(-DAY), unknown)]),
        (0, &[(&today, "200 -"), (&tomorrow, ahead), (&yesterday, expired)]),
    ];
    for (offset, rows) in steps {
        clock.step(offset);
        for (row, (token, expected)) in rows.iter().enumerate() {
            let verdict = call(token).on(&mut client).await.expect("I18: the connection stays").verdict();
            assert_eq!(verdict, *expected, "I18: row {row} at {offset:+} seconds");
        }
    }
    // No refresh was due, no keys were stale, no cooldown was over, and no connection was idle for too long.
    assert_eq!(asked(&rig.issuer), before, "I18: the issuer was asked");
    assert_eq!(call(&week).on(&mut idle).await.expect("I18: the idle connection stays").verdict(), "200 -");
    assert!(rig.gateway.metric("scopegate_token_cache_hits_total", &[]).await >= 1.0);
    assert_eq!(rig.gateway.metric("scopegate_panics_total", &[]).await, 0.0);
}

/// Two connections, with this token: a WebSocket, and a stream of events.
async fn long_lived(gateway: &Gateway, token: &str) -> [Client; 2] {
    let mut socket = Client::connect(gateway.address()).await;
    socket.send(gateway.get("/orders/socket").token(token).upgrade().bytes()).await;
    assert_eq!(socket.status().await, 101);
    echoes(&mut socket).await;
    let mut events = Client::connect(gateway.address()).await;
    events.send(gateway.get("/orders/events").token(token).bytes()).await;
    events.until("data: 1").await;
    [socket, events]
}

/// The tunnel is open: the upstream at its end sends back what it gets.
async fn echoes(socket: &mut Client) {
    socket.send("ping").await;
    socket.until("ping").await;
}

async fn end(clients: [Client; 2]) {
    for mut client in clients {
        while !client.raw().await.is_empty() {}
    }
}

#[tokio::test]
async fn i18_what_outlasts_a_request_ends_by_the_first_clock_that_says_so() {
    let clock = Clock::new();
    let rig = clock.rig(Policy::default().issuer("leeway: 0s\nmax_lifetime: 7d")).await;
    let held = Mutex::new(Vec::new());
    rig.upstream.answers(move |request| {
        if request.target.ends_with("socket") {
            return Reply::Upgrade;
        }
        let (events, source) = mpsc::unbounded_channel();
        events
            .send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n".to_vec())
            .unwrap();
        held.lock().unwrap().push(events);
        Reply::Stream(source)
    });
    let token = |until| rig.issuer.token().times(0, until).mint();
    let [mut socket, _events] = long_lived(&rig.gateway, &token(3 * DAY)).await;
    let short = long_lived(&rig.gateway, &token(600)).await;
    // By the monotonic clock there are ten minutes left.
    clock.step(DAY);
    end(short).await;
    let entry = rig.gateway.wait_for_log(|entry| entry["reason"] == "token_expired").await;
    assert_eq!(entry["path"], "/orders/events", "I18: {entry}");
    echoes(&mut socket).await;

    // By the wall clock there is a day left.
    clock.step(0);
    let short = long_lived(&rig.gateway, &token(15)).await;
    clock.step(-DAY);
    end(short).await;
    echoes(&mut socket).await;
    assert_eq!(rig.gateway.metric("scopegate_panics_total", &[]).await, 0.0);
}

/// TLS on all sides: of the listener, of the upstream, of the issuer's keys.
struct Secure {
    authority: Authority,
    issuer: TestIssuer,
    _upstream: Upstream,
    fronts: [Front; 2],
}

impl Secure {
    async fn new() -> Self {
        let authority = Authority::new("authority");
        let leaf = authority.server(&["localhost"]);
        let issuer = TestIssuer::start().await;
        // A handshake for each request.
        let upstream = Upstream::start(|_| Reply::with(200, "Connection: close\r\n", "hello")).await;
        let fronts = [
            Front::start(&leaf, issuer.server_address()).await,
            Front::start(&leaf, upstream.address()).await,
        ];
        Self { authority, issuer, _upstream: upstream, fronts }
    }

    fn policy(&self) -> String {
        let [keys, upstream] =
            self.fronts.each_ref().map(|front| format!("https://localhost:{}", front.address().port()));
        let listen =
            "- { http: 127.0.0.1:0 }\n- { https: 127.0.0.1:0, certificates: [{ cert: c.pem, key: k.pem }] }";
        Policy::default()
            .listen(listen)
            .gateway("workers: 1")
            .issuer(&format!(
                "keys: {{ jwks_uri: '{keys}/jwks', ca: ca.crt }}\nkey_refresh: {{ interval: 1s, unknown_kid_cooldown: 1s }}"
            ))
            .upstream("tls: { ca: ca.crt }")
            .render(self.issuer.url(), &upstream)
    }

    fn files(&self) -> [(&'static str, String); 3] {
        let leaf = self.authority.server(&["api.example.com"]);
        [("c.pem", leaf.cert), ("k.pem", leaf.key), ("ca.crt", self.authority.pem())]
    }

    /// The verdict of a request over TLS; nothing if there is no answer.
    async fn over_tls(&self, gateway: &Gateway, token: &str) -> Option<String> {
        let connect = Connect {
            authority: &self.authority,
            name: "api.example.com",
            alpn: &["http/1.1"],
            client: None,
        };
        let mut client = Client::over(connect.to(gateway.https()).await.ok()?);
        Some(gateway.get("/orders/1").token(token).on(&mut client).await?.verdict())
    }
}

/// Linux lets nobody set a clock before 1970, so this is about what the code would do and not about what it will meet. hyper
/// cannot write such a date in its first answer on a thread, so the one worker has answered before, and the admin listener
/// is not asked meanwhile.
#[tokio::test]
async fn i18_before_1970_nothing_is_permitted_and_nothing_breaks() {
    let (clock, secure) = (Clock::new(), Secure::new().await);
    let files = secure.files();
    let files: Vec<_> = files.iter().map(|(name, content)| (*name, content.as_str())).collect();
    let gateway = clock.gateway(&secure.policy(), &files).await;
    let token = secure.issuer.token().mint();
    let call = gateway.get("/orders/1").token(&token);
    eventually("the keys are there", || async { (call.send().await.verdict() == "200 -").then_some(()) })
        .await;
    assert_eq!(secure.over_tls(&gateway, &token).await.as_deref(), Some("200 -"));

    clock.step(-now() - 100_000_000);
    assert_eq!(call.send().await.verdict(), "401 token_not_yet_valid", "I18: before 1970");
    assert_eq!(gateway.get("/status").send().await.verdict(), "502 upstream_unreachable", "I18: before 1970");
    assert_eq!(secure.over_tls(&gateway, &token).await, None, "I18: before 1970");
    let failed = |line: &str| line.contains("keys not refreshed") && line.contains("TLS failed");
    eventually("a fetch of keys fails", || async { gateway.output().lines().any(failed).then_some(()) })
        .await;

    clock.step(0);
    let fetched = secure.issuer.jwks_requests();
    eventually("keys are fetched again", || async {
        (secure.issuer.jwks_requests() > fetched).then_some(())
    })
    .await;
    assert_eq!(call.send().await.verdict(), "200 -", "I18: back again");
    assert_eq!(secure.over_tls(&gateway, &token).await.as_deref(), Some("200 -"), "I18: back again");
    assert_eq!(gateway.get("/status").send().await.verdict(), "200 -", "I18: back again");
    assert_eq!(gateway.metric("scopegate_panics_total", &[]).await, 0.0);

    clock.step(-now() - 100_000_000);
    let start = clock
        .environment()
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .chain([env!("CARGO_BIN_EXE_scopegate"), "run", "--config"].map(str::to_owned))
        .chain([gateway.config_path().to_str().unwrap().to_owned()]);
    let started = process::run("env", start).await;
    assert_eq!(started.code, Some(1), "I18: {started:?}");
    assert!(
        started.stderr.contains("before 1970") && !started.stderr.contains("panicked"),
        "I18: {started:?}"
    );
}
