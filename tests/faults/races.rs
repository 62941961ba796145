//! Connections that end around the moment a request is sent on them, and what is sent a second time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::script::{OK, Scripted, Wire};
use super::{Client, Rig};

/// How an upstream ends a connection that it has answered on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// FIN, at about the moment of the next request.
    Fin,
    /// RST, at about the moment of the next request.
    Reset,
    /// After it has read the next request.
    AfterReading,
}

/// Answers the first request, and ends the connection at about the moment of the second. Counts those that came too late.
async fn answer_once(mut wire: Wire, ending: Ending, answered: Arc<Notify>, raced: Arc<AtomicUsize>) {
    if wire.request().await.is_none() {
        return;
    }
    wire.send(OK).await;
    if ending == Ending::AfterReading {
        raced.fetch_add(usize::from(wire.request().await.is_some()), Ordering::SeqCst);
        return;
    }
    answered.notified().await;
    // Not a wait for anything: it spreads the moments over what a request takes.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_micros(wire.number as u64 * 7 % 500) {
        tokio::task::yield_now().await;
    }
    if ending == Ending::Fin {
        wire.finish().await;
        raced.fetch_add(usize::from(wire.request().await.is_some()), Ordering::SeqCst);
    } else {
        raced.fetch_add(usize::from(wire.has_unread()), Ordering::SeqCst);
        wire.reset();
    }
}

/// Sends requests one after the other to an upstream that ends each connection like this, until enough have raced. Gives
/// how many of GET and POST were answered with 200, and how many of POST were not.
async fn race(ending: Ending) -> (usize, usize, usize) {
    let (answered, raced) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (sign, count) = (Arc::clone(&answered), Arc::clone(&raced));
    let upstream =
        Scripted::start(move |wire| answer_once(wire, ending, Arc::clone(&sign), Arc::clone(&count))).await;
    let rig = Rig::before(&upstream).await;
    let mut client = Client::connect(rig.gateway.address()).await;
    let (mut sent, mut gets, mut posts, mut lost) = (0, 0, 0, 0);
    while sent < 2_000 || raced.load(Ordering::SeqCst) < 20 {
        let (method, target) = (if sent % 3 == 0 { "POST" } else { "GET" }, format!("/{sent}"));
        let mut call = rig.call(method, &target);
        if method == "POST" {
            call = call.body("order");
        }
        let verdict = call.on(&mut client).await.unwrap().verdict();
        if verdict == "200 -" {
            // One for each connection, whether it waits already or not.
            answered.notify_one();
        }
        match (method, verdict.as_str()) {
            ("GET", "200 -") => gets += 1,
            ("POST", "200 -") => posts += 1,
            ("POST", "502 upstream_invalid") => lost += 1,
            _ => panic!("{ending:?}: {method} {target}: {verdict}"),
        }
        sent += 1;
    }
    let mut times = HashMap::new();
    upstream.requests().into_iter().for_each(|request| *times.entry(request).or_insert(0) += 1);
    let twice = times.iter().filter(|(request, times)| request.starts_with("POST") && **times > 1).count();
    assert_eq!(twice, 0, "{ending:?}: a request with effects was sent twice");
    let often = times.values().filter(|times| **times > 2).count();
    assert_eq!(often, 0, "{ending:?}: a request was sent more than twice");
    (gets, posts, lost)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_closes_around_the_next_request_costs_no_get_and_doubles_no_post() {
    for ending in [Ending::Fin, Ending::Reset, Ending::AfterReading] {
        let (gets, posts, lost) = race(ending).await;
        println!("{ending:?}: {gets} GET and {posts} POST answered, {lost} POST not");
        assert!(gets > 1_000 && posts > 0, "{ending:?}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_any_byte_is_tried_again_only_where_it_was_kept() {
    for reset in [false, true] {
        // Ends every connection instead of the n-th answer on it.
        for (answers, gets, posts) in [(0, 1, 1), (1, 2, 1)] {
            let upstream = Scripted::start(move |mut wire| async move {
                for _ in 0..answers {
                    wire.request().await;
                    wire.send(OK).await;
                }
                wire.request().await;
                if reset {
                    wire.reset();
                }
            })
            .await;
            let rig = Rig::before(&upstream).await;
            for (method, attempts) in [("GET", gets), ("PUT", gets), ("POST", posts), ("PATCH", posts)] {
                if answers > 0 {
                    assert_eq!(rig.verdict("POST", "/first").await, "200 -");
                }
                let before = upstream.count();
                let verdict = rig.verdict(method, "/second").await;
                assert_eq!(upstream.count() - before, attempts, "{method}, reset: {reset}, kept: {answers}");
                // A new connection answers once more; what may not be repeated has none.
                let expected = if attempts > 1 { "200 -" } else { "502 upstream_invalid" };
                assert_eq!(verdict, expected, "{method}, reset: {reset}, kept: {answers}");
                if attempts > 1 {
                    // Ends the connection that the second attempt has left.
                    assert_eq!(rig.verdict("POST", "/third").await, "502 upstream_invalid");
                }
            }
            rig.assert_good().await;
        }
    }
}

#[tokio::test]
async fn a_put_with_a_body_is_not_sent_twice() {
    let upstream = Scripted::start(|mut wire| async move {
        wire.request().await;
        wire.send(OK).await;
        wire.request().await;
    })
    .await;
    let rig = Rig::before(&upstream).await;
    assert_eq!(rig.verdict("GET", "/first").await, "200 -");
    let put = rig.call("PUT", "/second").body("half of it may have been taken");
    assert_eq!(put.send().await.verdict(), "502 upstream_invalid");
    assert_eq!(upstream.requests(), ["GET /first", "PUT /second"]);
}

#[tokio::test]
async fn an_upstream_that_fails_altogether_is_not_asked_more_often() {
    // It answers with 503, then resets every connection.
    let failing = Arc::new(AtomicUsize::new(0));
    let state = Arc::clone(&failing);
    let upstream = Scripted::start(move |mut wire| {
        let state = Arc::clone(&state);
        async move {
            while wire.request().await.is_some() {
                if state.load(Ordering::SeqCst) > 0 {
                    return wire.reset();
                }
                wire.send("HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let rig = Rig::before(&upstream).await;
    let storm = || futures_util::future::join_all((0..100).map(|_| rig.verdict("GET", "/1")));
    for verdict in storm().await {
        assert_eq!(verdict, "503 -");
    }
    assert_eq!(upstream.count(), 100, "an answer is never asked for again");
    let kept = upstream.open();
    assert!(kept > 0);
    failing.store(1, Ordering::SeqCst);
    for _ in 0..3 {
        for verdict in storm().await {
            assert_eq!(verdict, "502 upstream_invalid");
        }
    }
    let attempts = upstream.count() - 100;
    assert!(attempts <= 300 + kept, "{attempts} attempts for 300 requests, of {kept} kept connections");
}
