//! From a changed file to a policy in force: read → build → swap → report.
//!
//! 1. One task does all reloads; whatever asks meanwhile is answered by the next one.
//! 2. A policy is built whole before anything is touched. If that fails, the last good one stays, and the error is shown.
//! 3. A change of what lives as long as the process (listen addresses, workers) is refused whole.
//! 4. A file written in place may be half written, and half a policy can be valid YAML: it is loaded by itself only if its
//!    last line is `...`.
//! 5. Old policies are dropped here, never on a worker.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use super::fetch::{Egress, Fetcher, FetcherError};
use super::keys::{OnRefresh, spawn_refresher};
use super::watch::{Change, ChangeKind, Watcher};
use crate::config::{self, ConfigErrors, Loaded};
use crate::observe::metrics::{Metrics, ReloadOutcome};
use crate::snapshot::Snapshot;
use crate::state::clock;
use crate::state::issuer::IssuerCell;
use crate::state::live::{Live, Process};
use crate::state::tls::TlsError;
use crate::state::upstream::{UpstreamCell, keep_looking_up};
use crate::types::Timestamp;

/// How often policies that are no longer in force are looked through for those that no request uses any more.
const SWEEP: Duration = Duration::from_secs(1);
/// How far reading a policy gives way to requests.
const NICE: i32 = 5;
/// How long a new policy waits for the first look-up of its upstreams' names.
const FIRST_LOOK_UP: Duration = Duration::from_secs(2);

/// Why a policy was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The file has errors.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// rustls refuses certificates or keys.
    #[error("TLS settings cannot be used: {0}")]
    Tls(#[from] TlsError),
    /// Keys could not be fetched safely.
    #[error("{0}")]
    Fetcher(#[from] FetcherError),
    /// It changes what lives as long as the process.
    #[error("restart needed: {}", .0.join(", "))]
    Boot(Vec<&'static str>),
    /// It was written in place and does not say that it is complete.
    #[error(
        "the file was written in place and its last line is not `...`, so it may be incomplete; end it with `...`, or reload explicitly"
    )]
    Incomplete,
    /// The parser failed on it.
    #[error("the file could not be read: this is a fault of the gateway, please report it with the file")]
    Internal,
    /// The process is ending.
    #[error("the gateway is shutting down")]
    Stopping,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The hash of the policy in force.
    pub hash: Box<str>,
    /// Its number.
    pub generation: u64,
    /// Whether it differs from the one before.
    pub changed: bool,
}

/// How reloads went, for status.
#[derive(Clone, Debug, Default)]
pub struct ReloadStatus {
    /// When the last attempt was made.
    pub attempted: Option<Timestamp>,
    /// What was wrong with it, if it was refused; several lines if there were several errors.
    pub error: Option<Arc<str>>,
}

/// Asks for reloads.
#[derive(Clone, Debug)]
pub struct Reloads {
    commands: mpsc::Sender<Command>,
    status: Arc<ArcSwap<ReloadStatus>>,
}

#[derive(Debug)]
enum Command {
    /// Somebody asks and waits.
    Explicit(oneshot::Sender<Result<Applied, Arc<str>>>),
    /// A signal asks.
    Signal,
}

impl Reloads {
    /// Reloads now, whatever the file's last line is.
    ///
    /// # Errors
    ///
    /// Why the policy was refused, for people.
    pub async fn reload(&self) -> Result<Applied, Arc<str>> {
        let (answer, answered) = oneshot::channel();
        let stopping = || Arc::<str>::from(Refusal::Stopping.to_string());
        self.commands.send(Command::Explicit(answer)).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }

    /// Asks for a reload without waiting.
    pub fn signal(&self) {
        // An error means that the process is ending, or that so many ask already that one more changes nothing.
        let _ = self.commands.try_send(Command::Signal);
    }

    /// How reloads went.
    pub fn status(&self) -> Arc<ReloadStatus> {
        self.status.load_full()
    }
}

/// Reads the policy at `path`, apart from all other work: a large one takes seconds and much memory.
///
/// # Errors
///
/// A [`Refusal`].
pub async fn load(path: &Path) -> Result<Loaded, Refusal> {
    let path = path.to_owned();
    Ok(apart(move || config::load(&path, clock::now())).await.ok_or(Refusal::Internal)??)
}

/// Runs work on a thread of its own, which gives way to the workers and, as it ends, gives back the memory it took for
/// the work. A thread of the runtime would keep that for its next work. `None` if the work panics.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name("scopegate-policy".to_owned()).spawn(move || {
        // Where the system refuses, it is as urgent as everything else.
        let _ = rustix::process::nice(NICE);
        // Whoever does not wait any more does not mind.
        let _ = done.send(work());
    });
    let (thread, result) = (thread.ok()?, result.await.ok());
    // It gives back its memory last. Where it has to wait for the processor, the next work would take more meanwhile.
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    result
}

/// Builds a policy from what was read: cells taken over or made, names looked up for the first time.
///
/// # Errors
///
/// A [`Refusal`].
pub async fn build(snapshot: Snapshot, previous: Option<&Live>, metrics: &Metrics) -> Result<Live, Refusal> {
    if let Some(previous) = previous {
        let changes = config::boot_changes(&previous.snapshot.gateway, &snapshot.gateway);
        if !changes.is_empty() {
            return Err(Refusal::Boot(changes));
        }
    }
    let live = Live::new(snapshot, previous, metrics)?;
    let new = new_upstreams(&live, previous).filter(|cell| cell.has_names()).map(|cell| async move {
        cell.look_up().await;
    });
    // A name that cannot be looked up in time does not hold the policy up: its requests answer 502 until it can.
    let _ = tokio::time::timeout(FIRST_LOOK_UP, futures_util::future::join_all(new)).await;
    Ok(live)
}

/// Starts the background tasks of the cells that `previous` did not have.
///
/// # Errors
///
/// [`Refusal::Fetcher`]; then none was started.
pub fn start_cells(
    live: &Live,
    previous: Option<&Live>,
    egress: &Egress,
    metrics: &Arc<Metrics>,
) -> Result<(), Refusal> {
    let runtime = tokio::runtime::Handle::current();
    let known = |cell: &Arc<IssuerCell>| {
        previous.is_some_and(|previous| previous.issuers.iter().any(|old| Arc::ptr_eq(old, cell)))
    };
    let new = live.issuers.iter().filter(|cell| !known(cell));
    let fetchers: Vec<_> = new
        .map(|cell| Ok((cell, Fetcher::new(cell.policy().ca.as_deref(), egress.clone())?)))
        .collect::<Result<_, FetcherError>>()?;
    egress.set(live.snapshot.gateway.egress_proxy.clone());
    for (cell, fetcher) in fetchers {
        let metrics = Arc::clone(metrics);
        let on_refresh: OnRefresh = Arc::new(move |issuer, outcome| metrics.jwks_refresh(issuer, outcome));
        spawn_refresher(cell, fetcher, on_refresh, &runtime);
    }
    for cell in new_upstreams(live, previous).filter(|cell| cell.has_names()) {
        tokio::spawn(keep_looking_up(Arc::downgrade(cell)));
    }
    Ok(())
}

fn new_upstreams<'a>(
    live: &'a Live,
    previous: Option<&'a Live>,
) -> impl Iterator<Item = &'a Arc<UpstreamCell>> {
    live.upstreams.iter().filter(move |cell| {
        !previous.is_some_and(|previous| previous.upstreams.iter().any(|old| old.id == cell.id))
    })
}

/// Starts the one task that reloads. `path` is the configuration file.
pub async fn start(process: Arc<Process>, path: PathBuf, egress: Egress) -> Reloads {
    let (commands, inbox) = mpsc::channel(64);
    let (changed, changes) = mpsc::channel(4);
    let files = process.live.load().snapshot.files.clone();
    let status = Arc::new(ArcSwap::from_pointee(ReloadStatus::default()));
    let watcher = Watcher::new(files, changed).await;
    let reloader =
        Reloader { process, path, egress, watcher, retired: Vec::new(), status: Arc::clone(&status) };
    tokio::spawn(reloader.run(inbox, changes));
    Reloads { commands, status }
}

struct Reloader {
    process: Arc<Process>,
    path: PathBuf,
    egress: Egress,
    watcher: Watcher,
    retired: Vec<Arc<Live>>,
    status: Arc<ArcSwap<ReloadStatus>>,
}

impl Reloader {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, mut changes: mpsc::Receiver<Change>) {
        let mut sweep = tokio::time::interval(SWEEP);
        // Between the first load and the first look of the watcher the file may have changed.
        let mut whole_only = true;
        let mut due = self.differs_from_disk().await;
        loop {
            let mut asking = Vec::new();
            let mut seen = None;
            let mut asked = false;
            if !due {
                tokio::select! {
                    command = inbox.recv() => match command {
                        Some(command) => {
                            (whole_only, asked) = (false, true);
                            asking.extend(command.into_waiting());
                        }
                        None => return,
                    },
                    Some(change) = changes.recv() => {
                        whole_only = change.how == ChangeKind::WrittenInPlace;
                        seen = change.config_hash;
                    }
                    _ = sweep.tick() => {
                        self.sweep().await;
                        continue;
                    }
                }
            }
            due = false;
            // Whoever has asked by now is answered by this one reload, which starts after they asked.
            while let Ok(command) = inbox.try_recv() {
                (whole_only, seen, asked) = (false, None, true);
                asking.extend(command.into_waiting());
            }
            let result = self.reload(whole_only, seen, asked).await;
            let result = result.map_err(|refusal| Arc::from(refusal.to_string()));
            for waiting in asking {
                // Whoever does not wait any more does not mind.
                let _ = waiting.send(result.clone());
            }
        }
    }

    /// Drops the old policies that no request uses any more.
    async fn sweep(&mut self) {
        let unused: Vec<_> = self.retired.extract_if(.., |live| Arc::strong_count(live) == 1).collect();
        if !unused.is_empty() {
            apart(move || drop(unused)).await;
        }
    }

    async fn differs_from_disk(&self) -> bool {
        let path = self.path.clone();
        let in_force = self.process.live.load().snapshot.text_hash.clone();
        let differs = move || {
            config::text_hash(&path)
                .is_some_and(|hash| hash != in_force && config::load(&path, clock::now()).is_ok())
        };
        apart(differs).await.unwrap_or(false)
    }

    /// One reload, from file to report. `asked`: by a signal or over the API, so that it is reported whatever it does.
    async fn reload(
        &mut self,
        whole_only: bool,
        seen: Option<Box<str>>,
        asked: bool,
    ) -> Result<Applied, Refusal> {
        let result = self.attempt(whole_only, seen).await;
        let metrics = &self.process.metrics;
        let attempted = Some(clock::now());
        match &result {
            Ok(applied) => {
                let outcome = if applied.changed { ReloadOutcome::Applied } else { ReloadOutcome::Unchanged };
                metrics.policy_reload(outcome);
                let before = self.status.swap(Arc::new(ReloadStatus { attempted, error: None }));
                let in_force = self.process.live.load().snapshot.hash == applied.hash;
                report(applied, asked, in_force && before.error.is_some());
            }
            Err(refusal) => {
                metrics.policy_reload(ReloadOutcome::Refused);
                let error: Arc<str> = refusal.to_string().into();
                tracing::error!(%error, "policy refused; the last good one stays in force");
                self.status.store(Arc::new(ReloadStatus { attempted, error: Some(error) }));
            }
        }
        result
    }

    async fn attempt(&mut self, whole_only: bool, seen: Option<Box<str>>) -> Result<Applied, Refusal> {
        let Loaded { snapshot, warnings, complete } = load(&self.path).await?;
        let previous = self.process.live.load_full();
        // What is in force was whole; where it is there still, another file has changed, such as a certificate.
        if whole_only && !complete && snapshot.text_hash != previous.snapshot.text_hash {
            return Err(Refusal::Incomplete);
        }
        // The watcher has seen the file settle with this content. Another content is on its way to its own change.
        let unsettled = seen.is_some_and(|seen| seen != snapshot.text_hash);
        if unsettled || snapshot.fingerprint == previous.snapshot.fingerprint {
            let Snapshot { hash, .. } = snapshot;
            return Ok(Applied { hash, generation: previous.generation, changed: false });
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let live = Arc::new(build(snapshot, Some(&previous), &self.process.metrics).await?);
        start_cells(&live, Some(&previous), &self.egress, &self.process.metrics)?;
        self.process.metrics.policy_applied(&live.snapshot.hash, live.loaded);
        self.process.live.store(Arc::clone(&live));
        self.watcher.set_files(live.snapshot.files.clone()).await;
        self.retired.push(previous);
        Ok(Applied { hash: live.snapshot.hash.clone(), generation: live.generation, changed: true })
    }
}

impl Command {
    fn into_waiting(self) -> Option<oneshot::Sender<Result<Applied, Arc<str>>>> {
        match self {
            Self::Explicit(waiting) => Some(waiting),
            Self::Signal => None,
        }
    }
}

/// Logs what a reload did. `again`: what was refused before is now the policy in force.
fn report(applied: &Applied, asked: bool, again: bool) {
    let Applied { hash, generation, changed } = applied;
    if *changed {
        tracing::info!(%hash, generation, "policy applied");
    } else if again {
        tracing::info!(%hash, generation, "policy accepted again; it is the one in force");
    } else if asked {
        tracing::info!(%hash, generation, "policy unchanged; nothing to do");
    }
}
