//! What is left on a connection after an answer: bytes that nobody asked for, and requests that were not read.

use std::sync::Arc;

use super::script::{OK, Scripted, Wire};
use super::{Client, Rig};

/// Echoes the target, and says something else behind it.
async fn poisoning(mut wire: Wire) {
    while let Some(asked) = wire.request().await {
        let own =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", asked.target.len(), asked.target);
        let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
        wire.send([own.as_str(), poison].concat()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_gets_the_answer_to_the_own_request() {
    let upstream = Scripted::start(poisoning).await;
    let rig = Rig::before(&upstream).await;
    let clients = (0..20).map(|client| {
        let rig = &rig;
        async move {
            let mut connection = Client::connect(rig.gateway.address()).await;
            for nonce in 0..50 {
                let target = format!("/{client}-{nonce}");
                let response = rig.call("GET", &target).on(&mut connection).await.unwrap();
                assert_eq!(response.text(), target);
            }
        }
    });
    futures_util::future::join_all(clients).await;
    assert_eq!(upstream.connections(), 1000, "no connection that said more was used again");
}

#[tokio::test]
async fn bytes_on_an_unused_connection_end_it() {
    let speak = Arc::new(tokio::sync::Notify::new());
    let (sign, spoke) = (Arc::clone(&speak), Arc::new(tokio::sync::Notify::new()));
    let told = Arc::clone(&spoke);
    let upstream = Scripted::start(move |mut wire| {
        let (sign, told) = (Arc::clone(&sign), Arc::clone(&told));
        async move {
            wire.request().await;
            wire.send(OK).await;
            sign.notified().await;
            // Any byte will do.
            wire.send([[b'\r', 0, 0x16][wire.number % 3]]).await;
            told.notify_one();
            wire.drain().await;
        }
    })
    .await;
    let rig = Rig::before(&upstream).await;
    for connections in 1..=9 {
        assert_eq!(rig.verdict("POST", "/1").await, "200 -");
        assert_eq!(upstream.connections(), connections);
        speak.notify_one();
        spoke.notified().await;
    }
    rig.settles(0.0).await;
}

/// Answers as soon as it has the head of a request, and reads nothing more.
async fn early(mut wire: Wire) {
    while let Some(asked) = wire.head().await {
        let status = if asked.method == "POST" { "401 No" } else { "200 OK" };
        wire.send(format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{}",
            asked.target.len(),
            asked.target
        ))
        .await;
        if asked.method == "POST" {
            wire.drain().await;
        }
    }
}

#[tokio::test]
async fn a_connection_with_half_a_request_on_it_is_not_used_again() {
    let upstream = Scripted::start(early).await;
    let rig = Rig::before(&upstream).await;
    for round in 0..10 {
        let mut client = Client::connect(rig.gateway.address()).await;
        let post = rig.call("POST", "/upload").header("Content-Length", "100000");
        client.send(post.bytes()).await;
        client.send("GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!((response.status, response.text().as_str()), (401, "/upload"));
        let target = format!("/{round}");
        assert_eq!(rig.get(&target).await.text(), target);
        drop(client);
        rig.settles(1.0).await;
    }
    assert!(
        !upstream.requests().iter().any(|request| request.contains("smuggled")),
        "{:?}",
        upstream.requests()
    );
}

#[tokio::test]
async fn an_upload_that_was_answered_before_it_was_read_ends_its_connection() {
    let upstream = Scripted::start(early).await;
    let rig = Rig::before(&upstream).await;
    let body = vec![b'x'; 8 << 20];
    for round in 0..5 {
        let mut client = Client::connect(rig.gateway.address()).await;
        client
            .send(rig.call("POST", "/upload").header("Content-Length", &body.len().to_string()).bytes())
            .await;
        assert_eq!(client.response().await.status, 401);
        // The rest goes nowhere.
        client.send(&body).await;
        rig.settles(1.0).await;
        let target = format!("/{round}");
        assert_eq!(rig.get(&target).await.text(), target);
    }
}

#[tokio::test]
async fn an_expectation_that_is_answered_without_reading_leaves_no_body_behind() {
    let upstream = Scripted::start(early).await;
    let rig = Rig::before(&upstream).await;
    for round in 0..10 {
        let mut client = Client::connect(rig.gateway.address()).await;
        let post =
            rig.call("POST", "/expects").header("Expect", "100-continue").header("Content-Length", "37");
        client.send(post.bytes()).await;
        // Told to go on or refused: either way the body that comes then is of no request.
        let response = client.response().await;
        assert_eq!((response.status, response.text().as_str()), (401, "/expects"));
        client.send("GET /smuggled HTTP/1.1\r\nHost: x.com\r\n\r\n").await;
        let target = format!("/{round}");
        assert_eq!(rig.get(&target).await.text(), target);
    }
    assert!(
        !upstream.requests().iter().any(|request| request.contains("smuggled")),
        "{:?}",
        upstream.requests()
    );
    rig.settles(1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_response_before_a_reset_reaches_the_client() {
    // It closes with the upload unread, so that its system resets the connection.
    let upstream = Scripted::start(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 413 X\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig").await;
    })
    .await;
    let rig = Rig::before(&upstream).await;
    for round in 0..30 {
        let post = rig.call("POST", "/upload").body(vec![b'x'; 4 << 20]);
        let response = post.send().await;
        assert_eq!((response.status, response.text().as_str()), (413, "big"), "round {round}");
    }
}

#[tokio::test]
async fn without_reuse_each_request_says_that_its_connection_ends() {
    let upstream = Scripted::start(|mut wire| async move {
        while let Some(asked) = wire.request().await {
            let closes = asked.head.contains("\r\nconnection: close\r\n");
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{closes}",
                closes.to_string().len()
            ))
            .await;
        }
    })
    .await;
    for (keep, closes) in [("0s", "true"), ("4s", "false")] {
        let policy =
            super::Policy::default().gateway(&format!("timeouts: {{ upstream_keep_alive: {keep} }}"));
        let rig = Rig::with(&upstream.url(), policy).await;
        assert_eq!(rig.get("/1").await.text(), closes, "{keep}");
    }
}
