//! A strict reader of requests in HTTP/1.1 (RFC 9112), for what the gateway writes to an upstream: no choice between two
//! readings is ever made here.

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

/// Without the spaces and tabs around it (RFC 9110 §5.5); no other octet is trimmed.
fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
