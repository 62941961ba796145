//! The one canonical path: matched and forwarded.
//!
//! 1. One pass over the bytes. A path without escapes, and one whose escapes are canonical already, is borrowed.
//! 2. Canonical form (RFC 3986 §6.2.2): escaped unreserved octets are decoded, hex digits of the other escapes are upper
//!    case. Nothing else changes, and parsing a canonical path gives the same path.
//! 3. Refused always, because some server reads it differently: octets outside `pchar` and `/` (RFC 3986 §3.3), broken
//!    escapes, escaped controls, escapes that are no UTF-8, dot segments in any spelling, and segments whose name ends in
//!    a dot or a space (such an end is dropped by servers on Windows file systems), and escapes that are escaped twice or
//!    more. All of this also where it shows only after the path is decoded once more. Dot segments are never removed: a
//!    client that means another path can send it.
//! 4. Refused unless the matched route opts in ([`PathOptOuts`]): escaped slashes and backslashes, empty segments,
//!    semicolons, and escapes that are escaped once more. An escaped slash never ends a segment.
//! 5. Even then such a path is served only if every way to read it leads to the same route (`readings`).
//!
//! A slash at the end is part of the path: `/a` and `/a/` are two paths.

mod opt_outs;
pub(super) mod readings;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

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
        let mut escapes = false;
        let mut previous = 0;
        for byte in raw.bytes() {
            match byte {
                b'/' | b';' if previous == b'.' => return Err(ends_in_dot()),
                b'/' if previous == b'/' => doubts |= PathOptOuts::EMPTY_SEGMENTS,
                b';' => {
                    doubts |= PathOptOuts::SEMICOLON;
                    if previous == b'/' {
                        // To a server that drops parameters, this segment is empty.
                        doubts |= PathOptOuts::EMPTY_SEGMENTS;
                    }
                }
                b'%' => escapes = true,
                b'/' => {}
                _ if is_unreserved(byte) || is_unescaped_reserved(byte) => {}
                _ => return Err(ambiguous("an octet that a path may hold only escaped")),
            }
            previous = byte;
        }
        if previous == b'.' {
            return Err(ends_in_dot());
        }
        if escapes {
            Self::with_escapes(raw)
        } else {
            Ok(Self { text: Cow::Borrowed(raw), doubts, cuts: false })
        }
    }

    /// The part of [`Self::parse`] that few requests need.
    fn with_escapes(raw: &'a str) -> Result<Self, Reject> {
        let text = respell(raw)?;
        let (mut doubts, mut cuts) = look(&text)?;
        if holds_escaped_escape(&text) {
            if is_escaped_thrice(&text) {
                return Err(ambiguous("an escape that is escaped more than once"));
            }
            doubts |= PathOptOuts::DOUBLE_ENCODING;
            // A server that decodes once more must not find what is refused always. What it finds beside that is a reading.
            let once_more = readings::decode_once_more(&text);
            cuts |= look(&respell(&once_more)?)?.1;
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
/// Returns `None` where that is no UTF-8, which no segment of a [`CanonicalPath`] is.
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
    let mut beyond_ascii = false;
    for octet in Octets::of(raw) {
        let octet = octet?;
        if octet.value.is_ascii_control() {
            return Err(ambiguous("an escaped control character"));
        }
        changes |= octet.escaped && (octet.lower_case || is_unreserved(octet.value));
        beyond_ascii |= !octet.value.is_ascii();
    }
    if beyond_ascii && decode(raw).is_none() {
        return Err(ambiguous("escaped octets that are no UTF-8"));
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
/// an escaped `?` or `#`; refuses names that end in a dot or a space.
fn look(text: &str) -> Result<(PathOptOuts, bool), Reject> {
    let mut doubts = PathOptOuts::NONE;
    let mut cuts = false;
    let mut previous = Octet::plain(0);
    for octet in Octets::of(text) {
        let octet = octet?;
        if matches!(octet.value, b'/' | b'\\' | b';' | b'?' | b'#') {
            previous.may_end_name()?;
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
    previous.may_end_name()?;
    Ok((doubts, cuts))
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

/// One octet of a path with its spelling.
#[derive(Clone, Copy, Debug)]
struct Octet {
    value: u8,
    escaped: bool,
    /// Whether it is an escape with hex digits in lower case.
    lower_case: bool,
}

impl Octet {
    const fn plain(value: u8) -> Self {
        Self { value, escaped: false, lower_case: false }
    }

    const fn is_plain_slash(self) -> bool {
        self.value == b'/' && !self.escaped
    }

    /// A dot or a space at the end of a name is dropped by some servers.
    fn may_end_name(self) -> Result<(), Reject> {
        match self.value {
            b'.' => Err(ends_in_dot()),
            b' ' => Err(ambiguous("a segment that ends in a space")),
            _ => Ok(()),
        }
    }
}

/// The octets of a path; a broken escape is an error.
struct Octets<'a>(std::str::Bytes<'a>);

impl<'a> Octets<'a> {
    fn of(text: &'a str) -> Self {
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

fn ambiguous(cause: impl Into<Cow<'static, str>>) -> Reject {
    Reject::because(Reason::PathAmbiguous, cause)
}

fn ends_in_dot() -> Reject {
    ambiguous("a dot segment, or a segment that ends in a dot")
}
