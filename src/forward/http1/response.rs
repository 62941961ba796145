//! The head of an upstream's answer (RFC 9112 §4 – §6), from bytes to fields.
//!
//! 1. Fields of the connection are read here and go no further; what `Connection` names is removed (RFC 9110 §7.6.1).
//! 2. An answer whose end two readers could find at different places is refused (RFC 9112 §6.3): more than one length, a
//!    length beside a coding, codings other than `chunked` alone, a coding in HTTP/1.0.
//! 3. A head is bounded in bytes and fields.
//! 4. White space before a colon is removed, and the field counts like any other (RFC 9112 §5.1). A folded field is refused.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use hyper::ext::ReasonPhrase;
use smallvec::SmallVec;

use super::Malformed;
use super::framing::Framing;
use super::looked::{Ends, Looked};
use crate::types::field_names::is_hop_by_hop;

/// Room for the header fields of an answer. Their configured number is at most this.
const ROOM: usize = 256;

/// What the head of an answer must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Whether HEAD was asked: the answer has no body, whatever its head says.
    pub of_head: bool,
    /// Most bytes of the header section, the status line included.
    pub bytes: usize,
    /// Most header fields.
    pub fields: usize,
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The reason phrase, if it is another one than the usual one of the status.
    pub phrase: Option<ReasonPhrase>,
    /// The fields that go on.
    pub headers: HeaderMap,
    /// Whether one of them is `Location` or `Content-Location`.
    pub located: bool,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the connection may carry another request after this.
    pub reusable: bool,
    /// How many seconds the upstream keeps a connection open that is not used, if it says so.
    pub keeps: Option<u32>,
    /// Whether it names exactly one protocol to switch to, and this is it.
    pub upgrade: Option<HeaderValue>,
}

/// Takes a head out of what has arrived; `None` if it is not all there. `looked` is kept between calls for the same head.
///
/// # Errors
///
/// What is no answer, or one that is in doubt.
pub fn parse(
    arrived: &mut BytesMut,
    looked: &mut Looked,
    expected: Expected,
) -> Result<Option<Head>, Malformed> {
    if !looked.is_due(arrived, expected.bytes, Ends::EmptyLine) {
        return Ok(None);
    }
    let Some((line, spans)) = split(arrived, expected)? else {
        return Ok(None);
    };
    *looked = Looked::default();
    let text = arrived.split_to(line.length).freeze();
    let mut reading = Reading { reusable: !line.http10, ..Reading::default() };
    reading.headers.reserve(spans.len() + EXTRA_FIELDS);
    for span in spans {
        reading.field(&text, span)?;
    }
    reading.finish(line, expected.of_head).map(Some)
}

/// Fields that are added to an answer on its way: the request's id, those of CORS.
const EXTRA_FIELDS: usize = 4;

/// What the first line says, and how long the head is.
struct StatusLine {
    length: usize,
    status: StatusCode,
    phrase: Option<ReasonPhrase>,
    http10: bool,
}

/// Where name and value of a field are.
struct Span {
    name: Range<usize>,
    value: Range<usize>,
}

type Spans = SmallVec<[Span; 24]>;

/// Finds the parts of a head.
fn split(arrived: &[u8], expected: Expected) -> Result<Option<(StatusLine, Spans)>, Malformed> {
    // The parser skips any number of empty lines, and would do so anew each time.
    if let [b'\r' | b'\n', ..] = arrived {
        return Err(Malformed::new("an empty line instead of an answer"));
    }
    let mut room = [const { MaybeUninit::uninit() }; ROOM];
    let fields = room.get_mut(..expected.fields.min(ROOM)).unwrap_or_default();
    let mut response = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    let parsed = config.parse_response_with_uninit_headers(&mut response, arrived, fields);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) if length <= expected.bytes => length,
        Ok(httparse::Status::Partial) if arrived.len() < expected.bytes => return Ok(None),
        Ok(_) => return Err(Malformed::new("the header section is too long")),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::new("too many header fields")),
        Err(_) => {
            let malformed = || Malformed::new("the header section is malformed");
            return Err(folded(arrived).unwrap_or_else(malformed));
        }
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed::new("the status is none"))?;
    let base = arrived.as_ptr().addr();
    let range = |part: &[u8]| {
        let start = part.as_ptr().addr().saturating_sub(base);
        start..start + part.len()
    };
    let spans = response
        .headers
        .iter()
        .map(|field| Span { name: range(field.name.as_bytes()), value: range(field.value) })
        .collect();
    let phrase = if response.reason == status.canonical_reason() { None } else { phrase(arrived) };
    Ok(Some((StatusLine { length, status, phrase, http10: response.version == Some(0) }, spans)))
}

/// The reason phrase in a status line that was parsed. `None` if it is empty.
fn phrase(head: &[u8]) -> Option<ReasonPhrase> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let phrase = line.get(BEFORE_PHRASE.len()..)?.trim_ascii();
    // The parser returns no phrase that has a byte outside ASCII; this type takes it, and nothing that ends a line.
    ReasonPhrase::try_from(phrase).ok().filter(|_| !phrase.is_empty())
}

/// What stands before the reason phrase.
const BEFORE_PHRASE: &str = "HTTP/1.1 200 ";

/// Names the field of a head that is folded over several lines (RFC 9112 §5.2), if there is one.
fn folded(head: &[u8]) -> Option<Malformed> {
    let mut before: &[u8] = b"";
    for line in head.split(|byte| *byte == b'\n') {
        match line {
            [] | [b'\r'] => return None,
            [b' ' | b'\t', ..] => {
                let name = before.split(|byte| *byte == b':').next().unwrap_or_default();
                let name = HeaderName::from_bytes(name.trim_ascii_end()).ok();
                let name = name.as_ref().map_or("unknown", HeaderName::as_str);
                return Some(Malformed(Cow::Owned(format!(
                    "the header field `{name}` is folded (obs-fold), which is refused; the upstream must send it on one line"
                ))));
            }
            line => before = line,
        }
    }
    None
}

/// What the fields say so far.
#[derive(Default)]
struct Reading {
    headers: HeaderMap,
    located: bool,
    nominated: SmallVec<[HeaderName; 2]>,
    upgrades: SmallVec<[HeaderValue; 1]>,
    length: Option<u64>,
    keeps: Option<u32>,
    coded: bool,
    reusable: bool,
    closes: bool,
}

impl Reading {
    fn field(&mut self, text: &Bytes, span: Span) -> Result<(), Malformed> {
        let name = text.get(span.name).and_then(|name| HeaderName::from_bytes(name).ok());
        let value = text.get(span.value).map(|value| text.slice_ref(value));
        let value = value.and_then(|value| HeaderValue::from_maybe_shared(value).ok());
        let (Some(name), Some(value)) = (name, value) else {
            return Err(Malformed::new("a header field that is none"));
        };
        match name {
            header::CONTENT_LENGTH => {
                self.set_length(&value)?;
                self.headers.append(name, value);
            }
            header::TRANSFER_ENCODING => {
                if self.coded || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::new(
                        "an answer with a Transfer-Encoding other than `chunked` alone",
                    ));
                }
                self.coded = true;
            }
            header::CONNECTION => self.connection(&value),
            header::UPGRADE => self.upgrades.push(value),
            header::LOCATION | header::CONTENT_LOCATION => {
                self.located = true;
                self.headers.append(name, value);
            }
            // A trailer section that the upstream announces is passed on, so its announcement is too.
            header::TRAILER => {
                self.headers.append(name, value);
            }
            _ if is_hop_by_hop(name.as_str()) => {
                if name.as_str() == "keep-alive" {
                    self.keeps = timeout(&value);
                }
            }
            _ => {
                self.headers.append(name, value);
            }
        }
        Ok(())
    }

    fn set_length(&mut self, value: &HeaderValue) -> Result<(), Malformed> {
        let digits = !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
        let length = value.to_str().ok().filter(|_| digits).and_then(|text| text.parse().ok());
        match (self.length, length) {
            (None, Some(length)) => self.length = Some(length),
            (Some(_), _) | (None, None) => {
                return Err(Malformed::new(
                    "an answer with more than one Content-Length, or one that is no number",
                ));
            }
        }
        Ok(())
    }

    fn connection(&mut self, value: &HeaderValue) {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.reusable = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.closes = true;
            } else if let Ok(name) = HeaderName::from_bytes(option) {
                self.nominated.push(name);
            }
        }
    }

    fn finish(mut self, line: StatusLine, of_head: bool) -> Result<Head, Malformed> {
        for name in self.nominated {
            // These frame the answer itself; an upstream cannot ask to lose them.
            if name != header::CONTENT_LENGTH {
                self.headers.remove(name);
            }
        }
        if self.coded && self.length.is_some() {
            return Err(Malformed::new("an answer with Transfer-Encoding and Content-Length"));
        }
        if self.coded && line.http10 {
            return Err(Malformed::new("an answer with Transfer-Encoding in HTTP/1.0"));
        }
        let bodiless = of_head
            || line.status.is_informational()
            || matches!(line.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let framing = match self.length {
            _ if bodiless => Framing::EMPTY,
            _ if self.coded => Framing::chunked(),
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        };
        let upgrade = if let [upgrade] = self.upgrades.as_slice() { Some(upgrade.clone()) } else { None };
        Ok(Head {
            status: line.status,
            phrase: line.phrase,
            headers: self.headers,
            located: self.located,
            reusable: self.reusable && !self.closes && framing != Framing::UntilClose,
            framing,
            keeps: self.keeps,
            upgrade,
        })
    }
}

/// The `timeout` of a Keep-Alive field (RFC 2068 §19.7.1.1), in seconds.
fn timeout(value: &HeaderValue) -> Option<u32> {
    let mut parameters = value.to_str().ok()?.split(',').filter_map(|parameter| parameter.split_once('='));
    let (_, seconds) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?;
    seconds.trim().trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Expected = Expected { of_head: false, bytes: 64 * 1024, fields: 256 };

    fn read(head: &str) -> Result<Option<Head>, Malformed> {
        parse(&mut BytesMut::from(head), &mut Looked::default(), EXPECTED)
    }

    fn whole(head: &str) -> Head {
        read(head).unwrap().unwrap()
    }

    #[test]
    fn fields_of_the_connection_stay_behind() {
        let head = whole(
            "HTTP/1.1 200 OK\r\nServer: x\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
             Proxy-Authenticate: Basic\r\nTransfer-Encoding: chunked\r\nTrailer: Checksum\r\n\r\n",
        );
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["server", "trailer"]);
        assert_eq!(head.framing, Framing::chunked());
        assert!(head.reusable);
    }

    #[test]
    fn the_rest_stays_where_it_is() {
        let mut arrived = BytesMut::from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP");
        let head = parse(&mut arrived, &mut Looked::default(), EXPECTED).unwrap().unwrap();
        assert_eq!((head.framing, &arrived[..]), (Framing::Length(2), &b"okHTTP"[..]));
    }

    #[test]
    fn a_head_that_is_not_all_there_is_waited_for() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        for end in 0..head.len() {
            assert!(read(&head[..end]).unwrap().is_none(), "{end}");
            let (mut arrived, mut looked) = (BytesMut::from(&head[..end]), Looked::default());
            assert!(parse(&mut arrived, &mut looked, EXPECTED).unwrap().is_none(), "{end}");
            arrived.extend_from_slice(&head.as_bytes()[end..]);
            assert!(parse(&mut arrived, &mut looked, EXPECTED).unwrap().is_some(), "{end}");
        }
    }

    #[test]
    fn the_upstream_says_how_long_it_keeps_a_connection() {
        let keeps = |value: &str| {
            whole(&format!("HTTP/1.1 200 OK\r\nKeep-Alive: {value}\r\nContent-Length: 0\r\n\r\n")).keeps
        };
        assert_eq!(keeps("timeout=5, max=100"), Some(5));
        assert_eq!(keeps("max=100,Timeout = \"1\""), Some(1));
        for none in ["", "timeout", "timeout=x", "max=1", "timeout=-1"] {
            assert_eq!(keeps(none), None, "{none}");
        }
    }

    #[test]
    fn the_body_ends_where_the_rfc_says() {
        use Framing::{Length, UntilClose};
        const EMPTY: Framing = Framing::EMPTY;
        for (head, of_head, framing, reusable) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", false, Length(7), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", true, EMPTY, true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", false, EMPTY, true),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, EMPTY, true),
            ("HTTP/1.1 200 OK\r\n\r\n", false, UntilClose, false),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n", false, UntilClose, false),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 7\r\n\r\n", false, Length(7), false),
            (
                "HTTP/1.1 200 OK\r\nConnection: keep-alive, Close\r\nContent-Length: 7\r\n\r\n",
                false,
                Length(7),
                false,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n", false, Length(7), false),
            (
                "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 7\r\n\r\n",
                false,
                Length(7),
                true,
            ),
        ] {
            let expected = Expected { of_head, ..EXPECTED };
            let parsed = parse(&mut BytesMut::from(head), &mut Looked::default(), expected).unwrap().unwrap();
            assert_eq!((parsed.framing, parsed.reusable), (framing, reusable), "{head} {of_head}");
        }
    }

    #[test]
    fn an_answer_in_doubt_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(EXPECTED.bytes));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(EXPECTED.fields + 1));
        for (head, why) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "two lengths"),
            ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", "a sign"),
            ("HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", "an empty length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", "a list"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "beyond 64 bits"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "both"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "two codings"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "twice"),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "a coding in HTTP/1.0"),
            ("HTTP/1.1 099 No\r\n\r\n", "a status below 100"),
            ("HTTP/2.0 200 OK\r\n\r\n", "another version"),
            ("hello\r\n\r\n", "no answer at all"),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", "an empty line before it"),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "a folded line"),
            ("HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", "a space within a name"),
            ("HTTP/1.1 200 OK\r\n : c\r\n\r\n", "a space for a name"),
            ("HTTP/1.1 200 OK\r\nA \r\n: c\r\n\r\n", "a line end before the colon"),
            (long.as_str(), "too long"),
            (many.as_str(), "too many fields"),
        ] {
            assert!(read(head).is_err(), "{why}");
        }
    }

    #[test]
    fn white_space_before_a_colon_is_removed() {
        const EMPTY: Framing = Framing::EMPTY;
        for (fields, framing, names) in [
            ("X-A : 1\r\nContent-Length: 0", EMPTY, &["x-a", "content-length"][..]),
            ("X-A \t : 1\r\nContent-Length: 0", EMPTY, &["x-a", "content-length"]),
            ("Content-Length : 7", Framing::Length(7), &["content-length"]),
            ("Content-Length\t: 7", Framing::Length(7), &["content-length"]),
            ("Transfer-Encoding : chunked", Framing::chunked(), &[]),
            ("Connection : X-Hop\r\nX-Hop : 1\r\nContent-Length: 0", EMPTY, &["content-length"]),
        ] {
            let head = whole(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
            let found: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
            assert_eq!((head.framing, found.as_slice()), (framing, names), "{fields:?}");
        }
        for fields in [
            "Content-Length : 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nContent-Length : 2",
            "Content-Length : 1\r\nTransfer-Encoding: chunked",
            "Content-Length: 1\r\nTransfer-Encoding : chunked",
            "Transfer-Encoding : gzip",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding\t: chunked",
        ] {
            assert!(read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n")).is_err(), "{fields:?}");
        }
    }

    #[test]
    fn a_folded_field_is_named() {
        for (head, named) in [
            ("HTTP/1.1 200 OK\r\nX-Note: one\r\n two\r\n\r\n", Some("`x-note`")),
            ("HTTP/1.1 200 OK\r\nA: b\r\nX-Note : one\r\n\ttwo\r\n three\r\n\r\n", Some("`x-note`")),
            ("HTTP/1.1 200 OK\nA: b\nX-Note: one\n two\n\n", Some("`x-note`")),
            ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", Some("`unknown`")),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\nX-Body: 1\r\n 2", None),
        ] {
            let error = read(head).unwrap_err().to_string();
            match named {
                Some(named) => assert!(error.contains(named) && error.contains("fold"), "{head:?}: {error}"),
                None => assert!(!error.contains("fold"), "{head:?}: {error}"),
            }
        }
    }

    #[test]
    fn a_phrase_is_kept_unless_it_is_the_usual_one() {
        for (line, phrase) in [
            ("200 OK", None),
            ("200 ", None),
            ("200", None),
            ("200 Fine", Some("Fine")),
            ("200 ok", Some("ok")),
            ("404 OK", Some("OK")),
            ("404 Not Found", None),
            ("403 Token is missing: ask twice", Some("Token is missing: ask twice")),
            ("400 Ungültig", Some("Ungültig")),
            ("999 Request denied", Some("Request denied")),
            ("999 ", None),
        ] {
            let head = whole(&format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n"));
            let found = head.phrase.as_ref().map(ReasonPhrase::as_bytes);
            assert_eq!(found, phrase.map(str::as_bytes), "{line:?}");
        }
    }
}
