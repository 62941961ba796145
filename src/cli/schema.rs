//! `scopegate schema`: the JSON Schema of routes.yaml.

use std::io::Write;
use std::process::ExitCode;

use crate::config;

/// Prints the JSON Schema (draft 2020-12) of routes.yaml, for editors.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  scopegate schema > routes.schema.json\n\nThen put this into the first line of routes.yaml:\n  # yaml-language-server: $schema=./routes.schema.json"
)]
pub struct Args {}

/// Runs the command.
pub fn run(_: &Args) -> ExitCode {
    match writeln!(std::io::stdout().lock(), "{:#}", config::schema()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(1),
    }
}
