//! Upstreams of HTTP/2 that say what the protocol forbids, or bury the gateway in what it allows: raw frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::script::{Scripted, Wire};
use super::{Policy, Rig, support};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// `:status: 200`, from the static table (RFC 7541).
pub(super) const STATUS_200: &[u8] = &[0x88];

/// A frame as it is on the wire (RFC 9113 §4.1).
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field that the decoder is told not to remember; name and value are shorter than 127 bytes.
pub(super) fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// A whole answer to a stream.
pub(super) fn ok(stream: u32) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, STATUS_200), frame(DATA, END_STREAM, stream, b"ok")].concat()
}

/// One side of a connection that is past its preface.
pub(super) struct Frames {
    pub(super) wire: Wire,
}

impl Frames {
    /// Takes the preface and says these settings.
    pub(super) async fn begin(wire: Wire, settings: &[u8]) -> Self {
        let mut this = Self::preface(wire).await;
        this.say(&frame(SETTINGS, 0, 0, settings)).await;
        this
    }

    /// Takes the preface.
    pub(super) async fn preface(mut wire: Wire) -> Self {
        let mut preface = [0; 24];
        tokio::io::AsyncReadExt::read_exact(wire.socket(), &mut preface).await.unwrap();
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        Self { wire }
    }

    /// The stream of the next request that came to its end, and how many bytes its body has.
    pub(super) async fn whole_request(&mut self) -> Option<(u32, usize)> {
        let mut length = 0;
        loop {
            let (kind, flags, stream, payload) = self.next().await?;
            match kind {
                HEADERS => length = 0,
                DATA => length += payload.len(),
                SETTINGS if flags & 1 == 0 => self.say(&frame(SETTINGS, 1, 0, b"")).await,
                PING if flags & 1 == 0 => self.say(&frame(PING, 1, 0, &payload)).await,
                _ => {}
            }
            if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                return Some((stream, length));
            }
        }
    }

    /// The stream of the next request; what else comes is passed over, settings and pings are acknowledged.
    pub(super) async fn request(&mut self) -> Option<u32> {
        loop {
            let (kind, flags, stream, payload) = self.next().await?;
            match kind {
                HEADERS => return Some(stream),
                SETTINGS if flags & 1 == 0 => self.say(&frame(SETTINGS, 1, 0, b"")).await,
                PING if flags & 1 == 0 => self.say(&frame(PING, 1, 0, &payload)).await,
                _ => {}
            }
        }
    }

    pub(super) async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        tokio::io::AsyncReadExt::read_exact(self.wire.socket(), &mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        tokio::io::AsyncReadExt::read_exact(self.wire.socket(), &mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], head[4], stream, payload))
    }

    pub(super) async fn say(&mut self, bytes: &[u8]) {
        self.wire.send(bytes).await;
    }
}

/// An upstream that answers the first request on its first connection, and to all others says these frames.
async fn saying(frames: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |wire| {
        let frames = frames.clone();
        async move {
            let mut answered = wire.number > 0;
            let mut connection = Frames::begin(wire, b"").await;
            while let Some(stream) = connection.request().await {
                let bytes = if answered { frames(stream) } else { ok(stream) };
                answered = true;
                connection.say(&bytes).await;
            }
        }
    })
    .await
}

pub(super) async fn before(upstream: &Scripted) -> Rig {
    let policy = Policy::default().upstream("protocol: h2c");
    Rig::with(
        &upstream.url(),
        policy.gateway("timeouts: { upstream_response: 1s, upstream_idle: 1s, upstream_keep_alive: 1s }"),
    )
    .await
}

/// Whether a header list of this many bytes or fields goes through.
fn fields(count: usize, value: usize) -> impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static {
    move |stream| {
        let block = [STATUS_200, &literal("a", &"v".repeat(value)).repeat(count)].concat();
        let mut parts = block.chunks(16_000).peekable();
        let mut bytes = Vec::new();
        let mut kind = HEADERS;
        while let Some(part) = parts.next() {
            let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
            let ends = if kind == HEADERS { END_STREAM } else { 0 };
            bytes.extend(frame(kind, last | ends, stream, part));
            kind = CONTINUATION;
        }
        bytes
    }
}

#[tokio::test]
async fn the_head_of_an_answer_is_limited_over_http2_too() {
    for (what, count, value, verdict) in [
        ("the most fields", 256, 1, "200 -"),
        ("a field more", 257, 1, "502 upstream_invalid"),
        ("nearly the most bytes", 255, 120, "200 -"),
        ("more bytes than one may send", 2000, 120, "502 upstream_invalid"),
        ("many times as many", 100_000, 120, "502 upstream_invalid"),
        ("a hundred thousand empty ones", 100_000, 0, "502 upstream_invalid"),
    ] {
        let upstream = saying(fields(count, value)).await;
        let rig = before(&upstream).await;
        assert_eq!(rig.verdict("GET", "/0").await, "200 -");
        assert_eq!(rig.verdict("GET", "/1").await, verdict, "{what}");
        rig.assert_good().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_http2_forbids_fails_its_request_and_is_over() {
    type Say = fn(u32) -> Vec<u8>;
    let cases: &[(&str, Say)] = &[
        ("a bomb: one field of 4 KiB, and 8,000 references to it", |stream| {
            let field = [&[0x40, 1, b'a', 0x7f, 0x81, 0x1f][..], &[b'v'; 4096]].concat();
            frame(HEADERS, END_HEADERS, stream, &[STATUS_200, &field, &[0xbe; 8000]].concat())
        }),
        ("CONTINUATION without end", |stream| {
            let empty = frame(CONTINUATION, 0, stream, b"");
            [frame(HEADERS, 0, stream, STATUS_200), empty.repeat(100_000)].concat()
        }),
        ("CONTINUATION byte by byte", |stream| {
            let byte = frame(CONTINUATION, 0, stream, &[0x88]);
            [frame(HEADERS, 0, stream, STATUS_200), byte.repeat(100_000)].concat()
        }),
        ("HEADERS that are not continued", |stream| {
            [frame(HEADERS, 0, stream, STATUS_200), frame(DATA, END_STREAM, stream, b"ok")].concat()
        }),
        ("a promise", |stream| {
            let promise = [&2_u32.to_be_bytes()[..], &[0x82, 0x84, 0x86]].concat();
            [frame(PUSH_PROMISE, END_HEADERS, stream, &promise), ok(stream)].concat()
        }),
        ("a reset", |stream| frame(RST_STREAM, 0, stream, &2_u32.to_be_bytes())),
        ("a reset of a stream that was never opened", |stream| {
            [frame(RST_STREAM, 0, stream + 1000, &8_u32.to_be_bytes()), ok(stream)].concat()
        }),
        ("another stream's answer", |stream| ok(stream + 2)),
        ("an answer on stream 0", |_| frame(HEADERS, END_HEADERS | END_STREAM, 0, STATUS_200)),
        ("a frame that is too large", |stream| frame(DATA, 0, stream, &[0; 20_000])),
        ("data before the head", |stream| frame(DATA, 0, stream, b"ok")),
        ("a broken header block", |stream| frame(HEADERS, END_HEADERS, stream, &[0xff; 40])),
        ("an index that is not there", |stream| frame(HEADERS, END_HEADERS, stream, &[0x88, 0xfe])),
        ("no status", |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &literal("a", "b"))),
        ("a status of four digits", |stream| {
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &literal(":status", "1000"))
        }),
        ("two statuses", |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88, 0x88])),
        ("a status behind a field", |stream| {
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &[&literal("a", "b"), STATUS_200].concat())
        }),
        ("a name in capitals", |stream| {
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &[STATUS_200, &literal("Capital", "b")].concat())
        }),
        ("a line break in a value", |stream| {
            let field = literal("a", "b\r\nset-cookie: x=y");
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &[STATUS_200, &field].concat())
        }),
        ("a connection field", |stream| {
            let field = literal("transfer-encoding", "chunked");
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &[STATUS_200, &field].concat())
        }),
        ("two lengths", |stream| {
            let fields = [literal("content-length", "2"), literal("content-length", "3")].concat();
            frame(HEADERS, END_HEADERS, stream, &[STATUS_200, &fields].concat())
        }),
        ("a length that is none", |stream| {
            let field = literal("content-length", "+2");
            frame(HEADERS, END_HEADERS, stream, &[STATUS_200, &field].concat())
        }),
        ("a window of more than 31 bits", |_| frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())),
        ("a window update of 0", |_| frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("settings that are none", |_| frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("a ping of 7 bytes", |_| frame(PING, 0, 0, &[0; 7])),
        ("another protocol", |_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
    ];
    for (what, say) in cases {
        let upstream = saying(*say).await;
        let rig = before(&upstream).await;
        assert_eq!(rig.verdict("POST", "/0").await, "200 -");
        let before = rig.gateway.memory();
        let verdict = rig.verdict("POST", "/1").await;
        let known = ["502 upstream_invalid", "502 upstream_unreachable", "504 upstream_timeout"];
        assert!(known.contains(&verdict.as_str()), "{what}: {verdict}");
        rig.assert_good().await;
        let grown = rig.gateway.memory().saturating_sub(before);
        assert!(grown < 16_000_000, "{what}: the gateway grew by {grown} bytes");
        rig.settles(0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_http2_allows_without_end_is_cut_off() {
    type Say = fn(u32) -> Vec<u8>;
    let cases: &[(&str, Say)] = &[
        ("hints", |stream| {
            let hint = [&literal(":status", "103")[..], &literal("link", "</a.css>")].concat();
            frame(HEADERS, END_HEADERS, stream, &hint)
        }),
        ("pings", |_| frame(PING, 0, 0, &[0; 8])),
        ("settings", |_| frame(SETTINGS, 0, 0, b"")),
        ("settings of the table", |_| frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0])),
        ("windows", |_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("unknown frames", |stream| frame(0xbe, 0, stream, &[0; 1000])),
    ];
    for (what, say) in cases {
        let upstream = Scripted::start(move |wire| async move {
            let mut connection = Frames::begin(wire, b"").await;
            let Some(stream) = connection.request().await else { return };
            let flood = say(stream).repeat(1000);
            while connection.wire.send(&flood).await {}
        })
        .await;
        let rig = before(&upstream).await;
        let before = rig.gateway.memory();
        let verdict = rig.verdict("GET", "/1").await;
        assert!(
            ["502 upstream_invalid", "504 upstream_timeout"].contains(&verdict.as_str()),
            "{what}: {verdict}"
        );
        rig.assert_good().await;
        let grown = rig.gateway.memory().saturating_sub(before);
        assert!(grown < 32_000_000, "{what}: the gateway grew by {grown} bytes");
        rig.settles(0.0).await;
    }
}

#[tokio::test]
async fn an_upstream_that_lets_nothing_through_is_a_timeout() {
    let setting = |id: u8, value: u32| [&[0, id][..], &value.to_be_bytes()].concat();
    for (what, settings) in [("no streams", setting(3, 0)), ("no window", setting(4, 0))] {
        let upstream = Scripted::start(move |wire| {
            let settings = settings.clone();
            async move {
                let mut connection = Frames::begin(wire, &settings).await;
                // A request that is let through waits for more of its body.
                while connection.next().await.is_some() {}
            }
        })
        .await;
        let rig = before(&upstream).await;
        for _ in 0..3 {
            let post = rig.call("POST", "/1").body(vec![b'x'; 200_000]);
            let (response, ()) = tokio::join!(post.send(), rig.assert_good());
            assert_eq!(response.verdict(), "504 upstream_timeout", "{what}");
        }
        rig.settles(0.0).await;
    }
}

#[tokio::test]
async fn going_away_costs_only_what_may_not_be_repeated() {
    // The last stream that it has looked at: none, or this one.
    for (seen, method, verdict, attempts) in [
        (false, "GET", "200 -", 2),
        // It does no harm twice, and the connection was alive before.
        (true, "GET", "200 -", 2),
        (true, "POST", "502 upstream_invalid", 1),
    ] {
        let upstream = Scripted::start(move |wire| async move {
            let number = wire.number;
            let mut connection = Frames::begin(wire, b"").await;
            while let Some(stream) = connection.request().await {
                if number > 0 || stream == 1 {
                    connection.say(&ok(stream)).await;
                    continue;
                }
                let last = if seen { stream } else { 1 };
                let away = [last.to_be_bytes(), [0; 4]].concat();
                connection.say(&frame(GOAWAY, 0, 0, &away)).await;
                return connection.wire.finish().await;
            }
        })
        .await;
        let rig = before(&upstream).await;
        assert_eq!(rig.verdict("GET", "/0").await, "200 -");
        let response = rig.call(method, "/1").send().await.verdict();
        assert_eq!(response, verdict, "{method}, looked at: {seen}");
        assert_eq!(upstream.connections(), attempts, "{method}, looked at: {seen}");
        assert_eq!(rig.verdict(method, "/2").await, "200 -", "{method}, looked at: {seen}");
    }
}

#[tokio::test]
async fn an_upstream_that_resets_every_stream_is_not_asked_more_often() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let upstream = saying(move |stream| {
        count.fetch_add(1, Ordering::SeqCst);
        frame(RST_STREAM, 0, stream, &2_u32.to_be_bytes())
    })
    .await;
    let rig = before(&upstream).await;
    assert_eq!(rig.verdict("GET", "/0").await, "200 -");
    let storm = futures_util::future::join_all((0..300).map(|_| rig.verdict("GET", "/1"))).await;
    assert!(storm.iter().all(|verdict| verdict == "502 upstream_invalid"), "{storm:?}");
    // A connection carries a hundred streams before another is opened; its first request is answered only on the first.
    assert!(upstream.connections() <= 3, "{} connections", upstream.connections());
    assert_eq!(asked.load(Ordering::SeqCst), 300);
}

#[tokio::test]
async fn an_upstream_that_ends_every_connection_is_not_asked_more_often() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let upstream = Scripted::start(move |wire| {
        let count = Arc::clone(&count);
        async move {
            let mut connection = Frames::begin(wire, b"").await;
            // For a while, so that those that wait for the connection get on it, too.
            let reading = async {
                while connection.request().await.is_some() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            };
            let _ = tokio::time::timeout(Duration::from_millis(200), reading).await;
        }
    })
    .await;
    let rig = before(&upstream).await;
    let storm = futures_util::future::join_all((0..50).map(|_| rig.verdict("GET", "/1"))).await;
    assert!(storm.iter().all(|verdict| verdict.starts_with("502")), "{storm:?}");
    assert!(asked.load(Ordering::SeqCst) <= 50, "{asked:?} requests instead of 50");
    let log = support::eventually("all are logged", || async {
        let log = rig.gateway.log();
        (log.len() == 50).then_some(log)
    })
    .await;
    assert!(
        log.iter()
            .all(|entry| entry["reason"].as_str().is_some_and(|reason| reason.starts_with("upstream_")))
    );
}

#[tokio::test]
async fn pseudo_fields_of_a_request_go_no_further() {
    let upstream = saying(|stream| {
        let fields = [literal(":path", "/x"), literal(":authority", "x")].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &[STATUS_200, &fields].concat())
    })
    .await;
    let rig = before(&upstream).await;
    assert_eq!(rig.verdict("GET", "/0").await, "200 -");
    let response = rig.get("/1").await;
    let leaked =
        response.fields.0.iter().any(|(name, _)| name.contains("path") || name.contains("authority"));
    assert!(!leaked, "{response:?}");
}

#[tokio::test]
async fn a_body_that_stops_is_cut_off_over_http2_too() {
    let upstream = saying(|stream| {
        [frame(HEADERS, END_HEADERS, stream, STATUS_200), frame(DATA, 0, stream, b"hello")].concat()
    })
    .await;
    let rig = before(&upstream).await;
    assert_eq!(rig.verdict("GET", "/0").await, "200 -");
    let mut client = super::Client::connect(rig.gateway.address()).await;
    client.send(rig.call("GET", "/1").bytes()).await;
    let seen = super::to_the_end(&mut client).await;
    assert!(seen.contains("hello") && !seen.ends_with("0\r\n\r\n"), "{seen}");
    let entry = rig.gateway.wait_for_log(|entry| entry["path"] == "/1").await;
    assert_eq!(entry["reason"], "upstream_timeout");
}
