//! Diagnostics of the gateway itself, on standard error. Standard output belongs to the access log.
//!
//! 1. The level comes from `--log-level`, else from `SCOPEGATE_LOG`, else it is `info`.
//! 2. A bare level is that of the gateway; its libraries stay at `warn`, because their lower levels can show parts of
//!    requests. Whoever writes a full filter (`h2=debug`) asks for that by name.
//! 3. A reader of standard error that is slow or gone holds nothing up: messages are dropped and counted.
//! 4. Control characters in messages are escaped by the formatter.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

pub use super::stderr::Flush;

/// The environment variable that holds a filter.
pub const VARIABLE: &str = "SCOPEGATE_LOG";

/// How diagnostics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why diagnostics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The filter is not one.
    #[error("`{filter}` is no log level (error, warn, info, debug) and no filter such as `info,hyper=debug`")]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The system refuses a thread to write them.
    #[error("diagnostics cannot be written: {0}")]
    Thread(#[from] std::io::Error),
    /// Diagnostics were set up before.
    #[error("diagnostics are set up already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Sets up diagnostics for the process, once. `level` is what `--log-level` was given. Hold the result until the process
/// ends.
///
/// # Errors
/// If the filter cannot be parsed, if the system refuses a thread, or if diagnostics were set up before.
pub fn init(format: LogFormat, level: Option<&str>) -> Result<Flush, TraceError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = filter(level, std::env::var(VARIABLE).ok().as_deref())?;
    let (stderr, flush) = super::stderr::start()?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).finish().try_init(),
    }
    .map_err(TraceError::Twice)?;
    Ok(flush)
}

/// How many messages were lost because they could not be written fast enough.
pub fn dropped() -> u64 {
    super::stderr::dropped()
}

fn filter(level: Option<&str>, variable: Option<&str>) -> Result<EnvFilter, TraceError> {
    let given = level.or(variable).map(str::trim).filter(|text| !text.is_empty()).unwrap_or("info");
    let text = match given.parse::<LevelFilter>() {
        Ok(level) => format!("{},scopegate={level}", level.min(LevelFilter::WARN)),
        Err(_) => given.to_owned(),
    };
    EnvFilter::try_new(text).map_err(|source| TraceError::Filter { filter: given.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_that_of_the_gateway() {
        for (level, variable, expected, message) in [
            (None, None, "scopegate=info,warn", "the default"),
            (Some("debug"), None, "scopegate=debug,warn", "the flag"),
            (None, Some("error"), "scopegate=error,error", "the variable"),
            (Some("info"), Some("debug"), "scopegate=info,warn", "the flag wins"),
            (None, Some(" "), "scopegate=info,warn", "a blank variable is none"),
            (Some("off"), None, "scopegate=off,off", "silence"),
            (Some("info,h2=debug"), None, "h2=debug,info", "a filter is taken as it is"),
        ] {
            assert_eq!(filter(level, variable).unwrap().to_string(), expected, "{message}");
        }
    }

    #[test]
    fn a_filter_that_is_none_is_an_error_that_names_it() {
        let error = filter(Some("scopegate=verbose=x"), None).unwrap_err();
        assert!(error.to_string().contains("`scopegate=verbose=x`"), "{error}");
    }
}
