//! How a route changes the path on the way to the upstream.
//!
//! 1. What is sent is made from the canonical path that was matched, never from the raw one.
//! 2. `strip_prefix` takes whole segments away: `/v1` from `/v1/x` and from `/v1`, not from `/v1x`.
//! 3. `add_prefix` is then put in front. The result starts with it, starts with `/`, and is canonical: it cannot mean a
//!    path outside the prefix.
//! 4. The query is sent byte for byte.
//! 5. The inverse serves the client's sake in responses. Nothing is decided by it: what a client asks for next is judged anew.

use std::borrow::Cow;

use http::Uri;
use http::uri::PathAndQuery;

use super::path::{CanonicalPath, decode};
use super::table::{PathPattern, Segment};
use crate::reject::{Reason, Reject};

/// `strip_prefix` and `add_prefix` of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    strip_prefix: Option<Box<str>>,
    add_prefix: Option<Box<str>>,
}

/// The target to send to the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The raw target is canonical and the route changes nothing: send its path and query as they are.
    Unchanged,
    /// Send this.
    Rewritten(PathAndQuery),
}

impl Rewrite {
    /// Takes the prefixes; a slash at their end means nothing.
    ///
    /// # Errors
    ///
    /// What is wrong with one, as a sentence without a full stop.
    pub fn new(strip_prefix: Option<&str>, add_prefix: Option<&str>) -> Result<Self, String> {
        let prefix = |key: &str, text: Option<&str>| {
            text.map(|text| parse_prefix(text).map_err(|wrong| format!("{key}: {wrong}")))
                .transpose()
                .map(Option::flatten)
        };
        Ok(Self {
            strip_prefix: prefix("strip_prefix", strip_prefix)?,
            add_prefix: prefix("add_prefix", add_prefix)?,
        })
    }

    /// Whether every path of this pattern begins with the prefix that is stripped.
    pub fn fits(&self, pattern: &PathPattern) -> bool {
        let Some(prefix) = &self.strip_prefix else {
            return true;
        };
        let mut segments = pattern.segments().iter();
        prefix.split('/').skip(1).all(|wanted| match segments.next() {
            Some(Segment::Literal(text)) => decode(wanted).as_deref() == Some(text),
            Some(Segment::Param(_) | Segment::Rest(_)) | None => false,
        })
    }

    /// Applies the rewrite.
    ///
    /// # Errors
    ///
    /// `path_ambiguous` if the result could mean something else; `internal` for a path without the prefix that is
    /// stripped, which a route that [`Self::fits`] never matches.
    pub fn apply(&self, path: &CanonicalPath<'_>, uri: &Uri) -> Result<Target, Reject> {
        if self.strip_prefix.is_none() && self.add_prefix.is_none() {
            return if is_sent_as_is(path, uri) {
                Ok(Target::Unchanged)
            } else {
                target(path.as_str(), uri.query())
            };
        }
        let stripped = match &self.strip_prefix {
            Some(prefix) => strip(path.as_str(), prefix)
                .ok_or(Reject::because(Reason::Internal, "the path lacks the route's strip_prefix"))?,
            None => path.as_str(),
        };
        if stripped.starts_with("//") && !path.as_str().starts_with("//") {
            return Err(ambiguous("without its prefix the path would begin with two slashes"));
        }
        let result = match (&self.add_prefix, stripped) {
            (Some(prefix), rest) => Cow::Owned(format!("{prefix}{rest}")),
            (None, "") => Cow::Borrowed("/"),
            (None, rest) => Cow::Borrowed(rest),
        };
        let again = CanonicalPath::parse(&result)?;
        let kept = again.as_str() == &*result && path.doubts().contains(again.doubts());
        if !kept {
            return Err(ambiguous("the rewritten path is not canonical"));
        }
        target(&result, uri.query())
    }
}

impl Rewrite {
    /// The path that a client asks for, so that the upstream gets this one. `None` if there is none: it lacks `add_prefix`.
    pub fn invert<'p>(&self, path: &'p str) -> Option<Cow<'p, str>> {
        let rest = match &self.add_prefix {
            Some(prefix) => strip(path, prefix)?,
            None => path,
        };
        Some(match (&self.strip_prefix, rest) {
            (Some(prefix), rest) => Cow::Owned(format!("{prefix}{rest}")),
            (None, "") => Cow::Borrowed("/"),
            (None, rest) => Cow::Borrowed(rest),
        })
    }

    /// The same for a path that stands for all below it, as a cookie's does (RFC 6265 §5.1.4): one above `add_prefix` holds
    /// the whole route. `None` also if nothing changes.
    pub fn invert_scope<'p>(&self, path: &'p str) -> Option<Cow<'p, str>> {
        if !path.starts_with('/') || (self.strip_prefix.is_none() && self.add_prefix.is_none()) {
            return None;
        }
        let bare = path.strip_suffix('/').unwrap_or(path);
        let holds_all = self.add_prefix.as_ref().is_some_and(|prefix| strip(prefix, bare).is_some());
        if holds_all || bare.is_empty() {
            let whole = self.strip_prefix.as_deref().unwrap_or("/");
            return Some(Cow::Owned(whole.to_owned()));
        }
        self.invert(path)
    }
}

/// A prefix in canonical form without a slash at its end; `None` for `/`.
fn parse_prefix(text: &str) -> Result<Option<Box<str>>, String> {
    let path = CanonicalPath::parse(text)
        .map_err(|reject| reject.cause.map_or_else(|| "an ambiguous path".to_owned(), Cow::into_owned))?;
    if !path.doubts().is_empty() {
        return Err(format!("a prefix may not hold: {:?}", path.doubts()));
    }
    let prefix = path.as_str();
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    Ok((!prefix.is_empty()).then(|| prefix.into()))
}

/// What follows the segments of the prefix: nothing, or a path that starts with `/`.
fn strip<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let mut rest = path;
    // Segments are compared decoded, as they were when the route matched.
    for wanted in prefix.split('/').skip(1) {
        let inner = rest.strip_prefix('/')?;
        let end = inner.find('/').unwrap_or(inner.len());
        let (segment, after) = inner.split_at_checked(end)?;
        if decode(segment)? != decode(wanted)? {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

fn is_sent_as_is(path: &CanonicalPath<'_>, uri: &Uri) -> bool {
    // `Uri::path` says `/` where the target has no path at all, so look at the text itself.
    uri.path() == path.as_str() && uri.path_and_query().is_some_and(|raw| raw.as_str().starts_with('/'))
}

fn target(path: &str, query: Option<&str>) -> Result<Target, Reject> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    PathAndQuery::try_from(text)
        .map(Target::Rewritten)
        .map_err(|_| ambiguous("the rewritten target is no valid one"))
}

fn ambiguous(cause: &'static str) -> Reject {
    Reject::because(Reason::PathAmbiguous, cause)
}

#[cfg(test)]
mod tests;
