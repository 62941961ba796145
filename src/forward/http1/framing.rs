//! Where the body of an answer ends (RFC 9112 §6.3, §7.1).
//!
//! Reads what has arrived and never beyond the end, so that nothing of one answer can become part of the next.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Malformed;
use super::looked::{Ends, Looked};

/// Longest line that gives the size of a chunk, with its extensions.
const CHUNK_LINE: usize = 4 * 1024;
/// Longest trailer section.
const TRAILER_BYTES: usize = 16 * 1024;
/// Most trailer fields.
const TRAILER_FIELDS: usize = 64;

/// What is still to come of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes; none at the end.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Whatever comes until the connection is closed.
    UntilClose,
}

/// What comes next in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// The line with a size, of which this was looked at in vain.
    Size(Looked),
    /// So many bytes of data.
    Data(u64),
    /// The end of the line after the data.
    DataEnd,
    /// The trailer section, of which this was looked at in vain.
    Trailers(Looked),
}

/// What was found in the bytes at hand.
#[derive(Debug)]
pub enum Piece {
    /// Data of the body.
    Data(Bytes),
    /// A trailer section that is not empty; it ends the body.
    Trailers(HeaderMap),
    /// The end.
    End,
    /// Nothing: more bytes are needed.
    NeedMore,
}

impl Framing {
    /// A body without bytes.
    pub const EMPTY: Self = Self::Length(0);

    /// Chunks, of which nothing was read.
    pub fn chunked() -> Self {
        Self::Chunked(Chunk::Size(Looked::default()))
    }

    /// Whether the end has been read.
    pub const fn is_ended(&self) -> bool {
        matches!(self, Self::Length(0))
    }

    /// How many bytes are still to come, where that is known.
    pub(super) fn left(&self) -> Option<usize> {
        match self {
            Self::Length(left) => Some(usize::try_from(*left).unwrap_or(usize::MAX)),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes the next piece out of what has arrived.
    ///
    /// # Errors
    ///
    /// Chunks that are none, or trailers that are too large.
    pub fn next(&mut self, arrived: &mut BytesMut) -> Result<Piece, Malformed> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Length(left) => Ok(take(left, arrived)),
            Self::UntilClose if arrived.is_empty() => Ok(Piece::NeedMore),
            Self::UntilClose => Ok(Piece::Data(arrived.split().freeze())),
            Self::Chunked(chunk) => {
                let piece = chunk.next(arrived)?;
                if matches!(piece, Piece::End | Piece::Trailers(_)) {
                    *self = Self::EMPTY;
                }
                Ok(piece)
            }
        }
    }
}

/// Takes at most `left` bytes, and counts them off.
fn take(left: &mut u64, arrived: &mut BytesMut) -> Piece {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(arrived.len());
    if count == 0 {
        return Piece::NeedMore;
    }
    *left -= count as u64;
    Piece::Data(arrived.split_to(count).freeze())
}

impl Chunk {
    fn next(&mut self, arrived: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match self {
                Self::Size(looked) => match size(arrived, looked)? {
                    None => return Ok(Piece::NeedMore),
                    Some(0) => *self = Self::Trailers(Looked::default()),
                    Some(size) => *self = Self::Data(size),
                },
                Self::Data(0) => *self = Self::DataEnd,
                Self::Data(left) => return Ok(take(left, arrived)),
                Self::DataEnd => match arrived.as_ref() {
                    [b'\r', b'\n', ..] => {
                        arrived.advance(2);
                        *self = Self::Size(Looked::default());
                    }
                    [] | [b'\r'] => return Ok(Piece::NeedMore),
                    _ => return Err(Malformed::new("a chunk that is longer than its size")),
                },
                Self::Trailers(looked) => return trailers(arrived, looked),
            }
        }
    }
}

/// Reads the line with the size of a chunk.
fn size(arrived: &mut BytesMut, looked: &mut Looked) -> Result<Option<u64>, Malformed> {
    // The parser takes an empty line for a size of zero.
    if arrived.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
        return Err(Malformed::new("a chunk without a size"));
    }
    if !looked.is_due(arrived, CHUNK_LINE, Ends::Line) {
        return Ok(None);
    }
    // The parser takes a bare LF for a part of an extension, where others end the line.
    let ends = memchr::memchr(b'\n', arrived).map(|at| at + 1);
    // The parser counts zeros in front as digits, of which it takes sixteen. They are bounded by the line.
    let zeros = arrived.iter().take_while(|digit| **digit == b'0').count().saturating_sub(1);
    match httparse::parse_chunk_size(arrived.get(zeros..).unwrap_or_default()) {
        Ok(httparse::Status::Complete((line, size)))
            if zeros + line <= CHUNK_LINE && ends == Some(zeros + line) =>
        {
            arrived.advance(zeros + line);
            Ok(Some(size))
        }
        Ok(_) if ends.is_some_and(|ends| ends <= CHUNK_LINE) => {
            Err(Malformed::new("the line of a chunk's size with a bare LF"))
        }
        Ok(httparse::Status::Partial) if arrived.len() < CHUNK_LINE => Ok(None),
        Ok(_) => Err(Malformed::new("the line of a chunk's size is too long")),
        Err(_) => Err(Malformed::new("a chunk without a size")),
    }
}

/// Reads the trailer section and the empty line after it.
fn trailers(arrived: &mut BytesMut, looked: &mut Looked) -> Result<Piece, Malformed> {
    if let [b'\r', b'\n', ..] = arrived.as_ref() {
        arrived.advance(2);
        return Ok(Piece::End);
    }
    if !looked.is_due(arrived, TRAILER_BYTES, Ends::EmptyLine) {
        return Ok(Piece::NeedMore);
    }
    let mut fields = [httparse::EMPTY_HEADER; TRAILER_FIELDS];
    let (length, trailers) = match httparse::parse_headers(arrived, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) if length <= TRAILER_BYTES => {
            let parsed: Option<HeaderMap> = fields
                .iter()
                .map(|field| {
                    let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
                    Some((name, HeaderValue::from_bytes(field.value).ok()?))
                })
                .collect();
            (length, parsed.ok_or(Malformed::new("a trailer field that is none"))?)
        }
        Ok(httparse::Status::Partial) if arrived.len() < TRAILER_BYTES => return Ok(Piece::NeedMore),
        Ok(_) => return Err(Malformed::new("the trailer section is too long")),
        Err(_) => return Err(Malformed::new("the trailer section is malformed, or has too many fields")),
    };
    arrived.advance(length);
    Ok(if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Data, trailers, whether the end came, and what is left.
    type Read = (Vec<u8>, Option<HeaderMap>, bool, Vec<u8>);

    /// Feeds bytes in parts.
    fn read(framing: Framing, parts: &[&[u8]]) -> Result<Read, Malformed> {
        let (mut framing, mut arrived) = (framing, BytesMut::new());
        let (mut data, mut trailers, mut ended) = (Vec::new(), None, false);
        for part in parts {
            arrived.extend_from_slice(part);
            while !ended {
                match framing.next(&mut arrived)? {
                    Piece::Data(bytes) => data.extend_from_slice(&bytes),
                    Piece::Trailers(fields) => (trailers, ended) = (Some(fields), true),
                    Piece::End => ended = true,
                    Piece::NeedMore => break,
                }
            }
        }
        assert_eq!(ended, framing.is_ended());
        Ok((data, trailers, ended, arrived.to_vec()))
    }

    #[test]
    fn a_body_of_known_length_ends_there_and_leaves_the_rest() {
        let (data, _, ended, rest) = read(Framing::Length(5), &[b"he", b"lloHTTP/1.1"]).unwrap();
        assert_eq!((data.as_slice(), ended, rest.as_slice()), (&b"hello"[..], true, &b"HTTP/1.1"[..]));
        let (data, _, ended, _) = read(Framing::Length(5), &[b"hell"]).unwrap();
        assert_eq!((data.as_slice(), ended), (&b"hell"[..], false));
    }

    #[test]
    fn chunks_are_joined_and_their_end_is_found_wherever_the_bytes_are_split() {
        let whole = b"5\r\nhello\r\n6;name=\"a b\"\r\n world\r\n0\r\nChecksum: abc\r\n\r\nrest";
        for split in 0..whole.len() {
            let (first, second) = whole.split_at(split);
            let (data, trailers, ended, rest) = read(Framing::chunked(), &[first, second]).unwrap();
            assert_eq!(data, b"hello world", "split at {split}");
            assert_eq!(trailers.unwrap()["checksum"], "abc", "split at {split}");
            assert!(ended && rest == b"rest", "split at {split}");
        }
        let parts: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(read(Framing::chunked(), &parts).unwrap().0, b"hello world");
    }

    #[test]
    fn zeros_in_front_of_a_size_mean_nothing() {
        for zeros in [1, 15, 16, 17, 100, CHUNK_LINE - 3] {
            let zeros = "0".repeat(zeros);
            let whole = format!("{zeros}5\r\nhello\r\n{zeros}\r\n\r\n");
            for split in [1, zeros.len(), zeros.len() + 1, zeros.len() + 2] {
                let (first, second) = whole.as_bytes().split_at(split);
                let (data, _, ended, _) = read(Framing::chunked(), &[first, second]).unwrap();
                assert_eq!(
                    (data.as_slice(), ended),
                    (b"hello".as_slice(), true),
                    "{} split at {split}",
                    zeros.len()
                );
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let long_line = [b"5;".as_slice(), &[b'a'; CHUNK_LINE]].concat();
        let many_zeros = [&[b'0'; CHUNK_LINE], b"2\r\nab\r\n".as_slice()].concat();
        let long_trailers = [b"0\r\nA: ".as_slice(), &[b'a'; TRAILER_BYTES]].concat();
        let many_trailers = [b"0\r\n".as_slice(), &b"A: b\r\n".repeat(TRAILER_FIELDS + 1), b"\r\n"].concat();
        for (bytes, why) in [
            (b"hello\r\n".as_slice(), "no size"),
            (b"-1\r\n", "a sign"),
            (b"\r\n", "an empty line"),
            (b"10000000000000000\r\n", "a size beyond 64 bits"),
            (b"2\r\nabc\r\n", "more data than said"),
            (b"2\r\nab\n", "a bare LF after the data"),
            (b"2;a\nab\r\n", "a bare LF in an extension"),
            (b"2;a\n", "a bare LF in an extension that does not end"),
            (b"0\r\nno colon\r\n\r\n", "a trailer that is no field"),
            (&long_line, "a long line"),
            (&many_zeros, "many zeros"),
            (b"00000000000000001g\r\n", "another digit behind zeros"),
            (b"000010000000000000000\r\n", "a size beyond 64 bits behind zeros"),
            (b"0000000000000000000-1\r\n", "a sign behind zeros"),
            (&long_trailers, "long trailers"),
            (&many_trailers, "many trailers"),
        ] {
            assert!(read(Framing::chunked(), &[bytes]).is_err(), "{why}");
        }
    }

    #[test]
    fn what_is_too_long_is_so_however_it_is_split() {
        let line =
            |length: usize| [b"1;".as_slice(), &vec![b'a'; length - 4], b"\r\nx\r\n0\r\n\r\n"].concat();
        let trailers = |length: usize| [b"0\r\nA: ", vec![b'a'; length - 7].as_slice(), b"\r\n\r\n"].concat();
        for (fits, long) in
            [(line(CHUNK_LINE), line(CHUNK_LINE + 1)), (trailers(TRAILER_BYTES), trailers(TRAILER_BYTES + 1))]
        {
            // The first two end within what is bounded, the last holds all of it.
            for split in [1, fits.len() - 30, fits.len()] {
                let (first, second) = fits.split_at(split);
                assert!(read(Framing::chunked(), &[first, second]).unwrap().2, "split at {split}");
                let (first, second) = long.split_at(split);
                assert!(read(Framing::chunked(), &[first, second]).is_err(), "split at {split}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_alike_however_they_are_split(
            bytes in prop::collection::vec(prop_oneof![4 => Just(b'\r'), 4 => Just(b'\n'), 4 => b'0'..=b'4', 1 => any::<u8>()], 0..80),
            split in 0_usize..80,
        ) {
            let (first, second) = bytes.split_at(split.min(bytes.len()));
            let whole = read(Framing::chunked(), &[&bytes]);
            let parts = read(Framing::chunked(), &[first, second]);
            match (whole, parts) {
                (Ok(whole), Ok(parts)) => prop_assert_eq!(whole, parts),
                (Ok(_), Err(error)) => prop_assert!(false, "taken as a whole, refused in parts: {error}"),
                // What is malformed in a line that is not all there may be noticed only at its end.
                (Err(_), parts) => prop_assert!(!parts.is_ok_and(|(.., ended, _)| ended), "refused as a whole"),
            }
        }
    }
}
