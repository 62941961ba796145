//! What lasts longer than the token it was permitted with: streams and tunnels end when the token does.
#![cfg(test)]

mod support;

use std::time::{Duration, Instant};

use support::{Client, Policy, Reply, Rig, now, soon};
use tokio::sync::mpsc;

const EVENTS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";

/// A stream whose head came through with a token of these times, and what feeds it.
async fn stream(rig: &Rig, times: (i64, i64), head: &[u8]) -> (Client, mpsc::UnboundedSender<Vec<u8>>) {
    let (events, source) = mpsc::unbounded_channel();
    let source = std::sync::Mutex::new(Some(source));
    rig.upstream.answers(move |_| Reply::Stream(source.lock().unwrap().take().unwrap()));
    let mut client = Client::connect(rig.gateway.address()).await;
    let token = rig.issuer.token().times(times.0, times.1).mint();
    client.send(rig.gateway.get("/orders/1").token(&token).bytes()).await;
    events.send(head.to_vec()).unwrap();
    (client, events)
}

/// Reads until the peer closes.
async fn until_closed(client: &mut Client) {
    soon("the end", async { while !client.raw().await.is_empty() {} }).await;
}

/// A rig with this leeway, whose gateway has its keys and connections: the time of a short token is for what it opens.
async fn warm(leeway: &str) -> Rig {
    let rig = Rig::with(Policy::default().issuer(&format!("leeway: {leeway}"))).await;
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    rig.upstream.forget();
    rig
}

#[tokio::test]
async fn an_event_stream_ends_with_its_token() {
    let rig = warm("0s").await;
    let expires = now() + 5;
    let (mut client, events) = stream(&rig, (0, 5), EVENTS).await;
    client.until("data: 1").await;
    tokio::join!(until_closed(&mut client), async {
        // It is not silence that ends it.
        while events.send(b"data: more\n\n".to_vec()).is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    assert!(now() >= expires, "it ended before its token");
    rig.gateway.wait_for_log(|entry| entry["reason"] == "token_expired").await;
    rig.upstream.wait("the upstream's work ends too", |upstream| upstream.open_connections() == 0).await;
}

#[tokio::test]
async fn a_stream_that_never_pauses_ends_with_its_token_too() {
    const PIECE: usize = 16 << 10;
    const PIECES: usize = 4_000;
    let rig = warm("0s").await;
    let (mut client, events) = stream(&rig, (0, 5), EVENTS).await;
    for _ in 0..PIECES {
        events.send(vec![b':'; PIECE]).unwrap();
    }
    let mut bytes = 0;
    loop {
        let more = client.raw().await.len();
        bytes += more;
        if more == 0 {
            break;
        }
        // The reader is slower than the upstream, so that there is always more to read.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(bytes < PIECE * PIECES / 2, "{bytes} bytes came");
    rig.gateway.wait_for_log(|entry| entry["reason"] == "token_expired").await;
}

#[tokio::test]
async fn the_leeway_counts_for_streams_as_it_does_for_requests() {
    let rig = Rig::with(Policy::default().issuer("leeway: 30s")).await;
    let (mut client, events) = stream(&rig, (-60, -5), EVENTS).await;
    client.until("data: 1").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    events.send(b"data: 2\n\n".to_vec()).unwrap();
    client.until("data: 2").await;
}

#[tokio::test]
async fn a_download_that_was_permitted_is_finished() {
    let rig = warm("0s").await;
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/zip\r\nContent-Length: 8\r\n\r\nhalf";
    let expires = now() + 5;
    let (mut client, pieces) = stream(&rig, (0, 5), head).await;
    client.until("half").await;
    // A second more than it takes, at least.
    while now() < expires + 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    pieces.send(b"whol".to_vec()).unwrap();
    client.until("whol").await;
}

async fn tunnel(rig: &Rig, times: (i64, i64)) -> Client {
    let mut client = rig.tunnel(&rig.issuer.token().times(times.0, times.1).mint()).await;
    client.send("ping").await;
    client.until("ping").await;
    client
}

#[tokio::test]
async fn a_web_socket_ends_with_its_token() {
    let rig = warm("0s").await;
    let expires = now() + 5;
    let mut client = tunnel(&rig, (0, 5)).await;
    until_closed(&mut client).await;
    assert!(now() >= expires, "it ended before its token");
    rig.upstream.wait("the upstream's side ends too", |upstream| upstream.open_connections() == 0).await;
}

#[tokio::test]
async fn a_web_socket_outlasts_its_token_by_the_leeway_alone() {
    let rig = warm("5s").await;
    let expired = now();
    let mut client = tunnel(&rig, (-60, 0)).await;
    until_closed(&mut client).await;
    assert!(now() >= expired + 5, "it ended before the leeway did");
}

#[tokio::test]
async fn a_drain_ends_an_open_web_socket_and_an_event_stream() {
    let mut rig = Rig::with(Policy::default().gateway("timeouts: { drain: 1s }")).await;
    let mut socket = tunnel(&rig, (0, 600)).await;
    let (mut client, _events) = stream(&rig, (0, 600), EVENTS).await;
    client.until("data: 1").await;
    let started = Instant::now();
    rig.gateway.signal("TERM");
    until_closed(&mut socket).await;
    until_closed(&mut client).await;
    assert_eq!(rig.gateway.wait_exit().await, Some(0));
    // Undisturbed, a drain may take half a minute and the token lasts for ten.
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
}
