//! Tells when routes.yaml, or a file it names, has new content.
//!
//! 1. What counts is content: a change is told once the bytes of all files were the same for [`Timing::settle`], and
//!    only if they differ from those before. Being unreadable is content too, so its beginning and its end are told.
//!    Where only the configuration file changed, and by one step, [`Timing::settle_replaced`] is enough: it was whole.
//! 2. Events of the file system only make it fast. Every [`Timing::poll`] all files are read anyway, so it works where
//!    events do not come (network file systems, inotify used up) or come late.
//! 3. Every directory on the way to a file is watched: its own, those of each symbolic link it is reached through, that
//!    of the file at the end; for a file that is missing, the last directory that exists.
//! 4. Files are read up to [`MAX_BYTES`]. What is no regular file (a directory, a FIFO, a device) is never read.
//! 5. Changes are told apart by how the configuration file came to its content, see [`ChangeKind`]. Where that cannot
//!    be known, the answer is the careful one.
//! 6. One change may wait in the channel; what happens meanwhile becomes one more.

mod events;
mod look;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use self::events::{Events, Interest, Made};
use self::look::{Content, Seen};

pub use self::look::MAX_BYTES;

/// How the configuration file came to the content it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// By one step: another file was renamed over it, or a symbolic link now leads elsewhere. Its content was whole when
    /// it appeared, so it may be loaded.
    Replaced,
    /// By writing into the file that was there, or into one made in its place. The writer may have stopped half-way:
    /// load it only if it ends as a whole one does. Also where the file cannot be read.
    WrittenInPlace,
}

/// Some watched file has new content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How the configuration file came to its content. It stays [`ChangeKind::WrittenInPlace`] until the file is
    /// replaced, also when it is another file that changed now.
    pub how: ChangeKind,
    /// Whether the configuration file itself is among what changed.
    pub config_changed: bool,
    /// SHA-256 of the configuration file in lower-case hex, `None` if it cannot be read. If other bytes are there when it
    /// is loaded, they were not settled: leave them, another change follows.
    pub config_hash: Option<Box<str>>,
}

/// How patient a [`Watcher`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Content must be the same for this long. Default 250 ms.
    pub settle: Duration,
    /// The same where only the configuration file changed, by being replaced. Default 50 ms.
    pub settle_replaced: Duration,
    /// Files are read this often without any event. Default 10 s.
    pub poll: Duration,
    /// A configuration file that is replaced again and again is told after this long, settled or not. Default 5 s.
    pub unrest: Duration,
    /// Whether to use events of the file system. Default true.
    pub events: bool,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(250),
            settle_replaced: Duration::from_millis(50),
            poll: Duration::from_secs(10),
            unrest: Duration::from_secs(5),
            events: true,
        }
    }
}

/// Watches files until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    commands: mpsc::Sender<SetFiles>,
}

impl Watcher {
    /// Watches `files`, the configuration file first, and tells changes to `tx`. Once this returns, every later change
    /// is seen; make it before the files are loaded, or compare hashes after, so that none falls in between.
    ///
    /// Must be called within a tokio runtime; reading happens on its blocking threads.
    pub async fn new(files: Vec<PathBuf>, tx: mpsc::Sender<Change>) -> Self {
        Self::with_timing(files, tx, Timing::default()).await
    }

    /// As [`Watcher::new`], with other timing.
    pub async fn with_timing(files: Vec<PathBuf>, tx: mpsc::Sender<Change>, timing: Timing) -> Self {
        let (commands, inbox) = mpsc::channel(1);
        let interest = Arc::<Interest>::default();
        let events = Events::new(Arc::clone(&interest), timing.events);
        let mut task = Task {
            files: files.into(),
            known: Vec::new(),
            last: None,
            how: ChangeKind::Replaced,
            missing: false,
            unsettled: None,
            untold: false,
            pending: None,
            looked: Instant::now(),
            events: Arc::new(Mutex::new(events)),
            interest,
            timing,
        };
        task.known = task.look().await;
        task.start_from_known();
        tokio::spawn(task.run(inbox, tx));
        Self { commands }
    }

    /// Watches these files from now on, the configuration file first. A change of a file that was watched before is not
    /// lost; one that is new is taken as it is now. Returns once every later change is seen.
    pub async fn set_files(&self, files: Vec<PathBuf>) {
        let (done, seen) = oneshot::channel();
        if self.commands.send(SetFiles { files, done }).await.is_ok() {
            // An error means that the runtime is shutting down.
            drop(seen.await);
        }
    }
}

/// The one command of a [`Watcher`].
#[derive(Debug)]
struct SetFiles {
    files: Vec<PathBuf>,
    done: oneshot::Sender<()>,
}

/// Content that differs from what is known, and is not told yet.
#[derive(Debug)]
struct Unsettled {
    seen: Vec<Seen>,
    /// When it was first as it is.
    at: Instant,
    /// When it first differed from what is known.
    since: Instant,
    /// How long it must be the same.
    settle: Duration,
}

/// The watching itself.
struct Task {
    files: Arc<[PathBuf]>,
    /// What was told, by position in `files`.
    known: Vec<Seen>,
    /// The configuration file when it was last told and readable.
    last: Option<Seen>,
    /// How it came to that content.
    how: ChangeKind,
    /// It was seen missing since then.
    missing: bool,
    unsettled: Option<Unsettled>,
    /// Whoever set the files may have loaded content that was never told: what settles next is news even if it is what
    /// was told last.
    untold: bool,
    /// To be sent when the channel has room.
    pending: Option<Change>,
    looked: Instant,
    events: Arc<Mutex<Events>>,
    interest: Arc<Interest>,
    timing: Timing,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<SetFiles>, tx: mpsc::Sender<Change>) {
        loop {
            let wake = match &self.unsettled {
                Some(unsettled) => self.looked.max(unsettled.at) + unsettled.settle,
                None => self.looked + self.timing.poll,
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(SetFiles { files, done }) => {
                        self.set_files(files).await;
                        // Whoever asked may be gone.
                        let _ = done.send(());
                    }
                    None => return,
                },
                permit = tx.reserve(), if self.pending.is_some() => match (permit, self.pending.take()) {
                    (Ok(permit), Some(change)) => permit.send(change),
                    (Ok(_), None) => {}
                    (Err(_), _) => return,
                },
                () = tx.closed() => return,
                // While content settles, it is looked at only as often as that needs, however many events come.
                () = self.interest.happened(), if self.unsettled.is_none() => self.observe().await,
                () = sleep_until(wake) => self.observe().await,
            }
        }
    }

    async fn set_files(&mut self, files: Vec<PathBuf>) {
        let before = std::mem::replace(&mut self.files, files.into());
        let now = self.look().await;
        let known = |path: &PathBuf| {
            let position = before.iter().position(|other| other == path)?;
            self.known.get(position).cloned()
        };
        let known: Vec<Seen> = self
            .files
            .iter()
            .zip(&now)
            .map(|(path, now)| known(path).unwrap_or_else(|| now.clone()))
            .collect();
        self.untold |= known != now;
        self.known = known;
        if before.first() != self.files.first() {
            self.start_from_known();
        }
        self.unsettled = None;
        // What changed meanwhile in files that stay is found at the next look.
        self.interest.signal();
    }

    /// Takes the configuration file as it is for one that is whole: whoever watches it has loaded it, or will.
    fn start_from_known(&mut self) {
        let config = self.known.first();
        self.missing = config.is_some_and(|seen| seen.content == Content::Missing);
        self.last = config.filter(|seen| seen.is_readable()).cloned();
        self.how = ChangeKind::Replaced;
    }

    /// Looks at all files, and tells of a change if there is one that settled.
    async fn observe(&mut self) {
        let seen = self.look().await;
        let now = Instant::now();
        if seen.first().is_some_and(|config| config.content == Content::Missing) {
            self.missing = true;
        }
        if seen == self.known {
            self.unsettled = None;
            return;
        }
        let since = match &self.unsettled {
            Some(unsettled) if unsettled.seen == seen => {
                if now.duration_since(unsettled.at) >= unsettled.settle {
                    self.tell(seen);
                }
                return;
            }
            Some(unsettled) => unsettled.since,
            None => now,
        };
        let replaced = seen.first().is_some_and(|config| self.judge(config) == ChangeKind::Replaced);
        if replaced && now.duration_since(since) >= self.timing.unrest {
            // Each of them was whole, so a stream of replacements need not hold up the policy for ever.
            self.tell(seen);
        } else {
            let others_changed = seen.get(1..) != self.known.get(1..);
            let settle =
                if replaced && !others_changed { self.timing.settle_replaced } else { self.timing.settle };
            self.unsettled = Some(Unsettled { seen, at: now, since, settle });
        }
    }

    /// Takes what was seen as known, and makes a change of it if content differs or may be loaded now.
    fn tell(&mut self, seen: Vec<Seen>) {
        self.unsettled = None;
        let differs = |position: usize| {
            self.known.get(position).map(|seen| &seen.content) != seen.get(position).map(|seen| &seen.content)
        };
        let any_changed = (0..seen.len()).any(differs);
        let config_changed = differs(0);
        let config = seen.first();
        let how = config.map_or(ChangeKind::WrittenInPlace, |config| self.judge(config));
        // Content that waited for a command is now there by a rename: that is a command too.
        let released = how == ChangeKind::Replaced && self.how == ChangeKind::WrittenInPlace;
        let untold = std::mem::take(&mut self.untold);
        if any_changed || released || untold {
            let before = self.pending.take().is_some_and(|change| change.config_changed);
            self.pending = Some(Change {
                how,
                config_changed: config_changed || before || released,
                config_hash: config.and_then(Seen::hash),
            });
        }
        if let Some(config) = config.filter(|config| config.is_readable()) {
            self.last = Some(config.clone());
            self.how = how;
            self.missing = false;
        }
        self.known = seen;
    }

    /// How the configuration file came to what it is now.
    fn judge(&self, config: &Seen) -> ChangeKind {
        let Some(identity) = config.identity else {
            return ChangeKind::WrittenInPlace;
        };
        match &self.last {
            Some(last) if last.identity == Some(identity) && last.content == config.content => self.how,
            Some(last) if last.identity == Some(identity) => ChangeKind::WrittenInPlace,
            _ => match self.interest.made() {
                Made::Created => ChangeKind::WrittenInPlace,
                Made::Renamed => ChangeKind::Replaced,
                // Between two looks the file was away: it was not replaced in one step.
                Made::Unknown if self.missing => ChangeKind::WrittenInPlace,
                Made::Unknown => ChangeKind::Replaced,
            },
        }
    }

    /// Reads all files, and watches every directory on the way to them.
    async fn look(&mut self) -> Vec<Seen> {
        let (files, events) = (Arc::clone(&self.files), Arc::clone(&self.events));
        let looking = tokio::task::spawn_blocking(move || {
            // Watched first and read then, so that no change falls in between.
            events.lock().unwrap_or_else(PoisonError::into_inner).watch(&files);
            files.iter().map(|path| look::look(path)).collect()
        });
        // It fails only when the runtime is shutting down.
        let seen = looking.await.unwrap_or_else(|_| self.known.clone());
        self.looked = Instant::now();
        seen
    }
}
