//! The bytes of one connection, plain or TLS, with what was read ahead to tell HTTP/1 from HTTP/2.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::activity::Activity;

/// The first bytes of an HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A socket, with or without TLS.
#[derive(Debug)]
pub(super) enum Transport {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A transport that first yields what was read ahead, and reports that bytes arrived.
#[derive(Debug)]
pub(super) struct Stream {
    transport: Transport,
    ahead: Ahead,
    activity: Option<Arc<Activity>>,
}

/// At most one preface of bytes that were read before the protocol was known.
#[derive(Debug, Default)]
struct Ahead {
    bytes: [u8; PREFACE.len()],
    start: usize,
    end: usize,
}

impl Ahead {
    fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }
}

impl Stream {
    /// Wraps a transport.
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, ahead: Ahead::default(), activity: None }
    }

    /// Reads ahead until it is clear whether the client opened with the HTTP/2 preface.
    ///
    /// # Errors
    ///
    /// What the socket says; `UnexpectedEof` if it ends before a first byte.
    pub(super) async fn speaks_http2(&mut self) -> io::Result<bool> {
        loop {
            let read = self.ahead.end;
            let Some(room) = self.ahead.bytes.get_mut(read..).filter(|room| !room.is_empty()) else {
                return Ok(true);
            };
            let count = match &mut self.transport {
                Transport::Plain(socket) => socket.read(room).await?,
                Transport::Tls(socket) => socket.read(room).await?,
            };
            if count == 0 {
                return if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(false) };
            }
            self.ahead.end = read + count;
            if !PREFACE.starts_with(self.ahead.pending()) {
                return Ok(false);
            }
        }
    }

    /// Reports from now on to `activity` when bytes arrive.
    pub(super) fn report_to(&mut self, activity: Arc<Activity>) {
        self.activity = Some(activity);
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let pending = this.ahead.pending();
        if !pending.is_empty() {
            let count = pending.len().min(buf.remaining());
            buf.put_slice(pending.get(..count).unwrap_or_default());
            this.ahead.start += count;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = match &mut this.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Transport::Tls(socket) => Pin::new(socket.as_mut()).poll_read(cx, buf),
        };
        if buf.filled().len() > before
            && let Some(activity) = &this.activity
        {
            activity.received();
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Transport::Tls(socket) => Pin::new(socket.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Transport::Tls(socket) => Pin::new(socket.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(socket) => socket.is_write_vectored(),
            Transport::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Transport::Tls(socket) => Pin::new(socket.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Transport::Tls(socket) => Pin::new(socket.as_mut()).poll_shutdown(cx),
        }
    }
}
