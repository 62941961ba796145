//! A recording upstream: raw sockets, a strict parser, scripted answers.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};

use super::http1::{Fields, Framing, Head, Piece, Reader};
use super::soon;

/// A request as the upstream saw it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// The request target as it was sent.
    pub target: String,
    /// The header fields.
    pub fields: Fields,
    /// How its body was framed.
    pub framing: Framing,
    /// The body as far as it came, with its framing taken off.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Fields,
    /// Whether it came to its end.
    pub complete: bool,
    /// The number of the connection it came on, from 0.
    pub connection: usize,
}

impl Recorded {
    /// The value of the only header field with this name.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }
}

/// What the upstream does with a request. Unless said otherwise, once the whole request is there.
pub enum Reply {
    /// Sends these bytes and keeps the connection.
    Bytes(Vec<u8>),
    /// Sends these bytes and closes the connection; none: closes without an answer.
    BytesThenClose(Vec<u8>),
    /// Sends what comes through the channel, and closes the connection when that ends.
    Stream(mpsc::UnboundedReceiver<Vec<u8>>),
    /// Keeps the connection and says nothing.
    Never,
    /// Waits for the sign first.
    When(Arc<Notify>, Box<Reply>),
    /// Answers before it reads the body.
    Early(Box<Reply>),
    /// Closes the connection as soon as the head is there.
    CloseEarly,
    /// Sends `100 Continue` before it reads the body.
    Continue(Box<Reply>),
    /// Answers 200 at once and sends each piece of the body back as it comes, trailers too; it announces the trailer
    /// field `X-Sum`.
    Echo,
    /// Switches to the protocol that was asked for and sends every byte back.
    Upgrade,
}

impl Reply {
    /// An answer with this status, these header fields (lines that end with `\r\n`) and this body.
    pub fn with(status: u16, fields: &str, body: &str) -> Self {
        let length = body.len();
        Self::Bytes(
            format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{fields}\r\n{body}").into_bytes(),
        )
    }
}

/// `200 OK` with a text.
pub fn ok(body: &str) -> Reply {
    Reply::with(200, "Content-Type: text/plain\r\n", body)
}

type Script = Arc<dyn Fn(&Recorded) -> Reply + Send + Sync>;

/// A running upstream; every connection ends when it is dropped.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    script: Mutex<Script>,
    requests: Mutex<Vec<Recorded>>,
    bytes: Mutex<Vec<Vec<u8>>>,
    faults: Mutex<Vec<String>>,
    open: AtomicUsize,
    changed: watch::Sender<()>,
}

impl Shared {
    fn update<T>(&self, change: impl FnOnce(&mut Vec<Recorded>) -> T) -> T {
        let result = change(&mut self.requests.lock().unwrap());
        self.changed.send_replace(());
        result
    }
}

impl Upstream {
    /// Starts on a free port.
    pub async fn start(script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    /// The same at an address of the test's choice.
    pub fn on(listener: TcpListener, script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            requests: Mutex::default(),
            bytes: Mutex::default(),
            faults: Mutex::default(),
            open: AtomicUsize::new(0),
            changed: watch::Sender::new(()),
        });
        let state = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connection(Arc::clone(&state), stream));
            }
        });
        Self { address, shared, task }
    }

    /// Changes what it does with requests from now on.
    pub fn answers(&self, script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, in the order of their heads.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The only request so far.
    #[track_caller]
    pub fn request(&self) -> Recorded {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests.into_iter().next().unwrap()
    }

    /// The last request so far.
    #[track_caller]
    pub fn last(&self) -> Recorded {
        self.requests().pop().expect("no request reached the upstream")
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.update(Vec::clear);
    }

    /// Every byte that each connection received, of the connections that have ended or are between two requests.
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        self.shared.bytes.lock().unwrap().clone()
    }

    /// The same, of which the next call gives only what has come since.
    pub fn take_bytes(&self) -> Vec<Vec<u8>> {
        self.shared.bytes.lock().unwrap().iter_mut().map(std::mem::take).collect()
    }

    /// How many connections were ever made.
    pub fn connections(&self) -> usize {
        self.shared.bytes.lock().unwrap().len()
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// What a strict reader had to refuse.
    pub fn faults(&self) -> Vec<String> {
        self.shared.faults.lock().unwrap().clone()
    }

    /// Waits until the requests so far, or the connections, are as wanted.
    pub async fn wait(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let mut changes = self.shared.changed.subscribe();
        soon(what, async {
            while !wanted(self) {
                changes.changed().await.unwrap();
            }
        })
        .await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
        let faults = self.faults();
        assert!(
            std::thread::panicking() || faults.is_empty(),
            "what reached the upstream broke HTTP's rules: {faults:?}"
        );
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let number = {
        let mut bytes = shared.bytes.lock().unwrap();
        bytes.push(Vec::new());
        bytes.len() - 1
    };
    shared.open.fetch_add(1, Ordering::SeqCst);
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    let mut served = Connection { shared: Arc::clone(&shared), number, reader: Reader::new(read), write };
    let result = served.run().await;
    served.keep_bytes();
    drop(served);
    if let Err(error) = result
        && error.kind() == io::ErrorKind::InvalidData
        // A body that breaks off is how a proxy tells that its client went away.
        && !error.to_string().contains("breaks off")
    {
        shared.faults.lock().unwrap().push(error.to_string());
    }
    shared.open.fetch_sub(1, Ordering::SeqCst);
    shared.changed.send_replace(());
}

struct Connection {
    shared: Arc<Shared>,
    number: usize,
    reader: Reader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

/// Whether a connection goes on.
#[derive(PartialEq)]
enum Then {
    Keep,
    Close,
}

impl Connection {
    async fn run(&mut self) -> io::Result<()> {
        while let Some(head) = self.reader.head().await? {
            let (index, request) = self.record(&head)?;
            let script = Arc::clone(&*self.shared.script.lock().unwrap());
            let then = self.serve(index, request.framing, script(&request)).await?;
            self.keep_bytes();
            if then == Then::Close {
                return Ok(());
            }
        }
        Ok(())
    }

    fn keep_bytes(&mut self) {
        self.shared.bytes.lock().unwrap()[self.number].append(&mut self.reader.seen);
    }

    fn record(&self, head: &Head) -> io::Result<(usize, Recorded)> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("request line {:?}", head.start));
        let mut parts = head.start.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1"), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let request = Recorded {
            method: method.to_owned(),
            target: target.to_owned(),
            fields: head.fields.clone(),
            framing: head.request_framing()?,
            body: Vec::new(),
            trailers: Fields::default(),
            complete: false,
            connection: self.number,
        };
        let index = self.shared.update(|all| {
            all.push(request.clone());
            all.len() - 1
        });
        Ok((index, request))
    }

    async fn serve(&mut self, index: usize, framing: Framing, reply: Reply) -> io::Result<Then> {
        match reply {
            Reply::CloseEarly => Ok(Then::Close),
            Reply::Early(reply) => {
                let then = self.answer(*reply).await?;
                self.read_body(index, framing, false).await?;
                Ok(then)
            }
            Reply::Continue(reply) => {
                self.write.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                self.read_body(index, framing, false).await?;
                self.answer(*reply).await
            }
            Reply::Echo => {
                self.write
                    .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
                    .await?;
                self.read_body(index, framing, true).await?;
                Ok(Then::Keep)
            }
            Reply::Upgrade => {
                let protocol = self.shared.requests.lock().unwrap()[index]
                    .fields
                    .get("upgrade")
                    .unwrap_or("none")
                    .to_owned();
                let head = format!("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
                self.write.write_all(head.as_bytes()).await?;
                loop {
                    let bytes = self.reader.raw().await?;
                    if bytes.is_empty() {
                        return Ok(Then::Close);
                    }
                    self.write.write_all(&bytes).await?;
                }
            }
            other => {
                self.read_body(index, framing, false).await?;
                self.answer(other).await
            }
        }
    }

    async fn read_body(&mut self, index: usize, framing: Framing, echo: bool) -> io::Result<()> {
        let mut state = Piece::default();
        while let Some(piece) = self.reader.piece(framing, &mut state).await? {
            let recorded = |all: &mut Vec<Recorded>| {
                if let Some(request) = all.get_mut(index) {
                    request.body.extend_from_slice(&piece);
                }
            };
            self.shared.update(recorded);
            if echo {
                let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
                self.write.write_all(&chunk).await?;
            }
        }
        if echo {
            let trailers: String = state.trailers.0.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
            self.write.write_all(format!("0\r\n{trailers}\r\n").as_bytes()).await?;
        }
        self.shared.update(|all| {
            if let Some(request) = all.get_mut(index) {
                request.trailers = state.trailers;
                request.complete = true;
            }
        });
        Ok(())
    }

    async fn answer(&mut self, mut reply: Reply) -> io::Result<Then> {
        // Whoever gets the answer may ask for the bytes at once.
        self.keep_bytes();
        loop {
            match reply {
                Reply::Bytes(bytes) => {
                    self.write.write_all(&bytes).await?;
                    return Ok(Then::Keep);
                }
                Reply::BytesThenClose(bytes) => {
                    self.write.write_all(&bytes).await?;
                    return Ok(Then::Close);
                }
                Reply::Stream(mut pieces) => {
                    while let Some(piece) = pieces.recv().await {
                        self.write.write_all(&piece).await?;
                    }
                    return Ok(Then::Close);
                }
                Reply::Never => {
                    // Until the peer has had enough.
                    while !self.reader.raw().await?.is_empty() {}
                    return Ok(Then::Close);
                }
                Reply::When(sign, then) => {
                    sign.notified().await;
                    reply = *then;
                }
                Reply::Early(_) | Reply::Continue(_) | Reply::Echo | Reply::Upgrade | Reply::CloseEarly => {
                    panic!("this reply cannot stand within another");
                }
            }
        }
    }
}
