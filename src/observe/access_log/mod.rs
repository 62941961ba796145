//! The access log: one JSON object a line for each request, on standard output or in a file.
//!
//! 1. A line is always valid JSON and always one line: control characters, CR, LF, ANSI escapes and the marks that turn
//!    text around are escaped, bytes that are no UTF-8 are replaced.
//! 2. A query is never logged, nor is a token: what looks like a signed token in client-chosen text is cut out.
//! 3. Every text is bounded by [`MAX_TEXT`] bytes before escaping, so every line is bounded.
//! 4. Logging never stops a worker. Each worker has a buffer of its own, of which one thread takes all lines at once;
//!    a line that finds its buffer full is dropped and counted.
//! 5. What cannot be written (broken pipe, full disk) is counted as dropped too, and the next lines are tried again; the first
//!    failure in a row is said on standard error. A
//!    line that was torn by an error is ended before the next, so that a reader loses only that one.
//! 6. Lines of one worker keep their order; lines of different workers may not.

mod file;
mod json;
#[cfg(test)]
mod tests;
mod writer;

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Version};

use self::file::LogFile;
use self::writer::{Shared, Sink, Slot};
use super::metrics::Metrics;
use crate::reject::Reason;

/// Longest text of a field in bytes, before escaping. What is cut ends in `…`.
pub const MAX_TEXT: usize = 1024;

/// How a request was decided, as the log names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Refused.
    Deny,
    /// Answered with the metadata of a protected resource.
    Metadata,
    /// Answered by the gateway as the last recipient (`Max-Forwards: 0`).
    Options,
    /// Let through.
    Permit,
    /// Answered as a CORS preflight.
    Preflight,
    /// Sent on to https.
    Redirect,
    /// Would have been refused, but its route is in shadow mode.
    Shadow,
}

impl Disposition {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Metadata => "metadata",
            Self::Options => "options",
            Self::Permit => "permit",
            Self::Preflight => "preflight",
            Self::Redirect => "redirect",
            Self::Shadow => "shadow",
        }
    }
}

/// One request, borrowed from where it is known. Absent fields are left out of the line.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When the request came: milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: i64,
    /// The id that is also in the answer.
    pub request_id: &'a str,
    /// Where the request came from, as trusted proxies tell it.
    pub address: Option<IpAddr>,
    /// The method.
    pub method: &'a Method,
    /// The host asked for.
    pub host: Option<&'a [u8]>,
    /// The path as it came. A query is cut off here in case it is still there.
    pub path: &'a [u8],
    /// The version of HTTP the client spoke.
    pub protocol: Version,
    /// Whether the client's connection was TLS.
    pub tls: bool,
    /// The id of the route.
    pub route: Option<&'a str>,
    /// The status of the answer.
    pub status: u16,
    /// How it was decided.
    pub decision: Option<Disposition>,
    /// Why it was refused, or would have been; tells the control as well.
    pub reason: Option<Reason>,
    /// What exactly was wrong.
    pub cause: Option<&'a str>,
    /// Who answers for the control that refused.
    pub owner: Option<&'a str>,
    /// The issuer of the token.
    pub issuer: Option<&'a str>,
    /// The OAuth client.
    pub client: Option<&'a str>,
    /// The subject of the token.
    pub subject: Option<&'a str>,
    /// The tenant that the caller acts for.
    pub tenant: Option<&'a str>,
    /// The upstream asked.
    pub upstream: Option<&'a str>,
    /// From the head of the request to the end of the answer.
    pub duration: Duration,
    /// Of which deciding took this.
    pub decision_duration: Option<Duration>,
    /// Of which the upstream took this, until the head of its answer.
    pub upstream_duration: Option<Duration>,
    /// The names of fields of the request that did not go on because servers could confuse them.
    pub removed_headers: Option<&'a str>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
}

impl<'a> Entry<'a> {
    /// An entry of which nothing else is known: its other fields are absent or zero.
    pub const fn new(unix_ms: i64, request_id: &'a str, method: &'a Method) -> Self {
        Self {
            unix_ms,
            request_id,
            address: None,
            method,
            host: None,
            path: b"",
            protocol: Version::HTTP_11,
            tls: false,
            route: None,
            status: 0,
            decision: None,
            reason: None,
            cause: None,
            owner: None,
            issuer: None,
            client: None,
            subject: None,
            tenant: None,
            upstream: None,
            duration: Duration::ZERO,
            decision_duration: None,
            upstream_duration: None,
            removed_headers: None,
            request_bytes: 0,
            response_bytes: 0,
        }
    }

    /// Appends this entry as one line, its end included.
    pub fn write_line(&self, line: &mut Vec<u8>) {
        json::write_line(self, line);
    }
}

/// The access log of the process, or none.
#[derive(Debug)]
pub struct AccessLog {
    shared: Option<Arc<Shared>>,
}

impl AccessLog {
    /// No access log: nothing is built, nothing is written.
    pub fn off() -> Self {
        Self { shared: None }
    }

    /// Writes to `sink` (standard output, unless in a test) from a thread of its own until [`AccessLog::close`].
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(sink: impl Write + Send + 'static, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let shared = writer::start(Sink::Stream(Box::new(sink)), metrics)?;
        Ok(Self { shared: Some(shared) })
    }

    /// Appends to this file, which is made if it is not there, from a thread of its own until [`AccessLog::close`].
    ///
    /// # Errors
    /// If the file cannot be opened, or the thread cannot be started.
    pub fn to_file(path: PathBuf, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let shared = writer::start(Sink::File(LogFile::open(path)?), metrics)?;
        Ok(Self { shared: Some(shared) })
    }

    /// Has the file opened again, once what was logged before is written. Does not wait for it.
    pub fn reopen(&self) {
        if let Some(shared) = &self.shared {
            shared.reopen();
        }
    }

    /// Whether lines are written at all. Ask before building an [`Entry`].
    pub fn enabled(&self) -> bool {
        self.shared.is_some()
    }

    /// The recorder of one worker.
    pub fn worker(&self) -> WorkerLog {
        let slot = self.shared.as_ref().map(|shared| (Arc::clone(shared), shared.slot()));
        WorkerLog { slot }
    }

    /// Writes what is there and stops. Waits at most one second, because whoever reads the log may not read any more.
    /// Lines that come later are dropped and counted. Call it after the workers ended, from a thread that may wait.
    pub fn close(&self) {
        if let Some(shared) = &self.shared {
            shared.close(Duration::from_secs(1));
        }
    }
}

/// Writes the access log for one worker.
#[derive(Debug)]
pub struct WorkerLog {
    slot: Option<(Arc<Shared>, Arc<Slot>)>,
}

impl WorkerLog {
    /// Whether lines are written at all. Ask before building an [`Entry`].
    pub fn enabled(&self) -> bool {
        self.slot.is_some()
    }

    /// Logs one request. Never waits for the writing; see rule 4.
    pub fn write(&self, entry: &Entry<'_>) {
        if let Some((shared, slot)) = &self.slot {
            shared.append(slot, entry);
        }
    }
}
