//! WebSocket: a request that turns its connection into a tunnel (RFC 6455 §4).
//!
//! 1. Only a route that says `websocket`, only HTTP/1.1, only the one protocol `websocket`; any other `Upgrade` is
//!    removed and the request forwarded as a plain one.
//! 2. Bytes flow only after the upstream has agreed with 101 to the very protocol that was asked for.
//! 3. Where a route's handshakes may bring a token, that and its announcement do not go on; they are answered only where
//!    the upstream had nothing else to choose from.
//! 4. The tunnel ends when the caller's token expires (`expiry`), when the process stops, or when either side ends it.

use std::rc::Rc;

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::Way;
use super::answer::{Source, UpstreamBody};
use super::expiry::Expiry;
use super::http1::response::Head;
use super::pool::Lease;
use super::streaming::Progress;
use crate::admit::{self, websocket::is_handshake};
use crate::authenticate::subprotocol::Offer;
use crate::reject::{Reason, Reject};
use crate::snapshot::Route;

/// The one protocol a route can switch to.
pub(super) const WEBSOCKET: &str = "websocket";

/// Whether a request asks, in the right form, to become a WebSocket.
pub(super) fn is_asked_for(head: &Parts) -> bool {
    let Parts { method, uri, version, headers, .. } = head;
    is_handshake(&admit::Head { method, uri, version: *version, headers })
}

/// What a request offers beside its token, on a route whose handshakes may bring one.
pub(super) fn offer<'h>(route: &Route, head: &'h Parts) -> Option<Offer<'h>> {
    let name = announcement(route)?;
    // A handshake was permitted with the token in it, or has none; of another request nothing goes on.
    Offer::parse(&head.headers, name, usize::MAX).ok().flatten()
}

/// The subprotocols that the upstream is offered instead of the client's: what remains without the token. A request that
/// does not become a WebSocket has no use for any, and what is in them was not judged. `None` leaves them as they are.
pub(super) fn subprotocols<'o>(
    route: &Route,
    offer: Option<&'o Offer<'_>>,
    upgrades: bool,
) -> Option<&'o [&'o str]> {
    announcement(route)?;
    if upgrades { offer.map(Offer::others) } else { Some(&[]) }
}

/// The subprotocol that announces a token.
fn announcement(route: &Route) -> Option<&str> {
    route.token_places.as_ref()?.subprotocol.as_deref()
}

/// Answers 101 and opens the tunnel.
pub(super) fn switch(
    way: Way<'_>,
    offer: Option<&Offer<'_>>,
    head: Head,
    client: Option<OnUpgrade>,
    lease: Lease,
    progress: &Rc<Progress>,
) -> Result<Response<UpstreamBody>, Reject> {
    let agreed = head.upgrade.is_some_and(|protocol| agrees(&protocol));
    let Some(client) = client else {
        return Err(Reject::because(Reason::UpstreamInvalid, "101 to a request that did not ask for it"));
    };
    if !agreed {
        return Err(Reject::because(Reason::UpstreamInvalid, "101 without one `Upgrade: websocket`"));
    }
    tunnel(client, lease, way.expires.map(Expiry::new));
    let mut response = Response::new(UpstreamBody::new(Source::Ended, way.route, progress));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = head.headers;
    head.phrase.map(|phrase| response.extensions_mut().insert(phrase));
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    if offer.is_some_and(|offer| offer.others().is_empty())
        && let Some(name) = announcement(way.route).and_then(|name| HeaderValue::from_str(name).ok())
    {
        // A browser wants one of those it offered, and the upstream was offered none.
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    Ok(response)
}

/// Whether a 101 that names one protocol agrees to a WebSocket.
fn agrees(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes())
}

/// Carries bytes both ways, in a task of its own on this worker, until one side ends or `expires`.
fn tunnel(client: OnUpgrade, mut lease: Lease, expires: Option<Expiry>) {
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
