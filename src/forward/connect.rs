//! A new connection to an upstream, up to the protocol that is spoken on it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::body::ClientBody;
use super::handshake;
use super::http1::wire::Io;
use crate::observe::metrics::{ConnectFault, Counted};
use crate::reject::{Reason, Reject};
use crate::snapshot::UpstreamProtocol;
use crate::state::upstream::{Address, UpstreamCell};

/// Flow-control windows of HTTP/2 towards upstreams, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Streams that are opened before the upstream has said how many it takes. More of them it might refuse.
const STREAMS_BEFORE_SETTINGS: usize = 1;

/// How long, and how often, its settings are waited for before others may use a further connection to the same address. They
/// are the first that an upstream sends (RFC 9113 §3.4).
const SETTINGS_WAIT: Duration = Duration::from_millis(1);
const SETTINGS_WAITS: u32 = 50;

/// hyper's side of an HTTP/2 connection.
type Connection = http2::Connection<TokioIo<Io>, ClientBody, LocalExecutor>;

/// An HTTP/2 connection: a task of its own drives it.
#[derive(Debug)]
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<ClientBody>,
    /// What the task drives: it knows how many streams the upstream takes at once.
    connection: Rc<RefCell<Option<Pin<Box<Connection>>>>>,
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

/// Why a connection could not be opened: nothing of a request was sent.
#[derive(Debug)]
pub(super) struct Unconnected {
    /// As it is counted.
    pub(super) fault: ConnectFault,
    /// In words.
    pub(super) error: String,
}

impl Unconnected {
    /// There was no connection within `limit`.
    pub(super) fn late(limit: Duration) -> Self {
        Self { fault: ConnectFault::Timeout, error: format!("no connection within {limit:?}") }
    }

    fn of(error: &io::Error) -> Self {
        Self { fault: fault(error), error: error.to_string() }
    }

    /// `upstream_unreachable` or `upstream_timeout`, or `overloaded` if this machine had no room for a socket.
    pub(super) fn reject(&self, address: &Address) -> Reject {
        let Self { fault, error } = self;
        let socket = address.socket;
        match fault {
            ConnectFault::Shortage => {
                Reject::because(Reason::Overloaded, format!("no connection to {socket}: {error}"))
            }
            ConnectFault::Timeout => Reject::because(Reason::UpstreamTimeout, format!("{socket}: {error}")),
            ConnectFault::Closed
            | ConnectFault::Other
            | ConnectFault::Protocol
            | ConnectFault::Refused
            | ConnectFault::Tls
            | ConnectFault::Unreachable => {
                Reject::because(Reason::UpstreamUnreachable, format!("{socket}: {error}"))
            }
        }
    }
}

/// Connects, agrees on TLS and on the protocol, all within `limit`.
///
/// # Errors
///
/// Why there is no connection.
pub(super) async fn connect(
    cell: &UpstreamCell,
    address: &Address,
    limit: Duration,
) -> Result<Io, Unconnected> {
    match tokio::time::timeout(limit, open(cell, address)).await {
        Ok(Ok(io)) => Ok(io),
        Ok(Err(error)) => Err(Unconnected::of(&error)),
        Err(_) => Err(Unconnected::late(limit)),
    }
}

/// What the system's or TLS's error means.
fn fault(error: &io::Error) -> ConnectFault {
    use io::ErrorKind;
    if is_shortage(error) {
        return ConnectFault::Shortage;
    }
    if error.get_ref().is_some_and(|inner| inner.is::<NoHttp2>()) {
        return ConnectFault::Protocol;
    }
    if handshake::is_tls(error) {
        return ConnectFault::Tls;
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => ConnectFault::Refused,
        // The system's own patience ended first.
        ErrorKind::TimedOut => ConnectFault::Timeout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            ConnectFault::Unreachable
        }
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => ConnectFault::Closed,
        _ => ConnectFault::Other,
    }
}

/// ALPN did not lead to HTTP/2.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the upstream does not speak HTTP/2 (ALPN)")]
struct NoHttp2;

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
                return Err(io::Error::other(NoHttp2));
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
    /// The upstream does not take the beginning of HTTP/2.
    pub(super) async fn over(io: Io, header_bytes: usize, counted: Counted) -> Result<Self, Unconnected> {
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
            .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Unconnected { fault: ConnectFault::Protocol, error: error.to_string() })?;
        let connection = Rc::new(RefCell::new(Some(Box::pin(connection))));
        let driven = Rc::clone(&connection);
        let task = tokio::task::spawn_local(async move {
            let poll = |cx: &mut Context<'_>| match &mut *driven.borrow_mut() {
                Some(connection) => connection.as_mut().poll(cx),
                None => Poll::Ready(Ok(())),
            };
            let ended = poll_fn(poll).await;
            // Requests that wait in it end with it, and no more are taken.
            drop(driven.borrow_mut().take());
            if let Err(error) = ended {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Self { sender, connection, _counted: counted, driver: task.abort_handle() })
    }

    /// How many streams may be open at once; `None` before the upstream has said so. What is above that waits in the library,
    /// and is lost if the connection ends before its turn.
    pub(super) fn max_streams(&self) -> Option<usize> {
        let streams = self.connection.try_borrow().ok()?.as_ref()?.current_max_send_streams();
        Some(streams).filter(|streams| *streams > STREAMS_BEFORE_SETTINGS)
    }

    /// Waits until the upstream has said how many streams it takes, for a moment at most, unless this is the `first` connection.
    pub(super) async fn settle_unless(&self, first: bool) {
        for _ in 0..SETTINGS_WAITS {
            if first || self.max_streams().is_some() {
                return;
            }
            tokio::time::sleep(SETTINGS_WAIT).await;
        }
    }
}
