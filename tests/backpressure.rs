//! Back-pressure: a side that does not read holds up the other side, and the gateway holds little in between.
#![cfg(test)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::{Client, Gateway, Policy, Reply, Rig, TestIssuer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// More than all buffers of the system on the way hold together.
const WHOLE: usize = 256 << 20;
/// What those buffers and the gateway's own may hold.
const BUFFERS: usize = 48 << 20;

/// An upstream that reads a head, and then writes `WHOLE` bytes, or reads nothing more; how much it wrote.
async fn upstream(writes: bool) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            if !writes {
                held.push(stream);
                continue;
            }
            tokio::spawn(async move {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {WHOLE}\r\n\r\n");
                let piece = vec![b'x'; 64 << 10];
                stream.write_all(head.as_bytes()).await.unwrap();
                while count.load(Ordering::SeqCst) < WHOLE && stream.write_all(&piece).await.is_ok() {
                    count.fetch_add(piece.len(), Ordering::SeqCst);
                }
            });
        }
    });
    (url, written)
}

async fn before(url: &str) -> (TestIssuer, Gateway) {
    let issuer = TestIssuer::start().await;
    let policy = Policy::default()
        .gateway("limits: { body: 1GiB }\ntimeouts: { upstream_response: 1h, body_idle: 1h }");
    let gateway = Gateway::start(&policy.render(issuer.url(), url)).await;
    (issuer, gateway)
}

/// The count once it has stopped to grow.
async fn settled(count: impl Fn() -> usize) -> usize {
    let mut last = usize::MAX;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        match count() {
            now if now == last && now > 0 => return now,
            now => last = now,
        }
    }
}

async fn memory(gateway: &Gateway) -> f64 {
    gateway.metric("process_resident_memory_bytes", &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_up_the_upstream() {
    let (url, written) = upstream(true).await;
    let (issuer, gateway) = before(&url).await;
    let resident = memory(&gateway).await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(gateway.get("/orders/1").token(&issuer.token().mint()).bytes()).await;
    let so_far = support::soon("the upstream is held up", settled(|| written.load(Ordering::SeqCst))).await;
    assert!(so_far < BUFFERS, "{so_far} bytes were taken for a client that reads none");
    let grown = memory(&gateway).await - resident;
    assert!(grown < 16e6, "the gateway grew by {grown} bytes");
    let mut read = 0;
    while read < WHOLE {
        let more = client.raw().await.len();
        assert!(more > 0, "broke off after {read} bytes");
        read += more;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_does_not_read_holds_up_the_client() {
    let (url, _) = upstream(false).await;
    let (issuer, gateway) = before(&url).await;
    let resident = memory(&gateway).await;
    let call = gateway
        .call("POST", "/orders/1")
        .token(&issuer.token().mint())
        .header("Content-Length", &WHOLE.to_string());
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(&call.bytes()).await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    tokio::spawn(async move {
        let piece = vec![b'x'; 64 << 10];
        while stream.write_all(&piece).await.is_ok() {
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    let so_far = support::soon("the client is held up", settled(|| sent.load(Ordering::SeqCst))).await;
    assert!(so_far < BUFFERS, "{so_far} bytes were taken for an upstream that reads none");
    let grown = memory(&gateway).await - resident;
    assert!(grown < 16e6, "the gateway grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_client_that_does_not_read_holds_up_the_upstream() {
    let (url, written) = upstream(true).await;
    let (issuer, gateway) = before(&url).await;
    // A window of 64 KiB, and nobody who opens it again: the answer goes into a pipe that is not read.
    let mut curl = std::process::Command::new("curl")
        .args(["-q", "-sN", "--noproxy", "*", "--http2-prior-knowledge", "-H", "host: api.example.com", "-H"])
        .arg(format!("authorization: Bearer {}", issuer.token().mint()))
        .arg(format!("http://{}/orders/1", gateway.address()))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let so_far = support::soon("the upstream is held up", settled(|| written.load(Ordering::SeqCst))).await;
    let _ = (curl.kill(), curl.wait());
    assert!(so_far < BUFFERS + (32 << 20), "{so_far} bytes were taken for a client that reads none");
    support::eventually("the request ends with its client", || async {
        (gateway.metric("scopegate_in_flight_requests", &[]).await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_and_its_answer_flow_at_the_same_time() {
    let rig = Rig::with(Policy::default().gateway("limits: { body: 1GiB }")).await;
    rig.upstream.answers(|_| Reply::Echo);
    let call = rig.gateway.call("POST", "/orders/1").token(&rig.token());
    let head = call.header("Transfer-Encoding", "chunked").bytes();
    let (mut answer, mut upload) = TcpStream::connect(rig.gateway.address()).await.unwrap().into_split();
    let uploading = tokio::spawn(async move {
        upload.write_all(&head).await.unwrap();
        let chunk = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
        while upload.write_all(&chunk).await.is_ok() {}
    });
    let mut buffer = vec![0; 64 << 10];
    let mut seen = 0;
    while seen < 32 << 20 {
        match tokio::time::timeout(Duration::from_secs(30), answer.read(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => seen += count,
            ended => panic!("{ended:?} after {seen} bytes"),
        }
    }
    uploading.abort();
}
