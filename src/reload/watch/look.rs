//! What a file is at one moment, and the way that leads to it.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::digest;

/// Files are read up to this many bytes; larger ones count as unreadable.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Symbolic links followed on the way to one file, as the kernel does.
const MAX_LINKS: usize = 40;

/// A file at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Which file it is, if it can be read.
    pub(super) identity: Option<Identity>,
    /// What is in it.
    pub(super) content: Content,
}

/// Which file it is: a device and an inode, and the time it was made where that is known, because inodes are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    made: Option<SystemTime>,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Bytes with this SHA-256.
    Bytes([u8; 32]),
    /// There is no such file.
    Missing,
    /// It is no regular file.
    NotRegular,
    /// It is larger than [`MAX_BYTES`].
    TooLarge,
    /// It cannot be read.
    Unreadable(ErrorKind),
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino(), made: metadata.created().ok() }
    }
}

impl Seen {
    pub(super) fn is_readable(&self) -> bool {
        self.identity.is_some()
    }

    /// SHA-256 in lower-case hex, if it can be read.
    pub(super) fn hash(&self) -> Option<Box<str>> {
        const HEX: [char; 16] =
            ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        let Content::Bytes(hash) = &self.content else {
            return None;
        };
        let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
        let digits: String = digits.filter_map(|digit| HEX.get(usize::from(digit))).collect();
        Some(digits.into())
    }
}

/// Reads a file as it is now.
pub(super) fn look(path: &Path) -> Seen {
    match read(path) {
        Ok((identity, hash)) => Seen { identity: Some(identity), content: Content::Bytes(hash) },
        Err(content) => Seen { identity: None, content },
    }
}

fn read(path: &Path) -> Result<(Identity, [u8; 32]), Content> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Content::Missing,
        kind => Content::Unreadable(kind),
    };
    // Opening a device may do something, so it is not even opened.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Content::NotRegular);
    }
    // It may have become a FIFO since, and opening that must not wait for a writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = file.map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Content::NotRegular);
    }
    if metadata.len() > MAX_BYTES {
        return Err(Content::TooLarge);
    }
    Ok((Identity::of(&metadata), hash(file).map_err(failed)?.ok_or(Content::TooLarge)?))
}

/// SHA-256 of what is in a file, `None` if that is too much.
fn hash(file: File) -> std::io::Result<Option<[u8; 32]>> {
    let mut file = file.take(MAX_BYTES + 1);
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        context.update(buffer.get(..count).unwrap_or_default());
        total += count as u64;
    }
    let hash = <[u8; 32]>::try_from(context.finish().as_ref()).ok();
    Ok(hash.filter(|_| total <= MAX_BYTES))
}

/// The way to a file, symbolic links resolved.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// Directories in which something can happen that changes where the way leads or what is there.
    pub(super) directories: BTreeSet<PathBuf>,
    /// The names of that something, and the directories themselves.
    pub(super) names: BTreeSet<PathBuf>,
    /// Where the file is, or would be if it were not missing.
    pub(super) target: Option<PathBuf>,
}

impl Way {
    fn pass(&mut self, directory: &Path, name: &Path) {
        self.directories.insert(directory.to_owned());
        self.names.insert(directory.to_owned());
        self.names.insert(name.to_owned());
    }
}

/// Follows a path name by name. Directories that are plain parts of it are passed without notice: when one of them is
/// moved, the watch on what lies in it, or the next poll, tells.
pub(super) fn follow(path: &Path) -> Way {
    let mut way = Way::default();
    // It fails for an empty path, or if there is no working directory: then there is no way.
    let Ok(path) = std::path::absolute(path) else {
        return way;
    };
    let mut at = PathBuf::from("/");
    let mut left: VecDeque<OsString> = names_of(&path);
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        match std::fs::symlink_metadata(&next) {
            Ok(metadata) if metadata.is_symlink() => {
                way.pass(&at, &next);
                links += 1;
                let Ok(to) = std::fs::read_link(&next) else {
                    return way;
                };
                if links > MAX_LINKS {
                    return way;
                }
                if to.is_absolute() {
                    at = PathBuf::from("/");
                }
                for name in names_of(&to).into_iter().rev() {
                    left.push_front(name);
                }
            }
            Ok(_) if left.is_empty() => {
                way.pass(&at, &next);
                way.target = Some(next);
            }
            Ok(_) => at = next,
            Err(_) => {
                way.pass(&at, &next);
                way.target = left.is_empty().then_some(next);
                return way;
            }
        }
    }
    way
}

/// The names in a path, `..` among them: what it means depends on where links have led.
fn names_of(path: &Path) -> VecDeque<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::Prefix(_) | Component::RootDir => None,
    };
    path.components().filter_map(name).collect()
}
