//! HTTP/1.1 messages as they are on the wire, read strictly: what both the recording upstream and the raw client use.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Header fields in their order, with the names as they were spelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The value of the only field with this name; `None` where there is none.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{} fields are named {name}: {all:?}", all.len());
        all.first().copied()
    }

    /// The values of all fields with this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The names as they came, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Whether a field with this name is there.
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

/// The first part of a message.
#[derive(Clone, Debug)]
pub struct Head {
    /// The start line, without its line break.
    pub start: String,
    /// The header fields.
    pub fields: Fields,
}

/// How the end of a body is found (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By a number of bytes.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub fields: Fields,
    /// The body, with its framing taken off.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Fields,
    /// The status codes of the interim answers before it.
    pub interim: Vec<u16>,
    /// How the body was framed.
    pub framing: Framing,
}

impl Response {
    /// The value of the only header field with this name.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: status {} with body {:?}", self.status, self.text()))
    }

    /// Status and reason, as in `403 scope_missing`; the reason is that of the problem, or `-` without one.
    #[track_caller]
    pub fn verdict(&self) -> String {
        let problem = self.fields.get("content-type") == Some("application/problem+json");
        let reason = problem.then(|| self.json()["reason"].as_str().unwrap_or("-").to_owned());
        format!("{} {}", self.status, reason.as_deref().unwrap_or("-"))
    }

    /// The `WWW-Authenticate` challenge, or nothing.
    #[track_caller]
    pub fn challenge(&self) -> &str {
        self.header("www-authenticate").unwrap_or_default()
    }
}

/// Reads messages from one direction of a connection and keeps the bytes it has not yet used.
pub struct Reader<R> {
    stream: R,
    buffer: Vec<u8>,
    /// Every byte that was ever read.
    pub seen: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from this stream.
    pub fn new(stream: R) -> Self {
        Self { stream, buffer: Vec::new(), seen: Vec::new() }
    }

    /// The stream beneath.
    pub fn stream_mut(&mut self) -> &mut R {
        &mut self.stream
    }

    /// More bytes into the buffer; `false` at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 16 * 1024];
        let n = self.stream.read(&mut chunk).await?;
        self.buffer.extend_from_slice(&chunk[..n]);
        self.seen.extend_from_slice(&chunk[..n]);
        Ok(n > 0)
    }

    /// The next head; `None` where the peer closed instead.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill().await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(invalid("the head breaks off")) };
            }
        };
        let bytes: Vec<u8> = self.buffer.drain(..end).collect();
        let (start, fields) = bytes.split_at(find(&bytes, b"\r\n").unwrap_or(0) + 2);
        let start = String::from_utf8_lossy(start).trim_end().to_owned();
        Ok(Some(Head { start, fields: parse_fields(fields)? }))
    }

    /// The next piece of a body with this framing: `None` at its end. `left` starts as 0 and is kept between calls.
    pub async fn piece(&mut self, framing: Framing, left: &mut Piece) -> io::Result<Option<Vec<u8>>> {
        match framing {
            Framing::Length(total) => {
                let rest = total - left.taken;
                if rest == 0 {
                    return Ok(None);
                }
                if self.buffer.is_empty() && !self.fill().await? {
                    return Err(invalid("the body breaks off"));
                }
                let n = self.buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
                left.taken += n as u64;
                Ok(Some(self.buffer.drain(..n).collect()))
            }
            Framing::UntilClose => {
                if self.buffer.is_empty() && !self.fill().await? {
                    return Ok(None);
                }
                Ok(Some(std::mem::take(&mut self.buffer)))
            }
            Framing::Chunked => self.chunk(left).await,
        }
    }

    async fn chunk(&mut self, left: &mut Piece) -> io::Result<Option<Vec<u8>>> {
        let line = self.line().await?;
        let digits = line.split(';').next().unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(invalid("the chunk size is no hexadecimal number"));
        }
        let size = usize::from_str_radix(digits, 16).map_err(|_| invalid("the chunk size is too large"))?;
        if size == 0 {
            let mut trailers = Vec::new();
            loop {
                let line = self.line().await?;
                if line.is_empty() {
                    break;
                }
                trailers.extend_from_slice(line.as_bytes());
                trailers.extend_from_slice(b"\r\n");
            }
            trailers.extend_from_slice(b"\r\n");
            left.trailers = parse_fields(&trailers)?;
            return Ok(None);
        }
        while self.buffer.len() < size + 2 {
            if !self.fill().await? {
                return Err(invalid("the chunk breaks off"));
            }
        }
        let data = self.buffer.drain(..size).collect();
        let end: Vec<u8> = self.buffer.drain(..2).collect();
        if end != b"\r\n" {
            return Err(invalid("the chunk does not end with a line break"));
        }
        Ok(Some(data))
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return String::from_utf8(line[..at].to_vec()).map_err(|_| invalid("not text"));
            }
            if !self.fill().await? {
                return Err(invalid("the line breaks off"));
            }
        }
    }

    /// A whole body and its trailers.
    pub async fn body(&mut self, framing: Framing) -> io::Result<(Vec<u8>, Fields)> {
        let mut state = Piece::default();
        let mut body = Vec::new();
        while let Some(piece) = self.piece(framing, &mut state).await? {
            body.extend_from_slice(&piece);
        }
        Ok((body, state.trailers))
    }

    /// Whatever bytes come next, without any framing; empty at the end of the stream.
    pub async fn raw(&mut self) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Waits for bytes without taking them; `false` at the end of the stream.
    pub async fn peek(&mut self) -> io::Result<bool> {
        Ok(!self.buffer.is_empty() || self.fill().await?)
    }

    /// A whole answer to a request with this method. `None` where the peer closed instead.
    pub async fn response(&mut self, method: &str) -> io::Result<Option<Response>> {
        let mut interim = Vec::new();
        loop {
            let Some(head) = self.head().await? else {
                return Ok(None);
            };
            let status = head.status()?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let framing = head.response_framing(method, status)?;
            let (body, trailers) = self.body(framing).await?;
            return Ok(Some(Response { status, fields: head.fields, body, trailers, interim, framing }));
        }
    }
}

/// How far a body has been read.
#[derive(Default)]
pub struct Piece {
    taken: u64,
    /// The trailer fields, once the body is at its end.
    pub trailers: Fields,
}

impl Head {
    /// The status code of an answer.
    pub fn status(&self) -> io::Result<u16> {
        let status = self.start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        status.and_then(|s| s.parse().ok()).ok_or_else(|| invalid("no HTTP/1.1 status line"))
    }

    /// The framing of a request's body; an error names what a strict reader must refuse.
    pub fn request_framing(&self) -> io::Result<Framing> {
        Ok(self.framing()?.unwrap_or(Framing::Length(0)))
    }

    /// The framing of an answer's body.
    pub fn response_framing(&self, method: &str, status: u16) -> io::Result<Framing> {
        if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) {
            return Ok(Framing::Length(0));
        }
        Ok(self.framing()?.unwrap_or(Framing::UntilClose))
    }

    fn framing(&self) -> io::Result<Option<Framing>> {
        let coding = self.fields.all("transfer-encoding");
        let length = self.fields.all("content-length");
        match (coding.as_slice(), length.as_slice()) {
            ([], []) => Ok(None),
            ([], [length]) if length.bytes().all(|b| b.is_ascii_digit()) => {
                let length = length.parse().map_err(|_| invalid("the length is too large"))?;
                Ok(Some(Framing::Length(length)))
            }
            (["chunked"], []) => Ok(Some(Framing::Chunked)),
            _ => Err(invalid("the framing is ambiguous")),
        }
    }
}

fn parse_fields(bytes: &[u8]) -> io::Result<Fields> {
    let mut slots = [httparse::EMPTY_HEADER; 264];
    match httparse::parse_headers(bytes, &mut slots) {
        Ok(httparse::Status::Complete((_, fields))) => Ok(Fields(
            fields
                .iter()
                .map(|f| (f.name.to_owned(), String::from_utf8_lossy(f.value).into_owned()))
                .collect(),
        )),
        Ok(httparse::Status::Partial) => Err(invalid("the fields break off")),
        Err(error) => Err(invalid(&error.to_string())),
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
