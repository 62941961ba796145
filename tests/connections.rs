//! What a connection costs and how it ends: counted while it lasts, never held by a client that does its part no more.
#![cfg(test)]

mod support;

use std::time::{Duration, Instant};

use support::{Client, Policy, Reply, Rig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Waits until this many client connections are counted.
async fn until_counted(rig: &Rig, wanted: f64) {
    support::eventually("the connections are counted", || async {
        let counted = rig.gateway.metric("scopegate_connections", &[]).await;
        ((counted - wanted).abs() < 0.5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_connection_and_the_tunnel_it_becomes_are_counted_while_they_last() {
    let rig = Rig::start().await;
    let mut plain = Client::connect(rig.gateway.address()).await;
    assert_eq!(rig.get("/orders/1").on(&mut plain).await.unwrap().status, 200);
    until_counted(&rig, 1.0).await;
    let mut tunnel = rig.tunnel(&rig.token()).await;
    tunnel.send("ping").await;
    tunnel.until("ping").await;
    until_counted(&rig, 2.0).await;
    drop(plain);
    until_counted(&rig, 1.0).await;
    tunnel.send("pong").await;
    tunnel.until("pong").await;
    drop(tunnel);
    until_counted(&rig, 0.0).await;
}

#[tokio::test]
async fn a_tunnel_goes_on_while_the_process_drains() {
    let mut rig = Rig::start().await;
    let mut tunnel = rig.tunnel(&rig.token()).await;
    rig.gateway.signal("TERM");
    support::eventually("it drains", || async {
        (rig.gateway.admin("GET", "/readyz").send().await.status == 503).then_some(())
    })
    .await;
    for round in 0..20 {
        let text = format!("ping {round};");
        tunnel.send(&text).await;
        tunnel.until(&text).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(rig.gateway.runs());
    drop(tunnel);
    assert_eq!(rig.gateway.wait_exit().await, Some(0));
}

#[tokio::test]
async fn a_connection_that_says_nothing_does_not_hold_the_drain_up() {
    let mut rig = Rig::with(Policy::default().gateway("timeouts: { header: 50s, drain: 50s }")).await;
    let mut silent = Client::connect(rig.gateway.address()).await;
    until_counted(&rig, 1.0).await;
    let begun = Instant::now();
    rig.gateway.signal("TERM");
    assert!(silent.closes().await);
    assert_eq!(rig.gateway.wait_exit().await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_sends_a_body_that_nobody_wants_is_told_why() {
    let rig = Rig::start().await;
    rig.upstream.answers(|_| Reply::Early(Box::new(Reply::with(409, "", "no"))));
    let body = vec![b'x'; 8 << 20];
    let post = || rig.gateway.call("POST", "/orders/1");
    let too_long = vec![b'x'; 12 << 20];
    for (call, wanted) in [
        (post().body(body.clone()), "401 credential_missing"),
        (post().token(&rig.token()).body(too_long), "413 body_too_large"),
        (post().token(&rig.token()).body(body), "409 -"),
    ] {
        let mut stream = TcpStream::connect(rig.gateway.address()).await.unwrap();
        // As most clients do it: the whole request first, then the answer.
        let sent = stream.write_all(&call.bytes()).await;
        assert!(sent.is_ok(), "{wanted}: {sent:?}");
        assert_eq!(Client::over(stream).response().await.verdict(), wanted);
    }
}

#[tokio::test]
async fn who_sends_a_head_that_is_too_large_is_told_why() {
    let rig = Rig::start().await;
    let mut stream = TcpStream::connect(rig.gateway.address()).await.unwrap();
    let head = format!("GET /orders/1 HTTP/1.1\r\nHost: api.example.com\r\nX: {}", "y".repeat(300 * 1024));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    support::soon("an answer and the end", stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 431 "), "{:?}", String::from_utf8_lossy(&answer));
    // What the client still sends is taken: a reset could overtake the answer on its way.
    for _ in 0..10 {
        stream.write_all(b"y").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_client_that_takes_no_more_of_an_answer_is_given_up() {
    let rig = Rig::with(Policy::default().gateway("timeouts: { response_stall: 1s }")).await;
    let (pieces, source) = mpsc::unbounded_channel();
    let source = std::sync::Mutex::new(Some(source));
    rig.upstream.answers(move |_| Reply::Stream(source.lock().unwrap().take().unwrap()));
    let mut stream = TcpStream::connect(rig.gateway.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &rig.get("/orders/1").bytes()).await.unwrap();
    pieces.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 256 << 20).into_bytes()).unwrap();
    for _ in 0..256 {
        pieces.send(vec![b'x'; 1 << 20]).unwrap();
    }
    stream.read_exact(&mut [0; 1024]).await.unwrap();
    let entry = rig.gateway.wait_for_log(|entry| entry["status"] == 200).await;
    assert_eq!(entry["route"], "orders");
    rig.upstream.wait("the upstream is given up", |upstream| upstream.open_connections() == 0).await;
    let closed = || rig.gateway.metric("scopegate_connections_closed_total", &["cause=\"response_stall\""]);
    support::eventually("it is counted", || async { (closed().await == 1.0).then_some(()) }).await;
}

#[tokio::test]
async fn the_process_takes_as_many_open_files_as_it_may() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(512);
    setrlimit(Resource::Nofile, limit).unwrap();
    let rig = Rig::start().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", rig.gateway.pid())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let values: Vec<_> = line.split_whitespace().collect();
    assert_eq!(values[0], values[1], "{line}");
}
