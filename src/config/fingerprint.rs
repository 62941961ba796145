//! What a policy was made from, as one number: its text, each file that it names and each variable.
//!
//! 1. Two replicas with the same text, the same contents and the same values agree, wherever their folders are.
//! 2. Two numbers are made. One is shown, and leaves out secrets, since anybody who knows the rest could try guesses against it.
//!    The other holds everything and never leaves the process.
//! 3. A policy that names neither files nor variables is shown as `sha256sum` would print its text.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::read::Lookup;

/// SHA-256.
type Digest = [u8; 32];

/// Where a part of a policy came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// A file.
    File,
    /// A variable in the text.
    Variable,
    /// A secret, from a file or a variable.
    Secret,
}

impl Source {
    const fn tag(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Variable => 2,
            Self::Secret => 3,
        }
    }
}

/// The parts that were read so far, by their names as they are written.
#[derive(Debug, Default)]
pub(super) struct Sources(RefCell<BTreeMap<(Source, Box<str>), Digest>>);

impl Sources {
    pub(super) fn add(&self, source: Source, name: &str, content: &[u8]) {
        self.0.borrow_mut().insert((source, name.into()), sha256(content));
    }

    /// The value of a variable, which is remembered.
    pub(super) fn variable(&self, name: &str, env: Lookup<'_>) -> Option<String> {
        let value = env(name)?;
        self.add(Source::Variable, name, value.as_bytes());
        Some(value)
    }

    /// What is shown of the policy with this text, and what it is compared by.
    pub(super) fn digests(&self, text: &Digest) -> (Digest, Digest) {
        let sources = self.0.borrow();
        let shown = sources.iter().filter(|((source, _), _)| *source != Source::Secret);
        (digest(text, shown), digest(text, sources.iter()))
    }
}

fn digest<'s>(text: &Digest, sources: impl Iterator<Item = (&'s (Source, Box<str>), &'s Digest)>) -> Digest {
    let mut sources = sources.peekable();
    if sources.peek().is_none() {
        return *text;
    }
    let mut joined = Vec::from(*text);
    for ((source, name), content) in sources {
        joined.push(source.tag());
        joined.extend_from_slice(&sha256(name.as_bytes()));
        joined.extend_from_slice(content);
    }
    sha256(&joined)
}

/// The SHA-256 of some bytes.
pub(super) fn sha256(bytes: &[u8]) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    digest
}

/// In lower-case hex.
pub(super) fn hex(digest: &Digest) -> Box<str> {
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
