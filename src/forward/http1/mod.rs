//! HTTP/1.1 towards an upstream: one connection, one request at a time, driven by whoever waits for its answer.
//!
//! 1. There is no task behind a connection: it is written and read in place, by the request it is lent to. Unused, it is
//!    looked at before it is lent again.
//! 2. A connection carries another request only if the answer before was read to its very end, with nothing behind it.
//! 3. Interim answers (1xx) are taken off the way, except the switch of protocols (RFC 9110 §15.2).
//! 4. An answer counts even if the upstream took only a part of the request for it.

pub mod framing;
pub mod looked;
pub mod request;
pub mod response;
mod spelling;
pub(super) mod wire;

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use self::framing::{Framing, Piece};
use self::looked::Looked;
use self::request::{SendFault, Sending};
use self::response::{Expected, Head};
use self::wire::Io;
use super::deadline::{after, ring};
use super::streaming::Progress;
use crate::observe::metrics::Counted;

/// Room for the head of an answer and a small body.
const HEAD_ROOM: usize = 8 * 1024;
/// Most bytes of a body that are read at once, where `limits.buffer` allows as much. Large pieces wake the other side less
/// often, which costs more than the copying: 256 KiB take half of the time of 64 KiB.
pub(super) const BODY_ROOM: usize = 256 * 1024;
/// The same for a client of HTTP/2, who may let a piece wait in each of its streams. It opens their windows itself.
pub(super) const STREAM_ROOM: usize = 64 * 1024;
/// How long to read on after the upstream took no more of a request. Its response, if it sent one, has arrived before that,
/// but the runtime may not have heard of it.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Interim answers to one request.
const INTERIM: usize = 16;

/// What is no HTTP, or in doubt; says what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(Cow<'static, str>);

impl Malformed {
    const fn new(what: &'static str) -> Self {
        Self(Cow::Borrowed(what))
    }
}

/// Why a request got no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection ended before a byte of an answer: the request may never have been seen.
    Silence(io::Error),
    /// The connection ended within the head of an answer.
    Broken(io::Error),
    /// What came is no answer.
    Malformed(Malformed),
    /// The request's body could not be read to its end.
    Body,
    /// No answer in time.
    Timeout,
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    io: Io,
    /// What has arrived and was not yet taken.
    arrived: BytesMut,
    /// How much to make room for where the length of a body is not known: more while reads fill it.
    room: usize,
    /// Set back only when it rings too early, so that a request that is answered in time does not touch it.
    alarm: Pin<Box<Sleep>>,
    _counted: Counted,
}

impl Connection {
    /// A connection that was just opened.
    pub(super) fn new(io: Io, counted: Counted) -> Self {
        let alarm = Box::pin(tokio::time::sleep(Duration::from_secs(1)));
        Self { io, arrived: BytesMut::new(), room: HEAD_ROOM, alarm, _counted: counted }
    }

    /// Whether an unused connection is still good: open, and nothing came that nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut looked = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        self.arrived.is_empty() && Pin::new(&mut self.io).poll_read(&mut cx, &mut looked).is_pending()
    }

    /// Gives back the memory of the last answer.
    pub(super) fn rest(&mut self) {
        self.arrived = BytesMut::new();
        self.room = HEAD_ROOM;
    }

    /// Sends a request and waits for the head of its answer. `limit` is from the last byte of the request that moved; a
    /// client that pauses is caught by the body itself, whose limit may be the longer one.
    ///
    /// # Errors
    ///
    /// See [`Fault`]. The connection is of no use then.
    pub(super) async fn ask(
        &mut self,
        sending: &mut Sending,
        limit: Duration,
        expected: Expected,
        progress: &Progress,
    ) -> Result<Head, Fault> {
        let mut asking = Asking {
            expected,
            looked: Looked::default(),
            deadline: after(limit),
            moved: 0,
            interim: 0,
            broken: None,
        };
        poll_fn(|cx| {
            if let Poll::Ready(result) = self.poll_ask(cx, sending, &mut asking) {
                return Poll::Ready(result);
            }
            while self.poll_alarm(cx, asking.deadline).is_ready() {
                if let Some(error) = asking.broken.take() {
                    return Poll::Ready(Err(self.ended(&asking, error)));
                }
                let sends =
                    !sending.is_done() && (progress.bytes() > asking.moved || progress.awaits_client());
                if !sends {
                    return Poll::Ready(Err(Fault::Timeout));
                }
                asking.moved = progress.bytes();
                asking.deadline = after(limit);
            }
            Poll::Pending
        })
        .await
    }

    fn poll_ask(
        &mut self,
        cx: &mut Context<'_>,
        sending: &mut Sending,
        asking: &mut Asking,
    ) -> Poll<Result<Head, Fault>> {
        // What came before anything was asked is no answer, whoever it was meant for.
        if sending.is_untouched() && !self.is_quiet() {
            let error = io::Error::new(io::ErrorKind::ConnectionReset, "closed, or spoke out of turn");
            return Poll::Ready(Err(Fault::Silence(error)));
        }
        if asking.broken.is_none() && !sending.is_done() {
            match sending.poll(cx, &mut self.io) {
                Poll::Ready(Err(SendFault::Body)) => return Poll::Ready(Err(Fault::Body)),
                Poll::Ready(Err(SendFault::Connection(error))) if sending.is_untouched() => {
                    return Poll::Ready(Err(Fault::Silence(error)));
                }
                // What the upstream said before it closed is still to be read.
                Poll::Ready(Err(SendFault::Connection(error))) => {
                    asking.broken = Some(error);
                    asking.deadline = asking.deadline.min(after(LAST_WORDS));
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        if sending.is_untouched() {
            return Poll::Pending;
        }
        loop {
            match self.head(asking) {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Err(Fault::Malformed(malformed))),
            }
            let error = match self.poll_fill(cx, HEAD_ROOM) {
                Poll::Ready(Ok(0)) => io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the connection was closed before an answer was complete",
                ),
                Poll::Ready(Ok(_)) => continue,
                Poll::Ready(Err(error)) => error,
                Poll::Pending => return Poll::Pending,
            };
            return Poll::Ready(Err(self.ended(asking, error)));
        }
    }

    /// The connection ended like this before a response was complete.
    fn ended(&self, asking: &Asking, error: io::Error) -> Fault {
        let silent = self.arrived.is_empty() && asking.interim == 0;
        if silent { Fault::Silence(error) } else { Fault::Broken(error) }
    }

    /// The head of the final answer, if it has arrived.
    fn head(&mut self, asking: &mut Asking) -> Result<Option<Head>, Malformed> {
        while !self.arrived.is_empty() {
            match response::parse(&mut self.arrived, &mut asking.looked, asking.expected)? {
                Some(head)
                    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS =>
                {
                    asking.interim += 1;
                    if asking.interim > INTERIM {
                        return Err(Malformed::new("too many interim answers"));
                    }
                }
                head => return Ok(head),
            }
        }
        Ok(None)
    }

    /// The next piece of an answer's body, of which `most` bytes are read at once; goes on sending what is left of the
    /// request.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        framing: &mut Framing,
        rest: &mut Rest,
        most: usize,
    ) -> Poll<io::Result<Piece>> {
        if let Rest::Unsent(sending) = rest {
            match sending.poll(cx, &mut self.io) {
                Poll::Ready(Ok(())) => *rest = Rest::Nothing,
                Poll::Ready(Err(fault)) => {
                    tracing::debug!(?fault, "the rest of a request could not be sent");
                    *rest = Rest::GivenUp;
                }
                Poll::Pending => {}
            }
        }
        loop {
            let piece = framing.next(&mut self.arrived).map_err(io::Error::other)?;
            if !matches!(piece, Piece::NeedMore) {
                return Poll::Ready(Ok(piece));
            }
            let room = framing.left().map_or(self.room, |left| left.min(most));
            match std::task::ready!(self.poll_fill(cx, room))? {
                0 if *framing == Framing::UntilClose => return Poll::Ready(Ok(Piece::End)),
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                count if count >= self.room => self.room = (self.room * 4).min(most),
                _ => {}
            }
        }
    }

    /// Whether nothing came behind the answer.
    pub(super) fn is_drained(&self) -> bool {
        self.arrived.is_empty()
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.arrived.capacity() - self.arrived.len() < room.min(HEAD_ROOM) {
            self.arrived.reserve(room);
        }
        pin!(self.io.read_buf(&mut self.arrived)).poll(cx)
    }

    /// Waits until `deadline`.
    pub(super) fn poll_alarm(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        ring(self.alarm.as_mut(), cx, deadline)
    }
}

/// What is left of a request when its answer begins.
#[derive(Debug)]
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// This, which goes on while the answer comes.
    Unsent(Box<Sending>),
    /// Something that cannot be sent any more. The answer stands, the connection does not.
    GivenUp,
}

/// A request that waits for its answer.
struct Asking {
    expected: Expected,
    looked: Looked,
    deadline: Instant,
    /// Bytes of the request's body when the deadline was set.
    moved: u64,
    interim: usize,
    /// Why no more of it can be sent.
    broken: Option<io::Error>,
}

/// A connection that became a tunnel: its bytes, beginning with those that came behind the answer.
impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.arrived.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let count = self.arrived.len().min(buf.remaining());
        buf.put_slice(self.arrived.get(..count).unwrap_or_default());
        self.arrived.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
