//! `scopegate status` and `scopegate reload`: the admin API of a running gateway.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::config;
use crate::state::clock;

/// How long the running gateway may take to answer. A reload of 100,000 routes takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which running gateway is meant.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy, for the admin address and token.
    #[arg(long, short, default_value = "routes.yaml", value_name = "FILE")]
    config: PathBuf,
    /// The admin address, instead of the one in the policy.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// A file with the admin token, instead of the one in the policy.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Why a running gateway did not do as asked.
#[derive(Debug, thiserror::Error)]
enum ClientError {
    #[error("{0}")]
    Config(#[from] config::ConfigErrors),
    #[error("the policy has no `gateway.admin`; name the address with --admin")]
    NoAdmin,
    #[error("{0}: {1}")]
    Token(String, std::io::Error),
    #[error("no answer from the admin listener at {0}: {1}; is the gateway running?")]
    Unreachable(SocketAddr, std::io::Error),
    #[error("the admin listener gave no valid answer")]
    Invalid,
    #[error("{0}")]
    Refused(String),
}

/// Prints the status of a running gateway.
pub fn status(args: &Args) -> ExitCode {
    finish(call(args, "GET", "/api/v1/status"))
}

/// Has a running gateway reload its policy, and waits for the outcome.
pub fn reload(args: &Args) -> ExitCode {
    finish(call(args, "POST", "/api/v1/reload"))
}

#[expect(clippy::print_stdout, reason = "the answer is this command's output")]
fn finish(result: Result<String, ClientError>) -> ExitCode {
    match result {
        Ok(body) => {
            print!("{body}");
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(&error),
    }
}

fn call(args: &Args, method: &str, path: &str) -> Result<String, ClientError> {
    let (address, token) = target(args)?;
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let answer = exchange(address, &request).map_err(|error| ClientError::Unreachable(address, error))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ClientError::Invalid)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some(_) => Err(ClientError::Refused(message(body))),
        None => Err(ClientError::Invalid),
    }
}

/// The `error` of a JSON answer, or the text.
fn message(body: &str) -> String {
    let error = serde_json::from_str::<serde_json::Value>(body)
        .ok()
        .and_then(|json| json.get("error")?.as_str().map(str::to_owned));
    error.unwrap_or_else(|| body.trim().to_owned())
}

fn target(args: &Args) -> Result<(SocketAddr, Option<String>), ClientError> {
    let file = |path: &PathBuf| {
        std::fs::read_to_string(path)
            .map(|text| text.trim_end().to_owned())
            .map_err(|error| ClientError::Token(path.display().to_string(), error))
    };
    let token = args.token_file.as_ref().map(file).transpose()?;
    if let (Some(address), Some(_)) = (args.admin, &token) {
        return Ok((address, token));
    }
    let configured = match config::load(&args.config, clock::now()) {
        Ok(loaded) => loaded.snapshot.gateway.admin,
        // With an address given, a policy that cannot be read only means that no token is known.
        Err(_) if args.admin.is_some() => None,
        Err(errors) => return Err(errors.into()),
    };
    let known = configured.as_ref().and_then(|admin| Some(admin.token.as_ref()?.expose().to_owned()));
    let address = args.admin.or(configured.map(|admin| admin.address)).ok_or(ClientError::NoAdmin)?;
    Ok((address, token.or(known)))
}

/// One request and its answer, to the end of the connection.
fn exchange(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    socket.take(64 * 1024 * 1024).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
