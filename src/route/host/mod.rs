//! The host a request is for, and the patterns of hosts that routes name.
//!
//! 1. The authority of the target counts (`:authority`, or an absolute target); without one, the only Host field does.
//!    Where both are there they must agree, so that no server behind can choose the other (RFC 9112 §3.2, RFC 9113 §8.3.1).
//! 2. A default port of the target's scheme is no port. User information, an empty host, a port that is no number from 1
//!    to 65535, and characters that no host name holds are refused.
//! 3. An HTTP/1.0 request may have neither (RFC 1945); health checks of load balancers are such. It has no host, so only routes
//!    without `host` match it. Later versions need one.
//! 4. Hosts are compared in lower case, without port and without one dot at the end. Names beyond ASCII are written in
//!    their `xn--` form (RFC 5890); IPv6 addresses in brackets, in the form of RFC 5952.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use http::uri::Scheme;
use http::{HeaderMap, Uri, Version, header};

use crate::reject::{Reason, Reject};

/// Longest host in bytes (RFC 1035 §2.3.4, in text).
const MAX_LENGTH: usize = 253;

/// The effective host of a request: lower case, without port and trailing dot; empty if an HTTP/1.0 request names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a>(Cow<'a, str>);

impl<'a> Host<'a> {
    /// Finds the host of a request (RFC 9112 §3.2, RFC 9113 §8.3.1).
    ///
    /// # Errors
    ///
    /// `request_invalid`.
    pub fn of(uri: &'a Uri, headers: &'a HeaderMap, version: Version) -> Result<Self, Reject> {
        let mut fields = headers.get_all(header::HOST).iter();
        let field = fields.next();
        if fields.next().is_some() {
            return Err(invalid("more than one Host"));
        }
        let default_port = default_port(uri.scheme())?;
        let field = match field {
            Some(value) => {
                let text = value.to_str().map_err(|_| invalid("Host holds octets beyond ASCII"))?;
                Some(parse_authority(text, default_port)?)
            }
            None => None,
        };
        let target = match uri.authority() {
            Some(authority) => Some(parse_authority(authority.as_str(), default_port)?),
            None => None,
        };
        match (target, field) {
            (Some(target), Some(field)) if target != field => {
                Err(invalid("Host and the authority of the target differ"))
            }
            (Some((host, _)), _) | (None, Some((host, _))) => Ok(Self(host)),
            (None, None) if version == Version::HTTP_10 => Ok(Self(Cow::Borrowed(""))),
            (None, None) => Err(invalid("no Host")),
        }
    }

    /// The host; empty if the request names none.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the request names no host.
    pub fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

/// The host as the client wrote it, unchecked: in most requests it is the one form that [`Host::of`] gives, at no cost.
pub fn written<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    uri.host().or_else(|| headers.get(header::HOST)?.to_str().ok())
}

/// Which hosts a route is for.
///
/// A wildcard covers one label or more: `*.example.com` covers `a.example.com` and `a.b.example.com`, not `example.com`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// Any host.
    Any,
    /// This one, in lower case.
    Exact(Box<str>),
    /// Any below this one, which is in lower case, without `*.`.
    Below(Box<str>),
}

impl HostPattern {
    /// Parses `api.example.com`, `*.example.com`, `[::1]` or `*`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a sentence without a full stop.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(
                "a wildcard stands for whole labels at the start only, as in `*.example.com`".to_owned()
            );
        }
        if !name.is_ascii() {
            return Err("write the name in its `xn--` form".to_owned());
        }
        let (host, port) = parse_authority(name, None)
            .map_err(|reject| reject.cause.map_or_else(|| "not a host".to_owned(), Cow::into_owned))?;
        if port.is_some() {
            return Err("a route is for a host on any port: remove the port".to_owned());
        }
        if below && host.starts_with('[') {
            return Err("an address has nothing below it".to_owned());
        }
        Ok(if below { Self::Below(host.into()) } else { Self::Exact(host.into()) })
    }

    /// Whether the pattern stands for this host, which is in lower case without port.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => **name == *host,
            Self::Below(name) => is_below(host, name),
        }
    }

    /// Whether every host that `other` stands for is one of this pattern's, and the two are not the same.
    pub fn is_wider_than(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Any) | (Self::Exact(_), _) | (Self::Below(_), Self::Any) => false,
            (Self::Any, Self::Exact(_) | Self::Below(_)) => true,
            (Self::Below(name), Self::Exact(other) | Self::Below(other)) => is_below(other, name),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

fn is_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name)
        .and_then(|labels| labels.strip_suffix('.'))
        .is_some_and(|labels| !labels.is_empty())
}

/// The port that is no port in this scheme.
fn default_port(scheme: Option<&Scheme>) -> Result<Option<u16>, Reject> {
    match scheme.map(Scheme::as_str) {
        None => Ok(None),
        Some("http") => Ok(Some(80)),
        Some("https") => Ok(Some(443)),
        Some(_) => Err(invalid("the target's scheme is neither http nor https")),
    }
}

/// Takes `host[:port]` apart; a default port is as none.
fn parse_authority(text: &str, default_port: Option<u16>) -> Result<(Cow<'_, str>, Option<u16>), Reject> {
    let name_end = if text.starts_with('[') { text.find(']').map(|end| end + 1) } else { text.find(':') };
    let (name, port) = text.split_at_checked(name_end.unwrap_or(text.len())).unwrap_or((text, ""));
    let port = match port.strip_prefix(':') {
        Some(digits) => Some(parse_port(digits)?),
        None if port.is_empty() => None,
        None => return Err(invalid("an address that does not end at its bracket")),
    };
    Ok((normalise(name)?, port.filter(|port| Some(*port) != default_port)))
}

fn parse_port(digits: &str) -> Result<u16, Reject> {
    // `parse` alone would take a plus sign.
    let digits_only = digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<u16>() {
        Ok(port) if port != 0 && digits_only => Ok(port),
        Ok(_) | Err(_) => Err(invalid("a port that is no number from 1 to 65535")),
    }
}

/// The one form of a host.
fn normalise(name: &str) -> Result<Cow<'_, str>, Reject> {
    if let Some(address) = name.strip_prefix('[') {
        return normalise_ipv6(name, address.strip_suffix(']').unwrap_or_default());
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Err(invalid("an empty host"));
    }
    if name.len() > MAX_LENGTH {
        return Err(invalid("a host longer than 253 octets"));
    }
    let mut upper_case = false;
    let mut previous = b'.';
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'A'..=b'Z' => upper_case = true,
            b'.' if previous != b'.' => {}
            b'.' => return Err(invalid("a host with an empty label")),
            b'@' => return Err(invalid("user information before the host")),
            _ => return Err(invalid("a host with a character that no host name holds")),
        }
        previous = byte;
    }
    if previous == b'.' {
        return Err(invalid("a host with an empty label"));
    }
    Ok(if upper_case { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) })
}

fn normalise_ipv6<'a>(name: &'a str, address: &str) -> Result<Cow<'a, str>, Reject> {
    let address: Ipv6Addr =
        address.parse().map_err(|_| invalid("brackets around what is no IPv6 address"))?;
    let form = format!("[{address}]");
    Ok(if form == name { Cow::Borrowed(name) } else { Cow::Owned(form) })
}

fn invalid(cause: &'static str) -> Reject {
    Reject::because(Reason::RequestInvalid, cause)
}

#[cfg(test)]
mod tests;
