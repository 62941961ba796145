//! What the gateway uses, and the verdict at the end.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use crate::clients::Kind;
use crate::support::eventually;
use crate::world::World;

/// How much may differ: allocators keep some of what was given back, and a series begins with the first time of its kind.
const SLACK: f64 = 1.10;
const SLACK_KIB: f64 = 8.0 * 1024.0;
/// From this length on there is enough of a second quarter to compare the last with.
const COMPARABLE: Duration = Duration::from_secs(120);

/// What the gateway's process has at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// Resident memory.
    pub(crate) rss_kib: u64,
    /// Open files.
    pub(crate) files: usize,
    /// Threads.
    pub(crate) threads: u64,
    /// Lines of `/metrics` that are a series.
    pub(crate) series: usize,
    /// Requests being handled.
    pub(crate) in_flight: f64,
    /// Client connections.
    pub(crate) connections: f64,
}

impl Sample {
    /// Now.
    pub(crate) async fn of(world: &World) -> Self {
        let process = format!("/proc/{}", world.gateway.pid());
        let status = std::fs::read_to_string(format!("{process}/status")).expect("the gateway runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field of status");
            line.split_whitespace().next().and_then(|value| value.parse().ok()).expect("a number")
        };
        let metrics = world.gateway.metrics().await;
        let total = |name: &str| {
            // A name may be the beginning of another.
            let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            let lines = metrics.lines().filter(of);
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .fold(0.0, |sum, value| sum + value)
        };
        Self {
            rss_kib: field("VmRSS:"),
            files: std::fs::read_dir(format!("{process}/fd")).expect("the gateway runs").count(),
            threads: field("Threads:"),
            series: metrics.lines().filter(|line| !line.starts_with('#')).count(),
            in_flight: total("scopegate_in_flight_requests"),
            connections: total("scopegate_connections"),
        }
    }
}

/// Looks once a second until the soak is over, and reads the access log meanwhile.
pub(crate) async fn samples(world: Arc<World>) -> Vec<Sample> {
    let mut samples = Vec::new();
    while world.pause(Duration::from_secs(1)).await {
        samples.push(Sample::of(&world).await);
        read_log(&world);
    }
    samples
}

/// Each line of the access log is JSON and holds no token.
fn read_log(world: &World) {
    for line in world.gateway.take_log() {
        world.count("log lines");
        if serde_json::from_str::<serde_json::Value>(&line).is_err() || line.contains("eyJ") {
            world.fault(format!("log line: {line}"));
        }
    }
}

/// What is left once all clients are gone.
pub(crate) async fn left_behind(world: &World, idle: &Sample) -> Sample {
    let left = eventually("the clients' connections are gone", || async {
        let sample = Sample::of(world).await;
        // Some connections to the upstream are kept for the next request.
        (sample.in_flight == 0.0 && sample.connections == 0.0 && sample.files <= idle.files + 32)
            .then_some(sample)
    });
    let left = left.await;
    read_log(world);
    left
}

/// Prints the figures, writes them to the file that `SCOPEGATE_SOAK_JSON` names, and fails if anything is wrong.
pub(crate) fn conclude(world: &World, idle: &Sample, samples: &[Sample], left: &Sample) {
    let quarter = |of: usize| &samples[samples.len() * of / 4..samples.len() * (of + 1) / 4];
    let (early, late) = (quarter(1), quarter(3));
    let mut wrong = world.faults();
    if world.api.smuggled() > 0 {
        wrong.push(format!("{} requests were forwarded that nobody was permitted", world.api.smuggled()));
    }
    if world.gateway.output().contains("panicked at") {
        wrong.push("the gateway panicked".to_owned());
    }
    let comparable = world.length >= COMPARABLE;
    let mut compare = |what: &str, of: fn(&Sample) -> f64, slack: f64| {
        let (before, after) = (mean(early, of), mean(late, of));
        println!("{what:>16}: {before:10.1} in the second quarter, {after:10.1} in the last");
        if comparable && after > before * SLACK + slack {
            wrong.push(format!("{what} grew from {before:.1} to {after:.1}"));
        }
    };
    compare("memory in KiB", |sample| sample.rss_kib as f64, SLACK_KIB);
    compare("open files", |sample| sample.files as f64, 8.0);
    compare("threads", |sample| sample.threads as f64, 1.0);
    compare("metric series", |sample| sample.series as f64, 0.0);
    for (what, count) in world.counts() {
        println!("{count:10}  {what}");
    }
    println!("{:10}  requests at the upstream", world.api.served());
    println!("at rest: {idle:?}\n  after: {left:?}");
    let figures = json!({
        "seconds": world.length.as_secs_f64(),
        "counts": world.counts(),
        "requests_at_the_upstream": world.api.served(),
        "idle": idle,
        "left": left,
        "samples": samples,
        "wrong": wrong,
    });
    if let Ok(path) = std::env::var("SCOPEGATE_SOAK_JSON") {
        std::fs::write(&path, format!("{figures:#}\n")).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let counts = world.counts();
    let permitted = Kind::ALL.map(|kind| format!("permitted {kind:?}"));
    let troubles =
        ["tunnels", "hostile rows", "reloads", "upstream restarts", "issuer outages with new keys"];
    for what in permitted.iter().map(String::as_str).chain(troubles) {
        assert!(counts.contains_key(what), "there were no {what}: {counts:?}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn mean(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    samples.iter().map(of).sum::<f64>() / samples.len().max(1) as f64
}
