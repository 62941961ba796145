//! The life of the process as its workers see it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::sync::watch;

/// What the workers should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serve.
    Serve,
    /// Serve, and let clients know that they should go elsewhere: an answer over HTTP/1 ends its connection, HTTP/2 gets GOAWAY.
    Notice,
    /// Accept nothing new, close what is idle, let what runs end.
    Drain,
    /// Drop everything.
    Stop,
}

/// Announces phases.
#[derive(Debug)]
pub struct Announcer(watch::Sender<Phase>);

/// Learns of phases.
#[derive(Clone, Debug)]
pub struct Listening(watch::Receiver<Phase>);

/// A process that serves.
pub fn channel() -> (Announcer, Listening) {
    let (sender, receiver) = watch::channel(Phase::Serve);
    (Announcer(sender), Listening(receiver))
}

impl Announcer {
    /// Announces a phase. A phase never goes back.
    pub fn announce(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = phase > *now;
            if later {
                *now = phase;
            }
            later
        });
    }
}

impl Listening {
    /// The present phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Whether nothing but [`Phase::Serve`] was ever announced. One load, for each request; only on a listening that was
    /// cloned from one that never waited.
    pub(super) fn is_serving(&self) -> bool {
        matches!(self.0.has_changed(), Ok(false))
    }

    /// Waits until the phase is at least this one. A process whose announcer is gone is stopping.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the announcer is gone, which is the end too.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }

    /// As [`Listening::reached`], for a task that polls it often, itself and not by way of another: once the task is on the
    /// list of those to wake, nothing but an announcement is worth a look at it.
    pub(super) async fn reached_by_task(&mut self, phase: Phase) {
        let announced = self.0.clone();
        let mut reached = pin!(self.reached(phase));
        let mut listed = false;
        poll_fn(|cx| {
            // An error means that the announcer is gone.
            if listed && matches!(announced.has_changed(), Ok(false)) {
                return Poll::Pending;
            }
            listed = true;
            reached.as_mut().poll(cx)
        })
        .await;
    }
}
