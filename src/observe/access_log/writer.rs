//! The thread that writes the lines of all workers.
//!
//! Workers append to buffers of their own; the lock of a buffer is held by its worker and, for an exchange of two
//! pointers, by the writer. The writer sleeps while there is nothing to write, and lets lines gather for
//! [`GATHER`] once there is, so that a worker wakes it a few times a second at most and not once a line.

use std::fmt;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::Entry;
use super::file::LogFile;
use crate::observe::metrics::Metrics;

/// How long lines may gather before they are written.
const GATHER: Duration = Duration::from_millis(50);

/// Most bytes that wait in the buffer of one worker.
pub(super) const CAPACITY: usize = 1024 * 1024;

/// From here on a worker wakes the writer without waiting for [`GATHER`].
const URGENT: usize = CAPACITY / 2;

/// The lines of one worker that were not taken yet.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Vec<u8>>);

/// What workers, writer and owner share.
pub(super) struct Shared {
    slots: Mutex<Vec<Arc<Slot>>>,
    metrics: Arc<Metrics>,
    thread: OnceLock<Thread>,
    /// There is a line that the writer was not told of before.
    pending: AtomicBool,
    /// A buffer is half full.
    urgent: AtomicBool,
    /// The file is to be opened again.
    renew: AtomicBool,
    closing: AtomicBool,
    ended: Mutex<bool>,
    end: Condvar,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("closing", &self.closing).finish_non_exhaustive()
    }
}

/// Starts the writer.
pub(super) fn start(sink: Sink, metrics: Arc<Metrics>) -> std::io::Result<Arc<Shared>> {
    let shared = Arc::new(Shared {
        slots: Mutex::default(),
        metrics,
        thread: OnceLock::new(),
        pending: AtomicBool::new(false),
        urgent: AtomicBool::new(false),
        renew: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        ended: Mutex::new(false),
        end: Condvar::new(),
    });
    let of_writer = Arc::clone(&shared);
    let writer = std::thread::Builder::new().name("access-log".into()).spawn(move || {
        let mut output = Output { sink, torn: false, failing: false };
        of_writer.run(&mut output);
        *lock(&of_writer.ended) = true;
        of_writer.end.notify_all();
    })?;
    // The first to know the thread; nobody else sets it.
    shared.thread.get_or_init(|| writer.thread().clone());
    Ok(shared)
}

impl Shared {
    /// A buffer for one more worker.
    pub(super) fn slot(&self) -> Arc<Slot> {
        let slot = Arc::<Slot>::default();
        lock(&self.slots).push(Arc::clone(&slot));
        slot
    }

    /// Appends a line, or counts it if there is no room.
    pub(super) fn append(&self, slot: &Slot, entry: &Entry<'_>) {
        let mut buffer = lock(&slot.0);
        if buffer.len() >= CAPACITY || self.closing.load(SeqCst) {
            drop(buffer);
            self.metrics.access_log_dropped(1);
            return;
        }
        entry.write_line(&mut buffer);
        let waiting = buffer.len();
        drop(buffer);
        if !self.pending.load(SeqCst) && !self.pending.swap(true, SeqCst) {
            self.wake();
        }
        if waiting >= URGENT && !self.urgent.load(SeqCst) && !self.urgent.swap(true, SeqCst) {
            self.wake();
        }
    }

    /// Has the writer open its file again.
    pub(super) fn reopen(&self) {
        self.renew.store(true, SeqCst);
        self.wake();
    }

    /// Has the writer write what is there and end; waits for that at most this long.
    pub(super) fn close(&self, patience: Duration) {
        self.closing.store(true, SeqCst);
        self.wake();
        let ended = lock(&self.ended);
        // Whether it ended or time ran out: there is nothing more to do here.
        drop(self.end.wait_timeout_while(ended, patience, |ended| !*ended));
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn run(&self, output: &mut Output) {
        let mut taken = Vec::new();
        loop {
            // A line that comes after this is told of anew, so none waits for the next.
            while !self.pending.swap(false, SeqCst) && !self.closing.load(SeqCst) && !self.renew.load(SeqCst)
            {
                std::thread::park();
            }
            self.gather();
            let renew = self.renew.swap(false, SeqCst);
            // Read before the last look at the buffers: what was appended before `close` is seen.
            let closing = self.closing.load(SeqCst);
            self.take_all(output, &mut taken);
            if renew {
                output.renew(true);
            }
            if closing {
                return;
            }
        }
    }

    /// Lets more lines come, unless a buffer fills up.
    fn gather(&self) {
        let until = Instant::now() + GATHER;
        while !self.urgent.swap(false, SeqCst) && !self.closing.load(SeqCst) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::park_timeout(left);
        }
    }

    fn take_all(&self, output: &mut Output, taken: &mut Vec<u8>) {
        let slots = lock(&self.slots).clone();
        for slot in &slots {
            std::mem::swap(&mut *lock(&slot.0), taken);
            let lost = output.write(taken);
            if lost > 0 {
                self.metrics.access_log_dropped(lost);
            }
            taken.clear();
        }
        drop(slots);
        // A worker that is gone leaves its buffer to this list alone.
        lock(&self.slots).retain(|slot| Arc::strong_count(slot) > 1 || !lock(&slot.0).is_empty());
    }
}

/// What lines are written to.
pub(super) enum Sink {
    /// Standard output, or what a test gives.
    Stream(Box<dyn Write + Send>),
    /// A file that may be moved or removed.
    File(LogFile),
}

impl Sink {
    fn write(&mut self) -> &mut dyn Write {
        match self {
            Self::Stream(stream) => stream,
            Self::File(file) => file,
        }
    }
}

/// Where lines go.
struct Output {
    sink: Sink,
    /// The last line was written in part.
    torn: bool,
    /// The last lines were lost.
    failing: bool,
}

impl Output {
    /// Opens the file again where that is due.
    fn renew(&mut self, asked: bool) {
        let renewed = match &mut self.sink {
            Sink::Stream(_) => false,
            Sink::File(file) => file.renew(asked),
        };
        self.torn &= !renewed;
    }

    /// Writes whole lines; returns how many of them were lost.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        self.renew(false);
        if self.torn {
            match self.write_some(b"\n") {
                0 => return count(lines),
                _ => self.torn = false,
            }
        }
        let written = self.write_some(lines);
        let (done, rest) = lines.split_at(written.min(lines.len()));
        self.torn = !rest.is_empty() && done.last().is_some_and(|byte| *byte != b'\n');
        // Standard output keeps a buffer of its own; an error here is met again at the next write.
        let flushed = self.sink.write().flush();
        if flushed.is_err() && rest.is_empty() {
            tracing::debug!("the access log could not be flushed");
        }
        if rest.is_empty() && std::mem::take(&mut self.failing) {
            tracing::info!("the access log is written again");
        }
        count(rest)
    }

    /// How many bytes could be written.
    fn write_some(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.sink.write().write(rest) {
                Ok(0) => break,
                Ok(some) => written += some,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(%error, "the access log cannot be written; its lines are lost");
                    }
                    break;
                }
            }
        }
        written.min(bytes.len())
    }
}

/// How many lines end in here.
fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// Locks, whatever became of the last holder: a buffer holds whole lines between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
