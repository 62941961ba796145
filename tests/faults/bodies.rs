//! Bodies of answers that break off, stop, lie, or end where they should not; and how long their connections live.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::script::{OK, Scripted};
use super::{Client, Policy, ROUTES, Rig, streams, to_the_end};

/// How an upstream stops.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    Fin,
    Reset,
    Silence,
}

/// Sends these bytes, waits until the client has them, and stops.
async fn stopping(bytes: Vec<u8>, stop: Stop) -> (Scripted, Arc<Notify>) {
    let (bytes, seen) = (Arc::<[u8]>::from(bytes), Arc::new(Notify::new()));
    let sign = Arc::clone(&seen);
    let upstream = Scripted::start(move |mut wire| {
        let (bytes, sign) = (Arc::clone(&bytes), Arc::clone(&sign));
        async move {
            if wire.request().await.is_none() {
                return;
            }
            wire.send(&*bytes).await;
            sign.notified().await;
            match stop {
                Stop::Fin => wire.finish().await,
                Stop::Reset => return wire.reset(),
                Stop::Silence => {}
            }
            wire.drain().await;
        }
    })
    .await;
    (upstream, seen)
}

#[tokio::test]
async fn a_break_right_after_the_head_is_never_silent() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a size",
    ] {
        for reset in [false, true] {
            let upstream = Scripted::start(move |mut wire| async move {
                wire.request().await;
                wire.send(head).await;
                if reset {
                    wire.reset();
                }
            })
            .await;
            let rig = Rig::before(&upstream).await;
            // On a connection that was answered before, a silent close would have the client send the request again.
            let mut client = Client::connect(rig.gateway.address()).await;
            assert_eq!(rig.call("GET", "/good/1").on(&mut client).await.unwrap().text(), "good");
            client.send(rig.call("GET", "/1").bytes()).await;
            let seen = to_the_end(&mut client).await;
            assert!(
                ["HTTP/1.1 200", "HTTP/1.1 502"].iter().any(|line| seen.starts_with(line)),
                "{head:?}, reset: {reset}: {seen:?}"
            );
            assert!(!seen.ends_with("0\r\n\r\n"), "{head:?}, reset: {reset}: {seen:?}");
        }
    }
}

/// Bodies that begin with `hello` and lack their end.
const HALF: &[(&str, &str)] = &[
    ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
    ("a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello"),
    ("the end of a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello"),
    ("the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    ("the line of the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0"),
    ("the end of the trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
];

#[tokio::test]
async fn a_body_that_breaks_off_is_told_from_a_whole_one_by_every_client() {
    for stop in [Stop::Fin, Stop::Reset, Stop::Silence] {
        for (what, bytes) in HALF {
            let (upstream, seen) = stopping(bytes.as_bytes().to_vec(), stop).await;
            let rig =
                Rig::with(&upstream.url(), Policy::default().gateway("timeouts: { upstream_idle: 1s }"))
                    .await;
            let mut client = Client::connect(rig.gateway.address()).await;
            client.send(rig.call("GET", "/1").bytes()).await;
            let begin = client.until("hello").await;
            seen.notify_one();
            let seen_by_client = format!("{begin}{}", to_the_end(&mut client).await);
            let whole = seen_by_client.ends_with("0\r\n\r\n")
                || seen_by_client.to_lowercase().contains("content-length: 5");
            assert!(!whole, "{stop:?} before {what}: {seen_by_client}");

            let (status, mut body) = streams::get(rig.gateway.address(), "/2").await.unwrap();
            assert_eq!((status, &body.data().await.unwrap().unwrap()[..]), (200, &b"hello"[..]));
            seen.notify_one();
            let ended = body.data().await;
            let reset =
                ended.as_ref().and_then(|ended| ended.as_ref().err()).is_some_and(h2::Error::is_reset);
            assert!(reset, "{stop:?} before {what}: {ended:?}");

            let reason = if stop == Stop::Silence { "upstream_timeout" } else { "upstream_invalid" };
            for path in ["/1", "/2"] {
                let entry = rig.gateway.wait_for_log(|entry| entry["path"] == path).await;
                assert_eq!((&entry["status"], &entry["reason"]), (&200.into(), &reason.into()), "{entry}");
            }
            assert_eq!(rig.errors(reason).await, 2.0);
            rig.settles(0.0).await;
            rig.assert_good().await;
        }
    }
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_whole_only_if_that_ends_in_order() {
    for (stop, whole) in [(Stop::Fin, true), (Stop::Reset, false)] {
        let (upstream, seen) = stopping(b"HTTP/1.0 200 OK\r\n\r\nhello".to_vec(), stop).await;
        let rig = Rig::before(&upstream).await;
        let mut client = Client::connect(rig.gateway.address()).await;
        client.send(rig.call("GET", "/1").bytes()).await;
        let begin = client.until("hello").await;
        seen.notify_one();
        if whole {
            assert!(format!("{begin}{}", client.until("0\r\n\r\n").await).ends_with("0\r\n\r\n"));
        } else {
            let end = to_the_end(&mut client).await;
            assert!(!format!("{begin}{end}").ends_with("0\r\n\r\n"), "{begin}{end}");
        }
        rig.settles(0.0).await;
    }
}

#[tokio::test]
async fn what_is_no_chunk_ends_the_answer_without_its_end() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let (long_line, long_trailer) =
        (format!("5;{}", "a".repeat(1 << 20)), format!("0\r\nA: {}", "a".repeat(1 << 20)));
    let many_trailers = format!("0\r\n{}\r\n", "A: b\r\n".repeat(65));
    for (what, rest) in [
        ("letters", "hello\r\n"),
        ("a sign", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("an underscore", "1_0\r\n"),
        ("a space before", " 5\r\nhello\r\n0\r\n\r\n"),
        ("an empty line", "\r\n0\r\n\r\n"),
        ("more than 64 bits", "10000000000000000\r\n"),
        ("a bare LF after the size", "5\nhello\r\n0\r\n\r\n"),
        ("a bare CR after the size", "5\rhello\r\n0\r\n\r\n"),
        ("a bare LF in an extension", "5;a\nhello\r\n0\r\n\r\n"),
        ("a bare LF after the data", "5\r\nhello\n0\r\n\r\n"),
        ("more data than said", "5\r\nhello!\r\n0\r\n\r\n"),
        ("a trailer without a colon", "0\r\nno colon\r\n\r\n"),
        ("a folded trailer", "0\r\nA: b\r\n c\r\n\r\n"),
        ("a long extension", &long_line),
        ("a long trailer", &long_trailer),
        ("many trailers", &many_trailers),
    ] {
        let upstream = Scripted::saying(&[head, rest].concat()).await;
        let rig = Rig::before(&upstream).await;
        let mut client = Client::connect(rig.gateway.address()).await;
        client.send(rig.call("GET", "/1").bytes()).await;
        let seen = to_the_end(&mut client).await;
        assert!(!seen.ends_with("0\r\n\r\n"), "{what}: {seen}");
        rig.settles(0.0).await;
        assert_eq!(upstream.count(), 1, "{what}: what has begun is not asked again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_and_trailers_that_come_byte_by_byte_are_read() {
    let line = format!("5;{}\r\nhello\r\n", "a".repeat(4000));
    let body = format!("{line}{line}0\r\nX-Sum: {}\r\n\r\n", "s".repeat(8000));
    let bytes = Arc::<str>::from(format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n{body}"
    ));
    let upstream = Scripted::start(move |mut wire| {
        let bytes = Arc::clone(&bytes);
        async move {
            while wire.request().await.is_some() {
                wire.drip(&*bytes).await;
            }
        }
    })
    .await;
    let rig = Rig::before(&upstream).await;
    for _ in 0..2 {
        let response = rig.call("GET", "/1").header("TE", "trailers").send().await;
        assert_eq!((response.status, response.text().as_str()), (200, "hellohello"));
        assert_eq!(response.trailers.get("x-sum").map(str::len), Some(8000));
    }
    assert_eq!(upstream.connections(), 1, "nothing was wrong with it");
}

#[tokio::test]
async fn a_pause_is_one_of_the_upstream_and_a_route_may_allow_longer_ones() {
    let patient = "  timeouts: { upstream_idle: 1m }\n- id: impatient";
    let routes = ROUTES.replace("- id: good", &format!("{patient}\n  match: {{ host: api.example.com, path: '/short' }}\n  public: true\n  upstream: orders\n- id: good"));
    let upstream = Scripted::start(|mut wire| async move {
        while let Some(asked) = wire.request().await {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n").await;
            // Steady on the one route; one long pause on the other.
            let (pieces, pause) = if asked.target == "/short" { (10, 150) } else { (2, 1500) };
            for _ in 0..pieces {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                wire.send(&b"0123456789"[..10 / pieces]).await;
            }
        }
    })
    .await;
    let policy = Policy::default().gateway("timeouts: { upstream_idle: 1s }").routes(&routes);
    let rig = Rig::with_routes(&upstream.url(), policy).await;
    for target in ["/short", "/long"] {
        assert_eq!(rig.get(target).await.body.len(), 10, "{target}");
    }
}

#[tokio::test]
async fn streams_may_be_silent_for_as_long_as_streams_may() {
    for (kind, stream_idle, whole) in [
        ("text/event-stream", "1m", true),
        ("application/grpc", "1m", true),
        ("text/event-stream", "1s", false),
        ("text/plain", "1m", false),
    ] {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
        );
        let upstream = Scripted::start(move |mut wire| {
            let head = head.clone();
            async move {
                wire.request().await;
                wire.send(head).await;
                tokio::time::sleep(Duration::from_millis(2500)).await;
                wire.send("6\r\nsecond\r\n0\r\n\r\n").await;
            }
        })
        .await;
        let timeouts = format!("timeouts: {{ upstream_idle: 1s, stream_idle: {stream_idle} }}");
        let rig = Rig::with(&upstream.url(), Policy::default().gateway(&timeouts)).await;
        let mut client = Client::connect(rig.gateway.address()).await;
        client.send(rig.call("GET", "/1").bytes()).await;
        let begin = client.until("first").await;
        let rest = if whole { client.until("second").await } else { to_the_end(&mut client).await };
        assert_eq!(rest.contains("second"), whole, "{kind} {stream_idle}: {begin}{rest}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_late_is_not_the_upstreams_pause() {
    const LENGTH: usize = 64 << 20;
    let upstream = Scripted::start(|mut wire| async move {
        let body = vec![b'x'; LENGTH];
        wire.request().await;
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n")).await;
        wire.send(body).await;
    })
    .await;
    let rig = Rig::with(&upstream.url(), Policy::default().gateway("timeouts: { upstream_idle: 1s }")).await;
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(rig.call("GET", "/1").bytes()).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(client.response().await.body.len(), LENGTH);
}

#[tokio::test]
async fn a_connection_is_kept_only_as_long_as_both_sides_want() {
    let of = |head: &str| format!("HTTP/1.1 200 OK\r\n{head}Content-Length: 2\r\n\r\nok");
    let keep = |value: &str| of(&format!("Keep-Alive: {value}\r\n"));
    for (what, answer, pause, connections) in [
        ("nothing said", of(""), 0, 1),
        ("close", of("Connection: close\r\n"), 0, 3),
        ("HTTP/1.0", of("").replace("HTTP/1.1", "HTTP/1.0"), 0, 3),
        ("HTTP/1.0 with keep-alive", of("Connection: keep-alive\r\n").replace("HTTP/1.1", "HTTP/1.0"), 0, 1),
        ("a second", keep("timeout=1"), 0, 3),
        ("no time", keep("timeout=0"), 0, 3),
        ("a minute", keep("timeout=60, max=100"), 0, 1),
        ("three seconds, asked within two", keep("timeout=3"), 0, 1),
        ("two seconds, asked after one", keep("timeout=2"), 1300, 3),
    ] {
        let upstream = Scripted::saying(&answer).await;
        let rig = Rig::before(&upstream).await;
        for _ in 0..3 {
            assert_eq!(rig.get("/1").await.text(), "ok", "{what}");
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        assert_eq!(upstream.connections(), connections, "{what}");
    }
    let upstream = Scripted::saying(OK).await;
    let never = Policy::default().gateway("timeouts: { upstream_keep_alive: 0s }");
    let rig = Rig::with(&upstream.url(), never).await;
    for _ in 0..3 {
        assert_eq!(rig.get("/1").await.text(), "ok");
    }
    assert_eq!(upstream.connections(), 3);
    let upstream = Scripted::saying(OK).await;
    let short = Policy::default().gateway("timeouts: { upstream_keep_alive: 200ms }");
    let rig = Rig::with(&upstream.url(), short).await;
    assert_eq!(rig.get("/1").await.text(), "ok");
    rig.settles(0.0).await;
}

#[tokio::test]
async fn an_answer_without_a_body_has_none_and_what_follows_it_is_nobodys() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for (method, answer, status) in [
        ("GET", "HTTP/1.1 204 X\r\nContent-Length: 51\r\n\r\n", 204),
        ("GET", "HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n", 204),
        ("GET", "HTTP/1.1 304 X\r\nContent-Length: 51\r\n\r\n", 304),
        ("GET", "HTTP/1.1 304 X\r\n\r\n", 304),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 51\r\n\r\n", 200),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", 200),
    ] {
        let upstream = Scripted::saying(&[answer, poison].concat()).await;
        let rig = Rig::before(&upstream).await;
        let mut client = Client::connect(rig.gateway.address()).await;
        for _ in 0..3 {
            let response = rig.call(method, "/1").on(&mut client).await.unwrap();
            assert_eq!((response.status, response.body.len()), (status, 0), "{method} {answer}");
        }
        assert_eq!(upstream.connections(), 3, "{method} {answer}: a connection that said more is not kept");
        assert_eq!(rig.call("GET", "/good/1").on(&mut client).await.unwrap().text(), "good");
    }
}

#[tokio::test]
async fn an_encoded_body_passes_as_it_is() {
    // What looks like gzip and is none: whoever decoded it would fail.
    let body: Vec<u8> = [&[0x1f, 0x8b, 8][..], &[0; 1 << 20]].concat();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
    let bytes = Arc::<[u8]>::from([head.as_bytes(), &body].concat());
    let upstream = Scripted::start(move |mut wire| {
        let bytes = Arc::clone(&bytes);
        async move {
            let asked = wire.request().await.unwrap();
            assert!(asked.head.contains("accept-encoding: gzip, br;q=0.1\r\n"), "{}", asked.head);
            wire.send(&*bytes).await;
            wire.drain().await;
        }
    })
    .await;
    let rig = Rig::before(&upstream).await;
    let response = rig.call("GET", "/1").header("Accept-Encoding", "gzip, br;q=0.1").send().await;
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    assert!(response.body == body);
}
