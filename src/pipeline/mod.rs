//! The way of one request: decide (route → authenticate → authorize) → forward → respond.
//!
//! `Gateway::answer` lists the stages in their order; everything around it observes.

mod aborted;
mod edge;
mod exchange;
mod upgrade;
mod view;

use std::cell::RefCell;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;

pub use exchange::Body;
use exchange::Exchange;
use view::{Ids, View};

use crate::admit::Head;
use crate::authenticate::Need;
use crate::authorize::Permit;
use crate::decide::{DecisionRecord, Verdict, decide};
use crate::forward::{RequestBody, Way, forward};
use crate::observe::access_log::WorkerLog;
use crate::observe::metrics::{Cause, Counted, StreamError, WorkerMetrics};
use crate::reject::{Reason, Reject};
use crate::respond::{cors, metadata, options};
use crate::server::{Abort, ConnectionLimits, Handler, Peer, ProxyHeader};
use crate::state::admission::Door;
use crate::state::clock;
use crate::state::live::{LiveKnowledge, Process};
use crate::types::Timestamp;

/// How long a request waits for the fetch of keys it needs.
const KEY_WAIT: Duration = Duration::from_secs(2);

/// The gateway as one worker sees it. Lives on the worker's thread.
#[derive(Debug)]
pub struct Gateway {
    process: Arc<Process>,
    metrics: Rc<WorkerMetrics>,
    door: Rc<Door>,
    log: WorkerLog,
    ids: Ids,
    view: RefCell<Rc<View>>,
}

impl Gateway {
    /// The gateway for one worker.
    ///
    /// # Errors
    ///
    /// No randomness from the system.
    pub fn new(process: Arc<Process>, log: WorkerLog) -> Result<Self, getrandom::Error> {
        let metrics = Rc::new(process.metrics.worker());
        Ok(Self {
            door: process.admission.worker(),
            log,
            ids: Ids::new()?,
            view: RefCell::new(Rc::new(View::new(process.live.load_full(), None, &metrics))),
            metrics,
            process,
        })
    }

    /// Answers one request: the stages in their order.
    async fn answer(&self, peer: &Peer, body: RequestBody, exchange: &Rc<Exchange>) -> Response<Body> {
        let view = exchange.view();
        if let Some(answer) = edge::settled(peer, exchange) {
            return answer;
        }
        let record = self.decide(view, exchange).await;
        exchange.decided(&record);
        match record.verdict {
            Verdict::Permit(permit, target) => {
                let Some(way) = self.way(view, peer, exchange, &permit) else {
                    return exchange.refuse(&Reject::new(Reason::Internal), None);
                };
                match forward(&permit, &target, way, exchange.head(), body).await {
                    Ok(response) => exchange.pass_on(response),
                    Err(reject) => exchange.refuse(&reject, None),
                }
            }
            Verdict::Options(_, allow) => exchange.reply(options::response(allow)),
            Verdict::Preflight(route) => {
                let route = view.live.snapshot.route(route);
                match route.and_then(|route| Some((route.cors.as_ref()?, route.token_places.as_deref()))) {
                    Some((cors, places)) => {
                        exchange.reply(cors::preflight(cors, places, &exchange.head().headers))
                    }
                    None => exchange.refuse(&Reject::new(Reason::Internal), None),
                }
            }
            Verdict::Metadata(resource) => {
                exchange.reply(metadata::response(resource, &exchange.head().method))
            }
            Verdict::Reject(reject) => exchange.refuse(&reject, record.allow),
        }
    }

    /// Decides; once more if keys were needed and could be had.
    async fn decide<'v>(&self, view: &'v View, exchange: &Exchange) -> DecisionRecord<'v> {
        let (started, now) = exchange.begun();
        let record = self.judge(view, exchange, started, now);
        match record.need {
            Some(need) if self.wait_for_keys(view, need, started).await => {
                self.judge(view, exchange, Instant::now(), clock::now())
            }
            Some(_) | None => record,
        }
    }

    fn judge<'v>(
        &self,
        view: &'v View,
        exchange: &Exchange,
        started: Instant,
        now: Timestamp,
    ) -> DecisionRecord<'v> {
        let Parts { method, uri, version, headers, .. } = exchange.head();
        let head = Head { method, uri, version: *version, headers };
        let knowledge = LiveKnowledge::new(&view.live, &self.process.tokens, now, started);
        let record = decide(&view.live.snapshot, &head, &knowledge, now);
        if let Some(principal) = record.principal() {
            knowledge.remember(principal);
        }
        let ended = Instant::now();
        self.metrics.decision_duration(ended.duration_since(started));
        exchange.judged(ended);
        record
    }

    /// Waits for the one running fetch of the keys that a decision begun at `started` lacked. `false` if there is nothing to
    /// wait for.
    async fn wait_for_keys(&self, view: &View, need: Need, started: Instant) -> bool {
        let cell = view.live.issuers.get(need.issuer().get());
        let Some(newer) = cell.and_then(|cell| cell.request_newer(started)) else {
            return false;
        };
        tokio::time::timeout(KEY_WAIT, newer).await.is_ok()
    }

    /// The way to a permitted route's upstream.
    fn way<'a>(
        &'a self,
        view: &'a View,
        peer: &'a Peer,
        exchange: &'a Exchange,
        permit: &Permit,
    ) -> Option<Way<'a>> {
        let route = view.live.snapshot.route(permit.route())?;
        let expires = permit.principal().map(|principal| {
            let issuer = view.live.snapshot.issuers.get(principal.issuer());
            let leeway = issuer.map_or(Duration::ZERO, |issuer| issuer.leeway);
            principal.facts().expires.plus(leeway)
        });
        Some(Way {
            snapshot: &view.live.snapshot,
            route,
            pool: view.pools.get(route.upstream.get())?,
            client: exchange.client(),
            peer: &peer.address_text,
            secure: peer.tls.is_some(),
            request_id: exchange.request_id(),
            now: exchange.when_decided().into(),
            expires,
            removed_fields: &exchange.removed_fields,
        })
    }

    /// The policy in force with this worker's connections for it.
    fn view(&self) -> Rc<View> {
        let mut view = self.view.borrow_mut();
        let live = self.process.live.load();
        if !Arc::ptr_eq(&live, &view.live) {
            *view = Rc::new(View::new(Arc::clone(&live), Some(&view), &self.metrics));
        }
        Rc::clone(&view)
    }
}

impl Handler for Gateway {
    type Body = Body;
    type Open = Counted;

    async fn handle(self: Rc<Self>, peer: Rc<Peer>, request: Request<Incoming>) -> Response<Body> {
        let (mut head, incoming) = request.into_parts();
        let body =
            RequestBody { incoming, signal: head.extensions.remove(), upgrade: head.extensions.remove() };
        if body.upgrade.is_some() {
            head.extensions.insert(upgrade::Offered);
        }
        let exchange = Exchange::begin(&self, &peer, head);
        if !exchange.is_admitted() {
            return exchange.turn_away(Reason::Overloaded, "`limits.requests_in_flight` is reached");
        }
        let panicked = || {
            self.metrics.panic();
            exchange.refuse(&Reject::because(Reason::Internal, "panic"), None)
        };
        caught(self.answer(&peer, body, &exchange), panicked).await
    }

    fn limits(&self) -> ConnectionLimits {
        let live = self.process.live.load();
        let gateway = &live.snapshot.gateway;
        ConnectionLimits::of(&gateway.limits, &gateway.timeouts)
    }

    fn tls(&self, listener: usize) -> Option<Arc<rustls::ServerConfig>> {
        Some(Arc::clone(&self.process.live.load().tls.get(listener)?.as_ref()?.config))
    }

    fn proxy_header(&self, listener: usize, peer: IpAddr) -> ProxyHeader {
        let live = self.process.live.load();
        let gateway = &live.snapshot.gateway;
        match gateway.listen.get(listener) {
            Some(listener) if !listener.proxy_protocol => ProxyHeader::Absent,
            Some(_) if gateway.is_trusted(peer) => ProxyHeader::Required,
            Some(_) | None => ProxyHeader::Refused,
        }
    }

    fn opened(&self, listener: usize) -> Option<Self::Open> {
        let handle = *self.process.live.load().listener_metrics.get(listener)?;
        Some(self.metrics.connection_opened(handle))
    }

    fn share(&self, client: IpAddr) -> Option<usize> {
        let live = self.process.live.load();
        let gateway = &live.snapshot.gateway;
        (!gateway.is_trusted(client)).then_some(gateway.limits.connections_per_client)
    }

    fn aborted(&self, peer: &Peer, abort: Abort) {
        let (reason, cause) = match abort {
            Abort::Flood => {
                let cause = "more HTTP/2 frames beside requests, stream errors or fields than allowed";
                return aborted::record(self, peer, Reason::RequestInvalid, cause);
            }
            Abort::Malformed => (Reason::RequestInvalid, "the bytes are not a valid HTTP request"),
            Abort::Fragment => (Reason::RequestInvalid, "the request target has a fragment (`#`)"),
            Abort::TooLarge => {
                (Reason::HeadersTooLarge, "the request line or the header section is too large")
            }
            Abort::HeaderTimeout => {
                (Reason::RequestTimeout, "the header section did not arrive within `timeouts.header`")
            }
            Abort::TooMany => (Reason::Overloaded, "the connection is above a limit of connections"),
            Abort::Handshake => return,
        };
        aborted::record(self, peer, reason, cause);
    }

    fn closed(&self, cause: Cause) {
        self.metrics.connection_closed(cause);
    }

    fn reset(&self, error: StreamError) {
        self.metrics.stream_reset(error);
    }

    fn stalled(&self) {
        self.metrics.stalled_stream();
    }

    fn not_accepted(&self) {
        self.metrics.accept_error();
    }

    fn tick(&self) {
        let view = self.view();
        view.pools.iter().for_each(|pool| pool.sweep());
    }
}

/// What comes of `work`, or of `panicked` if it panics: a fault of one request ends that request alone.
async fn caught<T>(work: impl Future<Output = T>, panicked: impl FnOnce() -> T) -> T {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| panicked())
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[tokio::test]
    async fn a_panic_becomes_an_answer_wherever_it_happens() {
        assert_eq!(caught(async { "well" }, || "panicked").await, "well");
        assert_eq!(caught(async { panic!("at once") }, || "panicked").await, "panicked");
        let later = async {
            tokio::task::yield_now().await;
            panic!("later")
        };
        assert_eq!(caught(later, || "panicked").await, "panicked");
    }
}
