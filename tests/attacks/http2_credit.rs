//! Flow control of HTTP/2 (RFC 9113 §5.2, §6.9): bytes that nobody reads take credit of the connection all the same, padding
//! too, and each of them must come back. Credit that is lost on the way ends in a connection on which no upload moves.
//!
//! Each client here keeps to its windows: one that is never given credit again waits, and its test fails. At the end the
//! connection must still carry an upload that is larger than its window.

use crate::http2::unharmed;
use crate::support::http2::*;
use crate::support::{Policy, Rig, ok};

/// The window of a connection; see `server/connection.rs`.
const WINDOW: i64 = 1 << 20;
/// Frames of data that nobody wants. A loss of the padding alone would already show.
const FRAMES: usize = 10_000;
/// An upload larger than the window.
const UPLOAD: usize = (1 << 20) + (64 << 10);

/// The stream of a client's n-th request.
fn stream(n: usize) -> u32 {
    u32::try_from(2 * n + 1).unwrap()
}

/// A POST without a token, whose body is yet to come.
fn refused(stream: u32) -> Vec<u8> {
    Block::default().set(":method", "POST").on(stream, 0)
}

fn post(rig: &Rig, path: &str, stream: u32) -> Vec<u8> {
    Block::default().set(":method", "POST").set(":path", path).token(&rig.token()).on(stream, 0)
}

async fn rig(settings: &str) -> Rig {
    let rig = Rig::with(Policy::default().gateway(&format!("workers: 1\n{settings}"))).await;
    rig.upstream.answers(|request| ok(&request.target));
    rig
}

/// So many bytes with as much padding as there can be.
fn padded(bytes: usize) -> Vec<u8> {
    [vec![255], vec![b'x'; bytes], vec![0; 255]].concat()
}

/// Waits until the connection has room for a payload, and takes it. Gives what it read of this stream's own window.
async fn room(client: &mut Http2, stream: u32, payload: &[u8]) -> i64 {
    let length = i64::try_from(payload.len()).unwrap();
    let mut opened = 0;
    while client.window < length {
        let frame = client.frame().await.expect("the connection goes on");
        if frame.kind == WINDOW_UPDATE && frame.stream == stream {
            opened += i64::from(frame.number(0));
        }
    }
    client.window -= length;
    opened
}

/// Sends a body on a stream that is open, in frames of this payload, within the windows of stream and connection.
async fn upload(client: &mut Http2, stream: u32, flags: u8, payload: &[u8], frames: usize) {
    let length = i64::try_from(payload.len()).unwrap();
    let mut window = 65_535;
    for n in 1..=frames {
        window += room(client, stream, payload).await;
        while window < length {
            let frame = client.frame().await.expect("the connection goes on");
            if frame.kind == WINDOW_UPDATE && frame.stream == stream {
                window += i64::from(frame.number(0));
            }
        }
        window -= length;
        let end = if n == frames { END_STREAM } else { 0 };
        client.send(frame(DATA, flags | end, stream, payload)).await;
    }
    assert_eq!(client.outcome(stream).await.verdict(), "200");
}

/// The connection has its window, and carries an upload that is larger than it, and a GET.
async fn unharmed_connection(rig: &Rig, client: &mut Http2, first: usize) {
    assert!(client.settled().await);
    // The other side may keep up to half of it back, to spare small updates.
    assert!(client.window > WINDOW / 2, "{} bytes of the window are left", client.window);
    rig.upstream.forget();
    client.send(post(rig, "/orders/upload", stream(first))).await;
    upload(client, stream(first), 0, &[b'x'; 16_384], UPLOAD / 16_384).await;
    let get = Block::default().set(":path", "/orders/after").token(&rig.token());
    client.send(get.on(stream(first + 1), END_STREAM)).await;
    assert_eq!(client.outcome(stream(first + 1)).await, Outcome::Answer(200, b"/orders/after".to_vec()));
    let requests = rig.upstream.requests();
    assert_eq!((requests.len(), requests[0].body.len()), (2, UPLOAD));
}

#[tokio::test]
async fn what_nobody_takes_costs_a_connection_nothing() {
    const KINDS: usize = 3;
    // Few enough that what a client takes back at once does not look like a flood of resets.
    const BATCH: usize = 10;
    let rig = rig("limits: { connection_requests: 100000 }").await;
    let mut client = Http2::connect(rig.gateway.address()).await;
    let body = padded(600);
    for batch in 0..=FRAMES / KINDS / BATCH {
        let all =
            (batch * BATCH..(batch + 1) * BATCH).map(|n| [0, 1, 2].map(|kind| stream(n * KINDS + kind)));
        for [read, unread, cancelled] in all.clone() {
            for _ in 0..KINDS {
                room(&mut client, 0, &body).await;
            }
            // F22: a body that the upstream gets, one that nobody has asked for, and one that its client takes back.
            let whole = |stream| frame(DATA, END_STREAM | PADDED, stream, &body);
            client.send([post(&rig, "/orders/flood", read), whole(read)].concat()).await;
            client.send([refused(unread), whole(unread)].concat()).await;
            let some = frame(DATA, PADDED, cancelled, &body);
            client.send([refused(cancelled), some, reset(cancelled, CANCEL)].concat()).await;
        }
        for [read, unread, _] in all {
            assert_eq!(client.outcome(read).await.verdict(), "200", "F22 in batch {batch}");
            assert_eq!(
                client.outcome(unread).await.verdict(),
                "401 credential_missing",
                "F22 in batch {batch}"
            );
        }
        rig.upstream.forget();
    }
    unharmed_connection(&rig, &mut client, 2 * FRAMES).await;
    unharmed(&rig).await;
}

#[tokio::test]
async fn no_credit_of_a_connection_is_lost() {
    // h2 ends a connection after 256 frames for streams that it has forgotten, and remembers 50 of a second.
    const ROUNDS: usize = 200;
    let rig = rig("").await;
    // As much as a frame holds, with padding: on each connection three times its window.
    let body = padded(16_384 - 256);
    for connection in 0..FRAMES / ROUNDS {
        let mut client = Http2::connect(rig.gateway.address()).await;
        for n in 0..ROUNDS {
            client.send(refused(stream(n))).await;
            assert_eq!(client.outcome(stream(n)).await.verdict(), "401 credential_missing");
            // F22: what is under way when the stream is over.
            room(&mut client, 0, &body).await;
            client.send(frame(DATA, END_STREAM | PADDED, stream(n), &body)).await;
        }
        unharmed_connection(&rig, &mut client, ROUNDS).await;
        assert_eq!(client.frames.get(&GOAWAY), None, "connection {connection}");
    }
    unharmed(&rig).await;
}

#[tokio::test]
async fn no_credit_is_lost_behind_the_gateways_goodbye() {
    let rig = rig("limits: { connection_requests: 1, body_rate: 0B }\ntimeouts: { body_idle: 5m }").await;
    let mut client = Http2::connect(rig.gateway.address()).await;
    client.send(post(&rig, "/orders/upload", 1)).await;
    // The first goodbye names no stream: it asks whether it was heard. The second means all behind the first stream.
    loop {
        let received = client.frame().await.expect("the connection goes on");
        match received.kind {
            PING if received.flags & ACK == 0 => client.send(frame(PING, ACK, 0, &received.payload)).await,
            GOAWAY if received.number(0) == 1 => break,
            _ => {}
        }
    }
    let body = padded(600);
    for n in 1..=FRAMES {
        room(&mut client, stream(n), &body).await;
        client
            .send(
                [post(&rig, "/orders/flood", stream(n)), frame(DATA, END_STREAM | PADDED, stream(n), &body)]
                    .concat(),
            )
            .await;
    }
    upload(&mut client, 1, 0, &[b'x'; 16_384], UPLOAD / 16_384).await;
    let request = rig.upstream.request();
    assert_eq!(
        (request.target.as_str(), request.body.len()),
        ("/orders/upload", UPLOAD),
        "F22: nothing else was served"
    );
    assert_eq!(client.end().await, Some(NO_ERROR));
    unharmed(&rig).await;
}

#[tokio::test]
async fn no_credit_is_lost_behind_a_clients_goodbye() {
    let rig = rig("").await;
    let mut client = Http2::connect(rig.gateway.address()).await;
    client.send([post(&rig, "/orders/upload", 1), frame(GOAWAY, 0, 0, &[0; 8])].concat()).await;
    // A byte and 256 that are none: two and a half windows of the connection, and forty of the stream.
    upload(&mut client, 1, PADDED, &padded(1), FRAMES).await;
    assert_eq!(rig.upstream.request().body, [b'x'; FRAMES], "F22");
    assert_eq!(client.end().await, Some(NO_ERROR));
    unharmed(&rig).await;
}
