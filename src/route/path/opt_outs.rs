//! The doubtful spellings that a route may opt in to.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// Doubtful spellings that a route takes although they are refused by default.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PathOptOuts(u8);

/// Each flag with its name in routes.yaml.
const FLAGS: [(&str, PathOptOuts); 8] = [
    ("encoded_slash", PathOptOuts::ENCODED_SLASH),
    ("encoded_backslash", PathOptOuts::ENCODED_BACKSLASH),
    ("empty_segments", PathOptOuts::EMPTY_SEGMENTS),
    ("semicolon", PathOptOuts::SEMICOLON),
    ("double_encoding", PathOptOuts::DOUBLE_ENCODING),
    ("trailing_dot", PathOptOuts::TRAILING_DOT),
    ("trailing_space", PathOptOuts::TRAILING_SPACE),
    ("non_utf8", PathOptOuts::NON_UTF8),
];

impl PathOptOuts {
    /// None: the default.
    pub const NONE: Self = Self(0);
    /// `%2F`: stays escaped, and never ends a segment.
    pub const ENCODED_SLASH: Self = Self(1);
    /// `%5C`. A backslash that is not escaped is always refused.
    pub const ENCODED_BACKSLASH: Self = Self(1 << 1);
    /// `//`: slashes are never merged.
    pub const EMPTY_SEGMENTS: Self = Self(1 << 2);
    /// `;` and `%3B`: parameters of a segment are never dropped.
    pub const SEMICOLON: Self = Self(1 << 3);
    /// `%25` before two hex digits: decoded once it is an escape again.
    pub const DOUBLE_ENCODING: Self = Self(1 << 4);
    /// A dot at the end of a segment that is not all dots and spaces. Windows file systems drop it.
    pub const TRAILING_DOT: Self = Self(1 << 5);
    /// `%20` at the end of such a segment.
    pub const TRAILING_SPACE: Self = Self(1 << 6);
    /// Escaped octets that are not UTF-8, such as `%E9` for `é` in ISO 8859-1.
    pub const NON_UTF8: Self = Self(1 << 7);
    /// What may show once an escape that is escaped is decoded.
    pub(super) const FOUND_BY_DECODING: Self = Self(0b1_1111);
    /// All.
    pub const ALL: Self = Self(u8::MAX);

    /// The names of all flags in routes.yaml.
    pub const ALL_NAMES: [&'static str; 8] =
        [FLAGS[0].0, FLAGS[1].0, FLAGS[2].0, FLAGS[3].0, FLAGS[4].0, FLAGS[5].0, FLAGS[6].0, FLAGS[7].0];

    /// The flag with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        FLAGS.iter().find(|(known, _)| *known == name).map(|(_, flag)| *flag)
    }

    /// The names of the flags in this set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        FLAGS.iter().filter(move |(_, flag)| self.contains(*flag)).map(|(name, _)| *name)
    }

    /// Whether all flags of `other` are in this set.
    pub const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// The flags that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether no flag is in this set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All sets of flags out of this set, the empty one first.
    pub(super) fn subsets(self) -> impl Iterator<Item = Self> {
        (0..=self.0).filter(move |bits| bits & !self.0 == 0).map(Self)
    }
}

impl BitOr for PathOptOuts {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for PathOptOuts {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl FromIterator<Self> for PathOptOuts {
    fn from_iter<I: IntoIterator<Item = Self>>(flags: I) -> Self {
        flags.into_iter().fold(Self::NONE, Self::bitor)
    }
}

/// The names, separated by a comma.
impl fmt::Debug for PathOptOuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}
