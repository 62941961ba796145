//! A new connection to an upstream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::body::ClientBody;
use crate::observe::metrics::Counted;
use crate::reject::{Reason, Reject};
use crate::snapshot::UpstreamProtocol;
use crate::state::upstream::{Address, UpstreamCell};

/// Largest header section of an upstream's answer.
const ANSWER_HEADER_BYTES: usize = 64 * 1024;
/// Most header fields of an upstream's answer.
const ANSWER_HEADERS: usize = 256;
/// Flow-control windows of HTTP/2 towards upstreams, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// What requests are sent on.
#[derive(Debug)]
pub(super) enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<ClientBody>),
    /// Many.
    Http2(http2::SendRequest<ClientBody>),
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: Sender,
    /// Counts it as long as it is open.
    pub(super) counted: Option<Counted>,
    driver: AbortHandle,
}

impl Drop for Connection {
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
/// `upstream_unreachable` or `upstream_timeout`: nothing of a request was sent.
pub(super) async fn connect(
    cell: &UpstreamCell,
    address: &Address,
    limit: Duration,
) -> Result<Connection, Reject> {
    match tokio::time::timeout(limit, open(cell, address)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => {
            tracing::debug!(upstream = %cell.policy.name, address = %address.socket, %error, "connection failed");
            Err(Reject::because(Reason::UpstreamUnreachable, format!("{}: {error}", address.socket)))
        }
        Err(_) => Err(Reject::because(
            Reason::UpstreamTimeout,
            format!("{}: no connection within {limit:?}", address.socket),
        )),
    }
}

async fn open(cell: &UpstreamCell, address: &Address) -> io::Result<Connection> {
    let socket = TcpStream::connect(address.socket).await?;
    socket.set_nodelay(true)?;
    match (&address.tls_name, &cell.tls) {
        (None, _) => handshake(cell.policy.protocol, socket).await,
        (Some(name), Some(config)) => {
            let connector = TlsConnector::from(Arc::clone(config));
            let stream = connector.connect(name.clone(), socket).await?;
            if cell.policy.protocol == UpstreamProtocol::H2
                && stream.get_ref().1.alpn_protocol() != Some(b"h2")
            {
                return Err(io::Error::other("the upstream does not speak HTTP/2 (ALPN)"));
            }
            handshake(cell.policy.protocol, stream).await
        }
        (Some(_), None) => Err(io::Error::other("TLS is not configured")),
    }
}

async fn handshake<S>(protocol: UpstreamProtocol, stream: S) -> io::Result<Connection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    match protocol {
        UpstreamProtocol::Http1 => {
            let (sender, connection) = http1::Builder::new()
                .max_headers(ANSWER_HEADERS)
                .max_header_size(ANSWER_HEADER_BYTES)
                .handshake(io)
                .await
                .map_err(io::Error::other)?;
            let driver = drive(connection.with_upgrades());
            Ok(Connection { sender: Sender::Http1(sender), counted: None, driver })
        }
        UpstreamProtocol::H2 | UpstreamProtocol::H2c => {
            let (sender, connection) = http2::Builder::new(LocalExecutor)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(u32::try_from(ANSWER_HEADER_BYTES).unwrap_or(u32::MAX))
                .handshake(io)
                .await
                .map_err(io::Error::other)?;
            let driver = drive(connection);
            Ok(Connection { sender: Sender::Http2(sender), counted: None, driver })
        }
    }
}

/// Runs a connection on the worker until it ends or is aborted.
fn drive(connection: impl Future<Output = hyper::Result<()>> + 'static) -> AbortHandle {
    let task = tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    task.abort_handle()
}
