//! The end of the process: nobody who was let in is cut off, and nobody waits for ever.
#![cfg(test)]

mod support;

use std::sync::Arc;

use support::{Client, Policy, Reply, Rig, ok, process};
use tokio::sync::{Notify, mpsc};

/// A rig whose upstream answers when it gets the sign, with one request on its way.
async fn held(policy: Policy) -> (Rig, Arc<Notify>, Client) {
    let rig = Rig::with(policy).await;
    let sign = Arc::new(Notify::new());
    let held = Arc::clone(&sign);
    rig.upstream.answers(move |_| Reply::When(Arc::clone(&held), Box::new(ok("at last"))));
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(rig.get("/orders/1").bytes()).await;
    rig.upstream.wait("the request arrives", |upstream| upstream.requests().len() == 1).await;
    (rig, sign, client)
}

#[tokio::test]
async fn a_running_request_is_answered_before_the_process_ends() {
    let (mut rig, sign, mut client) = held(Policy::default()).await;
    let mut idle = Client::connect(rig.gateway.address()).await;
    assert_eq!(rig.gateway.get("/nothing").on(&mut idle).await.unwrap().status, 404);
    rig.gateway.signal("TERM");
    assert!(idle.closes().await, "an idle connection is closed at once");
    let drained = || rig.gateway.metric("scopegate_connections_closed_total", &["cause=\"drain\""]);
    support::eventually("it is counted", || async { (drained().await == 1.0).then_some(()) }).await;
    assert!(rig.gateway.runs(), "it waits for the running request");
    sign.notify_one();
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "at last"));
    assert!(client.closes().await, "and then the connection is closed");
    assert_eq!(rig.gateway.wait_exit().await, Some(0));
}

#[tokio::test]
async fn user_signals_are_logged_and_end_nothing() {
    let (mut rig, sign, mut client) = held(Policy::default()).await;
    for name in ["USR1", "USR2"] {
        rig.gateway.signal(name);
        let line = format!("SIG{name} is ignored");
        support::eventually("a line in the log", || async {
            rig.gateway.output().contains(&line).then_some(())
        })
        .await;
    }
    sign.notify_one();
    assert_eq!(client.response().await.status, 200);
    assert!(rig.gateway.runs());
    rig.gateway.signal("TERM");
    assert_eq!(rig.gateway.wait_exit().await, Some(0));
}

#[tokio::test]
async fn it_is_not_ready_while_it_drains_and_takes_no_new_request() {
    let (mut rig, sign, mut client) = held(Policy::default()).await;
    rig.gateway.signal("TERM");
    support::eventually("not ready", || async {
        (rig.gateway.admin("GET", "/readyz").send().await.status == 503).then_some(())
    })
    .await;
    // Who is in the kernel's queue by then is served still; nobody comes after.
    support::eventually("a new connection is refused", || async {
        tokio::net::TcpStream::connect(rig.gateway.address()).await.is_err().then_some(())
    })
    .await;
    assert!(rig.gateway.runs(), "it waits for the running request");
    assert_eq!(rig.upstream.requests().len(), 1);
    sign.notify_one();
    assert_eq!(client.response().await.status, 200);
    assert_eq!(rig.gateway.wait_exit().await, Some(0));
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let (mut rig, _sign, mut client) = held(Policy::default().gateway("timeouts: { drain: 1s }")).await;
    rig.gateway.signal("TERM");
    // Whether with an answer or without: the client is not left waiting.
    let answer = client.response_to("GET").await;
    assert!(answer.is_none_or(|response| response.status == 503));
    rig.gateway.wait_exit().await;
    rig.gateway.wait_for_log(|entry| entry["path"] == "/orders/1").await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (mut rig, _sign, _client) = held(Policy::default().gateway("timeouts: { drain: 1h }")).await;
    rig.gateway.signal("TERM");
    support::eventually("it drains", || async {
        (rig.gateway.admin("GET", "/readyz").send().await.status == 503).then_some(())
    })
    .await;
    assert!(rig.gateway.runs());
    rig.gateway.signal("TERM");
    // A drain of an hour, and an end within the patience of this test.
    rig.gateway.wait_exit().await;
}

#[tokio::test]
async fn an_interrupt_is_as_good_as_a_termination() {
    let mut rig = Rig::start().await;
    rig.gateway.signal("INT");
    assert_eq!(rig.gateway.wait_exit().await, Some(0));
}

#[tokio::test]
async fn an_open_stream_is_ended_by_the_drain() {
    let mut rig = Rig::with(Policy::default().gateway("timeouts: { drain: 1s }")).await;
    let (events, source) = mpsc::unbounded_channel();
    let source = std::sync::Mutex::new(Some(source));
    rig.upstream.answers(move |_| Reply::Stream(source.lock().unwrap().take().unwrap()));
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(rig.get("/orders/1").bytes()).await;
    events.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n".to_vec()).unwrap();
    client.until("data: 1").await;
    rig.gateway.signal("TERM");
    rig.gateway.wait_exit().await;
    while !client.closes().await {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_every_request_that_was_sent_is_answered() {
    let mut rig = Rig::start().await;
    let call = rig.get("/orders/1");
    let address = rig.gateway.address();
    let mut clients = tokio::task::JoinSet::new();
    let running = Arc::new(tokio::sync::Barrier::new(9));
    for _ in 0..8 {
        let (call, running) = (call.clone(), Arc::clone(&running));
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut answered = 0;
            loop {
                // Only a connection that is closed between two requests may refuse the next one.
                let Some(response) = call.on(&mut client).await else {
                    return answered;
                };
                assert_eq!(response.verdict(), "200 -");
                answered += 1;
                if answered == 100 {
                    running.wait().await;
                }
                if response.header("connection") == Some("close") {
                    return answered;
                }
            }
        });
    }
    running.wait().await;
    rig.gateway.signal("TERM");
    let mut answered = 0;
    while let Some(result) = clients.join_next().await {
        answered += result.unwrap();
    }
    assert_eq!(rig.gateway.wait_exit().await, Some(0));
    let forwarded = rig.upstream.requests().len();
    assert!(forwarded <= answered, "{forwarded} requests were forwarded, and only {answered} answered");
}

#[tokio::test]
async fn http2_streams_are_finished_too() {
    let mut rig = Rig::start().await;
    let sign = Arc::new(Notify::new());
    let held = Arc::clone(&sign);
    rig.upstream.answers(move |_| Reply::When(Arc::clone(&held), Box::new(ok("at last"))));
    let url = format!("http://{}/orders/1", rig.gateway.address());
    let authorization = format!("authorization: Bearer {}", rig.token());
    let curl = tokio::spawn(async move {
        process::curl(["--http2-prior-knowledge", "-H", "host: api.example.com", "-H", &authorization, &url])
            .await
    });
    rig.upstream.wait("the request arrives", |upstream| upstream.requests().len() == 1).await;
    rig.gateway.signal("TERM");
    support::eventually("it drains", || async {
        (rig.gateway.admin("GET", "/readyz").send().await.status == 503).then_some(())
    })
    .await;
    sign.notify_one();
    let output = curl.await.unwrap();
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "at last"), "{output:?}");
    assert_eq!(rig.gateway.wait_exit().await, Some(0));
}
