//! Requests that an upstream of HTTP/2 says it did not process: they are sent again, whatever their method (RFC 9113 §8.7).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::http2::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, SETTINGS, STATUS_200, WINDOW_UPDATE,
    before, frame, literal, ok,
};
use super::script::Scripted;
use super::support;

/// `INITIAL_WINDOW_SIZE` (RFC 9113 §6.5.2).
fn initial_window(bytes: u32) -> Vec<u8> {
    [&[0, 4][..], &bytes.to_be_bytes()].concat()
}

/// `MAX_CONCURRENT_STREAMS` (RFC 9113 §6.5.2).
fn max_streams(count: u32) -> Vec<u8> {
    [&[0, 3][..], &count.to_be_bytes()].concat()
}

#[tokio::test]
async fn what_the_upstream_did_not_process_is_sent_again() {
    type Say = fn(u32) -> Vec<u8>;
    let refused: Say = |stream| frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes());
    let away: Say = |stream| frame(GOAWAY, 0, 0, &[stream.saturating_sub(2).to_be_bytes(), [0; 4]].concat());
    for (what, say) in [("refused", refused), ("above the last stream", away)] {
        for (method, size, verdict) in [
            ("GET", 0, "200 -"),
            ("POST", 0, "200 -"),
            ("POST", 2, "200 -"),
            ("POST", 10_000, "200 -"),
            ("POST", 60_000, "200 -"),
            // More than is kept: a part of it is lost with the stream.
            ("POST", 150_000, "502 upstream_invalid"),
        ] {
            // The first request on the first two connections is answered, the second is not processed.
            let upstream = Scripted::start(move |wire| async move {
                let number = wire.number;
                let mut connection = Frames::begin(wire, &initial_window(200_000)).await;
                connection.say(&frame(WINDOW_UPDATE, 0, 0, &400_000_u32.to_be_bytes())).await;
                while let Some((stream, length)) = connection.whole_request().await {
                    if number < 2 && (stream > 1 || number == 1) {
                        connection.say(&say(stream)).await;
                        continue;
                    }
                    let length = length.to_string();
                    let head = [STATUS_200, &literal("x-length", &length)].concat();
                    let head = frame(HEADERS, END_HEADERS, stream, &head);
                    connection.say(&[head, frame(DATA, END_STREAM, stream, b"ok")].concat()).await;
                }
            })
            .await;
            let rig = before(&upstream).await;
            assert_eq!(rig.verdict("GET", "/0").await, "200 -");
            let mut call = rig.call(method, "/1");
            if size > 0 {
                call = call.body(vec![b'x'; size]);
            }
            let response = call.send().await;
            assert_eq!(response.verdict(), verdict, "{what}: {method} of {size} bytes");
            if verdict == "200 -" {
                let length = response.header("x-length").map(str::to_owned);
                assert_eq!(length, Some(size.to_string()), "{what}: {method} of {size} bytes");
            }
        }
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_each_stream_is_asked_a_few_times() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let upstream = Scripted::start(move |wire| {
        let count = Arc::clone(&count);
        async move {
            let mut connection = Frames::begin(wire, b"").await;
            while let Some(stream) = connection.request().await {
                count.fetch_add(1, Ordering::SeqCst);
                connection.say(&frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes())).await;
            }
        }
    })
    .await;
    let rig = before(&upstream).await;
    assert_eq!(rig.verdict("POST", "/1").await, "502 upstream_invalid");
    assert_eq!(asked.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn no_more_streams_are_opened_than_the_upstream_has_allowed() {
    let (early, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let (count, sign) = (Arc::clone(&early), Arc::clone(&gate));
    let upstream = Scripted::start(move |wire| {
        let (count, sign) = (Arc::clone(&count), Arc::clone(&sign));
        async move {
            // Its settings come late. What it reads before they are acknowledged was sent without knowing them.
            let mut connection = Frames::preface(wire).await;
            let first = connection.request().await.unwrap();
            let _permit = sign.acquire().await.unwrap();
            connection.say(&frame(SETTINGS, 0, 0, &max_streams(1))).await;
            while let Some((kind, flags, ..)) = connection.next().await {
                count.fetch_add(usize::from(kind == HEADERS), Ordering::SeqCst);
                if kind == SETTINGS && flags & 1 == 1 {
                    break;
                }
            }
            connection.say(&ok(first)).await;
            while let Some(stream) = connection.request().await {
                connection.say(&ok(stream)).await;
            }
        }
    })
    .await;
    let rig = before(&upstream).await;
    let calls = futures_util::future::join_all((0..4).map(|_| rig.verdict("POST", "/1")));
    let release = async {
        support::eventually("four requests wait", || async {
            (rig.gateway.metric("scopegate_in_flight_requests", &[]).await >= 4.0).then_some(())
        })
        .await;
        gate.add_permits(1);
    };
    let (verdicts, ()) = tokio::join!(calls, release);
    assert_eq!(verdicts, ["200 -"; 4]);
    assert_eq!(early.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn requests_above_the_limit_of_streams_use_other_connections() {
    let (held, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let (count, sign) = (Arc::clone(&held), Arc::clone(&gate));
    let upstream = Scripted::start(move |wire| {
        let (count, sign) = (Arc::clone(&count), Arc::clone(&sign));
        async move {
            let first = wire.number == 0;
            let mut connection = Frames::begin(wire, &max_streams(2)).await;
            if first {
                let stream = connection.request().await.unwrap();
                connection.say(&ok(stream)).await;
            }
            let mut streams = Vec::new();
            while let Some(stream) = connection.request().await {
                count.fetch_add(1, Ordering::SeqCst);
                streams.push(stream);
                if streams.len() == 2 {
                    let _permit = sign.acquire().await.unwrap();
                    for stream in streams.drain(..) {
                        connection.say(&ok(stream)).await;
                    }
                }
            }
        }
    })
    .await;
    let rig = before(&upstream).await;
    assert_eq!(rig.verdict("GET", "/0").await, "200 -", "its settings are known now");
    let calls = futures_util::future::join_all((0..6).map(|_| rig.verdict("POST", "/1")));
    let release = async {
        support::eventually("six streams are open", || async {
            (held.load(Ordering::SeqCst) == 6).then_some(())
        })
        .await;
        gate.add_permits(1);
    };
    let (verdicts, ()) = tokio::join!(calls, release);
    assert_eq!(verdicts, ["200 -"; 6]);
    assert_eq!(upstream.connections(), 3);
}
