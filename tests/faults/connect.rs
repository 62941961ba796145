//! Upstreams that cannot be reached: nobody listens, nobody answers, nobody knows the name.

use std::net::TcpListener;

use tokio::net::TcpStream;

use super::script::{OK, Scripted};
use super::{Policy, Rig, support};
use support::process;

#[tokio::test]
async fn an_upstream_that_refuses_is_unreachable_until_it_is_back() {
    let address = process::free_address();
    let rig = Rig::with(&format!("http://{address}"), Policy::default()).await;
    for method in ["GET", "POST"] {
        let response = rig.call(method, "/1").send().await;
        assert_eq!(response.verdict(), "502 upstream_unreachable", "{method}");
        assert!(!response.text().contains("127.0.0.1"), "{}", response.text());
    }
    rig.assert_good().await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let served = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        tokio::io::AsyncReadExt::read(&mut stream, &mut head).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, OK.as_bytes()).await.unwrap();
        stream
    };
    let (response, _stream) = tokio::join!(rig.get("/2"), served);
    assert_eq!(response.text(), "ok", "with one address there is nothing to wait for");
}

#[tokio::test]
async fn a_request_of_which_nothing_was_sent_goes_to_the_next_endpoint_whatever_its_method() {
    let upstream = Scripted::saying(OK).await;
    let endpoints = format!("endpoints: [\"http://{}\", \"{}\"]", process::free_address(), upstream.url());
    let issuer = support::TestIssuer::start().await;
    let policy =
        Policy::default().gateway("workers: 1").render(issuer.url(), "X").replace("url: X", &endpoints);
    let gateway = support::Gateway::start(&policy).await;
    let token = issuer.token().mint();
    for method in ["GET", "POST", "GET", "POST"] {
        let call = gateway.call(method, "/orders/1").token(&token).body("order");
        assert_eq!(call.send().await.text(), "ok", "{method}");
    }
    assert_eq!(upstream.count(), 4);
}

/// A listener that accepts nothing and whose queue is full: who connects hears nothing.
async fn black_hole() -> (TcpListener, Vec<TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    loop {
        let connecting = TcpStream::connect(address);
        match tokio::time::timeout(std::time::Duration::from_millis(300), connecting).await {
            Ok(stream) => queue.push(stream.unwrap()),
            Err(_) => return (listener, queue),
        }
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_even_refuse_is_a_timeout() {
    let (hole, _queue) = black_hole().await;
    let url = format!("http://{}", hole.local_addr().unwrap());
    for protocol in ["http1", "h2c"] {
        let policy =
            Policy::default().gateway("timeouts: { upstream_connect: 300ms, upstream_response: 1h }");
        let rig = Rig::with(&url, policy.upstream(&format!("protocol: {protocol}"))).await;
        let waiting = futures_util::future::join_all((0..20).map(|_| rig.get("/1")));
        // Who waits for this upstream holds nobody else up.
        let (responses, ()) = tokio::join!(waiting, rig.assert_good());
        for response in responses {
            assert_eq!(response.verdict(), "504 upstream_timeout", "{protocol}");
            assert!(!response.text().contains("127.0.0.1"), "{}", response.text());
        }
        assert_eq!(rig.errors("upstream_timeout").await, 20.0);
        rig.settles(0.0).await;
    }
}

#[tokio::test]
async fn a_name_that_nobody_knows_concerns_its_own_upstream_only() {
    let rig = Rig::with("http://no-such-host.invalid:8080", Policy::default()).await;
    for method in ["GET", "POST"] {
        let response = rig.call(method, "/1").send().await;
        assert_eq!(response.verdict(), "502 upstream_unreachable", "{method}");
        assert!(!response.text().contains("no-such-host"), "{}", response.text());
    }
    rig.assert_good().await;
    // Whether the look-up failed or still goes on, the log tells operators what the client is not told.
    let entry = rig.gateway.wait_for_log(|entry| entry["reason"] == "upstream_unreachable").await;
    assert_eq!(entry["cause"], "the upstream has no address", "{entry}");
}
