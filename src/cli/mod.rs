//! The command line.

pub mod check;
pub mod schema;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Validates OAuth access tokens and enforces each route's scopes before it forwards.
#[derive(Debug, Parser)]
#[command(name = "scopegate", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Schema(schema::Args),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Check(args) => check::run(&args),
        Command::Schema(args) => schema::run(&args),
    }
}
