//! HTTP/2 frames as they are on the wire (RFC 9113, RFC 7541): a writer that says anything, and a reader that is strict.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

use super::client::Stream;
use super::{AUDIENCE, soon};

/// The connection preface.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// Parameters of SETTINGS.
pub const HEADER_TABLE_SIZE: u16 = 1;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// Error codes.
pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame with this payload.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// An integer with a prefix of this many bits (RFC 7541 §5.1); `first` are the bits before it.
pub fn integer(first: u8, prefix: u32, value: usize) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    if value < most {
        return vec![first | u8::try_from(value).unwrap()];
    }
    let (mut bytes, mut rest) = (vec![first | u8::try_from(most).unwrap()], value - most);
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

fn literal(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[first][..], &integer(0, 7, name.len()), name, &integer(0, 7, value.len()), value].concat()
}

/// A field as a literal that no table keeps, without Huffman coding.
pub fn field(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    literal(0, name.as_ref(), value.as_ref())
}

/// A field as a literal that goes into the dynamic table.
pub fn kept_field(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    literal(0x40, name.as_ref(), value.as_ref())
}

/// A field of a table: 62 is the newest of the dynamic one.
pub fn indexed(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

/// HEADERS with a whole header block.
pub fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, block)
}

/// RST_STREAM.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// WINDOW_UPDATE.
pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// SETTINGS with these parameters.
pub fn settings(parameters: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = parameters
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// A header block in the making: a GET of `/orders/1` at the host of the default routes, unless told otherwise.
#[derive(Clone, Debug)]
pub struct Block(pub Vec<(Vec<u8>, Vec<u8>)>);

impl Default for Block {
    fn default() -> Self {
        let host = AUDIENCE.trim_start_matches("https://");
        Self(Vec::new())
            .with(":method", "GET")
            .with(":scheme", "http")
            .with(":authority", host)
            .with(":path", "/orders/1")
    }
}

impl Block {
    /// With one more field at the end.
    pub fn with(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.0.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// With this value of a field that is there, such as `:path`.
    pub fn set(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for (_, old) in self.0.iter_mut().filter(|(other, _)| other == name.as_bytes()) {
            *old = value.as_ref().to_vec();
        }
        self
    }

    /// Without the fields of this name.
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| other != name.as_bytes());
        self
    }

    /// With this bearer token.
    pub fn token(self, token: &str) -> Self {
        self.with("authorization", format!("Bearer {token}"))
    }

    /// The block as it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(name, value)| field(name, value)).collect()
    }

    /// HEADERS with the whole block.
    pub fn on(&self, stream: u32, flags: u8) -> Vec<u8> {
        headers(stream, flags, &self.bytes())
    }
}

/// A GET without a token.
pub fn get(path: &str, stream: u32) -> Vec<u8> {
    Block::default().set(":path", path).on(stream, END_STREAM)
}

/// A received frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it holds.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The four bytes at this place, such as an error code.
    pub fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The value of a parameter of SETTINGS.
    pub fn setting(&self, parameter: u16) -> Option<u32> {
        let at = self.payload.chunks(6).position(|one| one[..2] == parameter.to_be_bytes())?;
        Some(self.number(at * 6 + 2))
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a status and a whole body.
    Answer(u16, Vec<u8>),
    /// With RST_STREAM before the answer was whole.
    Reset(u32),
    /// With the connection, after GOAWAY with this code.
    GoAway(u32),
    /// With the connection, without a word.
    Closed,
}

impl Outcome {
    /// As one word or two: `200`, `403 scope_missing`, `reset 1`, `goaway 11`, `closed`.
    pub fn verdict(&self) -> String {
        match self {
            Self::Answer(status, body) => {
                let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
                match problem.as_ref().and_then(|problem| problem["reason"].as_str()) {
                    Some(reason) => format!("{status} {reason}"),
                    None => status.to_string(),
                }
            }
            Self::Reset(code) => format!("reset {code}"),
            Self::GoAway(code) => format!("goaway {code}"),
            Self::Closed => "closed".to_owned(),
        }
    }
}

/// What is known of a stream of the connection.
#[derive(Debug, Default)]
struct Seen {
    status: Option<u16>,
    body: Vec<u8>,
    ended: bool,
    reset: Option<u32>,
}

/// A client connection. It keeps what it has read of all streams.
pub struct Http2 {
    read: ReadHalf<Box<dyn Stream>>,
    write: WriteHalf<Box<dyn Stream>>,
    buffer: Vec<u8>,
    streams: BTreeMap<u32, Seen>,
    goaway: Option<u32>,
    closed: bool,
    /// Bytes the other side allows to be sent on the whole connection.
    pub window: i64,
    /// Frames that were received, by type.
    pub frames: BTreeMap<u8, usize>,
}

impl Http2 {
    /// Connects in plain text, and agrees on settings.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::with_settings(address, &[]).await
    }

    /// Connects with these settings. The table of the other side's compressor has no room, so that each status is whole.
    pub async fn with_settings(address: SocketAddr, parameters: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        // Frames are sent one by one: none shall wait for the receipt of the one before.
        stream.set_nodelay(true).unwrap();
        let mut client = Self::over(stream);
        client.greet(parameters).await;
        client
    }

    /// Says what must come first: the preface and these settings.
    pub async fn greet(&mut self, parameters: &[(u16, u32)]) {
        let own = settings(&[&[(HEADER_TABLE_SIZE, 0)], parameters].concat());
        // The bodies of all answers have room.
        let room = window_update(0, 1 << 30);
        self.send([PREFACE, &own, &frame(SETTINGS, ACK, 0, &[]), &room].concat()).await;
    }

    /// Speaks over this stream, without having said anything.
    pub fn over(stream: impl Stream + 'static) -> Self {
        let stream: Box<dyn Stream> = Box::new(stream);
        let (read, write) = tokio::io::split(stream);
        Self {
            read,
            write,
            buffer: Vec::new(),
            streams: BTreeMap::new(),
            goaway: None,
            closed: false,
            window: 65_535,
            frames: BTreeMap::new(),
        }
    }

    /// Sends bytes as they are, and reads meanwhile, so that neither side waits for the other. A connection that ends
    /// meanwhile shows when something is awaited.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() && !self.closed {
            let mut chunk = [0; 16 * 1024];
            tokio::select! {
                sent = self.write.write(rest) => match sent {
                    Ok(count) => rest = &rest[count..],
                    // What came before may still tell why.
                    Err(_) => break,
                },
                received = self.read.read(&mut chunk) => self.received(received, &chunk),
            }
        }
        let _ = self.write.flush().await;
    }

    fn received(&mut self, received: std::io::Result<usize>, chunk: &[u8]) {
        match received {
            Ok(count) if count > 0 => self.buffer.extend_from_slice(&chunk[..count]),
            Ok(_) | Err(_) => self.closed = true,
        }
    }

    /// The next frame; `None` once the peer has closed.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                self.check(&frame);
                return Some(frame);
            }
            if self.closed {
                return None;
            }
            let mut chunk = [0; 16 * 1024];
            let received = soon("a frame", self.read.read(&mut chunk)).await;
            self.received(received, &chunk);
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.buffer.get(..9)?.try_into().unwrap();
        let end = 9 + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        assert!(end <= 9 + 16_384, "a frame of {end} bytes");
        let payload = self.buffer.get(9..end)?.to_vec();
        self.buffer.drain(..end);
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Notes a frame; panics at one that no server may send.
    fn check(&mut self, frame: &Frame) {
        *self.frames.entry(frame.kind).or_default() += 1;
        match frame.kind {
            SETTINGS | PING => assert_eq!(frame.stream, 0, "{frame:?}"),
            WINDOW_UPDATE => {
                assert!(frame.number(0) > 0, "{frame:?}");
                if frame.stream == 0 {
                    self.window += i64::from(frame.number(0));
                }
            }
            GOAWAY => self.goaway = Some(frame.number(4)),
            DATA | HEADERS | RST_STREAM => {
                assert_eq!(frame.stream % 2, 1, "a stream of the client's: {frame:?}");
                let seen = self.streams.entry(frame.stream).or_default();
                if frame.kind == RST_STREAM {
                    seen.reset = Some(frame.number(0));
                    return;
                }
                assert!(!seen.ended && seen.reset.is_none(), "behind the end of its stream: {frame:?}");
                seen.ended = frame.flags & END_STREAM != 0;
                if frame.kind == DATA {
                    assert!(seen.status.is_some() && frame.flags & PADDED == 0, "{frame:?}");
                    seen.body.extend_from_slice(&frame.payload);
                } else if seen.status.is_none_or(|status| status < 200) {
                    assert_ne!(frame.flags & END_HEADERS, 0, "a block in pieces: {frame:?}");
                    seen.status = Some(status(&frame.payload));
                }
            }
            other => panic!("no server sends type {other}: {frame:?}"),
        }
    }

    /// Waits for a frame of this type on this stream, on a connection that goes on.
    pub async fn until(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.frame().await.expect("the connection goes on");
            assert!(frame.kind != GOAWAY || kind == GOAWAY, "the connection ends: {frame:?}");
            if (frame.kind, frame.stream) == (kind, stream) {
                return frame;
            }
        }
    }

    /// Waits until this request has ended.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            if let Some(seen) = self.streams.get(&stream) {
                match (seen.status, seen.ended, seen.reset) {
                    (Some(status), true, _) => return Outcome::Answer(status, seen.body.clone()),
                    (_, false, Some(code)) => return Outcome::Reset(code),
                    _ => {}
                }
            }
            if self.frame().await.is_none() {
                return self.goaway.map_or(Outcome::Closed, Outcome::GoAway);
            }
        }
    }

    /// The status of an answer whose end may never come.
    pub async fn status(&mut self, stream: u32) -> u16 {
        loop {
            if let Some(seen) = self.streams.get(&stream) {
                if let Some(status) = seen.status {
                    return status;
                }
                assert_eq!(seen.reset, None, "stream {stream} was reset instead of answered");
            }
            if self.frame().await.is_none() {
                panic!("stream {stream}: the gateway closed, GOAWAY {:?}, instead of answering", self.goaway);
            }
        }
    }

    /// The bytes of an answer's body so far.
    pub fn body(&self, stream: u32) -> &[u8] {
        self.streams.get(&stream).map_or(&[], |seen| &seen.body)
    }

    /// Waits until the peer has answered a PING: it has seen everything before it. `false` if it closes instead.
    pub async fn settled(&mut self) -> bool {
        self.send(frame(PING, 0, 0, b"settled?")).await;
        while let Some(frame) = self.frame().await {
            if frame.kind == PING && frame.flags & ACK != 0 {
                return true;
            }
        }
        false
    }

    /// Waits until the connection has ended; gives the code of its GOAWAY.
    pub async fn end(&mut self) -> Option<u32> {
        while self.frame().await.is_some() {}
        self.goaway
    }
}

/// The status of an answer, which is the first field of its block: from the static table, or a literal with that name.
fn status(block: &[u8]) -> u16 {
    // Changes of the table's size may come first.
    let block: Vec<u8> = block.iter().copied().skip_while(|byte| byte & 0xe0 == 0x20).collect();
    match block[0] {
        byte @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(byte - 0x88)],
        0x48 | 0x08 | 0x18 => {
            let length = usize::from(block[1] & 0x7f);
            let text = &block[2..2 + length];
            let digits = if block[1] & 0x80 == 0 { text.to_vec() } else { huffman_digits(text) };
            std::str::from_utf8(&digits).unwrap().parse().unwrap()
        }
        other => panic!("the block does not begin with a status: {other:#x}"),
    }
}

/// Three digits in Huffman code (RFC 7541 appendix B): `0` to `2` have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let number = |at: usize, length: usize| bits[at..at + length].iter().fold(0, |sum, bit| sum << 1 | bit);
    let (mut at, mut digits) = (0, Vec::new());
    while digits.len() < 3 {
        let short = number(at, 5);
        if short < 3 {
            digits.push(b'0' + short);
            at += 5;
        } else {
            digits.push(b'3' + number(at, 6) - 0b01_1001);
            at += 6;
        }
    }
    digits
}

#[test]
fn digits_are_read_from_their_code() {
    // 431 is 011010 011001 00001, 206 is 00010 00000 011100; the rest is ones.
    assert_eq!(huffman_digits(&[0b0110_1001, 0b1001_0000, 0b1111_1111]), b"431");
    assert_eq!(huffman_digits(&[0b0001_0000, 0b0001_1100]), b"206");
    assert_eq!(integer(0, 5, 1337), [0x1f, 0x9a, 0x0a], "the example of RFC 7541 C.1.2");
}
