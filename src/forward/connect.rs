//! A new connection to an upstream, up to the protocol that is spoken on it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::body::ClientBody;
use super::handshake;
use super::http1::wire::Io;
use crate::observe::metrics::Counted;
use crate::reject::{Reason, Reject};
use crate::snapshot::UpstreamProtocol;
use crate::state::upstream::{Address, UpstreamCell};

/// Flow-control windows of HTTP/2 towards upstreams, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Streams that are opened before the upstream has said how many it takes. More of them it might refuse.
const STREAMS_BEFORE_SETTINGS: usize = 1;

/// An HTTP/2 connection: a task of its own drives it.
#[derive(Debug)]
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<ClientBody>,
    _counted: Counted,
    driver: AbortHandle,
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Spawns onto the worker's own thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Connects, agrees on TLS and on the protocol, all within `limit`.
///
/// # Errors
///
/// `upstream_unreachable` or `upstream_timeout`, or `overloaded` if the system had no room for a socket: nothing of a request
/// was sent.
pub(super) async fn connect(cell: &UpstreamCell, address: &Address, limit: Duration) -> Result<Io, Reject> {
    match tokio::time::timeout(limit, open(cell, address)).await {
        Ok(Ok(io)) => Ok(io),
        Ok(Err(error)) => {
            tracing::debug!(upstream = %cell.policy.name, address = %address.socket, %error, "connection failed");
            if is_shortage(&error) {
                let cause = format!("no connection to {}: {error}", address.socket);
                return Err(Reject::because(Reason::Overloaded, cause));
            }
            Err(unreachable(address, &error))
        }
        Err(_) => Err(Reject::because(
            Reason::UpstreamTimeout,
            format!("{}: no connection within {limit:?}", address.socket),
        )),
    }
}

fn unreachable(address: &Address, error: &dyn std::fmt::Display) -> Reject {
    Reject::because(Reason::UpstreamUnreachable, format!("{}: {error}", address.socket))
}

/// Whether this machine is short of something, whatever the upstream does: file descriptors of the process or of the system,
/// memory for a socket, or local ports for one more connection to this address.
fn is_shortage(error: &io::Error) -> bool {
    use libc::{EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM | EADDRNOTAVAIL))
}

async fn open(cell: &UpstreamCell, address: &Address) -> io::Result<Io> {
    let socket = TcpStream::connect(address.socket).await?;
    socket.set_nodelay(true)?;
    match (&address.tls_name, &cell.tls) {
        (None, _) => Ok(Io::Plain(socket)),
        (Some(name), Some(config)) => {
            let connector = TlsConnector::from(Arc::clone(config));
            let stream = connector
                .connect(name.clone(), socket)
                .await
                .map_err(|error| handshake::explained(error, config))?;
            if cell.policy.protocol == UpstreamProtocol::H2
                && stream.get_ref().1.alpn_protocol() != Some(b"h2")
            {
                return Err(io::Error::other("the upstream does not speak HTTP/2 (ALPN)"));
            }
            Ok(Io::Tls(Box::new(stream)))
        }
        (Some(_), None) => Err(io::Error::other("TLS is not configured")),
    }
}

impl Http2 {
    /// Begins to speak HTTP/2. `header_bytes` is the longest header section of an answer, each field with 32 bytes more
    /// (RFC 9113 §6.5.2).
    ///
    /// # Errors
    ///
    /// `upstream_unreachable`: nothing of a request was sent.
    pub(super) async fn over(
        io: Io,
        address: &Address,
        header_bytes: usize,
        counted: Counted,
    ) -> Result<Self, Reject> {
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
            .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| unreachable(address, &error))?;
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Self { sender, _counted: counted, driver: task.abort_handle() })
    }
}
