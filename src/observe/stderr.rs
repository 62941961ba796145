//! Standard error for diagnostics, written by a thread of its own: whoever reads it may be slow or gone, and no request waits
//! for that. What does not fit into the queue is dropped and counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Most messages that wait to be written.
const QUEUE: usize = 1024;

/// How long the end of the process waits for what is still to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Messages that were dropped. One for the process, as standard error is.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many messages were lost because they could not be written fast enough.
pub(super) fn dropped() -> u64 {
    DROPPED.load(Relaxed)
}

/// What the writing thread is told.
enum Told {
    Write(Vec<u8>),
    /// Answer when all before this was written.
    Flush(SyncSender<()>),
}

/// Takes messages for standard error.
pub(super) struct Stderr(SyncSender<Told>);

/// Writes what still waits, when dropped.
#[must_use = "what waits to be written is lost if this is dropped early"]
#[derive(Debug)]
pub struct Flush(SyncSender<Told>);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

/// Starts the writing thread.
///
/// # Errors
///
/// The system refuses a thread.
pub(super) fn start() -> io::Result<(Stderr, Flush)> {
    let (queue, told) = mpsc::sync_channel(QUEUE);
    std::thread::Builder::new().name("diagnostics".into()).spawn(move || write_all(&told))?;
    Ok((Stderr(queue.clone()), Flush(queue)))
}

fn write_all(told: &Receiver<Told>) {
    while let Ok(told) = told.recv() {
        match told {
            // Where nobody listens any more there is nobody to tell.
            Told::Write(message) => drop(io::stderr().write_all(&message)),
            // Whoever does not wait any more does not mind.
            Told::Flush(done) => drop(done.try_send(())),
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, written) = mpsc::sync_channel(1);
        if self.0.try_send(Told::Flush(done)).is_ok() {
            // Whether it is written or time ran out: there is nothing more to do here.
            let _ = written.recv_timeout(PATIENCE);
        }
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

/// The formatter hands over whole messages.
impl Write for &Stderr {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        if self.0.try_send(Told::Write(message.to_vec())).is_err() {
            DROPPED.fetch_add(1, Relaxed);
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
