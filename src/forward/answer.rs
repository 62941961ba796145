//! The body of an upstream's answer on its way to the client: frame by frame, nothing gathered.
//!
//! 1. It holds the upstream's connection until it is read to its end; dropped before that, it closes the connection, so
//!    that no remainder can reach another client.
//! 2. An upstream that pauses for longer than the route allows breaks it off; a client that reads late does not. Where both
//!    sides may still talk, or the answer is a stream of events or calls, silence may last longer (`stream_idle`).
//! 3. A stream ends when the caller's token expires (`expiry`), whether the upstream pauses or not.
//! 4. What breaks off never looks like an end, and what came before the break, the head at least, reaches the client first.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::deadline::{after, ring};
use super::expiry::Expiry;
use super::http1::Rest;
use super::http1::framing::{Framing, Piece};
use super::pool::Lease;
use super::streaming::{Broken, Progress};
use crate::snapshot::Route;

/// Whether a response is a stream, which may be silent for long and outlive the token it was permitted with.
pub(super) fn is_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value.starts_with(b"text/event-stream") || value.starts_with(b"application/grpc")
    })
}

/// In how many turns what was handed on has been written: the client's connection lets other tasks go first for one.
const FLUSHED: u8 = 2;

/// The body of an answer.
#[derive(Debug)]
pub struct UpstreamBody {
    source: Source,
    request: Rc<Progress>,
    bytes: u64,
    broken: Option<Broken>,
    /// Longest pause of the upstream.
    pause: Duration,
    /// Longest silence of both sides, where a request or an answer is a stream.
    stream_pause: Duration,
    /// When the silence at the moment is too long, and how much of the request had come when it began.
    silent: Option<(Instant, u64)>,
    /// When the caller's token expires, for streams that may outlive it.
    expires: Option<Expiry>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Where a response body comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// Nothing comes any more.
    Ended,
    /// It broke off, and the client is told in so many turns, when what came before has left.
    BrokenOff(u8),
    /// From an HTTP/1 connection.
    Http1(Http1Source),
    /// From a stream of an HTTP/2 connection.
    Http2(Incoming, Lease),
}

/// What is read of an HTTP/1 connection.
#[derive(Debug)]
pub(super) struct Http1Source {
    pub(super) lease: Lease,
    pub(super) framing: Framing,
    /// Whether the connection may carry another request.
    pub(super) reusable: bool,
    /// How many seconds the upstream keeps it, if it says so.
    pub(super) keeps: Option<u32>,
    /// What is left of the request.
    pub(super) rest: Rest,
    /// Most bytes that are read at once.
    pub(super) most: usize,
}

impl Http1Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        match self.lease.http1() {
            Some(connection) => connection.poll_body(cx, &mut self.framing, &mut self.rest, self.most),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        self.lease.http1().map_or(Poll::Pending, |connection| connection.poll_alarm(cx, at))
    }

    /// With a request half sent, the connection is of no use to the next one.
    fn release(self) {
        self.lease.finish(self.reusable && matches!(self.rest, Rest::Nothing), self.keeps);
    }
}

impl UpstreamBody {
    pub(super) fn new(source: Source, route: &Route, request: &Rc<Progress>) -> Self {
        request.answer_moved();
        let mut this = Self {
            source,
            request: Rc::clone(request),
            bytes: 0,
            broken: None,
            pause: route.upstream_idle,
            stream_pause: route.body.stream_idle,
            silent: None,
            expires: None,
            timer: None,
        };
        this.release_if_ended();
        this
    }

    /// Takes it for a stream, which ends at this time, if it is given.
    pub(super) const fn stream_until(&mut self, expires: Option<Expiry>) {
        self.pause = self.stream_pause;
        self.expires = expires;
    }

    /// Bytes passed on so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the request's body.
    pub fn request_bytes(&self) -> u64 {
        self.request.bytes()
    }

    /// Why it broke off, if it did.
    pub const fn broken(&self) -> Option<Broken> {
        self.broken
    }

    fn release_if_ended(&mut self) {
        if self.is_end_stream() {
            match std::mem::replace(&mut self.source, Source::Ended) {
                Source::Ended | Source::BrokenOff(_) => {}
                Source::Http1(source) => source.release(),
                Source::Http2(_, lease) => lease.finish(true, None),
            }
        }
    }

    /// Waits for the end of the upstream's patience, or of the token.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        loop {
            let talks = !self.request.ended();
            let pause = if talks { self.stream_pause } else { self.pause };
            let sent = self.request.bytes();
            let (silent, before) = *self.silent.get_or_insert_with(|| (after(pause), sent));
            let look = self.expires.map(|expiry| expiry.look());
            std::task::ready!(self.poll_alarm(cx, look.map_or(silent, |look| look.min(silent))));
            if self.has_expired() {
                return Poll::Ready(Broken::Expired);
            }
            if Instant::now() < silent {
                continue;
            }
            if !(talks && sent > before) {
                return Poll::Ready(Broken::Silent);
            }
            // The upstream is silent because it is being told something.
            self.silent = None;
        }
    }

    fn has_expired(&mut self) -> bool {
        self.expires.as_mut().is_some_and(Expiry::has_come)
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        match &mut self.source {
            // Its connection has an alarm that is set already.
            Source::Http1(source) => source.poll_alarm(cx, at),
            Source::Ended | Source::BrokenOff(_) | Source::Http2(..) => {
                let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                ring(timer.as_mut(), cx, at)
            }
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        let gone = |error: &dyn std::fmt::Display| {
            tracing::debug!(%error, "the upstream's body broke off");
            Some(Err(()))
        };
        match &mut self.source {
            Source::Ended => Poll::Ready(None),
            Source::BrokenOff(_) => Poll::Ready(Some(Err(()))),
            Source::Http1(source) => source.poll(cx).map(|piece| match piece {
                Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
                Ok(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Ok(Piece::End | Piece::NeedMore) => None,
                Err(error) => gone(&error),
            }),
            Source::Http2(incoming, _) => Pin::new(incoming).poll_frame(cx).map(|frame| {
                frame.and_then(|frame| frame.map_or_else(|error| gone(&error), |frame| Some(Ok(frame))))
            }),
        }
    }

    /// Closes the upstream's connection, and lets what was handed on leave before the client is told: the server drops what it
    /// has not written when a body fails, a head of a response too.
    fn break_off(&mut self, cx: &Context<'_>, why: Broken) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.broken = Some(why);
        self.source = Source::BrokenOff(FLUSHED);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if let (Source::BrokenOff(turns), Some(why)) = (&mut this.source, this.broken) {
            *turns = turns.saturating_sub(1);
            if *turns > 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.source = Source::Ended;
            return Poll::Ready(Some(Err(why)));
        }
        // An upstream that never pauses would never be waited for.
        if this.has_expired() && !this.is_end_stream() {
            return this.break_off(cx, Broken::Expired);
        }
        let polled = this.poll_source(cx);
        if polled.is_ready() {
            this.silent = None;
        }
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                this.request.answer_moved();
                this.release_if_ended();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(()))) => {
                let why = this.request.broken().unwrap_or(Broken::Upstream);
                this.break_off(cx, why)
            }
            Poll::Ready(None) => {
                this.release_if_ended();
                this.source = Source::Ended;
                Poll::Ready(None)
            }
            // An upstream that waits for the rest of the request would wait for ever.
            Poll::Pending => match (this.request.broken(), this.poll_end(cx)) {
                (Some(why), _) | (None, Poll::Ready(why)) => this.break_off(cx, why),
                (None, Poll::Pending) => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Ended => true,
            Source::BrokenOff(_) => false,
            Source::Http1(source) => source.framing.is_ended(),
            Source::Http2(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Ended => SizeHint::with_exact(0),
            Source::BrokenOff(_) => SizeHint::default(),
            Source::Http1(source) => match source.framing {
                Framing::Length(left) => SizeHint::with_exact(left),
                Framing::Chunked(_) | Framing::UntilClose => SizeHint::default(),
            },
            Source::Http2(incoming, _) => incoming.size_hint(),
        }
    }
}
