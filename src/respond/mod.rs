//! Answers of the gateway itself: the only place with status codes, challenges and problem bodies.
//!
//! 1. Every refusal is `application/problem+json` (RFC 9457), or a gRPC status where the client speaks gRPC.
//! 2. A refused credential carries a Bearer challenge (RFC 6750 §3) with the resource's metadata (RFC 9728 §5.1).
//! 3. The owner is told to authenticated callers only (403), the required scopes to those that lack one.
//! 4. Nothing that the client sent stands in an answer.
//! 5. A dependency that is down is 503 with `Retry-After`.

mod challenge;
pub mod cors;
pub(crate) mod grpc;
pub mod hsts;
pub mod metadata;
pub mod options;
mod problem;
pub mod redirect;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::reject::{Reason, Reject};
use crate::snapshot::{Access, Route, Snapshot};
use crate::types::{IssuerIndex, RouteIndex, Scope};

/// Seconds after which a client should try again what failed for want of a dependency or capacity.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// A refusal, with what its answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// The policy that refused.
    pub snapshot: &'a Snapshot,
    /// The refusal.
    pub reject: &'a Reject,
    /// The route, if one matched.
    pub route: Option<RouteIndex>,
    /// Whether the caller is known: then it learns the owner and the scopes.
    pub authenticated: bool,
    /// The issuer of the verified token.
    pub issuer: Option<IssuerIndex>,
    /// The id that the log line of this request carries.
    pub request_id: &'a str,
    /// The value of the Allow header, where the method was refused.
    pub allow: Option<&'a str>,
    /// Whether the client speaks gRPC.
    pub grpc: bool,
}

impl<'a> Refused<'a> {
    fn route(&self) -> Option<&'a Route> {
        self.route.and_then(|index| self.snapshot.route(index))
    }

    /// The scopes the route names; none for a public route.
    fn scopes(&self) -> &'a [Scope] {
        match self.route().map(|route| &route.access) {
            Some(Access::Protected(requirement)) => requirement.scopes.listed(),
            Some(Access::Public) | None => &[],
        }
    }

    /// The answer.
    pub fn response(&self) -> Response<Bytes> {
        let row = self.reject.reason.row();
        let mut response = if self.grpc { grpc::response(row) } else { problem::response(self, row) };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = challenge::value(self, row) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        if row.status == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if ends_connection(self.reject.reason) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Whether what follows on an HTTP/1 connection is in doubt after this refusal.
const fn ends_connection(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::RequestInvalid
            | Reason::HeadersTooLarge
            | Reason::UriTooLong
            | Reason::ExpectationFailed
            | Reason::BodyTooLarge
            | Reason::RequestTimeout
            | Reason::Draining
            | Reason::Internal
    )
}
