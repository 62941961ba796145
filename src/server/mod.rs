//! Connections: from a listening socket to HTTP requests, and back. Knows nothing of policy.
//!
//! 1. Each worker is one thread with one single-threaded runtime, its own `SO_REUSEPORT` listeners ([`listener`]) and its
//!    own connections; a request never leaves its worker ([`worker`]).
//! 2. A new connection goes to the worker with the fewest, if the counts differ by more than one.
//! 3. TLS is agreed on within the header timeout, off the accept loop (`open`).
//! 4. HTTP/2 is chosen by ALPN, or in plain text by its connection preface (`stream`).
//! 5. The header section must arrive within one timeout, a connection without requests ends after another, and so does one
//!    whose client takes nothing of an answer, or too little (`activity`, `reader`); a stream of HTTP/2 likewise (`answers`).
//! 6. A client has a share of all connections (`share`), a connection an age and a number of requests.
//! 7. Where a listener is behind a load balancer, a connection may begin with whose it is (`proxy_protocol`).
//! 8. An HTTP/2 connection ends whose client sends much beside requests: pings, resets, window updates (`frames`), or far
//!    too many fields (`fields`), or whose trailers hold pseudo-fields.
//! 9. On notice of a drain, an answer over HTTP/1 ends its connection and HTTP/2 gets GOAWAY, but everybody is served. On
//!    drain, idle connections close, HTTP/2 gets GOAWAY, running requests end ([`shutdown`]).

mod activity;
mod ahead;
mod answers;
mod connection;
mod counted;
mod http2;
pub mod listener;
mod open;
mod proxy_protocol;
mod reader;
mod request_line;
mod share;
pub mod shutdown;
mod stream;
pub mod worker;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;

pub use activity::Tracked;
pub use http2::{Breach, Frames};
pub use proxy_protocol::Introduction;

use crate::limits::{Limits, Timeouts};
use crate::observe::metrics::{Cause, StreamError};

/// What a connection may take, read when it is accepted.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// From the first byte of a request to the end of its header section.
    pub header_timeout: Duration,
    /// How long a connection without requests lives.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of an answer, or too little.
    pub response_stall: Duration,
    /// Fewest bytes a second of an answer that a client must take while more is ready.
    pub response_rate: u64,
    /// How long a connection takes requests.
    pub age: Duration,
    /// Most requests on a connection.
    pub requests: u32,
    /// Most concurrent streams of HTTP/2.
    pub streams: u32,
    /// Most frames beside requests at once on HTTP/2.
    pub control_frames: u32,
    /// Most bytes of bodies that are held for one HTTP/1 connection each way, and so read or sent at once.
    pub buffer: usize,
    /// Longest header section.
    pub header_bytes: usize,
    /// Most header fields.
    pub headers: usize,
}

impl ConnectionLimits {
    /// What of all limits is for a connection.
    pub const fn of(limits: &Limits, timeouts: &Timeouts) -> Self {
        Self {
            handshake_timeout: timeouts.handshake,
            header_timeout: timeouts.header,
            idle_timeout: timeouts.idle,
            response_stall: timeouts.response_stall,
            response_rate: limits.response_rate,
            age: timeouts.connection_age,
            requests: limits.connection_requests,
            streams: limits.streams,
            control_frames: limits.control_frames,
            buffer: limits.buffer,
            header_bytes: limits.header_bytes,
            headers: limits.headers,
        }
    }
}

/// One client connection.
#[derive(Debug)]
pub struct Peer {
    /// The other end of the socket, or the client that a PROXY header names.
    pub address: SocketAddr,
    /// Its IP address as text; one of IPv4 in that form, however it came.
    pub address_text: Box<str>,
    /// Position of the listener it came in through.
    pub listener: usize,
    /// Whether a PROXY header said that its client is not known: then `address` is the proxy's, but the proxy does not speak
    /// for what came through it.
    pub unknown: bool,
    /// What TLS says of it; `None` on plain HTTP.
    pub tls: Option<TlsPeer>,
}

impl Peer {
    /// A connection in plain text, until TLS says otherwise.
    fn new(address: SocketAddr, listener: usize) -> Self {
        Self { address, address_text: text_of(address), listener, unknown: false, tls: None }
    }

    /// Takes over what a PROXY header says.
    fn introduced(&mut self, client: Option<SocketAddr>) {
        match client {
            Some(client) => (self.address, self.address_text) = (client, text_of(client)),
            None => self.unknown = true,
        }
    }
}

fn text_of(address: SocketAddr) -> Box<str> {
    address.ip().to_canonical().to_string().into()
}

/// Whether a connection begins with a PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// Never on this listener: there it is a malformed request.
    Absent,
    /// Always; without one the connection is closed.
    Required,
    /// Nothing this peer says would be believed: the connection is closed.
    Refused,
}

/// What TLS says of a client connection.
#[derive(Debug)]
pub struct TlsPeer {
    /// The server name the client asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// Whether the client proved a certificate of the configured authorities.
    pub client_verified: bool,
}

/// Why a connection ended without a request that a handler saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// The bytes were no HTTP request; the client got a bare 400 where it could.
    Malformed,
    /// The request target had a fragment; the client got a bare 400.
    Fragment,
    /// The head was larger than allowed; the client got a bare 414 or 431.
    TooLarge,
    /// The header section did not arrive in time.
    HeaderTimeout,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// More HTTP/2 frames beside requests than allowed, more stream errors, or far too many fields; the client got GOAWAY.
    Flood,
    /// More connections than allowed.
    TooMany,
}

/// What a worker does with its connections. One per worker; lives on its thread.
pub trait Handler: 'static {
    /// The body of its answers.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Unpin
        + 'static;

    /// Answers one request. Never fails: whatever goes wrong is an answer.
    fn handle(
        self: Rc<Self>,
        peer: Rc<Peer>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;

    /// The limits for a new connection.
    fn limits(&self) -> ConnectionLimits;

    /// The TLS settings of a listener at this moment; `None` for plain HTTP.
    fn tls(&self, listener: usize) -> Option<Arc<rustls::ServerConfig>>;

    /// Whether a connection of this peer begins with a PROXY protocol header.
    fn proxy_header(&self, listener: usize, peer: IpAddr) -> ProxyHeader;

    /// What keeps a connection counted.
    type Open: 'static;

    /// A connection was opened; it is closed when the result is dropped.
    fn opened(&self, listener: usize) -> Option<Self::Open>;

    /// Most connections of this client; `None` for a proxy that speaks for many.
    fn share(&self, client: IpAddr) -> Option<usize>;

    /// A connection ended before a request could be handled.
    fn aborted(&self, peer: &Peer, abort: Abort);

    /// A connection was closed. Called once for each, served or not.
    fn closed(&self, cause: Cause);

    /// A stream of a connection was reset, by HTTP/2 or by its handler.
    fn reset(&self, error: StreamError);

    /// A stream of a connection was reset: its client took too little of the answer.
    fn stalled(&self);

    /// The system refused to hand over a connection, such as for want of file descriptors.
    fn not_accepted(&self);

    /// Called about once a second on the worker: drop what has aged.
    fn tick(&self);
}
