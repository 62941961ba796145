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
                while count.load(Ordering::SeqCst) < WHOLE {
                    let Ok(taken) = stream.write(&piece).await else { return };
                    count.fetch_add(taken, Ordering::SeqCst);
                }
            });
        }
    });
    (url, written)
}

async fn before(url: &str) -> (TestIssuer, Gateway) {
    with_buffer("256KiB", url).await
}

async fn with_buffer(size: &str, url: &str) -> (TestIssuer, Gateway) {
    let issuer = TestIssuer::start().await;
    let limits = format!("limits: {{ body: 1GiB, body_rate: 0B, buffer: {size} }}");
    let policy = Policy::default()
        .gateway(&limits)
        .gateway("timeouts: { upstream_response: 1h, body_idle: 1h, response_stall: 1h }");
    let gateway = Gateway::start(&policy.render(issuer.url(), url)).await;
    (issuer, gateway)
}

/// Sends this head, and then as much as is taken; how much was.
async fn upload(gateway: &Gateway, head: &[u8]) -> Arc<AtomicUsize> {
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(head).await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    tokio::spawn(async move {
        let piece = vec![b'x'; 64 << 10];
        while let Ok(taken) = stream.write(&piece).await {
            count.fetch_add(taken, Ordering::SeqCst);
        }
    });
    sent
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_up_the_upstream() {
    let (url, written) = upstream(true).await;
    let (issuer, gateway) = before(&url).await;
    let before = gateway.memory();
    let mut client = Client::connect(gateway.address()).await;
    client.send(gateway.get("/orders/1").token(&issuer.token().mint()).bytes()).await;
    let so_far = support::soon("the upstream is held up", settled(|| written.load(Ordering::SeqCst))).await;
    assert!(so_far < BUFFERS, "{so_far} bytes were taken for a client that reads none");
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 16_000_000, "the gateway grew by {grown} bytes");
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
    let before = gateway.memory();
    let call = gateway
        .call("POST", "/orders/1")
        .token(&issuer.token().mint())
        .header("Content-Length", &WHOLE.to_string());
    let sent = upload(&gateway, &call.bytes()).await;
    let so_far = support::soon("the client is held up", settled(|| sent.load(Ordering::SeqCst))).await;
    assert!(so_far < BUFFERS, "{so_far} bytes were taken for an upstream that reads none");
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 16_000_000, "the gateway grew by {grown} bytes");
}

/// Bytes that the system holds on connections with this port at one end: not taken by who reads, or not yet there.
fn in_the_system(port: u16) -> usize {
    let port = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let queues = table.lines().filter_map(|line| {
        let columns: Vec<_> = line.split_whitespace().take(5).collect();
        let [_, local, remote, "01", queues] = columns[..] else { return None };
        (local.ends_with(&port) || remote.ends_with(&port)).then_some(queues.to_owned())
    });
    queues
        .flat_map(|queues| {
            let sizes = queues.split(':').map(|size| usize::from_str_radix(size, 16).unwrap());
            sizes.collect::<Vec<_>>()
        })
        .sum()
}

/// What the gateway holds of a body that stands still: what one side sent, and nothing else has.
async fn held(sent: &AtomicUsize, gateway: &Gateway, upstream: &str) -> usize {
    let upstream = upstream.rsplit(':').next().unwrap().parse().unwrap();
    let look = || {
        let queues = in_the_system(gateway.address().port()) + in_the_system(upstream);
        (sent.load(Ordering::SeqCst), queues)
    };
    support::soon("it stands still", async {
        let mut last = None;
        loop {
            let before = settled(|| sent.load(Ordering::SeqCst)).await;
            let seen = look();
            // What was read while nothing moved, twice.
            if seen.0 == before && last.replace(seen) == Some(seen) {
                return seen.0.saturating_sub(seen.1);
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_holds_about_as_much_of_a_body_as_its_buffer_says() {
    for (size, bytes) in [("64KiB", 64 << 10), ("1MiB", 1 << 20)] {
        let (url, written) = upstream(true).await;
        let (issuer, gateway) = with_buffer(size, &url).await;
        let mut client = Client::connect(gateway.address()).await;
        client.send(gateway.get("/orders/1").token(&issuer.token().mint()).bytes()).await;
        let answer = held(&written, &gateway, &url).await;

        let (url, _) = upstream(false).await;
        let (issuer, gateway) = with_buffer(size, &url).await;
        let call = gateway.call("POST", "/orders/1").token(&issuer.token().mint());
        let call = call.header("Content-Length", &WHOLE.to_string());
        let sent = upload(&gateway, &call.bytes()).await;
        let request = held(&sent, &gateway, &url).await;
        // With the head, the upstream reads up to 4 KiB.
        let most = 2 * bytes + (4 << 10);
        assert!(answer <= most && request <= most, "{answer} and {request} bytes with {size}");
        assert!(answer >= bytes / 2, "{answer} bytes of an answer with {size}");
    }
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
