//! The signals that the process acts on.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// SIGTERM or SIGINT.
    End,
    /// SIGHUP.
    Reload,
    /// A signal that would end the process if nothing listened for it: other servers rotate logs or upgrade on it.
    Nothing(&'static str),
}

/// The signals this process acts on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.hangup.recv() => Told::Reload,
            _ = self.user1.recv() => Told::Nothing("SIGUSR1"),
            _ = self.user2.recv() => Told::Nothing("SIGUSR2"),
        }
    }

    /// Waits for SIGTERM or SIGINT.
    pub(super) async fn end(&mut self) {
        while self.next().await != Told::End {}
    }
}
