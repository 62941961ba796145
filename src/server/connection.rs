//! One client connection, from TLS to its last response.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::activity::{Activity, Tracked, Waiting};
use super::shutdown::{Listening, Phase};
use super::stream::{Gone, Stream, Transport};
use super::{Abort, ConnectionLimits, Handler, Peer, TlsPeer};

/// Concurrent streams of one HTTP/2 connection.
const STREAMS: u32 = 100;
/// Flow-control windows of one HTTP/2 stream and connection, in bytes.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of one HTTP/2 stream that wait to be sent.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams this side had to reset before the connection ends (CVE-2025-8671).
const LOCAL_RESETS: usize = 256;
/// How long a silent connection is before the system asks whether the other end is there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Most bytes of bodies that are held for one HTTP/1 connection each way, and so read or sent at once. hyper begins with
/// 8 KiB and takes more while reads fill it. Also holds the header section, whose own limit is checked apart.
const BODY_BUFFER: usize = 256 * 1024;

/// How long a connection that has not said a word is still listened to on drain: its first request may be on its way.
const SILENT: Duration = Duration::from_secs(1);

/// How far an alarm is set that nothing needs at the moment.
const REARM: Duration = Duration::from_secs(5);

/// Serves one accepted socket to its end.
pub(super) async fn serve<H: Handler>(
    handler: Rc<H>,
    socket: TcpStream,
    address: SocketAddr,
    listener: usize,
    shutdown: Listening,
) {
    let limits = handler.limits();
    let mut peer = Peer::new(address, listener);
    // A client that vanished is noticed also where nothing is to be sent, such as in a tunnel.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    let set = socket.set_nodelay(true).and_then(|()| SockRef::from(&socket).set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        tracing::debug!(%error, "the connection ended before it began");
        return;
    }
    let mut draining = shutdown.clone();
    let opened = tokio::select! {
        biased;
        opened = timeout(limits.header_timeout, open(handler.tls(listener), socket, &mut peer)) => opened,
        () = async { draining.reached(Phase::Drain).await; tokio::time::sleep(SILENT).await } => return,
    };
    let (stream, gone, multiplexed) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(None)) => return,
        Ok(Err(Some(abort))) => return handler.aborted(&peer, abort),
        // Not a word, or half a handshake: there is no request to speak of.
        Err(_) => return handler.aborted(&peer, Abort::Handshake),
    };
    let connection = Connection {
        activity: Arc::new(Activity::new(multiplexed)),
        peer: Rc::new(peer),
        handler,
        limits,
        shutdown,
    };
    if multiplexed {
        // Boxed: it is larger, and most connections are not HTTP/2.
        Box::pin(connection.http2(stream)).await;
    } else {
        connection.http1(stream).await;
    }
    // A tunnel counts as a connection for as long as it lasts. An error says that the stream is gone, as wanted.
    let _ = gone.await;
}

/// Agrees on TLS and on the protocol version. `Err(None)` is a client that left without a word.
async fn open(
    tls: Option<Arc<rustls::ServerConfig>>,
    socket: TcpStream,
    peer: &mut Peer,
) -> Result<(Stream, Gone, bool), Option<Abort>> {
    let Some(config) = tls else {
        let (mut stream, gone) = Stream::new(Transport::Plain(socket));
        let multiplexed = stream.speaks_http2().await.map_err(|_| None)?;
        return Ok((stream, gone, multiplexed));
    };
    let socket = TlsAcceptor::from(config).accept(socket).await.map_err(|error| {
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
    Ok((stream, gone, multiplexed))
}

/// Spawns onto the worker's own thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

struct Connection<H> {
    activity: Arc<Activity>,
    peer: Rc<Peer>,
    handler: Rc<H>,
    limits: ConnectionLimits,
    shutdown: Listening,
}

impl<H: Handler> Connection<H> {
    async fn http1(self, mut stream: Stream) {
        stream.report_to(Arc::clone(&self.activity));
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .half_close(false)
            .max_headers(self.limits.headers)
            .max_header_size(self.limits.header_bytes)
            .max_buf_size(self.limits.header_bytes.max(BODY_BUFFER));
        let service = service_fn(|request| self.answer(request));
        let connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
        let ended = self.drive(connection, http1::UpgradeableConnection::graceful_shutdown).await;
        self.report(ended);
    }

    async fn http2(self, mut stream: Stream) {
        stream.report_to(Arc::clone(&self.activity));
        stream.follow_frames(self.limits.headers);
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_local_error_reset_streams(LOCAL_RESETS)
            .max_header_list_size(u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX));
        let service = service_fn(|request| self.answer(request));
        let connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = self.drive(connection, http2::Connection::graceful_shutdown).await;
        self.report(ended);
    }

    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Tracked<H::Body>>, std::convert::Infallible>> + use<H> {
        let running = self.activity.begin(!request.body().is_end_stream());
        // Boxed: hyper keeps room for this future for as long as the connection lasts, and it is moved around. Between two
        // requests a connection shall not hold the state of one.
        let answered = Box::pin(Rc::clone(&self.handler).handle(Rc::clone(&self.peer), request));
        async move { Ok(answered.await.map(|body| Tracked::new(body, running))) }
    }

    /// Polls the connection to its end, within its time limits, and tells it once to drain.
    async fn drive<C>(&self, mut connection: Pin<&mut C>, drain: fn(Pin<&mut C>)) -> Ended
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut shutdown = self.shutdown.clone();
        let mut alarm = pin!(tokio::time::sleep(self.limits.header_timeout));
        let mut draining = false;
        loop {
            tokio::select! {
                biased;
                ended = poll_within(connection.as_mut(), alarm.as_mut(), || self.deadline()) => match ended {
                    Ok(Ok(())) => return Ended::Done,
                    Ok(Err(error)) => return Ended::Failed(error),
                    Err(Waiting::Header(_)) => return Ended::HeaderTimeout,
                    Err(Waiting::Reader(_)) => return Ended::Unread,
                    // A second idle period after the goodbye: the client does not close, so this side does.
                    Err(Waiting::Next(_) | Waiting::Requests) if draining => return Ended::Done,
                    Err(Waiting::Next(_) | Waiting::Requests) => {
                        draining = true;
                        drain(connection.as_mut());
                    }
                },
                () = shutdown.reached_by_task(Phase::Drain), if !draining => {
                    draining = true;
                    drain(connection.as_mut());
                }
            }
        }
    }

    /// When patience ends, and with what.
    fn deadline(&self) -> Option<(Instant, Waiting)> {
        let waiting = self.activity.waiting();
        match waiting {
            Waiting::Header(since) => Some((since + self.limits.header_timeout, waiting)),
            Waiting::Next(since) | Waiting::Reader(since) => {
                Some((since + self.limits.idle_timeout, waiting))
            }
            Waiting::Requests => None,
        }
    }

    fn report(&self, ended: Ended) {
        match ended {
            // The requests it cuts off are recorded as such.
            Ended::Unread => {
                tracing::debug!(client = %self.peer.address, "the client takes no more of an answer")
            }
            Ended::Done | Ended::Failed(_) if self.activity.was_flooded() => {
                self.handler.aborted(&self.peer, Abort::Flood);
            }
            Ended::Failed(error) if is_calmed(&error) => {
                tracing::debug!(%error, client = %self.peer.address, "HTTP/2 abused");
                self.handler.aborted(&self.peer, Abort::Flood);
            }
            Ended::Done => {}
            Ended::HeaderTimeout => self.handler.aborted(&self.peer, Abort::HeaderTimeout),
            Ended::Failed(error) if error.is_parse_too_large() => {
                self.handler.aborted(&self.peer, Abort::TooLarge);
            }
            Ended::Failed(error) if error.is_parse() => {
                tracing::debug!(%error, client = %self.peer.address, "no HTTP request");
                self.handler.aborted(&self.peer, Abort::Malformed);
            }
            Ended::Failed(error) => tracing::debug!(%error, client = %self.peer.address, "connection broke"),
        }
    }
}

/// How a connection ended.
enum Ended {
    Done,
    HeaderTimeout,
    Unread,
    Failed(hyper::Error),
}

/// Whether h2 ended the connection because the client asked too much of it.
fn is_calmed(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_library() && cause.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

/// Polls `connection`, and after each poll sees to it that `alarm` rings no later than the deadline. A request that keeps
/// to its time never touches the timer: the alarm is set back only when it rings too early.
async fn poll_within<C: Future>(
    mut connection: Pin<&mut C>,
    mut alarm: Pin<&mut Sleep>,
    deadline: impl Fn() -> Option<(Instant, Waiting)>,
) -> Result<C::Output, Waiting> {
    poll_fn(|cx| {
        if let Poll::Ready(output) = connection.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        loop {
            let due = deadline();
            if let Some((at, _)) = due
                && at < alarm.deadline()
            {
                alarm.as_mut().reset(at);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match due {
                Some((at, waiting)) if at <= Instant::now() => {
                    // Whoever goes on after this has the same time again.
                    alarm.as_mut().reset(Instant::now() + REARM);
                    return Poll::Ready(Err(waiting));
                }
                Some((at, _)) => alarm.as_mut().reset(at),
                None => alarm.as_mut().reset(Instant::now() + REARM),
            }
        }
    })
    .await
}
