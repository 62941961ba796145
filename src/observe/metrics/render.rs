//! From sums to the text that is scraped.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prometheus::TextEncoder;
use prometheus::proto::{self, LabelPair, Metric, MetricFamily};

use super::Metrics;
use super::cells::{Distribution, Level, Series, Span, Sums, lock};
use super::labels::{NONE_NAME, Names, OTHER_NAME, StreamError};
use super::names::{self, Name};
use crate::observe::trace;
use crate::types::{IssuerName, UpstreamName};

/// Counts of the token cache at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCacheStats {
    /// Tokens whose facts were remembered, since start.
    pub hits: u64,
    /// Tokens that had to be verified, since start.
    pub misses: u64,
    /// Facts dropped for want of room, since start.
    pub evictions: u64,
    /// Memory in use.
    pub bytes: u64,
}

/// What is read from live state when metrics are scraped.
#[derive(Debug, Default)]
pub struct Extra {
    key_ages: Vec<Metric>,
    key_counts: Vec<Metric>,
    token_cache: Option<TokenCacheStats>,
    failing_addresses: Vec<Metric>,
}

impl Extra {
    /// How many addresses of an upstream refuse connections. Call it once for each upstream.
    pub fn failing_addresses(&mut self, upstream: &UpstreamName, count: usize) {
        self.failing_addresses.push(gauge(&[("upstream", upstream.as_str())], float(count as u64)));
    }

    /// The state of an issuer's keys: time since they were last fetched with success, `None` if never; and how many
    /// are usable. Call it once for each issuer.
    pub fn jwks(&mut self, issuer: &IssuerName, age: Option<Duration>, keys: usize) {
        let labels = [("issuer", issuer.as_str())];
        if let Some(age) = age {
            self.key_ages.push(gauge(&labels, age.as_secs_f64()));
        }
        self.key_counts.push(gauge(&labels, float(keys as u64)));
    }

    /// The state of the token cache.
    pub fn token_cache(&mut self, stats: TokenCacheStats) {
        self.token_cache = Some(stats);
    }
}

pub(super) fn render(metrics: &Metrics, extra: impl FnOnce(&mut Extra)) -> Result<String, prometheus::Error> {
    let mut live = Extra::default();
    extra(&mut live);
    let mut families = Families::default();
    let sums = lock(&metrics.registry).sums();
    requests(&mut families, metrics, &sums);
    upstreams(&mut families, metrics, &sums, &mut live);
    gateway(&mut families, metrics, &sums);
    policy(&mut families, metrics);
    issuers(&mut families, metrics, &mut live);
    if let Some(stats) = live.token_cache {
        families.add(&names::TOKEN_CACHE_HITS, vec![counter(&[], stats.hits)]);
        families.add(&names::TOKEN_CACHE_MISSES, vec![counter(&[], stats.misses)]);
        families.add(&names::TOKEN_CACHE_EVICTIONS, vec![counter(&[], stats.evictions)]);
        families.add(&names::TOKEN_CACHE_BYTES, vec![gauge(&[], float(stats.bytes))]);
    }
    families.0.extend(metrics.process.collect());
    TextEncoder::new().encode_to_string(&families.0)
}

fn requests(families: &mut Families, metrics: &Metrics, sums: &Sums) {
    let routes = lock(&metrics.routes);
    let mut requests = Vec::new();
    let mut decisions = Vec::new();
    let mut failures = Vec::new();
    let mut removed = Vec::new();
    for (series, count) in &sums.counters {
        match *series {
            Series::Request { route, method, status } => {
                let number = status.to_string();
                let status = if status == 0 { OTHER_NAME } else { number.as_str() };
                let labels = [("route", routes.name(route)), ("method", method.as_str()), ("status", status)];
                requests.push(counter(&labels, *count));
            }
            Series::Decision { route, decision, reason } => {
                let reason = reason.map_or(NONE_NAME, |reason| reason.as_str());
                let labels =
                    [("route", routes.name(route)), ("decision", decision.as_str()), ("reason", reason)];
                decisions.push(counter(&labels, *count));
            }
            Series::Failure { route, reason } => {
                let labels = [("route", routes.name(route)), ("reason", reason.as_str())];
                failures.push(counter(&labels, *count));
            }
            Series::RemovedFields { route } => {
                removed.push(counter(&[("route", routes.name(route))], *count));
            }
            Series::UpstreamError { .. }
            | Series::ConnectError { .. }
            | Series::Closed(_)
            | Series::ResetStream(_)
            | Series::StalledStream
            | Series::AcceptError
            | Series::Panic => {}
        }
    }
    let durations = sums.histograms.iter().filter_map(|(span, distribution)| match *span {
        Span::Request(route) => Some(histogram(&[("route", routes.name(route))], distribution)),
        Span::Decision | Span::Upstream(_) => None,
    });
    let deciding = sums.histograms.iter().filter_map(|(span, distribution)| match *span {
        Span::Decision => Some(histogram(&[], distribution)),
        Span::Request(_) | Span::Upstream(_) => None,
    });
    families.add(&names::REQUESTS, requests);
    families.add(&names::REQUEST_DURATION, durations.collect());
    families.add(&names::DECISIONS, decisions);
    families.add(&names::FAILURES, failures);
    families.add(&names::DECISION_DURATION, deciding.collect());
    families.add(&names::REMOVED_FIELDS, removed);
}

fn upstreams(families: &mut Families, metrics: &Metrics, sums: &Sums, live: &mut Extra) {
    let upstreams = lock(&metrics.upstreams);
    let durations = sums.histograms.iter().filter_map(|(span, distribution)| match *span {
        Span::Upstream(upstream) => Some(histogram(&[("upstream", upstreams.name(upstream))], distribution)),
        Span::Decision | Span::Request(_) => None,
    });
    let errors = sums.counters.iter().filter_map(|(series, count)| match *series {
        Series::UpstreamError { upstream, reason } => {
            Some(counter(&[("upstream", upstreams.name(upstream)), ("reason", reason.as_str())], *count))
        }
        Series::Request { .. }
        | Series::Decision { .. }
        | Series::Failure { .. }
        | Series::RemovedFields { .. }
        | Series::ConnectError { .. }
        | Series::Closed(_)
        | Series::ResetStream(_)
        | Series::StalledStream
        | Series::AcceptError
        | Series::Panic => None,
    });
    let refusals = sums.counters.iter().filter_map(|(series, count)| match *series {
        Series::ConnectError { upstream, fault } => {
            Some(counter(&[("upstream", upstreams.name(upstream)), ("cause", fault.as_str())], *count))
        }
        Series::Request { .. }
        | Series::Decision { .. }
        | Series::Failure { .. }
        | Series::RemovedFields { .. }
        | Series::UpstreamError { .. }
        | Series::Closed(_)
        | Series::ResetStream(_)
        | Series::StalledStream
        | Series::AcceptError
        | Series::Panic => None,
    });
    let connections = sums.gauges.iter().filter_map(|(level, value)| match *level {
        Level::UpstreamConnections(upstream) => {
            Some(labelled_gauge("upstream", &upstreams, upstream, *value))
        }
        Level::Connections(_) | Level::InFlight => None,
    });
    families.add(&names::UPSTREAM_DURATION, durations.collect());
    families.add(&names::UPSTREAM_ERRORS, errors.collect());
    families.add(&names::CONNECT_ERRORS, refusals.collect());
    families.add(&names::UPSTREAM_CONNECTIONS, connections.collect());
    families.add(&names::FAILING_ADDRESSES, std::mem::take(&mut live.failing_addresses));
}

fn gateway(families: &mut Families, metrics: &Metrics, sums: &Sums) {
    let listeners = lock(&metrics.listeners);
    let connections = sums.gauges.iter().filter_map(|(level, value)| match *level {
        Level::Connections(listener) => Some(labelled_gauge("listener", &listeners, listener, *value)),
        Level::InFlight | Level::UpstreamConnections(_) => None,
    });
    let in_flight =
        sums.gauges.iter().filter(|(level, _)| *level == Level::InFlight).map(|(_, value)| *value);
    let of = |series| sums.counters.iter().find(|(other, _)| *other == series).map_or(0, |(_, count)| *count);
    let closed = sums.counters.iter().filter_map(|(series, count)| match *series {
        Series::Closed(cause) => Some(counter(&[("cause", cause.as_str())], *count)),
        Series::Request { .. }
        | Series::Decision { .. }
        | Series::Failure { .. }
        | Series::RemovedFields { .. }
        | Series::UpstreamError { .. }
        | Series::ConnectError { .. }
        | Series::ResetStream(_)
        | Series::StalledStream
        | Series::AcceptError
        | Series::Panic => None,
    });
    let resets = StreamError::all().filter_map(|error| {
        let count = of(Series::ResetStream(error));
        (count > 0).then(|| counter(&[("code", error.as_str())], count))
    });
    let dropped = metrics.access_log_dropped.load(Relaxed);
    families.add(&names::CONNECTIONS, connections.collect());
    families.add(&names::IN_FLIGHT, vec![gauge(&[], signed(in_flight.sum()))]);
    families.add(&names::CONNECTIONS_CLOSED, closed.collect());
    families.add(&names::RESET_STREAMS, resets.collect());
    families.add(&names::STALLED_STREAMS, vec![counter(&[], of(Series::StalledStream))]);
    families.add(&names::ACCEPT_ERRORS, vec![counter(&[], of(Series::AcceptError))]);
    families.add(&names::PANICS, vec![counter(&[], of(Series::Panic))]);
    families.add(&names::ACCESS_LOG_DROPPED, vec![counter(&[], dropped)]);
    families.add(&names::DIAGNOSTICS_DROPPED, vec![counter(&[], trace::dropped())]);
    families.add(&names::BUILD_INFO, vec![gauge(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)]);
}

fn policy(families: &mut Families, metrics: &Metrics) {
    let policy = lock(&metrics.policy);
    let [applied, unchanged, refused] = policy.reloads;
    let outcome = |name, count| counter(&[("outcome", name)], count);
    families.add(
        &names::POLICY_RELOADS,
        vec![outcome("applied", applied), outcome("refused", refused), outcome("unchanged", unchanged)],
    );
    let successful = if policy.last_refused { 0.0 } else { 1.0 };
    families.add(&names::POLICY_LAST_SUCCESSFUL, vec![gauge(&[], successful)]);
    families.add(&names::POLICY_REVISION, vec![gauge(&[], float(policy.revision))]);
    if let Some((hash, since)) = &policy.in_force {
        families.add(&names::POLICY_INFO, vec![gauge(&[("hash", hash)], 1.0)]);
        families.add(&names::POLICY_LAST_SUCCESS, vec![gauge(&[], signed(since.0))]);
    }
}

fn issuers(families: &mut Families, metrics: &Metrics, live: &mut Extra) {
    let mut refreshes = Vec::new();
    for (issuer, [changed, unchanged, failed]) in lock(&metrics.refreshes).iter() {
        for (outcome, count) in [("changed", changed), ("failed", failed), ("unchanged", unchanged)] {
            refreshes.push(counter(&[("issuer", issuer.as_str()), ("outcome", outcome)], *count));
        }
    }
    families.add(&names::JWKS_REFRESHES, refreshes);
    families.add(&names::JWKS_AGE, std::mem::take(&mut live.key_ages));
    families.add(&names::JWKS_KEYS, std::mem::take(&mut live.key_counts));
}

/// The families of one scrape. One without samples is left out: the encoder refuses it.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    fn add(&mut self, name: &Name, samples: Vec<Metric>) {
        if samples.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.name.to_owned());
        family.set_help(name.help.to_owned());
        family.set_field_type(name.kind);
        family.set_metric(samples);
        self.0.push(family);
    }
}

fn sample(labels: &[(&str, &str)]) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

fn counter(labels: &[(&str, &str)], count: u64) -> Metric {
    let mut value = proto::Counter::default();
    value.set_value(float(count));
    let mut sample = sample(labels);
    sample.set_counter(value);
    sample
}

fn gauge(labels: &[(&str, &str)], level: f64) -> Metric {
    let mut value = proto::Gauge::default();
    value.set_value(level);
    let mut sample = sample(labels);
    sample.set_gauge(value);
    sample
}

fn labelled_gauge(label: &str, names: &Names, handle: u32, value: i64) -> Metric {
    gauge(&[(label, names.name(handle))], signed(value))
}

fn histogram(labels: &[(&str, &str)], distribution: &Distribution) -> Metric {
    let mut count = 0;
    let cumulative = distribution.buckets.iter().map(|(bound, own)| {
        count += own;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut value = proto::Histogram::default();
    value.set_bucket(cumulative.collect());
    value.set_sample_count(count + distribution.above);
    value.set_sample_sum(distribution.sum);
    let mut sample = sample(labels);
    sample.set_histogram(value);
    sample
}

/// The format knows floats only; they are exact up to 2^53.
fn float(count: u64) -> f64 {
    count as f64
}

fn signed(value: i64) -> f64 {
    value as f64
}

/// CPU time, memory and file descriptors of this process, where the platform tells them.
pub(super) struct Process {
    #[cfg(target_os = "linux")]
    collector: prometheus::process_collector::ProcessCollector,
}

impl Process {
    #[cfg(target_os = "linux")]
    pub(super) fn new() -> Self {
        Self { collector: prometheus::process_collector::ProcessCollector::for_self() }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn new() -> Self {
        Self {}
    }

    #[cfg(target_os = "linux")]
    fn collect(&self) -> Vec<MetricFamily> {
        prometheus::core::Collector::collect(&self.collector)
    }

    #[cfg(not(target_os = "linux"))]
    fn collect(&self) -> Vec<MetricFamily> {
        Vec::new()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}
