//! When a connection was last of use: one timer a connection, touched by no request that keeps to its time.
//!
//! hyper's own header timer also ends idle keep-alive connections, so the two limits need one place that knows which of
//! them applies. The connection's I/O and its requests write the state here, the connection's future reads it after each
//! poll. Everything runs on one thread; the atomics are relaxed and only make the type `Send`, as upgrades ask.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::http2::Breach;
use super::reader::Reader;
use super::request_line::Found;
use crate::observe::metrics::StreamError;
use crate::types::{BodySignal, RawQuery};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// For a request's header section to be complete, since then.
    Header(Instant),
    /// For a next request, since then.
    Next(Instant),
    /// For its own running requests: no limit here.
    Requests,
    /// For the client to take bytes of an answer, since then; earlier waits that still count put it forward.
    Reader(Instant),
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    running: AtomicU32,
    /// Milliseconds after `opened`, shifted by one; the lowest bit says that a header section has begun.
    since: AtomicU64,
    reader: Reader,
    /// Requests so far.
    requests: AtomicU32,
    /// Whether the last request had a body, of which the client may still send.
    body: BodySignal,
    /// The raw octets in the query of the request that is about to begin, if it has any.
    raw_query: Mutex<Option<RawQuery>>,
    has_raw_query: AtomicBool,
    /// Whether the target of a request had a fragment.
    fragment: AtomicBool,
    /// Whether frames of the client ended it, and whether they were a flood.
    broke: AtomicBool,
    flooded: AtomicBool,
    /// Streams that were reset and are not counted yet, at the places of their error codes; and whether there are any.
    resets: [AtomicU32; StreamError::COUNT],
    has_resets: AtomicBool,
    /// HTTP/2 frames other than requests keep nothing waiting for a header section.
    multiplexed: bool,
}

impl Activity {
    /// A connection that owes its first request. `least` are the bytes that a client must take in the time that it may be
    /// waited for.
    pub(super) fn new(multiplexed: bool, least: u64) -> Self {
        Self {
            opened: Instant::now(),
            running: AtomicU32::new(0),
            since: AtomicU64::new(u64::from(!multiplexed)),
            reader: Reader::new(least),
            requests: AtomicU32::new(0),
            body: BodySignal::default(),
            raw_query: Mutex::new(None),
            has_raw_query: AtomicBool::new(false),
            fragment: AtomicBool::new(false),
            broke: AtomicBool::new(false),
            flooded: AtomicBool::new(false),
            resets: Default::default(),
            has_resets: AtomicBool::new(false),
            multiplexed,
        }
    }

    /// When the connection was opened.
    pub(super) const fn opened(&self) -> Instant {
        self.opened
    }

    /// How many requests it has brought.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes arrived.
    pub(super) fn received(&self) {
        let since = self.since.load(Ordering::Relaxed);
        if !self.multiplexed && since & 1 == 0 && self.running.load(Ordering::Relaxed) == 0 {
            self.since.store((self.now() << 1) | 1, Ordering::Relaxed);
        }
    }

    /// The client's side takes no more bytes at the moment.
    pub(super) fn blocked(&self) {
        self.reader.blocked(|| self.now());
    }

    /// The client's side took this many bytes.
    pub(super) fn wrote(&self, count: usize) {
        let waited = self.reader.took(count, || self.now());
        // The rest of an answer that goes out slowly is no idle time.
        if waited && self.running.load(Ordering::Relaxed) == 0 && self.since.load(Ordering::Relaxed) & 1 == 0
        {
            self.since.store(self.now() << 1, Ordering::Relaxed);
        }
    }

    /// Whether it speaks HTTP/2.
    pub(super) const fn is_multiplexed(&self) -> bool {
        self.multiplexed
    }

    /// The client sent frames that end the connection.
    pub(super) fn broke(&self, breach: Breach) {
        self.flooded.store(breach == Breach::Flood, Ordering::Relaxed);
        self.broke.store(true, Ordering::Relaxed);
    }

    /// Why frames of the client ended the connection.
    pub(super) fn breach(&self) -> Option<Breach> {
        let breach = if self.flooded.load(Ordering::Relaxed) { Breach::Flood } else { Breach::Malformed };
        self.broke.load(Ordering::Relaxed).then_some(breach)
    }

    /// A stream was reset with this error code.
    pub(super) fn reset(&self, code: u8) {
        if let Some(count) = self.resets.get(usize::from(code)) {
            count.fetch_add(1, Ordering::Relaxed);
            self.has_resets.store(true, Ordering::Relaxed);
        }
    }

    /// Counts each stream that was reset since the last time.
    pub(super) fn count_resets(&self, mut count: impl FnMut(StreamError)) {
        if !self.has_resets.load(Ordering::Relaxed) {
            return;
        }
        self.has_resets.store(false, Ordering::Relaxed);
        for (error, times) in StreamError::all().zip(&self.resets) {
            (0..times.swap(0, Ordering::Relaxed)).for_each(|_| count(error));
        }
    }

    /// Whether the client may still be sending the body of its last request, or the rest of a header section.
    pub(super) fn may_be_sending(&self) -> bool {
        let within_header = self.since.load(Ordering::Relaxed) & 1 == 1;
        !self.multiplexed && (within_header || self.body.is_open())
    }

    /// A request begins; it ends when the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, with_body: bool) -> Running {
        self.body.begin(with_body);
        self.requests.store(self.requests().saturating_add(1), Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    /// Whether what arrives next on HTTP/1 belongs to the head of a request: none runs, and no body is outstanding.
    pub(super) fn awaits_head(&self) -> bool {
        !self.multiplexed && self.running.load(Ordering::Relaxed) == 0 && !self.body.is_open()
    }

    /// Told when the body of the current request has been read.
    pub(super) fn body_signal(&self) -> BodySignal {
        self.body.clone()
    }

    /// Notes what the request line of the next request holds.
    pub(super) fn found(&self, found: Found) {
        match found {
            Found::Fragment => self.fragment.store(true, Ordering::Relaxed),
            Found::RawQuery(query) => {
                if let Ok(mut raw_query) = self.raw_query.lock() {
                    *raw_query = Some(query);
                    self.has_raw_query.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// The raw octets in the query of the request that begins.
    pub(super) fn take_raw_query(&self) -> Option<RawQuery> {
        if !self.has_raw_query.load(Ordering::Relaxed) {
            return None;
        }
        self.has_raw_query.store(false, Ordering::Relaxed);
        self.raw_query.lock().ok()?.take()
    }

    /// Whether the target of a request had a fragment.
    pub(super) fn had_fragment(&self) -> bool {
        self.fragment.load(Ordering::Relaxed)
    }

    /// What the connection waits for. Bytes that are ready for the client come first: it may have no running request, and
    /// still not have taken the rest of an answer.
    pub(super) fn waiting(&self) -> Waiting {
        let time = |milliseconds| self.opened + Duration::from_millis(milliseconds);
        if let Some(blocked) = self.reader.since() {
            return Waiting::Reader(time(blocked));
        }
        if self.running.load(Ordering::Relaxed) > 0 {
            return Waiting::Requests;
        }
        let since = self.since.load(Ordering::Relaxed);
        let at = time(since >> 1);
        if since & 1 == 1 { Waiting::Header(at) } else { Waiting::Next(at) }
    }

    /// Milliseconds after `opened`.
    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX >> 1)
    }
}

/// A running request.
#[derive(Debug)]
pub(super) struct Running(Arc<Activity>);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.since.store(self.0.now() << 1, Ordering::Relaxed);
        }
    }
}

/// A response body that keeps its request running until it is sent or given up.
#[derive(Debug)]
pub struct Tracked<B> {
    body: B,
    _running: Running,
}

impl<B> Tracked<B> {
    pub(super) const fn new(body: B, running: Running) -> Self {
        Self { body, _running: running }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
