//! HTTP/2 towards an upstream, on hyper's client connections: many requests share one.

use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::answer::{Source, UpstreamBody};
use super::body::ClientBody;
use super::pool::Lease;
use super::replay::Replay;
use super::streaming::Progress;
use super::{Way, headers};
use crate::reject::{Reason, Reject};

/// How often a request is sent at most, if the upstream says each time that it did not process it. An upstream that ends its
/// connections after a few requests each, as nginx does, refuses all that came behind the last.
const ATTEMPTS: usize = 5;

/// Sends the request that `build` makes of a body, and waits for the head of its response.
///
/// # Errors
///
/// Why the upstream gave no response.
pub(super) async fn exchange(
    way: Way<'_>,
    method: &Method,
    build: impl Fn(ClientBody) -> Result<Request<ClientBody>, Reject>,
    body: ClientBody,
    progress: &Rc<Progress>,
) -> Result<Response<UpstreamBody>, Reject> {
    let kept = Replay::new(body);
    // Once: only a kept connection can turn out to be dead.
    let mut repeatable = kept.is_empty() && super::replay::is_idempotent(method);
    let mut lease = way.pool.lend(false, way.now, way.terms()).await?;
    let mut last = Reject::because(Reason::UpstreamUnreachable, "the request could not be sent");
    for left in (0..ATTEMPTS).rev() {
        let Some(body) = kept.again() else { return Err(last) };
        last = match attempt(&lease, build(body)?, way, progress).await? {
            Attempt::Answered(response) => {
                kept.forget();
                return answered(response, lease, way, progress);
            }
            Attempt::Refused(reject) => reject,
            Attempt::Died(reject) if std::mem::take(&mut repeatable) => reject,
            Attempt::Died(reject) => return Err(reject),
        };
        if left > 0 {
            drop(lease);
            lease = way.pool.lend(true, Instant::now(), way.terms()).await?;
        }
    }
    Err(last)
}

fn answered(
    mut response: Response<Incoming>,
    lease: Lease,
    way: Way<'_>,
    progress: &Rc<Progress>,
) -> Result<Response<UpstreamBody>, Reject> {
    if response.headers().len() > way.snapshot.gateway.limits.upstream_headers {
        return Err(Reject::because(Reason::UpstreamInvalid, "too many header fields"));
    }
    check_framing(response.headers())?;
    headers::to_client(response.headers_mut());
    // The client is spoken to in this gateway's own version, whatever the upstream speaks.
    *response.version_mut() = Version::HTTP_11;
    Ok(response.map(|incoming| UpstreamBody::new(Source::Http2(incoming, lease), way.route, progress)))
}

/// Refuses an answer whose end two readers could find at different places (RFC 9113 §8.1.1, §8.2.2).
fn check_framing(headers: &HeaderMap) -> Result<(), Reject> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let digits = |length: &HeaderValue| length.as_bytes().iter().all(u8::is_ascii_digit);
    match (headers.contains_key(header::TRANSFER_ENCODING), lengths.next(), lengths.next()) {
        (false, None, None) => Ok(()),
        (false, Some(length), None) if digits(length) => Ok(()),
        (false, ..) => Err(Reject::because(
            Reason::UpstreamInvalid,
            "an answer with more than one Content-Length, or one that is no number",
        )),
        (true, ..) => {
            Err(Reject::because(Reason::UpstreamInvalid, "an answer with Transfer-Encoding in HTTP/2"))
        }
    }
}

/// How one attempt ended.
enum Attempt {
    Answered(Response<Incoming>),
    /// Nothing was sent, or the upstream says that it processed nothing.
    Refused(Reject),
    /// The connection ended without a response.
    Died(Reject),
}

async fn attempt(
    lease: &Lease,
    request: Request<ClientBody>,
    way: Way<'_>,
    progress: &Rc<Progress>,
) -> Result<Attempt, Reject> {
    let unsent = || Reject::because(Reason::UpstreamUnreachable, format!("{}: closed", lease.address()));
    let Some(mut sender) = lease.http2() else {
        return Ok(Attempt::Refused(unsent()));
    };
    if sender.ready().await.is_err() {
        lease.retire();
        return Ok(Attempt::Refused(unsent()));
    }
    let limit = way.route.upstream_response;
    let Some(sent) = answer_within(sender.try_send_request(request), limit, progress).await else {
        lease.retire();
        return Err(Reject::because(Reason::UpstreamTimeout, format!("no answer within {limit:?}")));
    };
    let mut failed = match sent {
        Ok(response) => {
            lease.answered();
            return Ok(Attempt::Answered(response));
        }
        Err(failed) => failed,
    };
    if failed.take_message().is_some() {
        tracing::debug!(error = %failed.error(), address = %lease.address(), "a kept connection was closed");
        lease.retire();
        return Ok(Attempt::Refused(unsent()));
    }
    let error = failed.into_error();
    if let Some(reject) = progress.fault() {
        return Err(reject);
    }
    let reject = Reject::because(Reason::UpstreamInvalid, format!("{}: {error}", lease.address()));
    if is_refused(&error) {
        lease.retire();
        return Ok(Attempt::Refused(reject));
    }
    // A connection that was alive once may have been closed before the request came to it; one that never answered fails.
    // A request that waits for its stream to open when the connection ends is dropped by the library, which calls that a
    // fault of its user. It may have been sent just then.
    let dropped = error.is_user();
    let ended = dropped
        || error.is_incomplete_message()
        || error.is_closed()
        || error.is_canceled()
        || is_reset(&error);
    if lease.reused && ended && lease.has_answered() {
        lease.retire();
        Ok(Attempt::Died(reject))
    } else {
        Err(reject)
    }
}

/// Whether the connection was reset by the peer while the request was written or the answer awaited.
fn is_reset(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| {
        matches!(
            io.kind(),
            std::io::ErrorKind::ConnectionReset
                | std::io::ErrorKind::BrokenPipe
                | std::io::ErrorKind::NotConnected
        )
    })
}

/// Whether an HTTP/2 upstream said that it has not looked at the request: it refused the stream, or is going away
/// (RFC 9113 §8.7).
fn is_refused(error: &hyper::Error) -> bool {
    let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    h2.is_some_and(|h2| {
        h2.is_remote() && (h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// Waits for an answer: `limit` from the last byte of the request that moved. A client that pauses is caught by the body
/// itself, whose limit may be the longer one; an upstream that reads nothing is caught here.
async fn answer_within<T>(
    answer: impl Future<Output = T>,
    limit: Duration,
    progress: &Progress,
) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    loop {
        let (sending, before) = (!progress.ended(), progress.bytes());
        match tokio::time::timeout(limit, answer.as_mut()).await {
            Ok(answered) => return Some(answered),
            Err(_) if sending && (progress.bytes() > before || progress.awaits_client()) => {}
            Err(_) => return None,
        }
    }
}
