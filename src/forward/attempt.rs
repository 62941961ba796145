//! A request on an HTTP/1 connection, and on another one where that can do no harm.

use std::rc::Rc;

use tokio::time::Instant;

use super::Way;
use super::declared::invalid;
use super::http1::request::Sending;
use super::http1::response::{Expected, Head};
use super::http1::{Fault, Rest};
use super::pool::Lease;
use super::streaming::Progress;
use crate::reject::{Reason, Reject};

/// Sends a request and waits for the head of its answer; once more on a new connection where that can do no harm.
pub(super) async fn http1_exchange(
    way: Way<'_>,
    mut sending: Sending,
    progress: &Rc<Progress>,
) -> Result<(Head, Rest, Lease), Reject> {
    let limits = &way.snapshot.gateway.limits;
    let expected = Expected {
        of_head: sending.is_head(),
        bytes: limits.upstream_header_bytes,
        fields: limits.upstream_headers,
    };
    let mut lease = way.pool.lend(false, way.now, way.terms()).await?;
    loop {
        let limit = way.route.upstream_response;
        let fault = match lease.http1() {
            Some(connection) => match connection.ask(&mut sending, limit, expected, progress).await {
                Ok(head) => {
                    let rest =
                        if sending.is_done() { Rest::Nothing } else { Rest::Unsent(Box::new(sending)) };
                    return Ok((head, rest, lease));
                }
                Err(fault) => fault,
            },
            None => return Err(Reject::new(Reason::Internal)),
        };
        // Only a kept connection may have been closed before the request came to it, and only once.
        if lease.reused && matches!(fault, Fault::Silence(_)) && sending.rewind() {
            tracing::debug!(?fault, address = %lease.address(), "a kept connection was closed");
            drop(lease);
            lease = way.pool.lend(true, Instant::now(), way.terms()).await?;
            continue;
        }
        let told = |what: &dyn std::fmt::Display| {
            Reject::because(Reason::UpstreamInvalid, format!("{}: {what}", lease.address()))
        };
        return Err(match (progress.fault(), fault) {
            (Some(reject), _) => reject,
            (None, Fault::Body) => invalid("the request body broke off"),
            (None, Fault::Timeout) => {
                Reject::because(Reason::UpstreamTimeout, format!("no answer within {limit:?}"))
            }
            (None, Fault::Silence(error) | Fault::Broken(error)) => told(&error),
            (None, Fault::Malformed(malformed)) => told(&malformed),
        });
    }
}
