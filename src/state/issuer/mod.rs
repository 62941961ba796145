//! An issuer's keys: written by one background task, read by every worker.
//!
//! 1. A cell lives as long as its issuer's configuration is unchanged; a changed one gets a new cell with a new epoch, so
//!    that facts read under the old configuration are not used. Keys may move on ([`IssuerCell::succeeding`]).
//! 2. The last good keys are used until they are older than `max_stale`, then none. Keys from a file are never stale.
//! 3. A worker may ask for newer keys ([`IssuerCell::request_newer`]). Within the cooldown the answer is no. Otherwise the
//!    cooldown starts at once, before the fetch and whatever comes of it, and all who ask meanwhile wait for that one fetch.
//!    Who stops waiting stops nothing.
//! 4. Ages and pauses are measured on the monotonic clock; the wall clock is only shown.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};

use crate::authenticate::keys::KeySet;
use crate::authenticate::{IssuerPolicy, KeySource, KeyThumbprint};
use crate::state::clock;
use crate::types::Timestamp;

/// The epochs of this process; none is given twice.
static EPOCHS: AtomicU64 = AtomicU64::new(1);

/// The keys of one issuer under one configuration.
#[derive(Debug)]
pub struct IssuerCell {
    policy: IssuerPolicy,
    epoch: u64,
    fetched: ArcSwapOption<Fetched>,
    progress: Mutex<Progress>,
    /// Wakes the background task; shared, so that the task can sleep without holding the cell.
    wake: Arc<Notify>,
    /// Rises with each attempt that ends.
    attempts: watch::Sender<u64>,
}

/// Keys with the time they came.
#[derive(Debug)]
struct Fetched {
    keys: Arc<KeySet>,
    at: Instant,
    time: Timestamp,
}

/// What the background task does.
#[derive(Debug, Default)]
struct Progress {
    /// An attempt runs, or has been asked for and will begin.
    pending: bool,
    /// No request is granted before this.
    cooldown: Option<Instant>,
    /// When the last attempt ended, its keys in place.
    ended: Option<Instant>,
    last_attempt: Option<Timestamp>,
    next_attempt: Option<Instant>,
    last_error: Option<(Timestamp, Box<str>)>,
}

/// What there is to know about an issuer's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Whether tokens can be verified.
    pub usable: bool,
    /// The keys.
    pub keys: Vec<KeyInfo>,
    /// How long ago they were fetched.
    pub age: Option<Duration>,
    /// When they were fetched.
    pub fetched_at: Option<Timestamp>,
    /// When they were last asked for, with or without success.
    pub last_attempt: Option<Timestamp>,
    /// When the last attempt failed and why; gone with the next success.
    pub last_error: Option<(Timestamp, Box<str>)>,
    /// How long it is until the next attempt; `None` where there is none, such as for a file.
    pub next_attempt: Option<Duration>,
}

/// One key with one algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its `kid`.
    pub kid: Option<Box<str>>,
    /// Its `alg`.
    pub algorithm: &'static str,
    /// Its `kty`.
    pub key_type: &'static str,
}

impl IssuerCell {
    /// A cell without keys, in a new epoch. Keys from a file are read here and never again.
    pub fn new(policy: IssuerPolicy) -> Arc<Self> {
        Arc::new(Self::empty(policy))
    }

    /// A cell for a changed configuration, in a new epoch, with the keys of `previous` if the change does not touch where
    /// they come from and which are allowed: a reload must not wait for the issuer.
    pub fn succeeding(policy: IssuerPolicy, previous: &Self) -> Arc<Self> {
        let old = &previous.policy;
        let same = old.issuer == policy.issuer
            && old.keys == policy.keys
            && old.algorithms == policy.algorithms
            && old.plain_http == policy.plain_http
            && old.ca == policy.ca;
        let cell = Self::empty(policy);
        if same {
            cell.fetched.store(previous.fetched.load_full());
        }
        Arc::new(cell)
    }

    fn empty(policy: IssuerPolicy) -> Self {
        let cell = Self {
            epoch: EPOCHS.fetch_add(1, Ordering::Relaxed),
            fetched: ArcSwapOption::empty(),
            progress: Mutex::new(Progress {
                // The first attempt belongs to every fetching cell: who asks before it began waits for it.
                pending: true,
                ..Progress::default()
            }),
            wake: Arc::new(Notify::new()),
            attempts: watch::Sender::new(0),
            policy,
        };
        if let KeySource::File { content, path } = &cell.policy.keys {
            match KeySet::from_jwks(content, cell.policy.algorithms) {
                Ok((keys, _)) => {
                    cell.store(keys, Instant::now(), clock::now());
                }
                Err(error) => cell.failed(format!("{}: {error}", path.display()), clock::now()),
            }
        }
        cell
    }

    /// The configuration the cell was made for.
    pub const fn policy(&self) -> &IssuerPolicy {
        &self.policy
    }

    /// The epoch of the configuration.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The keys, unless there are none or they are too old at `at`.
    pub fn usable(&self, at: Instant) -> Option<Arc<KeySet>> {
        let fetched = self.fetched.load();
        let fetched = fetched.as_ref().filter(|fetched| self.is_fresh(fetched, at))?;
        Some(Arc::clone(&fetched.keys))
    }

    /// Whether this key is among the usable ones at `at`: whether what it once signed still counts.
    pub fn publishes(&self, key: &KeyThumbprint, at: Instant) -> bool {
        self.fetched
            .load()
            .as_ref()
            .is_some_and(|fetched| self.is_fresh(fetched, at) && fetched.keys.contains(key))
    }

    /// Whether there have ever been keys: what readiness asks.
    pub fn has_had_keys(&self) -> bool {
        self.fetched.load().is_some()
    }

    /// Whether the last attempt to get keys failed.
    pub fn is_failing(&self) -> bool {
        self.progress().last_error.is_some()
    }

    /// Asks the background task for newer keys, or for any.
    ///
    /// `at` is the time of the decision that lacked a key. `None` if there is nothing to wait for: the cooldown has not
    /// passed, or the keys come from a file. Otherwise the future is ready when the attempt has ended, however it ended; at
    /// once if one has ended since `at`, whose keys that decision may have missed. It may be dropped at any time; who awaits
    /// it sets the time limit.
    pub fn request_newer(&self, at: Instant) -> Option<impl Future<Output = ()> + Send + use<>> {
        if self.is_file() {
            return None;
        }
        let mut progress = self.progress();
        // Subscribed under the lock, so that the attempt cannot end in between.
        let mut ended = self.attempts.subscribe();
        let missed = !progress.pending && progress.ended.is_some_and(|ended| at < ended);
        if !progress.pending && !missed {
            if progress.cooldown.is_some_and(|until| at < until) {
                return None;
            }
            progress.cooldown = at.checked_add(self.policy.refresh.unknown_kid_cooldown);
            progress.pending = true;
            self.wake.notify_one();
        }
        drop(progress);
        Some(async move {
            if !missed {
                // An error says that the cell is gone, and with it the attempt.
                let _ = ended.changed().await;
            }
        })
    }

    /// Whether an attempt was asked for and has not ended.
    pub fn is_wanted(&self) -> bool {
        self.progress().pending
    }

    /// Notes that an attempt begins.
    pub fn begin(&self, time: Timestamp) {
        let mut progress = self.progress();
        progress.pending = true;
        progress.last_attempt = Some(time);
    }

    /// Takes new keys and ends the attempt. Returns whether they differ from those before.
    pub fn store(&self, keys: KeySet, at: Instant, time: Timestamp) -> bool {
        let previous = self.fetched.load_full();
        // Equal keys stay the same allocation: only their age changes.
        let (keys, changed) = match previous {
            Some(previous) if *previous.keys == keys => (Arc::clone(&previous.keys), false),
            Some(_) | None => (Arc::new(keys), true),
        };
        self.fetched.store(Some(Arc::new(Fetched { keys, at, time })));
        let mut progress = self.progress();
        progress.last_error = None;
        self.end(progress);
        changed
    }

    /// Ends an attempt that failed: the keys stay as they are.
    pub fn failed(&self, error: impl Into<Box<str>>, time: Timestamp) {
        let mut progress = self.progress();
        progress.last_error = Some((time, error.into()));
        self.end(progress);
    }

    /// Notes when the next attempt is due, and until when the issuer wants to be left alone.
    pub fn schedule(&self, next: Instant, quiet: Option<Instant>) {
        let mut progress = self.progress();
        progress.next_attempt = Some(next);
        progress.cooldown = progress.cooldown.max(quiet);
    }

    /// What wakes the background task: a request, or the end of the cell.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// What there is to know at `at`.
    pub fn status(&self, at: Instant) -> KeyStatus {
        let fetched = self.fetched.load_full();
        let progress = self.progress();
        KeyStatus {
            usable: fetched.as_ref().is_some_and(|fetched| self.is_fresh(fetched, at)),
            keys: fetched.iter().flat_map(|fetched| fetched.keys.iter()).map(KeyInfo::of).collect(),
            age: fetched.as_ref().map(|fetched| at.saturating_duration_since(fetched.at)),
            fetched_at: fetched.as_ref().map(|fetched| fetched.time),
            last_attempt: progress.last_attempt,
            last_error: progress.last_error.clone(),
            next_attempt: progress.next_attempt.map(|next| next.saturating_duration_since(at)),
        }
    }

    fn is_fresh(&self, fetched: &Fetched, at: Instant) -> bool {
        self.is_file() || at.saturating_duration_since(fetched.at) <= self.policy.refresh.max_stale
    }

    const fn is_file(&self) -> bool {
        matches!(self.policy.keys, KeySource::File { .. })
    }

    fn end(&self, mut progress: MutexGuard<'_, Progress>) {
        progress.pending = false;
        progress.ended = Some(Instant::now());
        self.attempts.send_modify(|count| *count += 1);
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // Each section under the lock leaves whole values behind, so a panic in one has broken nothing.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for IssuerCell {
    fn drop(&mut self) {
        // The background task finds its cell gone, and ends.
        self.wake.notify_one();
    }
}

impl KeyInfo {
    fn of(key: &crate::authenticate::keys::VerificationKey) -> Self {
        Self { kid: key.kid().map(Box::from), algorithm: key.algorithm().as_str(), key_type: key.key_type() }
    }
}

#[cfg(test)]
mod tests;
