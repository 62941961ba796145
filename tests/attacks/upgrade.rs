//! Group E: upgrades. A connection becomes a tunnel only after both sides said so, and only for a WebSocket.
//!
//! How long a tunnel lasts is tested in `expiry.rs`, `connections.rs` and `drain.rs`.

use std::io::Read as _;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{ROUTES, Row, Stage, forwarded, refused};
use crate::support::{Client, Gateway, Policy, Reply, Rig, TestIssuer, has_keys, soon};
use crate::websocket::head;

const SMUGGLED: &str = "GET /api/admin/x HTTP/1.1\r\nHost: h\r\n\r\n";
const EARLY: &str = "CVE-2026-2833, CVE-2026-73548, CVE-2025-64763";
const SUITE: &str = "RFC 6455 §4.2.1; Http11Probe COMP-UPGRADE";

/// What a handshake needs beside Connection and Upgrade.
const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn shake(lines: &str) -> String {
    format!("GET /ws HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer $WS\r\n{lines}\r\n")
}

#[tokio::test]
async fn without_a_101_everything_is_a_request() {
    let mut stage = Stage::start().await;
    let public = |lines: &str| format!("GET /public/a HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
    let plain: &[&str] = &["upgrade", "connection", "http2-settings"];
    for protocol in ["foo", "websocket", "h2c", "TLS/1.0", "websocket, h2c", "", "HTTP/2.0", "connect-udp"] {
        let raw = format!(
            "{}{SMUGGLED}",
            public(&format!(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n\
            HTTP2-Settings: AAMAAABk\r\n{KEY}"
            ))
        );
        let row = Row::new("E01", format!("a request behind an upgrade to {protocol:?}"), EARLY, raw);
        stage
            .run([row
                .answers([forwarded("/public/a"), refused("401 credential_missing")])
                .stays()
                .without(plain)])
            .await;
    }
    // The upstream answers 200 to a handshake in good form: what follows is decided on its own.
    let raw = shake(&format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}")) + SMUGGLED;
    stage
        .run([
            Row::new("E01", "a request behind a handshake that the upstream declines", EARLY, raw)
                .answers([forwarded("/ws"), refused("401 credential_missing")])
                .stays()
                .with("upgrade", "websocket"),
            Row::new(
                "E01",
                "a request behind a handshake without a token",
                EARLY,
                format!(
                    "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\n{KEY}\r\n{SMUGGLED}"
                ),
            )
            .answers([refused("401 credential_missing"), refused("401 credential_missing")])
            .stays(),
            Row::new(
                "E04",
                "an upgrade to HTTP/2 in HTTP/1",
                "RFC 9113 §3.1",
                public(
                    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
            HTTP2-Settings: AAMAAABk\r\n",
                ),
            )
            .forwarded("/public/a")
            .without(plain),
            Row::new(
                "E05",
                "a WebSocket where none is",
                SUITE,
                public(&format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}")),
            )
            .forwarded("/public/a")
            .without(plain),
        ])
        .await;
    for body in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 99\r\n\r\nhello",
    ] {
        for (target, token) in [("/public/a", ""), ("/ws", "Authorization: Bearer $WS\r\n")] {
            let raw = format!(
                "GET {target} HTTP/1.1\r\nHost: h\r\n\
            {token}Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}{body}"
            );
            stage
                .run([Row::new("E02", format!("{target} with {body:?}"), "CVE-2026-58055", raw)
                    .refused("400 request_invalid")])
                .await;
        }
    }
    // Java's default client offers h2c with each request, curl with `--http2`.
    for protocol in ["h2c", "TLS/1.2", "foo"] {
        for body in
            ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
        {
            let raw = format!(
                "POST /public/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n\
                HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n{body}"
            );
            let row =
                Row::new("E03", format!("{protocol} offered with {body:?}"), "RFC 9110 §7.8", raw + SMUGGLED);
            stage
                .run([row
                    .answers([forwarded("/public/a"), refused("401 credential_missing")])
                    .stays()
                    .without(plain)])
                .await;
        }
    }
    stage.finish().await;
}

#[tokio::test]
async fn a_handshake_in_bad_form_is_a_plain_request() {
    let mut stage = Stage::start().await;
    let plain: &[&str] = &["upgrade", "connection"];
    for (what, lines) in [
        ("no Connection", format!("Upgrade: websocket\r\n{KEY}")),
        ("Connection without upgrade", format!("Connection: keep-alive\r\nUpgrade: websocket\r\n{KEY}")),
        ("no Upgrade", format!("Connection: Upgrade\r\n{KEY}")),
        (
            "version 99",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 99\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                .to_owned(),
        ),
        (
            "two versions",
            format!(
                "Connection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 8\r\n{KEY}"
            ),
        ),
        (
            "no version",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                .to_owned(),
        ),
        ("no key", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n".to_owned()),
        (
            "a key too short",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhl\r\n"
                .to_owned(),
        ),
        ("two protocols", format!("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n{KEY}")),
        ("two Upgrade fields", format!("Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n{KEY}")),
        ("another protocol", format!("Connection: Upgrade\r\nUpgrade: websockets\r\n{KEY}")),
    ] {
        stage
            .run([Row::new("E06", what, SUITE, shake(&lines)).forwarded("/ws").without(plain).few_ways()])
            .await;
    }
    let good = format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}");
    let post = shake(&good).replacen("GET", "POST", 1);
    let old = shake(&good).replacen("HTTP/1.1", "HTTP/1.0", 1);
    stage
        .run([
            Row::new("E06", "POST", SUITE, post).forwarded("/ws").without(plain),
            Row::new("E06", "HTTP/1.0", SUITE, old)
                .answers([forwarded("/ws")])
                .closes()
                .without(plain)
                .few_ways(),
            Row::new("E06", "another scope", SUITE, shake(&good).replace("$WS", "$READ"))
                .answers([refused("403 scope_missing")])
                .stays()
                .few_ways(),
            Row::new(
                "E06",
                "in other letters",
                SUITE,
                shake(&format!("connection: keep-alive, UPGRADE\r\nupgrade: WebSocket\r\n{KEY}")),
            )
            .forwarded("/ws")
            .with("upgrade", "websocket")
            .few_ways(),
        ])
        .await;
    stage.finish().await;
}

async fn rig() -> (Rig, Vec<u8>) {
    let rig = Rig::with(Policy::default().routes(ROUTES).gateway("workers: 1")).await;
    let token = rig.issuer.token().scope("ws").mint();
    let handshake = rig.gateway.get("/ws").host("h").token(&token).upgrade().bytes();
    (rig, handshake)
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_no_answer() {
    let (rig, handshake) = rig().await;
    let token = rig.issuer.token().scope("ws").mint();
    let plain = rig.gateway.get("/ws").host("h").token(&token).bytes();
    for (what, request, answer) in [
        ("a 101 unasked", &plain, "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        (
            "a 101 unasked with an answer behind it",
            &plain,
            "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        ("another protocol", &handshake, "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
        (
            "two protocols",
            &handshake,
            "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
        ),
        (
            "two Upgrade fields",
            &handshake,
            "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
        ),
        ("no protocol", &handshake, "HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\n"),
    ] {
        rig.upstream.answers(move |_| Reply::Bytes(answer.into()));
        let mut client = Client::connect(rig.gateway.address()).await;
        client.send(request).await;
        assert_eq!(client.response().await.verdict(), "502 upstream_invalid", "{what}");
        rig.upstream.wait("the connection is closed", |upstream| upstream.open_connections() == 0).await;
    }
    rig.upstream.answers(|_| crate::support::ok("hello"));
    assert_eq!(rig.gateway.get("/public/a").host("h").send().await.text(), "hello");
}

#[tokio::test]
async fn what_a_client_says_too_early_waits_for_the_101() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = TestIssuer::start().await;
    let policy = Policy::default().routes(ROUTES).gateway("workers: 1");
    let url = format!("http://{}", listener.local_addr().unwrap());
    let gateway = Gateway::start(&policy.render(issuer.url(), &url)).await;
    has_keys(&gateway).await;
    let token = issuer.token().scope("ws").mint();
    let handshake = gateway.get("/ws").host("h").token(&token).upgrade().bytes();
    let mut client = Client::connect(gateway.address()).await;
    client.send([handshake.as_slice(), b"early frames"].concat()).await;
    let (mut upstream, _) = soon("a connection", listener.accept()).await.unwrap();
    let asked = soon("a handshake", head(&mut upstream)).await;
    assert!(asked.starts_with("GET /ws "), "{asked}");
    // The one worker has served others since: what it would send on by itself is here.
    for _ in 0..3 {
        assert_eq!(gateway.get("/api/a").host("h").send().await.verdict(), "401 credential_missing");
    }
    let mut upstream = upstream.into_std().unwrap();
    let early = upstream.read(&mut [0; 64]).map_err(|error| error.kind());
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock), "bytes before the 101");
    let mut upstream = TcpStream::from_std(upstream).unwrap();
    let answer = b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi";
    upstream.write_all(answer).await.unwrap();
    assert_eq!(client.status().await, 101);
    assert_eq!(client.until("hi").await, "hi");
    // Only now they are sent on, and nothing of them was lost.
    let mut frames = [0; 12];
    soon("the early frames", upstream.read_exact(&mut frames)).await.unwrap();
    assert_eq!(&frames, b"early frames");
    client.finish().await;
    let mut rest = Vec::new();
    soon("the end", upstream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"");
}
