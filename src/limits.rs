//! What one client, one request and the whole process may take: sizes, counts, rates and times.
//!
//! 1. Everything has a default that suits a gateway on the internet ([`Limits::DEFAULT`], [`Timeouts::DEFAULT`]), and
//!    everything is a key of routes.yaml.
//! 2. A limit is enforced where what it limits passes by: heads in `admit`, bodies in `forward::body`, connections in
//!    `server`, requests under way in `state::admission`.
//! 3. A limit that ends a connection is a cause of `scopegate_connections_closed_total`; one that refuses a request is a
//!    reason of `scopegate_decisions_total`.

use std::time::Duration;

/// Limits in bytes or counts. A route may override `body` and `body_rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest header section of a request.
    pub header_bytes: usize,
    /// Most header fields of a request.
    pub headers: usize,
    /// Longest request target.
    pub uri: usize,
    /// Largest request body.
    pub body: u64,
    /// Least bytes a second of a request body, on average, while the gateway waits for it; 0 is none.
    pub body_rate: u64,
    /// Least bytes a second of an answer that a client must take, on average, while more is ready; 0 is none.
    pub response_rate: u64,
    /// Longest token.
    pub token: usize,
    /// Most bytes of bodies that are held for one HTTP/1 connection, each way.
    pub buffer: usize,
    /// Most concurrent streams of one HTTP/2 connection.
    pub streams: u32,
    /// Most frames that are neither requests nor data that an HTTP/2 client may send at once, beside those that answers bring
    /// along; half as many come back in a second. RST_STREAM counts as five.
    pub control_frames: u32,
    /// Most client connections; `None` is derived from the limit of open files. Lives as long as the process.
    pub connections: Option<usize>,
    /// Most connections of one client: an IPv4 address, or an IPv6 network of 64 bits; also of one that a PROXY header names.
    pub connections_per_client: usize,
    /// Most requests on one connection.
    pub connection_requests: u32,
    /// Most requests at a time; `None` is 10,000, or what the limit of open files has room for. Lives as long as the
    /// process.
    pub requests_in_flight: Option<usize>,
    /// Longest header section of an upstream's answer.
    pub upstream_header_bytes: usize,
    /// Most header fields of an upstream's answer.
    pub upstream_headers: usize,
}

impl Limits {
    /// What holds unless routes.yaml says otherwise.
    pub const DEFAULT: Self = Self {
        header_bytes: 32 << 10,
        headers: 100,
        uri: 8 << 10,
        body: 10 << 20,
        body_rate: 500,
        response_rate: 500,
        token: 16 << 10,
        buffer: 256 << 10,
        streams: 100,
        control_frames: 1000,
        connections: None,
        connections_per_client: 512,
        connection_requests: 10_000,
        requests_in_flight: None,
        upstream_header_bytes: 64 << 10,
        upstream_headers: 256,
    };
}

/// Timeouts. A route may override those of bodies, `stream_idle` and `upstream_response`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a request to the end of its header section.
    pub header: Duration,
    /// Longest pause within a request body.
    pub body_idle: Duration,
    /// From the head of a request to the end of its body.
    pub body_total: Duration,
    /// Once the answer has begun, the longest silence both ways while the request body has not ended.
    pub stream_idle: Duration,
    /// How long a client may take nothing of an answer, or too little.
    pub response_stall: Duration,
    /// Name look-up aside, from the first packet to an upstream to a usable connection, TLS included.
    pub upstream_connect: Duration,
    /// From the last byte of a request to the header section of the upstream's answer.
    pub upstream_response: Duration,
    /// Longest pause within the body of an upstream's answer.
    pub upstream_idle: Duration,
    /// A connection to an upstream without a request is closed after this.
    pub upstream_keep_alive: Duration,
    /// A client connection without a request is closed after this.
    pub idle: Duration,
    /// A client connection takes no more requests after this.
    pub connection_age: Duration,
    /// From the signal to end to the drain: served, but not ready.
    pub drain_notice: Duration,
    /// Running requests may take this long to end on shutdown.
    pub drain: Duration,
}

impl Timeouts {
    /// What holds unless routes.yaml says otherwise.
    pub const DEFAULT: Self = Self {
        handshake: Duration::from_secs(10),
        header: Duration::from_secs(10),
        body_idle: Duration::from_secs(15),
        body_total: Duration::from_secs(300),
        stream_idle: Duration::from_secs(300),
        response_stall: Duration::from_secs(30),
        upstream_connect: Duration::from_secs(2),
        upstream_response: Duration::from_secs(15),
        upstream_idle: Duration::from_secs(30),
        // Below the smallest keep-alive that common servers use (5 s).
        upstream_keep_alive: Duration::from_secs(4),
        idle: Duration::from_secs(60),
        connection_age: Duration::from_secs(3600),
        drain_notice: Duration::ZERO,
        drain: Duration::from_secs(30),
    };
}

/// How much a request body of a route may be, and how slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// [`Limits::body`].
    pub bytes: u64,
    /// [`Limits::body_rate`].
    pub rate: u64,
    /// [`Timeouts::body_idle`].
    pub idle: Duration,
    /// [`Timeouts::body_total`].
    pub total: Duration,
    /// [`Timeouts::stream_idle`].
    pub stream_idle: Duration,
}
