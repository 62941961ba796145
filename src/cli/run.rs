//! `scopegate run`: the gateway as a process, from configuration to drain.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use super::files::{self, Room, TooFew};
use super::ready::{self, Addresses};
use super::signals::{Signals, Told};
use crate::admin::Admin;
use crate::config::Loaded;
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::Metrics;
use crate::observe::trace::{self, LogFormat};
use crate::pipeline::Gateway;
use crate::reload::fetch::Egress;
use crate::reload::policy::{self, Reloads};
use crate::server::listener::{self, Bound};
use crate::server::shutdown::{self, Announcer, Phase};
use crate::server::worker::{Crew, Worker};
use crate::snapshot::{AccessLogTarget, Gateway as GatewayPolicy};
use crate::state::admission::Admission;
use crate::state::clock;
use crate::state::live::Process;
use crate::types::Timestamp;

/// How long the workers may take to drop what they cut off.
const CUT: Duration = Duration::from_secs(1);

/// Runs the gateway until SIGTERM or SIGINT.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scopegate run --config /etc/scopegate/routes.yaml --log-format json\n\n\
    SIGHUP reloads the configuration and opens the file of the access log again. SIGTERM and SIGINT drain: running\n\
    requests end, then the process; a second one ends it at once. The access log goes to stdout unless the policy says\n\
    otherwise, diagnostics go to stderr.")]
pub struct Args {
    /// The policy.
    #[arg(long, short, default_value = "routes.yaml", value_name = "FILE")]
    pub config: PathBuf,
    /// Write the bound addresses to this file, as JSON, once requests are taken.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// How diagnostics on stderr are written.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// error, warn, info, debug, or a filter such as `info,scopegate::forward=debug`.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            config: PathBuf::from("routes.yaml"),
            ready_file: None,
            log_format: LogFormat::default(),
            log_level: None,
        }
    }
}

/// Why the gateway did not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// The policy has errors, or cannot be put in force.
    #[error("{0}")]
    Policy(#[from] policy::Refusal),
    /// An address is taken or not ours.
    #[error(
        "cannot listen on {address}: {source}; {}", cure(*.address, .key, .source)
    )]
    Bind { address: SocketAddr, key: String, source: io::Error },
    /// Whoever waits for the file would wait for ever.
    #[error("cannot write the ready file {path}: {source}")]
    ReadyFile { path: String, source: io::Error },
    /// Its lines would be lost.
    #[error(
        "cannot open the access log {path}: {source}; make its folder, let the gateway's user write there, or correct \
        `gateway.access_log.file`"
    )]
    AccessLog { path: String, source: io::Error },
    /// More is promised than can be held.
    #[error("{0}")]
    Files(#[from] TooFew),
    /// The system refuses a thread, a runtime or a signal handler.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// No token and no certificate can be judged by such a time.
    #[error("the clock of this machine is before 1970; set it before the gateway starts")]
    Clock,
    /// The system gives no randomness.
    #[error("no randomness from the system: {0}")]
    Randomness(#[from] getrandom::Error),
    /// Diagnostics cannot be set up.
    #[error("{0}")]
    Trace(#[from] trace::TraceError),
    /// A worker ended by itself.
    #[error("worker {0} ended unexpectedly; the process cannot go on without it")]
    Worker(usize),
}

/// What helps against an address that cannot be listened at.
fn cure(address: SocketAddr, key: &str, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "ports below 1024 need a right: give the process CAP_NET_BIND_SERVICE (systemd: `AmbientCapabilities`), lower the \
            sysctl `net.ipv4.ip_unprivileged_port_start` to {}, or set another port in `{key}`",
            address.port()
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "this machine has no such address: correct `{key}`, or write `0.0.0.0:{}`",
                address.port()
            )
        }
        _ => format!("change `{key}` in the configuration, or stop what uses the port"),
    }
}

/// Runs the command.
pub fn run(args: &Args) -> ExitCode {
    let result = trace::init(args.log_format, args.log_level.as_deref())
        .map_err(RunError::from)
        .and_then(|_flush| in_background(serve(args, |_| Ok(()))));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error),
    }
}

/// Runs the process on the runtime for all work beside requests. Once it has ended, nothing is waited for: a name look-up
/// cannot be stopped and takes as long as it takes.
pub(super) fn in_background<E: From<io::Error>>(
    process: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("scopegate-background")
        .enable_all()
        .build()?;
    let ended = runtime.block_on(process);
    runtime.shutdown_background();
    ended
}

/// Starts everything, tells `ready`, and serves until the process is told to end.
pub(super) async fn serve(
    args: &Args,
    ready: impl FnOnce(&Addresses) -> io::Result<()>,
) -> Result<(), RunError> {
    let mut signals = Signals::new()?;
    let files = files::raise();
    if let Some(path) = &args.ready_file {
        ready::forget(path)
            .map_err(|source| RunError::ReadyFile { path: path.display().to_string(), source })?;
    }
    let started = clock::now();
    if started < Timestamp(0) {
        return Err(RunError::Clock);
    }
    let metrics = Metrics::new();
    let Loaded { snapshot, warnings, .. } = policy::load(&args.config).await?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let live = policy::build(snapshot, None, &metrics).await?;
    let gateway = live.snapshot.gateway.clone();
    let workers = gateway.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let room = files::plan(files, workers, gateway.listen.len(), &gateway.limits)?;
    let (bound, admin_listener) = bind(&gateway, workers)?;
    let log = access_log(&gateway, &metrics)?;

    let egress = Egress::default();
    policy::start_cells(&live, None, &egress, &metrics)?;
    metrics.policy_applied(&live.snapshot.hash, live.loaded);
    let process = Arc::new(Process::new(live, metrics, Admission::new(room.requests, workers)));
    let reloads = policy::start(Arc::clone(&process), args.config.clone(), egress).await;

    let tls = |position: usize| gateway.listen.get(position).is_some_and(|listener| listener.tls.is_some());
    let listeners: Vec<_> =
        bound.iter().enumerate().map(|(position, bound)| (bound.address, tls(position))).collect();
    let addresses = Addresses {
        admin: admin_listener.as_ref().map(std::net::TcpListener::local_addr).transpose()?,
        listeners: listeners.clone(),
    };
    if let Some(listener) = admin_listener {
        let admin = Admin { process: Arc::clone(&process), reloads: reloads.clone(), started, listeners };
        tokio::spawn(Arc::new(admin).serve(tokio::net::TcpListener::from_std(listener)?));
    }
    let mut crew = start_workers(&process, &log, room, bound, workers)?;
    if let Some(path) = &args.ready_file {
        ready::write(path, &addresses)
            .map_err(|source| RunError::ReadyFile { path: path.display().to_string(), source })?;
    }
    tracing::info!(
        listeners = ?addresses.listeners,
        admin = ?addresses.admin,
        workers,
        connections = room.connections,
        requests_in_flight = room.requests,
        "scopegate {} serves",
        env!("CARGO_PKG_VERSION")
    );
    ready(&addresses)?;

    let served = crew.until_told(&mut signals, &reloads, &log).await;
    process.drain();
    let drained = match served {
        Ok(()) => {
            let timeouts = process.live.load().snapshot.gateway.timeouts;
            crew.drain(&mut signals, timeouts.drain_notice, timeouts.drain).await
        }
        Err(error) => Err(error),
    };
    log.close();
    drained
}

/// Binds all addresses before anything is served, so that a taken one is an error and not half a start.
fn bind(
    gateway: &GatewayPolicy,
    workers: usize,
) -> Result<(Vec<Bound>, Option<std::net::TcpListener>), RunError> {
    let failed = |address, key: String| move |source| RunError::Bind { address, key, source };
    let mut bound = Vec::new();
    for (position, listener) in gateway.listen.iter().enumerate() {
        let key = format!("gateway.listen[{position}]");
        let address = listener.address;
        bound.push(listener::bind(address, workers).map_err(failed(address, key))?);
    }
    let admin = match &gateway.admin {
        Some(admin) => {
            let key = "gateway.admin.address".to_owned();
            let mut listening = listener::bind(admin.address, 1).map_err(failed(admin.address, key))?.sockets;
            listening.pop()
        }
        None => None,
    };
    Ok((bound, admin))
}

fn access_log(gateway: &GatewayPolicy, metrics: &Arc<Metrics>) -> Result<AccessLog, RunError> {
    let metrics = Arc::clone(metrics);
    match &gateway.access_log {
        AccessLogTarget::Off => Ok(AccessLog::off()),
        AccessLogTarget::Stdout => Ok(AccessLog::start(io::stdout(), metrics)?),
        AccessLogTarget::File(path) => AccessLog::to_file(path.clone(), metrics)
            .map_err(|source| RunError::AccessLog { path: path.display().to_string(), source }),
    }
}

/// The running workers.
struct Workers {
    announcer: Announcer,
    ended: mpsc::UnboundedReceiver<usize>,
    running: usize,
}

fn start_workers(
    process: &Arc<Process>,
    log: &AccessLog,
    room: Room,
    bound: Vec<Bound>,
    workers: usize,
) -> Result<Workers, RunError> {
    let (announcer, listening) = shutdown::channel();
    let (report, ended) = mpsc::unbounded_channel();
    let (crew, inboxes) = Crew::new(workers);
    let mut sockets: Vec<_> = bound.into_iter().map(|bound| bound.sockets.into_iter()).collect();
    for (number, inbox) in inboxes.into_iter().enumerate() {
        let worker = Worker {
            number,
            crew: crew.clone(),
            inbox,
            listeners: sockets.iter_mut().filter_map(Iterator::next).collect(),
            max_connections: room.connections,
            shutdown: listening.clone(),
        };
        let (process, log, report) = (Arc::clone(process), log.worker(), report.clone());
        let body = move || {
            // Reports on every way out, a panic included.
            let _report = Report { number, report };
            if let Err(error) = work(worker, process, log) {
                tracing::error!(%error, worker = number, "a worker failed");
            }
        };
        thread::Builder::new().name(format!("scopegate-worker-{number}")).spawn(body)?;
    }
    Ok(Workers { announcer, ended, running: workers })
}

fn work(
    worker: Worker,
    process: Arc<Process>,
    log: crate::observe::access_log::WorkerLog,
) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    let gateway = Rc::new(Gateway::new(process, log)?);
    runtime.block_on(worker.run(gateway))?;
    runtime.shutdown_background();
    Ok(())
}

/// Says that a worker has ended, when dropped.
struct Report {
    number: usize,
    report: mpsc::UnboundedSender<usize>,
}

impl Drop for Report {
    fn drop(&mut self) {
        // An error means that nobody waits any more.
        let _ = self.report.send(self.number);
    }
}

impl Workers {
    /// Waits for the signal to end; on SIGHUP, opens the access log again and reloads.
    async fn until_told(
        &mut self,
        signals: &mut Signals,
        reloads: &Reloads,
        log: &AccessLog,
    ) -> Result<(), RunError> {
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    Told::End => return Ok(()),
                    Told::Reload => {
                        log.reopen();
                        reloads.signal();
                    }
                    Told::Nothing(name) => tracing::info!("{name} is ignored; SIGHUP reloads the configuration"),
                },
                Some(number) = self.ended.recv() => return Err(RunError::Worker(number)),
            }
        }
    }

    /// Serves on for `notice`, then lets running requests end for at most `limit`; a second signal ends both.
    async fn drain(
        &mut self,
        signals: &mut Signals,
        notice: Duration,
        limit: Duration,
    ) -> Result<(), RunError> {
        tracing::info!(?notice, ?limit, "draining");
        let drained = async {
            if !notice.is_zero() {
                self.announcer.announce(Phase::Notice);
                tokio::time::sleep(notice).await;
            }
            self.announcer.announce(Phase::Drain);
            tokio::time::timeout(limit, all_ended(&mut self.running, &mut self.ended)).await.is_ok()
        };
        tokio::select! {
            drained = drained => match drained {
                true => tracing::info!("drained"),
                false => tracing::warn!("the drain timeout passed; what still ran was cut off"),
            },
            () = signals.end() => tracing::warn!("a second signal; what still ran was cut off"),
        }
        self.announcer.announce(Phase::Stop);
        // The workers drop what still runs, and with it write its log lines.
        let _ = tokio::time::timeout(CUT, all_ended(&mut self.running, &mut self.ended)).await;
        Ok(())
    }
}

/// Waits until no worker runs any more. May be given up and asked for again.
async fn all_ended(running: &mut usize, ended: &mut mpsc::UnboundedReceiver<usize>) {
    while *running > 0 && ended.recv().await.is_some() {
        *running -= 1;
    }
}
