//! The body of a request on its way to an upstream: frame by frame, nothing gathered, each limit kept while it streams.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::headers::{self, TrailerNames};
use super::pace::Pace;
use crate::limits::BodyLimits;
use crate::reject::{Reason, Reject};
use crate::types::BodySignal;

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

    /// There is no more of it.
    pub(super) fn end(&self) {
        self.ended.set(true);
    }

    /// The answer has begun, or a piece of it came.
    pub(super) fn answer_moved(&self) {
        if !self.ended.get() {
            self.answered.set(Some(Instant::now()));
        }
    }

    /// Why it broke off on the client's side.
    pub fn fault(&self) -> Option<Reject> {
        self.broken().map(Broken::reject)
    }

    /// The same, as the end of a body.
    pub(super) fn broken(&self) -> Option<Broken> {
        self.broken.get()
    }
}

/// A body that cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The client sent more than the route takes.
    #[error("the request body is larger than `limits.body`, which counts all of a stream")]
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
    /// The upstream made too long a pause.
    #[error("the upstream's body stopped arriving")]
    Silent,
    /// The caller's token expired while the stream was open.
    #[error("the token expired while the stream was open")]
    Expired,
}

impl Broken {
    /// The refusal, with its cause.
    pub fn reject(self) -> Reject {
        Reject::because(self.reason(), self.to_string())
    }

    /// What is recorded of it.
    pub const fn reason(self) -> Reason {
        match self {
            Self::TooLarge => Reason::BodyTooLarge,
            Self::Slow => Reason::RequestTimeout,
            Self::Client => Reason::RequestInvalid,
            Self::Upstream => Reason::UpstreamInvalid,
            Self::Silent => Reason::UpstreamTimeout,
            Self::Expired => Reason::TokenExpired,
        }
    }
}

/// A body that the client is still sending.
#[derive(Debug)]
pub struct Streaming {
    body: Incoming,
    signal: Option<BodySignal>,
    left: u64,
    trailers: TrailerNames,
    pace: Pace,
    progress: Rc<Progress>,
}

impl Streaming {
    /// A body of a request that came at `began`: within `limits`, with no trailer fields but `trailers`.
    pub(super) fn new(
        body: Incoming,
        signal: Option<BodySignal>,
        limits: BodyLimits,
        began: Instant,
        trailers: TrailerNames,
        progress: &Rc<Progress>,
    ) -> Self {
        let (left, pace, progress) = (limits.bytes, Pace::new(limits, began), Rc::clone(progress));
        Self { body, signal, left, trailers, pace, progress }
    }

    /// What the client's connection knows of it.
    pub(super) const fn body(&self) -> &Incoming {
        &self.body
    }

    /// The next frame.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
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
                    self.end();
                    return Poll::Ready(None);
                }
                Poll::Pending => return self.poll_pause(cx),
            }
        }
    }

    /// All of it has been read.
    fn end(&self) {
        self.progress.end();
        if let Some(signal) = &self.signal {
            signal.end();
        }
    }

    /// Counts a frame; `None` is a trailer section of which nothing may go on.
    fn account(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, Broken> {
        let Some(data) = frame.data_ref() else {
            let trailers = frame.into_trailers().ok().map(|all| headers::keep_trailers(all, &self.trailers));
            // Nothing follows, and whoever sends it on does not ask.
            self.end();
            return Ok(trailers.filter(|trailers| !trailers.is_empty()).map(Frame::trailers));
        };
        let length = data.len() as u64;
        self.progress.bytes.set(self.progress.bytes.get() + length);
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                if self.body.is_end_stream() {
                    self.end();
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
