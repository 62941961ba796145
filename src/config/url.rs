//! Absolute http and https URLs as a policy writes them.

use std::net::IpAddr;

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
