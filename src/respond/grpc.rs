//! Refusals in gRPC's own terms: a Trailers-Only response.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use percent_encoding::{CONTROLS, utf8_percent_encode};

use crate::reject::Row;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a request is a gRPC call, by its content type.
pub(crate) fn is_call(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// The status code of a reason: the meaning of the HTTP status in gRPC's list.
const fn code(row: &Row) -> &'static str {
    match row.status {
        401 => "16",                  // UNAUTHENTICATED
        403 => "7",                   // PERMISSION_DENIED
        404 | 405 => "12",            // UNIMPLEMENTED
        408 | 504 => "4",             // DEADLINE_EXCEEDED
        413 | 414 | 429 | 431 => "8", // RESOURCE_EXHAUSTED
        421 | 502 | 503 => "14",      // UNAVAILABLE
        400 | 417 => "3",             // INVALID_ARGUMENT
        _ => "13",                    // INTERNAL
    }
}

pub(super) fn response(row: &'static Row) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let message = format!("{}: {}", row.name, row.detail);
    let message = utf8_percent_encode(&message, CONTROLS).to_string();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from_static(code(row)));
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}
