//! More than the gateway can hold: what is too much is refused at once, what was admitted is served, and all comes back.
#![cfg(test)]

mod support;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use support::http2::*;
use support::{Call, Client, Gateway, Policy, Reply, Rig, TestIssuer, Upstream, eventually, ok};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

async fn rig(settings: &str) -> Rig {
    Rig::with(Policy::default().gateway(settings)).await
}

/// How many connections ended for this cause.
async fn closed(gateway: &Gateway, cause: &str) -> f64 {
    gateway.metric("scopegate_connections_closed_total", &[&format!("cause=\"{cause}\"")]).await
}

/// Waits until one connection has ended for this cause.
async fn until_closed(gateway: &Gateway, cause: &str) {
    eventually(cause, || async { (closed(gateway, cause).await >= 1.0).then_some(()) }).await;
}

#[tokio::test]
async fn a_client_has_no_more_than_its_share_of_the_connections() {
    let rig = rig("limits: { connections_per_client: 2 }\nworkers: 2").await;
    let (mut first, mut second) =
        (Client::connect(rig.gateway.address()).await, Client::connect(rig.gateway.address()).await);
    for client in [&mut first, &mut second] {
        assert_eq!(rig.get("/orders/1").on(client).await.unwrap().status, 200);
    }
    assert!(rig.get("/orders/1").try_send().await.is_none());
    assert_eq!(closed(&rig.gateway, "client_limit").await, 1.0);
    rig.gateway.wait_for_log(|entry| entry["reason"] == "overloaded").await;
    drop(first);
    eventually("its place is free", || async {
        rig.get("/orders/1").try_send().await.filter(|response| response.status == 200)
    })
    .await;
    assert_eq!(rig.get("/orders/1").on(&mut second).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_trusted_proxy_has_the_connections_of_many_clients() {
    let rig = rig("limits: { connections_per_client: 2 }\ntrusted_proxies: [127.0.0.0/8]").await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect(rig.gateway.address()).await;
        assert_eq!(rig.get("/orders/1").on(&mut client).await.unwrap().status, 200);
        clients.push(client);
    }
    assert_eq!(closed(&rig.gateway, "client_limit").await, 0.0);
}

#[tokio::test]
async fn a_connection_ends_at_its_age_and_its_running_request_does_not() {
    // One worker: what it does of two connections is done in their order.
    let rig = rig("workers: 1\ntimeouts: { connection_age: 500ms }").await;
    let go_on = Arc::new(Notify::new());
    let sign = Arc::clone(&go_on);
    rig.upstream.answers(move |_| Reply::When(Arc::clone(&sign), Box::new(support::ok("done"))));
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(rig.get("/orders/1").bytes()).await;
    let mut idle = Client::connect(rig.gateway.address()).await;
    assert_eq!(rig.get("/nothing").on(&mut idle).await.unwrap().status, 404);
    // The younger one has reached its age, so the older one has too.
    assert!(idle.closes().await);
    go_on.notify_one();
    let answer = client.response().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(client.closes().await);
    until_closed(&rig.gateway, "age").await;
}

#[tokio::test]
async fn a_connection_ends_with_its_last_request() {
    let rig = rig("limits: { connection_requests: 3 }").await;
    let mut client = Client::connect(rig.gateway.address()).await;
    for (path, status, connection) in
        [("/orders/1", 200, None), ("/orders/2", 200, None), ("/nothing", 404, Some("close"))]
    {
        let answer = rig.get(path).on(&mut client).await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (status, connection), "{path}");
    }
    assert!(client.closes().await);
    until_closed(&rig.gateway, "requests").await;
}

#[tokio::test]
async fn the_last_request_may_open_a_tunnel() {
    let rig = rig("limits: { connection_requests: 1 }").await;
    let mut client = rig.tunnel(&rig.token()).await;
    client.send("ping").await;
    client.until("ping").await;
}

#[tokio::test]
async fn what_is_above_the_requests_in_flight_is_refused_before_anything_else_and_the_others_are_served() {
    let rig = rig("limits: { requests_in_flight: 2 }\nworkers: 2").await;
    let go_on = Arc::new(Notify::new());
    let sign = Arc::clone(&go_on);
    rig.upstream.answers(move |_| Reply::When(Arc::clone(&sign), Box::new(support::ok("done"))));
    let mut admitted = Vec::new();
    for path in ["/orders/1", "/orders/2"] {
        let mut client = Client::connect(rig.gateway.address()).await;
        client.send(rig.get(path).bytes()).await;
        admitted.push(client);
    }
    rig.upstream.wait("both are under way", |upstream| upstream.requests().len() == 2).await;
    let verified = rig.gateway.metric("scopegate_token_cache_misses_total", &[]).await;
    let mut third = Client::connect(rig.gateway.address()).await;
    let refused = rig.get("/orders/3").on(&mut third).await.unwrap();
    assert_eq!(refused.verdict(), "503 overloaded");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(rig.gateway.metric("scopegate_token_cache_misses_total", &[]).await, verified);
    let labels = ["decision=\"deny\"", "reason=\"overloaded\""];
    assert_eq!(rig.gateway.metric("scopegate_decisions_total", &labels).await, 1.0);
    let going_on = tokio::spawn(async move {
        // Whichever of them waits first; each waits once it was recorded.
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tick.tick().await;
            go_on.notify_one();
        }
    });
    for client in &mut admitted {
        assert_eq!(client.response().await.status, 200);
    }
    going_on.abort();
    // The connection that was refused is still good.
    rig.upstream.answers(|_| support::ok("done"));
    let again = eventually("there is a place", || async {
        rig.get("/orders/3").try_send().await.filter(|answer| answer.status == 200)
    });
    again.await;
    assert_eq!(rig.get("/orders/3").on(&mut third).await.unwrap().status, 200);
}

// Open files.

#[test]
fn numbers_that_open_files_have_no_room_for_are_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let policy = Policy::default().gateway("limits: { connections: 600, requests_in_flight: 300 }");
    std::fs::write(dir.path().join("admin.token"), support::ADMIN_TOKEN).unwrap();
    std::fs::write(
        dir.path().join("routes.yaml"),
        policy.render("https://idp.example.com", "http://127.0.0.1:9"),
    )
    .unwrap();
    let output = Command::new("sh")
        .args([
            "-c",
            "ulimit -n 512; exec timeout 20 \"$0\" run --config \"$1\"",
            env!("CARGO_BIN_EXE_scopegate"),
        ])
        .arg(dir.path().join("routes.yaml"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("the limit of open files is 512") && told.contains("600 for clients"), "{told}");
}

/// Lets the process have this many open files; gives how many it might have before.
fn limit_files(gateway: &Gateway, current: u64) -> u64 {
    let process = Pid::from_raw(i32::try_from(gateway.pid()).unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(process, Resource::Nofile, Rlimit { current: Some(current), maximum }).unwrap().current.unwrap()
}

#[tokio::test]
async fn a_request_that_finds_no_open_file_for_its_upstream_meets_an_overload() {
    let rig = rig("workers: 1").await;
    let mut client = Client::connect(rig.gateway.address()).await;
    assert_eq!(rig.gateway.get("/nothing").on(&mut client).await.unwrap().status, 404);
    // Those that are open stay so; none can be opened.
    let before = limit_files(&rig.gateway, 3);
    let refused = rig.gateway.get("/status").on(&mut client).await.unwrap();
    limit_files(&rig.gateway, before);
    assert_eq!(refused.verdict(), "503 overloaded");
    assert!(refused.header("retry-after").is_some());
    let entry = rig.gateway.wait_for_log(|entry| entry["reason"] == "overloaded").await;
    assert!(entry["cause"].as_str().unwrap().contains("Too many open files"), "{entry}");
    let labels = ["route=\"status\"", "reason=\"overloaded\""];
    assert_eq!(rig.gateway.metric("scopegate_failed_requests_total", &labels).await, 1.0);
    assert_eq!(rig.gateway.metric("scopegate_upstream_errors_total", &[]).await, 0.0, "not its fault");
    assert_eq!(rig.gateway.get("/status").on(&mut client).await.unwrap().status, 200, "there is room again");
}

#[tokio::test]
async fn without_open_files_an_upstream_is_asked_over_the_connections_that_it_has() {
    let bare = Upstream::start(|_| Reply::with(200, "Connection: close\r\n", "bare")).await;
    let kept = Upstream::start(|_| ok("kept")).await;
    let issuer = TestIssuer::start().await;
    let endpoints = format!("endpoints: [{}, {}]", bare.url(), kept.url());
    let policy = Policy::default().gateway("workers: 1\ntimeouts: { upstream_keep_alive: 5m }");
    let gateway = Gateway::start(&policy.render(issuer.url(), "X").replace("url: X", &endpoints)).await;
    let mut client = Client::connect(gateway.address()).await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/status").on(&mut client).await.unwrap().status, 200);
    }
    assert!(!bare.requests().is_empty() && !kept.requests().is_empty(), "both had their turn");
    let before = limit_files(&gateway, 3);
    for _ in 0..4 {
        let answer = gateway.get("/status").on(&mut client).await.unwrap();
        assert_eq!((answer.verdict(), answer.text()), ("200 -".to_owned(), "kept".into()));
    }
    limit_files(&gateway, before);
    assert_eq!(gateway.metric("scopegate_upstream_errors_total", &[]).await, 0.0, "not their fault");
}

#[tokio::test]
async fn without_open_files_the_gateway_neither_spins_nor_stops() {
    let rig = rig("workers: 1").await;
    let mut served = Client::connect(rig.gateway.address()).await;
    assert_eq!(rig.get("/orders/1").on(&mut served).await.unwrap().status, 200);
    let open = std::fs::read_dir(format!("/proc/{}/fd", rig.gateway.pid())).unwrap().count() as u64;
    let begun = Instant::now();
    let before = limit_files(&rig.gateway, open + 4);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(rig.gateway.address()).await);
    }
    eventually("it says so", || async {
        rig.gateway.output().contains("no more connections can").then_some(())
    })
    .await;
    // Who is served already, is.
    for _ in 0..20 {
        assert_eq!(rig.get("/orders/1").on(&mut served).await.unwrap().status, 200);
    }
    drop(clients);
    assert_eq!(rig.get("/orders/1").send().await.status, 200, "there is room again");
    limit_files(&rig.gateway, before);
    let errors = rig.gateway.metric("scopegate_accept_errors_total", &[]).await;
    // It tries again every 50 ms.
    let most = begun.elapsed().as_millis() / 50 + 2;
    assert!(errors >= 1.0 && errors <= most as f64, "{errors} of at most {most}");
    let told = rig.gateway.output().matches("no more connections can").count() as u64;
    assert!(told <= begun.elapsed().as_secs() / 10 + 1, "said {told} times");
}

// Memory.

#[tokio::test]
async fn a_body_that_is_announced_takes_no_memory_before_it_comes() {
    let rig = rig("limits: { body: 2GiB }\nworkers: 1").await;
    const BODIES: u64 = 150;
    let hold = async |length: u64, wanted: usize| {
        let mut held = Vec::new();
        for _ in 0..BODIES {
            let mut client = Client::connect(rig.gateway.address()).await;
            let call = Call::new(rig.gateway.address(), "POST", "/status");
            client.send(call.header("Content-Length", &length.to_string()).bytes()).await;
            held.push(client);
        }
        rig.upstream.wait("all are under way", |upstream| upstream.requests().len() == wanted).await;
        (held, rig.gateway.memory())
    };
    let (_warm, before) = hold(10, 150).await;
    let (_small, with_small) = hold(10, 300).await;
    let (_large, with_large) = hold(999_999_999, 450).await;
    let (small, large) = (with_small.saturating_sub(before), with_large.saturating_sub(with_small));
    // Any request takes some 50 KiB. The allocator takes steps of 2 MiB, which must not count.
    assert!(large < BODIES * (96 << 10), "{large} bytes for {BODIES} large bodies, {small} for small ones");
}

/// Tries of one kind of client, and those before its memory is first looked at.
const TRIES: usize = 30_000;
const WARM: usize = 1_500;

/// What these tries may leave behind: some 200 bytes each. The allocator takes steps of 2 MiB, of which two must not count.
const LEFT: u64 = 6 << 20;

/// Heads that are too large (RFC 6585 §5): by the number of fields, by one of them, and by all together.
const TOO_LARGE: [(usize, usize); 3] = [(101, 1), (1, 64 << 10), (50, 700)];

#[tokio::test]
async fn heads_that_are_too_large_leave_no_memory_behind() {
    let rig = rig("workers: 1").await;
    let heads = TOO_LARGE.map(|(count, length)| {
        let value = "x".repeat(length);
        let fields: String = (0..count).map(|n| format!("x-{n}: {value}\r\n")).collect();
        format!("GET /status HTTP/1.1\r\nHost: api.example.com\r\n{fields}\r\n")
    });
    let flood = async |tries: std::ops::Range<usize>| {
        for n in tries {
            let mut stream = TcpStream::connect(rig.gateway.address()).await.unwrap();
            // What is too long may be refused before it is sent to its end.
            let _ = stream.write_all(heads[n % heads.len()].as_bytes()).await;
            let mut answer = Vec::new();
            let _ = support::soon("an answer, and the end", stream.read_to_end(&mut answer)).await;
            assert!(answer.starts_with(b"HTTP/1.1 431"), "{n}: {:?}", String::from_utf8_lossy(&answer));
        }
        rig.gateway.memory()
    };
    let before = flood(0..WARM).await;
    let after = flood(WARM..TRIES).await;
    assert!(after < before + LEFT, "{before} bytes, then {after}");
    assert_eq!(rig.upstream.requests().len(), 0);
}

#[tokio::test]
async fn field_lists_that_are_too_large_leave_no_memory_behind() {
    const REQUESTS: usize = 100;
    let rig = rig("workers: 1").await;
    let lists = TOO_LARGE.map(|(count, length)| {
        let value = "x".repeat(length);
        let list = Block::default().set(":path", "/status");
        (0..count).fold(list, |list, n| list.with(format!("x-{n}"), &value)).bytes()
    });
    let request = |n: usize, stream: u32| {
        let pieces: Vec<&[u8]> = lists[n % lists.len()].chunks(16_000).collect();
        let of = |(at, piece): (usize, &&[u8])| {
            let (kind, flags) = if at == 0 { (HEADERS, END_STREAM) } else { (CONTINUATION, 0) };
            let end = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
            frame(kind, flags | end, stream, piece)
        };
        pieces.iter().enumerate().flat_map(of).collect::<Vec<u8>>()
    };
    let flood = async |tries: std::ops::Range<usize>| {
        for first in tries.step_by(REQUESTS) {
            let mut client = Http2::connect(rig.gateway.address()).await;
            for n in 0..REQUESTS {
                let stream = u32::try_from(2 * n + 1).unwrap();
                client.send(request(first + n, stream)).await;
                let verdict = client.outcome(stream).await.verdict();
                assert!(verdict.starts_with("431"), "{}: {verdict}", first + n);
            }
        }
        rig.gateway.memory()
    };
    let before = flood(0..WARM).await;
    let after = flood(WARM..TRIES).await;
    assert!(after < before + LEFT, "{before} bytes, then {after}");
    assert_eq!(rig.upstream.requests().len(), 0);
}

// Those who read what the gateway says.

/// A process that does not outlast its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[tokio::test]
async fn nobody_who_reads_no_diagnostics_holds_up_requests() {
    let upstream = support::Upstream::start(|_| support::ok("hello")).await;
    let issuer = support::TestIssuer::start().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("admin.token"), support::ADMIN_TOKEN).unwrap();
    let policy = Policy::default().gateway("workers: 1").render(issuer.url(), &upstream.url());
    std::fs::write(dir.path().join("routes.yaml"), policy).unwrap();
    let process = Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(["run", "--log-level", "debug", "--config"])
        .arg(dir.path().join("routes.yaml"))
        .arg("--ready-file")
        .arg(dir.path().join("ready.json"))
        .stdout(Stdio::null())
        // A pipe that nobody reads takes 64 KiB.
        .stderr(Stdio::piped())
        .spawn();
    let mut process = Killed(process.unwrap());
    let ready = eventually("it is ready", || async {
        serde_json::from_slice::<serde_json::Value>(&std::fs::read(dir.path().join("ready.json")).ok()?).ok()
    })
    .await;
    let address = |value: &serde_json::Value| value.as_str().unwrap().parse().unwrap();
    let (public, admin) = (address(&ready["listeners"][0]["http"]), address(&ready["admin"]));
    let host = ready["admin"].as_str().unwrap();
    let dropped = async || {
        let metrics = Call::new(admin, "GET", "/metrics").host(host).send().await.text();
        let of = |line: &str| line.strip_prefix("scopegate_diagnostics_dropped_total ")?.parse::<f64>().ok();
        metrics.lines().find_map(of).unwrap()
    };
    while dropped().await == 0.0 {
        // Each is worth a message.
        for _ in 0..200 {
            let mut client = Client::connect(public).await;
            client.send("nonsense\r\n\r\n").await;
            while !client.closes().await {}
        }
    }
    let answer = Call::new(public, "GET", "/status").send().await;
    assert_eq!(answer.status, 200);
    support::process::kill(process.0.id(), "TERM");
    let ended = eventually("it ends", || {
        let ended = process.0.try_wait().unwrap();
        async move { ended }
    });
    assert_eq!(ended.await.code(), Some(0));
}

#[tokio::test]
async fn nobody_keeps_all_admin_connections() {
    let rig = rig("timeouts: { idle: 1s, header: 1s, response_stall: 1s }").await;
    let address = rig.gateway.admin_address();
    let call = Call::new(address, "GET", "/metrics").host(&address.to_string());
    let pipeline = call.bytes().repeat(5_000);
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Reads no answer, so at some point no more requests are taken.
        let mut sent = 0;
        while let Ok(Ok(count @ 1..)) =
            tokio::time::timeout(Duration::from_millis(20), stream.write(&pipeline[sent..])).await
        {
            sent += count;
        }
        held.push(stream);
    }
    assert_eq!(call.send().await.status, 200);
}
