//! The one canonical path: matched and forwarded.

use std::borrow::Cow;

use crate::reject::Reject;

/// Doubtful spellings that a route takes although they are refused by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathOptOuts(u8);

/// A path in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    text: Cow<'a, str>,
    doubts: PathOptOuts,
}

impl<'a> CanonicalPath<'a> {
    /// Brings a raw path to its canonical form.
    ///
    /// # Errors
    ///
    /// `path_ambiguous`.
    pub fn parse(raw: &'a str) -> Result<Self, Reject> {
        let _ = raw;
        todo!()
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Refuses the doubtful spellings in this path that the matched route did not opt in to.
    ///
    /// # Errors
    ///
    /// `path_ambiguous`.
    pub fn allowed_by(&self, opt_outs: PathOptOuts) -> Result<(), Reject> {
        let _ = (opt_outs, self.doubts);
        todo!()
    }
}
