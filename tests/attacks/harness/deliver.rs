//! Sends bytes on a raw socket in one of several ways, and reads all that comes back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{PATIENCE, Reader, Response};

/// How the bytes are cut into writes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Not at all.
    Whole,
    /// After each byte.
    ByteByByte,
    /// Once, before the byte at this offset.
    SplitAt(usize),
}

/// Bytes and how to send them.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// The bytes of the row.
    pub(super) bytes: Vec<u8>,
    /// What follows them at once.
    pub(super) next: Vec<u8>,
    /// Whether the sending direction ends then.
    pub(super) ends: bool,
    /// How the bytes are cut.
    pub(super) way: Way,
}

impl Delivery {
    /// These bytes in one write.
    pub(super) fn whole(bytes: Vec<u8>) -> Self {
        Self { bytes, next: Vec::new(), ends: false, way: Way::Whole }
    }

    /// For messages.
    pub(super) fn name(&self) -> String {
        format!("{:?}", self.way)
    }
}

/// What came back on one connection.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// All bytes.
    raw: Vec<u8>,
    /// The answers, or how the bytes break HTTP's rules.
    pub(super) answers: Result<Vec<Response>, String>,
    /// Whether the gateway did not close in time.
    pub(super) hangs: bool,
}

impl Outcome {
    /// The bytes as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }
}

/// Between two writes. What is sent apart is then mostly read apart; no outcome depends on it.
const PAUSE: Duration = Duration::from_millis(1);

/// Sends and reads at the same time, until the gateway closes or resets the connection.
pub(super) async fn deliver(address: SocketAddr, delivery: &Delivery) -> Outcome {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut read, mut write) = stream.into_split();
    let mut raw = Vec::new();
    let sending = async {
        // An error means that the gateway has closed: what it said before is judged.
        let _ = send(&mut write, delivery).await;
    };
    let reading = async {
        let mut buffer = vec![0; 8 * 1024];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            raw.extend_from_slice(&buffer[..count]);
        }
    };
    let hangs = tokio::time::timeout(PATIENCE, async { tokio::join!(sending, reading) }).await.is_err();
    let head_request = delivery.bytes.starts_with(b"HEAD ");
    // An answer to HTTP/1.0 may have the version of its request; the reader knows one version only.
    let answers = match raw.strip_prefix(b"HTTP/1.0 ") {
        Some(rest) => parse(&[b"HTTP/1.1 ", rest].concat(), head_request).await,
        None => parse(&raw, head_request).await,
    };
    Outcome { raw, answers, hangs }
}

async fn send(write: &mut (impl AsyncWriteExt + Unpin), delivery: &Delivery) -> std::io::Result<()> {
    let Delivery { bytes, next, ends, way } = delivery;
    match way {
        Way::Whole => write.write_all(&[bytes, next.as_slice()].concat()).await?,
        Way::SplitAt(at) => {
            write.write_all(&bytes[..*at]).await?;
            tokio::time::sleep(PAUSE).await;
            write.write_all(&[&bytes[*at..], next.as_slice()].concat()).await?;
        }
        Way::ByteByByte => {
            for byte in bytes {
                write.write_all(&[*byte]).await?;
                tokio::task::yield_now().await;
            }
            write.write_all(next.as_slice()).await?;
        }
    }
    if *ends {
        write.shutdown().await?;
    }
    Ok(())
}

/// Reads all answers strictly; what is left over is an error.
async fn parse(raw: &[u8], head_request: bool) -> Result<Vec<Response>, String> {
    let mut reader = Reader::new(raw);
    let mut answers = Vec::new();
    loop {
        let method = if head_request && answers.is_empty() { "HEAD" } else { "GET" };
        match reader.response(method).await {
            Ok(Some(answer)) => answers.push(answer),
            Ok(None) => return Ok(answers),
            Err(error) => return Err(format!("an invalid answer: {error}")),
        }
    }
}
