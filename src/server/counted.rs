//! A socket that counts what it is given to send.
//!
//! TLS takes bytes before the system does, and lets go of them while it flushes. Only the socket below it knows how many the
//! client's side has taken.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket with the number of bytes that it took.
#[derive(Debug)]
pub(super) struct Counted<S> {
    socket: S,
    taken: usize,
}

impl<S> Counted<S> {
    pub(super) const fn new(socket: S) -> Self {
        Self { socket, taken: 0 }
    }

    /// Bytes that it took since the last call.
    pub(super) const fn newly_taken(&mut self) -> usize {
        std::mem::replace(&mut self.taken, 0)
    }

    fn count(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = polled {
            self.taken = self.taken.saturating_add(count);
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.count(polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_taken_is_counted_once_and_nothing_else_is() {
        let (near, mut far) = tokio::io::duplex(100);
        let mut counted = Counted::new(near);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert_eq!(counted.write(&[0; 70]).await.unwrap(), 70);
        assert_eq!(
            counted.write_vectored(&[IoSlice::new(&[0; 20]), IoSlice::new(&[0; 20])]).await.unwrap(),
            30
        );
        assert!(Pin::new(&mut counted).poll_write(&mut cx, b"x").is_pending(), "it is full");
        assert_eq!((counted.newly_taken(), counted.newly_taken()), (100, 0));
        far.read_exact(&mut [0; 10]).await.unwrap();
        far.write_all(b"from the other side").await.unwrap();
        counted.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(counted.write(&[0; 70]).await.unwrap(), 10);
        assert_eq!(counted.newly_taken(), 10);
    }
}
