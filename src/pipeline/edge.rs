//! What depends on the connection a request came on: whether it is redirected, whether it may ask for this host here, and
//! what the answer says of transport security.

use std::rc::Rc;

use http::request::Parts;
use http::{HeaderMap, Response, header};

use super::exchange::{Body, Exchange};
use crate::admit::Head;
use crate::decide::redirect;
use crate::reject::{Reason, Reject};
use crate::route::host::Host;
use crate::server::Peer;

/// The answer to a request that the connection it came on settles, before any route is looked for: a listener that only
/// redirects, or a host whose TLS settings are not those of this connection.
pub(super) fn settled(peer: &Peer, exchange: &Rc<Exchange>) -> Option<Response<Body>> {
    let live = &exchange.view().live;
    let Parts { method, uri, version, headers, .. } = exchange.head();
    if live.snapshot.gateway.listen.get(peer.listener).is_some_and(|listener| listener.redirect) {
        let head = Head { method, uri, version: *version, headers };
        return Some(match redirect(&live.snapshot, &head) {
            Ok(location) => exchange.redirect(location),
            Err(reject) => exchange.deny(&reject),
        });
    }
    let server_name = peer.tls.as_ref()?.server_name.as_deref();
    let tls = live.tls.get(peer.listener)?.as_ref()?;
    if !tls.tells_hosts_apart() || (server_name.is_some() && server_name == written_host(exchange)) {
        return None;
    }
    // A host that is none is refused by the decision.
    let host = Host::of(uri, headers).ok()?;
    if tls.serves(server_name, host.as_str()) {
        return None;
    }
    let cause = "the host has another certificate than the one this connection was opened with";
    Some(exchange.deny(&Reject::because(Reason::Misdirected, cause)))
}

/// Strict-Transport-Security (RFC 6797 §7): the host's own on what goes out over TLS, and none on what does not.
pub(super) fn transport_security(exchange: &Exchange, headers: &mut HeaderMap) {
    if !exchange.is_secure() {
        headers.remove(header::STRICT_TRANSPORT_SECURITY);
        return;
    }
    let hsts = &exchange.view().live.snapshot.hsts;
    if hsts.is_empty() {
        return;
    }
    let Parts { uri, headers: request, .. } = exchange.head();
    let spelled_plainly = written_host(exchange).and_then(|host| hsts.get(host));
    let found = spelled_plainly.or_else(|| hsts.get(Host::of(uri, request).ok()?.as_str()));
    if let Some(value) = found {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
    }
}

/// The host as the client wrote it, which is its one form in most requests: a short way for what comes with each of them.
/// Whether it can be believed is not its concern.
fn written_host(exchange: &Exchange) -> Option<&str> {
    let Parts { uri, headers, .. } = exchange.head();
    uri.host().or_else(|| headers.get(header::HOST)?.to_str().ok())
}
