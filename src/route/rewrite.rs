//! How a route changes the path on the way to the upstream.

use http::Uri;
use http::uri::PathAndQuery;

use super::path::CanonicalPath;
use crate::reject::Reject;

/// `strip_prefix` and `add_prefix` of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    strip_prefix: Option<Box<str>>,
    add_prefix: Option<Box<str>>,
}

/// The target to send to the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The raw target is canonical and the route changes nothing: send it as it is.
    Unchanged,
    /// Send this.
    Rewritten(PathAndQuery),
}

impl Rewrite {
    /// Applies the rewrite.
    ///
    /// # Errors
    ///
    /// `path_ambiguous`.
    pub fn apply(&self, path: &CanonicalPath<'_>, uri: &Uri) -> Result<Target, Reject> {
        let _ = (path, uri, &self.strip_prefix, &self.add_prefix);
        todo!()
    }
}
