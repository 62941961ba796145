//! The access log in a file, which others may move or remove.
//!
//! 1. Lines are appended, so several processes and `copytruncate` do no harm. A new file has the mode 0640.
//! 2. The path is opened again when that is asked for, and before a write if the file there is not the one that is open; this is
//!    looked at once in [`CHECK`].
//! 3. If the path cannot be opened again, the file that is open goes on as long as it has a name anywhere.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the path is looked at, at most.
const CHECK: Duration = Duration::from_secs(1);

/// An open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    /// `None` if it was removed and its path could not be opened again.
    file: Option<File>,
    checked: Instant,
    /// Whether the last attempt to open the path failed, which is logged once.
    failing: bool,
}

impl LogFile {
    /// Opens the file, and makes it if it is not there.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = Some(open(&path)?);
        Ok(Self { path, file, checked: Instant::now(), failing: false })
    }

    /// Opens the path again if it is no longer the open file, or if `asked`. Whether another file is open now.
    pub(super) fn renew(&mut self, asked: bool) -> bool {
        let now = Instant::now();
        if !asked && now.duration_since(self.checked) < CHECK {
            return false;
        }
        self.checked = now;
        if !asked && self.is_current() {
            return false;
        }
        match open(&self.path) {
            Ok(file) => {
                self.file = Some(file);
                self.failing = false;
                tracing::info!(path = %self.path.display(), "the access log was opened again");
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let path = self.path.display();
                    tracing::error!(%path, %error, "the access log cannot be opened again; it is tried once a second");
                }
                self.file.take_if(|file| !file.metadata().is_ok_and(|file| file.nlink() > 0));
                false
            }
        }
    }

    /// Whether the path leads to the open file.
    fn is_current(&self) -> bool {
        let identity = |file: std::fs::Metadata| (file.dev(), file.ino());
        let open = self.file.as_ref().and_then(|file| file.metadata().ok()).map(identity);
        open.is_some() && open == std::fs::metadata(&self.path).ok().map(identity)
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    // To open a FIFO or a terminal must neither wait nor make it ours.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}
