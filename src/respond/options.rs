//! The response to an OPTIONS request that may not be forwarded any further.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// What the gateway says as the last recipient (RFC 9110 §7.6.2, §9.3.7): the methods of the path.
pub fn response(allow: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(allow) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
