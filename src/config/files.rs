//! Files that a policy names: read together with it, so that one reload sees one state of all.
//!
//! 1. Paths are relative to routes.yaml.
//! 2. Regular files only, and no more than a bound: a FIFO or a device cannot hang or fill the gateway.
//! 3. Each file is read once, and all are listed, so that a change of any can be noticed.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Fault, Place};
use super::fingerprint::{Source, Sources};
use super::raw_values::RawSecret;
use super::read::Lookup;
use crate::types::Secret;

/// Longest certificate, key, CA or JWK Set file.
pub(super) const MAX_FILE: usize = 4 << 20;
/// Longest secret.
const MAX_SECRET: usize = 64 << 10;

/// Reads the files of one policy.
pub(super) struct Files<'e> {
    base: &'e Path,
    env: Lookup<'e>,
    sources: &'e Sources,
    contents: HashMap<PathBuf, Arc<[u8]>>,
    order: Vec<PathBuf>,
}

impl<'e> Files<'e> {
    pub(super) fn new(base: &'e Path, env: Lookup<'e>, sources: &'e Sources) -> Self {
        Self { base, env, sources, contents: HashMap::new(), order: Vec::new() }
    }

    /// The files that were read, in the order they were first named.
    pub(super) fn into_paths(self) -> Vec<PathBuf> {
        self.order
    }

    /// Where a file named in the policy is.
    pub(super) fn path(&self, written: &str) -> PathBuf {
        self.base.join(written)
    }

    /// Reads a file named in the policy at `place`.
    pub(super) fn read(&mut self, written: &str, place: Place) -> Result<(PathBuf, Arc<[u8]>), Fault> {
        let (path, content) = self.content(written, place)?;
        self.sources.add(Source::File, written, &content);
        Ok((path, content))
    }

    fn content(&mut self, written: &str, place: Place) -> Result<(PathBuf, Arc<[u8]>), Fault> {
        let path = self.path(written);
        if let Some(content) = self.contents.get(&path) {
            return Ok((path, Arc::clone(content)));
        }
        let content: Arc<[u8]> = read_regular(&path, MAX_FILE)
            .map_err(|e| Fault::new(place, format!("cannot read `{}`: {e}", path.display())))?
            .into();
        self.contents.insert(path.clone(), Arc::clone(&content));
        self.order.push(path.clone());
        Ok((path, content))
    }

    /// Reads a secret from its file or the environment: a token, without spaces.
    pub(super) fn secret(&mut self, raw: &RawSecret, place: Place) -> Result<Secret, Fault> {
        let secret = self.secret_text(raw, place)?;
        if !secret.expose().bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Fault::new(
                place,
                "the secret holds spaces, line ends or other than ASCII characters",
            ));
        }
        Ok(secret)
    }

    /// Reads a secret that may hold spaces, though not at its ends, and characters beyond ASCII.
    pub(super) fn secret_text(&mut self, raw: &RawSecret, place: Place) -> Result<Secret, Fault> {
        let text = match (&raw.file, &raw.env) {
            (Some(file), None) => {
                let (path, content) = self.content(file, place)?;
                self.sources.add(Source::Secret, file, &content);
                let text = std::str::from_utf8(&content).map_err(|_| {
                    Fault::new(place, format!("the secret in `{}` is not text", path.display()))
                })?;
                let text = text.strip_suffix('\n').unwrap_or(text);
                text.strip_suffix('\r').unwrap_or(text).to_owned()
            }
            (None, Some(name)) => {
                let unset = || Fault::new(place, format!("the environment variable `{name}` is not set"));
                let text = (self.env)(name).ok_or_else(unset)?;
                self.sources.add(Source::Secret, name, text.as_bytes());
                text
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(Fault::new(place, "a secret is either `{ file: … }` or `{ env: … }`"));
            }
        };
        if text.is_empty() {
            return Err(Fault::new(place, "the secret is empty"));
        }
        if text.starts_with('\u{feff}') {
            let fault = Fault::new(place, "the secret begins with a byte order mark");
            return Err(fault.hint("save it as ASCII text without one"));
        }
        if text.len() > MAX_SECRET {
            return Err(Fault::new(place, format!("the secret is longer than {MAX_SECRET} bytes")));
        }
        if text.trim() != text || text.contains(char::is_control) {
            return Err(Fault::new(
                place,
                "the secret holds spaces or line ends at an end, or control characters",
            ));
        }
        Ok(Secret::new(text))
    }
}

/// Why a file cannot be read. `Display` is for a message.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// A folder, FIFO, socket or device.
    #[error("not a regular file")]
    Irregular,
    /// Longer than this many bytes.
    #[error("longer than {} MiB", .0 >> 20)]
    TooLong(usize),
    /// The system says so.
    #[error("{}", in_words(.0))]
    Failed(#[from] std::io::Error),
}

/// Reads a regular file of at most `limit` bytes, which is a number of MiB.
///
/// # Errors
///
/// Files of other kinds, longer files, and whatever the system says.
pub(super) fn read_regular(path: &Path, limit: usize) -> Result<Vec<u8>, Unreadable> {
    // The kind is looked at before the file is opened: to open a device may do something.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Unreadable::Irregular);
    }
    // It may have become a FIFO since, and to open that must not wait for its writer.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Unreadable::Irregular);
    }
    let length = usize::try_from(metadata.len()).ok().filter(|length| *length <= limit);
    let length = length.ok_or(Unreadable::TooLong(limit))?;
    // Room for all of it at once, and a byte to see its end: a large file is not copied while it is read.
    let mut content = Vec::with_capacity(length.saturating_add(1));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut content)?;
    if content.len() > limit {
        return Err(Unreadable::TooLong(limit));
    }
    Ok(content)
}

fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
