//! The connections of one worker to one upstream.
//!
//! 1. A request goes to the address with the fewest requests of this worker under way; ties go round.
//! 2. An address that refused a connection is passed over for a second, unless there is no other.
//! 3. An HTTP/1 connection carries one request at a time and is kept for the next only after its response was read to the
//!    end; whatever else happens closes it.
//! 4. An HTTP/2 connection that let a request down gets no new ones; those it carries may end on it.
//! 5. A kept connection is closed after `KEEP`, which is less than upstreams commonly wait.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connect::{Connection, Sender, connect};
use crate::reject::{Reason, Reject};
use crate::state::upstream::{Address, UpstreamCell};

/// How long an unused connection is kept: below the smallest keep-alive that common servers use (5 s).
const KEEP: Duration = Duration::from_secs(4);
/// Most unused connections to one address.
const KEPT: usize = 512;
/// How long an address that refused is passed over.
const PASSED_OVER: Duration = Duration::from_secs(1);
/// Streams on one HTTP/2 connection before another is opened.
const STREAMS: usize = 100;
/// Most HTTP/2 connections to one address.
const MULTIPLEXED: usize = 8;

/// The connections of one worker to one upstream.
#[derive(Debug)]
pub struct Pool {
    /// What is known of the upstream.
    pub cell: Arc<UpstreamCell>,
    seen: RefCell<Arc<Vec<Address>>>,
    slots: RefCell<Vec<Rc<Slot>>>,
    turn: Cell<usize>,
}

/// The connections to one address.
#[derive(Debug)]
struct Slot {
    address: Address,
    outstanding: Cell<usize>,
    refused: Cell<Option<Instant>>,
    kept: RefCell<Vec<(Connection, Instant)>>,
    multiplexed: RefCell<Vec<Rc<Multiplexed>>>,
    /// One HTTP/2 connection is opened at a time: the first burst shares it.
    opening: tokio::sync::Mutex<()>,
}

/// An HTTP/2 connection and how many requests it carries.
#[derive(Debug)]
struct Multiplexed {
    connection: Connection,
    streams: Cell<usize>,
    used: Cell<Instant>,
    /// Whether a request was let down by it.
    retired: Cell<bool>,
}

impl Multiplexed {
    fn sender(&self) -> Option<hyper::client::conn::http2::SendRequest<super::body::ClientBody>> {
        match &self.connection.sender {
            Sender::Http2(sender) if !sender.is_closed() && !self.retired.get() => Some(sender.clone()),
            Sender::Http2(_) | Sender::Http1(_) => None,
        }
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

#[derive(Debug)]
enum Carrier {
    /// An HTTP/1 connection; taken out when it is given back.
    Exclusive(Option<Connection>),
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
    /// Ends the loan. The connection is kept if it is clean: the response was read to its end, the request sent to its.
    pub(super) fn finish(mut self, clean: bool) {
        if let Carrier::Exclusive(connection) = &mut self.carrier
            && let Some(connection) = connection.take()
            && clean
        {
            let mut kept = self.slot.kept.borrow_mut();
            if kept.len() < KEPT {
                kept.push((connection, Instant::now()));
            }
        }
    }

    /// Sends a request on the connection.
    pub(super) async fn send(
        &mut self,
        request: http::Request<super::body::ClientBody>,
    ) -> Result<http::Response<hyper::body::Incoming>, SendError> {
        let sent = match &mut self.carrier {
            Carrier::Exclusive(Some(Connection { sender: Sender::Http1(sender), .. })) => {
                if !sender.is_ready() && sender.ready().await.is_err() {
                    return Err(SendError::Unsent(Box::new(request), None));
                }
                sender.try_send_request(request).await
            }
            Carrier::Exclusive(_) => return Err(SendError::Unsent(Box::new(request), None)),
            Carrier::Shared(shared) => match shared.sender() {
                Some(mut sender) => {
                    if sender.ready().await.is_err() {
                        return Err(SendError::Unsent(Box::new(request), None));
                    }
                    sender.try_send_request(request).await
                }
                None => return Err(SendError::Unsent(Box::new(request), None)),
            },
        };
        sent.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::Unsent(Box::new(request), Some(error.into_error())),
            None => SendError::Sent(error.into_error()),
        })
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

/// Why a request got no response.
#[derive(Debug)]
pub(super) enum SendError {
    /// Nothing of it was sent: the request is given back.
    Unsent(Box<http::Request<super::body::ClientBody>>, Option<hyper::Error>),
    /// Some of it may have been sent.
    Sent(hyper::Error),
}

impl Pool {
    /// An empty pool.
    pub fn new(cell: Arc<UpstreamCell>) -> Self {
        Self {
            seen: RefCell::new(Arc::new(Vec::new())),
            slots: RefCell::new(Vec::new()),
            turn: Cell::new(0),
            cell,
        }
    }

    /// Lends a connection: a kept one, or a new one. With `fresh`, always a new one.
    ///
    /// # Errors
    ///
    /// `upstream_unreachable` or `upstream_timeout` of the last address that was tried.
    pub(super) async fn lend(&self, fresh: bool, limit: Duration) -> Result<Lease, Reject> {
        self.follow();
        let mut last = Reject::because(Reason::UpstreamUnreachable, "the upstream has no address");
        let mut tried = Vec::new();
        while let Some(slot) = self.choose(&tried) {
            match Slot::lend(&slot, &self.cell, fresh, limit).await {
                Ok(lease) => {
                    slot.refused.set(None);
                    return Ok(lease);
                }
                Err(reject) => {
                    slot.refused.set(Some(Instant::now()));
                    last = reject;
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
            slot.kept.borrow_mut().retain(|(connection, since)| {
                let closed = match &connection.sender {
                    Sender::Http1(sender) => sender.is_closed(),
                    Sender::Http2(sender) => sender.is_closed(),
                };
                !closed && now.duration_since(*since) < KEEP
            });
            slot.multiplexed.borrow_mut().retain(|shared| {
                shared.streams.get() > 0
                    || (shared.sender().is_some() && now.duration_since(shared.used.get()) < KEEP)
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
    fn choose(&self, tried: &[Rc<Slot>]) -> Option<Rc<Slot>> {
        let slots = self.slots.borrow();
        if let [only] = slots.as_slice() {
            return tried.is_empty().then(|| Rc::clone(only));
        }
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let count = slots.len();
        let now = Instant::now();
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
        cell: &UpstreamCell,
        fresh: bool,
        limit: Duration,
    ) -> Result<Lease, Reject> {
        if cell.policy.protocol == crate::snapshot::UpstreamProtocol::Http1 {
            let kept = if fresh { None } else { slot.kept() };
            let reused = kept.is_some();
            let connection = match kept {
                Some(connection) => connection,
                None => connect(cell, &slot.address, limit).await?,
            };
            return Ok(Self::lease(slot, Carrier::Exclusive(Some(connection)), reused));
        }
        if let Some(shared) = slot.shared().filter(|_| !fresh) {
            return Ok(Self::lease(slot, Carrier::Shared(shared), true));
        }
        // One limit for all of it: whoever waits here while others fail one after the other is not served by the next.
        match tokio::time::timeout(limit, Self::open(slot, cell, limit)).await {
            Ok(lease) => lease,
            Err(_) => Err(Reject::because(
                Reason::UpstreamTimeout,
                format!("{}: no connection within {limit:?}", slot.address.socket),
            )),
        }
    }

    /// A new HTTP/2 connection, or the one that somebody else has opened meanwhile.
    async fn open(slot: &Rc<Self>, cell: &UpstreamCell, limit: Duration) -> Result<Lease, Reject> {
        let _one_at_a_time = slot.opening.lock().await;
        if let Some(shared) = slot.shared() {
            return Ok(Self::lease(slot, Carrier::Shared(shared), true));
        }
        let shared = Rc::new(Multiplexed {
            connection: connect(cell, &slot.address, limit).await?,
            streams: Cell::new(0),
            used: Cell::new(Instant::now()),
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
    fn kept(&self) -> Option<Connection> {
        let now = Instant::now();
        let mut kept = self.kept.borrow_mut();
        while let Some((connection, since)) = kept.pop() {
            let open = match &connection.sender {
                Sender::Http1(sender) => !sender.is_closed(),
                Sender::Http2(_) => false,
            };
            if open && now.duration_since(since) < KEEP {
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
        (least.streams.get() < STREAMS || usable().count() >= MULTIPLEXED).then(|| Rc::clone(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Endpoint, HostHeader, UpstreamPolicy, UpstreamProtocol, UpstreamTls};
    use crate::types::UpstreamName;

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
        let pool = Pool::new(UpstreamCell::new(policy).unwrap());
        let limit = Duration::from_millis(200);
        let begun = Instant::now();
        let lends = (0..20).map(|_| pool.lend(false, limit));
        for lent in futures_util::future::join_all(lends).await {
            assert_eq!(lent.unwrap_err().reason, Reason::UpstreamTimeout);
        }
        assert!(begun.elapsed() < limit * 10, "{:?}", begun.elapsed());
    }
}
