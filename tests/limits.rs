//! What one client may take of the gateway's time and room, and that it is given back.
#![cfg(test)]

mod support;

use std::time::{Duration, Instant};

use support::http2::{
    GOAWAY, Http2, MAX_CONCURRENT_STREAMS, NO_ERROR, Outcome, REFUSED_STREAM, SETTINGS, get,
};
use support::tls::Authority;
use support::{Client, Gateway, Policy, Reply, Rig, TestIssuer, Upstream, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn rig(settings: &str) -> Rig {
    Rig::with(Policy::default().gateway(settings)).await
}

/// Waits for real time to pass: what is tested is a clock.
async fn pass(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// Reads to the end; gives what came.
async fn rest(client: &mut Client) -> String {
    let mut seen = Vec::new();
    loop {
        let more = client.raw().await;
        if more.is_empty() {
            return String::from_utf8_lossy(&seen).into_owned();
        }
        seen.extend(more);
    }
}

#[tokio::test]
async fn a_head_that_drips_in_is_cut_off() {
    let rig = rig("timeouts: { header: 500ms, idle: 1h }").await;
    let started = Instant::now();
    let (mut silent, mut slow) = (
        Client::connect(rig.gateway.address()).await,
        TcpStream::connect(rig.gateway.address()).await.unwrap(),
    );
    let drip = async {
        for byte in
            b"GET /status HTTP/1.1\r\nHost: api.example.com\r\nX-Slow: ".iter().chain([b'x'; 1000].iter())
        {
            if slow.write_all(&[*byte]).await.is_err() {
                return;
            }
            pass(20).await;
        }
    };
    let (_, ()) = tokio::join!(rest(&mut silent), drip);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let entry = rig.gateway.wait_for_log(|entry| entry["reason"] == "request_timeout").await;
    assert_eq!(entry["status"], 408, "{entry}");
    assert_eq!(rig.upstream.requests().len(), 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_not_before_its_time() {
    let rig = rig("timeouts: { header: 1s, idle: 4s }").await;
    let mut client = Client::connect(rig.gateway.address()).await;
    assert_eq!(rig.get("/orders/1").on(&mut client).await.unwrap().status, 200);
    pass(2000).await;
    // It is idle from its answer on, which is after this.
    let started = Instant::now();
    assert_eq!(
        rig.get("/orders/1").on(&mut client).await.unwrap().status,
        200,
        "the header timeout is not the idle one"
    );
    assert!(client.closes().await);
    assert!(started.elapsed() >= Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_head_on_a_kept_connection_has_the_header_timeout() {
    let rig = rig("timeouts: { header: 3s, idle: 500ms }").await;
    let mut client = Client::connect(rig.gateway.address()).await;
    assert_eq!(rig.get("/orders/1").on(&mut client).await.unwrap().status, 200);
    let call = rig.get("/orders/2").bytes();
    client.send(&call[..20]).await;
    pass(1200).await;
    client.send(&call[20..]).await;
    assert_eq!(client.response().await.status, 200, "it had begun: it was not idle");
    client.send(&call[..20]).await;
    rest(&mut client).await;
    rig.gateway.wait_for_log(|entry| entry["reason"] == "request_timeout").await;
}

#[tokio::test]
async fn a_body_that_stops_is_a_timeout_and_one_that_flows_is_not() {
    let rig = rig(
        "timeouts: { body_idle: 2s, header: 2s, idle: 2s, upstream_response: 2s }\nlimits: { body_rate: 0B }",
    )
    .await;
    let post = |length: usize| {
        format!(
            "POST /orders/1 HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {}\r\nContent-Length: {length}\r\n\r\n",
            rig.token()
        )
    };
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(post(15)).await;
    for _ in 0..15 {
        pass(200).await;
        client.send("x").await;
    }
    assert_eq!(client.response().await.status, 200, "slow, but steady");
    client.send(post(10)).await;
    client.send("half").await;
    assert_eq!(client.response().await.verdict(), "408 request_timeout");
    assert!(client.closes().await);
}

#[tokio::test]
async fn a_long_answer_is_not_cut_by_the_idle_timeout() {
    let rig = rig("timeouts: { header: 1s, idle: 1s, body_idle: 1s, upstream_response: 15s }").await;
    let (pieces, source) = tokio::sync::mpsc::unbounded_channel();
    let source = std::sync::Mutex::new(Some(source));
    rig.upstream.answers(move |_| support::Reply::Stream(source.lock().unwrap().take().unwrap()));
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(rig.get("/orders/1").bytes()).await;
    pieces.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf".to_vec()).unwrap();
    client.until("half").await;
    pass(2500).await;
    pieces.send(b"whol".to_vec()).unwrap();
    client.until("whol").await;
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_places_are_given_back() {
    let rig = rig("limits: { connections: 2 }\nworkers: 2").await;
    let (mut first, mut second) =
        (Client::connect(rig.gateway.address()).await, Client::connect(rig.gateway.address()).await);
    for client in [&mut first, &mut second] {
        assert_eq!(rig.get("/orders/1").on(client).await.unwrap().status, 200);
    }
    let third = rig.get("/orders/1").try_send().await;
    assert!(third.as_ref().is_none_or(|response| response.status == 503), "{third:?}");
    rig.gateway.wait_for_log(|entry| entry["reason"] == "overloaded").await;
    eventually("it is counted", || async {
        (closed(&rig.gateway, "connection_limit").await == 1.0).then_some(())
    })
    .await;
    drop(first);
    eventually("there is room again", || async {
        rig.get("/orders/1").try_send().await.filter(|response| response.status == 200)
    })
    .await;
    assert_eq!(rig.get("/orders/1").on(&mut second).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_thousand_connections_leave_nothing_behind() {
    let settings =
        "limits: { connections: 2000, connections_per_client: 2000 }\ntimeouts: { header: 1h, idle: 1h }";
    let rig = rig(settings).await;
    let gauge = |name: &'static str| rig.gateway.metric(name, &[]);
    assert_eq!(gauge("scopegate_connections").await, 0.0);
    let mut clients = Vec::new();
    for n in 0..1000 {
        let mut client = Client::connect(rig.gateway.address()).await;
        match n % 4 {
            0 => {}
            1 => client.send("GET /half").await,
            2 => client.send("\0\0 nonsense\r\n\r\n").await,
            _ => assert_eq!(rig.get("/orders/1").on(&mut client).await.unwrap().status, 200),
        }
        clients.push(client);
    }
    let open = gauge("scopegate_connections").await;
    assert!((700.0..=1000.0).contains(&open), "{open}");
    drop(clients);
    eventually("all are counted out", || async {
        let left = (gauge("scopegate_connections").await, gauge("scopegate_in_flight_requests").await);
        (left == (0.0, 0.0)).then_some(())
    })
    .await;
    eventually("kept connections to the upstream are closed in their time", || async {
        (rig.upstream.open_connections() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_http2_client_is_told_to_go_away() {
    let mut rig = rig("timeouts: { drain: 10s }").await;
    let mut client = Http2::connect(rig.gateway.address()).await;
    client.until(SETTINGS, 0).await;
    rig.gateway.signal("TERM");
    assert_eq!(client.until(GOAWAY, 0).await.number(4), NO_ERROR);
    drop(client);
    assert_eq!(rig.gateway.wait_exit().await, Some(0));
}

#[tokio::test]
async fn an_http2_connection_that_says_nothing_is_closed_too() {
    let rig = rig("timeouts: { header: 500ms, idle: 500ms }").await;
    Http2::connect(rig.gateway.address()).await.end().await;
}

#[tokio::test]
async fn an_http2_connection_goes_away_with_its_last_request() {
    let rig = rig("limits: { connection_requests: 3 }\ntimeouts: { idle: 1s }").await;
    let mut client = Http2::connect(rig.gateway.address()).await;
    for id in [1, 3, 5] {
        client.send(get("/status", id)).await;
    }
    for id in [1, 3, 5] {
        assert_eq!(client.outcome(id).await.verdict(), "200", "stream {id}");
    }
    // Whoever does not go is sent away.
    assert_eq!(client.end().await, Some(NO_ERROR));
    eventually("it is counted", || async { (closed(&rig.gateway, "requests").await == 1.0).then_some(()) })
        .await;
}

#[tokio::test]
async fn more_streams_than_agreed_are_refused() {
    let rig = rig("limits: { streams: 2 }").await;
    rig.upstream.answers(|_| Reply::Never);
    let mut client = Http2::connect(rig.gateway.address()).await;
    let settings = client.until(SETTINGS, 0).await;
    assert_eq!(settings.setting(MAX_CONCURRENT_STREAMS), Some(2));
    for id in [1, 3, 5] {
        client.send(get("/status", id)).await;
    }
    assert_eq!(client.outcome(5).await, Outcome::Reset(REFUSED_STREAM));
    rig.upstream.wait("the other two are under way", |upstream| upstream.requests().len() == 2).await;
    eventually("it is counted", || async {
        let labels = [r#"code="refused_stream""#];
        (rig.gateway.metric("scopegate_reset_streams_total", &labels).await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn heads_and_tokens_have_the_sizes_that_are_configured() {
    let rig = rig("limits: { header_bytes: 8KiB, headers: 16, uri: 256B, token: 1KiB }").await;
    // Of a given length in bytes, from the method's name to the last field.
    let path = |length: usize| format!("/status?{}", "x".repeat(length - "/status?".len()));
    let fields = |count: usize| "x: y\r\n".repeat(count - 1);
    let field = |length: usize| format!("x: {}\r\n", "y".repeat(length));
    let token = |length: usize| format!("Authorization: Bearer {}\r\n", "t".repeat(length));
    for (target, fields, verdict, reason) in [
        (path(256), String::new(), "200 -", None),
        (path(257), String::new(), "414 uri_too_long", Some("uri_too_long")),
        (path(20), fields(16), "200 -", None),
        (path(20), fields(17), "431 -", Some("headers_too_large")),
        (path(20), field(7 << 10), "200 -", None),
        (path(20), field(8 << 10), "431 -", Some("headers_too_large")),
        ("/orders/1".into(), token(1024), "401 token_opaque", Some("token_opaque")),
        ("/orders/1".into(), token(1025), "401 token_malformed", Some("token_malformed")),
    ] {
        let what = format!("{} bytes of target, {} of fields", target.len(), fields.len());
        let counted = async |reason: Option<&str>| {
            let label = format!("reason=\"{}\"", reason.unwrap_or("none"));
            rig.gateway.metric("scopegate_decisions_total", &[&label]).await
        };
        let before = counted(reason).await;
        let mut client = Client::connect(rig.gateway.address()).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: api.example.com\r\n{fields}\r\n")).await;
        assert_eq!(client.response().await.verdict(), verdict, "{what}");
        eventually(&what, || async { (counted(reason).await == before + 1.0).then_some(()) }).await;
    }
}

/// How many connections ended for this cause.
async fn closed(gateway: &Gateway, cause: &str) -> f64 {
    gateway.metric("scopegate_connections_closed_total", &[&format!("cause=\"{cause}\"")]).await
}

#[tokio::test]
async fn each_connection_is_counted_by_what_ended_it() {
    let leaf = Authority::new("servers").server(&["localhost"]);
    let policy = Policy::default()
        .listen(
            "\n- http: 127.0.0.1:0\n- https: 127.0.0.1:0\n  certificates: [{ cert: a.crt, key: a.key }]\n",
        )
        .gateway("timeouts: { handshake: 500ms, header: 1s, idle: 1500ms }");
    let (issuer, upstream) = (TestIssuer::start().await, Upstream::start(|_| support::ok("hello")).await);
    let files = [("a.crt", leaf.cert.as_str()), ("a.key", leaf.key.as_str())];
    let gateway = Gateway::start_with(&policy.render(issuer.url(), &upstream.url()), &files).await;
    let good = gateway.get("/status").bytes();
    let long =
        format!("GET /status HTTP/1.1\r\nHost: api.example.com\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    for (cause, address, bytes) in [
        ("handshake_timeout", gateway.https(), &[0x16, 3, 1][..]),
        ("handshake", gateway.https(), b"GET / HTTP/1.1\r\n\r\n"),
        ("header_timeout", gateway.address(), b"GET /status HT"),
        ("idle", gateway.address(), &good),
        ("malformed", gateway.address(), b"\0nonsense\r\n\r\n"),
        ("too_large", gateway.address(), long.as_bytes()),
    ] {
        assert_eq!(closed(&gateway, cause).await, 0.0, "{cause}");
        let mut stream = TcpStream::connect(address).await.unwrap();
        // What is refused early may not be taken to its end.
        let _ = stream.write_all(bytes).await;
        let _ = support::soon(cause, stream.read_to_end(&mut Vec::new())).await;
        drop(stream);
        eventually(cause, || async { (closed(&gateway, cause).await == 1.0).then_some(()) }).await;
    }
    let before = closed(&gateway, "client").await;
    gateway.get("/status").send().await;
    eventually("client", || async { (closed(&gateway, "client").await > before).then_some(()) }).await;
}
