//! Keeps an issuer's keys fresh: one background task for each [`IssuerCell`].
//!
//! 1. Keys are fetched at the start, then every `interval` ± 10 %, and when a worker asks ([`IssuerCell::request_newer`]).
//! 2. After a failure the pause grows from a second to `interval`, with jitter; `Retry-After` is honoured up to `interval`,
//!    and then workers' requests wait for it too. The keys there are stay in use.
//! 3. Discovery follows RFC 8414 §3.1 and §5, then OpenID Connect Discovery §4. Metadata counts only if its `issuer` is the
//!    configured one, byte for byte (RFC 8414 §3.3). Its `jwks_uri` may be on another host, as large providers have it, but
//!    never plain HTTP and never a private address where the issuer itself is not.
//! 4. Each task has one issuer: a failing or slow one delays no other.
//! 5. The task holds its cell only while it fetches, and ends when the cell is dropped.

mod discovery;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::header::InvalidHeaderValue;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use super::fetch::{FetchError, Fetcher, Plain};
use crate::authenticate::json::DocumentError;
use crate::authenticate::keys::{JwksError, KeySet, KeyWarning};
use crate::authenticate::{IssuerPolicy, KeySource, KeyToken};
use crate::config::token_file::{TokenFileError, read_bearer_token};
use crate::observe::metrics::RefreshOutcome;
use crate::state::clock;
use crate::state::issuer::IssuerCell;
use crate::types::{Issuer, IssuerName};

/// The first pause after a failure.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// Told of every attempt that ended.
pub type OnRefresh = Arc<dyn Fn(&IssuerName, RefreshOutcome) + Send + Sync>;

/// Why no keys came.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The configuration names no URL that could be asked.
    #[error("the issuer's URL cannot be used for discovery: {0}")]
    Issuer(&'static str),
    /// The metadata could not be fetched.
    #[error("no metadata at {url}")]
    Metadata {
        /// Where it was looked for.
        url: Box<str>,
        /// Why.
        source: FetchError,
    },
    /// The metadata is not strict JSON.
    #[error("the metadata is not acceptable JSON: {0}")]
    Json(DocumentError),
    /// The metadata is another issuer's.
    #[error("the metadata names the issuer {0:?}, not the configured {1:?}")]
    OtherIssuer(Box<str>, Issuer),
    /// The metadata names no usable `jwks_uri`.
    #[error("the metadata's jwks_uri is refused: {0}")]
    KeysUri(&'static str),
    /// The keys could not be fetched.
    #[error("no keys at {url}")]
    Keys {
        /// Where they were looked for.
        url: Box<str>,
        /// Why.
        source: FetchError,
    },
    /// The keys are not usable.
    #[error(transparent)]
    Set(#[from] JwksError),
    /// The token that the server asks for cannot be read.
    #[error("the token in {} cannot be used", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TokenFileError,
    },
    /// The token cannot stand in a header field.
    #[error("the token cannot stand in a header field")]
    Field(#[source] InvalidHeaderValue),
    /// The process ends.
    #[error("the process ends")]
    Aborted,
}

impl RefreshError {
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Metadata { source, .. } | Self::Keys { source, .. } => source.retry_after(),
            Self::Issuer(_)
            | Self::Json(_)
            | Self::OtherIssuer(..)
            | Self::KeysUri(_)
            | Self::Set(_)
            | Self::Token { .. }
            | Self::Field(_)
            | Self::Aborted => None,
        }
    }
}

/// An error with all its causes in one line.
struct Chain<'e>(&'e dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

/// Starts the task of a cell on `runtime`. It ends by itself when the last `Arc` of the cell is gone; a cell whose keys come
/// from a file needs none, and its task ends at once.
pub fn spawn_refresher(
    cell: &Arc<IssuerCell>,
    fetcher: Fetcher,
    on_refresh: OnRefresh,
    runtime: &Handle,
) -> JoinHandle<()> {
    let refresher =
        Refresher { cell: Arc::downgrade(cell), fetcher, on_refresh, failures: 0, warnings: Vec::new() };
    runtime.spawn(refresher.run())
}

struct Refresher {
    cell: Weak<IssuerCell>,
    fetcher: Fetcher,
    on_refresh: OnRefresh,
    /// Failed attempts since the last good one.
    failures: u32,
    /// What was said about the last keys, so that it is said once.
    warnings: Vec<KeyWarning>,
}

impl Refresher {
    async fn run(mut self) {
        while let Some(cell) = self.cell.upgrade() {
            if matches!(cell.policy().keys, KeySource::File { .. }) {
                return;
            }
            let next = self.attempt(&cell).await;
            let wake = cell.wake();
            drop(cell);
            loop {
                tokio::select! {
                    () = sleep_until(next.into()) => break,
                    () = wake.notified() => match self.cell.upgrade() {
                        Some(cell) if cell.is_wanted() => break,
                        // A request that the last attempt has answered already.
                        Some(_) => {}
                        None => return,
                    },
                }
            }
        }
    }

    /// One attempt, to its end; when the next is due.
    async fn attempt(&mut self, cell: &IssuerCell) -> Instant {
        let policy = cell.policy();
        cell.begin(clock::now());
        let fetched = fetch_keys(policy, &self.fetcher).await;
        let now = Instant::now();
        let interval = policy.refresh.interval;
        let (outcome, pause, quiet) = match fetched {
            Ok((keys, warnings)) => {
                self.failures = 0;
                self.warn(policy, warnings);
                let count = keys.len();
                let outcome = match cell.store(keys, now, clock::now()) {
                    true => RefreshOutcome::Changed,
                    false => RefreshOutcome::Unchanged,
                };
                if outcome == RefreshOutcome::Changed {
                    tracing::info!(issuer = %policy.name, keys = count, "new keys");
                }
                (outcome, interval.mul_f64(between(0.9, 1.1)), None)
            }
            Err(error) => {
                let asked = error.retry_after().map(|asked| asked.min(interval));
                let pause = backoff(self.failures, interval).max(asked.unwrap_or_default());
                self.failures = self.failures.saturating_add(1);
                let error = Chain(&error).to_string();
                tracing::warn!(issuer = %policy.name, error, pause_ms = pause.as_millis(), "keys not refreshed");
                cell.failed(error, clock::now());
                (RefreshOutcome::Failed, pause, asked)
            }
        };
        let next = now.checked_add(pause).unwrap_or(now);
        cell.schedule(next, quiet.and_then(|quiet| now.checked_add(quiet)));
        (self.on_refresh)(&policy.name, outcome);
        next
    }

    fn warn(&mut self, policy: &IssuerPolicy, warnings: Vec<KeyWarning>) {
        if self.warnings != warnings {
            for warning in &warnings {
                tracing::warn!(issuer = %policy.name, %warning, "key not used");
            }
            self.warnings = warnings;
        }
    }
}

/// Fetches an issuer's keys once, from wherever its policy says.
///
/// # Errors
///
/// A [`RefreshError`].
pub async fn fetch_keys(
    policy: &IssuerPolicy,
    fetcher: &Fetcher,
) -> Result<(KeySet, Vec<KeyWarning>), RefreshError> {
    let authorized = match &policy.key_token {
        Some(token) => Some(authorized(fetcher, token).await?),
        None => None,
    };
    let with_token = authorized.as_ref().unwrap_or(fetcher);
    let (url, fetcher) = match &policy.keys {
        KeySource::Discovery => {
            let url = discovery::jwks_uri(policy, with_token).await?;
            // The token is for the server of the issuer: metadata does not choose who else gets it.
            let fetcher = if discovery::is_of_issuer(&url, policy) { with_token } else { fetcher };
            (url, fetcher)
        }
        KeySource::Uri(uri) => (uri.clone(), with_token),
        KeySource::File { content, .. } => return Ok(KeySet::from_jwks(content, policy.algorithms)?),
    };
    match fetcher.get(&url, plain(policy)).await {
        Ok(text) => Ok(KeySet::from_jwks(&text, policy.algorithms)?),
        Err(source) => Err(RefreshError::Keys { url: url.to_string().into(), source }),
    }
}

/// A fetcher with the token as it is now.
async fn authorized(fetcher: &Fetcher, token: &KeyToken) -> Result<Fetcher, RefreshError> {
    let token = match token {
        KeyToken::Fixed(token) => token.clone(),
        KeyToken::File(path) => {
            let path = path.clone();
            let read =
                tokio::task::spawn_blocking(move || read_bearer_token(&path).map_err(|error| (path, error)));
            let read = read.await.map_err(|_| RefreshError::Aborted)?;
            read.map_err(|(path, source)| RefreshError::Token { path, source })?
        }
    };
    fetcher.clone().with_token(&token).map_err(RefreshError::Field)
}

const fn plain(policy: &IssuerPolicy) -> Plain {
    if policy.plain_http { Plain::Loopback } else { Plain::Refuse }
}

/// The pause after a failure that `earlier` others preceded: doubling, at most `longest`, and at random between its half
/// and its whole, so that replicas do not ask in step.
fn backoff(earlier: u32, longest: Duration) -> Duration {
    let whole = FIRST_BACKOFF.saturating_mul(2u32.saturating_pow(earlier)).min(longest);
    whole.mul_f64(between(0.5, 1.0))
}

/// A random number between two. Without randomness the middle: jitter is a courtesy, not a safeguard.
fn between(low: f64, high: f64) -> f64 {
    let share = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    low + (high - low) * share
}

#[cfg(test)]
mod tests;
