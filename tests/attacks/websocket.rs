//! Group E: the frames of a WebSocket (RFC 6455) go through as they are, right or wrong, both ways.
//!
//! The cases of the Autobahn test suite run through the gateway in either role, driven by kosoku, against a WebSocket library
//! that passes them without a gateway. A tap on each side of the gateway shows what went in and what came out: the same
//! bytes. What no library would send is sent by a table of bytes.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::support::process::{self, Background};
use crate::support::{Gateway, PATIENCE, Passed, Policy, Tap, TestIssuer, has_keys, soon};

const ROUTES: &str = "
- id: open
  match: { path: '/open/{*rest}' }
  public: true
  upstream: orders
  forward: { websocket: true, strip_prefix: /open }
- id: protected
  match: { path: '/protected' }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [ws] }
  upstream: orders
  forward: { websocket: true }
";

/// A gateway with this upstream, and the issuer of its tokens.
async fn gateway(upstream: SocketAddr) -> (Gateway, TestIssuer) {
    let issuer = TestIssuer::start().await;
    let policy = Policy::default().routes(ROUTES).gateway("workers: 1");
    let gateway = Gateway::start(&policy.render(issuer.url(), &format!("http://{upstream}"))).await;
    has_keys(&gateway).await;
    (gateway, issuer)
}

/// A gateway with a tap on each side: `near` its clients, and `far` behind it.
struct Line {
    near: Tap,
    gateway: Gateway,
    far: Tap,
}

impl Line {
    /// To this upstream.
    async fn to(upstream: SocketAddr) -> Self {
        let far = Tap::start(upstream).await;
        // Nobody here has a token.
        let (gateway, _) = gateway(far.address()).await;
        let near = Tap::start(gateway.address()).await;
        Self { near, gateway, far }
    }

    /// Judges all connections so far: behind the handshake, what came out is what went in. Gives how many there were.
    async fn judge(&self, what: &str) -> usize {
        let (near, far) = (frames(self.near.take().await), frames(self.far.take().await));
        assert_eq!(near.len(), far.len(), "{what}: the handshakes on both sides");
        for (number, (near, far)) in near.iter().zip(&far).enumerate() {
            for (way, went_in, came_out) in
                [("to the upstream", &near.forth, &far.forth), ("to the client", &far.back, &near.back)]
            {
                if went_in != came_out {
                    let same = went_in.iter().zip(came_out).take_while(|(a, b)| a == b).count();
                    let (went_in, came_out) = (went_in.len(), came_out.len());
                    panic!(
                        "{what}, connection {number}: {way} {went_in} bytes went in and {came_out} came out; they differ \
                        at {same}"
                    );
                }
            }
        }
        near.len()
    }
}

/// What passed behind the heads of each handshake, in the order of their connections.
fn frames(passed: Vec<Passed>) -> Vec<Passed> {
    let behind = |passed: Passed| {
        let (head, forth) = split(&passed.forth)?;
        let (answer, back) = split(&passed.back)?;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{head}{answer}");
        Some(Passed { forth, back })
    };
    passed.into_iter().filter_map(behind).collect()
}

/// A head and what is behind it.
fn split(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    Some((String::from_utf8_lossy(&bytes[..at]).into_owned(), bytes[at..].to_vec()))
}

/// Messages of any size.
fn unbounded() -> Option<WebSocketConfig> {
    Some(WebSocketConfig::default().max_message_size(None).max_frame_size(None))
}

/// Sends each message back until the connection ends.
async fn echo(mut socket: WebSocketStream<TcpStream>) {
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            break;
        }
    }
}

/// A server that sends each message back.
async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(socket) = tokio_tungstenite::accept_async_with_config(stream, unbounded()).await {
                    echo(socket).await;
                }
            });
        }
    });
    address
}

/// The program that runs Autobahn's cases. `scripts/setup` installs it.
fn kosoku() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/oracle/.venv/bin/kosoku");
    assert!(std::path::Path::new(path).exists(), "{path} is missing: run scripts/setup");
    path.to_owned()
}

/// Runs it to its end; gives what it printed. A group of cases is a lot: it may take far longer than other things.
async fn run_kosoku(args: &[&str]) -> String {
    let mut command = std::process::Command::new(kosoku());
    command.args(args).env_remove("http_proxy").env_remove("https_proxy");
    let work = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::time::timeout(4 * PATIENCE, work).await.expect("kosoku ends").unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "E12 {args:?}: {told}{}", String::from_utf8_lossy(&output.stderr));
    told
}

/// Groups of cases: framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, limits, fragments of its own choice;
/// with the number of cases in each. Compression is left out: the library has none.
const GROUPS: [(&str, usize); 16] = [
    ("1.*", 16),
    ("2.*", 11),
    ("3.*", 7),
    ("4.*", 10),
    ("5.*", 20),
    ("6.*", 145),
    ("7.*", 37),
    ("9.1.*", 6),
    ("9.2.*", 6),
    ("9.3.*", 9),
    ("9.4.*", 9),
    ("9.5.*", 6),
    ("9.6.*", 6),
    ("9.7.*", 6),
    ("9.8.*", 6),
    ("10.*", 1),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e12_autobahns_cases_pass_as_they_do_without_a_gateway() {
    let line = Line::to(echo_server().await).await;
    let reports = tempfile::tempdir().unwrap();
    let url = format!("ws://{}/open/echo", line.near.address());
    for (cases, count) in GROUPS {
        let args = ["--include", cases, "--outdir", reports.path().to_str().unwrap(), &url];
        let output = run_kosoku(&args).await;
        assert!(output.ends_with(&format!("\n{count} cases passed\n")), "E12 {cases}: {output:?}");
        assert_eq!(line.judge(&format!("E12 {cases}")).await, count);
    }
    assert_eq!(line.gateway.metric("scopegate_panics_total", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e12_autobahns_cases_pass_to_a_client_too() {
    let server = process::free_address();
    let mut args = vec!["--mode".to_owned(), "fuzzingserver".to_owned()];
    let groups = GROUPS.iter().filter(|(cases, _)| !cases.starts_with('9'));
    args.extend(groups.clone().flat_map(|(cases, _)| ["--include".to_owned(), (*cases).to_owned()]));
    args.push(server.to_string());
    let count: usize = groups.map(|(_, count)| count).sum();
    let kosoku = Background::start(&kosoku(), args, server, tempfile::tempdir().unwrap()).await;
    let line = Line::to(server).await;
    let connect = async |path: &str| {
        let stream = TcpStream::connect(line.near.address()).await.unwrap();
        let url = format!("ws://{}/open/{path}", line.near.address());
        soon("a handshake", tokio_tungstenite::client_async_with_config(url, stream, unbounded()))
            .await
            .unwrap()
            .0
    };
    let told = soon("a number", connect("getCaseCount").await.next()).await.unwrap().unwrap();
    assert_eq!(told.to_text().unwrap(), count.to_string());
    for case in 1..=count {
        let socket = connect(&format!("runCase?case={case}&agent=tungstenite")).await;
        soon(&format!("E12: case {case} ends"), echo(socket)).await;
    }
    echo(connect("updateReports?agent=tungstenite").await).await;
    crate::support::eventually("the verdict", || async {
        let output = std::fs::read_to_string(kosoku.dir().join("output.log")).unwrap();
        assert!(!output.contains("FAILED"), "E12: {output}");
        output.contains(&format!("{count} cases passed")).then_some(())
    })
    .await;
    assert_eq!(line.judge("E12 to a client").await, count + 2);
}

/// The bit of a message's last frame, and opcodes.
const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A frame with these first eight bits (RFC 6455 §5.2), masked or not.
fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mask = if masked { 0x80 } else { 0 };
    let length = match payload.len() {
        short @ 0..=125 => vec![mask | short as u8],
        medium @ 126..=0xffff => [&[mask | 126][..], &(medium as u16).to_be_bytes()].concat(),
        long => [&[mask | 127][..], &(long as u64).to_be_bytes()].concat(),
    };
    let key: &[u8] = if masked { &KEY } else { &[] };
    let hide = |(at, byte): (usize, &u8)| if masked { byte ^ KEY[at % 4] } else { *byte };
    [&[first], &*length, key, &payload.iter().enumerate().map(hide).collect::<Vec<u8>>()].concat()
}

/// Bytes that no gateway has an opinion on.
fn rows() -> Vec<(String, Vec<u8>)> {
    let mut rows: Vec<(String, Vec<u8>)> = Vec::new();
    let mut row = |what: &str, bytes: Vec<u8>| rows.push((what.to_owned(), bytes));
    // RFC 7692 §7.2.3.1: "Hello", compressed.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    for masked in [false, true] {
        let frame = |first: u8, payload: &[u8]| frame(first, masked, payload);
        let who = if masked { "masked" } else { "not masked" };
        for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 100_000] {
            row(&format!("1 {length} bytes of text, {who}"), frame(FIN | TEXT, &vec![b'*'; length]));
            row(&format!("1 {length} bytes, {who}"), frame(FIN | BINARY, &vec![0xfe; length]));
        }
        row(
            &format!("2 pings and pongs, {who}"),
            [
                frame(FIN | PING, &[]),
                frame(FIN | PING, &[0, 0xff, 0xfe, 0xfd]),
                frame(FIN | PING, &[b'p'; 125]),
                frame(FIN | PING, &[b'p'; 126]),
                frame(FIN | PONG, b"unasked"),
            ]
            .concat(),
        );
        for reserved in 1..8_u8 {
            row(&format!("3 reserved bits {reserved}, {who}"), frame(FIN | reserved << 4 | TEXT, b"Hello"));
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            row(
                &format!("4 opcode {opcode}, {who}"),
                [frame(FIN | opcode, b"Hello"), frame(opcode, &[])].concat(),
            );
        }
        row(
            &format!("5 fragments, {who}"),
            [
                frame(TEXT, b"fragment1"),
                frame(FIN | PING, b"between"),
                frame(CONTINUATION, b""),
                frame(FIN | CONTINUATION, b"fragment3"),
                frame(FIN | CONTINUATION, b"of nothing"),
                frame(PING, b"a part"),
                frame(TEXT, b"begun"),
                frame(BINARY, b"begun twice"),
            ]
            .concat(),
        );
        row(
            &format!("6 no UTF-8, {who}"),
            [
                frame(FIN | TEXT, &[0xce, 0xba, 0xe1, 0xbd, 0xb9, 0xed, 0xa0, 0x80, 0xff]),
                frame(TEXT, &[0xf4, 0x8f]),
                frame(FIN | CONTINUATION, &[0xbf, 0xbf]),
                frame(FIN | TEXT, &[0xf4, 0x90, 0x80, 0x80]),
            ]
            .concat(),
        );
        for code in [0, 999, 1000, 1004, 1005, 1006, 1015, 1100, 2999, 3000, 4999, 5000, 65_535_u16] {
            let payload = [&code.to_be_bytes()[..], b"reason \xff"].concat();
            row(
                &format!("7 closed with {code}, and more, {who}"),
                [frame(FIN | CLOSE, &payload), frame(FIN | TEXT, b"more")].concat(),
            );
        }
        row(&format!("7 closed with one byte, {who}"), frame(FIN | CLOSE, &[3]));
        row(
            &format!("12 compressed, {who}"),
            [frame(FIN | 0x40 | TEXT, &hello), frame(0x40 | TEXT, &hello[..3]), frame(FIN, &hello[3..])]
                .concat(),
        );
    }
    row("1 a length that is longer than it needs to be", vec![0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0, 1, b'x']);
    row("1 a length below zero", [&[0x82, 0x7f][..], &[0xff; 8], b"x"].concat());
    row("9 a length that never comes", [&[0x82, 0x7f][..], &(1_u64 << 40).to_be_bytes(), b"x"].concat());
    row("9 zeros", vec![0; 1 << 20]);
    row(
        "no frames: HTTP",
        b"GET /open/x HTTP/1.1\r\nHost: h\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
    );
    row("no frames: HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec());
    row("no frames: a chunk", b"5\r\nhello\r\n0\r\n\r\n".to_vec());
    row("no frames: noise", (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect());
    rows
}

/// Sends these bytes in pieces of this size, and reads as many at the same time.
async fn exchange(stream: &mut TcpStream, bytes: &[u8], piece: usize) -> Vec<u8> {
    stream.set_nodelay(true).unwrap();
    let (mut read, mut write) = stream.split();
    let mut received = vec![0; bytes.len()];
    let sending = async {
        for piece in bytes.chunks(piece) {
            write.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (_, read) = tokio::join!(sending, read.read_exact(&mut received));
    read.unwrap();
    received
}

/// A head, read to its last byte and not beyond.
pub(crate) async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn e12_whatever_is_sent_comes_out_as_it_is() {
    const OFFER: &str = "permessage-deflate; client_max_window_bits, permessage-deflate; server_no_context_takeover, x-odd; a=\"b\"";
    const TAKEN: &str = "permessage-deflate; server_no_context_takeover; client_max_window_bits=9";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (gateway, issuer) = gateway(listener.local_addr().unwrap()).await;
    let call = gateway.get("/protected").token(&issuer.token().scope("ws").mint());
    let handshake = call
        .upgrade()
        .header("Sec-WebSocket-Protocol", "chat, superchat")
        .header("Sec-WebSocket-Extensions", OFFER)
        .bytes();
    let agreed = [
        "upgrade: websocket",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "sec-websocket-protocol: chat",
        &format!("sec-websocket-extensions: {TAKEN}"),
    ];
    for (what, bytes) in rows() {
        for piece in [usize::MAX, 1000, 7, 1] {
            if bytes.len() / piece > 2000 {
                continue;
            }
            let what = format!("E12 {what}, in pieces of {piece}");
            let mut client = TcpStream::connect(gateway.address()).await.unwrap();
            client.write_all(&handshake).await.unwrap();
            let (mut upstream, _) = soon("a connection", listener.accept()).await.unwrap();
            // 12, 13: what is negotiated is between the two ends.
            let asked = soon("a handshake", head(&mut upstream)).await.to_lowercase();
            for line in
                ["sec-websocket-protocol: chat, superchat", &format!("sec-websocket-extensions: {OFFER}")]
            {
                assert!(
                    asked.contains(&format!("\r\n{}\r\n", line.to_lowercase())),
                    "{what}: {line} is not in {asked}"
                );
            }
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{}\r\n\r\n",
                agreed.join("\r\n")
            );
            upstream.write_all(answer.as_bytes()).await.unwrap();
            let told = soon("an answer", head(&mut client)).await;
            for line in agreed {
                let has = |told: &str| {
                    let fields = told.split_once(": ").zip(line.split_once(": "));
                    fields.is_some_and(|((name, value), (other, wanted))| {
                        name.eq_ignore_ascii_case(other) && value == wanted
                    })
                };
                assert!(told.lines().any(has), "{what}: {line} is not in {told}");
            }
            // Both ways at once.
            let (to_client, to_upstream) = soon(&what, async {
                tokio::join!(exchange(&mut client, &bytes, piece), exchange(&mut upstream, &bytes, piece))
            })
            .await;
            assert!(to_client == bytes && to_upstream == bytes, "{what}: altered on its way");
            // And nothing behind it.
            let mut rest = Vec::new();
            client.shutdown().await.unwrap();
            soon("the end", upstream.read_to_end(&mut rest)).await.unwrap();
            drop(upstream);
            soon("the other end", client.read_to_end(&mut rest)).await.unwrap();
            assert_eq!(rest, b"", "{what}");
        }
    }
    assert_eq!(gateway.metric("scopegate_panics_total", &[]).await, 0.0);
}
