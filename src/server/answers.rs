//! Answers over HTTP/2 whose client takes them too slowly, or never.
//!
//! A client opens the window of each stream by itself (RFC 9113 §5.2). One that never does, or opens it by a byte now and
//! then, would hold a stream and what waits in it for as long as it likes, while other streams of the connection go on and
//! the connection is not blocked.
//!
//! 1. A stream is *behind* while more is ready for it than was taken. If it is behind for all of `response_stall`, and took
//!    fewer bytes in that time than `response_rate` asks for, it is reset.
//! 2. A stream ends when its last large piece was taken, not when it was handed over: until then it can be reset. What it
//!    leaves behind is at most [`SMALL`] bytes, and those end with the connection.
//! 3. A stream whose client keeps up from the beginning has no timer.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::Handler;
use super::reader::Patience;

/// What a stream may leave behind, in bytes.
const SMALL: u64 = 4 * 1024;

/// How much of one answer was handed over, and how much of that was taken.
#[derive(Debug, Default)]
pub(super) struct Answer {
    offered: Cell<u64>,
    taken: Cell<u64>,
    /// Whether all was taken at some time since this was last cleared.
    kept_up: Cell<bool>,
    /// Whoever waits until little is left to take.
    ending: RefCell<Option<Waker>>,
}

impl Answer {
    const fn left(&self) -> u64 {
        self.offered.get() - self.taken.get()
    }

    fn take(&self, bytes: usize) {
        self.taken.set(self.taken.get() + bytes as u64);
        let left = self.left();
        if left == 0 {
            self.kept_up.set(true);
        }
        if left <= SMALL
            && let Some(waker) = self.ending.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

/// A piece of an answer that knows when its bytes are taken.
#[derive(Debug)]
pub(super) struct Offered {
    bytes: Bytes,
    answer: Rc<Answer>,
}

impl Buf for Offered {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.answer.take(count);
    }
}

/// A body that tells its answer what it hands over.
#[derive(Debug)]
pub(super) struct Offering<B> {
    body: B,
    answer: Rc<Answer>,
    /// How the body ends, once it has.
    end: Option<Option<HeaderMap>>,
}

impl<B> Offering<B> {
    pub(super) const fn new(body: B, answer: Rc<Answer>) -> Self {
        Self { body, answer, end: None }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Offering<B> {
    type Data = Offered;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Offered>, Self::Error>>> {
        let this = &mut *self;
        if this.end.is_none() {
            this.end = match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)?) {
                None => Some(None),
                Some(frame) => match frame.into_data() {
                    Ok(bytes) => {
                        this.answer.offered.set(this.answer.offered.get() + bytes.len() as u64);
                        let answer = Rc::clone(&this.answer);
                        return Poll::Ready(Some(Ok(Frame::data(Offered { bytes, answer }))));
                    }
                    Err(frame) => Some(frame.into_trailers().ok()),
                },
            };
        }
        if this.answer.left() > SMALL {
            *this.answer.ending.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(this.end.take().flatten().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() && self.answer.left() <= SMALL && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs the streams of one connection on the worker's own thread, each with an eye on its answer.
pub(super) struct Streams<H> {
    handler: Rc<H>,
    patience: Patience,
    /// The answer of the stream that is run next: hyper calls the service, and then runs the stream.
    next: Rc<Cell<Option<Rc<Answer>>>>,
}

impl<H> Clone for Streams<H> {
    fn clone(&self) -> Self {
        let Self { handler, patience, next } = self;
        Self { handler: Rc::clone(handler), patience: *patience, next: Rc::clone(next) }
    }
}

impl<H> Streams<H> {
    pub(super) fn new(handler: Rc<H>, patience: Patience) -> Self {
        Self { handler, patience, next: Rc::default() }
    }

    /// The answer of a stream that has just begun.
    pub(super) fn answer(&self) -> Rc<Answer> {
        let answer = Rc::<Answer>::default();
        self.next.set(Some(Rc::clone(&answer)));
        answer
    }
}

impl<H: Handler, F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Streams<H> {
    fn execute(&self, stream: F) {
        let Some(answer) = self.next.take() else {
            tokio::task::spawn_local(stream);
            return;
        };
        let (handler, patience) = (Rc::clone(&self.handler), self.patience);
        tokio::task::spawn_local(async move {
            if watched(stream, &answer, patience).await == Ended::Stalled {
                handler.stalled();
            }
        });
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    ByItself,
    /// hyper resets it, since it is dropped before its end.
    Stalled,
}

/// Runs a stream to its end, or until it was behind for too long.
async fn watched<F: Future>(stream: F, answer: &Answer, patience: Patience) -> Ended {
    let mut stream = pin!(stream);
    let mut watch = None;
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ended::ByItself);
        }
        if watch.is_none() && answer.left() == 0 {
            return Poll::Pending;
        }
        watch.get_or_insert_with(|| Watch::begin(answer, patience)).poll(cx).map(|()| Ended::Stalled)
    })
    .await
}

/// A time in which a stream may be behind, and then another.
#[derive(Debug)]
struct Watch<'a> {
    answer: &'a Answer,
    patience: Patience,
    taken_before: u64,
    alarm: Pin<Box<Sleep>>,
}

impl<'a> Watch<'a> {
    fn begin(answer: &'a Answer, patience: Patience) -> Self {
        answer.kept_up.set(false);
        let alarm = Box::pin(tokio::time::sleep(patience.stall));
        Self { answer, patience, taken_before: answer.taken.get(), alarm }
    }

    /// Ready when the stream was behind all the time, and took too little.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { answer, patience, .. } = self;
        while self.alarm.as_mut().poll(cx).is_ready() {
            let taken = answer.taken.get() - self.taken_before;
            let kept_up = answer.kept_up.replace(answer.left() == 0);
            if !kept_up && taken < patience.least() {
                return Poll::Ready(());
            }
            self.taken_before = answer.taken.get();
            self.alarm.as_mut().reset(Instant::now() + patience.stall);
        }
        Poll::Pending
    }
}
