//! What is fetched, and where a redirect may lead.

use http::uri::{Authority, Scheme};
use http::{HeaderMap, Uri, header};

use super::{FetchError, Plain};

/// A URL that may be fetched.
pub(super) struct Target {
    pub(super) scheme: Scheme,
    /// As it stands in the URL.
    pub(super) authority: Authority,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
}

impl Target {
    pub(super) fn parse(uri: &Uri, plain: Plain) -> Result<Self, FetchError> {
        let scheme = match (uri.scheme_str(), plain) {
            (Some("https"), _) => Scheme::HTTPS,
            (Some("http"), Plain::Loopback) => Scheme::HTTP,
            (Some("http"), Plain::Refuse) => return Err(FetchError::Url("plain HTTP is not allowed")),
            (Some(_) | None, _) => return Err(FetchError::Url("it is not https")),
        };
        let authority = uri.authority().ok_or(FetchError::Url("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(FetchError::Url("it holds a user name"));
        }
        let default = if scheme == Scheme::HTTP { 80 } else { 443 };
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(default),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            authority: authority.clone(),
            scheme,
        })
    }

    /// The path that a redirect from here leads to, on the same server (RFC 9110 §10.2.2, RFC 3986 §5.2).
    pub(super) fn redirected(&self, headers: &HeaderMap) -> Result<String, FetchError> {
        let location =
            headers.get(header::LOCATION).map(|location| String::from_utf8_lossy(location.as_bytes()));
        let location = location.ok_or(FetchError::Redirect { reason: "it has no Location", to: None })?;
        let refused = |reason| FetchError::Redirect {
            reason,
            to: Some(location.chars().take(200).collect::<String>().into()),
        };
        if location.starts_with("//") {
            return Err(refused("it leads to another server"));
        }
        let first_segment = location.split(['/', '?', '#']).next().unwrap_or_default();
        if first_segment.contains(':') {
            let same = |next: &Self| {
                next.scheme == self.scheme
                    && next.host.eq_ignore_ascii_case(&self.host)
                    && next.port == self.port
            };
            let uri: Option<Uri> = location.parse().ok();
            let next = uri.and_then(|uri| Self::parse(&uri, Plain::Loopback).ok()).filter(same);
            return next.map(|next| next.path).ok_or_else(|| refused("it leads to another server"));
        }
        let path = merge(&self.path, &location);
        let uri: Uri = path.parse().map_err(|_| refused("its Location is malformed"))?;
        Ok(uri.path_and_query().map_or("/", |path| path.as_str()).to_owned())
    }
}

/// The path of a relative reference (RFC 3986 §5.2.3 and §5.2.4). `base` is a path with its query.
fn merge(base: &str, reference: &str) -> String {
    let reference = reference.split('#').next().unwrap_or_default();
    let base = base.split('?').next().unwrap_or_default();
    let (path, query) = match reference.find('?') {
        Some(at) => reference.split_at(at),
        None => (reference, ""),
    };
    let folder = || base.rfind('/').and_then(|end| base.get(..=end)).unwrap_or("/");
    let merged = match path {
        "" => base.to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("{}{path}", folder()),
    };
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = merged.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    segments.pop();
                }
                if is_last {
                    segments.push("");
                }
            }
            part => segments.push(part),
        }
    }
    format!("/{}{query}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 3986 §5.4 that stay on the server.
    #[test]
    fn references_are_resolved_as_the_rfc_says() {
        for (reference, path) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("g#s", "/b/c/g"),
            ("", "/b/c/d;p"),
            (".", "/b/c/"),
            ("..", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/../x", "/b/c/g?y/../x"),
        ] {
            assert_eq!(merge("/b/c/d;p?q", reference), path, "{reference}");
        }
    }
}
