//! Which addresses of an upstream refuse connections, told once and counted, though requests succeed at others.
//!
//! 1. An address fails from a connection that could not be opened until the next one that could. Connections that are open
//!    already say nothing of it.
//! 2. The log has a line when an address begins to fail, one each `TELL_INTERVAL` while it does, and one when it is back.
//! 3. While no address fails, a new connection costs one load of a number; a request on an open connection costs nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::clock;
use crate::observe::metrics::ConnectFault;
use crate::types::{Timestamp, UpstreamName};

/// How often an address that goes on failing is logged.
const TELL_INTERVAL: Duration = Duration::from_secs(30);

/// The addresses of one upstream that fail now.
#[derive(Debug, Default)]
pub struct ConnectHealth {
    failing: Mutex<BTreeMap<SocketAddr, Told>>,
    /// How many there are, to be read without the lock.
    count: AtomicUsize,
}

/// An address to which no connection could be opened since some time.
#[derive(Clone, Debug)]
pub struct Failing {
    /// When the first connection failed.
    pub since: Timestamp,
    /// When the last one failed.
    pub last: Timestamp,
    /// How many failed.
    pub failures: u64,
    /// Why the last one failed.
    pub fault: ConnectFault,
    /// The same in the words of the system or of TLS.
    pub error: Box<str>,
}

#[derive(Debug)]
struct Told {
    failing: Failing,
    told: Instant,
}

impl ConnectHealth {
    /// Notes that no connection to `address` could be opened.
    pub(super) fn failed(
        &self,
        upstream: &UpstreamName,
        address: SocketAddr,
        fault: ConnectFault,
        error: &str,
    ) {
        let (at, now) = (clock::now(), Instant::now());
        let mut all = self.lock();
        let first = !all.contains_key(&address);
        let entry = all.entry(address).or_insert_with(|| Told {
            failing: Failing { since: at, last: at, failures: 0, fault, error: error.into() },
            told: now,
        });
        let failing = &mut entry.failing;
        failing.failures = failing.failures.saturating_add(1);
        failing.last = at;
        failing.fault = fault;
        if *failing.error != *error {
            failing.error = error.into();
        }
        let failures = failing.failures;
        let tell = first || now.duration_since(entry.told) >= TELL_INTERVAL;
        if tell {
            entry.told = now;
        }
        self.count.store(all.len(), Relaxed);
        drop(all);
        if tell {
            let cause = fault.as_str();
            tracing::warn!(%upstream, %address, cause, %error, failures, "upstream address fails");
        }
    }

    /// Notes that a connection to `address` was opened.
    pub(super) fn succeeded(&self, upstream: &UpstreamName, address: SocketAddr) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        let mut all = self.lock();
        let Some(Told { failing, .. }) = all.remove(&address) else { return };
        self.count.store(all.len(), Relaxed);
        drop(all);
        let (failures, seconds) = (failing.failures, clock::now().0.saturating_sub(failing.since.0));
        tracing::info!(%upstream, %address, failures, seconds, "upstream address is back");
    }

    /// Forgets the addresses that the upstream has no longer.
    pub(super) fn keep(&self, is_kept: impl Fn(SocketAddr) -> bool) {
        let mut all = self.lock();
        all.retain(|address, _| is_kept(*address));
        self.count.store(all.len(), Relaxed);
    }

    /// The addresses that fail now.
    pub fn failing(&self) -> Vec<(SocketAddr, Failing)> {
        self.lock().iter().map(|(address, told)| (*address, told.failing.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Told>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_fails_until_a_connection_to_it_opens() {
        let (health, name) = (ConnectHealth::default(), UpstreamName::new("orders"));
        let [one, two] = ["127.0.0.1:1", "127.0.0.1:2"].map(|text| text.parse::<SocketAddr>().unwrap());
        let failing =
            || health.failing().into_iter().map(|(a, f)| (a, f.failures, f.fault)).collect::<Vec<_>>();
        health.succeeded(&name, one);
        assert!(failing().is_empty());
        health.failed(&name, one, ConnectFault::Refused, "no");
        health.failed(&name, two, ConnectFault::Refused, "no");
        health.failed(&name, one, ConnectFault::Timeout, "late");
        assert_eq!(failing(), [(one, 2, ConnectFault::Timeout), (two, 1, ConnectFault::Refused)]);
        health.succeeded(&name, one);
        assert_eq!(failing(), [(two, 1, ConnectFault::Refused)]);
        health.failed(&name, one, ConnectFault::Refused, "no");
        assert_eq!(failing().first(), Some(&(one, 1, ConnectFault::Refused)), "counted anew");
        health.keep(|address| address == two);
        assert_eq!(failing(), [(two, 1, ConnectFault::Refused)]);
        health.keep(|_| false);
        assert!(failing().is_empty());
    }
}
