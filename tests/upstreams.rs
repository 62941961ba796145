//! Upstreams that do not do their part: what they get wrong reaches no client, and what they refuse is asked elsewhere.
#![cfg(test)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use support::{Client, Gateway, Policy, Reply, Rig, TestIssuer, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

#[tokio::test]
async fn an_answer_whose_end_is_in_doubt_is_not_passed_on() {
    let rig = Rig::start().await;
    for framing in [
        "Transfer-Encoding: chunked\r\nContent-Length: 2",
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Content-Length: 2, 2",
        "Content-Length: 2\r\nContent-Length: 2",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        rig.upstream.answers(move |_| Reply::BytesThenClose(bytes.clone().into()));
        assert_eq!(rig.get("/orders/1").send().await.verdict(), "502 upstream_invalid", "{framing}");
    }
}

#[tokio::test]
async fn what_comes_behind_an_answer_reaches_no_other_request() {
    // One worker: the next request would meet the same connection.
    let rig = Rig::with(Policy::default().gateway("workers: 1")).await;
    let canary = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary";
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
    ] {
        let both = [answer, canary].concat();
        rig.upstream.answers(move |_| Reply::Bytes(both.clone().into()));
        for _ in 0..3 {
            let response = rig.get("/orders/1").send().await;
            assert_ne!(response.text(), "canary", "{answer}");
            assert!(answer.contains(&response.status.to_string()), "{answer}");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_speaks_out_of_turn_is_not_listened_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (gateway, issuer) = {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let issuer = TestIssuer::start().await;
        // One worker: the second request would meet the connection of the first.
        let policy = Policy::default().gateway("workers: 1");
        (Gateway::start(&policy.render(issuer.url(), &url)).await, issuer)
    };
    let token = issuer.token().mint();
    for method in ["GET", "POST"] {
        let call = gateway.call(method, "/orders/1").token(&token);
        let mut head = [0; 4096];
        let answer = async {
            let (mut stream, _) = soon("a connection", listener.accept()).await.unwrap();
            assert!(stream.read(&mut head).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            stream
        };
        let (response, mut stream) = tokio::join!(call.send(), answer);
        assert_eq!(response.text(), "ok");
        // On loopback it has arrived when it is written.
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary").await.unwrap();
        let second = async {
            let (mut stream, _) = soon("another connection", listener.accept()).await.unwrap();
            assert!(stream.read(&mut head).await.unwrap() > 0);
            let close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(close).await.unwrap();
        };
        let (response, ()) = tokio::join!(call.send(), second);
        assert_eq!(response.text(), "ok", "{method}");
    }
}

#[tokio::test]
async fn interim_answers_are_not_taken_for_the_answer() {
    let rig = Rig::start().await;
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    for (count, verdict) in [(0, "200 -"), (1, "200 -"), (16, "200 -"), (17, "502 upstream_invalid")] {
        let bytes = [&interim.repeat(count), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"].concat();
        rig.upstream.answers(move |_| Reply::Bytes(bytes.clone().into()));
        assert_eq!(rig.get("/orders/1").send().await.verdict(), verdict, "{count}");
    }
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    rig.upstream.answers(|_| Reply::Bytes(switch.to_vec()));
    assert_eq!(rig.get("/orders/1").send().await.verdict(), "502 upstream_invalid", "nobody asked");
}

#[tokio::test]
async fn an_answer_counts_although_the_upstream_reads_no_further() {
    let rig = Rig::start().await;
    let close = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig";
    rig.upstream.answers(|_| Reply::Early(Box::new(Reply::BytesThenClose(close.to_vec()))));
    let upload = "x".repeat(4 << 20);
    for _ in 0..5 {
        let call = rig.gateway.call("POST", "/orders/1").token(&rig.token()).body(upload.clone());
        let mut client = Client::connect(rig.gateway.address()).await;
        client.send(call.bytes()).await;
        let response = client.response().await;
        assert_eq!((response.status, response.text().as_str()), (413, "big"));
    }
}

#[tokio::test]
async fn a_pause_of_the_client_is_not_the_upstreams_fault() {
    let timeouts = "timeouts: { body_idle: 20s, upstream_response: 1s }";
    let rig = Rig::with(Policy::default().gateway(timeouts)).await;
    let mut client = Client::connect(rig.gateway.address()).await;
    let head = rig.gateway.call("POST", "/orders/1").token(&rig.token()).header("Content-Length", "2");
    client.send(head.bytes()).await;
    client.send("a").await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    client.send("b").await;
    assert_eq!(client.response().await.verdict(), "200 -");
    assert_eq!(rig.upstream.request().body, b"ab");
}

#[tokio::test]
async fn a_stream_lives_as_long_as_its_token_is_accepted() {
    let rig = Rig::with(Policy::default().issuer("leeway: 60s")).await;
    let (events, source) = mpsc::unbounded_channel();
    let source = Mutex::new(Some(source));
    rig.upstream.answers(move |_| Reply::Stream(source.lock().unwrap().take().unwrap()));
    let token = rig.issuer.token().times(-100, -5).mint();
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(rig.gateway.get("/orders/1").token(&token).bytes()).await;
    events.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n".to_vec()).unwrap();
    client.until("200 OK").await;
    for n in 0..3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        events.send(format!("data: {n}\n\n").into_bytes()).unwrap();
        client.until(&format!("data: {n}")).await;
    }
}

/// An upstream of HTTP/2 in plain text. `answer` gets the number of the connection and that of the request on it, from 0.
async fn http2(answer: impl Fn(usize, usize, SendResponse<Bytes>) + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (answer, connections) = (Arc::new(answer), AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            let connection = connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut requests = h2::server::handshake(stream).await.unwrap();
                let mut number = 0;
                while let Some(Ok((_, respond))) = requests.accept().await {
                    answer(connection, number, respond);
                    number += 1;
                }
            });
        }
    });
    url
}

fn ok(mut respond: SendResponse<Bytes>) {
    let mut body = respond.send_response(http::Response::new(()), false).unwrap();
    body.send_data(Bytes::from_static(b"hello"), true).unwrap();
}

async fn before(upstream: &str) -> (TestIssuer, Gateway) {
    let issuer = TestIssuer::start().await;
    let policy = Policy::default().upstream("protocol: h2c").gateway("timeouts: { upstream_response: 1s }");
    let policy = policy.gateway("workers: 1").routes(
        "
- id: status
  match: { host: api.example.com, path: /status }
  public: true
  upstream: orders
",
    );
    let gateway = Gateway::start(&policy.render(issuer.url(), upstream)).await;
    (issuer, gateway)
}

#[tokio::test]
async fn interim_responses_over_http2_are_not_taken_for_the_response() {
    let upstream = http2(|_, number, mut respond| {
        for _ in 0..number {
            let hint = http::Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
            respond.send_informational(hint).unwrap();
        }
        ok(respond);
    })
    .await;
    let (_issuer, gateway) = before(&upstream).await;
    for number in 0..3 {
        let response = gateway.get("/status").send().await;
        assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{number}");
        assert_eq!(response.header("link"), None, "{number}: it belongs to the interim response");
    }
}

#[tokio::test]
async fn an_http2_connection_that_does_not_answer_gets_no_new_requests() {
    let held = Mutex::new(Vec::new());
    let upstream = http2(move |connection, number, respond| match (connection, number) {
        (0, 1..) => held.lock().unwrap().push(respond),
        _ => ok(respond),
    })
    .await;
    let (_issuer, gateway) = before(&upstream).await;
    assert_eq!(gateway.get("/status").send().await.verdict(), "200 -");
    assert_eq!(gateway.get("/status").send().await.verdict(), "504 upstream_timeout");
    assert_eq!(gateway.get("/status").send().await.verdict(), "200 -");
}

#[tokio::test]
async fn an_http2_request_that_the_upstream_did_not_look_at_is_sent_again() {
    let upstream = http2(|connection, number, mut respond| match (connection, number) {
        (0, 1..) => respond.send_reset(h2::Reason::REFUSED_STREAM),
        _ => ok(respond),
    })
    .await;
    let (_issuer, gateway) = before(&upstream).await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/status").send().await.verdict(), "200 -");
    }
}
