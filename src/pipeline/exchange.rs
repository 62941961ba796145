//! One request and its answer as operators see them: measured from the head of the request to the end of the answer, and
//! recorded once, when the last part of it is dropped, however it ended.

use std::cell::{Cell, OnceCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use http_body::{Frame, SizeHint};

use super::Gateway;
use super::upgrade::not_switched;
use super::view::View;
use crate::authenticate::Principal;
use crate::decide::{DecisionRecord, Verdict};
use crate::forward::answer::UpstreamBody;
use crate::forward::headers::{Client, X_REQUEST_ID, removed_names};
use crate::forward::streaming::Broken;
use crate::observe::access_log::{Disposition, Entry};
use crate::observe::metrics::{Counted, Decision};
use crate::reject::{Control, Reason, Reject};
use crate::respond::{Refused, cors, grpc, hsts};
use crate::server::Peer;
use crate::state::admission::Admitted;
use crate::state::clock;
use crate::types::{Networks, RouteIndex, Timestamp};

/// The status in log and metrics of a request whose client left before an answer began, as nginx has it.
const CLIENT_CLOSED: u16 = 499;

/// One request under way.
#[derive(Debug)]
pub(super) struct Exchange {
    gateway: Rc<Gateway>,
    view: Rc<View>,
    _in_flight: Counted,
    place: Option<Admitted>,
    started: Instant,
    unix_ms: i64,
    request_id: HeaderValue,
    client: Client,
    tls: bool,
    head: Parts,
    route: Cell<Option<RouteIndex>>,
    principal: OnceCell<Principal>,
    disposition: Cell<Option<Disposition>>,
    reject: OnceCell<Reject>,
    /// Why it ended early, although it was permitted.
    failed: Cell<Option<Reason>>,
    decided: Cell<Option<Instant>>,
    answered: Cell<Option<Instant>>,
    status: Cell<u16>,
    /// How many fields of the request were removed for their names.
    pub(super) removed_fields: Cell<u64>,
    request_bytes: Cell<u64>,
    response_bytes: Cell<u64>,
}

impl Exchange {
    /// A request whose head has just arrived.
    pub(super) fn begin(gateway: &Rc<Gateway>, peer: &Peer, head: Parts) -> Rc<Self> {
        let view = gateway.view();
        let unix_ms = clock::unix_millis();
        let proxies = &view.live.snapshot.gateway.trusted_proxies;
        let trusted = if peer.unknown { &Networks::NONE } else { proxies };
        Rc::new(Self {
            _in_flight: gateway.metrics.in_flight(),
            place: gateway.door.admit(),
            started: Instant::now(),
            unix_ms,
            request_id: gateway.ids.next(unix_ms),
            client: Client::of(peer.address.ip(), &head.headers, trusted),
            tls: peer.tls.is_some(),
            head,
            route: Cell::new(None),
            principal: OnceCell::new(),
            disposition: Cell::new(None),
            reject: OnceCell::new(),
            failed: Cell::new(None),
            decided: Cell::new(None),
            answered: Cell::new(None),
            status: Cell::new(CLIENT_CLOSED),
            removed_fields: Cell::new(0),
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            view,
            gateway: Rc::clone(gateway),
        })
    }

    pub(super) const fn view(&self) -> &Rc<View> {
        &self.view
    }

    /// The head of the request, as it came.
    pub(super) const fn head(&self) -> &Parts {
        &self.head
    }

    /// When it came, by both clocks.
    pub(super) const fn begun(&self) -> (Instant, Timestamp) {
        (self.started, Timestamp(self.unix_ms.div_euclid(1000)))
    }

    /// Whether the client speaks TLS, here or to a trusted proxy that says so.
    pub(super) fn is_secure(&self) -> bool {
        self.client.is_secure(self.tls)
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    pub(super) const fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// Whether there is a place for it.
    pub(super) const fn is_admitted(&self) -> bool {
        self.place.is_some()
    }

    /// A refusal without a look at the request.
    pub(super) fn turn_away(self: &Rc<Self>, reason: Reason, cause: &'static str) -> Response<Body> {
        self.disposition.set(Some(Disposition::Deny));
        self.refuse(&Reject::because(reason, cause), None)
    }

    /// Notes when the decision was made.
    pub(super) fn judged(&self, at: Instant) {
        self.decided.set(Some(at));
    }

    /// When the decision was made; before that, when the request came.
    pub(super) fn when_decided(&self) -> Instant {
        self.decided.get().unwrap_or(self.started)
    }

    /// Notes the decision.
    pub(super) fn decided(&self, record: &DecisionRecord<'_>) {
        self.route.set(record.route);
        if let Some(principal) = record.principal() {
            let _ = self.principal.set(principal.clone());
        }
        let (disposition, reject) = match &record.verdict {
            Verdict::Permit(permit, _) => match permit.shadowed() {
                Some(shadowed) => (Disposition::Shadow, Some(shadowed)),
                None => (Disposition::Permit, None),
            },
            Verdict::Options(..) => (Disposition::Options, None),
            Verdict::Preflight(_) => (Disposition::Preflight, None),
            Verdict::Metadata(_) => (Disposition::Metadata, None),
            Verdict::Reject(reject) => (Disposition::Deny, Some(reject)),
        };
        self.disposition.set(Some(disposition));
        if let Some(reject) = reject {
            let _ = self.reject.set(reject.clone());
        }
    }

    /// Notes what became of it without a decision: no route was looked for.
    pub(super) fn settled(&self, disposition: Disposition) {
        self.disposition.set(Some(disposition));
    }

    /// An answer of the gateway's own.
    pub(super) fn reply(self: &Rc<Self>, response: Response<Bytes>) -> Response<Body> {
        self.response_bytes.set(response.body().len() as u64);
        let mut response =
            response.map(|bytes| Body { kind: Kind::Own(Some(bytes)), exchange: Rc::clone(self) });
        response.headers_mut().insert(X_REQUEST_ID, self.request_id.clone());
        self.secure_transport(response.headers_mut());
        self.status.set(response.status().as_u16());
        response
    }

    /// A refusal.
    pub(super) fn refuse(self: &Rc<Self>, reject: &Reject, allow: Option<&str>) -> Response<Body> {
        // A shadowed refusal is the more telling one only while nothing else refuses; the log keeps the first.
        let _ = self.reject.set(reject.clone());
        if self.is_permitted() {
            self.failed.set(Some(reject.reason));
        }
        let live = &self.view.live;
        let refused = Refused {
            snapshot: &live.snapshot,
            reject,
            route: self.route.get(),
            authenticated: self.principal.get().is_some(),
            issuer: self.principal.get().map(Principal::issuer),
            request_id: self.request_id.to_str().unwrap_or_default(),
            allow,
            grpc: grpc::is_call(&self.head.headers),
        };
        let mut response = refused.response();
        if self.head.method == Method::CONNECT {
            // What follows may be meant for a tunnel that does not exist; it shall not be taken for requests.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.annotate(response.headers_mut());
        self.count_fault(reject.reason);
        self.reply(response)
    }

    /// Counts what is the upstream's fault.
    fn count_fault(&self, reason: Reason) {
        if reason.control() == Control::Upstream
            && let Some(metric) =
                self.upstream().and_then(|upstream| self.view.live.upstream_metrics.get(upstream))
        {
            self.gateway.metrics.upstream_error(*metric, reason);
        }
    }

    /// The upstream's answer.
    pub(super) fn pass_on(self: &Rc<Self>, response: Response<UpstreamBody>) -> Response<Body> {
        let now = Instant::now();
        self.answered.set(Some(now));
        self.status.set(response.status().as_u16());
        if let Some(metric) =
            self.upstream().and_then(|upstream| self.view.live.upstream_metrics.get(upstream))
        {
            let waited = self.decided.get().map_or(Duration::ZERO, |decided| now.duration_since(decided));
            self.gateway.metrics.upstream(*metric, waited);
        }
        let mut response =
            response.map(|body| Body { kind: Kind::Upstream(body), exchange: Rc::clone(self) });
        self.annotate(response.headers_mut());
        self.secure_transport(response.headers_mut());
        response
    }

    /// Adds what lets scripts of allowed origins read the answer, if the route allows any.
    fn annotate(&self, headers: &mut HeaderMap) {
        let route = self.route.get().and_then(|route| self.view.live.snapshot.route(route));
        if let Some(cors) = route.and_then(|route| route.cors.as_ref()) {
            cors::annotate(cors, self.head.headers.get(header::ORIGIN), headers);
        }
    }

    fn secure_transport(&self, headers: &mut HeaderMap) {
        let Parts { uri, headers: request, .. } = &self.head;
        hsts::set(&self.view.live.snapshot.hsts, self.is_secure(), uri, request, headers);
    }

    /// Whether it was let through.
    fn is_permitted(&self) -> bool {
        matches!(self.disposition.get(), Some(Disposition::Permit | Disposition::Shadow))
    }

    /// The position of the route's upstream.
    fn upstream(&self) -> Option<usize> {
        Some(self.view.live.snapshot.route(self.route.get()?)?.upstream.get())
    }

    /// Counts the request and writes its line.
    fn record(&self) {
        let live = &self.view.live;
        let metrics = &self.gateway.metrics;
        let duration = self.started.elapsed();
        let route = self.route.get();
        let route_metric = route.and_then(|route| live.route_metrics.get(route.get())).copied();
        let reason = self.reject.get().map(|reject| reject.reason);
        metrics.request(route_metric, &self.head.method, self.status.get(), duration);
        match self.disposition.get() {
            Some(Disposition::Permit) => metrics.decision(route_metric, Decision::Permit, None),
            Some(Disposition::Shadow) => metrics.decision(route_metric, Decision::Shadow, reason),
            Some(Disposition::Deny) => metrics.decision(route_metric, Decision::Deny, reason),
            Some(Disposition::Options | Disposition::Preflight) => {}
            Some(Disposition::Metadata | Disposition::Redirect) | None => {}
        }
        if let Some(reason) = self.failed.get() {
            metrics.failed(route_metric, reason);
        }
        let removed = self.removed_fields.get();
        metrics.removed_fields(route_metric, removed);
        if !self.gateway.log.enabled() {
            return;
        }
        let route = route.and_then(|route| live.snapshot.route(route));
        let rules = route.and_then(|route| route.fields.as_deref());
        let removed = (removed > 0).then(|| removed_names(&self.head.headers, rules));
        let sent = route.filter(|_| self.is_permitted());
        let upstream = sent.and_then(|route| live.snapshot.upstreams.get(route.upstream.get()));
        let not_switched = sent.and_then(|route| not_switched(&self.head, route, self.status.get()));
        let facts = self.principal.get().map(|principal| &**principal.facts());
        let since =
            |end: &Cell<Option<Instant>>, start: Instant| end.get().map(|end| end.duration_since(start));
        let host = self.head.uri.host().map(str::as_bytes);
        let owner = reason.and_then(|reason| live.snapshot.owner(self.route.get(), reason.control()));
        self.gateway.log.write(&Entry {
            unix_ms: self.unix_ms,
            request_id: self.request_id.to_str().unwrap_or_default(),
            address: Some(self.client.address),
            method: &self.head.method,
            host: host.or_else(|| self.head.headers.get(header::HOST).map(HeaderValue::as_bytes)),
            path: self.head.uri.path().as_bytes(),
            protocol: self.head.version,
            tls: self.tls,
            route: route.map(|route| route.id.as_str()),
            status: self.status.get(),
            decision: self.disposition.get(),
            reason,
            cause: self.reject.get().map_or(not_switched.as_deref(), |reject| reject.cause.as_deref()),
            owner: owner.map(AsRef::as_ref),
            issuer: facts.map(|facts| facts.issuer.as_str()),
            client: facts.and_then(|facts| facts.client.as_deref()),
            subject: facts.and_then(|facts| facts.subject.as_deref()),
            tenant: self.principal.get().and_then(Principal::tenant),
            upstream: upstream.map(|upstream| upstream.name.as_str()),
            duration,
            decision_duration: since(&self.decided, self.started),
            upstream_duration: self.decided.get().and_then(|decided| since(&self.answered, decided)),
            removed_headers: removed.as_deref(),
            request_bytes: self.request_bytes.get(),
            response_bytes: self.response_bytes.get(),
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.record();
    }
}

/// The body of an answer, which keeps its exchange open until it is sent or given up.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
    exchange: Rc<Exchange>,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all answers are of upstreams: a box would cost each an allocation"
)]
enum Kind {
    /// Of the gateway itself.
    Own(Option<Bytes>),
    /// Of the upstream.
    Upstream(UpstreamBody),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.kind {
            Kind::Own(bytes) => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            Kind::Upstream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Upstream(body) => body.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let exchange = &self.exchange;
        match &self.kind {
            Kind::Own(_) => {}
            Kind::Upstream(body) => {
                exchange.request_bytes.set(body.request_bytes());
                exchange.response_bytes.set(body.bytes());
                if let Some(broken) = body.broken() {
                    exchange.failed.set(Some(broken.reason()));
                    exchange.count_fault(broken.reason());
                    let _ = exchange.reject.set(Reject::because(broken.reason(), broken.to_string()));
                }
            }
        }
    }
}
