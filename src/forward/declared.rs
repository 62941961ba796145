//! What the head of an admitted request declares: the authority it asks for, and how long its body is.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version, header};

use super::body::ClientBody;
use super::http1::request::Delimiter;
use crate::admit::max_forwards;
use crate::reject::{Reason, Reject};
use crate::snapshot::{Endpoint, UpstreamPolicy};

/// The refusal of a request whose head contradicts itself.
pub(super) fn invalid(cause: &'static str) -> Reject {
    Reject::because(Reason::RequestInvalid, cause)
}

/// The authority the client asked for: that of the target, or the Host field (RFC 9112 §3.2.2). `None` if it asked for none,
/// as an HTTP/1.0 request may.
pub(super) fn authority(parts: &Parts) -> Result<Option<HeaderValue>, Reject> {
    let authority = match parts.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => parts.headers.get(header::HOST).cloned(),
    };
    match authority {
        None if parts.version != Version::HTTP_10 => Err(invalid("the request names no host")),
        Some(_) | None => Ok(authority),
    }
}

/// The authority of an upstream itself: of its first endpoint.
pub(super) fn own_authority(upstream: &UpstreamPolicy) -> HeaderValue {
    let written = upstream.endpoints.first().and_then(|Endpoint { host, port, secure }| {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        let is_default = *port == if *secure { 443 } else { 80 };
        HeaderValue::try_from(if is_default { host } else { format!("{host}:{port}") }).ok()
    });
    written.unwrap_or(HeaderValue::from_static(""))
}

/// What remains of `Max-Forwards` once the request is forwarded (RFC 9110 §7.6.2).
pub(super) fn forwards_left(parts: &Parts) -> Option<u32> {
    max_forwards::remaining(&parts.method, &parts.headers).ok().flatten().map(|hops| hops.saturating_sub(1))
}

/// How a body is delimited: as its head says, which was admitted, else by chunks.
pub(super) fn delimiter(headers: &HeaderMap, body: &ClientBody) -> Result<Delimiter, Reject> {
    let declared = headers.get(header::CONTENT_LENGTH).map(|length| {
        let length = length.to_str().ok().and_then(|length| length.parse().ok());
        length.ok_or_else(|| invalid("Content-Length is not a number"))
    });
    match (declared.transpose()?, body) {
        (None | Some(0), ClientBody::Empty) => Ok(Delimiter::Length(0)),
        (Some(_), ClientBody::Empty) => Err(invalid("Content-Length announces a body that is not there")),
        (Some(length), ClientBody::Streaming(_) | ClientBody::Attempted(_)) => Ok(Delimiter::Length(length)),
        (None, ClientBody::Streaming(_) | ClientBody::Attempted(_)) => Ok(Delimiter::Chunked),
    }
}

/// Whether a request without a body says so (RFC 9110 §8.6): some servers answer 411 otherwise. HTTP/2 need not say it.
pub(super) fn expects_length(head: &Parts) -> bool {
    matches!(head.method, Method::POST | Method::PUT | Method::PATCH)
        && !head.headers.contains_key(header::CONTENT_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{HostHeader, UpstreamProtocol, UpstreamTls};
    use crate::types::UpstreamName;

    #[test]
    fn an_upstream_has_an_authority_of_its_own() {
        for (secure, host, port, written) in [
            (false, "api.internal", 80, "api.internal"),
            (false, "api.internal", 443, "api.internal:443"),
            (true, "api.internal", 443, "api.internal"),
            (true, "api.internal", 8443, "api.internal:8443"),
            (false, "::1", 8080, "[::1]:8080"),
            (false, "::1", 80, "[::1]"),
        ] {
            let upstream = UpstreamPolicy {
                name: UpstreamName::new("api"),
                endpoints: vec![Endpoint { secure, host: host.into(), port }],
                protocol: UpstreamProtocol::Http1,
                host: HostHeader::Preserve,
                tls: UpstreamTls::default(),
            };
            assert_eq!(own_authority(&upstream), written);
        }
    }
}
