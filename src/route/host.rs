//! The host a request is for.

use http::{HeaderMap, Uri};

use crate::reject::Reject;

/// The effective host of a request: lower case, without port and trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a>(std::borrow::Cow<'a, str>);

impl<'a> Host<'a> {
    /// Finds the host of a request (RFC 9112 §3.2, RFC 9113 §8.3.1).
    ///
    /// # Errors
    ///
    /// `request_invalid`.
    pub fn of(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Self, Reject> {
        let _ = (uri, headers);
        todo!()
    }

    /// The host.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
