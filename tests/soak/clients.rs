//! Clients that keep to the rules: what they may have, they get whole; what not, they are refused with its reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::{body_of, sum};
use crate::support::tls::Connect;
use crate::support::{Alg, TokenBuilder, soon};
use crate::world::World;

/// What a client waits between two requests.
const THINKING: Duration = Duration::from_millis(3);

/// One client that is permitted what it asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Keeps a connection in plain text.
    Plain,
    /// Closes after each request.
    Short,
    /// Keeps a connection over TLS.
    Secure,
    /// Keeps a connection in HTTP/2.
    Multiplexed,
    /// Sends a token that was never seen.
    Fresh,
    /// Sends large bodies, with and without a length.
    Upload,
    /// The same in HTTP/2.
    MultiplexedUpload,
    /// Gets large bodies.
    Download,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Plain,
        Self::Short,
        Self::Secure,
        Self::Multiplexed,
        Self::Fresh,
        Self::Upload,
        Self::MultiplexedUpload,
        Self::Download,
    ];

    const fn is_secure(self) -> bool {
        matches!(self, Self::Secure | Self::Multiplexed | Self::MultiplexedUpload)
    }

    const fn is_multiplexed(self) -> bool {
        matches!(self, Self::Multiplexed | Self::MultiplexedUpload)
    }
}

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A connection to the gateway.
enum Line {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Line {
    async fn open(world: &World, kind: Kind) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("connecting: {error}");
        let stream: Box<dyn Stream> = if kind.is_secure() {
            let alpn: &[&str] = if kind.is_multiplexed() { &["h2"] } else { &["http/1.1"] };
            let authority = &world.authority;
            let connect = Connect { authority, name: "api.example.com", alpn, client: None };
            Box::new(connect.to(world.gateway.https()).await.map_err(|error| failed(&error))?)
        } else {
            Box::new(TcpStream::connect(world.gateway.address()).await.map_err(|error| failed(&error))?)
        };
        let io = TokioIo::new(stream);
        if kind.is_multiplexed() {
            let made = http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = made.map_err(|error| failed(&error))?;
            tokio::spawn(connection);
            return Ok(Self::Http2(sender));
        }
        let (sender, connection) = http1::handshake(io).await.map_err(|error| failed(&error))?;
        tokio::spawn(connection);
        Ok(Self::Http1(sender))
    }

    /// Whether it can take another request.
    async fn is_ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn ask(&mut self, request: Request<Body>) -> Result<Answer, String> {
        let failed = |error: hyper::Error| format!("broke off: {error:?}");
        let sent = async {
            match self {
                Self::Http1(sender) => sender.send_request(request).await,
                Self::Http2(sender) => sender.send_request(request).await,
            }
        };
        let (parts, body) = soon("an answer", sent).await.map_err(failed)?.into_parts();
        let body = soon("the end of an answer", body.collect()).await.map_err(failed)?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

fn nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("nonce-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Asks again and again until the soak is over.
pub(crate) async fn permitted(world: Arc<World>, kind: Kind) {
    let mut line = None;
    let mut known: Option<((u64, u64), String)> = None;
    let mut turn = 0;
    while world.pause(THINKING).await {
        turn += 1;
        let began = Instant::now();
        let tokens = world.tokens.read().await;
        // A client keeps its token for a while, unless it is to be a new one each time.
        let age = (world.generation(), turn / 200);
        let token = match known.take() {
            Some((of, token)) if of == age && !matches!(kind, Kind::Fresh) => token,
            _ => fresh(&tokens, turn),
        };
        let outcome = exchange(&world, kind, &mut line, turn, &token).await;
        drop(tokens);
        known = Some((age, token));
        match outcome {
            Ok(()) => world.count(&format!("permitted {kind:?}")),
            Err(_) if world.excuses(began) => world.count("excused: the upstream was down"),
            Err(what) => world.fault(format!("{kind:?}: {what}")),
        }
    }
}

fn fresh(tokens: &TokenBuilder, turn: u64) -> String {
    let alg = if turn.is_multiple_of(2) { Alg::Es256 } else { Alg::EdDsa };
    tokens.clone().alg(alg).claim("jti", nonce()).mint()
}

/// One request and its answer.
async fn exchange(
    world: &World,
    kind: Kind,
    line: &mut Option<Line>,
    turn: u64,
    token: &str,
) -> Result<(), String> {
    let nonce = nonce();
    let (method, path, body, streamed) = match kind {
        Kind::Upload | Kind::MultiplexedUpload => {
            (Method::POST, format!("/orders/{nonce}"), body_of(&nonce, 200_000), turn % 2 == 1)
        }
        Kind::Download => (Method::GET, "/orders/download/500000".to_owned(), Bytes::new(), false),
        _ => (Method::GET, format!("/orders/{nonce}?x=%2e"), Bytes::new(), false),
    };
    let expected = match kind {
        Kind::Download => body_of(&nonce, 500_000),
        _ => Bytes::from(format!("{nonce} {}", sum(&body))),
    };
    let mut kept = line.take().filter(|_| !matches!(kind, Kind::Short));
    if let Some(line) = &mut kept
        && !line.is_ready().await
    {
        kept = None;
    }
    let mut current = match kept {
        Some(kept) => kept,
        None => Line::open(world, kind).await?,
    };
    let request = request(kind, method, &path, body, streamed)
        .header("authorization", format!("Bearer {token}"))
        .header("x-nonce", &nonce)
        .header("x-user", "mallory");
    let answer = current.ask(request.done()).await?;
    let told =
        |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if answer.status != StatusCode::OK {
        return Err(format!("{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
    }
    if told("x-nonce") != nonce || told("x-seen-user") != "alice" || answer.body != expected {
        return Err(format!("{path}: the answer to another request: {:?}", answer.headers));
    }
    *line = Some(current);
    Ok(())
}

/// A request in the making.
struct Draft {
    request: http::request::Builder,
    body: Body,
}

impl Draft {
    fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.request = self.request.header(name, value.as_ref());
        self
    }

    fn done(self) -> Request<Body> {
        self.request.body(self.body).unwrap()
    }
}

fn request(kind: Kind, method: Method, path: &str, body: Bytes, streamed: bool) -> Draft {
    let request = Request::builder().method(method);
    let request = if kind.is_multiplexed() {
        request.version(Version::HTTP_2).uri(format!("https://api.example.com{path}"))
    } else {
        request.uri(path).header("host", "api.example.com")
    };
    let body = if streamed {
        let pieces: Vec<_> =
            body.chunks(7_000).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        StreamBody::new(stream::iter(pieces)).boxed_unsync()
    } else {
        Full::new(body).boxed_unsync()
    };
    Draft { request, body }
}

/// What is refused, and how.
const REFUSALS: [(&str, &str, &str, &str); 11] = [
    ("GET", "/orders/1", "none", "401 credential_missing"),
    ("GET", "/orders/1", "expired", "401 token_expired"),
    ("GET", "/orders/1", "forged", "401 signature_invalid"),
    ("GET", "/orders/1", "audience", "401 audience_mismatch"),
    ("GET", "/orders/1", "issuer", "401 issuer_unknown"),
    ("GET", "/orders/1", "opaque", "401 token_opaque"),
    ("GET", "/orders/admin/1", "good", "403 scope_missing"),
    ("GET", "/orders/1", "no scope", "403 scope_missing"),
    ("DELETE", "/orders/1", "good", "405 method_not_allowed"),
    ("GET", "/elsewhere", "good", "404 route_unknown"),
    ("GET", "/orders/%2e%2e/admin", "good", "400 path_ambiguous"),
];

fn credential(tokens: &TokenBuilder, what: &str) -> Option<String> {
    let tokens = tokens.clone();
    Some(match what {
        "none" => return None,
        "expired" => tokens.times(-1_200, -600).mint(),
        "forged" => tokens.mint_with_signature(&[1; 64]),
        "audience" => tokens.claim("aud", "https://other.example.com").mint(),
        "issuer" => tokens.claim("iss", "https://evil.example.com").mint(),
        "opaque" => "0123456789abcdef".to_owned(),
        "no scope" => tokens.scope("orders:write").mint(),
        _ => tokens.mint(),
    })
}

/// Asks for what is refused, in turns.
pub(crate) async fn refused(world: Arc<World>) {
    for (turn, (method, path, what, expected)) in REFUSALS.iter().cycle().enumerate() {
        if !world.pause(THINKING).await {
            return;
        }
        let kind = if turn % 2 == 0 { Kind::Plain } else { Kind::Multiplexed };
        let tokens = world.tokens.read().await;
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut draft = request(kind, method, path, Bytes::new(), false).header("x-smuggled", "1");
        if let Some(token) = credential(&tokens, what) {
            draft = draft.header("authorization", format!("Bearer {token}"));
        }
        let outcome = async { Line::open(&world, kind).await?.ask(draft.done()).await };
        let verdict = match outcome.await {
            Ok(answer) => {
                let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                format!("{} {}", answer.status.as_u16(), problem["reason"].as_str().unwrap_or_default())
            }
            Err(error) => error,
        };
        drop(tokens);
        if verdict == *expected {
            world.count(&format!("refused {expected}"));
        } else {
            world.fault(format!("{path} with a token {what:?}: {verdict} instead of {expected}"));
        }
    }
}

/// Opens tunnels and sends through them.
pub(crate) async fn tunnels(world: Arc<World>) {
    while world.pause(20 * THINKING).await {
        let began = Instant::now();
        let token = world.tokens.read().await.clone().mint();
        match soon("a tunnel", tunnel(&world, &token)).await {
            Ok(()) => world.count("tunnels"),
            Err(_) if world.excuses(began) => world.count("excused: the upstream was down"),
            Err(error) => world.fault(format!("tunnel: {error}")),
        }
    }
}

async fn tunnel(world: &World, token: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(world.gateway.address()).await?;
    let head = format!(
        "GET /orders/tunnel HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {token}\r\n\
         Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: c29ha3NvYWtzb2Frc29haw==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await?);
    }
    if !answer.starts_with(b"HTTP/1.1 101") {
        return Err(std::io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
    }
    for _ in 0..20 {
        let sent = body_of(&nonce(), 1_500);
        stream.write_all(&sent).await?;
        let mut back = vec![0; sent.len()];
        stream.read_exact(&mut back).await?;
        if back != sent {
            return Err(std::io::Error::other("other bytes came back"));
        }
    }
    Ok(())
}
