//! One client connection, from its first request to its last response.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::activity::{Activity, Tracked, Waiting};
use super::answers::{Offering, Streams};
use super::http2::Breach;
use super::open::{Opened, open};
use super::reader::Patience;
use super::share::Shares;
use super::shutdown::{Listening, Phase};
use super::stream::Stream;
use super::{Abort, ConnectionLimits, Handler, Peer};
use crate::observe::metrics::Cause;

/// Flow-control windows of one HTTP/2 stream and connection, in bytes.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of one HTTP/2 stream that wait to be sent.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams this side had to reset before the connection ends (CVE-2025-8671).
const LOCAL_RESETS: usize = 256;
/// How far an alarm is set that nothing needs at the moment.
const REARM: Duration = Duration::from_secs(5);

/// How long a connection that was said goodbye to may stay without a request.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves one accepted socket to its end; tells what ended it.
pub(super) async fn serve<H: Handler>(
    handler: Rc<H>,
    shares: &Shares,
    socket: TcpStream,
    address: SocketAddr,
    listener: usize,
    shutdown: Listening,
) -> Cause {
    let limits = handler.limits();
    let mut peer = Peer::new(address, listener);
    let opened = open(&*handler, shares, socket, &mut peer, shutdown.clone()).await;
    let Opened { stream, gone, multiplexed, share: _share } = match opened {
        Ok(opened) => opened,
        Err(cause) => return cause,
    };
    let patience = Patience { stall: limits.response_stall, rate: limits.response_rate };
    let connection = Connection {
        activity: Arc::new(Activity::new(multiplexed, patience.least())),
        patience,
        peer: Rc::new(peer),
        handler,
        limits,
        shutdown,
    };
    let cause = if multiplexed {
        // Boxed: it is larger, and most connections are not HTTP/2.
        Box::pin(connection.http2(stream)).await
    } else {
        connection.http1(stream).await
    };
    // A tunnel counts as a connection for as long as it lasts. An error says that the stream is gone, as wanted.
    let _ = gone.await;
    cause
}

struct Connection<H> {
    activity: Arc<Activity>,
    patience: Patience,
    peer: Rc<Peer>,
    handler: Rc<H>,
    limits: ConnectionLimits,
    shutdown: Listening,
}

impl<H: Handler> Connection<H> {
    async fn http1(self, mut stream: Stream) -> Cause {
        stream.report_to(Arc::clone(&self.activity));
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .half_close(false)
            .title_case_headers(true)
            .max_headers(self.limits.headers)
            .max_header_size(self.limits.header_bytes)
            .max_buf_size(self.limits.header_bytes.max(self.limits.buffer));
        let service = service_fn(|request| self.answer(request));
        let connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
        let ended = self.drive(connection, http1::UpgradeableConnection::graceful_shutdown).await;
        self.report(ended)
    }

    async fn http2(self, mut stream: Stream) -> Cause {
        stream.report_to(Arc::clone(&self.activity));
        stream.follow_frames(self.limits.headers, self.limits.control_frames);
        let streams = Streams::new(Rc::clone(&self.handler), self.patience);
        let mut builder = http2::Builder::new(streams.clone());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_local_error_reset_streams(LOCAL_RESETS)
            .max_header_list_size(u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX));
        let service = service_fn(|request| {
            let (answer, answered) = (streams.answer(), self.answer(request));
            async { answered.await.map(|response| response.map(|body| Offering::new(body, answer))) }
        });
        let connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = self.drive(connection, http2::Connection::graceful_shutdown).await;
        self.report(ended)
    }

    fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Tracked<H::Body>>, std::convert::Infallible>> + use<H> {
        let with_body = !request.body().is_end_stream();
        let running = self.activity.begin(with_body);
        if with_body && !self.activity.is_multiplexed() {
            request.extensions_mut().insert(self.activity.body_signal());
        }
        if let Some(query) = self.activity.take_raw_query() {
            request.extensions_mut().insert(query);
        }
        // Boxed: hyper keeps room for this future for as long as the connection lasts, and it is moved around. Between two
        // requests a connection shall not hold the state of one.
        let answered = Box::pin(Rc::clone(&self.handler).handle(Rc::clone(&self.peer), request));
        // HTTP/2 has GOAWAY for it.
        let last = !self.activity.is_multiplexed() && (self.is_spent() || !self.shutdown.is_serving());
        async move {
            let mut response = answered.await;
            if last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Tracked::new(body, running)))
        }
    }

    /// Whether it has brought as many requests as it may.
    fn is_spent(&self) -> bool {
        self.activity.requests() >= self.limits.requests
    }

    /// Polls the connection to its end, within its limits. Where it shall take no more requests, it is told so once, and
    /// those that run end on it.
    async fn drive<C>(&self, mut connection: Pin<&mut C>, part: fn(Pin<&mut C>)) -> Ended
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut shutdown = self.shutdown.clone();
        let mut alarm = pin!(tokio::time::sleep(self.limits.header_timeout));
        let mut parting = None;
        // Who comes after the notice is still served, and hears of the drain when it begins.
        let goodbye = match self.activity.is_multiplexed() && self.shutdown.is_serving() {
            true => Phase::Notice,
            false => Phase::Drain,
        };
        loop {
            let cause = tokio::select! {
                biased;
                ended = poll_within(connection.as_mut(), alarm.as_mut(), || self.look(parting)) => match ended {
                    Ok(Ok(())) => return Ended::By(parting.map_or_else(|| self.ended_by(), |(cause, _)| cause)),
                    // Whoever was told to go may go in any way.
                    Ok(Err(error)) => return parting.map_or(Ended::Failed(error), |(cause, _)| Ended::By(cause)),
                    Err(cause @ (Cause::Age | Cause::Idle | Cause::Requests)) if parting.is_none() => cause,
                    // The client does not close, so this side does.
                    Err(cause) => return Ended::By(cause),
                },
                () = shutdown.reached_by_task(goodbye), if parting.is_none() => Cause::Drain,
            };
            parting = Some((cause, Instant::now()));
            part(connection.as_mut());
        }
    }

    /// What ended a connection that was not told to end: its client, or the answer to its last request.
    fn ended_by(&self) -> Cause {
        if self.is_spent() { Cause::Requests } else { Cause::Client }
    }

    /// Counts what happened meanwhile, and tells when patience ends, and with what.
    fn look(&self, parting: Option<(Cause, Instant)>) -> Option<(Instant, Cause)> {
        self.activity.count_resets(|error| self.handler.reset(error));
        self.deadline(parting)
    }

    /// When patience ends, and with what. `parting` is why and since when the connection takes no more requests.
    fn deadline(&self, parting: Option<(Cause, Instant)>) -> Option<(Instant, Cause)> {
        let limits = &self.limits;
        let quiet = match (self.activity.waiting(), parting) {
            (Waiting::Header(since), _) => Some((since + limits.header_timeout, Cause::HeaderTimeout)),
            (Waiting::Next(since), None) => Some((since + limits.idle_timeout, Cause::Idle)),
            (Waiting::Next(since), Some((cause, parted))) => {
                Some((since.max(parted) + limits.idle_timeout.min(GOODBYE), cause))
            }
            (Waiting::Reader(since), _) => Some((since + self.patience.stall, Cause::ResponseStall)),
            (Waiting::Requests, _) => None,
        };
        if parting.is_some() {
            return quiet;
        }
        if self.is_spent() {
            return Some((Instant::now(), Cause::Requests));
        }
        let aged = (self.activity.opened() + limits.age, Cause::Age);
        Some(quiet.map_or(aged, |quiet| if quiet.0 <= aged.0 { quiet } else { aged }))
    }

    fn flood(&self) -> Cause {
        self.handler.aborted(&self.peer, Abort::Flood);
        Cause::Frames
    }

    /// The client violated HTTP/2 in a way that h2 does not see.
    fn malformed(&self) -> Cause {
        self.handler.aborted(&self.peer, Abort::Malformed);
        Cause::Error
    }

    /// Logs what deserves it.
    fn report(&self, ended: Ended) -> Cause {
        let client = &self.peer.address;
        self.activity.count_resets(|error| self.handler.reset(error));
        match self.activity.breach() {
            Some(Breach::Flood) => return self.flood(),
            Some(Breach::Malformed) => return self.malformed(),
            None => {}
        }
        match ended {
            Ended::Failed(error) if is_calmed(&error) => {
                tracing::debug!(%error, %client, "HTTP/2 abused");
                self.flood()
            }
            Ended::By(cause) => {
                tracing::debug!(%client, cause = cause.as_str(), "connection ended");
                if cause == Cause::HeaderTimeout {
                    self.handler.aborted(&self.peer, Abort::HeaderTimeout);
                }
                cause
            }
            Ended::Failed(error) if error.is_parse_too_large() => {
                self.handler.aborted(&self.peer, Abort::TooLarge);
                Cause::TooLarge
            }
            Ended::Failed(error) if error.is_parse() => {
                tracing::debug!(%error, %client, "no HTTP request");
                let fragment = self.activity.had_fragment();
                self.handler.aborted(&self.peer, if fragment { Abort::Fragment } else { Abort::Malformed });
                Cause::Malformed
            }
            Ended::Failed(error) => {
                tracing::debug!(%error, %client, "connection broke");
                Cause::Error
            }
        }
    }
}

/// How a connection ended.
enum Ended {
    By(Cause),
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
    deadline: impl Fn() -> Option<(Instant, Cause)>,
) -> Result<C::Output, Cause> {
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
                Some((at, cause)) if at <= Instant::now() => {
                    // Whoever goes on after this has the same time again.
                    alarm.as_mut().reset(Instant::now() + REARM);
                    return Poll::Ready(Err(cause));
                }
                Some((at, _)) => alarm.as_mut().reset(at),
                None => alarm.as_mut().reset(Instant::now() + REARM),
            }
        }
    })
    .await
}
