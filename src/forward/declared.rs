//! What the head of an admitted request declares: the authority it asks for, and how long its body is.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};

use super::body::ClientBody;
use super::http1::request::Delimiter;
use crate::reject::{Reason, Reject};

/// The refusal of a request whose head contradicts itself.
pub(super) fn invalid(cause: &'static str) -> Reject {
    Reject::because(Reason::RequestInvalid, cause)
}

/// The authority the client asked for: that of the target, or the Host field (RFC 9112 §3.2.2).
pub(super) fn authority(parts: &Parts) -> Result<HeaderValue, Reject> {
    match parts.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => parts.headers.get(header::HOST).cloned(),
    }
    .ok_or_else(|| invalid("the request names no host"))
}

/// How a body is delimited: as its head says, which was admitted, else by chunks.
pub(super) fn delimiter(headers: &HeaderMap, body: &ClientBody) -> Result<Delimiter, Reject> {
    let declared = headers.get(header::CONTENT_LENGTH).map(|length| {
        let length = length.to_str().ok().and_then(|length| length.parse().ok());
        length.ok_or_else(|| invalid("Content-Length is not a number"))
    });
    match (declared.transpose()?, body) {
        (None | Some(0), ClientBody::Empty) => Ok(Delimiter::Length(0)),
        (Some(_), ClientBody::Empty) => Err(invalid("Content-Length announces a body that is not there")),
        (Some(length), ClientBody::Streaming(_) | ClientBody::Attempted(_)) => Ok(Delimiter::Length(length)),
        (None, ClientBody::Streaming(_) | ClientBody::Attempted(_)) => Ok(Delimiter::Chunked),
    }
}

/// Whether a request without a body says so (RFC 9110 §8.6): some servers answer 411 otherwise. HTTP/2 need not say it.
pub(super) fn expects_length(head: &Parts) -> bool {
    matches!(head.method, Method::POST | Method::PUT | Method::PATCH)
        && !head.headers.contains_key(header::CONTENT_LENGTH)
}
