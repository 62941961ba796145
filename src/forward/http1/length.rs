//! How the length of a request's body is told to an HTTP/1.1 upstream.

use http::request::Parts;
use http::{HeaderMap, Method, header};

use super::request::Delimiter;
use crate::forward::body::ClientBody;
use crate::reject::{Reason, Reject};

/// Whether a request without a body says so (RFC 9110 §8.6): some servers answer 411 otherwise. HTTP/2 need not say it.
pub(in crate::forward) fn expects_length(head: &Parts) -> bool {
    matches!(head.method, Method::POST | Method::PUT | Method::PATCH)
        && !head.headers.contains_key(header::CONTENT_LENGTH)
}

/// How a body is delimited: as its head says, which was admitted, else by chunks.
pub(in crate::forward) fn delimiter(headers: &HeaderMap, body: &ClientBody) -> Result<Delimiter, Reject> {
    let declared = headers.get(header::CONTENT_LENGTH).map(|length| {
        let length = length.to_str().ok().and_then(|length| length.parse().ok());
        length.ok_or(Reject::new(Reason::RequestInvalid))
    });
    match (declared.transpose()?, body) {
        (None | Some(0), ClientBody::Empty) => Ok(Delimiter::Length(0)),
        (Some(_), ClientBody::Empty) => Err(Reject::new(Reason::RequestInvalid)),
        (Some(length), ClientBody::Streaming(_) | ClientBody::Attempted(_)) => Ok(Delimiter::Length(length)),
        (None, ClientBody::Streaming(_) | ClientBody::Attempted(_)) => Ok(Delimiter::Chunked),
    }
}
