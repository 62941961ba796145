//! From a [`Permit`] to the upstream's answer. Without a permit there is no way in here.
//!
//! 1. The body is limited before it is read ([`body`]).
//! 2. Header fields are removed, then set ([`headers`]); the target is the route's rewrite of what was matched.
//! 3. The request goes out on a connection of this worker ([`pool`]).
//! 4. It is sent again, once and on a new connection, only if nothing of it was sent, or if a kept connection turned out
//!    to be dead before any answer and the method is safe to repeat without a body (RFC 9110 §9.2.2). A request that an
//!    HTTP/2 upstream says it did not process is sent again a few times, whatever its method (RFC 9113 §8.7).
//! 5. The answer streams back ([`answer`]), and is kept from shared caches where they could not know that it was for one
//!    caller; a switch of protocols becomes a tunnel (`upgrade`).

mod amend;
pub mod answer;
mod attempt;
pub mod body;
mod bound;
mod connect;
mod deadline;
mod declared;
mod expiry;
mod handshake;
pub mod headers;
pub mod http1;
mod http2;
pub mod identity;
mod kept;
mod location;
mod meter;
mod pace;
pub mod pool;
mod replay;
pub mod streaming;
mod upgrade;
mod way;

use std::borrow::Cow;
use std::future::poll_fn;
use std::rc::Rc;

use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use tokio::io::AsyncWrite;

use crate::authenticate::subprotocol::Offer;
use crate::authorize::Permit;
use crate::reject::{Reason, Reject};
use crate::route::host::Host;
use crate::route::rewrite::Target;
use crate::snapshot::{HostHeader, UpstreamProtocol};
use crate::types::{BodySignal, RawQuery};
use answer::{Http1Source, Source, UpstreamBody, is_stream};
use attempt::http1_exchange;
use body::ClientBody;
use bound::Bound;
use declared::{authority, delimiter, expects_length, forwards_left, invalid, own_authority};
use expiry::Expiry;
use headers::{Fields, Outgoing, TrailerNames};
use http1::request::{Delimiter, HeadBytes, Sending};
use http1::response::Head;
use http1::{BODY_ROOM, STREAM_ROOM};
use streaming::Progress;
pub use way::Way;

/// The field that tokens come in unless an issuer says otherwise.
static AUTHORIZATION: HeaderName = header::AUTHORIZATION;

/// What follows the head of a request.
#[derive(Debug)]
pub struct RequestBody {
    /// The body.
    pub incoming: Incoming,
    /// Told when the body has been read, if the connection asks.
    pub signal: Option<BodySignal>,
    /// The client's side of a tunnel, if the request asks for one.
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
}

/// Forwards a permitted request.
///
/// # Errors
///
/// `body_too_large`, `request_timeout`, `credential_unsupported`, or why the upstream gave no answer.
pub async fn forward(
    permit: &Permit,
    target: &Target,
    way: Way<'_>,
    head: &Parts,
    body: RequestBody,
) -> Result<Response<UpstreamBody>, Reject> {
    let progress = Rc::new(Progress::default());
    let trailers = way.announced_trailers(&head.headers);
    let incoming = limited(way, body.incoming, body.signal, trailers.clone(), &progress)?;
    let offer = upgrade::offer(way.route, head);
    let request = Outbound { permit, target, way, head, trailers: &trailers, offer };
    let mut response = match way.pool.cell.policy.protocol {
        UpstreamProtocol::Http1 => request.over_http1(incoming, body.upgrade, &progress).await?,
        UpstreamProtocol::H2 | UpstreamProtocol::H2c => {
            // Most requests do without, and need not have room for it.
            Box::pin(request.over_http2(incoming, &progress)).await?
        }
    };
    response.headers_mut().insert(headers::X_REQUEST_ID, way.request_id.clone());
    amend::fit_to_status(&mut response);
    let stream = is_stream(response.headers());
    if let Some(rules) = &way.route.fields {
        rules.response.apply(response.headers_mut());
    }
    if request.has_hidden_credential() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        amend::keep_from_shared_caches(response.headers_mut());
    }
    if stream {
        response.body_mut().stream_until(way.expires.map(Expiry::new));
    }
    Ok(response)
}

/// Writes what [`forward`] sends to an HTTP/1.1 upstream, to the end of its body, and awaits no answer: for tests that read
/// what an upstream would. Without `body` the request ended with its head. No change of protocols is asked for.
///
/// # Errors
///
/// What [`forward`] says before there is an answer. What was written until then is not to be used.
pub async fn write_http1<W: AsyncWrite + Unpin>(
    permit: &Permit,
    target: &Target,
    way: Way<'_>,
    head: &Parts,
    body: Option<Incoming>,
    io: &mut W,
) -> Result<(), Reject> {
    let progress = Rc::new(Progress::default());
    let trailers = way.announced_trailers(&head.headers);
    let body = match body {
        Some(incoming) => limited(way, incoming, None, trailers.clone(), &progress)?,
        None => ClientBody::Empty,
    };
    let offer = upgrade::offer(way.route, head);
    let request = Outbound { permit, target, way, head, trailers: &trailers, offer };
    let mut sending = request.http1_request(body, None)?;
    let sent = poll_fn(|cx| sending.poll(cx, io)).await;
    sent.map_err(|_| {
        let unreachable = || Reject::because(Reason::UpstreamUnreachable, "the connection broke off");
        progress.fault().unwrap_or_else(unreachable)
    })
}

/// Refuses a body whose declared length is too large, and limits one that is not declared.
fn limited(
    way: Way<'_>,
    incoming: Incoming,
    signal: Option<BodySignal>,
    trailers: TrailerNames,
    progress: &Rc<Progress>,
) -> Result<ClientBody, Reject> {
    let declared = http_body::Body::size_hint(&incoming).lower();
    let limits = way.route.body;
    if declared > limits.bytes {
        let cause = format!("Content-Length is {declared}; `limits.body` is {}", limits.bytes);
        return Err(Reject::because(Reason::BodyTooLarge, cause));
    }
    Ok(ClientBody::new(incoming, signal, limits, way.now, trailers, progress))
}

/// A permitted request, to be told to its upstream.
struct Outbound<'a> {
    permit: &'a Permit,
    target: &'a Target,
    way: Way<'a>,
    head: &'a Parts,
    trailers: &'a [HeaderName],
    /// The subprotocols that a WebSocket handshake offers beside its token.
    offer: Option<Offer<'a>>,
}

impl Outbound<'_> {
    async fn over_http1(
        &self,
        body: ClientBody,
        client: Option<hyper::upgrade::OnUpgrade>,
        progress: &Rc<Progress>,
    ) -> Result<Response<UpstreamBody>, Reject> {
        let client = client.filter(|_| self.way.route.websocket && upgrade::is_asked_for(self.head));
        let upgrade = client.as_ref().map(|_| upgrade::WEBSOCKET);
        let bound = self.bound(false)?;
        let sending = self.http1_request(body, upgrade)?;
        let (head, rest, lease) = http1_exchange(self.way, sending, progress).await?;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return upgrade::switch(self.way, self.offer.as_ref(), head, client, lease, progress);
        }
        let Head { status, phrase, headers, located, framing, reusable, keeps, .. } = head;
        let reusable = reusable && bound == Bound::No && !bound::challenges(status, &headers);
        let most = match self.head.version {
            Version::HTTP_2 => STREAM_ROOM,
            _ => self.way.snapshot.gateway.limits.buffer.min(BODY_ROOM),
        };
        let source = Source::Http1(Http1Source { lease, framing, reusable, keeps, rest, most });
        let mut response = Response::new(UpstreamBody::new(source, self.way.route, progress));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        phrase.map(|phrase| response.extensions_mut().insert(phrase));
        self.rewrite_urls(response.headers_mut(), located);
        Ok(response)
    }

    /// Whether the request brought its token where caches do not look for one.
    fn has_hidden_credential(&self) -> bool {
        let places = self.way.route.token_places.as_ref();
        places.is_some_and(|places| !places.fields.is_empty() || self.offer.is_some())
    }

    /// Whether the client's credential, if the upstream gets it, binds the connection. `shared` is whether others use it.
    fn bound(&self, shared: bool) -> Result<Bound, Reject> {
        if self.token_field() == Some(&AUTHORIZATION) {
            bound::credential(&self.head.headers, shared)
        } else {
            Ok(Bound::No)
        }
    }

    /// The field whose token the upstream gets: the one that was verified. On a public route nobody knows what is in it.
    fn token_field(&self) -> Option<&HeaderName> {
        let Way { route, snapshot, .. } = self.way;
        if !route.forward_token {
            return None;
        }
        let issuer = self.permit.principal().and_then(|principal| snapshot.issuers.get(principal.issuer()));
        Some(issuer.and_then(|issuer| issuer.token_header.as_ref()).unwrap_or(&AUTHORIZATION))
    }

    /// The request as it is sent over HTTP/1.1.
    fn http1_request(&self, body: ClientBody, upgrade: Option<&'static str>) -> Result<Sending, Reject> {
        let asked = authority(self.head)?;
        let raw_query = self.head.extensions.get::<RawQuery>();
        let target = self.path().map_or("/", PathAndQuery::as_str);
        let mut head = HeadBytes::new(&self.head.method, target, raw_query);
        self.add_fields(asked.as_ref(), Some(&self.host(asked.as_ref())), upgrade, &mut head);
        if upgrade.is_none() && self.way.snapshot.gateway.timeouts.upstream_keep_alive.is_zero() {
            head.add(&header::CONNECTION, &HeaderValue::from_static("close"));
        }
        let delimiter = delimiter(&self.head.headers, &body)?;
        if delimiter == Delimiter::Length(0) && expects_length(self.head) {
            head.add(&header::CONTENT_LENGTH, &HeaderValue::from_static("0"));
        }
        if delimiter == Delimiter::Chunked {
            head.add(&header::TRANSFER_ENCODING, &HeaderValue::from_static("chunked"));
        }
        Ok(Sending::new(&self.head.method, head, body, delimiter))
    }

    async fn over_http2(
        &self,
        body: ClientBody,
        progress: &Rc<Progress>,
    ) -> Result<Response<UpstreamBody>, Reject> {
        self.bound(true)?;
        let build = |body| self.http2_request(body);
        let mut response = http2::exchange(self.way, &self.head.method, build, body, progress).await?;
        let headers = response.headers_mut();
        let located =
            headers.contains_key(header::LOCATION) || headers.contains_key(header::CONTENT_LOCATION);
        self.rewrite_urls(headers, located);
        Ok(response)
    }

    /// Rewrites URLs in the head of a response for the client. `located` is whether a field may hold one that is no cookie's.
    fn rewrite_urls(&self, headers: &mut HeaderMap, located: bool) {
        let Way { route, pool, snapshot, client, secure, .. } = self.way;
        let located = located && route.rewrite_location;
        if !located && !route.rewrite_cookies {
            return;
        }
        let Parts { uri, headers: request, version, .. } = self.head;
        let (Ok(host), Ok(asked)) = (Host::of(uri, request, *version), authority(self.head)) else {
            return;
        };
        let sent_host = self.host(asked.as_ref());
        let origin = snapshot.origins.get(host.as_str());
        let sides = location::Sides {
            upstream: &pool.cell.policy,
            sent_host: sent_host.to_str().unwrap_or_default(),
            rewrite: &route.rewrite,
            host: host.as_str(),
            origin: origin.map(|origin| &*origin.text),
            secure: origin.map_or_else(|| client.is_secure(secure), |origin| origin.secure),
        };
        if located {
            location::rewrite_locations(headers, &sides);
        }
        if route.rewrite_cookies {
            location::rewrite_cookies(headers, &sides);
        }
    }

    /// The request as it is sent over HTTP/2.
    fn http2_request(&self, body: ClientBody) -> Result<Request<ClientBody>, Reject> {
        let asked = authority(self.head)?;
        let secure = self.way.pool.cell.policy.protocol == UpstreamProtocol::H2;
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(self.path().cloned().unwrap_or(PathAndQuery::from_static("/")));
        uri.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
        uri.authority = Authority::try_from(self.host(asked.as_ref()).as_bytes()).ok();
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() =
            Uri::from_parts(uri).map_err(|_| invalid("the target has no valid form over HTTP/2"))?;
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().reserve(self.head.headers.len() + headers::MOST_ADDED);
        self.add_fields(asked.as_ref(), None, None, request.headers_mut());
        Ok(request)
    }

    /// The target: the route's rewrite of what was matched.
    fn path(&self) -> Option<&PathAndQuery> {
        match self.target {
            Target::Unchanged => self.head.uri.path_and_query(),
            Target::Rewritten(path) => Some(path),
        }
    }

    /// What the upstream sees as Host: without a Host of the client's, its own name.
    fn host<'h>(&'h self, asked: Option<&'h HeaderValue>) -> Cow<'h, HeaderValue> {
        let policy = &self.way.pool.cell.policy;
        match (&policy.host, asked) {
            (HostHeader::Literal(literal), _) => Cow::Borrowed(literal),
            (HostHeader::Preserve, Some(asked)) => Cow::Borrowed(asked),
            (HostHeader::Preserve, None) => Cow::Owned(own_authority(policy)),
        }
    }

    fn add_fields(
        &self,
        host: Option<&HeaderValue>,
        host_field: Option<&HeaderValue>,
        upgrade: Option<&'static str>,
        fields: &mut impl Fields,
    ) {
        let Way { snapshot, route, .. } = self.way;
        let outgoing = Outgoing {
            client: self.way.client,
            peer: self.way.peer,
            secure: self.way.secure,
            version: self.head.version,
            host,
            host_field,
            request_id: self.way.request_id,
            token_field: self.token_field(),
            reserved_headers: &snapshot.reserved_headers,
            max_forwards: forwards_left(self.head),
            rules: route.fields.as_deref(),
            credential: snapshot.credential(route.upstream),
            removed: self.way.removed_fields,
            upgrade,
            subprotocols: upgrade::subprotocols(route, self.offer.as_ref(), upgrade.is_some()),
            trailers: self.trailers,
        };
        headers::to_upstream(&self.head.headers, &outgoing, fields);
        if let Some(offer) = &self.offer
            && outgoing.token_field.is_some()
            && upgrade.is_some()
        {
            fields.add_text(&AUTHORIZATION, &format!("Bearer {}", offer.token()));
        }
        if let Some(principal) = self.permit.vouched() {
            let issuer = snapshot.issuers.get(principal.issuer());
            identity::identify(&route.identity_headers, principal, issuer, fields);
        }
    }
}
