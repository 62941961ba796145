//! Bodies on their way through: frame by frame, nothing gathered, each limit kept while it streams.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::headers::{self, TrailerNames};
use super::http1::Rest;
use super::http1::framing::{Framing, Piece};
use super::pace::Pace;
use super::pool::Lease;
use crate::limits::BodyLimits;
use crate::reject::Reason;

/// What is known of a request body while it is sent.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: Cell<u64>,
    ended: Cell<bool>,
    awaits_client: Cell<bool>,
    /// When the answer last moved; told only while the body has not ended.
    answered: Cell<Option<Instant>>,
    broken: Cell<Option<Broken>>,
}

impl Progress {
    /// Bytes received of the client so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Whether all of it was handed to the upstream's connection.
    pub fn ended(&self) -> bool {
        self.ended.get()
    }

    /// Whether the upstream could take more than the client has sent.
    pub fn awaits_client(&self) -> bool {
        self.awaits_client.get()
    }

    /// The answer has begun, or a piece of it came.
    fn answer_moved(&self) {
        if !self.ended.get() {
            self.answered.set(Some(Instant::now()));
        }
    }

    /// Why it broke off on the client's side.
    pub fn fault(&self) -> Option<Reason> {
        self.broken().map(Broken::reason)
    }

    /// The same, as the end of a body.
    fn broken(&self) -> Option<Broken> {
        self.broken.get()
    }
}

/// A body that cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The client sent more than the route takes.
    #[error("the request body is larger than the route takes")]
    TooLarge,
    /// The client was too slow.
    #[error("the request body did not arrive in time")]
    Slow,
    /// The client's connection broke, or its framing was wrong.
    #[error("the request body broke off")]
    Client,
    /// The upstream's connection broke, or its framing was wrong.
    #[error("the upstream's body broke off")]
    Upstream,
    /// The caller's token expired while the stream was open.
    #[error("the token expired while the stream was open")]
    Expired,
}

impl Broken {
    /// What is recorded of it.
    pub const fn reason(self) -> Reason {
        match self {
            Self::TooLarge => Reason::BodyTooLarge,
            Self::Slow => Reason::RequestTimeout,
            Self::Client => Reason::RequestInvalid,
            Self::Upstream => Reason::UpstreamInvalid,
            Self::Expired => Reason::TokenExpired,
        }
    }
}

/// A request body on its way to an upstream.
#[derive(Debug)]
pub enum ClientBody {
    /// Nothing.
    Empty,
    /// What the client sends.
    Streaming(Box<Streaming>),
}

/// A body that the client is still sending.
#[derive(Debug)]
pub struct Streaming {
    body: Incoming,
    left: u64,
    trailers: TrailerNames,
    pace: Pace,
    progress: Rc<Progress>,
}

impl ClientBody {
    /// Wraps a body of a request that came at `began`: within `limits`, with no trailer fields but `trailers`.
    pub(super) fn new(
        body: Incoming,
        limits: BodyLimits,
        began: Instant,
        trailers: TrailerNames,
        progress: &Rc<Progress>,
    ) -> Self {
        if body.is_end_stream() {
            progress.ended.set(true);
            return Self::Empty;
        }
        Self::Streaming(Box::new(Streaming {
            body,
            left: limits.bytes,
            trailers,
            pace: Pace::new(limits, began),
            progress: Rc::clone(progress),
        }))
    }
}

impl Streaming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.progress.awaits_client.set(false);
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.pace.arrived();
                    match self.account(frame) {
                        Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                        Ok(None) => {}
                        Err(broken) => return Poll::Ready(Some(Err(broken))),
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    self.progress.broken.set(Some(Broken::Client));
                    return Poll::Ready(Some(Err(Broken::Client)));
                }
                Poll::Ready(None) => {
                    self.progress.ended.set(true);
                    return Poll::Ready(None);
                }
                Poll::Pending => return self.poll_pause(cx),
            }
        }
    }

    /// Counts a frame; `None` is a trailer section of which nothing may go on.
    fn account(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, Broken> {
        let Some(data) = frame.data_ref() else {
            let trailers = frame.into_trailers().ok().map(|all| headers::keep_trailers(all, &self.trailers));
            // Nothing follows, and whoever sends it on does not ask.
            self.progress.ended.set(true);
            return Ok(trailers.filter(|trailers| !trailers.is_empty()).map(Frame::trailers));
        };
        let length = data.len() as u64;
        self.progress.bytes.set(self.progress.bytes.get() + length);
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                if self.body.is_end_stream() {
                    self.progress.ended.set(true);
                }
                Ok(Some(frame))
            }
            None => {
                self.progress.broken.set(Some(Broken::TooLarge));
                Err(Broken::TooLarge)
            }
        }
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Progress { bytes, answered, awaits_client, broken, .. } = &*self.progress;
        if self.pace.poll_wait(cx, bytes.get(), answered.get()).is_pending() {
            awaits_client.set(true);
            return Poll::Pending;
        }
        broken.set(Some(Broken::Slow));
        Poll::Ready(Some(Err(Broken::Slow)))
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(streaming) => streaming.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(streaming) => streaming.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(streaming) => streaming.body.size_hint(),
        }
    }
}

/// A response body on its way to the client. Holds the upstream's connection until it is read to its end; dropped before
/// that, it closes the connection, so that no remainder can reach another client.
#[derive(Debug)]
pub struct UpstreamBody {
    source: Source,
    request: Rc<Progress>,
    bytes: u64,
    broken: Option<Broken>,
    /// When the caller's token expires, for streams that may outlive it.
    expires: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Where a response body comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// Nothing comes any more.
    Ended,
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
    /// What is left of the request.
    pub(super) rest: Rest,
}

impl Http1Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        match self.lease.http1() {
            Some(connection) => connection.poll_body(cx, &mut self.framing, &mut self.rest),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// With a request half sent, the connection is of no use to the next one.
    fn release(self) {
        self.lease.finish(self.reusable && matches!(self.rest, Rest::Nothing));
    }
}

impl UpstreamBody {
    pub(super) fn new(source: Source, request: Rc<Progress>) -> Self {
        request.answer_moved();
        let mut this = Self { source, request, bytes: 0, broken: None, expires: None, timer: None };
        this.release_if_ended();
        this
    }

    /// Ends the stream at this time, if it is given.
    pub(super) const fn end_at(&mut self, expires: Option<Instant>) {
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
                Source::Ended => {}
                Source::Http1(source) => source.release(),
                Source::Http2(_, lease) => lease.finish(true),
            }
        }
    }

    fn poll_expiry(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(expires) = self.expires else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(expires)));
        timer.as_mut().poll(cx)
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        let gone = |error: &dyn std::fmt::Display| {
            tracing::debug!(%error, "the upstream's body broke off");
            Some(Err(()))
        };
        match &mut self.source {
            Source::Ended => Poll::Ready(None),
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

    fn break_off(&mut self, why: Broken) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.broken = Some(why);
        self.source = Source::Ended;
        Poll::Ready(Some(Err(why)))
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        match this.poll_source(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                this.request.answer_moved();
                this.release_if_ended();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(()))) => {
                let why = this.request.broken().unwrap_or(Broken::Upstream);
                this.break_off(why)
            }
            Poll::Ready(None) => {
                this.release_if_ended();
                this.source = Source::Ended;
                Poll::Ready(None)
            }
            Poll::Pending if this.poll_expiry(cx).is_ready() => this.break_off(Broken::Expired),
            // An upstream that waits for the rest of the request would wait for ever.
            Poll::Pending => match this.request.broken() {
                Some(why) => this.break_off(why),
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Ended => true,
            Source::Http1(source) => source.framing.is_ended(),
            Source::Http2(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Ended => SizeHint::with_exact(0),
            Source::Http1(source) => match source.framing {
                Framing::Length(left) => SizeHint::with_exact(left),
                Framing::Chunked(_) | Framing::UntilClose => SizeHint::default(),
            },
            Source::Http2(incoming, _) => incoming.size_hint(),
        }
    }
}
