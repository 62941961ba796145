//! Connections that ended before they brought a request, as operators see them.

use std::time::Duration;

use http::Method;

use super::Gateway;
use crate::observe::access_log::{Disposition, Entry};
use crate::observe::metrics::Decision;
use crate::reject::Reason;
use crate::server::Peer;
use crate::state::clock;

/// Counts and logs a connection that ended without a request that could be answered. Its method is not known, so it is `-`.
pub(super) fn record(gateway: &Gateway, peer: &Peer, reason: Reason, cause: &str) {
    let method = Method::from_bytes(b"-").unwrap_or_default();
    gateway.metrics.decision(None, Decision::Deny, Some(reason));
    gateway.metrics.request(None, &method, reason.row().status, Duration::ZERO);
    if gateway.log.enabled() {
        let unix_ms = clock::unix_millis();
        let request_id = gateway.ids.next(unix_ms);
        let view = gateway.view();
        let owner = view.live.snapshot.owner(None, reason.control());
        gateway.log.write(&Entry {
            address: Some(peer.address.ip()),
            tls: peer.tls.is_some(),
            status: reason.row().status,
            decision: Some(Disposition::Deny),
            reason: Some(reason),
            cause: Some(cause),
            owner: owner.map(AsRef::as_ref),
            ..Entry::new(unix_ms, request_id.to_str().unwrap_or_default(), &method)
        });
    }
}
