//! Absolute http and https URLs as a policy writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// A URL without user information and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// Whether it is https.
    pub(super) secure: bool,
    /// Name in lower case, or address without brackets.
    pub(super) host: Box<str>,
    /// Port, the scheme's own if none is written.
    pub(super) port: u16,
    /// Path; `/` if none is written.
    pub(super) path: Box<str>,
    /// Whether there is a query.
    pub(super) query: bool,
    /// The URL as `http` knows it.
    pub(super) uri: Uri,
}

impl Url {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains('#') {
            return Err("a URL without fragment (`#…`) is needed");
        }
        // `Uri` takes more than that, such as quotes and backslashes.
        if !text.bytes().all(is_of_url) {
            return Err(
                "a URL holds letters and digits of ASCII, `%` and `-._~:/?[]@!$&'()*+,;=`: escape what else there is",
            );
        }
        let uri: Uri = text.parse().map_err(|_| "not a URL")?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err("a URL that begins with `https://` or `http://` is needed"),
        };
        let authority = uri.authority().ok_or("a URL without host")?;
        if authority.as_str().contains('@') {
            return Err("a URL must not hold a user name or password");
        }
        let written = authority.host();
        let port = match authority.as_str().get(written.len()..) {
            None | Some("") => {
                if secure {
                    443
                } else {
                    80
                }
            }
            Some(port) => {
                let port = port.strip_prefix(':').and_then(|port| port.parse().ok());
                port.filter(|port| *port != 0).ok_or("the port is not a number from 1 to 65535")?
            }
        };
        let host = written.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(written);
        if host.is_empty() || host.contains('*') {
            return Err("a URL without host");
        }
        if has_wrong_brackets(authority.as_str()) {
            return Err("brackets around what is no IPv6 address");
        }
        Ok(Self {
            secure,
            host: host.to_ascii_lowercase().into(),
            port,
            path: uri.path().into(),
            query: uri.query().is_some(),
            uri,
        })
    }

    /// Whether it is nothing but scheme, host and port.
    pub(super) fn is_origin(&self) -> bool {
        &*self.path == "/" && !self.query
    }

    /// Whether its host is this machine.
    pub(super) fn is_loopback(&self) -> bool {
        &*self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether both have the same scheme, host and port.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// The origin as text, without the scheme's own port.
    pub(super) fn origin(&self) -> String {
        let (scheme, own) = if self.secure { ("https", 443) } else { ("http", 80) };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        if self.port == own {
            format!("{scheme}://{host}")
        } else {
            format!("{scheme}://{host}:{}", self.port)
        }
    }
}

/// Whether brackets stand around anything but an IPv6 address (RFC 3986 §3.2.2).
pub(super) fn has_wrong_brackets(authority: &str) -> bool {
    if !authority.contains(['[', ']']) {
        return false;
    }
    let inner = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    inner.is_none_or(|(address, port)| {
        address.parse::<Ipv6Addr>().is_err() || !(port.is_empty() || port.starts_with(':'))
    })
}

/// Whether the last label of a name is a number, so that browsers and resolvers read it as an IPv4 address or refuse it
/// (WHATWG URL §3.5), although it is none in the usual form.
pub(super) fn ends_in_number(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_hex = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")).is_some_and(is_hex);
    is_number && host.parse::<Ipv4Addr>().is_err()
}

/// Whether a URL may hold this byte (RFC 3986 §2): a quote, for one, would end the text of a header it is written in.
const fn is_of_url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b':' | b'/' | b'?' | b'[' | b']' | b'@')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_url_holds_is_refused() {
        for byte in 0..=0x7f_u8 {
            let text = format!("https://api.example.com/a{}b", char::from(byte));
            let legal = byte.is_ascii_alphanumeric() || b"-._~%:/?[]@!$&'()*+,;=".contains(&byte);
            assert_eq!(Url::parse(&text).is_ok(), legal, "{text:?}");
        }
        assert!(Url::parse("https://api.example.com/\u{e9}").is_err());
        assert!(Url::parse("https://api.example.com/%C3%A9").is_ok());
    }

    #[test]
    fn brackets_hold_ipv6_addresses() {
        for (url, good) in [
            ("http://[::1]:80", true),
            ("http://[::1]", true),
            ("http://[2001:db8::1]/", true),
            ("http://[api]:80", false),
            ("http://[127.0.0.1]", false),
            ("http://[fe80::1%25eth0]", false),
            ("http://[]", false),
            ("http://[::1]x:80", false),
        ] {
            assert_eq!(Url::parse(url).is_ok(), good, "{url}");
        }
        assert!(has_wrong_brackets("[api]") && has_wrong_brackets("a]") && !has_wrong_brackets("api:80"));
    }

    #[test]
    fn names_that_end_in_a_number_are_known() {
        for host in
            ["1.2.3", "1.2.3.256", "api.1", "0x7f.0X1", "api.0x", "7", "1.2.3.4.5", "010.1.1.1", "api.1."]
        {
            assert!(ends_in_number(host), "{host}");
        }
        for host in ["1.2.3.4", "api", "api.example.com", "1a", "4.api", "xn--1", "::1", "0xg"] {
            assert!(!ends_in_number(host), "{host}");
        }
    }
}
