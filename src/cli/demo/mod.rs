//! `scopegate demo`: the gateway on a policy, with a small issuer and a small API beside it, all on loopback.
//!
//! The demo's issuer gives a token to whoever asks. So it listens on loopback only, and only the demo starts it.

mod api;
mod certificates;
mod issuer;
mod keys;
mod serve;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::net::TcpListener;

use super::ready::Addresses;
use super::run::{self, RunError};
use crate::config;
use crate::observe::trace::{self, LogFormat};
use crate::snapshot::{Endpoint, Snapshot};
use crate::state::clock;

/// The policy that is written where there is none.
const POLICY: &str = include_str!("../../../routes.yaml");

/// Tries the gateway: starts it with a demo issuer and a demo API on loopback, and prints curl lines to copy.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scopegate demo\n\n\
    The first issuer and the first upstream of the policy are played by the demo; their addresses must be loopback.\n\
    A policy that does not exist is written first. Ctrl-C ends the demo.")]
pub struct Args {
    /// The policy.
    #[arg(long, short, default_value = "routes.yaml", value_name = "FILE")]
    config: PathBuf,
    /// Write the bound addresses to this file, as JSON, once requests are taken.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// error, warn, info, debug, or a filter.
    #[arg(long, default_value = "warn", value_name = "LEVEL")]
    log_level: String,
}

/// Why the demo did not start.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("{0}")]
    Gateway(#[from] RunError),
    #[error("{0}")]
    Config(#[from] config::ConfigErrors),
    #[error("{0}")]
    Trace(#[from] trace::TraceError),
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    #[error("cannot write {path}: {source}")]
    Write { path: String, source: io::Error },
    #[error("the demo plays `{key}`, so it must be {wanted}, such as `{example}`")]
    Policy { key: String, wanted: &'static str, example: &'static str },
    #[error(
        "cannot listen on {address}: {source}; change the port in `{key}` of {file}, or stop what uses it"
    )]
    Bind { address: SocketAddr, key: String, file: String, source: io::Error },
    #[error("the demo's keys cannot be made or read: {0}")]
    Keys(#[from] keys::KeyError),
}

/// Runs the command.
pub fn run(args: &Args) -> ExitCode {
    let result = trace::init(LogFormat::Text, Some(&args.log_level))
        .map_err(DemoError::from)
        .and_then(|_flush| run::in_background(demo(args)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error),
    }
}

async fn demo(args: &Args) -> Result<(), DemoError> {
    let folder = args.config.parent().map(Path::to_owned).unwrap_or_default().join("certs");
    let written = write_missing(&args.config, POLICY.as_bytes())?;
    certificates::make_missing(&folder).map_err(|error| write_error(&folder, error))?;
    let keys = keys::load_or_make(&folder)?;
    let parts = Parts::of(&config::load(&args.config, clock::now())?.snapshot)?;

    let issuer = listen(parts.issuer_address, &parts.issuer_key, &args.config).await?;
    let api = listen(parts.api_address, &parts.api_key, &args.config).await?;
    let shown = Shown { parts: &parts, config: &args.config, written };
    tokio::spawn(serve::serve(
        issuer,
        issuer::Issuer::new(parts.issuer.clone(), parts.audience.clone(), keys)?,
    ));
    tokio::spawn(serve::serve(api, api::Api));

    let gateway = run::Args {
        config: args.config.clone(),
        ready_file: args.ready_file.clone(),
        ..run::Args::default()
    };
    run::serve(&gateway, |addresses| shown.print(addresses)).await?;
    Ok(())
}

/// Writes a file that does not exist; says whether it did.
fn write_missing(path: &Path, content: &[u8]) -> Result<bool, DemoError> {
    let mut options = std::fs::OpenOptions::new();
    match options.write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(content).map(|()| true).map_err(|error| write_error(path, error)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(write_error(path, error)),
    }
}

fn write_error(path: &Path, source: io::Error) -> DemoError {
    DemoError::Write { path: path.display().to_string(), source }
}

async fn listen(address: SocketAddr, key: &str, file: &Path) -> Result<TcpListener, DemoError> {
    TcpListener::bind(address).await.map_err(|source| DemoError::Bind {
        address,
        key: key.to_owned(),
        file: file.display().to_string(),
        source,
    })
}

/// What of a policy the demo plays.
struct Parts {
    issuer: String,
    issuer_address: SocketAddr,
    /// Where the configuration says that address.
    issuer_key: String,
    api_address: SocketAddr,
    /// Where the configuration says that address.
    api_key: String,
    audience: String,
}

impl Parts {
    fn of(snapshot: &Snapshot) -> Result<Self, DemoError> {
        let issuer_error = |name: &str| DemoError::Policy {
            key: format!("issuers.{name}.issuer"),
            wanted: "the origin of a loopback address with a port",
            example: "http://127.0.0.1:9400",
        };
        let (_, policy) = snapshot.issuers.iter().next().ok_or_else(|| issuer_error("*"))?;
        let issuer = policy.issuer.as_str().to_owned();
        let address = issuer.strip_prefix("http://").and_then(|rest| rest.trim_end_matches('/').parse().ok());
        let issuer_address: SocketAddr = address
            .filter(|address: &SocketAddr| address.ip().is_loopback())
            .ok_or_else(|| issuer_error(policy.name.as_str()))?;

        let api = snapshot.upstreams.first();
        let api_key = format!("upstreams.{}.url", api.map_or("*", |upstream| upstream.name.as_str()));
        let endpoint = api.and_then(|upstream| upstream.endpoints.first());
        let api_address = endpoint.and_then(loopback).ok_or_else(|| DemoError::Policy {
            key: api_key.clone(),
            wanted: "a loopback address with a port",
            example: "http://127.0.0.1:9401",
        })?;
        let audience = snapshot.routes.iter().find_map(|route| match &route.access {
            crate::snapshot::Access::Protected(requirement) => requirement.audiences.first(),
            crate::snapshot::Access::Public => None,
        });
        let audience = audience.map(ToString::to_string).unwrap_or_default();
        let issuer_key = format!("issuers.{}.issuer", policy.name.as_str());
        Ok(Self { issuer, issuer_address, issuer_key, api_address, api_key, audience })
    }
}

fn loopback(endpoint: &Endpoint) -> Option<SocketAddr> {
    let ip: IpAddr = endpoint.host.parse().ok()?;
    (ip.is_loopback() && !endpoint.secure).then(|| SocketAddr::new(ip, endpoint.port))
}

/// What the demo tells its user.
struct Shown<'a> {
    parts: &'a Parts,
    config: &'a Path,
    written: bool,
}

impl Shown<'_> {
    fn print(&self, addresses: &Addresses) -> io::Result<()> {
        let gateway = addresses.listeners.first().map(|(address, _)| address.to_string()).unwrap_or_default();
        let admin = addresses.admin.map_or_else(|| "off".to_owned(), |admin| format!("http://{admin}"));
        let issuer = &self.parts.issuer.trim_end_matches('/');
        let api = self.parts.api_address;
        let file = self.config.display();
        let new = if self.written { " (new)" } else { "" };
        let text = format!(
            r#"Scopegate demo
  gateway  http://{gateway}     policy {file}{new}
  admin    {admin}     metrics, health, status
  issuer   {issuer}     gives a token to whoever asks
  API      http://{api}     knows nothing of tokens; believes the identity headers

Get a token that may read the orders of tenant acme:
  TOKEN=$(curl -s '{issuer}/token?tenant=acme&scope=orders:read')

200: the caller is known and may read. The API is told who calls:
  curl -i http://{gateway}/v1/acme/orders/1 -H "Authorization: Bearer $TOKEN"

401: nobody knows who is calling:
  curl -i http://{gateway}/v1/acme/orders/1

403: the caller is known, but may not write. The answer names the control, the scope and the owner:
  curl -i http://{gateway}/v1/acme/orders -H "Authorization: Bearer $TOKEN" --json '{{"item":"book"}}'

403: the caller is known, but belongs to another tenant:
  curl -i http://{gateway}/v1/globex/orders/1 -H "Authorization: Bearer $TOKEN"

Now edit {file} while this runs: have `orders-write` ask for orders:read, save, and try the first 403 again.
A mistake in the file changes nothing; `scopegate check` and {admin}/api/v1/status tell what is wrong.

One line for each request follows. Ctrl-C ends the demo.
"#
        );
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}
