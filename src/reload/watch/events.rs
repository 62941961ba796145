//! Events of the file system: they say when to look, and whether a file was made or renamed to its name.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::look::{self, Identity, Way};

/// How the configuration file last came to its name, as far as events told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Made {
    /// It was made there, so its content came later.
    Created,
    /// It was renamed to it.
    Renamed,
    /// No event told.
    #[default]
    Unknown,
}

/// Which events matter, and what they said.
#[derive(Debug, Default)]
pub(super) struct Interest {
    points: Mutex<Points>,
    happened: Notify,
}

#[derive(Debug, Default)]
struct Points {
    names: BTreeSet<PathBuf>,
    /// Where the configuration file is.
    target: Option<PathBuf>,
    made: Made,
}

impl Interest {
    /// Waits until something that matters happened since the last wait.
    pub(super) async fn happened(&self) {
        self.happened.notified().await;
    }

    /// Has the next wait return at once.
    pub(super) fn signal(&self) {
        self.happened.notify_one();
    }

    pub(super) fn made(&self) -> Made {
        self.points().made
    }

    fn points(&self) -> MutexGuard<'_, Points> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the events on this way matter. No lock is held after: setting up watches waits for the thread that
    /// takes events.
    fn set(&self, way: &Way) {
        let mut points = self.points();
        points.names.clone_from(&way.names);
        if points.target != way.target {
            points.target.clone_from(&way.target);
            points.made = Made::Unknown;
        }
    }

    /// Takes an event; called on the thread of the file system watcher.
    fn take(&self, event: notify::Result<Event>) {
        let mut points = self.points();
        let Ok(event) = event else {
            points.made = Made::Unknown;
            return self.signal();
        };
        if event.need_rescan() {
            // Events were lost.
            points.made = Made::Unknown;
            return self.signal();
        }
        let target = points.target.as_deref();
        match event.kind {
            // Our own reading makes such events.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
            EventKind::Access(_) => return,
            EventKind::Create(_) if event.paths.iter().any(|path| Some(path.as_path()) == target) => {
                points.made = Made::Created;
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both))
                if event.paths.last().map(PathBuf::as_path) == target =>
            {
                points.made = Made::Renamed;
            }
            EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) => {}
            EventKind::Remove(_) | EventKind::Other => {}
        }
        if event.paths.iter().any(|path| points.names.contains(path)) {
            self.signal();
        }
    }
}

/// The watches on directories.
pub(super) struct Events {
    watcher: Option<RecommendedWatcher>,
    interest: Arc<Interest>,
    watched: HashMap<PathBuf, Identity>,
    /// Directories that could not be watched, so that each is complained of once.
    failed: HashSet<PathBuf>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("watched", &self.watched).finish_non_exhaustive()
    }
}

impl Events {
    /// No watches yet; without `enabled`, or if the system refuses, there will never be any.
    pub(super) fn new(interest: Arc<Interest>, enabled: bool) -> Self {
        let taking = Arc::clone(&interest);
        let watcher = enabled.then(|| notify::recommended_watcher(move |event| taking.take(event)));
        let watcher = watcher.and_then(|made| {
            made.inspect_err(|error| tracing::warn!(%error, "no file events: files are only polled")).ok()
        });
        Self { watcher, interest, watched: HashMap::new(), failed: HashSet::new() }
    }

    /// Watches every directory on the way to these files, the configuration file first, and no others.
    pub(super) fn watch(&mut self, files: &[PathBuf]) {
        let mut way = follow_all(files);
        // What happens in a directory before it is watched is not told, and may lead on: so the way is followed until
        // it is the same after watching as before. Whoever changes it faster than that is met at the next look.
        for _ in 0..8 {
            self.interest.set(&way);
            self.update(&way.directories);
            let again = follow_all(files);
            if again == way {
                break;
            }
            way = again;
        }
    }

    fn update(&mut self, directories: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let gone =
            |path: &PathBuf, identity: &Identity| !directories.contains(path) || now(path) != Some(*identity);
        let gone: Vec<_> =
            self.watched.iter().filter(|(path, was)| gone(path, was)).map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.watched.remove(&path);
            // A directory that was removed is not watched any more: that is an error, and what is wanted.
            drop(watcher.unwatch(&path));
        }
        self.failed.retain(|path| directories.contains(path));
        for path in directories {
            if self.watched.contains_key(path) {
                continue;
            }
            let identity = now(path);
            match (watcher.watch(path, RecursiveMode::NonRecursive), identity) {
                (Ok(()), Some(identity)) => {
                    self.failed.remove(path);
                    self.watched.insert(path.clone(), identity);
                }
                // It vanished in between; the next look finds another way.
                (Ok(()), None) => drop(watcher.unwatch(path)),
                (Err(error), _) => {
                    if self.failed.insert(path.clone()) {
                        tracing::warn!(%error, directory = %path.display(), "not watched: files in it are only polled");
                    }
                }
            }
        }
    }
}

/// The ways to all files, and the target of the first.
fn follow_all(files: &[PathBuf]) -> Way {
    let mut all = Way::default();
    for (position, path) in files.iter().enumerate() {
        let way = look::follow(path);
        all.directories.extend(way.directories);
        all.names.extend(way.names);
        if position == 0 {
            all.target = way.target;
        }
    }
    all
}

/// Which directory is there now.
fn now(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|metadata| Identity::of(&metadata))
}
