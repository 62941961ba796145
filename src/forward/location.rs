//! URLs in responses, as the client would have to ask for them: `Location`, `Content-Location` and `Set-Cookie`.
//!
//! 1. Only a path, or a URL of the upstream's own origin, is rewritten. Everything else reaches the client as it is: it names
//!    another server, or is relative to the request already.
//! 2. A path that no request of the route can lead to is not rewritten, nor is one with dot segments: the client would
//!    resolve them after the rewrite.
//! 3. A rewrite never names a host that the policy does not: where the public origin is not known, the result is a path that
//!    no client can read as a host.

use http::header::{CONTENT_LOCATION, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use crate::route::rewrite::Rewrite;
use crate::snapshot::{Endpoint, HostHeader, UpstreamPolicy};

/// Both sides of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sides<'a> {
    /// The upstream's addresses.
    pub(super) upstream: &'a UpstreamPolicy,
    /// What the upstream got as Host.
    pub(super) sent_host: &'a str,
    /// The route's prefixes.
    pub(super) rewrite: &'a Rewrite,
    /// The host that the client asked for, in lower case without port.
    pub(super) host: &'a str,
    /// The origin of that host, if the policy names it.
    pub(super) origin: Option<&'a str>,
    /// Whether clients reach it by https.
    pub(super) secure: bool,
}

/// Rewrites `Location` and `Content-Location`.
pub(super) fn rewrite_locations(headers: &mut HeaderMap, sides: &Sides<'_>) {
    rewrite_values(headers, |name| *name == LOCATION || *name == CONTENT_LOCATION, |url| sides.location(url));
}

/// Rewrites `Domain` and `Path` of cookies.
pub(super) fn rewrite_cookies(headers: &mut HeaderMap, sides: &Sides<'_>) {
    rewrite_values(headers, |name| *name == SET_COOKIE, |cookie| sides.cookie(cookie));
}

fn rewrite_values(
    headers: &mut HeaderMap,
    is_wanted: impl Fn(&http::HeaderName) -> bool,
    rewrite: impl Fn(&str) -> Option<String>,
) {
    for (name, value) in headers.iter_mut() {
        if is_wanted(name)
            && let Some(new) = std::str::from_utf8(value.as_bytes()).ok().and_then(&rewrite)
            && let Ok(new) = HeaderValue::try_from(new)
        {
            *value = new;
        }
    }
}

impl Sides<'_> {
    /// The URL that a client has to ask for instead of this one; `None` if it is the same.
    fn location(&self, url: &str) -> Option<String> {
        // Browsers remove tabs and line ends, and so see another URL than this function would.
        if !url.bytes().all(|byte| byte.is_ascii_graphic() || byte >= 0x80) {
            return None;
        }
        let path = match url.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => self.own_path(Some(scheme), rest)?,
            Some(_) | None => match url.strip_prefix("//") {
                Some(rest) => self.own_path(None, rest)?,
                None if url.starts_with('/') => url,
                None => return None,
            },
        };
        let (path, tail) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
        if !path.is_empty() && !path.starts_with('/') {
            return None;
        }
        if has_dot_segment(path) {
            return None;
        }
        let path = self.rewrite.invert(path)?;
        // Browsers take a backslash for a slash.
        if self.origin.is_none() && path.as_bytes().get(1).is_some_and(|byte| matches!(byte, b'/' | b'\\')) {
            return None;
        }
        let new = format!("{}{path}{tail}", self.origin.unwrap_or_default());
        (new != url).then_some(new)
    }

    /// What follows the authority, if that and the scheme are the upstream's own. Without a scheme it is the upstream's.
    fn own_path<'u>(&self, scheme: Option<&str>, rest: &'u str) -> Option<&'u str> {
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
        let secure = match scheme {
            Some(scheme) => scheme.eq_ignore_ascii_case("https"),
            None => self.upstream.endpoints.first()?.secure,
        };
        let named = split(authority)?;
        (self.is_endpoint(secure, named) || self.is_sent_host(secure, named)).then_some(path)
    }

    fn is_endpoint(&self, secure: bool, (host, port): (&str, Option<u16>)) -> bool {
        let port = port.unwrap_or(default_port(secure));
        let is_it = |endpoint: &Endpoint| {
            (endpoint.secure, endpoint.port) == (secure, port) && endpoint.host.eq_ignore_ascii_case(host)
        };
        self.upstream.endpoints.iter().any(is_it)
    }

    /// Whether it is the Host that the upstream got, and not the public origin.
    fn is_sent_host(&self, secure: bool, (host, port): (&str, Option<u16>)) -> bool {
        let Some((sent, sent_port)) = split(self.sent_host) else { return false };
        let default = default_port(secure);
        let same = sent.eq_ignore_ascii_case(host) && sent_port.unwrap_or(default) == port.unwrap_or(default);
        match self.upstream.host {
            // X-Forwarded-Proto may have told it of either scheme.
            HostHeader::Literal(_) => same,
            // Then the host is the public one. Only http where clients use https comes of the upstream's own connection;
            // the other way round, it sends clients to https.
            HostHeader::Preserve => same && !secure && self.secure,
        }
    }

    /// The cookie that a client of the public host can keep; `None` if it is the same.
    fn cookie(&self, cookie: &str) -> Option<String> {
        let mut parts = cookie.split(';');
        let pair = parts.next()?;
        // Such a cookie is for the whole host, or it is none.
        let whole_host = pair.trim_start().get(..7).is_some_and(|name| name.eq_ignore_ascii_case("__Host-"));
        let mut new = pair.to_owned();
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (name.trim(), value.trim());
            if name.eq_ignore_ascii_case("domain") && self.is_of_upstream(value) {
                continue;
            }
            new.push(';');
            let path =
                (name.eq_ignore_ascii_case("path") && !whole_host).then(|| self.rewrite.invert_scope(value));
            match path.flatten() {
                Some(path) => {
                    new.push_str(" Path=");
                    new.push_str(&path);
                }
                None => new.push_str(part),
            }
        }
        (new != cookie).then_some(new)
    }

    /// Whether a cookie's domain holds the upstream and not the public host.
    fn is_of_upstream(&self, domain: &str) -> bool {
        let domain = domain.strip_prefix('.').unwrap_or(domain).to_ascii_lowercase();
        let holds = |host: &str| {
            let above = host.to_ascii_lowercase();
            above.strip_suffix(&*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let sent = split(self.sent_host).map_or("", |(host, _)| host);
        let mut hosts = self.upstream.endpoints.iter().map(|endpoint| &*endpoint.host).chain([sent]);
        !domain.is_empty() && !holds(self.host) && hosts.any(holds)
    }
}

/// Whether a client would leave out segments of the path, as browsers read them: a backslash is a slash, and `%2e` a dot.
fn has_dot_segment(path: &str) -> bool {
    let is_dot = |segment: &str| {
        let dots = segment.to_ascii_lowercase().replace("%2e", ".");
        dots == "." || dots == ".."
    };
    path.split(['/', '\\']).any(is_dot)
}

fn is_scheme(text: &str) -> bool {
    text.eq_ignore_ascii_case("http") || text.eq_ignore_ascii_case("https")
}

const fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// Host, without brackets, and port of an authority without user information.
fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let colon =
        authority.rfind(':').filter(|at| !authority.get(*at..).is_some_and(|rest| rest.contains(']')));
    let (host, port) = match colon {
        Some(at) => {
            let (host, port) = authority.split_at(at);
            (host, port.strip_prefix(':').filter(|port| !port.is_empty()))
        }
        None => (authority, None),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = match port {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
        Some(_) => return None,
        None => None,
    };
    (!host.is_empty() && !host.contains('@')).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{UpstreamProtocol, UpstreamTls};
    use crate::types::UpstreamName;

    /// An upstream with these addresses (secure, host, port), which gets this Host.
    fn upstream(endpoints: &[(bool, &str, u16)], host: HostHeader) -> UpstreamPolicy {
        let endpoint = |(secure, host, port): &(bool, &str, u16)| Endpoint {
            secure: *secure,
            host: (*host).into(),
            port: *port,
        };
        UpstreamPolicy {
            name: UpstreamName::new("orders"),
            endpoints: endpoints.iter().map(endpoint).collect(),
            protocol: UpstreamProtocol::Http1,
            host,
            tls: UpstreamTls::default(),
        }
    }

    const PUBLIC: Option<&str> = Some("https://api.example.com");

    #[test]
    fn location_leads_back_to_the_gateway() {
        let orders =
            upstream(&[(false, "orders.internal", 9000), (false, "10.0.0.7", 80)], HostHeader::Preserve);
        for (strip, add, origin, url, wanted) in [
            // Paths.
            (None, None, PUBLIC, "/a?b#c", "https://api.example.com/a?b#c"),
            (None, None, None, "/a?b#c", "/a?b#c"),
            (Some("/v1"), None, PUBLIC, "/a", "https://api.example.com/v1/a"),
            (Some("/v1"), None, None, "/a", "/v1/a"),
            (Some("/v1"), None, None, "/", "/v1/"),
            (None, Some("/api"), None, "/api/a", "/a"),
            (None, Some("/api"), None, "/api", "/"),
            (Some("/v1"), Some("/api"), None, "/api?x", "/v1?x"),
            (Some("/v1"), Some("/api"), PUBLIC, "/api/a", "https://api.example.com/v1/a"),
            (Some("/v1"), Some("/api"), PUBLIC, "/login", "/login"),
            (Some("/v1"), Some("/api"), PUBLIC, "/apis", "/apis"),
            // What follows the prefix may not take it away again.
            (Some("/v1"), Some("/api"), PUBLIC, "/api/../login", "/api/../login"),
            (Some("/v1"), None, PUBLIC, "/../login", "/../login"),
            (Some("/v1"), None, PUBLIC, "/a/.%2E/%2e%2E/login", "/a/.%2E/%2e%2E/login"),
            (Some("/v1"), None, PUBLIC, "/a/..\\..\\login", "/a/..\\..\\login"),
            (Some("/v1"), None, PUBLIC, "/a/...?x=/../b#/..", "https://api.example.com/v1/a/...?x=/../b#/.."),
            // The upstream's own origin.
            (None, None, PUBLIC, "http://orders.internal:9000/a", "https://api.example.com/a"),
            (None, None, PUBLIC, "HTTP://Orders.Internal:9000/a", "https://api.example.com/a"),
            (None, None, PUBLIC, "http://10.0.0.7/a", "https://api.example.com/a"),
            (None, None, PUBLIC, "http://10.0.0.7:80/a", "https://api.example.com/a"),
            (None, None, PUBLIC, "http://10.0.0.7:/a", "https://api.example.com/a"),
            (None, None, PUBLIC, "//orders.internal:9000/a", "https://api.example.com/a"),
            (None, None, None, "http://orders.internal:9000/a?b", "/a?b"),
            (None, None, None, "http://orders.internal:9000", "/"),
            (None, None, None, "http://orders.internal:9000?x", "/?x"),
            (Some("/v1"), None, PUBLIC, "http://orders.internal:9000/a", "https://api.example.com/v1/a"),
            (Some("/v1"), None, PUBLIC, "http://orders.internal:9000", "https://api.example.com/v1"),
            // Other origins, and what is relative to the request.
            (Some("/v1"), None, PUBLIC, "https://orders.internal:9000/a", "https://orders.internal:9000/a"),
            (Some("/v1"), None, PUBLIC, "http://orders.internal/a", "http://orders.internal/a"),
            (Some("/v1"), None, PUBLIC, "http://10.0.0.7:8080/a", "http://10.0.0.7:8080/a"),
            (Some("/v1"), None, PUBLIC, "http://10.0.0.77/a", "http://10.0.0.77/a"),
            (
                Some("/v1"),
                None,
                PUBLIC,
                "http://orders.internal:9000@evil.example/a",
                "http://orders.internal:9000@evil.example/a",
            ),
            (Some("/v1"), None, PUBLIC, "http://x@orders.internal:9000/a", "http://x@orders.internal:9000/a"),
            (Some("/v1"), None, PUBLIC, "https://login.example.com/a", "https://login.example.com/a"),
            (Some("/v1"), None, PUBLIC, "//login.example.com/a", "//login.example.com/a"),
            (Some("/v1"), None, PUBLIC, "myapp://orders.internal:9000/a", "myapp://orders.internal:9000/a"),
            (Some("/v1"), None, PUBLIC, "a/b", "a/b"),
            (Some("/v1"), None, PUBLIC, "?x=/a", "?x=/a"),
            (Some("/v1"), None, PUBLIC, "", ""),
            // The public origin, which the API was told: it counts the prefix in.
            (Some("/v1"), None, PUBLIC, "https://api.example.com/v1/a", "https://api.example.com/v1/a"),
            // The public host with the scheme of the upstream's own connection.
            (Some("/v1"), None, PUBLIC, "http://api.example.com/a", "https://api.example.com/v1/a"),
            (Some("/v1"), None, None, "http://api.example.com/a", "/v1/a"),
        ] {
            let sides = Sides {
                upstream: &orders,
                sent_host: "api.example.com",
                rewrite: &Rewrite::new(strip, add).unwrap(),
                host: "api.example.com",
                origin,
                secure: true,
            };
            let found = sides.location(url).unwrap_or_else(|| url.to_owned());
            assert_eq!(found, wanted, "{url}, strip {strip:?}, add {add:?}, origin {origin:?}");
        }
    }

    #[test]
    fn location_by_the_host_that_was_sent() {
        let literal = || HostHeader::Literal(HeaderValue::from_static("legacy.internal:8443"));
        for (host, sent, secure, url, wanted) in [
            (literal(), "legacy.internal:8443", true, "https://legacy.internal:8443/a", "/v1/a"),
            (literal(), "legacy.internal:8443", true, "http://legacy.internal:8443/a", "/v1/a"),
            (
                literal(),
                "legacy.internal:8443",
                true,
                "https://legacy.internal/a",
                "https://legacy.internal/a",
            ),
            (literal(), "[::1]", true, "http://[::1]/a", "/v1/a"),
            // An API that sends clients from http to https must get them there.
            (
                HostHeader::Preserve,
                "api.example.com",
                false,
                "https://api.example.com/a",
                "https://api.example.com/a",
            ),
            (
                HostHeader::Preserve,
                "api.example.com",
                false,
                "http://api.example.com/a",
                "http://api.example.com/a",
            ),
            (
                HostHeader::Preserve,
                "api.example.com",
                true,
                "https://api.example.com/a",
                "https://api.example.com/a",
            ),
            (HostHeader::Preserve, "api.example.com", true, "http://api.example.com/a", "/v1/a"),
        ] {
            let upstream = upstream(&[(true, "10.0.0.7", 8443)], host);
            let rewrite = Rewrite::new(Some("/v1"), None).unwrap();
            let sides = Sides {
                upstream: &upstream,
                sent_host: sent,
                rewrite: &rewrite,
                host: "api.example.com",
                origin: None,
                secure,
            };
            assert_eq!(
                sides.location(url).unwrap_or_else(|| url.to_owned()),
                wanted,
                "{url}, sent {sent}, {secure}"
            );
        }
    }

    #[test]
    fn rewritten_location_names_no_other_host() {
        let orders = upstream(&[(false, "orders", 80)], HostHeader::Preserve);
        let rewrite = Rewrite::new(None, Some("/api")).unwrap();
        let sides = Sides {
            upstream: &orders,
            sent_host: "a",
            rewrite: &rewrite,
            host: "a",
            origin: None,
            secure: false,
        };
        for url in [
            "/api//evil.example/",
            "/api/\\evil.example/",
            "http://orders/api//evil.example/",
            "http://orders\\evil.example/api/",
            "/api/\t/evil.example/",
            "http://orders/api/\t/evil.example",
            "/api /evil.example",
        ] {
            assert_eq!(sides.location(url), None, "{url}");
        }
    }

    #[test]
    fn cookie_comes_back_to_the_route() {
        let orders = upstream(&[(false, "orders.internal", 9000)], HostHeader::Preserve);
        for (strip, add, cookie, wanted) in [
            (Some("/v1"), None, "a=1", "a=1"),
            (Some("/v1"), None, "a=1; Path=/", "a=1; Path=/v1"),
            (Some("/v1"), None, "a=1; path=/x; HttpOnly", "a=1; Path=/v1/x; HttpOnly"),
            (Some("/v1"), Some("/api"), "a=1; Path=/", "a=1; Path=/v1"),
            (Some("/v1"), Some("/api"), "a=1; Path=/api", "a=1; Path=/v1"),
            (Some("/v1"), Some("/api"), "a=1; Path=/api/x", "a=1; Path=/v1/x"),
            (Some("/v1"), Some("/api"), "a=1; Path=/other", "a=1; Path=/other"),
            (None, Some("/api"), "a=1; Path=/", "a=1; Path=/"),
            (None, Some("/api"), "a=1; Path=/api", "a=1; Path=/"),
            (None, None, "a=1; path=/x", "a=1; path=/x"),
            (Some("/v1"), None, "a=1; Path=x", "a=1; Path=x"),
            (Some("/v1"), None, "a=1; Path=", "a=1; Path="),
            (Some("/v1"), None, "__Host-a=1; Path=/; Secure", "__Host-a=1; Path=/; Secure"),
            (Some("/v1"), None, "a=Path=/x; Secure", "a=Path=/x; Secure"),
            (None, None, "a=1; Domain=orders.internal; Secure", "a=1; Secure"),
            (None, None, "a=1;domain=.Orders.Internal", "a=1"),
            (None, None, "a=1; Domain=internal", "a=1"),
            (None, None, "a=1; Domain=example.com", "a=1; Domain=example.com"),
            (None, None, "a=1; Domain=api.example.com", "a=1; Domain=api.example.com"),
            (None, None, "a=1; Domain=rs.internal", "a=1; Domain=rs.internal"),
            (None, None, "a=1; Domain=", "a=1; Domain="),
        ] {
            let sides = Sides {
                upstream: &orders,
                sent_host: "api.example.com",
                rewrite: &Rewrite::new(strip, add).unwrap(),
                host: "api.example.com",
                origin: None,
                secure: true,
            };
            let found = sides.cookie(cookie).unwrap_or_else(|| cookie.to_owned());
            assert_eq!(found, wanted, "{cookie}, strip {strip:?}, add {add:?}");
        }
    }
}
