//! Clients that break the rules: whatever they do, nothing of theirs is forwarded that was not permitted.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::soon;
use crate::world::World;

/// What is done once the bytes are sent.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Reads until the gateway closes, which it must, and never with a 200.
    Read,
    /// Ends the sending direction, then reads.
    Finish,
    /// Resets the connection.
    Reset,
    /// Reads a little of a long answer and goes away.
    Leave,
}

const HOST: &str = "Host: api.example.com\r\nConnection: close\r\n";

/// Text in which `$H` is the host and `$T` a good token.
const ROWS: [(&str, Then); 22] = [
    ("GET /orders/smuggled HTTP/1.1\r\n\r\n", Then::Read),
    ("GET /orders/smuggled HTTP/1.1\r\n$H$H$T\r\n", Then::Read),
    ("GET /orders/smuggled#/status HTTP/1.1\r\n$H\r\n", Then::Read),
    ("GET /orders/../smuggled HTTP/1.1\r\n$H$T\r\n", Then::Read),
    ("GET /orders/smuggled HTTP/1.1\r\n$H$T$T\r\n", Then::Read),
    ("POST /status HTTP/1.1\r\n$HContent-Length: 5, 6\r\n\r\nhello", Then::Read),
    ("POST /status HTTP/1.1\r\n$HContent-Length: +5\r\n\r\nhello", Then::Read),
    ("POST /status HTTP/1.1\r\n$HTransfer-Encoding: gzip\r\n\r\nhello", Then::Read),
    (
        "POST /orders/1 HTTP/1.1\r\n$HTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        Then::Read,
    ),
    (
        "POST /orders/1 HTTP/1.1\r\n$HContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /orders/smuggled HTTP/1.1\r\n$H$T\r\n",
        Then::Read,
    ),
    ("CONNECT api.example.com:443 HTTP/1.1\r\n$H\r\n", Then::Read),
    ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0", Then::Read),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnothing that is a frame", Then::Read),
    ("GET /orders/1 HTT", Then::Read),
    ("GET /orders/1 HTTP/1.1\r\n$HX: ", Then::Finish),
    ("POST /orders/1 HTTP/1.1\r\n$H$TContent-Length: 100\r\n\r\nhalf of it", Then::Finish),
    ("POST /orders/1 HTTP/1.1\r\n$H$TContent-Length: 100\r\n\r\nhalf of it", Then::Read),
    ("POST /orders/1 HTTP/1.1\r\n$H$TTransfer-Encoding: chunked\r\n\r\n5\nhello", Then::Read),
    ("POST /orders/1 HTTP/1.1\r\n$H$TContent-Length: 100\r\n\r\nhalf of it", Then::Reset),
    ("GET /orders/1 HTTP/1.1\r\n$H$T\r\n", Then::Reset),
    ("GET /orders/download/800000 HTTP/1.1\r\n$H$T\r\n", Then::Leave),
    ("GET /orders/download/800000 HTTP/1.1\r\n$H$T\r\n", Then::Reset),
];

/// Goes through the rows again and again.
pub(crate) async fn rows(world: Arc<World>) {
    for (turn, (text, then)) in ROWS.iter().cycle().enumerate() {
        if !world.pause(Duration::from_millis(10)).await {
            return;
        }
        let token = format!("Authorization: Bearer {}\r\n", world.tokens.read().await.mint());
        let bytes = text.replace("$H", HOST).replace("$T", &token);
        // Every other time letter by letter, as far as that goes.
        let slowly = turn / ROWS.len() % 2 == 1;
        let secure = turn / ROWS.len() % 3 == 2;
        let address = if secure { world.gateway.https() } else { world.gateway.address() };
        let answer = row(TcpStream::connect(address).await.expect("it accepts"), &bytes, slowly, *then).await;
        let answer = String::from_utf8_lossy(&answer);
        world.count("hostile rows");
        if matches!(then, Then::Read | Then::Finish) && answer.contains("HTTP/1.1 200") {
            world.fault(format!("{text:?} was answered {answer:?}"));
        }
    }
}

/// Sends the bytes and gives what came back.
async fn row(mut stream: TcpStream, bytes: &str, slowly: bool, then: Then) -> Vec<u8> {
    let _ = stream.set_nodelay(true);
    // An error tells that the gateway has had enough.
    if slowly {
        for byte in bytes.as_bytes() {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    } else {
        let _ = stream.write_all(bytes.as_bytes()).await;
    }
    let mut answer = Vec::new();
    match then {
        Then::Reset => {
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        Then::Leave => {
            let mut little = [0; 1_000];
            let _ = soon("a little of an answer", stream.read(&mut little)).await;
        }
        Then::Finish | Then::Read => {
            if matches!(then, Then::Finish) {
                let _ = stream.shutdown().await;
            }
            let _ = soon("the gateway closes", stream.read_to_end(&mut answer)).await;
        }
    }
    answer
}
