//! Strict readers of HTTP/1.1 (RFC 9112): of requests, for what the gateway writes to an upstream, and of answers, for what
//! it reads of one. No choice between two readings is ever made here.

/// One request as a strict server reads it.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The target, in origin form.
    pub target: String,
    /// Names in lower case, and values.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body, with its framing taken off.
    pub body: Vec<u8>,
    /// The fields behind a body in chunks.
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Request {
    /// The values of the fields with this name.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_slice())
    }
}

/// Reads all requests of a connection, to its last byte.
///
/// # Panics
///
/// Where anything is not as it has to be: the caller is a test.
pub fn requests(mut bytes: &[u8]) -> Vec<Request> {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        requests.push(request(&mut bytes));
    }
    requests
}

fn request(bytes: &mut &[u8]) -> Request {
    let start = String::from_utf8(line(bytes).to_vec()).expect("the request line is ASCII");
    let parts: Vec<&str> = start.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts.as_slice() else { panic!("request line {start:?}") };
    assert!(!method.is_empty() && method.bytes().all(is_token), "method {method:?}");
    assert!(target.starts_with('/') && !target.contains('#'), "target {target:?}");
    assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "target {target:?}");
    let mut request = Request {
        method: (*method).to_owned(),
        target: (*target).to_owned(),
        fields: fields(bytes),
        body: Vec::new(),
        trailers: Vec::new(),
    };
    (request.body, request.trailers) = body(&request, bytes);
    let announced = |name: &str| request.values("trailer").any(|own| own == name.as_bytes());
    for (name, _) in &request.trailers {
        assert!(announced(name), "the trailer field {name} was not announced");
    }
    request
}

fn fields(bytes: &mut &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut fields = Vec::new();
    loop {
        let line = line(bytes);
        if line.is_empty() {
            return fields;
        }
        let colon = line.iter().position(|byte| *byte == b':').expect("a field has a colon");
        let (name, value) = line.split_at(colon);
        assert!(!name.is_empty() && name.iter().copied().all(is_token), "name {name:?}");
        let value = trim_blanks(&value[1..]);
        let legal = |byte: u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        assert!(value.iter().copied().all(legal), "value {value:?}");
        fields.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()));
    }
}

type Body = (Vec<u8>, Vec<(String, Vec<u8>)>);

fn body(request: &Request, bytes: &mut &[u8]) -> Body {
    assert_eq!(request.values("host").count(), 1, "one Host: {request:?}");
    let lengths: Vec<&[u8]> = request.values("content-length").collect();
    let codings: Vec<&[u8]> = request.values("transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Body::default(),
        ([length], []) => {
            let text = std::str::from_utf8(length).expect("a length is digits");
            let length: usize = text.parse().expect("a length is a number");
            assert_eq!(length.to_string(), text, "a length has one spelling");
            (take(bytes, length).to_vec(), Vec::new())
        }
        ([], [b"chunked"]) => chunks(bytes),
        _ => panic!("framing in doubt: {request:?}"),
    }
}

fn chunks(bytes: &mut &[u8]) -> Body {
    let mut body = Vec::new();
    loop {
        let size = String::from_utf8(line(bytes).to_vec()).expect("a chunk size is digits");
        let size = usize::from_str_radix(&size, 16).expect("a chunk size is a hexadecimal number");
        if size == 0 {
            return (body, fields(bytes));
        }
        body.extend_from_slice(take(bytes, size));
        assert!(line(bytes).is_empty(), "a chunk ends where its size says");
    }
}

fn line<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a line ends");
    let line = take(bytes, end);
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'), "a line break within a line: {line:?}");
    take(bytes, 2);
    line
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at_checked(count).expect("nothing is missing");
    *bytes = rest;
    taken
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Where an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Behind so many bytes of the connection, interim answers included.
    At(usize),
    /// Where the connection is closed.
    Closed,
    /// Behind the bytes at hand.
    Later,
}

/// An answer as a strict client reads it, as far as it is there.
#[derive(Debug)]
pub struct Answer {
    /// The status; `None` if the head of the final answer is not all there.
    pub status: Option<u16>,
    /// What is there of the body, with its framing taken off.
    pub body: Vec<u8>,
    /// The names of the trailer section, in lower case.
    pub trailers: Vec<String>,
    /// Where it ends.
    pub end: End,
}

/// What keeps a strict client from reading on.
#[derive(Debug)]
enum Stop {
    /// More bytes are needed.
    Later,
    /// Two readers could disagree.
    Doubt(&'static str),
}

/// Reads the first final answer of a connection. A line may end with a bare LF, as RFC 9112 §2.2 lets a reader take it,
/// except within chunks. `of_head` tells that HEAD was asked.
///
/// # Errors
///
/// What two readers could read differently, or is no answer.
pub fn answer(all: &[u8], of_head: bool) -> Result<Answer, &'static str> {
    let mut answer = Answer { status: None, body: Vec::new(), trailers: Vec::new(), end: End::Later };
    let mut bytes = all;
    match read_answer(&mut bytes, of_head, &mut answer) {
        Ok(true) => answer.end = End::At(all.len() - bytes.len()),
        Ok(false) => answer.end = End::Closed,
        Err(Stop::Later) => {}
        Err(Stop::Doubt(why)) => return Err(why),
    }
    Ok(answer)
}

/// Whether the answer ends before the connection does.
fn read_answer(bytes: &mut &[u8], of_head: bool, answer: &mut Answer) -> Result<bool, Stop> {
    let (old, status, fields) = loop {
        let (old, status) = status_line(soft_line(bytes)?)?;
        let fields = soft_fields(bytes)?;
        length(&fields, old)?;
        // Any number of interim answers go before the final one; 101 is final here (RFC 9110 §15.2).
        if status == 101 || !(100..200).contains(&status) {
            break (old, status, fields);
        }
    };
    answer.status = Some(status);
    // RFC 9112 §6.3, in its order.
    if of_head || matches!(status, 101 | 204 | 304) {
        return Ok(true);
    }
    match length(&fields, old)? {
        Length::Chunks => answer_chunks(bytes, answer).map(|()| true),
        Length::Bytes(count) => {
            let there = usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len());
            answer.body.extend_from_slice(take(bytes, there));
            if there as u64 == count { Ok(true) } else { Err(Stop::Later) }
        }
        Length::Closed => {
            answer.body.extend_from_slice(take(bytes, bytes.len()));
            Ok(false)
        }
    }
}

/// Whether it is of HTTP/1.0, and the status.
fn status_line(line: &[u8]) -> Result<(bool, u16), Stop> {
    let (old, rest) = match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1'), b' ', rest @ ..] => {
            (*minor == b'0', rest)
        }
        _ => return Err(Stop::Doubt("no status line")),
    };
    let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', reason @ ..] = rest else {
        return Err(Stop::Doubt("no status"));
    };
    if !matches!(reason, [] | [b' ', ..]) || !reason.iter().all(|byte| is_text(*byte)) {
        return Err(Stop::Doubt("no reason phrase"));
    }
    let digit = |byte: &u8| u16::from(byte - b'0');
    Ok((old, digit(a) * 100 + digit(b) * 10 + digit(c)))
}

/// What a head says of the length of the body.
enum Length {
    Chunks,
    Bytes(u64),
    Closed,
}

fn length(fields: &[(String, Vec<u8>)], old: bool) -> Result<Length, Stop> {
    let values = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_slice()).collect()
    };
    match (values("transfer-encoding").as_slice(), values("content-length").as_slice()) {
        ([], []) => Ok(Length::Closed),
        ([coding], []) if !old && coding.eq_ignore_ascii_case(b"chunked") => Ok(Length::Chunks),
        ([], [digits]) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let digits = String::from_utf8_lossy(digits);
            digits.parse().map(Length::Bytes).map_err(|_| Stop::Doubt("a length beyond 64 bits"))
        }
        _ => Err(Stop::Doubt("framing in doubt")),
    }
}

fn answer_chunks(bytes: &mut &[u8], answer: &mut Answer) -> Result<(), Stop> {
    loop {
        let size = chunk_size(hard_line(bytes)?)?;
        if size == 0 {
            answer.trailers = soft_fields(bytes)?.into_iter().map(|(name, _)| name).collect();
            return Ok(());
        }
        let there = usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len());
        answer.body.extend_from_slice(take(bytes, there));
        match *bytes {
            _ if (there as u64) < size => return Err(Stop::Later),
            [b'\r', b'\n', rest @ ..] => *bytes = rest,
            [] | [b'\r'] => return Err(Stop::Later),
            _ => return Err(Stop::Doubt("a chunk that does not end where its size says")),
        }
    }
}

/// Hexadecimal digits, then nothing or an extension (RFC 9112 §7.1.1), which nobody here understands.
fn chunk_size(line: &[u8]) -> Result<u64, Stop> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(digits);
    if !matches!(trim_blanks(rest), [] | [b';', ..]) {
        return Err(Stop::Doubt("something behind the size of a chunk"));
    }
    let size = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    size.ok_or(Stop::Doubt("no size of a chunk"))
}

fn soft_fields(bytes: &mut &[u8]) -> Result<Vec<(String, Vec<u8>)>, Stop> {
    let mut fields = Vec::new();
    loop {
        let line = soft_line(bytes)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let colon =
            line.iter().position(|byte| *byte == b':').ok_or(Stop::Doubt("a field without a colon"))?;
        let (name, value) = line.split_at(colon);
        let value = trim_blanks(&value[1..]);
        // Blanks before the colon of a response are removed (RFC 9112 §5.1). This refuses others in the name, and a line that
        // goes on from the one before it.
        let end = name.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1);
        let name = &name[..end];
        if name.is_empty() || !name.iter().copied().all(is_token) || !value.iter().copied().all(is_text) {
            return Err(Stop::Doubt("a field that is none"));
        }
        fields.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()));
    }
}

/// A line that ends with CRLF or LF.
fn soft_line<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Stop> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(Stop::Later)?;
    let line = take(bytes, end);
    take(bytes, 1);
    Ok(line.strip_suffix(b"\r").unwrap_or(line))
}

/// A line that ends with CRLF, and has none of the two elsewhere.
fn hard_line<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Stop> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(Stop::Later)?;
    let line = take(bytes, end);
    take(bytes, 1);
    match line.strip_suffix(b"\r") {
        Some(line) if !line.contains(&b'\r') => Ok(line),
        _ => Err(Stop::Doubt("a line break within a line")),
    }
}

/// Without the spaces and tabs around it (RFC 9110 §5.5); no other octet is trimmed.
fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}
