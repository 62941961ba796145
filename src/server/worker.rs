//! One worker: a thread, a single-threaded runtime, its listeners and its connections.

use std::io;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::share::{Share, Shares};
use super::shutdown::{Listening, Phase};
use super::{Abort, Handler, Peer, connection};
use crate::observe::metrics::Cause;

/// How long an accept loop waits after the system refused it a socket, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often an accept loop says that it is refused sockets.
const TELL: Duration = Duration::from_secs(10);

/// How often a draining worker looks whether its last connection is gone.
const EMPTY_CHECK: Duration = Duration::from_millis(20);

/// How many connections each worker and each client has, and how to hand a worker one.
#[derive(Clone, Debug)]
pub struct Crew {
    seats: Arc<[Seat]>,
    shares: Shares,
}

#[derive(Debug)]
struct Seat {
    connections: AtomicUsize,
    hand: mpsc::UnboundedSender<Handed>,
}

/// A connection on its way from the worker that accepted it to the one that serves it.
#[derive(Debug)]
struct Handed {
    socket: StdTcpStream,
    address: SocketAddr,
    listener: usize,
    share: Share,
}

/// What one worker gets of the connections that others accept for it.
#[derive(Debug)]
pub struct Inbox(mpsc::UnboundedReceiver<Handed>);

impl Crew {
    /// A crew of this many workers.
    pub fn new(workers: usize) -> (Self, Vec<Inbox>) {
        let (seats, inboxes): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| {
                let (hand, inbox) = mpsc::unbounded_channel();
                (Seat { connections: AtomicUsize::new(0), hand }, Inbox(inbox))
            })
            .unzip();
        (Self { seats: seats.into(), shares: Shares::default() }, inboxes)
    }

    /// Connections of all workers.
    pub fn connections(&self) -> usize {
        self.seats.iter().map(|seat| seat.connections.load(Ordering::Relaxed)).sum()
    }

    /// The worker that should take the next connection: this one, unless another has fewer.
    fn takes_next(&self, me: usize) -> usize {
        let count = |seat: &Seat| seat.connections.load(Ordering::Relaxed);
        let mine = self.seats.get(me).map_or(0, count);
        match self.seats.iter().enumerate().min_by_key(|(_, seat)| count(seat)) {
            Some((least, seat)) if count(seat) < mine => least,
            Some(_) | None => me,
        }
    }
}

/// A place in the crew, and what the worker needs to fill it.
#[derive(Debug)]
pub struct Worker {
    /// Its number.
    pub number: usize,
    /// The crew it belongs to.
    pub crew: Crew,
    /// Connections that other workers hand it.
    pub inbox: Inbox,
    /// Its listening sockets, by listener position.
    pub listeners: Vec<std::net::TcpListener>,
    /// Most connections of all workers together.
    pub max_connections: usize,
    /// The phase of the process.
    pub shutdown: Listening,
}

impl Worker {
    /// Serves until the process stops, or has drained and nothing runs any more. To be called within a local runtime.
    ///
    /// # Errors
    ///
    /// A listening socket that the runtime refuses.
    pub async fn run<H: Handler>(self, handler: Rc<H>) -> io::Result<()> {
        let Self { number, crew, mut inbox, listeners, max_connections, mut shutdown } = self;
        let desk = Rc::new(Desk { number, crew, max_connections, handler, shutdown: shutdown.clone() });
        let mut accepting = JoinSet::new();
        for (listener, socket) in listeners.into_iter().enumerate() {
            accepting.spawn_local(accept(Rc::clone(&desk), listener, TcpListener::from_std(socket)?));
        }
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.reached(Phase::Drain) => break,
                Some(handed) = inbox.0.recv() => desk.take(handed),
                _ = tick.tick() => desk.handler.tick(),
            }
        }
        // The accept loops empty the kernel's queues before they end, so that no accepted client is reset.
        while accepting.join_next().await.is_some() {}
        // Another worker may have handed over a connection just before it learned of the drain.
        loop {
            tokio::select! {
                biased;
                () = shutdown.reached(Phase::Stop) => break,
                Some(handed) = inbox.0.recv() => desk.take(handed),
                () = desk.emptied() => break,
            }
        }
        Ok(())
    }
}

/// What the accept loops and connections of one worker share.
struct Desk<H> {
    number: usize,
    crew: Crew,
    max_connections: usize,
    handler: Rc<H>,
    shutdown: Listening,
}

impl<H: Handler> Desk<H> {
    fn connections(&self) -> usize {
        self.crew.seats.get(self.number).map_or(0, |seat| seat.connections.load(Ordering::Relaxed))
    }

    /// Waits until the last connection is gone.
    async fn emptied(&self) {
        let mut look = tokio::time::interval(EMPTY_CHECK);
        while self.connections() > 0 {
            look.tick().await;
        }
    }

    /// Serves a connection that another worker accepted; it was counted there.
    fn take(self: &Rc<Self>, handed: Handed) {
        match TcpStream::from_std(handed.socket) {
            Ok(socket) => self.serve(socket, handed.address, handed.listener, handed.share),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken over");
                self.leave(self.number);
            }
        }
    }

    /// Gives an accepted connection to the worker that has fewest.
    fn place(self: &Rc<Self>, socket: TcpStream, address: SocketAddr, listener: usize) {
        if self.crew.connections() >= self.max_connections {
            return self.turn_away(address, listener, Cause::ConnectionLimit);
        }
        let Some(share) = self.crew.shares.take(address.ip(), self.handler.share(address.ip())) else {
            return self.turn_away(address, listener, Cause::ClientLimit);
        };
        // A worker that drains may be gone before it looks into its inbox.
        let draining = self.shutdown.phase() >= Phase::Drain;
        let target = if draining { self.number } else { self.crew.takes_next(self.number) };
        self.enter(target);
        match self.crew.seats.get(target) {
            Some(seat) if target != self.number => {
                let handed = socket
                    .into_std()
                    .map(|socket| seat.hand.send(Handed { socket, address, listener, share }));
                if !matches!(handed, Ok(Ok(()))) {
                    self.leave(target);
                }
            }
            Some(_) | None => self.serve(socket, address, listener, share),
        }
    }

    fn turn_away(&self, address: SocketAddr, listener: usize, cause: Cause) {
        self.handler.aborted(&Peer::new(address, listener), Abort::TooMany);
        self.handler.closed(cause);
    }

    fn serve(self: &Rc<Self>, socket: TcpStream, address: SocketAddr, listener: usize, share: Share) {
        let desk = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let _open = desk.handler.opened(listener);
            let _left = Leaving(&desk);
            let _share = share;
            let handler = Rc::clone(&desk.handler);
            let (shares, shutdown) = (&desk.crew.shares, desk.shutdown.clone());
            let cause = connection::serve(handler, shares, socket, address, listener, shutdown).await;
            desk.handler.closed(cause);
        });
    }

    fn enter(&self, seat: usize) {
        if let Some(seat) = self.crew.seats.get(seat) {
            seat.connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn leave(&self, seat: usize) {
        if let Some(seat) = self.crew.seats.get(seat) {
            seat.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Counts a connection out, however it ends.
struct Leaving<'a, H: Handler>(&'a Desk<H>);

impl<H: Handler> Drop for Leaving<'_, H> {
    fn drop(&mut self) {
        self.0.leave(self.0.number);
    }
}

async fn accept<H: Handler>(desk: Rc<Desk<H>>, listener: usize, socket: TcpListener) {
    let mut shutdown = desk.shutdown.clone();
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.reached(Phase::Drain) => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => desk.place(stream, address, listener),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                desk.handler.not_accepted();
                if told.is_none_or(|told| told.elapsed() >= TELL) {
                    told = Some(Instant::now());
                    tracing::warn!(%error, "no more connections can be accepted for now");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if let Err(error) = empty(&desk, listener, socket) {
        tracing::warn!(%error, "connections that waited to be accepted were lost");
    }
}

/// Accepts whoever is in the kernel's queue by now: accepted in the client's eyes. The system is asked itself, since the
/// runtime may not have heard of the last ones, and lets a task accept only so many at a time.
fn empty<H: Handler>(desk: &Rc<Desk<H>>, listener: usize, socket: TcpListener) -> io::Result<()> {
    let socket = socket.into_std()?;
    loop {
        match socket.accept() {
            Ok((stream, address)) => {
                stream.set_nonblocking(true)?;
                desk.place(TcpStream::from_std(stream)?, address, listener);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// An error of the connection that was being accepted, not of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
