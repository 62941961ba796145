//! Clients that are slow on purpose: bodies that drip, answers that are not taken. Each is ended, and only it.
#![cfg(test)]

mod support;

use std::sync::Mutex;
use std::time::Duration;

use support::http2::{
    CANCEL, DATA, HEADERS, Http2, INITIAL_WINDOW_SIZE, Outcome, RST_STREAM, get, window_update,
};
use support::tls::{Authority, Connect};
use support::{Client, Gateway, Policy, Reply, Rig, TestIssuer, Upstream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Waits for real time to pass: what is tested is a clock.
async fn pass(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

async fn rig(settings: &str) -> Rig {
    Rig::with(Policy::default().gateway(settings)).await
}

/// The head of an upload in chunks.
fn upload(rig: &Rig, path: &str) -> Vec<u8> {
    let call = rig.gateway.call("POST", path).token(&rig.token());
    call.header("Transfer-Encoding", "chunked").bytes()
}

/// Sends a byte of an upload every 50 ms until the gateway has had enough, then gives its answer.
async fn drip(mut client: Client) -> String {
    for _ in 0..600 {
        client.send("1\r\nx\r\n").await;
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(50), client.peek()).await {
            assert!(answer, "closed without an answer");
            return client.response().await.verdict();
        }
    }
    panic!("the gateway takes a drip for ever");
}

async fn failures(rig: &Rig, reason: &str) -> f64 {
    rig.gateway.metric("scopegate_failed_requests_total", &[&format!("reason=\"{reason}\"")]).await
}

#[tokio::test]
async fn a_body_that_drips_below_the_rate_is_too_slow() {
    let rig = rig("timeouts: { body_idle: 1s }\nlimits: { body_rate: 1KiB }").await;
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(upload(&rig, "/orders/1")).await;
    assert_eq!(drip(client).await, "408 request_timeout");
    assert_eq!(failures(&rig, "request_timeout").await, 1.0);
    rig.upstream.wait("the upstream is given up", |upstream| upstream.open_connections() == 0).await;
    assert!(!rig.upstream.request().complete, "a request that broke off never ends as if it had not");
}

#[tokio::test]
async fn a_body_that_takes_too_long_in_all_is_too_slow_and_a_route_may_allow_it() {
    let route = |id: &str, timeouts: &str| {
        format!(
            "- id: {id}\n  match: {{ host: api.example.com, path: /{id} }}\n  public: true\n  upstream: orders\n  {timeouts}\n"
        )
    };
    let routes = route("short", "") + &route("long", "timeouts: { body_total: 1h }");
    let settings = "timeouts: { body_total: 1s }\nlimits: { body_rate: 0B }";
    let rig = Rig::with(Policy::default().gateway(settings).routes(&routes)).await;
    let mut short = Client::connect(rig.gateway.address()).await;
    short.send(upload(&rig, "/short")).await;
    let mut long = Client::connect(rig.gateway.address()).await;
    long.send(upload(&rig, "/long")).await;
    assert_eq!(drip(short).await, "408 request_timeout");
    long.send("1\r\nx\r\n0\r\n\r\n").await;
    assert_eq!(long.response().await.status, 200);
}

#[tokio::test]
async fn once_the_answer_has_begun_a_silent_client_is_no_slow_one() {
    let rig = rig("timeouts: { body_idle: 1s, body_total: 2s }").await;
    rig.upstream.answers(|_| Reply::Echo);
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(upload(&rig, "/orders/1")).await;
    client.send("5\r\nfirst\r\n").await;
    client.until("first").await;
    pass(3000).await;
    client.send("6\r\nsecond\r\n").await;
    client.until("second").await;
    client.send("0\r\n\r\n").await;
    client.until("0\r\n").await;
    assert_eq!(failures(&rig, "request_timeout").await, 0.0);
}

#[tokio::test]
async fn a_conversation_in_which_neither_side_speaks_ends() {
    let rig = rig("timeouts: { stream_idle: 2s }").await;
    rig.upstream.answers(|_| Reply::Echo);
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(upload(&rig, "/orders/1")).await;
    client.send("5\r\nfirst\r\n").await;
    client.until("first").await;
    assert!(client.closes().await, "an answer that breaks off must not end as if it had not");
    assert_eq!(failures(&rig, "request_timeout").await, 1.0);
    rig.upstream.wait("the upstream is given up", |upstream| upstream.open_connections() == 0).await;
}

#[tokio::test]
async fn an_answer_that_flows_keeps_a_conversation_open() {
    let rig = rig("timeouts: { stream_idle: 2s, body_idle: 1s }").await;
    let (pieces, source) = mpsc::unbounded_channel();
    let source = Mutex::new(Some(source));
    rig.upstream.answers(move |_| {
        let source = source.lock().unwrap().take().unwrap();
        Reply::Early(Box::new(Reply::Stream(source)))
    });
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(upload(&rig, "/orders/1")).await;
    pieces.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec()).unwrap();
    for n in 0..12 {
        pass(250).await;
        let piece = format!("<{n}>");
        pieces.send(piece.clone().into_bytes()).unwrap();
        client.until(&piece).await;
    }
    assert_eq!(failures(&rig, "request_timeout").await, 0.0);
}

// HTTP/1, where only the socket tells how fast an answer is taken.

/// Asks for an answer and takes a piece of it every 10 ms; gives how many bytes came before the connection ended.
async fn sip(gateway: &Gateway, mut stream: impl AsyncRead + AsyncWrite + Unpin, piece: usize) -> usize {
    let call = gateway.get("/status").header("Connection", "close");
    stream.write_all(&call.bytes()).await.unwrap();
    let (mut taken, mut room) = (0, vec![0; piece]);
    loop {
        // Over TLS a read gives no more than a record.
        let mut filled = 0;
        while filled < piece {
            match support::soon("more, or the end", stream.read(&mut room[filled..])).await {
                Ok(0) | Err(_) => return taken + filled,
                Ok(count) => filled += count,
            }
        }
        taken += filled;
        pass(10).await;
    }
}

/// A route whose answer has this many mebibytes.
async fn answers_of(mebibytes: usize, settings: &str) -> Rig {
    let rig = rig(settings).await;
    rig.upstream.answers(move |_| Reply::with(200, "", &"x".repeat(mebibytes << 20)));
    rig
}

/// Connections that ended because their client did not take an answer.
async fn cut_off(gateway: &Gateway) -> f64 {
    gateway.metric("scopegate_connections_closed_total", &["cause=\"response_stall\""]).await
}

#[tokio::test]
async fn a_client_that_takes_an_answer_steadily_but_below_the_rate_is_cut_off() {
    let rig = answers_of(32, "timeouts: { response_stall: 1s }\nlimits: { response_rate: 1GiB }").await;
    // A few mebibytes a second: never a second without progress.
    let stream = TcpStream::connect(rig.gateway.address()).await.unwrap();
    let taken = sip(&rig.gateway, stream, 64 << 10).await;
    assert!(taken < 32 << 20, "all was taken");
    support::eventually("it is counted", || async { (cut_off(&rig.gateway).await == 1.0).then_some(()) })
        .await;
    rig.upstream.wait("the upstream is given up", |upstream| upstream.open_connections() == 0).await;
}

#[tokio::test]
async fn a_client_that_takes_an_answer_below_the_rate_is_cut_off_over_tls_too() {
    let authority = Authority::new("servers");
    let leaf = authority.server(&["api.example.com"]);
    let policy = Policy::default()
        .listen("- https: 127.0.0.1:0\n  certificates: [{ cert: server.crt, key: server.key }]")
        .gateway("timeouts: { response_stall: 1s }\nlimits: { response_rate: 1GiB }");
    let answer = "x".repeat(32 << 20);
    let upstream = Upstream::start(move |_| Reply::with(200, "", &answer)).await;
    let issuer = TestIssuer::start().await;
    let files = [("server.crt", leaf.cert.as_str()), ("server.key", &leaf.key)];
    let gateway = Gateway::start_with(&policy.render(issuer.url(), &upstream.url()), &files).await;
    let connect = Connect { authority: &authority, name: "api.example.com", alpn: &[], client: None };
    let taken = sip(&gateway, connect.to(gateway.https()).await.unwrap(), 64 << 10).await;
    assert!(taken < 32 << 20, "all was taken");
    support::eventually("it is counted", || async { (cut_off(&gateway).await == 1.0).then_some(()) }).await;
}

#[tokio::test]
async fn a_client_that_takes_an_answer_above_the_rate_gets_all_of_it_however_long_that_takes() {
    let rig = answers_of(64, "timeouts: { response_stall: 1s }\nlimits: { response_rate: 64KiB }").await;
    let begun = std::time::Instant::now();
    let stream = TcpStream::connect(rig.gateway.address()).await.unwrap();
    let taken = sip(&rig.gateway, stream, 256 << 10).await;
    assert!(taken > 64 << 20, "cut off after {taken} bytes and {:?}", begun.elapsed());
    assert!(begun.elapsed() > Duration::from_secs(2), "too fast to be waited for");
    assert_eq!(cut_off(&rig.gateway).await, 0.0);
}

#[tokio::test]
async fn whoever_waits_for_the_upstream_is_no_slow_reader() {
    let rig = rig("timeouts: { response_stall: 300ms }\nlimits: { response_rate: 1GiB }").await;
    let (pieces, source) = mpsc::unbounded_channel();
    let source = Mutex::new(Some(source));
    rig.upstream.answers(move |_| Reply::Stream(source.lock().unwrap().take().unwrap()));
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(rig.gateway.get("/status").bytes()).await;
    pieces.send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()).unwrap();
    for n in 0..4 {
        let event = format!("event {n}");
        pieces.send(event.clone().into_bytes()).unwrap();
        client.until(&event).await;
        pass(500).await;
    }
    assert_eq!(cut_off(&rig.gateway).await, 0.0);
}

#[tokio::test]
async fn whoever_asks_on_and_on_and_takes_no_answer_is_cut_off_before_it_is_idle() {
    let settings = "timeouts: { response_stall: 1s, idle: 1h }\nlimits: { connection_requests: 1000000 }";
    let rig = rig(settings).await;
    let (mut answers, mut requests) = TcpStream::connect(rig.gateway.address()).await.unwrap().into_split();
    // Each answer is ready at once, so that at the end no request is under way.
    let call = rig.gateway.get("/nothing").bytes();
    support::soon("it takes no more requests", async { while requests.write_all(&call).await.is_ok() {} })
        .await;
    support::eventually("it is counted", || async { (cut_off(&rig.gateway).await == 1.0).then_some(()) })
        .await;
    let mut taken = Vec::new();
    let _ = support::soon("the end", answers.read_to_end(&mut taken)).await;
    assert!(taken.starts_with(b"HTTP/1.1 404"));
}

// HTTP/2, where the client opens the window of each stream itself.

/// A connection whose streams begin with this window.
async fn connect(rig: &Rig, window: u32) -> Http2 {
    Http2::with_settings(rig.gateway.address(), &[(INITIAL_WINDOW_SIZE, window)]).await
}

/// A route whose answer is a mebibyte.
async fn large_answers(settings: &str) -> Rig {
    let rig = rig(settings).await;
    rig.upstream.answers(|_| Reply::with(200, "", &"x".repeat(1 << 20)));
    rig
}

async fn stalled(rig: &Rig) -> f64 {
    rig.gateway.metric("scopegate_stalled_streams_total", &[]).await
}

#[tokio::test]
async fn a_stream_whose_window_never_opens_is_reset_and_others_go_on() {
    let rig = large_answers("timeouts: { response_stall: 1s }").await;
    let mut client = connect(&rig, 0).await;
    client.send(get("/status", 1)).await;
    client.send(get("/status", 3)).await;
    client.until(HEADERS, 3).await;
    // One of the two is read on.
    client.send(window_update(3, 1 << 20)).await;
    assert_eq!(client.until(RST_STREAM, 1).await.number(0), CANCEL);
    assert_eq!(client.body(1), b"");
    let whole = Outcome::Answer(200, "x".repeat(1 << 20).into_bytes());
    assert_eq!(client.outcome(3).await, whole);
    assert_eq!(stalled(&rig).await, 1.0);
    rig.upstream.answers(|_| support::ok("still here"));
    client.send(get("/status", 5)).await;
    client.send(window_update(5, 100)).await;
    assert_eq!(client.outcome(5).await, Outcome::Answer(200, b"still here".to_vec()));
}

#[tokio::test]
async fn a_window_that_opens_by_a_byte_now_and_then_holds_no_stream() {
    let rig = large_answers("timeouts: { response_stall: 1s }").await;
    let mut client = connect(&rig, 1).await;
    client.send(get("/status", 1)).await;
    while client.frame().await.expect("the connection goes on").kind != RST_STREAM {
        assert!(client.body(1).len() < 200, "a drip holds a stream for ever");
        pass(100).await;
        client.send(window_update(1, 1)).await;
    }
    assert!(client.body(1).len() > 1, "the window did open");
    assert_eq!(stalled(&rig).await, 1.0);
}

#[tokio::test]
async fn a_client_that_takes_an_answer_slowly_but_steadily_gets_all_of_it() {
    let rig = large_answers("timeouts: { response_stall: 2s }\nlimits: { response_rate: 64KiB }").await;
    let mut client = connect(&rig, 64 << 10).await;
    client.send(get("/status", 1)).await;
    while client.body(1).len() < 1 << 20 {
        let piece = client.until(DATA, 1).await.payload.len();
        // About 256 KiB a second.
        pass(piece as u64 / 256).await;
        client.send(window_update(1, u32::try_from(piece).unwrap())).await;
    }
    assert_eq!(stalled(&rig).await, 0.0);
}

#[tokio::test]
async fn a_stream_that_is_silent_because_its_upstream_is_goes_on() {
    let rig = rig("timeouts: { response_stall: 300ms }").await;
    let (pieces, source) = mpsc::unbounded_channel();
    let source = Mutex::new(Some(source));
    rig.upstream.answers(move |_| Reply::Stream(source.lock().unwrap().take().unwrap()));
    let mut client = connect(&rig, 64 << 10).await;
    client.send(get("/status", 1)).await;
    pieces.send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()).unwrap();
    for _ in 0..4 {
        pieces.send(b"event".to_vec()).unwrap();
        assert_eq!(client.until(DATA, 1).await.payload, b"event");
        pass(500).await;
    }
    assert_eq!(stalled(&rig).await, 0.0);
}
