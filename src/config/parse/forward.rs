//! `forward` of a route.

use std::collections::BTreeSet;

use http::HeaderName;

use super::Parser;
use crate::authenticate::{ClaimPath, Issuers};
use crate::config::diagnostic::{Fault, suggest};
use crate::config::raw_routes::{RawForward, RawRoute};
use crate::config::raw_values::RawWebSocket;
use crate::config::read::Node;
use crate::snapshot::{IdentityField, Route, UpstreamPolicy, UpstreamProtocol};

/// What an identity header may carry, beside `claim.PATH`.
const FIELDS: [(&str, IdentityField); 8] = [
    ("sub", IdentityField::Subject),
    ("client", IdentityField::Client),
    ("scope", IdentityField::Scope),
    ("tenant", IdentityField::Tenant),
    ("issuer", IdentityField::Issuer),
    ("actor", IdentityField::Actor),
    ("jti", IdentityField::TokenId),
    ("roles", IdentityField::Roles),
];

/// Fields that mean something to HTTP, to a browser or to the gateway itself. An identity header is removed from every
/// request first, so none of these can be one.
const TAKEN: [&str; 32] = [
    "authorization",
    "connection",
    "cookie",
    "date",
    "early-data",
    "expect",
    "forwarded",
    "from",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "warning",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

/// The same, by how they begin.
const TAKEN_PREFIXES: [&str; 7] =
    ["accept", "access-control-", "cache-control", "content-", "if-", "proxy-", "sec-"];

impl Parser<'_, '_> {
    /// A tunnel takes an HTTP/1.1 connection over; to an HTTP/2 upstream every handshake would fail.
    pub(super) fn check_websocket(
        &mut self,
        raw: &RawRoute,
        node: &Node<'_>,
        upstream: Option<&UpstreamPolicy>,
    ) {
        let is_http2 = upstream.is_some_and(|upstream| upstream.protocol != UpstreamProtocol::Http1);
        if !matches!(raw.forward.websocket, RawWebSocket::No) && is_http2 {
            let place = node.place_of_key(&["forward", "websocket"]);
            let fault = Fault::new(place, "a WebSocket needs an upstream with `protocol: http1`");
            self.faults.error(fault.key("websocket").hint("name another upstream for this route"));
        }
    }

    /// Judges a route to an upstream that gets a credential of the gateway's own.
    pub(super) fn check_shared_credential(&mut self, raw: &RawRoute, node: &Node<'_>) {
        let upstream = &raw.upstream;
        if raw.forward.forward_token {
            let place = node.place_of_key(&["forward", "forward_token"]);
            let message = format!("upstream `{upstream}` gets a `credential` of the gateway's own");
            let fault = Fault::new(place, message).key("forward_token");
            self.faults.error(fault.hint("remove `forward_token`, or name another upstream for this route"));
        }
        if raw.public {
            let message = format!("anybody may use the `credential` of upstream `{upstream}` by this route");
            let fault = Fault::new(node.place_of_key(&["public"]), message).key("public");
            self.faults.warn(fault.hint("add `require`, or name another upstream for this route"));
        }
    }

    /// Compiles the identity headers of a route.
    pub(super) fn identity_headers(
        &mut self,
        raw: &RawForward,
        node: &Node<'_>,
        public: bool,
    ) -> Vec<(HeaderName, IdentityField)> {
        if public && !raw.identity_headers.is_empty() {
            let place = node.place_of_key(&["forward", "identity_headers"]);
            let fault = Fault::new(place, "a public route does not know who calls");
            self.faults.error(fault.key("identity_headers"));
        }
        let mut headers: Vec<(HeaderName, IdentityField)> = Vec::with_capacity(raw.identity_headers.len());
        for (name, value) in &raw.identity_headers {
            let keys = ["forward", "identity_headers", name];
            let fault = |message: String| Fault::new(node.place_of_key(&keys), message).key(name.as_str());
            match header_name(name) {
                Ok(header) if headers.iter().any(|(other, _)| *other == header) => {
                    self.faults.error(fault(format!("identity header `{name}` twice, in another case")));
                }
                Ok(header) => match field(value) {
                    Some(field) => {
                        if let (IdentityField::Claim(path), Some(text)) =
                            (&field, value.strip_prefix("claim."))
                        {
                            self.check_claim_path(text, path, node.place_of(&keys));
                        }
                        headers.push((header, field));
                    }
                    None => {
                        let message = format!("`{value}` is nothing an identity header can carry");
                        let mut fault = Fault::new(node.place_of(&keys), message).key(name.as_str());
                        let known = FIELDS.iter().map(|(name, _)| *name).chain(["claim.PATH"]);
                        fault.hint = suggest(value, known);
                        self.faults.error(fault);
                    }
                },
                Err(message) => {
                    self.faults.error(fault(format!("`{name}` cannot be an identity header: {message}")));
                }
            }
        }
        headers
    }
}

/// The names that no client may use for fields of its own, each once: identity headers of the routes, and the fields that
/// tokens of the issuers come in.
pub(super) fn reserved_headers(routes: &[Route], issuers: &Issuers) -> Vec<HeaderName> {
    let names: BTreeSet<&str> = routes
        .iter()
        .flat_map(|route| route.identity_headers.iter())
        .map(|(name, _)| name)
        .chain(issuers.iter().filter_map(|(_, issuer)| issuer.token_header.as_ref()))
        .map(HeaderName::as_str)
        .collect();
    names.into_iter().filter_map(|name| name.parse().ok()).collect()
}

/// A field name that has no meaning of its own in HTTP.
pub(super) fn header_name(name: &str) -> Result<HeaderName, &'static str> {
    if name.contains('_') {
        return Err("many servers read `_` as `-`, so a client could send the other spelling");
    }
    let header: HeaderName = name.parse().map_err(|_| "not the name of a header field")?;
    let taken =
        TAKEN.contains(&header.as_str()) || TAKEN_PREFIXES.iter().any(|p| header.as_str().starts_with(p));
    if taken {
        return Err("it has a meaning of its own in HTTP");
    }
    Ok(header)
}

fn field(value: &str) -> Option<IdentityField> {
    if let Some(path) = value.strip_prefix("claim.") {
        return ClaimPath::parse(path).map(IdentityField::Claim);
    }
    let (_, field) = FIELDS.iter().find(|(name, _)| *name == value)?;
    Some(field.clone())
}
