//! The octets of a path, escaped or not, and those that are not UTF-8.
//!
//! A path may hold octets that are not UTF-8 only escaped, so its text is ASCII. The functions here take canonical text.

use super::{ambiguous, decode};
use crate::reject::Reject;

/// One octet of a path with its spelling.
#[derive(Clone, Copy, Debug)]
pub(super) struct Octet {
    pub(super) value: u8,
    pub(super) escaped: bool,
    /// Whether it is an escape with hex digits in lower case.
    pub(super) lower_case: bool,
}

impl Octet {
    pub(super) const fn plain(value: u8) -> Self {
        Self { value, escaped: false, lower_case: false }
    }

    pub(super) const fn is_plain_slash(self) -> bool {
        self.value == b'/' && !self.escaped
    }
}

/// The octets of a path; a broken escape is an error.
pub(super) struct Octets<'a>(std::str::Bytes<'a>);

impl<'a> Octets<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self(text.bytes())
    }
}

impl Iterator for Octets<'_> {
    type Item = Result<Octet, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.0.next()?;
        if first != b'%' {
            return Some(Ok(Octet::plain(first)));
        }
        let mut lower_case = false;
        let mut digit = || {
            let byte = self.0.next()?;
            lower_case |= byte.is_ascii_lowercase();
            char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
        };
        let value = digit().and_then(|high| Some(high * 16 + digit()?));
        Some(match value {
            Some(value) => Ok(Octet { value, escaped: true, lower_case }),
            None => Err(ambiguous("a percent sign without two hex digits")),
        })
    }
}

/// Whether the text holds escaped octets that are not UTF-8.
pub(super) fn are_foreign(text: &str) -> bool {
    let beyond_ascii = |window: &[u8]| matches!(window, [b'%', b'8' | b'9' | b'A'..=b'F', _]);
    text.as_bytes().windows(3).any(beyond_ascii) && decode(text).is_none()
}

/// The text without the octets that are not UTF-8, as servers have it that drop them.
pub(super) fn without_foreign(text: &str) -> String {
    let octets = percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    if octets.utf8_chunks().all(|chunk| chunk.invalid().is_empty()) {
        return text.to_owned();
    }
    let mut left = String::with_capacity(text.len());
    let mut written = Written::of(text);
    for chunk in octets.utf8_chunks() {
        left.push_str(written.take(chunk.valid().len()));
        written.take(chunk.invalid().len());
    }
    left
}

/// The text as servers have it that read octets as ISO 8859-1: all octets, or only those that are not UTF-8.
pub(super) fn as_latin1(text: &str, all: bool) -> String {
    let octets = percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let mut read = String::with_capacity(text.len() * 2);
    let mut written = Written::of(text);
    for chunk in octets.utf8_chunks() {
        let (valid, invalid) = (chunk.valid(), chunk.invalid());
        if all {
            valid.bytes().for_each(|octet| push_latin1(&mut read, octet, &mut written));
        } else {
            read.push_str(written.take(valid.len()));
        }
        invalid.iter().for_each(|octet| push_latin1(&mut read, *octet, &mut written));
    }
    read
}

/// The text with each segment that is not UTF-8 read as ISO 8859-1, as servers have it that try one and then the other.
pub(super) fn as_latin1_by_segment(text: &str) -> String {
    let read = |segment: &str| match are_foreign(segment) {
        true => as_latin1(segment, true),
        false => segment.to_owned(),
    };
    text.split('/').map(read).collect::<Vec<_>>().join("/")
}

fn push_latin1(read: &mut String, octet: u8, written: &mut Written<'_>) {
    let as_written = written.take(1);
    if octet.is_ascii() {
        read.push_str(as_written);
        return;
    }
    for utf8 in char::from(octet).encode_utf8(&mut [0; 4]).bytes() {
        read.push_str(percent_encoding::percent_encode_byte(utf8));
    }
}

/// Whether octets spell an ASCII character in more octets than UTF-8 needs (RFC 3629 §10): `%C0%AE` is a dot to some servers.
pub(super) fn hold_overlong_ascii(text: &str) -> bool {
    let octets = percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    (0..octets.len()).any(|start| {
        // The lead octet has no bit of the character beyond the last seven; nor have those before the last two.
        let zeros = match octets.get(start) {
            Some(0xC0 | 0xC1) => 0,
            Some(0xE0) => 1,
            Some(0xF0) => 2,
            Some(0xF8) => 3,
            Some(0xFC) => 4,
            Some(_) | None => return false,
        };
        let follow = octets.get(start + 1..).unwrap_or_default();
        let (before, after) = follow.split_at_checked(zeros).unwrap_or((follow, &[]));
        let upper = match (before.split_last(), zeros) {
            (None, 0) => true,
            (Some((last, first)), _) => {
                first.iter().all(|octet| *octet == 0x80) && matches!(last, 0x80 | 0x81)
            }
            (None, _) => false,
        };
        upper && matches!(after.first(), Some(0x80..=0xBF))
    })
}

/// The text, to be taken by octets of its value.
struct Written<'a>(&'a str);

impl<'a> Written<'a> {
    const fn of(text: &'a str) -> Self {
        Self(text)
    }

    /// What spells the next octets.
    fn take(&mut self, octets: usize) -> &'a str {
        let bytes = self.0.as_bytes();
        let mut end = 0;
        for _ in 0..octets {
            end += if bytes.get(end) == Some(&b'%') { 3 } else { 1 };
        }
        let (taken, rest) = self.0.split_at_checked(end).unwrap_or((self.0, ""));
        self.0 = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_octets_are_read_in_each_way() {
        for (text, dropped, all, some, by_segment) in [
            ("/caf%E9", "/caf", "/caf%C3%A9", "/caf%C3%A9", "/caf%C3%A9"),
            ("/adm%FFin", "/admin", "/adm%C3%BFin", "/adm%C3%BFin", "/adm%C3%BFin"),
            ("/%C3%A9/%E9", "/%C3%A9/", "/%C3%83%C2%A9/%C3%A9", "/%C3%A9/%C3%A9", "/%C3%A9/%C3%A9"),
            ("/%C3%A9%E9", "/%C3%A9", "/%C3%83%C2%A9%C3%A9", "/%C3%A9%C3%A9", "/%C3%83%C2%A9%C3%A9"),
            ("/a%2Fb%E9%20", "/a%2Fb%20", "/a%2Fb%C3%A9%20", "/a%2Fb%C3%A9%20", "/a%2Fb%C3%A9%20"),
        ] {
            assert!(are_foreign(text), "{text}");
            assert_eq!(without_foreign(text), dropped, "{text}");
            assert_eq!(as_latin1(text, true), all, "{text}");
            assert_eq!(as_latin1(text, false), some, "{text}");
            assert_eq!(as_latin1_by_segment(text), by_segment, "{text}");
        }
        assert_eq!(without_foreign("/%C3%A9"), "/%C3%A9");
    }

    #[test]
    fn overlong_ascii_is_seen() {
        for text in [
            "%C0%AE",
            "%C1%9C",
            "x%C0%AFy",
            "%E0%80%AF",
            "%E0%81%9C",
            "%F0%80%80%AE",
            "%F8%80%80%80%AF",
            "%FC%80%80%80%80%AF",
        ] {
            assert!(hold_overlong_ascii(text), "{text}");
        }
        for text in [
            "%C0",
            "%C0la",
            "%C1%E9",
            "%C2%AE",
            "%E0%82%AF",
            "%E0%A4%80",
            "%F0%9F%98%80",
            "%F0%80",
            "%E9",
            "%E0%80",
        ] {
            assert!(!hold_overlong_ascii(text), "{text}");
        }
    }
}
