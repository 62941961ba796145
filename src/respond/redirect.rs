//! The answer of a listener that only redirects.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

/// A redirect without body: 308 keeps the method and the body (RFC 9110 §15.4.9); every client knows 301, which keeps GET and
/// HEAD.
pub fn response(method: &Method, location: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = match *method {
        Method::GET | Method::HEAD => StatusCode::MOVED_PERMANENTLY,
        _ => StatusCode::PERMANENT_REDIRECT,
    };
    response.headers_mut().insert(header::LOCATION, location);
    response
}
