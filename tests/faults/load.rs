//! Many more requests than a slow upstream answers: what waits is held in bounded memory, nothing is asked twice, and all is
//! well once the upstream is.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::script::{OK, Scripted};
use super::{Client, Policy, Rig, support};

/// Requests that wait at the same time.
const WAITING: usize = 1_000;
/// What one of them may take of the gateway's memory, its two sockets' buffers included.
const EACH: u64 = 64_000;

/// An upstream that answers as many requests as there are permits.
async fn slow() -> (Scripted, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let shared = Arc::clone(&permits);
    let upstream = Scripted::start(move |mut wire| {
        let permits = Arc::clone(&shared);
        async move {
            while wire.request().await.is_some() {
                permits.acquire().await.unwrap().forget();
                wire.send(OK).await;
            }
        }
    })
    .await;
    (upstream, permits)
}

async fn connected(rig: &Rig) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..WAITING {
        clients.push(Client::connect(rig.gateway.address()).await);
    }
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_slow_upstream_takes_little_and_is_served_in_the_end() {
    let (upstream, permits) = slow().await;
    let rig = Rig::with(
        &upstream.url(),
        Policy::default()
            .gateway("limits: { connections_per_client: 2000 }\ntimeouts: { upstream_response: 1h }"),
    )
    .await;
    let mut clients = connected(&rig).await;
    rig.assert_good().await;
    let before = rig.gateway.memory();
    let call = rig.call("GET", "/1").bytes();
    for client in &mut clients {
        client.send(&call).await;
    }
    support::eventually("all wait", || async { (upstream.count() == WAITING).then_some(()) }).await;
    rig.assert_good().await;
    let grown = rig.gateway.memory().saturating_sub(before);
    assert!(grown < EACH * WAITING as u64, "{grown} bytes for {WAITING} requests");
    permits.add_permits(WAITING);
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "ok");
    }
    assert_eq!(upstream.count(), WAITING, "each was asked once");
    rig.settles(0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_does_not_answer_in_time_is_not_asked_again_and_recovers_at_once() {
    let (upstream, permits) = slow().await;
    let rig = Rig::with(
        &upstream.url(),
        Policy::default()
            .gateway("limits: { connections_per_client: 2000 }\ntimeouts: { upstream_response: 1s }"),
    )
    .await;
    let mut clients = connected(&rig).await;
    let call = rig.call("GET", "/1").bytes();
    for client in &mut clients {
        client.send(&call).await;
    }
    for client in &mut clients {
        assert_eq!(client.response().await.verdict(), "504 upstream_timeout");
    }
    assert!(upstream.count() <= WAITING, "{} attempts for {WAITING} requests", upstream.count());
    rig.settles(0.0).await;
    permits.add_permits(Semaphore::MAX_PERMITS / 2);
    for client in &mut clients {
        client.send(&call).await;
        assert_eq!(client.response().await.text(), "ok");
    }
}
