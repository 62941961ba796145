//! HTTP/2 frame by frame (RFC 9113 §4, §6), for clients that do not behave.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
/// The error code of a stream that is not wanted any more.
pub const CANCEL: u32 = 8;
/// The error code of a stream that nobody looked at.
pub const REFUSED_STREAM: u32 = 7;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection in plain text whose streams begin with this window.
pub async fn connect(address: SocketAddr, window: u32) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let initial_window_size = [&[0, 4], &window.to_be_bytes()[..]].concat();
    stream.write_all(&frame(SETTINGS, 0, 0, &initial_window_size)).await.unwrap();
    stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.unwrap();
    stream
}

/// A GET without a token, in literals of HPACK (RFC 7541 §6.2.2) but for method and scheme.
pub fn get(path: &str, stream: u32) -> Vec<u8> {
    let literal =
        |index: u8, text: &str| [&[index, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let block = [vec![0x82, 0x86], literal(0x04, path), literal(0x01, "api.example.com")].concat();
    frame(HEADERS, 0b101, stream, &block)
}

/// The next frame: type, stream and payload.
pub async fn next(stream: &mut TcpStream) -> (u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    soon("a frame", stream.read_exact(&mut head)).await.unwrap();
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    soon("its payload", stream.read_exact(&mut payload)).await.unwrap();
    (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
}
