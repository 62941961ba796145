//! `scopegate check`: is this policy one that the gateway would take?

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::json;

use crate::config::{self, ConfigErrors, Loaded};
use crate::state::clock;

/// Checks a policy: all errors and warnings with line, column and hint.
///
/// It is read by the same parser as at start-up and reload. Exit code 0: the policy would be taken; 1: it would not.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  scopegate check --config routes.yaml\n  scopegate check --format json | jq ."
)]
pub struct Args {
    /// The policy.
    #[arg(long, short, default_value = "routes.yaml", value_name = "FILE")]
    pub config: PathBuf,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How to print the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Diagnostics on standard error, a summary on standard output.
    Text,
    /// One JSON object on standard output.
    Json,
}

/// Runs the command.
pub fn run(args: &Args) -> ExitCode {
    let result = config::load(&args.config, clock::now());
    let ok = result.is_ok();
    // A closed pipe is no reason to call a policy bad, or good.
    let _ = match args.format {
        Format::Text => print_text(&result),
        Format::Json => print_json(&result),
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn print_text(result: &Result<Loaded, ConfigErrors>) -> std::io::Result<()> {
    let diagnostics = match result {
        Ok(loaded) => &loaded.warnings,
        Err(errors) => &errors.0,
    };
    let mut stderr = std::io::stderr().lock();
    for diagnostic in diagnostics {
        writeln!(stderr, "{diagnostic}")?;
    }
    let Ok(loaded) = result else { return Ok(()) };
    let policy = &loaded.snapshot;
    writeln!(
        std::io::stdout().lock(),
        "ok: {}, {}, {}; sha256 {}",
        count(policy.routes.len(), "route"),
        count(policy.issuers.len(), "issuer"),
        count(policy.upstreams.len(), "upstream"),
        policy.hash,
    )
}

/// A number with its noun, as `1 route` or `2 routes`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn print_json(result: &Result<Loaded, ConfigErrors>) -> std::io::Result<()> {
    let answer = match result {
        Ok(loaded) => json!({
            "ok": true,
            "routes": loaded.snapshot.routes.len(),
            "issuers": loaded.snapshot.issuers.len(),
            "upstreams": loaded.snapshot.upstreams.len(),
            "hash": loaded.snapshot.hash,
            "complete": loaded.complete,
            "diagnostics": loaded.warnings,
        }),
        Err(errors) => json!({ "ok": false, "diagnostics": errors }),
    };
    writeln!(std::io::stdout().lock(), "{answer:#}")
}
