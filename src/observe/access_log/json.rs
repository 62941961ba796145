//! One entry as one line of JSON (RFC 8259).
//!
//! Written by hand, because the shape is fixed and the text is hostile: besides what JSON asks for, everything that a
//! terminal acts on is escaped.

use std::io::Write;
use std::net::IpAddr;

use http::Version;

use super::{Entry, MAX_TEXT};

/// What stands for a token that was cut out.
const REDACTED: &str = "[redacted]";

pub(super) fn write_line(entry: &Entry<'_>, line: &mut Vec<u8>) {
    line.extend_from_slice(b"{\"time\":\"");
    write_time(line, entry.unix_ms);
    line.push(b'"');
    untrusted(line, "request_id", entry.request_id.as_bytes());
    if let Some(address) = entry.address {
        write_address(line, address);
    }
    text(line, "method", entry.method.as_str());
    if let Some(host) = entry.host {
        untrusted(line, "host", host);
    }
    let path = entry.path.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    untrusted(line, "path", path);
    text(line, "protocol", protocol(entry.protocol));
    flag(line, "tls", entry.tls);
    optional(line, "route", entry.route);
    number(line, "status", u64::from(entry.status));
    optional(line, "decision", entry.decision.map(|decision| decision.as_str()));
    optional(line, "reason", entry.reason.map(|reason| reason.as_str()));
    optional(line, "control", entry.reason.map(|reason| reason.control().as_str()));
    if let Some(cause) = entry.cause {
        untrusted(line, "cause", cause.as_bytes());
    }
    optional(line, "owner", entry.owner);
    optional(line, "issuer", entry.issuer);
    optional(line, "client", entry.client);
    optional(line, "subject", entry.subject);
    optional(line, "tenant", entry.tenant);
    optional(line, "upstream", entry.upstream);
    thousandths(line, "duration_ms", entry.duration.as_micros());
    if let Some(duration) = entry.decision_duration {
        thousandths(line, "decision_us", duration.as_nanos());
    }
    if let Some(duration) = entry.upstream_duration {
        thousandths(line, "upstream_ms", duration.as_micros());
    }
    if let Some(names) = entry.removed_headers {
        untrusted(line, "removed_headers", names.as_bytes());
    }
    number(line, "request_bytes", entry.request_bytes);
    number(line, "response_bytes", entry.response_bytes);
    line.extend_from_slice(b"}\n");
}

fn key(line: &mut Vec<u8>, name: &str) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
}

fn optional(line: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        text(line, name, value);
    }
}

fn text(line: &mut Vec<u8>, name: &str, value: &str) {
    key(line, name);
    write_string(line, value.as_bytes());
}

/// Text that a client chose and nothing has verified: a token that strayed into it is cut out.
fn untrusted(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    key(line, name);
    match find_token(value) {
        None => write_string(line, value),
        Some(_) => write_string(line, &redact(value)),
    }
}

fn flag(line: &mut Vec<u8>, name: &str, value: bool) {
    key(line, name);
    line.extend_from_slice(if value { b"true" } else { b"false" });
}

fn number(line: &mut Vec<u8>, name: &str, value: u64) {
    key(line, name);
    write_number(line, value);
}

/// A number of thousandths as a decimal fraction with three places.
fn thousandths(line: &mut Vec<u8>, name: &str, value: u128) {
    key(line, name);
    let value = u64::try_from(value).unwrap_or(u64::MAX);
    write_number(line, value / 1000);
    line.push(b'.');
    write_digits::<3>(line, value % 1000);
}

fn write_number(line: &mut Vec<u8>, value: u64) {
    let mut digits = [0; 20];
    let mut rest = value;
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    let (_, used) = digits.split_at(digits.len() - count);
    line.extend_from_slice(used);
}

/// The last `N` digits of a number, with leading zeros.
fn write_digits<const N: usize>(line: &mut Vec<u8>, value: u64) {
    let mut digits = [b'0'; N];
    let mut rest = value;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    line.extend_from_slice(&digits);
}

/// RFC 3339 §5.6 in UTC with milliseconds. Years outside 0 – 9999 have no such form and become the nearest that has.
fn write_time(line: &mut Vec<u8>, unix_ms: i64) {
    const EARLIEST: i64 = -62_167_219_200_000;
    const LATEST: i64 = 253_402_300_799_999;
    let unix_ms = unix_ms.clamp(EARLIEST, LATEST);
    let days = unix_ms.div_euclid(86_400_000);
    let within = unix_ms.rem_euclid(86_400_000).unsigned_abs();
    let (year, month, day) = civil(days);
    write_digits::<4>(line, year);
    line.push(b'-');
    write_digits::<2>(line, month);
    line.push(b'-');
    write_digits::<2>(line, day);
    line.push(b'T');
    write_digits::<2>(line, within / 3_600_000);
    line.push(b':');
    write_digits::<2>(line, within / 60_000 % 60);
    line.push(b':');
    write_digits::<2>(line, within / 1000 % 60);
    line.push(b'.');
    write_digits::<3>(line, within % 1000);
    line.push(b'Z');
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar without end.
///
/// The year is taken to begin in March, so that the leap day is its last; then months have a regular length of
/// 153 days in five, and 400 years are always 146,097 days.
fn civil(days: i64) -> (u64, u64, u64) {
    /// Days from 0000-03-01 to 1970-01-01.
    const SHIFT: i64 = 719_468;
    let shifted = days + SHIFT;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year.unsigned_abs(), month.unsigned_abs(), day.unsigned_abs())
}

fn write_address(line: &mut Vec<u8>, address: IpAddr) {
    key(line, "address");
    line.push(b'"');
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            write_number(line, a.into());
            for octet in [b, c, d] {
                line.push(b'.');
                write_number(line, octet.into());
            }
        }
        // Writing to a Vec does not fail.
        IpAddr::V6(address) => drop(write!(line, "{address}")),
    }
    line.push(b'"');
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP",
    }
}

/// A JSON string of at most [`MAX_TEXT`] bytes of `value`.
fn write_string(line: &mut Vec<u8>, value: &[u8]) {
    line.push(b'"');
    let (kept, cut) = match value.get(..MAX_TEXT) {
        Some(kept) if value.len() > MAX_TEXT => (whole_characters(kept), true),
        _ => (value, false),
    };
    if kept.iter().all(|byte| is_plain(*byte)) {
        line.extend_from_slice(kept);
    } else {
        write_escaped(line, kept);
    }
    if cut {
        line.extend_from_slice("…".as_bytes());
    }
    line.push(b'"');
}

/// What needs neither escaping nor a closer look.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

/// `kept` without the beginning of a character at its end, so that a cut makes no replacement character.
fn whole_characters(kept: &[u8]) -> &[u8] {
    let Some(last) = kept.utf8_chunks().last() else {
        return kept;
    };
    // Only an incomplete sequence at the end; invalid bytes elsewhere are shown as such.
    match std::str::from_utf8(last.invalid()) {
        Err(error) if error.error_len().is_none() => {
            kept.get(..kept.len() - last.invalid().len()).unwrap_or(kept)
        }
        _ => kept,
    }
}

fn write_escaped(line: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            write_character(line, character);
        }
        if !chunk.invalid().is_empty() {
            line.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
}

fn write_character(line: &mut Vec<u8>, character: char) {
    match character {
        '"' => line.extend_from_slice(b"\\\""),
        '\\' => line.extend_from_slice(b"\\\\"),
        '\n' => line.extend_from_slice(b"\\n"),
        '\r' => line.extend_from_slice(b"\\r"),
        '\t' => line.extend_from_slice(b"\\t"),
        _ if acts_on_a_terminal(character) => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let code = u32::from(character);
            line.extend_from_slice(b"\\u");
            for shift in [12, 8, 4, 0] {
                let digit = HEX.get((code >> shift & 0xF) as usize).copied().unwrap_or(b'0');
                line.push(digit);
            }
        }
        _ => line.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and what reorders text. All are below U+10000.
fn acts_on_a_terminal(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}'
        )
}

/// Where a compact JWS (RFC 7515 §7.1) lies: its header is a JSON object, so in base64url it starts with `eyJ`; then two
/// dots follow before the run of its characters ends.
///
/// Takes time in proportion to the length: of the `eyJ` in one run, the first has the most dots after it.
fn find_token(value: &[u8]) -> Option<(usize, usize)> {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let mut from = 0;
    loop {
        let start = from + memchr::memmem::find(value.get(from..)?, b"eyJ")?;
        let rest = value.get(start..)?;
        let length = rest.iter().position(|byte| !legal(byte)).unwrap_or(rest.len());
        if rest.iter().take(length).filter(|byte| **byte == b'.').count() >= 2 {
            return Some((start, start + length));
        }
        from = start + length;
    }
}

fn redact(value: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((start, end)) = find_token(rest) {
        let (before, from_token) = rest.split_at(start);
        kept.extend_from_slice(before);
        kept.extend_from_slice(REDACTED.as_bytes());
        rest = from_token.get(end - start..).unwrap_or_default();
    }
    kept.extend_from_slice(rest);
    kept
}
