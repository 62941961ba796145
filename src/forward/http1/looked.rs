//! How much of an unfinished section was looked at: whoever sends it byte by byte must not have it parsed for each byte.
//!
//! A section is parsed when it begins, when a possible end of it has come, when its length passes a power of two,
//! and when it has all the bytes it may have. So all parsing together reads a few times its length, not the square of it.

use memchr::{memchr, memchr_iter};

/// How many bytes of a section were looked at, and were not all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked(usize);

/// Where a section may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// At the end of its first line.
    Line,
    /// At an empty line. A bare LF ends a line here too, as it does for the parser (RFC 9112 §2.2).
    EmptyLine,
}

impl Looked {
    /// Whether to parse what has arrived of a section that may have `most` bytes. Whoever parses and finds its end starts
    /// anew with the next one.
    pub(super) fn is_due(&mut self, arrived: &[u8], most: usize, ends: Ends) -> bool {
        let Self(before) = std::mem::replace(self, Self(arrived.len()));
        // Nearly all come in one piece, and cost no more than this.
        if before == 0 {
            return true;
        }
        arrived.len() >= most
            || arrived.len().checked_ilog2() > before.checked_ilog2()
            || ends.are_in(arrived.get(before.saturating_sub(Ends::OVERLAP)..).unwrap_or_default())
    }
}

impl Ends {
    /// How much of an end may have been at the end of what was looked at before.
    const OVERLAP: usize = 2;

    fn are_in(self, bytes: &[u8]) -> bool {
        match self {
            Self::Line => memchr(b'\n', bytes).is_some(),
            Self::EmptyLine => memchr_iter(b'\n', bytes)
                .any(|at| matches!(bytes.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..]))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes are parsed of a section that comes byte by byte, and how often the last byte makes it due.
    fn parsed(section: &[u8], most: usize, ends: Ends) -> (usize, bool) {
        let (mut looked, mut parsed, mut due) = (Looked::default(), 0, false);
        for end in 1..=section.len() {
            due = looked.is_due(&section[..end], most, ends);
            parsed += if due { end } else { 0 };
        }
        (parsed, due)
    }

    #[test]
    fn what_comes_byte_by_byte_is_parsed_a_few_times_and_at_its_end() {
        let line = [vec![b'a'; 4000], b"\r\n".to_vec()].concat();
        let section = [b"A: b\r\n".repeat(2000), b"\r\n".to_vec()].concat();
        for (section, ends) in [
            (line.as_slice(), Ends::Line),
            (&section, Ends::EmptyLine),
            (&[&section[..section.len() - 2], b"\n"].concat(), Ends::EmptyLine),
        ] {
            let (parsed, due) = parsed(section, usize::MAX, ends);
            assert!(due, "its end was not noticed");
            assert!(parsed < 4 * section.len(), "{parsed} bytes were parsed of {}", section.len());
        }
    }

    #[test]
    fn what_is_too_long_is_noticed_at_once() {
        let (_, due) = parsed(&[b'a'; 100], 100, Ends::EmptyLine);
        assert!(due);
    }

    #[test]
    fn an_end_is_found_wherever_the_bytes_are_split() {
        for (section, ends) in [
            (&b"5;a\r\n"[..], Ends::Line),
            (b"A: b\r\n\r\n", Ends::EmptyLine),
            (b"A: b\n\n", Ends::EmptyLine),
        ] {
            for split in 0..section.len() {
                let mut looked = Looked::default();
                looked.is_due(&section[..split], 4096, ends);
                assert!(looked.is_due(section, 4096, ends), "split at {split}");
            }
        }
    }
}
