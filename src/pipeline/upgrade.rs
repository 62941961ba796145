//! Why a WebSocket handshake did not become a WebSocket, for the log: the client sees only an ordinary response.

use std::borrow::Cow;

use http::StatusCode;
use http::request::Parts;

use crate::admit::Head;
use crate::admit::websocket::{is_handshake, names_websocket};
use crate::snapshot::Route;

/// Marks the head of a request that offers to upgrade, so that the others need not be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offered;

/// The cause and its cure, if a request for `route` that was answered with `status` asked for a WebSocket.
pub(super) fn not_switched(head: &Parts, route: &Route, status: u16) -> Option<Cow<'static, str>> {
    head.extensions.get::<Offered>()?;
    if status == StatusCode::SWITCHING_PROTOCOLS.as_u16() {
        return None;
    }
    let Parts { method, uri, version, headers, .. } = head;
    if !is_handshake(&Head { method, uri, version: *version, headers }) {
        // `h2c` and the like are offered by clients that do well without.
        return names_websocket(headers).then_some(Cow::Borrowed(
            "the WebSocket handshake is not valid (RFC 6455 §4.2.1) and went on as a plain request: it needs GET over HTTP/1.1, \
             `Connection: Upgrade`, `Upgrade: websocket`, `Sec-WebSocket-Version: 13` and a key of 16 bytes, each once",
        ));
    }
    Some(if route.websocket {
        format!(
            "the upstream answered the WebSocket handshake with {status} instead of 101: it has no WebSocket at this path, or does \
             not accept the handshake's origin or subprotocol"
        )
        .into()
    } else {
        Cow::Borrowed(
            "the client asked for a WebSocket, which this route does not allow: the handshake went on as a plain request; to allow \
             it, set `forward.websocket: true`, with an upstream of `protocol: http1`",
        )
    })
}
