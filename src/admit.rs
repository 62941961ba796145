//! Is this a request whose meaning is beyond doubt?

use http::{HeaderMap, Method, Uri, Version};

use crate::reject::Reject;
use crate::snapshot::Limits;

/// The head of a request, as far as a decision looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The request target.
    pub uri: &'a Uri,
    /// The protocol version the client speaks.
    pub version: Version,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

/// Checks the head.
///
/// # Errors
///
/// `request_invalid` and its kin.
pub fn check(head: &Head<'_>, limits: &Limits) -> Result<(), Reject> {
    let _ = (head, limits);
    todo!()
}
