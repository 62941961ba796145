//! The command line: one file a subcommand.

pub mod check;
pub mod client;
pub mod demo;
mod files;
mod ready;
pub mod run;
pub mod schema;
mod signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A reverse-proxy API gateway that validates OAuth access tokens and enforces each route's scopes before it forwards.
#[derive(Debug, Parser)]
#[command(
    name = "scopegate",
    version,
    after_help = "Examples:\n  scopegate demo                          try it: gateway, issuer and API on loopback\n  \
        scopegate check --config routes.yaml    all errors of a policy, with their places\n  \
        scopegate run --config routes.yaml      serve"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Demo(demo::Args),
    /// Has a running gateway reload its policy, and tells the outcome.
    #[command(after_help = "Example:\n  scopegate reload --config /etc/scopegate/routes.yaml\n\n\
        The admin address and token are those of the policy, unless --admin and --token-file say otherwise.\n\
        Exit code 0: the file on disk is in force; 1: it is not, and the last good policy stays.")]
    Reload(client::Args),
    Run(run::Args),
    Schema(schema::Args),
    /// Prints the status of a running gateway as JSON.
    #[command(
        after_help = "Example:\n  scopegate status | jq .reload\n  scopegate status --admin 127.0.0.1:9090"
    )]
    Status(client::Args),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    match Cli::parse().command.unwrap_or_else(|| Command::Run(run::Args::default())) {
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Reload(args) => client::reload(&args),
        Command::Run(args) => run::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Status(args) => client::status(&args),
    }
}

/// Says what went wrong, and gives the exit code for it.
#[expect(clippy::print_stderr, reason = "errors of a command go to stderr")]
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("scopegate: {error}");
    ExitCode::FAILURE
}
