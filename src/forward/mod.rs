//! From a [`Permit`] to the upstream's answer. Without a permit there is no way in here.
//!
//! 1. The body is limited before it is read ([`body`]).
//! 2. Header fields are removed, then set ([`headers`]); the target is the route's rewrite of what was matched.
//! 3. The request goes out on a connection of this worker ([`pool`]).
//! 4. It is sent again, once and on a new connection, only if nothing of it was sent, or if a kept connection turned out
//!    to be dead before any answer and the method is safe to repeat without a body (RFC 9110 §9.2.2).
//! 5. The answer streams back; a switch of protocols becomes a tunnel (`upgrade`).

pub mod body;
mod connect;
pub mod headers;
pub mod pool;
mod upgrade;

use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::authorize::Permit;
use crate::reject::{Reason, Reject};
use crate::route::rewrite::Target;
use crate::snapshot::{HostHeader, Route, Snapshot, UpstreamProtocol};
use body::{ClientBody, Progress, UpstreamBody};
use headers::{Client, Outgoing, TrailerNames};
use pool::{Lease, Pool, SendError};

/// The surroundings of a request that forwarding needs beside the permit.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The policy that permitted.
    pub snapshot: &'a Snapshot,
    /// The route that was permitted.
    pub route: &'a Route,
    /// This worker's connections to the route's upstream.
    pub pool: &'a Pool,
    /// The client.
    pub client: &'a Client,
    /// The peer of the connection.
    pub peer: std::net::IpAddr,
    /// Whether the request came over TLS.
    pub secure: bool,
    /// The id of the request.
    pub request_id: &'a HeaderValue,
    /// How long until the caller's token expires; `None` on public routes.
    pub token_left: Option<Duration>,
}

/// Forwards a permitted request.
///
/// # Errors
///
/// `body_too_large`, `request_timeout`, or why the upstream gave no answer.
pub async fn forward(
    permit: &Permit,
    target: Target,
    way: Way<'_>,
    mut parts: Parts,
    incoming: Incoming,
) -> Result<Response<UpstreamBody>, Reject> {
    let progress = Rc::new(Progress::default());
    let trailers = headers::announced_trailers(&parts.headers, &way.snapshot.identity_headers);
    let body = limited(way.route, incoming, trailers.clone(), &progress)?;
    let upgrade = (way.route.websocket && upgrade::asks(&parts.method, parts.version, &parts.headers))
        .then_some(upgrade::WEBSOCKET);
    let client_side = upgrade.and_then(|_| parts.extensions.remove::<hyper::upgrade::OnUpgrade>());
    prepare(permit, target, way, &mut parts, upgrade, &trailers)?;

    // A time too far to be told is none.
    let expires = way.token_left.and_then(|left| Instant::now().checked_add(left));
    let (mut response, lease) = exchange(way, parts, body, &progress).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client_side) = client_side.filter(|_| upgrade::agrees(response.headers())) else {
            return Err(Reject::because(Reason::UpstreamInvalid, "101 to a request that did not ask for it"));
        };
        return Ok(switch(response, client_side, lease, &progress, expires, way.request_id));
    }
    check_framing(response.headers())?;
    // The client is spoken to in this gateway's own version, whatever the upstream speaks.
    *response.version_mut() = Version::HTTP_11;
    headers::to_client(response.headers_mut(), way.request_id);
    let expires = expires.filter(|_| outlives_token(response.headers()));
    Ok(response.map(|incoming| UpstreamBody::new(incoming, Some(lease), progress, expires)))
}

/// Refuses an answer whose end two readers could find at different places (RFC 9112 §6.3). hyper takes the coding before
/// the length and reads other codings to the end of the connection, but leaves the fields as they came.
fn check_framing(headers: &HeaderMap) -> Result<(), Reject> {
    let unclear = |what| Err(Reject::because(Reason::UpstreamInvalid, what));
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (codings.next(), codings.next(), lengths.next(), lengths.next()) {
        (None, None, None, None) => Ok(()),
        (None, None, Some(length), None) if length.as_bytes().iter().all(u8::is_ascii_digit) => Ok(()),
        (None, ..) => unclear("an answer with more than one Content-Length, or one that is no number"),
        (Some(coding), None, None, None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(_), _, Some(_), _) => unclear("an answer with Transfer-Encoding and Content-Length"),
        (Some(_), ..) => unclear("an answer with a Transfer-Encoding other than `chunked` alone"),
    }
}

/// Refuses a body whose declared length is too large, and limits one that is not declared.
fn limited(
    route: &Route,
    incoming: Incoming,
    trailers: TrailerNames,
    progress: &Rc<Progress>,
) -> Result<ClientBody, Reject> {
    let declared = http_body::Body::size_hint(&incoming).lower();
    if declared > route.body_limit {
        return Err(Reject::new(Reason::BodyTooLarge));
    }
    Ok(ClientBody::new(incoming, route.body_limit, route.body_idle, trailers, progress))
}

/// Turns the client's request head into the upstream's.
fn prepare(
    permit: &Permit,
    target: Target,
    way: Way<'_>,
    parts: &mut Parts,
    upgrade: Option<&'static str>,
    trailers: &[HeaderName],
) -> Result<(), Reject> {
    let host = authority(parts)?;
    let outgoing = Outgoing {
        client: way.client,
        peer: way.peer,
        secure: way.secure,
        version: parts.version,
        host: &host,
        request_id: way.request_id,
        forward_token: way.route.forward_token,
        identity_headers: &way.snapshot.identity_headers,
        upgrade,
        trailers,
    };
    headers::to_upstream(&mut parts.headers, &outgoing);
    if let Some(principal) = permit.principal() {
        let issuer = way.snapshot.issuers.get(principal.issuer());
        headers::identify(&mut parts.headers, &way.route.identity_headers, principal.facts(), issuer);
    }
    join_cookies(parts);
    address(target, way, parts, host)
}

/// The authority the client asked for: that of the target, or the Host field (RFC 9112 §3.2.2).
fn authority(parts: &Parts) -> Result<HeaderValue, Reject> {
    match parts.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => parts.headers.get(header::HOST).cloned(),
    }
    .ok_or(Reject::new(Reason::RequestInvalid))
}

/// HTTP/2 may split Cookie into several fields; HTTP/1 has one (RFC 9113 §8.2.3).
fn join_cookies(parts: &mut Parts) {
    let mut values = parts.headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (values.next(), values.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for value in std::iter::once(second).chain(values) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(value.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        parts.headers.insert(header::COOKIE, joined);
    }
}

/// Sets target, Host and version.
fn address(target: Target, way: Way<'_>, parts: &mut Parts, host: HeaderValue) -> Result<(), Reject> {
    let path = match target {
        Target::Unchanged => parts.uri.path_and_query().cloned(),
        Target::Rewritten(path) => Some(path),
    }
    .unwrap_or_else(|| PathAndQuery::from_static("/"));
    let policy = &way.pool.cell.policy;
    let host = match &policy.host {
        HostHeader::Preserve => host,
        HostHeader::Literal(literal) => literal.clone(),
    };
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(path);
    match policy.protocol {
        UpstreamProtocol::Http1 => {
            parts.version = Version::HTTP_11;
            parts.headers.insert(header::HOST, host);
        }
        UpstreamProtocol::H2 | UpstreamProtocol::H2c => {
            parts.version = Version::HTTP_2;
            parts.headers.remove(header::HOST);
            let secure = policy.protocol == UpstreamProtocol::H2;
            uri.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
            uri.authority = Authority::try_from(host.as_bytes()).ok();
        }
    }
    parts.uri = Uri::from_parts(uri).map_err(|_| Reject::new(Reason::RequestInvalid))?;
    Ok(())
}

/// Sends the request and waits for the head of the answer.
async fn exchange(
    way: Way<'_>,
    parts: Parts,
    body: ClientBody,
    progress: &Rc<Progress>,
) -> Result<(Response<Incoming>, Lease), Reject> {
    let connect_limit = way.snapshot.gateway.timeouts.upstream_connect;
    let mut lease = way.pool.lend(false, connect_limit).await?;
    // Only a kept connection can turn out to be dead, and only a request that may be repeated is worth a copy.
    let spare = (lease.reused && repeatable(&parts.method, &body)).then(|| copy(&parts));
    let again = match attempt(&mut lease, Request::from_parts(parts, body), way, progress).await? {
        Attempt::Answered(response) => return Ok((response, lease)),
        Attempt::Unsent(request) => *request,
        Attempt::Died(reject) => match spare {
            Some(parts) => Request::from_parts(parts, ClientBody::Empty),
            None => return Err(reject),
        },
    };
    drop(lease);
    let mut lease = way.pool.lend(true, connect_limit).await?;
    match attempt(&mut lease, again, way, progress).await? {
        Attempt::Answered(response) => Ok((response, lease)),
        Attempt::Unsent(_) => Err(Reject::new(Reason::UpstreamUnreachable)),
        Attempt::Died(reject) => Err(reject),
    }
}

/// Whether sending a request twice does no more than sending it once, and all of it is at hand.
fn repeatable(method: &Method, body: &ClientBody) -> bool {
    matches!(body, ClientBody::Empty)
        && matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

fn copy(parts: &Parts) -> Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.version = parts.version;
    copy.headers = parts.headers.clone();
    copy
}

/// How one attempt ended.
enum Attempt {
    Answered(Response<Incoming>),
    /// Nothing was sent.
    Unsent(Box<Request<ClientBody>>),
    /// The connection ended without an answer.
    Died(Reject),
}

async fn attempt(
    lease: &mut Lease,
    request: Request<ClientBody>,
    way: Way<'_>,
    progress: &Rc<Progress>,
) -> Result<Attempt, Reject> {
    let limit = way.route.upstream_response;
    let sent = answer_within(lease.send(request), limit, progress).await;
    let error = match sent {
        Some(Ok(response)) => return Ok(Attempt::Answered(response)),
        Some(Err(SendError::Unsent(request, error))) => {
            tracing::debug!(error = ?error, address = %lease.address(), "a kept connection was closed");
            lease.retire();
            return Ok(Attempt::Unsent(request));
        }
        Some(Err(SendError::Sent(error))) => error,
        None => {
            lease.retire();
            return Err(Reject::because(Reason::UpstreamTimeout, format!("no answer within {limit:?}")));
        }
    };
    if let Some(fault) = progress.fault() {
        return Err(Reject::new(fault));
    }
    let reject = Reject::because(Reason::UpstreamInvalid, format!("{}: {error}", lease.address()));
    // A connection that ended without a byte of an answer may have been closed before the request came to it.
    if lease.reused
        && (error.is_incomplete_message()
            || error.is_closed()
            || error.is_canceled()
            || is_reset(&error)
            || is_refused(&error))
    {
        lease.retire();
        Ok(Attempt::Died(reject))
    } else {
        Err(reject)
    }
}

/// Whether the connection was reset by the peer while the request was written or the answer awaited.
fn is_reset(error: &hyper::Error) -> bool {
    use std::error::Error;
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
    use std::error::Error;
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

/// Whether a response is a stream that may outlive the token it was permitted with.
fn outlives_token(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value.starts_with(b"text/event-stream") || value.starts_with(b"application/grpc")
    })
}

/// Answers 101 and opens the tunnel.
fn switch(
    mut response: Response<Incoming>,
    client: hyper::upgrade::OnUpgrade,
    lease: Lease,
    progress: &Rc<Progress>,
    expires: Option<Instant>,
    request_id: &HeaderValue,
) -> Response<UpstreamBody> {
    let upstream = hyper::upgrade::on(&mut response);
    headers::to_client(response.headers_mut(), request_id);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(upgrade::WEBSOCKET));
    upgrade::tunnel(client, upstream, lease, expires);
    let progress = Rc::clone(progress);
    response.map(|incoming| UpstreamBody::new(incoming, None, progress, None))
}
