//! The bytes of one connection, plain or TLS, with what was read ahead to tell HTTP/1 from HTTP/2.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::activity::Activity;
use super::ahead::{Ahead, PREFACE};
use super::counted::Counted;
use super::http2::{Breach, Frames};
use super::request_line::RequestLine;

/// A socket, with or without TLS.
#[derive(Debug)]
pub(super) enum Transport {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<Counted<TcpStream>>>),
}

/// How long what a client still sends is read and thrown away after the last answer. A socket closed on unread bytes is
/// reset, and a reset can overtake the answer that said why.
const LINGER: Duration = Duration::from_secs(2);

/// A transport that first yields what was read ahead, and reports that bytes move.
#[derive(Debug)]
pub(super) struct Stream {
    transport: Transport,
    ahead: Ahead,
    activity: Option<Arc<Activity>>,
    /// Of an HTTP/1 connection.
    line: RequestLine,
    /// Of an HTTP/2 connection.
    frames: Option<Box<Frames>>,
    /// How much of the GOAWAY that a breach ends with is sent.
    goodbye: usize,
    turn: Turn,
    /// Whether this side has said its last word.
    ended: bool,
    linger: Option<Pin<Box<Sleep>>>,
    /// Dropped with the stream, wherever it went.
    _alive: oneshot::Sender<()>,
}

/// Resolves when a stream is gone: with its HTTP connection, or with the tunnel that took it over.
pub(super) type Gone = oneshot::Receiver<()>;

/// Whose turn it is to be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Something was received since the last answer.
    Asked,
    /// An answer is there, and let other tasks go first.
    GaveWay,
    /// Something was sent.
    Answered,
}

impl Stream {
    /// Wraps a transport.
    pub(super) fn new(transport: Transport) -> (Self, Gone) {
        let (alive, gone) = oneshot::channel();
        let ahead = Ahead::default();
        (
            Self {
                transport,
                ahead,
                activity: None,
                line: RequestLine::default(),
                frames: None,
                goodbye: 0,
                turn: Turn::Asked,
                ended: false,
                linger: None,
                _alive: alive,
            },
            gone,
        )
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

    /// Reports from now on to `activity` when bytes move.
    pub(super) fn report_to(&mut self, activity: Arc<Activity>) {
        self.activity = Some(activity);
    }

    /// Follows from now on the frames of an HTTP/2 connection, whose preface is yet to be read. `fields` are the most of one
    /// request, `control_frames` those that may come at once beside requests.
    pub(super) fn follow_frames(&mut self, fields: usize, control_frames: u32) {
        self.frames = Some(Box::new(Frames::new(fields, control_frames, Instant::now())));
    }

    fn breach(&self) -> Option<Breach> {
        self.frames.as_ref().and_then(|frames| frames.breach())
    }

    /// Reads the request line in the buffer behind `start`, if a head begins there.
    fn read_line(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        let Some(activity) = &self.activity else { return };
        if buf.filled().len() > start
            && activity.awaits_head()
            && let Some(found) = self.line.read(buf, start, activity.requests())
        {
            activity.found(found);
        }
    }

    /// Follows what was read into the buffer behind `start`, and takes away what comes after a breach: for whoever reads, the
    /// client has ended the connection there.
    fn follow_received(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        let Some(frames) = &mut self.frames else { return };
        let passed = frames.received(buf.filled().get(start..).unwrap_or_default(), Instant::now);
        buf.set_filled(start + passed);
        if let (Some(breach), Some(activity)) = (frames.breach(), &self.activity) {
            activity.broke(breach);
        }
    }

    /// Follows the first `count` bytes of these, which were sent.
    fn follow_sent(&mut self, parts: &[io::IoSlice<'_>], count: usize) {
        let (Some(frames), Some(activity)) = (&mut self.frames, &self.activity) else { return };
        let mut left = count;
        for part in parts {
            let sent = left.min(part.len());
            frames.sent(part.get(..sent).unwrap_or_default(), |code| activity.reset(code));
            left -= sent;
        }
    }

    /// Tells the client why the connection ends.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let goaway = self.breach().map_or(&[][..], Breach::goaway);
        while let Some(rest) = goaway.get(self.goodbye..).filter(|rest| !rest.is_empty()) {
            self.goodbye += ready!(match &mut self.transport {
                Transport::Plain(socket) => Pin::new(socket).poll_write(cx, rest),
                Transport::Tls(socket) => Pin::new(socket.as_mut()).poll_write(cx, rest),
            })?;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the answer that is about to be sent shall wait until the other tasks of this turn have run: what many of them
    /// send is then sent at once, and wakes the other side once.
    fn gives_way(&mut self, cx: &Context<'_>) -> bool {
        match self.turn {
            Turn::Asked => {
                self.turn = Turn::GaveWay;
                cx.waker().wake_by_ref();
                true
            }
            // Once only: a client that never stops sending does not hold up its answers.
            Turn::GaveWay | Turn::Answered => {
                self.turn = Turn::Answered;
                false
            }
        }
    }

    /// Reports how an attempt to send went: whether it has to wait, and how many bytes the client's side has taken.
    /// `written` are those that left for the transport.
    fn report<T>(&mut self, polled: &Poll<io::Result<T>>, written: usize) {
        let taken = match &mut self.transport {
            Transport::Plain(_) => written,
            Transport::Tls(socket) => socket.get_mut().0.newly_taken(),
        };
        let Some(activity) = &self.activity else { return };
        if taken > 0 {
            activity.wrote(taken);
        }
        if polled.is_pending() {
            activity.blocked();
        }
    }

    /// The same for bytes of HTTP, whose frames are followed.
    fn sent(
        &mut self,
        polled: Poll<io::Result<usize>>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match polled {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        if written > 0 {
            self.follow_sent(parts, written);
        }
        self.report(&polled, written);
        polled
    }

    /// Ends this side: says why if there was a breach, and reads for a while what the client still sends.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            // Within a frame that was begun, GOAWAY would be read as a part of it.
            if self.frames.as_ref().is_some_and(|frames| frames.breach().is_some() && frames.sent_whole()) {
                ready!(self.poll_goodbye(cx))?;
            }
            ready!(match &mut self.transport {
                Transport::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
                Transport::Tls(socket) => Pin::new(socket.as_mut()).poll_shutdown(cx),
            })?;
            self.ended = true;
        }
        self.poll_linger(cx).map(Ok)
    }

    /// Reads and throws away what a client still sends of a body that nobody wants, to its end or for a while.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.breach().is_none()
            && !self.activity.as_ref().is_some_and(|activity| activity.may_be_sending())
        {
            return Poll::Ready(());
        }
        // Looked at first: a client that never stops uses up what the runtime lets a task do at a time.
        let timer = self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut scratch = [0; 8 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            let polled = match &mut self.transport {
                Transport::Plain(socket) => Pin::new(socket).poll_read(cx, &mut buffer),
                Transport::Tls(socket) => Pin::new(socket.as_mut()).poll_read(cx, &mut buffer),
            };
            match polled {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// What takes less to copy than to have the system gather, in bytes.
const SMALL: usize = 2 * 1024;

/// Small parts in one piece; `None` if they do not fit.
fn joined<'s>(parts: &[io::IoSlice<'_>], scratch: &'s mut ReadBuf<'_>) -> Option<&'s [u8]> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > scratch.remaining() {
        return None;
    }
    parts.iter().for_each(|part| scratch.put_slice(part));
    Some(scratch.filled())
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.breach() {
            Some(Breach::Flood) => return Poll::Ready(Ok(())),
            // The reader is within a frame: it takes the end for an error, and drops the stream without a word.
            Some(Breach::Malformed) => return this.poll_end(cx),
            None => {}
        }
        if this.line.take_rest(buf) {
            return Poll::Ready(Ok(()));
        }
        let start = buf.filled().len();
        // The rest is read at once too: for two reads of one request hyper would double its buffer, for the whole life of
        // the connection.
        let ahead = this.ahead.take(buf);
        if ahead > 0 && buf.remaining() == 0 {
            // The preface of HTTP/2, in front of all frames, or the beginning of a request line.
            this.read_line(buf, start);
            this.follow_received(buf, start);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = match &mut this.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Transport::Tls(socket) => Pin::new(socket.as_mut()).poll_read(cx, buf),
        };
        if buf.filled().len() > before {
            if this.turn == Turn::Answered {
                this.turn = Turn::Asked;
            }
            if let Some(activity) = &this.activity {
                activity.received();
            }
        }
        this.read_line(buf, start);
        this.follow_received(buf, start);
        if this.breach() == Some(Breach::Malformed) && buf.filled().len() == start {
            return this.poll_end(cx);
        }
        // An end comes again, and so does an error, at least as an end.
        if ahead > 0 { Poll::Ready(Ok(())) } else { polled }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.gives_way(cx) {
            return Poll::Pending;
        }
        let polled = match &mut this.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Transport::Tls(socket) => Pin::new(socket.as_mut()).poll_write(cx, buf),
        };
        this.sent(polled, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.gives_way(cx) {
            return Poll::Pending;
        }
        let mut scratch = [const { MaybeUninit::uninit() }; SMALL];
        let mut scratch = ReadBuf::uninit(&mut scratch);
        let polled = match (&mut this.transport, joined(bufs, &mut scratch)) {
            (Transport::Plain(socket), None) => Pin::new(socket).poll_write_vectored(cx, bufs),
            (Transport::Plain(socket), Some(all)) => Pin::new(socket).poll_write(cx, all),
            (Transport::Tls(socket), None) => Pin::new(socket.as_mut()).poll_write_vectored(cx, bufs),
            (Transport::Tls(socket), Some(all)) => Pin::new(socket.as_mut()).poll_write(cx, all),
        };
        this.sent(polled, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(socket) => socket.is_write_vectored(),
            Transport::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.transport {
            // Has nothing to flush, so this says nothing of the client.
            Transport::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Transport::Tls(socket) => {
                let polled = Pin::new(socket.as_mut()).poll_flush(cx);
                this.report(&polled, 0);
                polled
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_end(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use socket2::SockRef;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::super::activity::Waiting;
    use super::*;

    /// A TLS connection, as the client and the gateway see it. Little fits into the system's buffer.
    async fn over_tls() -> (tokio_rustls::client::TlsStream<TcpStream>, TlsStream<Counted<TcpStream>>) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            );
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (socket, accepted) = tokio::join!(connecting, listener.accept());
        let accepted = accepted.unwrap().0;
        SockRef::from(&accepted).set_send_buffer_size(8 << 10).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let (client, server) = tokio::join!(
            TlsConnector::from(Arc::new(client)).connect(name, socket.unwrap()),
            TlsAcceptor::from(Arc::new(server.unwrap())).accept(Counted::new(accepted)),
        );
        (client.unwrap(), server.unwrap())
    }

    #[tokio::test]
    async fn what_leaves_tls_while_it_is_flushed_was_taken() {
        let (client, server) = over_tls().await;
        let (mut stream, _gone) = Stream::new(Transport::Tls(Box::new(server)));
        let activity = Arc::new(Activity::new(false, 1));
        stream.report_to(Arc::clone(&activity));
        let since = || match activity.waiting() {
            Waiting::Reader(since) => Some(since),
            Waiting::Header(_) | Waiting::Next(_) | Waiting::Requests => None,
        };
        while since().is_none() {
            let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, &[0; 16 << 10]))).await;
        }
        let before = since().unwrap();
        // Times are told in milliseconds.
        tokio::time::sleep_until(before + Duration::from_millis(5)).await;
        let (mut raw, _) = client.into_inner();
        let mut piece = [0; 4 << 10];
        poll_fn(|cx| {
            loop {
                let flushed = Pin::new(&mut stream).poll_flush(cx);
                assert!(flushed.is_pending(), "all of it left, and the wait was for as long as before");
                if since() != Some(before) {
                    return Poll::Ready(());
                }
                ready!(Pin::new(&mut raw).poll_read(cx, &mut ReadBuf::new(&mut piece))).unwrap();
            }
        })
        .await;
        assert!(since().is_some_and(|since| since > before));
    }

    #[tokio::test]
    async fn an_answer_gives_way_once_however_much_its_client_sends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(connecting, listener.accept());
        let (mut client, (mut stream, _gone)) =
            (client.unwrap(), Stream::new(Transport::Plain(accepted.unwrap().0)));
        for answer in 0..3 {
            let (mut gave_way, mut upload) = (0, [0; 4]);
            // Between any two attempts to send the answer there is more of the upload.
            while {
                client.write_all(b"more").await.unwrap();
                stream.read_exact(&mut upload).await.unwrap();
                poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, b"answer").is_pending())).await
            } {
                gave_way += 1;
                assert!(gave_way < 2, "answer {answer} waits for the client to stop");
            }
            assert_eq!(gave_way, 1, "what came before answer {answer} lets other tasks go first");
        }
    }
}
