//! A snapshot together with the cells it uses, and the process that swaps them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;

use super::admission::Admission;
use super::clock;
use super::issuer::IssuerCell;
use super::tls::{ListenerTls, TlsError};
use super::token_cache::{TokenCache, TokenDigest};
use super::upstream::UpstreamCell;
use crate::authenticate::keys::KeySet;
use crate::authenticate::{Knowledge, Principal, TokenFacts, twin};
use crate::observe::metrics::{MetricListener, MetricRoute, MetricUpstream, Metrics};
use crate::snapshot::{Snapshot, TlsPolicy};
use crate::types::{IssuerIndex, Timestamp};

/// A snapshot with its cells, by the same positions. Swapped whole.
#[derive(Debug)]
pub struct Live {
    /// The policy.
    pub snapshot: Snapshot,
    /// The issuers' keys.
    pub issuers: Vec<Arc<IssuerCell>>,
    /// The upstreams' addresses.
    pub upstreams: Vec<Arc<UpstreamCell>>,
    /// TLS settings by listener; `None` for plain HTTP.
    pub tls: Vec<Option<ListenerTls>>,
    /// Metric handles by route.
    pub route_metrics: Vec<MetricRoute>,
    /// Metric handles by upstream.
    pub upstream_metrics: Vec<MetricUpstream>,
    /// Metric handles by listener.
    pub listener_metrics: Vec<MetricListener>,
    /// The epoch of each cell in `issuers` with its position, sorted.
    by_epoch: Vec<(u64, usize)>,
    /// Counts the snapshots of this process, from 1.
    pub generation: u64,
    /// When it was loaded.
    pub loaded: Timestamp,
}

impl Live {
    /// Joins a snapshot with its cells: those of `previous` where their configuration is equal, else new ones.
    ///
    /// # Errors
    ///
    /// TLS settings that rustls refuses.
    pub fn new(snapshot: Snapshot, previous: Option<&Self>, metrics: &Metrics) -> Result<Self, TlsError> {
        let kept = previous.map_or(&[][..], |live| &live.issuers);
        let kept: HashMap<_, _> = kept.iter().map(|cell| (&cell.policy().issuer, cell)).collect();
        let issuers = snapshot.issuers.iter().map(|(_, policy)| match kept.get(&policy.issuer).copied() {
            Some(cell) if cell.policy() == policy => Arc::clone(cell),
            Some(cell) => IssuerCell::succeeding(policy.clone(), cell),
            None => IssuerCell::new(policy.clone()),
        });
        let kept = previous.map_or(&[][..], |live| &live.upstreams);
        let kept: HashMap<_, _> = kept.iter().map(|cell| (&cell.policy.name, cell)).collect();
        let upstreams = snapshot.upstreams.iter().map(|policy| {
            let old = kept.get(&policy.name).filter(|cell| cell.policy == *policy);
            old.map_or_else(|| UpstreamCell::new(policy.clone()), |cell| Ok(Arc::clone(cell)))
        });
        let tls =
            snapshot.gateway.listen.iter().map(|listener| {
                listener.tls.as_ref().map(|policy| tls_settings(policy, previous)).transpose()
            });
        let issuers: Vec<_> = issuers.collect();
        let mut by_epoch: Vec<_> =
            issuers.iter().enumerate().map(|(position, cell)| (cell.epoch(), position)).collect();
        by_epoch.sort_unstable();
        Ok(Self {
            issuers,
            by_epoch,
            upstreams: upstreams.collect::<Result<_, _>>()?,
            tls: tls.collect::<Result<_, _>>()?,
            route_metrics: snapshot.routes.iter().map(|route| metrics.route_handle(&route.id)).collect(),
            upstream_metrics: snapshot
                .upstreams
                .iter()
                .map(|upstream| metrics.upstream_handle(&upstream.name))
                .collect(),
            listener_metrics: snapshot
                .gateway
                .listen
                .iter()
                .map(|listener| metrics.listener_handle(listener.address))
                .collect(),
            generation: previous.map_or(0, |live| live.generation) + 1,
            loaded: clock::now(),
            snapshot,
        })
    }
}

impl Live {
    /// The cell of the issuer whose configuration has this epoch.
    fn issuer_of(&self, epoch: u64) -> Option<&Arc<IssuerCell>> {
        let position = self.by_epoch.binary_search_by_key(&epoch, |(epoch, _)| *epoch).ok()?;
        self.by_epoch.get(position).and_then(|(_, position)| self.issuers.get(*position))
    }
}

/// The settings for a TLS policy: those in use where it is unchanged, so that session tickets stay good.
fn tls_settings(policy: &TlsPolicy, previous: Option<&Live>) -> Result<ListenerTls, TlsError> {
    let old = previous.and_then(|live| {
        let same = |listener: &crate::snapshot::Listener| listener.tls.as_ref() == Some(policy);
        let position = live.snapshot.gateway.listen.iter().position(same)?;
        live.tls.get(position)?.clone()
    });
    old.map_or_else(|| ListenerTls::new(policy), Ok)
}

/// What all threads of the process share.
#[derive(Debug)]
pub struct Process {
    /// The policy in force.
    pub live: ArcSwap<Live>,
    /// Facts of tokens that were verified.
    pub tokens: TokenCache,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Places for requests.
    pub admission: Admission,
    draining: AtomicBool,
}

impl Process {
    /// A process with its first policy.
    pub fn new(live: Live, metrics: Arc<Metrics>, admission: Admission) -> Self {
        Self {
            admission,
            tokens: TokenCache::new(live.snapshot.gateway.token_cache_bytes),
            live: ArcSwap::from_pointee(live),
            metrics,
            draining: AtomicBool::new(false),
        }
    }

    /// Says that the process is shutting down.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the process is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// What the live process knows, for one decision.
#[derive(Debug)]
pub struct LiveKnowledge<'a> {
    live: &'a Live,
    tokens: &'a TokenCache,
    now: Timestamp,
    at: Instant,
    /// The token that was asked for, if nothing was known of it, and its twin.
    unknown: RefCell<Option<(TokenDigest, Option<String>)>>,
}

impl<'a> LiveKnowledge<'a> {
    /// Knowledge at `now`, which is `at` on the monotonic clock.
    pub const fn new(live: &'a Live, tokens: &'a TokenCache, now: Timestamp, at: Instant) -> Self {
        Self { live, tokens, now, at, unknown: RefCell::new(None) }
    }

    /// Keeps the facts of a principal whose token was seen for the first time.
    pub fn remember(&self, principal: &Principal) {
        if !principal.remembered()
            && let Some((digest, twin)) = self.unknown.take()
        {
            if let Some(twin) = twin {
                self.tokens.remove(&TokenDigest::of(&twin));
            }
            self.tokens.insert(digest, Arc::clone(principal.facts()));
        }
    }
}

impl Knowledge for LiveKnowledge<'_> {
    fn facts(&self, token: &str) -> Option<Arc<TokenFacts>> {
        let digest = TokenDigest::of(token);
        let known = self.tokens.get(&digest, self.now).filter(|facts| {
            // An epoch that is gone or a key that was withdrawn takes its tokens along.
            let cell = self.live.issuer_of(facts.epoch);
            cell.is_some_and(|cell| cell.publishes(&facts.key, self.at))
        });
        if known.is_none() {
            self.unknown.replace(Some((digest, twin::of(token))));
        }
        known
    }

    fn keys(&self, issuer: IssuerIndex) -> Option<Arc<KeySet>> {
        self.live.issuers.get(issuer.get())?.usable(self.at)
    }

    fn is_failing(&self, issuer: IssuerIndex) -> bool {
        self.live.issuers.get(issuer.get()).is_some_and(|cell| cell.is_failing())
    }

    fn epoch(&self, issuer: IssuerIndex) -> u64 {
        self.live.issuers.get(issuer.get()).map_or(0, |cell| cell.epoch())
    }
}
