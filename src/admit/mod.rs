//! Is this a request whose meaning is beyond doubt?
//!
//! What hyper lets through although two servers could read it differently (RFC 9112 §6, RFC 9113 §8.2.2) is refused here,
//! before anything is decided on it:
//!
//! 1. Method: CONNECT and TRACE are never answered, nor is one that differs from a known one only in letter case. Target:
//!    within the limit, not `*`, no octets beyond ASCII. `server` rejects a fragment; where it cannot, [`Uri`] drops it.
//! 2. Framing: one Content-Length in plain decimal, or one `Transfer-Encoding: chunked` in HTTP/1.1, never both. hyper
//!    removes a Content-Length beside Transfer-Encoding and closes; what it leaves is judged here.
//! 3. HTTP/1.1 without Host is refused here (HTTP/1.0 has none), all else about the host in [`crate::route::host`].
//! 4. HTTP/2 has no field that is about a connection, and no white space around a value (RFC 9113 §8.2.1).
//! 5. Expect is `100-continue` or absent. A request for a WebSocket has no body; any other offer to
//!    upgrade is ignored (RFC 9110 §7.8), with a body or without.
//! 6. Number and size of fields are bounded in both protocols; each crumb of a Cookie counts.
//!
//! The head alone is looked at: no I/O, one pass over the fields, no allocation for a request that is taken.

pub mod max_forwards;
pub mod method_query;
pub mod websocket;

use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};

use crate::limits::Limits;
use crate::reject::{Reason, Reject};

/// The head of a request, as far as a decision looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The request target.
    pub uri: &'a Uri,
    /// The protocol version the client speaks.
    pub version: Version,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

/// What a field takes beside its name and value: the colon, a space and the end of the line.
const FIELD_OVERHEAD: usize = 4;

/// Checks the head.
///
/// # Errors
///
/// `request_invalid`, `method_not_allowed`, `uri_too_long`, `headers_too_large`, `expectation_failed`.
pub fn check(head: &Head<'_>, limits: &Limits) -> Result<(), Reject> {
    check_method(head.method)?;
    check_target(head.uri, limits)?;
    if head.headers.len() > limits.headers {
        return Err(Reject::because(Reason::HeadersTooLarge, "too many fields"));
    }
    let fields = Fields::read(head.headers, limits)?;
    match head.version {
        Version::HTTP_10 | Version::HTTP_11 => fields.check_http1(head),
        Version::HTTP_2 => fields.check_http2(head.headers),
        _ => Err(invalid("neither HTTP/1.0, HTTP/1.1 nor HTTP/2")),
    }?;
    fields.check_expect()
}

fn check_method(method: &Method) -> Result<(), Reject> {
    match *method {
        Method::CONNECT | Method::TRACE => {
            Err(Reject::because(Reason::MethodNotAllowed, "CONNECT and TRACE are never answered"))
        }
        Method::GET
        | Method::POST
        | Method::HEAD
        | Method::PUT
        | Method::DELETE
        | Method::OPTIONS
        | Method::PATCH => Ok(()),
        _ => check_extension(method.as_str()),
    }
}

/// Methods of the IANA registry that servers serve beyond the common ones.
const REGISTERED: [&str; 31] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
    "PURGE",
];

/// Refuses a method that differs from a known one only in letter case. Some servers serve `delete` as DELETE, which another
/// route may protect.
fn check_extension(method: &str) -> Result<(), Reject> {
    if !method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Ok(());
    }
    let common = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    match common.iter().chain(&REGISTERED).any(|known| known.eq_ignore_ascii_case(method)) {
        true => Err(invalid("the method differs from a known one only in letter case")),
        false => Ok(()),
    }
}

fn check_target(uri: &Uri, limits: &Limits) -> Result<(), Reject> {
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if target.len() + authority.len() > limits.uri {
        let (length, limit) = (target.len() + authority.len(), limits.uri);
        let cause = format!("the target has {length} bytes; `limits.uri` is {limit}");
        return Err(Reject::because(Reason::UriTooLong, cause));
    }
    if target == "*" {
        return Err(invalid("the target `*` is about no resource"));
    }
    // A path is judged octet by octet when it is parsed; the query is not, since it is sent as it came.
    if !target.is_ascii() {
        return Err(invalid("octets beyond ASCII in the target"));
    }
    Ok(())
}

/// What the one pass over the fields gathers.
#[derive(Default)]
struct Fields<'a> {
    transfer_encoding: Once<'a>,
    content_length: Once<'a>,
    expect: Once<'a>,
    has_host: bool,
    offers_websocket: bool,
    has_padding: bool,
    wants_upgrade: bool,
}

/// A field that may be there once.
#[derive(Default)]
enum Once<'a> {
    #[default]
    Absent,
    Value(&'a HeaderValue),
    Repeated,
}

impl<'a> Once<'a> {
    fn note(&mut self, value: &'a HeaderValue) {
        *self = match self {
            Self::Absent => Self::Value(value),
            Self::Value(_) | Self::Repeated => Self::Repeated,
        };
    }

    const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<'a> Fields<'a> {
    /// Reads all fields once; refuses too many bytes.
    fn read(headers: &'a HeaderMap, limits: &Limits) -> Result<Self, Reject> {
        let mut fields = Self::default();
        let mut bytes = 0;
        for (name, value) in headers {
            bytes += name.as_str().len() + value.len() + FIELD_OVERHEAD;
            if bytes > limits.header_bytes {
                return Err(Reject::because(Reason::HeadersTooLarge, "too many bytes in fields"));
            }
            fields.has_padding |= is_padded(value.as_bytes());
            match name.as_str() {
                "connection" => fields.wants_upgrade |= lists(value, b"upgrade"),
                "content-length" => fields.content_length.note(value),
                "expect" => fields.expect.note(value),
                "host" => fields.has_host = true,
                "transfer-encoding" => fields.transfer_encoding.note(value),
                "upgrade" => fields.offers_websocket |= lists(value, b"websocket"),
                _ => {}
            }
        }
        Ok(fields)
    }

    /// RFC 9112 §3.2, §6.1 – §6.3.
    fn check_http1(&self, head: &Head<'_>) -> Result<(), Reject> {
        if !self.has_host && head.version == Version::HTTP_11 {
            return Err(invalid("no Host"));
        }
        let length = self.length()?;
        match self.transfer_encoding {
            Once::Absent => {}
            Once::Value(_) | Once::Repeated if head.version == Version::HTTP_10 => {
                return Err(invalid("Transfer-Encoding in HTTP/1.0"));
            }
            Once::Value(_) | Once::Repeated if length.is_some() => {
                return Err(invalid("Transfer-Encoding beside Content-Length"));
            }
            Once::Value(value) if value.as_bytes().eq_ignore_ascii_case(b"chunked") => {}
            Once::Value(_) | Once::Repeated => {
                return Err(invalid("a Transfer-Encoding other than `chunked` alone"));
            }
        }
        let has_body = !self.transfer_encoding.is_absent() || length.is_some_and(|length| length > 0);
        if self.wants_upgrade && self.offers_websocket && has_body {
            return Err(invalid("a WebSocket handshake with a body"));
        }
        Ok(())
    }

    /// RFC 9113 §8.2.1, §8.2.2.
    fn check_http2(&self, headers: &HeaderMap) -> Result<(), Reject> {
        if self.has_padding {
            return Err(invalid("white space before or after a field value in HTTP/2"));
        }
        self.length()?;
        let of_connection = [
            "connection",
            "http2-settings",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
        ];
        if of_connection.iter().any(|name| headers.contains_key(*name)) {
            return Err(invalid("a field about the connection in HTTP/2"));
        }
        if headers.get_all(header::TE).iter().any(|te| te != "trailers") {
            return Err(invalid("TE other than `trailers` in HTTP/2"));
        }
        Ok(())
    }

    /// The Content-Length: digits without a zero in front (RFC 9110 §8.6 allows zeros; some servers read them as octal).
    fn length(&self) -> Result<Option<u64>, Reject> {
        let value = match self.content_length {
            Once::Absent => return Ok(None),
            Once::Value(value) => value,
            Once::Repeated => return Err(invalid("more than one Content-Length")),
        };
        let plain = match value.as_bytes() {
            [b'0'] => true,
            [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        match value.to_str().ok().and_then(|text| text.parse().ok()) {
            Some(length) if plain => Ok(Some(length)),
            Some(_) | None => Err(invalid("a Content-Length that is no plain decimal")),
        }
    }

    /// RFC 9110 §10.1.1.
    fn check_expect(&self) -> Result<(), Reject> {
        match self.expect {
            Once::Absent => Ok(()),
            Once::Value(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(()),
            Once::Value(_) | Once::Repeated => Err(Reject::because(
                Reason::ExpectationFailed,
                "expected no Expect field, or one with `100-continue`",
            )),
        }
    }
}

/// Whether white space stands before or after the value. HTTP/1 parsers remove it, HTTP/2 does not.
const fn is_padded(value: &[u8]) -> bool {
    matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

/// Whether a field that is a list of tokens holds this one, in any letter case.
fn lists(value: &HeaderValue, token: &[u8]) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token))
}

fn invalid(cause: &'static str) -> Reject {
    Reject::because(Reason::RequestInvalid, cause)
}

#[cfg(test)]
mod tests;
