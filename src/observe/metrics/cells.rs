//! Numbers that one thread writes and any thread reads, and the registry that sums them.
//!
//! A cell has a single writer, so adding to it is a relaxed load and a relaxed store: no locked instruction, no cache
//! line that travels between workers. A reader may be a few nanoseconds behind, and that is all.

use std::collections::HashMap;
use std::hash::Hasher;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Cause, ConnectFault, Decision, MethodLabel, StreamError};
use crate::reject::Reason;

/// Locks, whatever became of the last holder: the data behind these locks is whole between any two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that only rises.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicI64);

impl Gauge {
    pub(super) fn add(&self, change: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(change), Relaxed);
    }

    pub(super) fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of the buckets of requests and upstreams: 1 ms to 60 s.
pub(super) static SLOW: [Duration; 15] = [
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// Upper bounds of the buckets of decisions: 1 µs to 10 ms.
pub(super) static FAST: [Duration; 13] = [
    Duration::from_micros(1),
    Duration::from_nanos(2_500),
    Duration::from_micros(5),
    Duration::from_micros(10),
    Duration::from_micros(25),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
];

/// Counts of durations by bucket, and their sum.
#[derive(Debug)]
pub(super) struct Histogram {
    /// Upper bounds, each inclusive, in rising order.
    bounds: &'static [Duration],
    /// One more than bounds: the last takes what is above them all. Not cumulative.
    buckets: Box<[AtomicU64]>,
    /// Seconds as the bits of an `f64`. Integer nanoseconds would wrap within days under many long requests.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [Duration]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0f64.to_bits()),
        }
    }

    pub(super) fn observe(&self, duration: Duration) {
        let position = self.bounds.partition_point(|bound| *bound < duration);
        if let Some(bucket) = self.buckets.get(position) {
            bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
        }
        let sum = f64::from_bits(self.sum.load(Relaxed)) + duration.as_secs_f64();
        self.sum.store(sum.to_bits(), Relaxed);
    }
}

/// What the histograms of one series add up to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Distribution {
    /// Upper bounds with the count of their own bucket.
    pub(super) buckets: Vec<(Duration, u64)>,
    /// Count above the last bound.
    pub(super) above: u64,
    /// Seconds.
    pub(super) sum: f64,
}

impl Distribution {
    fn of(parts: &[Arc<Histogram>]) -> Self {
        let bounds = parts.first().map_or(&[] as &[Duration], |first| first.bounds);
        let count = |position: usize| {
            parts
                .iter()
                .filter_map(|part| part.buckets.get(position))
                .map(|bucket| bucket.load(Relaxed))
                .sum()
        };
        Self {
            buckets: bounds.iter().enumerate().map(|(position, bound)| (*bound, count(position))).collect(),
            above: count(bounds.len()),
            sum: parts.iter().map(|part| f64::from_bits(part.sum.load(Relaxed))).sum(),
        }
    }
}

/// A counter of the workers. The numbers are handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Series {
    /// Status 0 stands for a code outside 100 – 599.
    Request {
        route: u32,
        method: MethodLabel,
        status: u16,
    },
    Decision {
        route: u32,
        decision: Decision,
        reason: Option<Reason>,
    },
    Failure {
        route: u32,
        reason: Reason,
    },
    RemovedFields {
        route: u32,
    },
    UpstreamError {
        upstream: u32,
        reason: Reason,
    },
    ConnectError {
        upstream: u32,
        fault: ConnectFault,
    },
    Closed(Cause),
    ResetStream(StreamError),
    StalledStream,
    AcceptError,
    Panic,
}

/// A histogram of the workers. The numbers are handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Span {
    Decision,
    Request(u32),
    Upstream(u32),
}

/// A gauge of the workers. The numbers are handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Level {
    Connections(u32),
    InFlight,
    UpstreamConnections(u32),
}

/// Every cell of every worker, by series. A worker comes here once for each series it uses; a scrape reads them all.
#[derive(Debug, Default)]
pub(super) struct Registry {
    counters: HashMap<Series, Vec<Arc<Counter>>>,
    histograms: HashMap<Span, Vec<Arc<Histogram>>>,
    gauges: HashMap<Level, Vec<Arc<Gauge>>>,
}

/// The sums at one scrape, in a stable order.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) counters: Vec<(Series, u64)>,
    pub(super) histograms: Vec<(Span, Distribution)>,
    pub(super) gauges: Vec<(Level, i64)>,
}

impl Registry {
    pub(super) fn counter(&mut self, series: Series) -> Arc<Counter> {
        let cell = Arc::<Counter>::default();
        self.counters.entry(series).or_default().push(Arc::clone(&cell));
        cell
    }

    pub(super) fn histogram(&mut self, span: Span) -> Arc<Histogram> {
        let bounds: &'static [Duration] = match span {
            Span::Decision => &FAST,
            Span::Request(_) | Span::Upstream(_) => &SLOW,
        };
        let cell = Arc::new(Histogram::new(bounds));
        self.histograms.entry(span).or_default().push(Arc::clone(&cell));
        cell
    }

    pub(super) fn gauge(&mut self, level: Level) -> Arc<Gauge> {
        let cell = Arc::<Gauge>::default();
        self.gauges.entry(level).or_default().push(Arc::clone(&cell));
        cell
    }

    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums {
            counters: self
                .counters
                .iter()
                .map(|(s, cells)| (*s, cells.iter().map(|c| c.value()).sum()))
                .collect(),
            histograms: self.histograms.iter().map(|(s, cells)| (*s, Distribution::of(cells))).collect(),
            gauges: self
                .gauges
                .iter()
                .map(|(s, cells)| (*s, cells.iter().map(|c| c.value()).sum()))
                .collect(),
        };
        sums.counters.sort_unstable_by_key(|(series, _)| *series);
        sums.histograms.sort_unstable_by_key(|(span, _)| *span);
        sums.gauges.sort_unstable_by_key(|(level, _)| *level);
        sums
    }
}

/// Hashes the keys above. They are small and none is chosen by a client, so a multiplication does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyHasher(u64);

impl KeyHasher {
    fn mix(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.mix(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    // Discriminants of enums come this way.
    fn write_isize(&mut self, value: isize) {
        self.mix(value.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        // The table takes its position from the low bits, where a multiplication mixes least.
        self.0 ^ (self.0 >> 32)
    }
}
