//! The request line of an HTTP/1 request, read before the HTTP library sees it.
//!
//! 1. Octets in the query that clients send although a URI cannot hold them are percent-encoded ([`RawQuery`]): the library
//!    would reject them. The path gets no such leniency.
//! 2. A fragment (`#`) makes the line invalid. The library would drop it, and a DELETE of `/a/b#c` would delete `/a/b`.
//! 3. Only bytes that begin a head are changed: the stream passes on what arrives while no request runs and no body is
//!    outstanding, and [`RequestLine`] stops at the end of the line. Bytes of a body never change.
//! 4. A line that arrived together with an earlier request (pipelining) is not read here. The library then rejects the
//!    octets of rule 1, and drops a fragment.

use tokio::io::ReadBuf;

use crate::types::RawQuery;

/// Stands in for `#`. Neither a path nor a query can hold it, so the library rejects the line.
const INVALID: u8 = b'<';

/// Reads one request line after the other.
#[derive(Debug, Default)]
pub(super) struct RequestLine {
    part: Part,
    /// How many requests had begun when this line did.
    number: Option<u32>,
    query: RawQuery,
    /// Encoded bytes for which the reader had no room.
    rest: Vec<u8>,
}

/// The part of the line that the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Method,
    Path,
    /// The query, of which this many encoded bytes have been read.
    Query(usize),
    /// What follows the target.
    Done,
}

/// What a line turned out to be once its target was complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The query holds octets that were encoded.
    RawQuery(RawQuery),
    /// The target has a fragment.
    Fragment,
}

impl RequestLine {
    /// Moves bytes that were encoded before and found no room. Whether there were any.
    pub(super) fn take_rest(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.rest.is_empty() {
            return false;
        }
        let count = self.rest.len().min(buf.remaining());
        buf.put_slice(self.rest.get(..count).unwrap_or_default());
        self.rest.drain(..count);
        true
    }

    /// Reads the bytes in the buffer behind `start`, which belong to the head that follows `requests` earlier ones.
    pub(super) fn read(&mut self, buf: &mut ReadBuf<'_>, start: usize, requests: u32) -> Option<Found> {
        if self.number != Some(requests) {
            self.number = Some(requests);
            self.part = Part::Method;
        }
        let bytes = buf.filled().get(start..).unwrap_or_default();
        match self.part {
            Part::Done => return None,
            Part::Method if is_plain_line(bytes) => {
                self.part = Part::Done;
                return None;
            }
            Part::Method | Part::Path | Part::Query(_) => {}
        }
        let (encoded, found) = self.encode(bytes);
        if encoded != bytes {
            buf.set_filled(start);
            let room = buf.remaining().min(encoded.len());
            let (fits, rest) = encoded.split_at_checked(room).unwrap_or((&encoded, &[]));
            buf.put_slice(fits);
            self.rest.extend_from_slice(rest);
        }
        found
    }

    /// The bytes as the library may see them.
    fn encode(&mut self, bytes: &[u8]) -> (Vec<u8>, Option<Found>) {
        let mut encoded = Vec::with_capacity(bytes.len());
        let mut fragment = false;
        for (position, byte) in bytes.iter().enumerate() {
            self.part = match (self.part, *byte) {
                // Empty lines may stand before a request line (RFC 9112 §2.2).
                (Part::Method, b'\r' | b'\n') => Part::Method,
                (Part::Method, b' ') => Part::Path,
                (Part::Method, byte) if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) => Part::Method,
                (Part::Method, _) | (Part::Path | Part::Query(_), b' ' | b'\r' | b'\n') => Part::Done,
                (Part::Path, b'?') => {
                    encoded.push(b'?');
                    self.part = Part::Query(0);
                    continue;
                }
                (part @ (Part::Path | Part::Query(_) | Part::Done), _) => part,
            };
            match self.part {
                Part::Done => {
                    encoded.extend_from_slice(bytes.get(position..).unwrap_or_default());
                    break;
                }
                Part::Path | Part::Query(_) if *byte == b'#' => {
                    fragment = true;
                    encoded.push(INVALID);
                }
                Part::Query(read) => {
                    let before = encoded.len();
                    self.query.encode(std::slice::from_ref(byte), read, &mut encoded);
                    self.part = Part::Query(read + encoded.len() - before);
                }
                Part::Method | Part::Path => encoded.push(*byte),
            }
        }
        let found = if fragment {
            Some(Found::Fragment)
        } else if self.part == Part::Done && !self.query.is_empty() {
            Some(Found::RawQuery(std::mem::take(&mut self.query)))
        } else {
            None
        };
        (encoded, found)
    }
}

/// Whether the bytes begin with a whole line that holds nothing to encode or reject. One pass, for every request.
fn is_plain_line(bytes: &[u8]) -> bool {
    let Some(line) = memchr::memchr(b'\n', bytes).and_then(|end| bytes.get(..end)) else { return false };
    // An empty line is not the request line yet.
    line.len() > 1 && !line.iter().fold(false, |odd, byte| odd | (*byte == b'#') | RawQuery::is_raw(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the library sees of a head that arrives in these parts, and what was found.
    fn seen(parts: &[&[u8]], room: usize) -> (Vec<u8>, Vec<Found>) {
        let (mut line, mut seen, mut found) = (RequestLine::default(), Vec::new(), Vec::new());
        let mut space = vec![0; room];
        for part in parts {
            let mut buf = ReadBuf::new(&mut space);
            buf.put_slice(part);
            found.extend(line.read(&mut buf, 0, 0));
            seen.extend_from_slice(buf.filled());
            while !line.rest.is_empty() {
                let mut buf = ReadBuf::new(&mut space);
                assert!(line.take_rest(&mut buf));
                seen.extend_from_slice(buf.filled());
            }
        }
        (seen, found)
    }

    #[test]
    fn only_the_target_of_a_line_changes() {
        for (head, wanted, fragment) in [
            ("GET /a?b HTTP/1.1\r\nX: \"#<\r\n\r\n", "GET /a?b HTTP/1.1\r\nX: \"#<\r\n\r\n", false),
            (
                "GET /a?f={\"s\"} HTTP/1.1\r\nX: \"\r\n\r\n",
                "GET /a?f={%22s%22} HTTP/1.1\r\nX: \"\r\n\r\n",
                false,
            ),
            ("GET http://h/a?<b> HTTP/1.1\r\n\r\n", "GET http://h/a?%3Cb%3E HTTP/1.1\r\n\r\n", false),
            ("\r\nGET /?\" HTTP/1.1\r\n\r\n", "\r\nGET /?%22 HTTP/1.1\r\n\r\n", false),
            ("DELETE /a/b#c HTTP/1.1\r\n\r\n", "DELETE /a/b<c HTTP/1.1\r\n\r\n", true),
            ("GET /a?b#c HTTP/1.1\r\n\r\n", "GET /a?b<c HTTP/1.1\r\n\r\n", true),
            // The path gets no leniency, and what is no request line is left to the library.
            ("GET /\"<>?a HTTP/1.1\r\n\r\n", "GET /\"<>?a HTTP/1.1\r\n\r\n", false),
            ("Referer: http://h/?\"#c HTTP/1.1\r\n\r\n", "Referer: http://h/?\"#c HTTP/1.1\r\n\r\n", false),
            ("\u{1}\"#\r\n", "\u{1}\"#\r\n", false),
        ] {
            for room in [head.len(), 1024] {
                let (seen, found) = seen(&[head.as_bytes()], room);
                assert_eq!(String::from_utf8_lossy(&seen), wanted, "{head:?}");
                assert_eq!(found.contains(&Found::Fragment), fragment, "{head:?}");
            }
        }
    }

    #[test]
    fn one_line_is_read_for_each_request() {
        let mut line = RequestLine::default();
        let mut space = [0; 64];
        for (requests, bytes, wanted) in [
            (0, "GET /?\" HTTP/1.1\r\n", "GET /?%22 HTTP/1.1\r\n"),
            (0, "GET /?\" HTTP/1.1\r\n", "GET /?\" HTTP/1.1\r\n"),
            (1, "GET /?\" HTTP/1.1\r\n", "GET /?%22 HTTP/1.1\r\n"),
        ] {
            let mut buf = ReadBuf::new(&mut space);
            buf.put_slice(bytes.as_bytes());
            line.read(&mut buf, 0, requests);
            assert_eq!(String::from_utf8_lossy(buf.filled()), wanted, "after {requests} requests");
        }
    }

    proptest! {
        #[test]
        fn splits_of_a_head_make_no_difference(
            query in proptest::collection::vec(prop_oneof![Just(b'"'), Just(b'#'), 0x21..=0x7eu8], 0..40),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let head = [b"GET /a?", &query[..], b" HTTP/1.1\r\nHost: \"\r\n\r\n"].concat();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(head.len())).collect();
            places.sort_unstable();
            let (mut parts, mut from) = (Vec::new(), 0);
            for place in places {
                parts.push(&head[from..place]);
                from = place;
            }
            parts.push(&head[from..]);
            let whole = seen(&[&head], head.len() * 3);
            let (pieces, found) = seen(&parts, head.len());
            prop_assert_eq!(&pieces, &whole.0);
            prop_assert_eq!(found.contains(&Found::Fragment), query.contains(&b'#'));
            let raw = found.into_iter().find_map(|found| match found {
                Found::RawQuery(raw) => Some(raw),
                Found::Fragment => None,
            });
            if !query.contains(&b'#') {
                let encoded = &pieces[7..pieces.len() - (head.len() - 7 - query.len())];
                let raw = raw.unwrap_or_default();
                prop_assert_eq!(raw.decode(std::str::from_utf8(encoded).unwrap()), query);
            }
        }
    }
}
