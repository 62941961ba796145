//! The connections of one worker to one upstream.
//!
//! 1. A request goes to the address with the fewest requests of this worker under way; ties go round.
//! 2. An address that refused a connection is passed over for a second, unless there is no other.
//! 3. An HTTP/1 connection carries one request at a time and is kept for the next only after its response was read to the
//!    end; whatever else happens closes it.
//! 4. An HTTP/2 connection that let a request down gets no new ones; those it carries may end on it.
//! 5. A kept connection is closed after `upstream_keep_alive`, and a second before the upstream says that it closes it
//!    (Keep-Alive), so that a request seldom meets a connection that is about to end.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2;
use tokio::time::Instant;

use super::body::ClientBody;
use super::connect::{Http2, Unconnected, connect};
pub use super::meter::Meter;
use super::{deadline, http1};
use crate::observe::metrics::ConnectFault;
use crate::reject::{Reason, Reject};
use crate::snapshot::UpstreamProtocol;
use crate::state::upstream::{Address, UpstreamCell};

/// How long before the upstream closes an unused connection it is given up.
const MARGIN: Duration = Duration::from_secs(1);
/// Most unused connections to one address.
const KEPT: usize = 512;
/// How long an address that refused is passed over.
const PASSED_OVER: Duration = Duration::from_secs(1);
/// Streams on one HTTP/2 connection before another is opened, unless the upstream takes fewer.
const STREAMS: usize = 100;
/// Most HTTP/2 connections to one address.
const MULTIPLEXED: usize = 32;

/// The connections of one worker to one upstream.
pub struct Pool {
    /// What is known of the upstream.
    pub cell: Arc<UpstreamCell>,
    seen: RefCell<Arc<Vec<Address>>>,
    slots: RefCell<Vec<Rc<Slot>>>,
    turn: Cell<usize>,
    meter: Box<dyn Meter>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("cell", &self.cell).field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// The connections to one address.
#[derive(Debug)]
struct Slot {
    address: Address,
    outstanding: Cell<usize>,
    refused: Cell<Option<Instant>>,
    /// How long an unused connection is kept.
    keep: Cell<Duration>,
    /// Unused connections, each with the time until which it may be lent again.
    kept: RefCell<Vec<(http1::Connection, Instant)>>,
    multiplexed: RefCell<Vec<Rc<Multiplexed>>>,
    /// One HTTP/2 connection is opened at a time: the first burst shares it.
    opening: tokio::sync::Mutex<()>,
}

/// An HTTP/2 connection and how many requests it carries.
#[derive(Debug)]
struct Multiplexed {
    connection: Http2,
    streams: Cell<usize>,
    used: Cell<Instant>,
    /// Whether a request was answered on it.
    answered: Cell<bool>,
    /// Whether a request was let down by it.
    retired: Cell<bool>,
}

impl Multiplexed {
    /// Whether another stream can be opened at once.
    fn has_room(&self) -> bool {
        self.streams.get() < self.connection.max_streams().unwrap_or(STREAMS).min(STREAMS)
    }

    fn sender(&self) -> Option<http2::SendRequest<ClientBody>> {
        let sender = &self.connection.sender;
        (!sender.is_closed() && !self.retired.get()).then(|| sender.clone())
    }
}

/// A connection lent to one request.
#[derive(Debug)]
pub struct Lease {
    slot: Rc<Slot>,
    carrier: Carrier,
    /// Whether it carried a request before.
    pub(super) reused: bool,
}

/// What the policy says of connections to upstreams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Longest wait for a new connection.
    pub(super) connect: Duration,
    /// How long an unused one is kept.
    pub(super) keep: Duration,
    /// Longest header section of an answer.
    pub(super) header_bytes: usize,
}

#[derive(Debug)]
enum Carrier {
    /// An HTTP/1 connection; taken out when it is given back.
    Exclusive(Option<http1::Connection>),
    /// A share of an HTTP/2 connection.
    Shared(Rc<Multiplexed>),
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.slot.outstanding.set(self.slot.outstanding.get().saturating_sub(1));
        if let Carrier::Shared(shared) = &self.carrier {
            shared.streams.set(shared.streams.get().saturating_sub(1));
            shared.used.set(Instant::now());
        }
    }
}

impl Lease {
    /// Ends the loan of an HTTP/1 connection. It is kept if it may carry another request and nothing came behind the answer.
    /// `keeps` is how many seconds the upstream says that it keeps it.
    pub(super) fn finish(mut self, reusable: bool, keeps: Option<u32>) {
        let keep = self.slot.keep.get();
        let keep =
            keeps.map_or(keep, |keeps| Duration::from_secs(keeps.into()).saturating_sub(MARGIN).min(keep));
        if let Carrier::Exclusive(connection) = &mut self.carrier
            && let Some(mut connection) = connection.take()
            && reusable
            && !keep.is_zero()
            && connection.is_drained()
        {
            connection.rest();
            let mut kept = self.slot.kept.borrow_mut();
            if kept.len() < KEPT {
                kept.push((connection, deadline::after(keep)));
            }
        }
    }

    /// The connection, if it is an HTTP/1 one.
    pub(super) const fn http1(&mut self) -> Option<&mut http1::Connection> {
        match &mut self.carrier {
            Carrier::Exclusive(connection) => connection.as_mut(),
            Carrier::Shared(_) => None,
        }
    }

    /// Takes the connection out, to become a tunnel.
    pub(super) const fn take_http1(&mut self) -> Option<http1::Connection> {
        match &mut self.carrier {
            Carrier::Exclusive(connection) => connection.take(),
            Carrier::Shared(_) => None,
        }
    }

    /// What opens streams on the connection, if it is an HTTP/2 one that is still good.
    pub(super) fn http2(&self) -> Option<http2::SendRequest<ClientBody>> {
        match &self.carrier {
            Carrier::Exclusive(_) => None,
            Carrier::Shared(shared) => shared.sender(),
        }
    }

    /// Notes that a request was answered on the connection: it was alive once.
    pub(super) fn answered(&self) {
        if let Carrier::Shared(shared) = &self.carrier {
            shared.answered.set(true);
        }
    }

    /// Whether a request was ever answered on the connection.
    pub(super) fn has_answered(&self) -> bool {
        match &self.carrier {
            Carrier::Exclusive(_) => self.reused,
            Carrier::Shared(shared) => shared.answered.get(),
        }
    }

    /// Gives the connection no new requests: it does not answer, or is about to end. An upstream that vanished would
    /// otherwise swallow all of them for as long as TCP has hope.
    pub(super) fn retire(&self) {
        if let Carrier::Shared(shared) = &self.carrier {
            shared.retired.set(true);
        }
    }

    /// The address it leads to.
    pub fn address(&self) -> std::net::SocketAddr {
        self.slot.address.socket
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(cell: Arc<UpstreamCell>, meter: impl Meter + 'static) -> Self {
        Self {
            meter: Box::new(meter),
            seen: RefCell::new(Arc::new(Vec::new())),
            slots: RefCell::new(Vec::new()),
            turn: Cell::new(0),
            cell,
        }
    }

    /// Lends a connection: one that is kept at `now`, or a new one. With `fresh`, always a new one.
    ///
    /// # Errors
    ///
    /// `upstream_unreachable` or `upstream_timeout` of the last address that was tried; `overloaded` for want of a socket.
    pub(super) async fn lend(&self, fresh: bool, now: Instant, terms: Terms) -> Result<Lease, Reject> {
        self.follow();
        let mut last = Reject::because(Reason::UpstreamUnreachable, "the upstream has no address");
        let mut tried = Vec::new();
        while let Some(slot) = self.choose(&tried, now) {
            match Slot::lend(&slot, self, fresh, now, terms).await {
                Ok(lease) => {
                    slot.refused.set(None);
                    return Ok(lease);
                }
                Err(unconnected) => {
                    let Unconnected { fault, error } = &unconnected;
                    self.meter.failed(*fault);
                    self.cell.connect_failed(slot.address.socket, *fault, error);
                    // A shortage of sockets is no fault of the address. Another one may have a connection that is open.
                    if *fault != ConnectFault::Shortage {
                        slot.refused.set(Some(Instant::now()));
                    }
                    last = unconnected.reject(&slot.address);
                    tried.push(slot);
                }
            }
        }
        Err(last)
    }

    /// Closes what has not been used for a while.
    pub fn sweep(&self) {
        self.follow();
        let now = Instant::now();
        for slot in self.slots.borrow().iter() {
            slot.kept.borrow_mut().retain_mut(|(connection, until)| now < *until && connection.is_quiet());
            slot.multiplexed.borrow_mut().retain(|shared| {
                shared.streams.get() > 0
                    || (shared.sender().is_some() && now.duration_since(shared.used.get()) < slot.keep.get())
            });
        }
    }

    /// Takes over the addresses as last looked up; connections to those that stay are kept.
    fn follow(&self) {
        let addresses = self.cell.addresses();
        if Arc::ptr_eq(&addresses, &self.seen.borrow()) {
            return;
        }
        let mut slots = self.slots.borrow_mut();
        let old = std::mem::take(&mut *slots);
        *slots = addresses
            .iter()
            .map(|address| {
                let same = old.iter().find(|slot| slot.address == *address);
                same.map_or_else(|| Rc::new(Slot::new(address.clone())), Rc::clone)
            })
            .collect();
        drop(slots);
        *self.seen.borrow_mut() = addresses;
    }

    /// The address for the next request, beside those that were tried.
    fn choose(&self, tried: &[Rc<Slot>], now: Instant) -> Option<Rc<Slot>> {
        let slots = self.slots.borrow();
        if let [only] = slots.as_slice() {
            return tried.is_empty().then(|| Rc::clone(only));
        }
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let count = slots.len();
        (0..count)
            .filter_map(|step| slots.get(turn.wrapping_add(step) % count))
            .filter(|slot| !tried.iter().any(|other| Rc::ptr_eq(other, slot)))
            .min_by_key(|slot| (slot.passed_over(now), slot.outstanding.get()))
            .map(Rc::clone)
    }
}

impl Slot {
    fn new(address: Address) -> Self {
        Self {
            address,
            outstanding: Cell::new(0),
            refused: Cell::new(None),
            keep: Cell::default(),
            kept: RefCell::new(Vec::new()),
            multiplexed: RefCell::new(Vec::new()),
            opening: tokio::sync::Mutex::new(()),
        }
    }

    fn passed_over(&self, now: Instant) -> bool {
        self.refused.get().is_some_and(|since| now.duration_since(since) < PASSED_OVER)
    }

    async fn lend(
        slot: &Rc<Self>,
        pool: &Pool,
        fresh: bool,
        now: Instant,
        terms: Terms,
    ) -> Result<Lease, Unconnected> {
        slot.keep.set(terms.keep);
        let carrier = match pool.cell.policy.protocol {
            _ if fresh => None,
            UpstreamProtocol::Http1 => slot.kept(now).map(|kept| Carrier::Exclusive(Some(kept))),
            UpstreamProtocol::H2 | UpstreamProtocol::H2c => slot.shared().map(Carrier::Shared),
        };
        match carrier {
            Some(carrier) => Ok(Self::lease(slot, carrier, true)),
            // Most requests do without, and need not have room for it.
            None => Box::pin(Self::open(slot, pool, terms)).await,
        }
    }

    async fn open(slot: &Rc<Self>, pool: &Pool, terms: Terms) -> Result<Lease, Unconnected> {
        let limit = terms.connect;
        if pool.cell.policy.protocol == UpstreamProtocol::Http1 {
            let io = connect(&pool.cell, &slot.address, limit).await?;
            pool.cell.connected(slot.address.socket);
            let connection = http1::Connection::new(io, pool.meter.opened());
            return Ok(Self::lease(slot, Carrier::Exclusive(Some(connection)), false));
        }
        // One limit for all of it: whoever waits here while others fail one after the other is not served by the next.
        let opened = tokio::time::timeout(limit, Self::multiplex(slot, pool, terms)).await;
        opened.unwrap_or_else(|_| Err(Unconnected::late(limit)))
    }

    /// A new HTTP/2 connection, or the one that somebody else has opened meanwhile.
    async fn multiplex(slot: &Rc<Self>, pool: &Pool, terms: Terms) -> Result<Lease, Unconnected> {
        let _one_at_a_time = slot.opening.lock().await;
        if let Some(shared) = slot.shared() {
            return Ok(Self::lease(slot, Carrier::Shared(shared), true));
        }
        let io = connect(&pool.cell, &slot.address, terms.connect).await?;
        let connection = Http2::over(io, terms.header_bytes, pool.meter.opened()).await?;
        pool.cell.connected(slot.address.socket);
        // The others are full: how many more this one takes must be known before a burst comes to it.
        let first = slot.multiplexed.borrow().is_empty();
        connection.settle_unless(first).await;
        let shared = Rc::new(Multiplexed {
            connection,
            streams: Cell::new(0),
            used: Cell::new(Instant::now()),
            answered: Cell::new(false),
            retired: Cell::new(false),
        });
        slot.multiplexed.borrow_mut().push(Rc::clone(&shared));
        Ok(Self::lease(slot, Carrier::Shared(shared), false))
    }

    fn lease(slot: &Rc<Self>, carrier: Carrier, reused: bool) -> Lease {
        slot.outstanding.set(slot.outstanding.get() + 1);
        if let Carrier::Shared(shared) = &carrier {
            shared.streams.set(shared.streams.get() + 1);
        }
        Lease { slot: Rc::clone(slot), carrier, reused }
    }

    /// The connection used last, so that those not needed age and go.
    fn kept(&self, now: Instant) -> Option<http1::Connection> {
        let mut kept = self.kept.borrow_mut();
        while let Some((mut connection, until)) = kept.pop() {
            if now < until && connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// An HTTP/2 connection with room, or the least used one when no more may be opened.
    fn shared(&self) -> Option<Rc<Multiplexed>> {
        let mut shared = self.multiplexed.borrow_mut();
        shared.retain(|shared| shared.streams.get() > 0 || shared.sender().is_some());
        let usable = || shared.iter().filter(|shared| shared.sender().is_some());
        let least = usable().min_by_key(|shared| shared.streams.get())?;
        (least.has_room() || usable().count() >= MULTIPLEXED).then(|| Rc::clone(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::{Counted, WorkerMetrics};
    use crate::snapshot::{Endpoint, HostHeader, UpstreamPolicy, UpstreamTls};
    use crate::types::UpstreamName;

    /// Counts under no name.
    struct Unlabelled(WorkerMetrics);

    impl Meter for Unlabelled {
        fn opened(&self) -> Counted {
            self.0.in_flight()
        }

        fn failed(&self, _: ConnectFault) {}
    }

    #[tokio::test]
    async fn whoever_waits_for_a_connection_that_another_opens_waits_no_longer_than_the_limit() {
        // Accepts in the kernel and never says a word of TLS.
        let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let policy = UpstreamPolicy {
            name: UpstreamName::new("mute"),
            endpoints: vec![Endpoint {
                secure: true,
                host: "127.0.0.1".into(),
                port: mute.local_addr().unwrap().port(),
            }],
            protocol: UpstreamProtocol::H2,
            host: HostHeader::Preserve,
            tls: UpstreamTls::default(),
        };
        let metrics = crate::observe::metrics::Metrics::new().worker();
        let pool = Pool::new(UpstreamCell::new(policy).unwrap(), Unlabelled(metrics));
        let limit = Duration::from_millis(200);
        let begun = Instant::now();
        let terms = Terms { connect: limit, keep: limit, header_bytes: 64 << 10 };
        let lends = (0..20).map(|_| pool.lend(false, begun, terms));
        for lent in futures_util::future::join_all(lends).await {
            assert_eq!(lent.unwrap_err().reason, Reason::UpstreamTimeout);
        }
        assert!(begun.elapsed() < limit * 10, "{:?}", begun.elapsed());
    }
}
