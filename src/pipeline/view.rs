//! One worker's view of the policy in force, and the ids it gives its requests.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;

use crate::forward::pool::{Meter, Pool};
use crate::observe::metrics::{ConnectFault, Counted, MetricUpstream, WorkerMetrics};
use crate::state::live::Live;

/// A policy with this worker's own connections, by upstream position.
#[derive(Debug)]
pub(super) struct View {
    pub(super) live: Arc<Live>,
    pub(super) pools: Vec<Rc<Pool>>,
}

impl View {
    /// A view of `live`; connections of `previous` to unchanged upstreams are taken over.
    pub(super) fn new(live: Arc<Live>, previous: Option<&Self>, metrics: &Rc<WorkerMetrics>) -> Self {
        let kept = previous.map_or(&[][..], |view| &view.pools);
        let kept: HashMap<_, _> = kept.iter().map(|pool| (pool.cell.id, pool)).collect();
        let pools = live
            .upstreams
            .iter()
            .zip(&live.upstream_metrics)
            .map(|(cell, metric)| {
                let meter = UpstreamMeter { metrics: Rc::clone(metrics), upstream: *metric };
                kept.get(&cell.id)
                    .map_or_else(|| Rc::new(Pool::new(Arc::clone(cell), meter)), |pool| Rc::clone(pool))
            })
            .collect();
        Self { live, pools }
    }
}

/// Counts this worker's connections to one upstream.
#[derive(Debug)]
struct UpstreamMeter {
    metrics: Rc<WorkerMetrics>,
    upstream: MetricUpstream,
}

impl Meter for UpstreamMeter {
    fn opened(&self) -> Counted {
        self.metrics.upstream_connection_opened(self.upstream)
    }

    fn failed(&self, fault: ConnectFault) {
        self.metrics.connect_error(self.upstream, fault);
    }
}

/// Makes request ids: 48 bits of milliseconds and 80 bits of noise in Crockford's base 32, so that they sort by time.
#[derive(Debug)]
pub(super) struct Ids(Cell<u128>);

impl Ids {
    /// A generator seeded by the system.
    ///
    /// # Errors
    ///
    /// No randomness from the system.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 16];
        getrandom::fill(&mut seed)?;
        Ok(Self(Cell::new(u128::from_le_bytes(seed) | 1)))
    }

    /// A new id. Ids tell requests apart; nothing depends on their being secret.
    pub(super) fn next(&self, unix_ms: i64) -> HeaderValue {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        // A linear congruential generator modulo 2^128 (Knuth, The Art of Computer Programming 2, §3.2.1).
        let state = self.0.get().wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645).wrapping_add(1);
        self.0.set(state);
        let time = u128::try_from(unix_ms).unwrap_or(0) & ((1 << 48) - 1);
        let bits = (time << 80) | (state >> 48);
        let mut text = [0; 26];
        for (place, byte) in text.iter_mut().rev().enumerate() {
            let digit = usize::try_from((bits >> (5 * place)) & 31).unwrap_or(0);
            *byte = ALPHABET.get(digit).copied().unwrap_or(b'0');
        }
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }
}
