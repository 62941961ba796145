//! A scripted server for the tests of what is fetched.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Uri;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the server does with a request.
pub(crate) enum Reply {
    /// Sends these bytes and closes.
    Bytes(Vec<u8>),
    /// Sends a head, then one byte at a time, for ever.
    Drip,
    /// Sends a head, then chunks, for ever.
    Endless,
    /// Says nothing and keeps the connection.
    Silence,
}

impl Reply {
    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::status("200 OK", "", body)
    }

    /// `fields` are whole lines.
    pub(crate) fn status(status: &str, fields: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{fields}\r\n", body.len());
        Self::Bytes([head.as_bytes(), body].concat())
    }

    pub(crate) fn redirect(location: &str) -> Self {
        Self::status("302 Found", &format!("location: {location}\r\n"), "")
    }
}

/// A server on a loopback port. It ends with the test's runtime.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    heads: Arc<Mutex<Vec<String>>>,
}

type Script = dyn Fn(&str) -> Reply + Send + Sync;

impl Server {
    /// A plain HTTP server that answers by path.
    pub(crate) async fn start(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::with_tls(None, script).await
    }

    pub(crate) async fn with_tls(
        tls: Option<TlsAcceptor>,
        script: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            scheme: if tls.is_some() { "https" } else { "http" },
            heads: Arc::default(),
        };
        let (heads, script) = (Arc::clone(&server.heads), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, heads, script) = (tls.clone(), Arc::clone(&heads), Arc::clone(&script));
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, &heads, &*script).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => answer(stream, &heads, &*script).await,
                            Err(error) => Err(error),
                        },
                    }
                });
            }
        });
        server
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// How many requests came for this path.
    pub(crate) fn count(&self, path: &str) -> usize {
        let line = format!("GET {path} HTTP/1.1\r\n");
        self.heads().iter().filter(|head| head.starts_with(&line)).count()
    }

    pub(crate) fn origin(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.address.port())
    }

    pub(crate) fn uri(&self, path: &str) -> Uri {
        format!("{}{path}", self.origin()).parse().unwrap()
    }
}

async fn answer<S>(mut stream: S, heads: &Mutex<Vec<String>>, script: &Script) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    heads.lock().unwrap().push(head);
    match script(&path) {
        Reply::Bytes(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await
        }
        Reply::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await?;
            loop {
                stream.write_all(b" ").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            loop {
                stream.write_all(chunk.as_bytes()).await?;
            }
        }
        Reply::Silence => {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.map(drop)
        }
    }
}
