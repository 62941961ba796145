//! What operators see: metrics, the access log, diagnostics.
//!
//! Nothing here decides anything, and nothing here may slow a worker down or stop it: recording takes no lock that
//! another worker holds, and what cannot be written is dropped and counted.

pub mod access_log;
pub mod metrics;
mod stderr;
pub mod trace;
