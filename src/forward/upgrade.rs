//! WebSocket: a request that turns its connection into a tunnel (RFC 6455 §4).
//!
//! 1. Only a route that says `websocket: true`, only HTTP/1.1, only the one protocol `websocket`; any other `Upgrade` is
//!    removed and the request forwarded as a plain one.
//! 2. Bytes flow only after the upstream has agreed with 101 to the very protocol that was asked for.
//! 3. The tunnel ends when the caller's token expires (`expiry`), when the process stops, or when either side ends it.

use http::request::Parts;
use http::{HeaderValue, Method, Version, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::expiry::Expiry;
use super::pool::Lease;

/// The one protocol a route can switch to.
pub(super) const WEBSOCKET: &str = "websocket";

/// Whether a request asks, in the right form, to become a WebSocket.
pub(super) fn asks(head: &Parts) -> bool {
    let Parts { method, version, headers, .. } = head;
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?;
        values.next().is_none().then_some(value)
    };
    let upgrade_named = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    *method == Method::GET
        && *version == Version::HTTP_11
        && upgrade_named
        && one(header::UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()))
        && one(header::SEC_WEBSOCKET_VERSION).is_some_and(|value| value.as_bytes() == b"13")
        && one(header::SEC_WEBSOCKET_KEY).is_some_and(|value| value.len() == 24)
}

/// Whether a 101 that names one protocol agrees to a WebSocket.
pub(super) fn agrees(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes())
}

/// Carries bytes both ways, in a task of its own on this worker, until one side ends or `expires`.
pub(super) fn tunnel(client: OnUpgrade, mut lease: Lease, expires: Option<Expiry>) {
    tokio::task::spawn_local(async move {
        // The lease counts the tunnel as a request of its upstream for as long as it lasts.
        let Some(mut upstream) = lease.take_http1() else { return };
        let mut client = match client.await {
            Ok(client) => TokioIo::new(client),
            Err(error) => return tracing::debug!(%error, "the switch of protocols broke off"),
        };
        let expiry = async {
            match expires {
                Some(expiry) => expiry.comes().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "tunnel broke off");
                }
            }
            () = expiry => tracing::debug!("tunnel ended: the caller's token expired"),
        }
    });
}
