//! What depends on the connection a request came on: whether it is redirected, and whether it may ask for this host here.

use std::rc::Rc;

use http::Response;
use http::request::Parts;

use super::exchange::{Body, Exchange};
use crate::admit::Head;
use crate::decide;
use crate::observe::access_log::Disposition;
use crate::reject::{Reason, Reject};
use crate::respond::redirect;
use crate::route::host::{self, Host};
use crate::server::Peer;

/// The answer to a request that the connection it came on settles, before any route is looked for: a listener that only
/// redirects, or a host whose TLS settings are not those of this connection.
pub(super) fn settled(peer: &Peer, exchange: &Rc<Exchange>) -> Option<Response<Body>> {
    let live = &exchange.view().live;
    let Parts { method, uri, version, headers, .. } = exchange.head();
    if live.snapshot.gateway.listen.get(peer.listener).is_some_and(|listener| listener.redirect) {
        let head = Head { method, uri, version: *version, headers };
        return Some(match decide::redirect(&live.snapshot, &head) {
            Ok(location) => {
                exchange.settled(Disposition::Redirect);
                exchange.reply(redirect::response(method, location))
            }
            Err(reject) => deny(exchange, &reject),
        });
    }
    let server_name = peer.tls.as_ref()?.server_name.as_deref();
    let tls = live.tls.get(peer.listener)?.as_ref()?;
    if !tls.tells_hosts_apart() || (server_name.is_some() && server_name == host::written(uri, headers)) {
        return None;
    }
    // The decision rejects an invalid host. Without a host, only routes without `host` match.
    let host = Host::of(uri, headers, *version).ok().filter(|host| !host.is_absent())?;
    if tls.serves(server_name, host.as_str()) {
        return None;
    }
    let cause = "the host has another certificate than the one this connection was opened with";
    Some(deny(exchange, &Reject::because(Reason::Misdirected, cause)))
}

fn deny(exchange: &Rc<Exchange>, reject: &Reject) -> Response<Body> {
    exchange.settled(Disposition::Deny);
    exchange.refuse(reject, decide::allow(reject))
}
