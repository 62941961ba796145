//! A request on its way out (RFC 9112 §3, §7.1): its head, then its body frame by frame.
//!
//! 1. The head leaves together with what is at hand of the body, in one system call.
//! 2. A body of known length never is longer or shorter on the wire than its head says: the next request on the same
//!    connection would begin in the wrong place.
//! 3. What is given to a connection that takes nothing of it can be given to another.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body::Body as _;
use tokio::io::AsyncWrite;

use super::spelling;
use crate::forward::body::ClientBody;
use crate::forward::headers::Fields;
use crate::forward::replay::is_idempotent;
use crate::types::RawQuery;

/// The bytes of a request's head, while it is put together.
#[derive(Debug)]
pub struct HeadBytes(Vec<u8>);

/// Room that a usual head fits in, with a token.
const USUAL_HEAD: usize = 2 * 1024;

impl HeadBytes {
    /// Begins with the request line. `target` is a path with its query, parsed before: nothing in it ends a line.
    /// `raw_query` says which octets of the query the client sent without encoding.
    pub fn new(method: &Method, target: &str, raw_query: Option<&RawQuery>) -> Self {
        let mut bytes = Vec::with_capacity(USUAL_HEAD);
        bytes.extend_from_slice(method.as_str().as_bytes());
        bytes.push(b' ');
        match raw_query.zip(target.split_once('?')) {
            None => bytes.extend_from_slice(target.as_bytes()),
            Some((raw, (path, query))) => {
                bytes.extend_from_slice(path.as_bytes());
                bytes.push(b'?');
                bytes.extend_from_slice(&raw.decode(query));
            }
        }
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        Self(bytes)
    }

    /// The whole head, with the empty line that ends it.
    pub fn finish(self) -> Vec<u8> {
        let Self(mut bytes) = self;
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    fn line(&mut self, name: &HeaderName, value: &[u8]) {
        spelling::append(&mut self.0, name.as_str());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }
}

impl Fields for HeadBytes {
    fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        // Neither type holds anything that ends a line.
        self.line(name, value.as_bytes());
    }

    fn add_text(&mut self, name: &HeaderName, text: &str) {
        // What the type of a value is made of (RFC 9110 §5.5), without making one.
        if text.bytes().fold(true, |fits, byte| fits & ((byte >= 0x20) & (byte != 0x7f) | (byte == b'\t'))) {
            self.line(name, text.as_bytes());
        }
    }
}

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum Delimiter {
    /// By the length the head says; this much is left. A request without a body has 0 left and need not say so.
    Length(u64),
    /// By chunks.
    Chunked,
}

/// Why a request could not be sent to its end.
#[derive(Debug)]
pub(in crate::forward) enum SendFault {
    /// The upstream's connection takes no more.
    Connection(io::Error),
    /// The client's body broke off, or is not what its head said.
    Body,
}

/// A request and how much of it was sent.
#[derive(Debug)]
pub(in crate::forward) struct Sending {
    /// The head; later the line before a chunk, or what ends the body.
    line: Vec<u8>,
    line_sent: usize,
    data: Bytes,
    /// What follows the data.
    tail: &'static [u8],
    body: ClientBody,
    delimiter: Delimiter,
    /// Bytes that the connection took.
    sent: u64,
    /// Whether the other tasks of the turn were let go first.
    gave_way: bool,
    /// Whether there is no more of the body.
    ended: bool,
    /// Whether all of it left, TLS included.
    done: bool,
    of_head: bool,
    repeatable: bool,
}

impl Sending {
    /// A request of which nothing was sent. `head` holds all fields but those that delimit the body.
    pub(in crate::forward) fn new(
        method: &Method,
        head: HeadBytes,
        body: ClientBody,
        delimiter: Delimiter,
    ) -> Self {
        let empty = matches!(body, ClientBody::Empty);
        Self {
            line: head.finish(),
            line_sent: 0,
            data: Bytes::new(),
            tail: b"",
            body,
            delimiter,
            sent: 0,
            gave_way: false,
            ended: empty,
            done: false,
            of_head: *method == Method::HEAD,
            // All of it is at hand.
            repeatable: is_idempotent(method) && empty,
        }
    }

    /// Whether the answer will have no body (RFC 9110 §9.3.2).
    pub(in crate::forward) const fn is_head(&self) -> bool {
        self.of_head
    }

    /// Whether all of it was sent.
    pub(in crate::forward) const fn is_done(&self) -> bool {
        self.done
    }

    /// Whether it may be sent on another connection; if so, it begins anew.
    pub(in crate::forward) fn rewind(&mut self) -> bool {
        if self.sent > 0 && !self.repeatable {
            return false;
        }
        self.line_sent = 0;
        self.sent = 0;
        self.done = false;
        true
    }

    /// Whether the connection took nothing of it.
    pub(super) const fn is_untouched(&self) -> bool {
        self.sent == 0
    }

    fn has_bytes(&self) -> bool {
        self.line_sent < self.line.len() || !self.data.is_empty() || !self.tail.is_empty()
    }

    /// Sends as much as can be sent now. Ready when all of it was.
    pub(in crate::forward) fn poll<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut W,
    ) -> Poll<Result<(), SendFault>> {
        loop {
            self.gather(cx)?;
            if self.has_bytes() {
                if !std::mem::replace(&mut self.gave_way, true) {
                    // What many tasks of this turn send is then sent at once, and wakes the upstream once.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let count = ready!(self.poll_write(cx, io)).map_err(SendFault::Connection)?;
                self.advance(count)?;
            } else if self.ended {
                ready!(self.poll_flush(cx, io))?;
                self.done = true;
                return Poll::Ready(Ok(()));
            } else {
                // A client that pauses does not hold back what it sent before.
                let _ = self.poll_flush(cx, io)?;
                return Poll::Pending;
            }
        }
    }

    fn poll_flush<W: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        io: &mut W,
    ) -> Poll<Result<(), SendFault>> {
        Pin::new(io).poll_flush(cx).map_err(SendFault::Connection)
    }

    fn poll_write<W: AsyncWrite + Unpin>(&self, cx: &mut Context<'_>, io: &mut W) -> Poll<io::Result<usize>> {
        let line = self.line.get(self.line_sent..).unwrap_or_default();
        if self.data.is_empty() && self.tail.is_empty() {
            return Pin::new(io).poll_write(cx, line);
        }
        let parts = [IoSlice::new(line), IoSlice::new(&self.data), IoSlice::new(self.tail)];
        Pin::new(io).poll_write_vectored(cx, &parts)
    }

    fn advance(&mut self, count: usize) -> Result<(), SendFault> {
        if count == 0 {
            return Err(SendFault::Connection(io::ErrorKind::WriteZero.into()));
        }
        self.sent += count as u64;
        let of_line = count.min(self.line.len() - self.line_sent);
        self.line_sent += of_line;
        let of_data = (count - of_line).min(self.data.len());
        self.data.advance(of_data);
        self.tail = self.tail.get(count - of_line - of_data..).unwrap_or_default();
        Ok(())
    }

    /// Takes the next frame of the body, if there is room for one and the client has sent it.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), SendFault> {
        // The head goes with the first frame. A frame may be empty, and says nothing of the end.
        while !self.ended
            && self.data.is_empty()
            && self.tail.is_empty()
            && (self.sent == 0 || !self.has_bytes())
        {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Err(_))) => return Err(SendFault::Body),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.add(data)?,
                    Err(frame) => self.end(&frame.into_trailers().unwrap_or_default())?,
                },
                Poll::Ready(None) => self.end(&HeaderMap::new())?,
            }
        }
        Ok(())
    }

    /// Makes room for another line after those that were sent.
    fn drop_sent(&mut self) {
        if self.line_sent == self.line.len() {
            self.line.clear();
            self.line_sent = 0;
        }
    }

    fn add(&mut self, data: Bytes) -> Result<(), SendFault> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.delimiter {
            Delimiter::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(SendFault::Body)?;
                // Nothing that follows a body of known length is sent, so it need not be waited for.
                self.ended = *left == 0 && self.body.is_end_stream();
            }
            Delimiter::Chunked => {
                self.drop_sent();
                self.line.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                self.tail = b"\r\n";
            }
        }
        self.data = data;
        Ok(())
    }

    fn end(&mut self, trailers: &HeaderMap) -> Result<(), SendFault> {
        match self.delimiter {
            Delimiter::Length(0) => {}
            Delimiter::Length(_) => return Err(SendFault::Body),
            Delimiter::Chunked => {
                self.drop_sent();
                self.line.extend_from_slice(b"0\r\n");
                let mut fields = HeadBytes(std::mem::take(&mut self.line));
                trailers.iter().for_each(|(name, value)| fields.add(name, value));
                let HeadBytes(line) = fields;
                self.line = line;
                self.line.extend_from_slice(b"\r\n");
            }
        }
        self.ended = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http::header;

    use super::*;

    /// Takes `room` bytes at a time, and holds them back until it is flushed for the second time, as TLS may.
    #[derive(Default)]
    struct Slow {
        room: usize,
        taken: Vec<u8>,
        flushes: usize,
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let count = buf.len().min(self.room);
            self.taken.extend_from_slice(&buf[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            if self.flushes > 1 { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn sending(method: &Method) -> Sending {
        let mut head = HeadBytes::new(method, "/a?b=c", None);
        head.add(&header::HOST, &HeaderValue::from_static("example.com"));
        head.add_text(&header::VIA, "1.1 x");
        head.add_text(&header::FROM, "no\r\nsecond: line");
        Sending::new(method, head, ClientBody::Empty, Delimiter::Length(0))
    }

    const WHOLE: &str = "HTTP/1.1\r\nHost: example.com\r\nVia: 1.1 x\r\n\r\n";

    #[test]
    fn a_request_is_done_when_all_of_it_has_left() {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut sending, mut io) = (sending(&Method::GET), Slow { room: 7, ..Slow::default() });
        assert!(sending.poll(&mut cx, &mut io).is_pending(), "it lets others go first");
        assert!(sending.is_untouched() && io.taken.is_empty());
        assert!(sending.poll(&mut cx, &mut io).is_pending());
        assert_eq!(String::from_utf8_lossy(&io.taken), format!("GET /a?b=c {WHOLE}"));
        assert!(!sending.is_done(), "it is written, but not flushed");
        assert!(matches!(sending.poll(&mut cx, &mut io), Poll::Ready(Ok(()))));
        assert!(sending.is_done());
    }

    #[test]
    fn only_what_does_no_harm_begins_anew() {
        let mut cx = Context::from_waker(Waker::noop());
        for (method, again) in [(Method::GET, true), (Method::PUT, true), (Method::POST, false)] {
            let mut sending = sending(&method);
            assert!(sending.rewind(), "{method}: nothing was sent");
            let mut io = Slow { room: 10, flushes: 1, ..Slow::default() };
            while !sending.is_done() {
                let _ = sending.poll(&mut cx, &mut io);
            }
            assert_eq!(sending.rewind(), again, "{method}");
            assert_eq!(sending.is_done(), !again, "{method}");
        }
    }
}
