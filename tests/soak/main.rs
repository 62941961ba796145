//! A long mixed load with everything going wrong around it: reloads every ten seconds, upstreams that restart, an issuer
//! that fails and rotates its keys, hostile clients.
//!
//! 1. No answer is ever wrong: what is permitted comes back whole with its own nonce, what is refused with its reason. A
//!    request may end in 502, 503 or 504, or break off, only while the upstream is down.
//! 2. Nothing grows: in a run of two minutes or more, memory, file descriptors, threads and metric series of the last quarter
//!    are those of the second; without clients there are no connections and no requests.
//! 3. Nothing panics, and no token is in the log.
//! 4. All of it took place: each kind of client was permitted, and each kind of trouble came.
//!
//! Among the other tests it runs for a few seconds. `scripts/soak [minutes]` gives it more, and a release build.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![expect(clippy::indexing_slicing, reason = "a test stops where it fails")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it reports to whoever runs it")]

#[path = "../support/mod.rs"]
mod support;

mod api;
mod clients;
mod faults;
mod hostile;
mod report;
mod world;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use world::World;

/// How long it runs: `SCOPEGATE_SOAK_MINUTES`, or a few seconds.
fn duration() -> Duration {
    match std::env::var("SCOPEGATE_SOAK_MINUTES") {
        Ok(minutes) => Duration::from_secs_f64(60.0 * minutes.parse::<f64>().expect("a number of minutes")),
        Err(_) => Duration::from_secs(10),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_mixed_load_is_answered_right_and_leaves_nothing_behind() {
    let length = duration();
    let world = World::start(length).await;
    let idle = report::Sample::of(&world).await;

    let mut tasks = JoinSet::new();
    for kind in clients::Kind::ALL {
        tasks.spawn(clients::permitted(Arc::clone(&world), kind));
    }
    for _ in 0..2 {
        tasks.spawn(clients::refused(Arc::clone(&world)));
        tasks.spawn(hostile::rows(Arc::clone(&world)));
    }
    tasks.spawn(clients::tunnels(Arc::clone(&world)));
    tasks.spawn(faults::reloads(Arc::clone(&world)));
    tasks.spawn(faults::restarts(Arc::clone(&world)));
    tasks.spawn(faults::issuer(Arc::clone(&world)));
    let samples = tokio::spawn(report::samples(Arc::clone(&world)));
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no part of the soak panics");
    }
    let samples = samples.await.unwrap();
    let left = report::left_behind(&world, &idle).await;
    report::conclude(&world, &idle, &samples, &left);
}
