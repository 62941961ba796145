//! Heads of answers that are none, that lie, or that do not end.

use super::script::{OK, Scripted};
use super::{Policy, Rig};

/// Answers each request with these bytes, then closes or waits.
async fn saying(bytes: Vec<u8>, then_closes: bool) -> Scripted {
    let bytes = std::sync::Arc::<[u8]>::from(bytes);
    Scripted::start(move |mut wire| {
        let bytes = std::sync::Arc::clone(&bytes);
        async move {
            if wire.request().await.is_some() {
                wire.send(&*bytes).await;
                if !then_closes {
                    wire.drain().await;
                }
            }
        }
    })
    .await
}

/// What is refused as soon as it is there.
const INVALID: &[(&str, &[u8])] = &[
    ("another protocol", b"SSH-2.0-x\r\n"),
    ("HTTP/0.9", b"<html>hello</html>\r\n\r\n"),
    ("only a body", b"{\"ok\":true}"),
    ("lower-case version", b"http/1.1 200 OK\r\n\r\n"),
    ("HTTP/2.0", b"HTTP/2.0 200 OK\r\n\r\n"),
    ("HTTP/1.2", b"HTTP/1.2 200 OK\r\n\r\n"),
    ("HTTP/1.10", b"HTTP/1.10 200 OK\r\n\r\n"),
    ("two digits", b"HTTP/1.1 99\r\n\r\n"),
    ("four digits", b"HTTP/1.1 1000 OK\r\n\r\n"),
    ("letters", b"HTTP/1.1 abc OK\r\n\r\n"),
    ("a status below 100", b"HTTP/1.1 099 OK\r\n\r\n"),
    ("a negative status", b"HTTP/1.1 -20 OK\r\n\r\n"),
    ("no status", b"HTTP/1.1 \r\n\r\n"),
    ("no space", b"HTTP/1.1200 OK\r\n\r\n"),
    ("two spaces", b"HTTP/1.1  200 OK\r\n\r\n"),
    ("a control character in the reason", b"HTTP/1.1 200 O\x01K\r\n\r\n"),
    ("CR in the reason", b"HTTP/1.1 200 O\rK\r\n\r\n"),
    ("an empty line before it", b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("no colon", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"),
    ("no name", b"HTTP/1.1 200 OK\r\n: value\r\n\r\n"),
    ("a space in a name", b"HTTP/1.1 200 OK\r\nA b: 1\r\n\r\n"),
    (
        "a length before and behind a colon",
        b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a coding with a space before the colon",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    ),
    ("a folded line", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
    ("a fold at the beginning", b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n"),
    ("NUL in a value", b"HTTP/1.1 200 OK\r\nA: a\0b\r\n\r\n"),
    ("NUL in a name", b"HTTP/1.1 200 OK\r\nA\0: b\r\n\r\n"),
    ("CR in a value", b"HTTP/1.1 200 OK\r\nLocation: /a\rSet-Cookie: x=y\r\n\r\n"),
    ("DEL in a value", b"HTTP/1.1 200 OK\r\nA: a\x7fb\r\n\r\n"),
    ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk"),
    ("equal lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"),
    ("a list of lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"),
    ("a negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
    ("a signed length", b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"),
    ("a hexadecimal length", b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok"),
    ("a length with a fraction", b"HTTP/1.1 200 OK\r\nContent-Length: 2.0\r\n\r\nok"),
    ("an empty length", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n"),
    ("a length beyond 64 bits", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n"),
    ("a length that is wrong on 204", b"HTTP/1.1 204 X\r\nContent-Length: x\r\n\r\n"),
    (
        "length and coding",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "coding and length",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    ),
    ("gzip", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
    ("gzip, chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked, chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked, identity", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("identity", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok"),
    ("a parameter", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    ("a coding with a control", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("an empty coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\nok"),
    ("a coding in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (
        "a coding twice",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("101 that nobody asked for", b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
    ("101 to another protocol", b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"),
];

#[tokio::test]
async fn what_is_no_answer_or_in_doubt_is_refused_and_its_connection_closed() {
    for (what, bytes) in INVALID {
        // In the second connection it says more, which nobody may get.
        let upstream = saying([*bytes, OK.as_bytes()].concat(), false).await;
        let rig = Rig::before(&upstream).await;
        let response = rig.get("/1").await;
        assert_eq!(response.verdict(), "502 upstream_invalid", "{what}");
        rig.settles(0.0).await;
        assert_eq!(rig.verdict("GET", "/2").await, "502 upstream_invalid", "{what}");
        assert_eq!((upstream.count(), upstream.connections()), (2, 2), "{what}: it is asked once a request");
        rig.assert_good().await;
        let entry = rig.gateway.wait_for_log(|entry| entry["path"] == "/1").await;
        assert_eq!((&entry["reason"], &entry["upstream"]), (&"upstream_invalid".into(), &"orders".into()));
        assert!(entry["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{what}: {entry}");
        assert_eq!(rig.errors("upstream_invalid").await, 2.0, "{what}");
    }
}

#[tokio::test]
async fn a_head_that_breaks_off_anywhere_is_a_fault_of_the_upstream() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    for end in (0..head.len()).step_by(3) {
        let upstream = saying(head[..end].into(), true).await;
        let rig = Rig::before(&upstream).await;
        assert_eq!(rig.verdict("GET", "/1").await, "502 upstream_invalid", "after {end} bytes");
        assert_eq!(upstream.count(), 1, "after {end} bytes");
    }
}

/// A head of this length, with this field name.
fn long(length: usize) -> Vec<u8> {
    let (begin, end) = ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: ", "\r\n\r\n");
    [begin, &"a".repeat(length - begin.len() - end.len()), end].concat().into_bytes()
}

fn many(fields: usize) -> Vec<u8> {
    ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", &"A: b\r\n".repeat(fields - 1), "\r\n"].concat().into_bytes()
}

#[tokio::test]
async fn the_head_of_an_answer_is_limited_in_bytes_and_fields() {
    let configured =
        Policy::default().gateway("limits: { upstream_header_bytes: 8KiB, upstream_headers: 16 }");
    for (policy, what, bytes, verdict) in [
        (Policy::default(), "the most bytes", long(64 << 10), "200 -"),
        (Policy::default(), "a byte more", long((64 << 10) + 1), "502 upstream_invalid"),
        (Policy::default(), "the most fields", many(256), "200 -"),
        (Policy::default(), "a field more", many(257), "502 upstream_invalid"),
        (Policy::default(), "1 MiB of fields", long(1 << 20), "502 upstream_invalid"),
        (Policy::default(), "ten thousand fields", many(10_000), "502 upstream_invalid"),
        (
            Policy::default(),
            "a status line of 1 MiB",
            [b"HTTP/1.1 200 ".as_slice(), &[b'x'; 1 << 20], b"\r\n\r\n"].concat(),
            "502 upstream_invalid",
        ),
        (
            Policy::default(),
            "a line that never ends",
            [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &[b'x'; 1 << 20]].concat(),
            "502 upstream_invalid",
        ),
        (configured.clone(), "the most bytes that are configured", long(8 << 10), "200 -"),
        (configured.clone(), "a byte more than configured", long((8 << 10) + 1), "502 upstream_invalid"),
        (configured.clone(), "the most fields that are configured", many(16), "200 -"),
        (configured, "a field more than configured", many(17), "502 upstream_invalid"),
    ] {
        let upstream = saying(bytes, false).await;
        let rig = Rig::with(&upstream.url(), policy).await;
        assert_eq!(rig.verdict("GET", "/1").await, verdict, "{what}");
        rig.assert_good().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_comes_byte_by_byte_is_read_to_its_end_or_its_limit() {
    for (bytes, verdict) in [
        (long(64 << 10), "200 -"),
        (long((64 << 10) + 1), "502 upstream_invalid"),
        ([b"HTTP/1.1 200 OK\n".as_slice(), b"Content-Length: 0\n\n"].concat(), "200 -"),
    ] {
        let bytes = std::sync::Arc::<[u8]>::from(bytes);
        let upstream = Scripted::start(move |mut wire| {
            let bytes = std::sync::Arc::clone(&bytes);
            async move {
                if wire.request().await.is_some() {
                    wire.drip(&*bytes).await;
                    wire.drain().await;
                }
            }
        })
        .await;
        // Each byte moves the head forward, but the limit is one of the whole head.
        let rig =
            Rig::with(&upstream.url(), Policy::default().gateway("timeouts: { upstream_response: 10m }"))
                .await;
        assert_eq!(rig.verdict("GET", "/1").await, verdict);
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_finish_its_head_is_a_timeout() {
    for begin in ["", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let upstream = saying(begin.into(), false).await;
        let short = Policy::default().gateway("timeouts: { upstream_response: 300ms }");
        let rig = Rig::with(&upstream.url(), short).await;
        assert_eq!(rig.verdict("GET", "/1").await, "504 upstream_timeout", "{begin:?}");
        assert_eq!(upstream.count(), 1, "what may still be worked on is not asked again");
        rig.settles(0.0).await;
        rig.assert_good().await;
    }
}

#[tokio::test]
async fn interim_answers_are_taken_off_and_counted() {
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    for (what, interim, verdict) in [
        ("100", "HTTP/1.1 100 Continue\r\n\r\n".into(), "200 -"),
        ("102", "HTTP/1.1 102 Processing\r\n\r\n".into(), "200 -"),
        ("199", "HTTP/1.1 199 X\r\nContent-Length: 5\r\n\r\n".into(), "200 -"),
        ("103 with a coding", "HTTP/1.1 103 X\r\nTransfer-Encoding: chunked\r\n\r\n".into(), "200 -"),
        ("a thousand of 103", hint.repeat(1_000), "502 upstream_invalid"),
    ] {
        let upstream = Scripted::saying(&[&interim, OK].concat()).await;
        let rig = Rig::before(&upstream).await;
        let response = rig.get("/1").await;
        assert_eq!(response.verdict(), verdict, "{what}");
        assert!(response.interim.is_empty() && !response.fields.has("link"), "{what}");
    }
    let upstream = saying(hint.into(), true).await;
    let rig = Rig::before(&upstream).await;
    assert_eq!(rig.verdict("GET", "/1").await, "502 upstream_invalid", "103, then nothing");
}

#[tokio::test]
async fn what_is_told_of_a_fault_does_not_tell_where_the_upstream_is() {
    let mute = Policy::default().gateway("timeouts: { upstream_response: 300ms }");
    for (bytes, closes) in
        [(&b"SSH-2.0-x\r\n"[..], false), (b"", true), (b"", false), (b"HTTP/1.1 200", true)]
    {
        let upstream = saying(bytes.to_vec(), closes).await;
        let rig = Rig::with(&upstream.url(), mute.clone()).await;
        let response = rig.get("/1").await;
        let told = format!("{:?} {}", response.fields, response.text());
        let port = upstream.address().port().to_string();
        for secret in ["127.0.0.1", &port, "SSH", "scopegate/", "src/", "orders"] {
            assert!(!told.contains(secret), "{secret}: {told}");
        }
        assert!(response.status >= 502, "{told}");
    }
}
