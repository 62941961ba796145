//! The body of a request on its way to an upstream: frame by frame, nothing gathered, each limit kept while it streams.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::headers::{self, TrailerNames};
use crate::reject::Reason;

/// What is known of a request body while it is sent.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: Cell<u64>,
    ended: Cell<bool>,
    awaits_client: Cell<bool>,
    fault: Cell<Option<Reason>>,
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

    /// Why it broke off on the client's side.
    pub fn fault(&self) -> Option<Reason> {
        self.fault.get()
    }
}

/// A body that cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The client sent more than the route takes.
    #[error("the request body is larger than the route takes")]
    TooLarge,
    /// The client made too long a pause.
    #[error("the request body stopped arriving")]
    Idle,
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
    pause: Duration,
    trailers: TrailerNames,
    timer: Option<Pin<Box<Sleep>>>,
    progress: Rc<Progress>,
}

impl ClientBody {
    /// Wraps a body: at most `limit` bytes, no pause longer than `pause`, no trailer fields but `trailers`.
    pub(super) fn new(
        body: Incoming,
        limit: u64,
        pause: Duration,
        trailers: TrailerNames,
        progress: &Rc<Progress>,
    ) -> Self {
        if body.is_end_stream() {
            progress.ended.set(true);
            return Self::Empty;
        }
        Self::Streaming(Box::new(Streaming {
            body,
            left: limit,
            pause,
            trailers,
            timer: None,
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
                    self.timer = None;
                    match self.account(frame) {
                        Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                        Ok(None) => {}
                        Err(broken) => return Poll::Ready(Some(Err(broken))),
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    self.progress.fault.set(Some(Reason::RequestInvalid));
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
                self.progress.fault.set(Some(Reason::BodyTooLarge));
                Err(Broken::TooLarge)
            }
        }
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let pause = self.pause;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        if timer.as_mut().poll(cx).is_pending() {
            self.progress.awaits_client.set(true);
            return Poll::Pending;
        }
        self.progress.fault.set(Some(Reason::RequestTimeout));
        Poll::Ready(Some(Err(Broken::Idle)))
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
