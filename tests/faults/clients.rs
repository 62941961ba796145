//! Clients that go away: whatever they were doing, the upstream's work ends, and everything is given back.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::script::Scripted;
use super::{Client, Policy, Rig, streams, support};

/// Loops for each way to leave.
const LOOPS: usize = 350;
/// Clients at the same time.
const AT_ONCE: usize = 10;

/// An upstream that gives a sign when it has a request, and a sign when the gateway has ended the connection.
struct Watched {
    upstream: Scripted,
    asked: Arc<Semaphore>,
    ended: Arc<AtomicUsize>,
}

impl Watched {
    /// Says this to each request, and then waits for the end.
    async fn saying(bytes: &'static str) -> Self {
        let (asked, ended) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (sign, count) = (Arc::clone(&asked), Arc::clone(&ended));
        let upstream = Scripted::start(move |mut wire| {
            let (sign, count) = (Arc::clone(&sign), Arc::clone(&count));
            async move {
                if wire.head().await.is_some() {
                    wire.send(bytes).await;
                    sign.add_permits(1);
                    wire.drain().await;
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        })
        .await;
        Self { upstream, asked, ended }
    }

    /// Lets clients ask and leave again and again, several at a time, and waits until nothing is left of them.
    async fn leave<F: Future<Output = Client>>(&self, rig: &Rig, client: impl Fn() -> F) {
        for _ in 0..LOOPS / AT_ONCE {
            let clients = futures_util::future::join_all((0..AT_ONCE).map(|_| client())).await;
            self.asked().await;
            drop(clients);
        }
        rig.settles(0.0).await;
        support::eventually("the upstream is told", || async {
            (self.ended.load(Ordering::SeqCst) == self.upstream.connections()).then_some(())
        })
        .await;
        assert_eq!(self.upstream.count(), LOOPS, "nothing was asked again");
        support::eventually("the clients' connections are given back", || async {
            (rig.gateway.metric("scopegate_connections", &[]).await == 0.0).then_some(())
        })
        .await;
        rig.assert_good().await;
    }

    /// Waits until all clients of one round have their request there.
    async fn asked(&self) {
        let all = self.asked.acquire_many(AT_ONCE as u32);
        support::soon("the upstream is asked", all).await.unwrap().forget();
    }
}

/// Timeouts that cannot be what ends a request.
fn patient() -> Policy {
    Policy::default()
        .gateway("timeouts: { upstream_response: 1h, upstream_idle: 1h, body_idle: 1h, idle: 1h }")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_it_waits_ends_the_upstreams_work() {
    let watched = Watched::saying("").await;
    let rig = Rig::with(&watched.upstream.url(), patient()).await;
    watched
        .leave(&rig, || async {
            let mut client = Client::connect(rig.gateway.address()).await;
            client.send(rig.call("GET", "/1").bytes()).await;
            client
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_within_its_upload_ends_the_upstreams_work() {
    let watched = Watched::saying("").await;
    let rig = Rig::with(&watched.upstream.url(), patient()).await;
    watched
        .leave(&rig, || async {
            let mut client = Client::connect(rig.gateway.address()).await;
            client.send(rig.call("POST", "/1").header("Content-Length", "1000000").bytes()).await;
            client.send("the begin").await;
            client
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_within_its_download_ends_the_upstreams_work() {
    let watched = Watched::saying("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nthe begin").await;
    let rig = Rig::with(&watched.upstream.url(), patient()).await;
    watched
        .leave(&rig, || async {
            let mut client = Client::connect(rig.gateway.address()).await;
            client.send(rig.call("GET", "/1").bytes()).await;
            client.until("the begin").await;
            client
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_http2_that_is_reset_ends_the_upstreams_work_and_no_other_stream() {
    for (method, ends) in [("GET", true), ("POST", false)] {
        let watched = Watched::saying("").await;
        let rig = Rig::with(&watched.upstream.url(), patient()).await;
        for _ in 0..LOOPS / AT_ONCE {
            // As many resets as one connection may bring.
            let client = streams::connect(rig.gateway.address()).await;
            let mut opened = Vec::new();
            for _ in 0..AT_ONCE {
                let mut client = client.clone().ready().await.unwrap();
                opened.push(streams::send(&mut client, method, "/1", ends));
            }
            watched.asked().await;
            for (_response, mut body) in opened {
                body.send_reset(h2::Reason::CANCEL);
            }
            let mut client = client.ready().await.unwrap();
            let (response, _) = streams::send(&mut client, "GET", "/good/1", true);
            assert_eq!(response.await.unwrap().status(), 200, "the connection goes on");
        }
        rig.settles(0.0).await;
        assert_eq!(watched.upstream.count(), LOOPS);
    }
}
