//! Clients that say exactly what a test tells them to.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http1::{Reader, Response};
use super::{AUDIENCE, soon};

/// A connection of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A keep-alive connection that sends bytes as they are and reads answers strictly.
pub struct Client {
    reader: Reader<Box<dyn Stream>>,
}

impl Client {
    /// Connects in plain text.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// Speaks over this stream.
    pub fn over(stream: impl Stream + 'static) -> Self {
        Self { reader: Reader::new(Box::new(stream)) }
    }

    /// Sends bytes as they are. An error of the connection shows when an answer is awaited.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let stream = self.reader.stream_mut();
        if stream.write_all(bytes.as_ref()).await.is_ok() {
            let _ = stream.flush().await;
        }
    }

    /// Ends the sending direction.
    pub async fn finish(&mut self) {
        let _ = self.reader.stream_mut().shutdown().await;
    }

    /// The whole answer to a GET or POST; panics if the peer closes instead.
    pub async fn response(&mut self) -> Response {
        self.response_to("GET").await.expect("the gateway closed instead of answering")
    }

    /// The whole answer to a request with this method; `None` if the peer closes or resets instead.
    pub async fn response_to(&mut self, method: &str) -> Option<Response> {
        match soon("an answer", self.reader.response(method)).await {
            Ok(response) => response,
            // A TLS alert has the same kind as a malformed answer, but it is a way to close.
            Err(error)
                if error.kind() == std::io::ErrorKind::InvalidData
                    && !error.to_string().contains("alert") =>
            {
                panic!("invalid answer: {error}")
            }
            Err(_) => None,
        }
    }

    /// The status of an answer that never ends, once its head is here.
    pub async fn status(&mut self) -> u16 {
        let head = soon("a head", self.reader.head()).await.unwrap();
        head.expect("the gateway closed instead of answering").status().unwrap()
    }

    /// Whatever bytes come next, framing and all; empty once the peer has closed.
    pub async fn raw(&mut self) -> Vec<u8> {
        soon("more bytes", self.reader.raw()).await.unwrap_or_default()
    }

    /// Waits for bytes without taking them; `false` once the peer has closed. May be given up and asked for again.
    pub async fn peek(&mut self) -> bool {
        self.reader.peek().await.unwrap_or(false)
    }

    /// Reads until this text has come, framing and all, and gives everything since the last call.
    pub async fn until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let more = self.raw().await;
            assert!(!more.is_empty(), "closed before {text:?}: {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&more);
            let so_far = String::from_utf8_lossy(&seen);
            if so_far.contains(text) {
                return so_far.into_owned();
            }
        }
    }

    /// Whether the peer closes now, without another byte.
    pub async fn closes(&mut self) -> bool {
        self.raw().await.is_empty()
    }
}

/// One request, said shortly. `Host` is that of the default routes unless set; nothing else is added unasked but
/// `Content-Length` for a body.
#[derive(Clone, Debug)]
pub struct Call {
    address: SocketAddr,
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Call {
    /// A request of this method for this target.
    pub fn new(address: SocketAddr, method: &str, target: &str) -> Self {
        let host = AUDIENCE.trim_start_matches("https://").to_owned();
        Self {
            address,
            method: method.to_owned(),
            target: target.to_owned(),
            fields: vec![("Host".to_owned(), host)],
            body: None,
        }
    }

    /// Where it is sent.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// With this bearer token.
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// With one more header field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Which asks to go on as a WebSocket (RFC 6455 §4.1).
    pub fn upgrade(self) -> Self {
        self.header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    /// With this Host.
    pub fn host(mut self, host: &str) -> Self {
        self.fields[0].1 = host.to_owned();
        self
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        self.fields.push(("Content-Length".to_owned(), body.len().to_string()));
        self.body = Some(body);
        self
    }

    /// The request as it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.fields {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends it on a connection of its own; panics if the peer closes instead of answering.
    pub async fn send(&self) -> Response {
        self.try_send().await.expect("the gateway closed instead of answering")
    }

    /// Sends it on a connection of its own; `None` if the peer closes instead of answering.
    pub async fn try_send(&self) -> Option<Response> {
        let mut client = Client::connect(self.address).await;
        self.on(&mut client).await
    }

    /// Sends it on this connection.
    pub async fn on(&self, client: &mut Client) -> Option<Response> {
        client.send(self.bytes()).await;
        client.response_to(&self.method).await
    }
}
