//! How a client connection begins, within its time: whose it is, TLS, the protocol version.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::counted::Counted;
use super::share::{Share, Shares};
use super::shutdown::{Listening, Phase};
use super::stream::{Gone, Stream, Transport};
use super::{Abort, Handler, Peer, ProxyHeader, TlsPeer, proxy_protocol};
use crate::observe::metrics::Cause;

/// How long a silent connection is before the system asks whether the other end is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long a connection that has not said a word is still listened to on drain: its first request may be on its way.
const SILENT: Duration = Duration::from_secs(1);

/// A connection on which requests may come.
pub(super) struct Opened {
    pub(super) stream: Stream,
    /// Resolves when the stream is gone, as tunnels are later than their connection.
    pub(super) gone: Gone,
    /// Whether it speaks HTTP/2.
    pub(super) multiplexed: bool,
    /// The place of the client that a PROXY header names.
    pub(super) share: Option<Share>,
}

/// Makes a connection of an accepted socket, and notes in `peer` what is learnt of the client.
///
/// # Errors
///
/// What ended it before it could bring a request; whoever deserves to know was told.
pub(super) async fn open<H: Handler>(
    handler: &H,
    shares: &Shares,
    socket: TcpStream,
    peer: &mut Peer,
    mut shutdown: Listening,
) -> Result<Opened, Cause> {
    // A client that vanished is noticed also where nothing is to be sent, such as in a tunnel.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    let set = socket.set_nodelay(true).and_then(|()| SockRef::from(&socket).set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        tracing::debug!(%error, "the connection ended before it began");
        return Err(Cause::Error);
    }
    let limits = handler.limits();
    let tls = handler.tls(peer.listener);
    let (limit, too_slow) = match tls {
        Some(_) => (limits.handshake_timeout, Cause::HandshakeTimeout),
        None => (limits.header_timeout, Cause::HeaderTimeout),
    };
    let agreed = tokio::select! {
        biased;
        agreed = timeout(limit, agree(handler, shares, tls, socket, peer)) => agreed,
        () = async { shutdown.reached(Phase::Drain).await; tokio::time::sleep(SILENT).await } => {
            return Err(Cause::Drain);
        }
    };
    match agreed {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(None)) => Err(Cause::Client),
        Ok(Err(Some(abort))) => {
            handler.aborted(peer, abort);
            Err(match abort {
                Abort::Fragment | Abort::Malformed => Cause::Malformed,
                Abort::TooMany => Cause::ClientLimit,
                Abort::Handshake | Abort::TooLarge | Abort::HeaderTimeout | Abort::Flood => Cause::Handshake,
            })
        }
        // Not a word, or half a handshake: there is no request to speak of.
        Err(_) => {
            handler.aborted(peer, Abort::Handshake);
            Err(too_slow)
        }
    }
}

/// Learns whose the connection is where that is said first, agrees on TLS and on the protocol version. `Err(None)` is a
/// client that left without a word.
async fn agree<H: Handler>(
    handler: &H,
    shares: &Shares,
    tls: Option<Arc<rustls::ServerConfig>>,
    mut socket: TcpStream,
    peer: &mut Peer,
) -> Result<Opened, Option<Abort>> {
    let share = match handler.proxy_header(peer.listener, peer.address.ip()) {
        ProxyHeader::Absent => None,
        ProxyHeader::Required => {
            let client = introduction(&mut socket, peer.address).await?;
            peer.introduced(client);
            client.map(|client| shares.take(client.ip(), handler.share(client.ip())).ok_or(Abort::TooMany))
        }
        ProxyHeader::Refused => return Err(Some(Abort::Malformed)),
    };
    let share = share.transpose()?;
    let Some(config) = tls else {
        let (mut stream, gone) = Stream::new(Transport::Plain(socket));
        let multiplexed = stream.speaks_http2().await.map_err(|_| None)?;
        return Ok(Opened { stream, gone, multiplexed, share });
    };
    let socket = TlsAcceptor::from(config).accept(Counted::new(socket)).await.map_err(|error| {
        tracing::debug!(%error, client = %peer.address, "TLS handshake failed");
        Some(Abort::Handshake)
    })?;
    let (_, session) = socket.get_ref();
    peer.tls = Some(TlsPeer {
        server_name: session.server_name().map(Box::from),
        client_verified: session.peer_certificates().is_some(),
    });
    let multiplexed = session.alpn_protocol() == Some(b"h2");
    let (stream, gone) = Stream::new(Transport::Tls(Box::new(socket)));
    Ok(Opened { stream, gone, multiplexed, share })
}

/// The client that a PROXY header names.
async fn introduction(
    socket: &mut TcpStream,
    proxy: SocketAddr,
) -> Result<Option<SocketAddr>, Option<Abort>> {
    proxy_protocol::read(socket).await.map_err(|error| {
        tracing::debug!(%error, %proxy, "no usable PROXY header");
        // A load balancer that only looks whether the port is open says nothing.
        (error.kind() != io::ErrorKind::UnexpectedEof).then_some(Abort::Malformed)
    })
}
