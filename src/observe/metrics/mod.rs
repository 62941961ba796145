//! Metrics: recorded by each worker for itself, summed when they are scraped.
//!
//! 1. Label values come from configuration or from closed sets, so that no client can add a series: methods are the
//!    nine standard ones or `other`, status codes are 100 – 599 or `other`, reasons are [`Reason`]s.
//! 2. A request without a route has the route label `none`.
//! 3. Handles are interned by name and are the same after a reload, so counts go on. Series of a route that was
//!    removed stay until the process ends: a counter that vanishes and comes back would look like a restart.
//! 4. What stays is bounded: each kind of name has at most [`MAX_NAMES`] labels, and what is configured beyond that
//!    counts as `other`. A route in use takes, for each worker that saw it, about 0.3 KiB for its durations and
//!    0.1 KiB for each pair of method and status; an unused route takes only its name.
//! 5. A worker records without waiting: a lock is taken at the first use of a series only.

mod cells;
mod labels;
mod names;
mod render;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;

use self::cells::{Counter, Gauge, Histogram, KeyHasher, Level, Registry, Series, Span, lock};
pub use self::labels::{Cause, ConnectFault, StreamError};
use self::labels::{MethodLabel, Names, OTHER_NAME, label};
pub use self::names::{NAMES, Name};
pub use self::render::{Extra, TokenCacheStats};
use crate::reject::Reason;
use crate::types::{IssuerName, RouteId, Timestamp, UpstreamName};

/// Most labels of one kind (routes, upstreams, listeners, issuers); the rest count as `other`.
pub const MAX_NAMES: usize = 10_000;

/// The `Content-Type` of what [`Metrics::render`] gives.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A route as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetricRoute(u32);

/// An upstream as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetricUpstream(u32);

/// A listener as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetricListener(u32);

/// How a request was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Decision {
    /// Refused.
    Deny,
    /// Let through.
    Permit,
    /// Would have been refused, but its route is in shadow mode.
    Shadow,
}

/// How an attempt to load the policy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// It is in force.
    Applied,
    /// It says what is in force already.
    Unchanged,
    /// It has errors; the last good policy stays.
    Refused,
}

/// How a fetch of an issuer's keys ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// Other keys than before.
    Changed,
    /// The same keys as before.
    Unchanged,
    /// No keys; those from before stay until they are too old.
    Failed,
}

/// The metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    routes: Mutex<Names>,
    upstreams: Mutex<Names>,
    listeners: Mutex<Names>,
    policy: Mutex<Policy>,
    /// By issuer: changed, unchanged, failed.
    refreshes: Mutex<BTreeMap<IssuerName, [u64; 3]>>,
    access_log_dropped: AtomicU64,
    process: render::Process,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            registry: Mutex::default(),
            routes: Mutex::default(),
            upstreams: Mutex::default(),
            listeners: Mutex::default(),
            policy: Mutex::default(),
            refreshes: Mutex::default(),
            access_log_dropped: AtomicU64::new(0),
            process: render::Process::new(),
        }
    }
}

impl Metrics {
    /// Metrics that are all zero.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The recorder of one worker. Call it on the worker's own thread: it cannot leave it.
    pub fn worker(self: &Arc<Self>) -> WorkerMetrics {
        let mut registry = lock(&self.registry);
        WorkerMetrics {
            metrics: Arc::clone(self),
            counters: RefCell::default(),
            gauges: RefCell::default(),
            requests: RefCell::default(),
            upstreams: RefCell::default(),
            decision: registry.histogram(Span::Decision),
            in_flight: registry.gauge(Level::InFlight),
            one_thread: PhantomData,
        }
    }

    /// The label of a route, the same for the same id. Resolve it once, when a snapshot is built.
    pub fn route_handle(&self, id: &RouteId) -> MetricRoute {
        MetricRoute(lock(&self.routes).intern(id.as_str()))
    }

    /// The label of an upstream, the same for the same name. Resolve it once, when a snapshot is built.
    pub fn upstream_handle(&self, name: &UpstreamName) -> MetricUpstream {
        MetricUpstream(lock(&self.upstreams).intern(name.as_str()))
    }

    /// The label of a listener: its address as bound.
    pub fn listener_handle(&self, address: SocketAddr) -> MetricListener {
        MetricListener(lock(&self.listeners).intern(&address.to_string()))
    }

    /// An attempt to load the policy ended.
    pub fn policy_reload(&self, outcome: ReloadOutcome) {
        let mut policy = lock(&self.policy);
        let [applied, unchanged, refused] = &mut policy.reloads;
        *match outcome {
            ReloadOutcome::Applied => applied,
            ReloadOutcome::Unchanged => unchanged,
            ReloadOutcome::Refused => refused,
        } += 1;
        policy.last_refused = outcome == ReloadOutcome::Refused;
    }

    /// A policy is in force from now on; `hash` is [`crate::snapshot::Snapshot::hash`]. The series of the one before
    /// goes.
    pub fn policy_applied(&self, hash: &str, now: Timestamp) {
        let mut policy = lock(&self.policy);
        policy.revision += 1;
        policy.in_force = Some((hash.into(), now));
    }

    /// How many policies were put in force so far.
    pub fn revision(&self) -> u64 {
        lock(&self.policy).revision
    }

    /// A fetch of an issuer's keys ended.
    pub fn jwks_refresh(&self, issuer: &IssuerName, outcome: RefreshOutcome) {
        let mut refreshes = lock(&self.refreshes);
        let full = refreshes.len() >= MAX_NAMES && !refreshes.contains_key(issuer);
        let label = if full { IssuerName::new(OTHER_NAME) } else { issuer.clone() };
        let [changed, unchanged, failed] = refreshes.entry(label).or_default();
        *match outcome {
            RefreshOutcome::Changed => changed,
            RefreshOutcome::Unchanged => unchanged,
            RefreshOutcome::Failed => failed,
        } += 1;
    }

    /// This many access log lines were lost.
    pub fn access_log_dropped(&self, lines: u64) {
        self.access_log_dropped.fetch_add(lines, Relaxed);
    }

    /// Everything in the Prometheus text format, see [`CONTENT_TYPE`]. `extra` adds what is read from live state at
    /// this moment.
    ///
    /// # Errors
    /// If the encoder refuses a metric, which would be a fault of this module.
    pub fn render(&self, extra: impl FnOnce(&mut Extra)) -> Result<String, prometheus::Error> {
        render::render(self, extra)
    }
}

/// What one worker records. It belongs to the thread that made it: its cells have one writer.
#[derive(Debug)]
pub struct WorkerMetrics {
    metrics: Arc<Metrics>,
    counters: RefCell<HashMap<Series, Arc<Counter>, BuildHasherDefault<KeyHasher>>>,
    gauges: RefCell<HashMap<Level, Arc<Gauge>, BuildHasherDefault<KeyHasher>>>,
    /// By route handle.
    requests: RefCell<Vec<Option<Arc<Histogram>>>>,
    /// By upstream handle.
    upstreams: RefCell<Vec<Option<Arc<Histogram>>>>,
    decision: Arc<Histogram>,
    in_flight: Arc<Gauge>,
    one_thread: PhantomData<Rc<()>>,
}

impl WorkerMetrics {
    /// A request was answered: `duration` from its head to the end of the answer.
    pub fn request(&self, route: Option<MetricRoute>, method: &Method, status: u16, duration: Duration) {
        let route = label(route);
        self.count(Series::Request {
            route,
            method: MethodLabel::of(method),
            status: if (100..=599).contains(&status) { status } else { 0 },
        });
        self.observe(&self.requests, route, Span::Request(route), duration);
    }

    /// A request was decided. A permit has no reason; a shadow has the reason it would have been refused for.
    pub fn decision(&self, route: Option<MetricRoute>, decision: Decision, reason: Option<Reason>) {
        let route = label(route);
        self.count(Series::Decision { route, decision, reason });
    }

    /// A request that was permitted ended early.
    pub fn failed(&self, route: Option<MetricRoute>, reason: Reason) {
        self.count(Series::Failure { route: label(route), reason });
    }

    /// This many fields of a request were removed for their names.
    pub fn removed_fields(&self, route: Option<MetricRoute>, fields: u64) {
        if fields > 0 {
            self.add(Series::RemovedFields { route: label(route) }, fields);
        }
    }

    /// How long a decision took, without waiting for keys.
    pub fn decision_duration(&self, duration: Duration) {
        self.decision.observe(duration);
    }

    /// An upstream answered: `duration` from forwarding to the head of its answer.
    pub fn upstream(&self, upstream: MetricUpstream, duration: Duration) {
        self.observe(&self.upstreams, upstream.0, Span::Upstream(upstream.0), duration);
    }

    /// An upstream did not answer.
    pub fn upstream_error(&self, upstream: MetricUpstream, reason: Reason) {
        self.count(Series::UpstreamError { upstream: upstream.0, reason });
    }

    /// A connection to an upstream could not be opened.
    pub fn connect_error(&self, upstream: MetricUpstream, fault: ConnectFault) {
        self.count(Series::ConnectError { upstream: upstream.0, fault });
    }

    /// A client connection was opened; it is counted until the guard is dropped.
    pub fn connection_opened(&self, listener: MetricListener) -> Counted {
        Counted::new(self.gauge(Level::Connections(listener.0)))
    }

    /// A connection to an upstream was opened; it is counted until the guard is dropped.
    pub fn upstream_connection_opened(&self, upstream: MetricUpstream) -> Counted {
        Counted::new(self.gauge(Level::UpstreamConnections(upstream.0)))
    }

    /// A request is being handled; it is counted until the guard is dropped.
    pub fn in_flight(&self) -> Counted {
        Counted::new(Arc::clone(&self.in_flight))
    }

    /// A client connection ended.
    pub fn connection_closed(&self, cause: Cause) {
        self.count(Series::Closed(cause));
    }

    /// A stream was reset.
    pub fn stream_reset(&self, error: StreamError) {
        self.count(Series::ResetStream(error));
    }

    /// A stream was reset because its client took too little of the answer.
    pub fn stalled_stream(&self) {
        self.count(Series::StalledStream);
    }

    /// The system refused to hand over a connection.
    pub fn accept_error(&self) {
        self.count(Series::AcceptError);
    }

    /// A request ended in a fault of the gateway.
    pub fn panic(&self) {
        self.count(Series::Panic);
    }

    fn count(&self, series: Series) {
        self.add(series, 1);
    }

    fn add(&self, series: Series, count: u64) {
        let mut counters = self.counters.borrow_mut();
        counters.entry(series).or_insert_with(|| lock(&self.metrics.registry).counter(series)).add(count);
    }

    fn gauge(&self, level: Level) -> Arc<Gauge> {
        let mut gauges = self.gauges.borrow_mut();
        Arc::clone(gauges.entry(level).or_insert_with(|| lock(&self.metrics.registry).gauge(level)))
    }

    fn observe(
        &self,
        histograms: &RefCell<Vec<Option<Arc<Histogram>>>>,
        handle: u32,
        span: Span,
        duration: Duration,
    ) {
        let mut histograms = histograms.borrow_mut();
        let position = handle as usize;
        if histograms.len() <= position {
            histograms.resize(position + 1, None);
        }
        if let Some(slot) = histograms.get_mut(position) {
            slot.get_or_insert_with(|| lock(&self.metrics.registry).histogram(span)).observe(duration);
        }
    }
}

/// Something that is counted while it lasts. It stays on its worker's thread.
#[derive(Debug)]
#[must_use = "what is not held is not counted"]
pub struct Counted {
    gauge: Arc<Gauge>,
    one_thread: PhantomData<Rc<()>>,
}

impl Counted {
    fn new(gauge: Arc<Gauge>) -> Self {
        gauge.add(1);
        Self { gauge, one_thread: PhantomData }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.add(-1);
    }
}

impl Decision {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Permit => "permit",
            Self::Shadow => "shadow",
        }
    }
}

/// The policy in force and how it came.
#[derive(Debug, Default)]
struct Policy {
    /// Applied, unchanged, refused.
    reloads: [u64; 3],
    last_refused: bool,
    revision: u64,
    in_force: Option<(Box<str>, Timestamp)>,
}
