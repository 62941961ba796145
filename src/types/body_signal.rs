//! Tells a connection that the body of a request has been read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by a connection and the body of its current request: whether the client may still be sending that body.
///
/// Everything runs on one thread. The atomic is relaxed and only makes the type `Send`, as upgrades ask.
#[derive(Clone, Debug, Default)]
pub struct BodySignal(Arc<AtomicBool>);

impl BodySignal {
    /// A request begins, with or without a body.
    pub fn begin(&self, with_body: bool) {
        self.0.store(with_body, Ordering::Relaxed);
    }

    /// All of the body has been read.
    pub fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the client may still be sending.
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
