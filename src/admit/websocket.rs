//! The handshake of a WebSocket (RFC 6455 §4.2.1).

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};

use super::{Head, lists};

/// Whether a request asks, in the right form, to become a WebSocket: GET over HTTP/1.1, `Connection` with `upgrade`, and one
/// `Upgrade`, `Sec-WebSocket-Version` and `Sec-WebSocket-Key` each.
pub fn is_handshake(head: &Head<'_>) -> bool {
    let headers = head.headers;
    *head.method == Method::GET
        && head.version == Version::HTTP_11
        && headers.get_all(header::CONNECTION).iter().any(|value| lists(value, b"upgrade"))
        && one(headers, header::UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && one(headers, header::SEC_WEBSOCKET_VERSION).is_some_and(|value| value.as_bytes() == b"13")
        && one(headers, header::SEC_WEBSOCKET_KEY).is_some_and(|value| value.len() == 24)
}

/// Whether `Upgrade` names the protocol, in whatever form.
pub fn names_websocket(headers: &HeaderMap) -> bool {
    headers.get_all(header::UPGRADE).iter().any(|value| lists(value, b"websocket"))
}

fn one(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)
}
