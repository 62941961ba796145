//! Upstreams that follow a script, connection by connection.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A whole answer that allows another request.
pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An upstream; every connection ends when it is dropped.
pub(super) struct Scripted {
    address: SocketAddr,
    seen: Arc<Seen>,
    task: tokio::task::JoinHandle<()>,
}

/// What came.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    targets: Mutex<Vec<String>>,
}

/// One request, as far as a script needs to know it.
pub(super) struct Asked {
    /// The method.
    pub(super) method: String,
    /// The target.
    pub(super) target: String,
    /// The header section in lower case.
    pub(super) head: String,
}

/// One connection.
pub(super) struct Wire {
    /// Its number, from 0.
    pub(super) number: usize,
    stream: TcpStream,
    read: Vec<u8>,
    seen: Arc<Seen>,
}

impl Scripted {
    /// Starts on a free port; `script` is run for each connection.
    pub(super) async fn start<F>(script: impl Fn(Wire) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                shared.open.fetch_add(1, Ordering::SeqCst);
                let wire = Wire { number, stream, read: Vec::new(), seen: Arc::clone(&shared) };
                connections.spawn(script(wire));
            }
        });
        Self { address, seen, task }
    }

    /// Answers each request with these bytes, and keeps the connection.
    pub(super) async fn saying(bytes: &str) -> Self {
        let bytes = Arc::<str>::from(bytes);
        Self::start(move |mut wire| {
            let bytes = Arc::clone(&bytes);
            async move {
                while wire.request().await.is_some() {
                    wire.send(&*bytes).await;
                }
            }
        })
        .await
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made.
    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How many connections the script still holds.
    pub(super) fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    /// Method and target of each request that was read, in their order.
    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.targets.lock().unwrap().clone()
    }

    /// How many requests were read.
    pub(super) fn count(&self) -> usize {
        self.seen.targets.lock().unwrap().len()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.seen.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Wire {
    /// Reads the head of the next request; `None` if the gateway closes or resets instead.
    pub(super) async fn head(&mut self) -> Option<Asked> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let mut line = head.lines().next().unwrap().split(' ').map(str::to_owned);
        let (method, target) = (line.next().unwrap(), line.next().unwrap());
        self.seen.targets.lock().unwrap().push(format!("{method} {target}"));
        Some(Asked { method, target, head: head.to_ascii_lowercase() })
    }

    /// Reads the next request to its end, if it has no body or one of known length.
    pub(super) async fn request(&mut self) -> Option<Asked> {
        let asked = self.head().await?;
        let length = asked.head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        self.read.drain(..length);
        Some(asked)
    }

    async fn fill(&mut self) -> bool {
        self.stream.read_buf(&mut self.read).await.is_ok_and(|count| count > 0)
    }

    /// Reads and forgets until the gateway closes or resets. Gives how many bytes came.
    pub(super) async fn drain(&mut self) -> usize {
        let mut count = self.read.len();
        self.read.clear();
        while self.fill().await {
            count += self.read.len();
            self.read.clear();
        }
        count
    }

    /// Sends bytes, as far as the gateway takes them. Whether it took all.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends bytes one by one, each in a packet of its own.
    pub(super) async fn drip(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            if !self.send([*byte]).await {
                return;
            }
            // The gateway gets a turn for each.
            tokio::task::yield_now().await;
        }
    }

    /// Ends the sending direction: FIN.
    pub(super) async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Ends the connection at once: RST, whatever was sent before.
    pub(super) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Whether something came that was not read.
    pub(super) fn has_unread(&self) -> bool {
        let mut byte = [0];
        !self.read.is_empty() || self.stream.try_read(&mut byte).is_ok_and(|count| count > 0)
    }

    /// The socket.
    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}
