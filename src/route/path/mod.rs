//! The one canonical path: matched and forwarded.
//!
//! 1. One pass over the bytes. A path without escapes, and one whose escapes are canonical already, is borrowed.
//! 2. Canonical form (RFC 3986 §6.2.2): escaped unreserved octets are decoded, hex digits of the other escapes are upper
//!    case. Nothing else changes, and parsing a canonical path gives the same path.
//! 3. Refused always, because some server reads it differently: octets outside `pchar` and `/` (RFC 3986 §3.3), broken
//!    escapes, escaped controls, overlong forms of ASCII characters, dot segments in any spelling, segments of dots and spaces
//!    alone, and escapes that are escaped twice or more. All of this also where it shows only after the path is decoded once
//!    more, or once octets that are not UTF-8 are dropped. Dot segments are never removed: a client that means another path
//!    can send it.
//! 4. Refused unless the matched route opts in ([`PathOptOuts`]): escaped slashes and backslashes, empty segments,
//!    semicolons, escapes that are escaped once more, segments that end in a dot or a space (Windows file systems drop such an
//!    end), and octets that are not UTF-8. What shows of the last three only after a second decoding is refused always. An
//!    escaped slash never ends a segment.
//! 5. Even then such a path is served only if every way to read it leads to the same route (`readings`).
//!
//! A slash at the end is part of the path: `/a` and `/a/` are two paths.

mod octets;
mod opt_outs;
pub(super) mod readings;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use octets::{Octet, Octets};
pub use opt_outs::PathOptOuts;

use crate::reject::{Reason, Reject};

/// A path in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    text: Cow<'a, str>,
    doubts: PathOptOuts,
    /// Whether it holds an escaped `?` or `#`, where a server that decodes too early would end the path.
    cuts: bool,
}

impl<'a> CanonicalPath<'a> {
    /// Brings a raw path to its canonical form.
    ///
    /// # Errors
    ///
    /// `request_invalid` for a target that does not start with `/`; `path_ambiguous` for what is refused always.
    pub fn parse(raw: &'a str) -> Result<Self, Reject> {
        if !raw.starts_with('/') {
            return Err(Reject::because(Reason::RequestInvalid, "the target is no absolute path"));
        }
        let mut doubts = PathOptOuts::NONE;
        let mut needs_look = false;
        let mut previous = 0;
        for byte in raw.bytes() {
            match byte {
                b'/' | b';' if previous == b'.' => needs_look = true,
                b'/' if previous == b'/' => doubts |= PathOptOuts::EMPTY_SEGMENTS,
                b';' => {
                    doubts |= PathOptOuts::SEMICOLON;
                    if previous == b'/' {
                        // To a server that drops parameters, this segment is empty.
                        doubts |= PathOptOuts::EMPTY_SEGMENTS;
                    }
                }
                b'%' => needs_look = true,
                b'/' => {}
                _ if is_unreserved(byte) || is_unescaped_reserved(byte) => {}
                _ => return Err(ambiguous("an octet that a path may hold only escaped")),
            }
            previous = byte;
        }
        if needs_look || previous == b'.' {
            Self::closely(raw)
        } else {
            Ok(Self { text: Cow::Borrowed(raw), doubts, cuts: false })
        }
    }

    /// The part of [`Self::parse`] that few requests need.
    fn closely(raw: &'a str) -> Result<Self, Reject> {
        let text = respell(raw)?;
        let (mut doubts, mut cuts) = look(&text)?;
        if octets::are_foreign(&text) {
            doubts |= PathOptOuts::NON_UTF8;
            if octets::hold_overlong_ascii(&text) {
                return Err(ambiguous("an overlong form of an ASCII character"));
            }
            // A server that drops such octets must not find what is refused always.
            let dropped = octets::without_foreign(&text);
            doubts |= look(&dropped)?.0.without(PathOptOuts::EMPTY_SEGMENTS);
            if holds_escaped_escape(&dropped) {
                return Err(ambiguous("octets that are not UTF-8 beside an escape that is escaped"));
            }
        }
        if holds_escaped_escape(&text) {
            if is_escaped_thrice(&text) {
                return Err(ambiguous("an escape that is escaped more than once"));
            }
            doubts |= PathOptOuts::DOUBLE_ENCODING;
            // A server that decodes once more must not find what is refused always. What it finds beside that is a reading.
            let once_more = readings::decode_once_more(&text);
            let once_more = respell(&once_more)?;
            let (found, cut) = look(&once_more)?;
            cuts |= cut;
            if octets::are_foreign(&once_more) {
                return Err(ambiguous("octets that are not UTF-8 in an escape that is escaped"));
            }
            let ends = PathOptOuts::TRAILING_DOT | PathOptOuts::TRAILING_SPACE;
            if !doubts.contains(found.without(PathOptOuts::ALL.without(ends))) {
                return Err(ambiguous("a segment that ends in a dot or a space once it is decoded twice"));
            }
        }
        Ok(Self { text, doubts, cuts })
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The doubtful spellings in this path.
    pub const fn doubts(&self) -> PathOptOuts {
        self.doubts
    }

    /// Refuses the doubtful spellings in this path that the matched route did not opt in to.
    ///
    /// # Errors
    ///
    /// `path_ambiguous`.
    pub fn allowed_by(&self, opt_outs: PathOptOuts) -> Result<(), Reject> {
        let refused = self.doubts.without(opt_outs);
        if refused.is_empty() {
            Ok(())
        } else {
            Err(ambiguous(format!("the route does not take: {refused:?}")))
        }
    }
}

/// The value of a canonical segment: its escapes decoded, once.
///
/// Returns `None` where that is not UTF-8 ([`PathOptOuts::NON_UTF8`]).
pub(super) fn decode(segment: &str) -> Option<Cow<'_, str>> {
    if segment.contains('%') {
        percent_encoding::percent_decode_str(segment).decode_utf8().ok()
    } else {
        Some(Cow::Borrowed(segment))
    }
}

/// Decodes escaped unreserved octets and writes the other escapes in upper case; refuses what is refused for its octets.
fn respell(raw: &str) -> Result<Cow<'_, str>, Reject> {
    let mut changes = false;
    for octet in Octets::of(raw) {
        let octet = octet?;
        if octet.value.is_ascii_control() {
            return Err(ambiguous("an escaped control character"));
        }
        changes |= octet.escaped && (octet.lower_case || is_unreserved(octet.value));
    }
    if !changes {
        return Ok(Cow::Borrowed(raw));
    }
    let mut text = String::with_capacity(raw.len());
    for octet in Octets::of(raw) {
        let octet = octet?;
        if octet.escaped && !is_unreserved(octet.value) {
            text.push_str(percent_encoding::percent_encode_byte(octet.value));
        } else {
            text.push(char::from(octet.value));
        }
    }
    Ok(Cow::Owned(text))
}

/// The doubtful spellings in a text that [`respell`] has brought to one form, double encoding aside, and whether it holds
/// an escaped `?` or `#`; refuses names of dots and spaces alone.
fn look(text: &str) -> Result<(PathOptOuts, bool), Reject> {
    let mut doubts = PathOptOuts::NONE;
    let mut cuts = false;
    let mut previous = Octet::plain(0);
    let mut name = Name::default();
    for octet in Octets::of(text) {
        let octet = octet?;
        match octet.value {
            b'/' | b'\\' | b';' | b'?' | b'#' => doubts |= std::mem::take(&mut name).end()?,
            value => name.push(value),
        }
        match octet {
            Octet { value: b'/', escaped: true, .. } => doubts |= PathOptOuts::ENCODED_SLASH,
            Octet { value: b'\\', .. } => doubts |= PathOptOuts::ENCODED_BACKSLASH,
            Octet { value: b'/', .. } if previous.is_plain_slash() => {
                doubts |= PathOptOuts::EMPTY_SEGMENTS;
            }
            Octet { value: b';', .. } => {
                doubts |= PathOptOuts::SEMICOLON;
                if previous.is_plain_slash() {
                    doubts |= PathOptOuts::EMPTY_SEGMENTS;
                }
            }
            Octet { value: b'?' | b'#', .. } => cuts = true,
            _ => {}
        }
        previous = octet;
    }
    doubts |= name.end()?;
    Ok((doubts, cuts))
}

/// A name in a path: what stands between slashes and the other characters that may end it for some server.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    /// Whether it holds anything but dots and spaces.
    solid: bool,
    /// The dots and spaces that it ends in so far.
    end: PathOptOuts,
}

impl Name {
    fn push(&mut self, value: u8) {
        match value {
            b'.' => self.end |= PathOptOuts::TRAILING_DOT,
            b' ' => self.end |= PathOptOuts::TRAILING_SPACE,
            _ => *self = Self { solid: true, end: PathOptOuts::NONE },
        }
    }

    /// The doubts in how it ends.
    fn end(self) -> Result<PathOptOuts, Reject> {
        if self.solid || self.end.is_empty() {
            Ok(self.end)
        } else {
            Err(ambiguous("a segment of dots or spaces alone"))
        }
    }
}

/// Whether decoding once leaves an escape: `%252e`, or `%25u002e` of servers with such escapes.
fn holds_escaped_escape(text: &str) -> bool {
    holds_escaped_octet(text) || text.contains("%25u") || text.contains("%25U")
}

fn holds_escaped_octet(text: &str) -> bool {
    text.as_bytes().windows(5).any(|window| match window {
        [b'%', b'2', b'5', high, low] => high.is_ascii_hexdigit() && low.is_ascii_hexdigit(),
        _ => false,
    })
}

/// Whether decoding twice leaves an escape, also for a decoder that lets a lone percent sign stand.
fn is_escaped_thrice(text: &str) -> bool {
    holds_escaped_octet(&readings::decode_once_more(text)) || holds_escaped_escape(&text.replace("%25", "%"))
}

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What of RFC 3986 §2.2 may stand in a segment, `;` aside.
const fn is_unescaped_reserved(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

fn ambiguous(cause: impl Into<Cow<'static, str>>) -> Reject {
    Reject::because(Reason::PathAmbiguous, cause)
}
