//! Header fields on their way to the upstream and back.
//!
//! The order is the protection (RFC 9110 §7.6.1; RFC 9700 §4.13):
//!
//! 1. What the client's `Connection` names is removed, then all hop-by-hop fields.
//! 2. What only the gateway may say is removed: identity, forwarding and override fields, on every route.
//! 3. The gateway's own fields are set, after the removal, so that nothing the client names can take them away.
//!
//! Fields whose names an upstream could confuse with others (`X_User`) are removed with the rest, as nginx does.

use std::fmt::Write;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use ipnet::IpNet;
use smallvec::SmallVec;

use crate::authenticate::TokenFacts;
use crate::authenticate::json::Json;
use crate::authenticate::{ClaimPath, IssuerPolicy};
use crate::snapshot::IdentityField;

/// The id of a request, given to the upstream and the client, and written to the log.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields that belong to one hop only.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Fields that a client could use to speak for the gateway, or to have an upstream see another request than the one that
/// was decided on. `expect` is answered here; early data is never accepted.
fn is_gateway_only(name: &str) -> bool {
    matches!(
        name,
        "forwarded"
            | "x-forwarded"
            | "x-original-forwarded-for"
            | "x-original-host"
            | "x-real-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "true-client-ip"
            | "client-ip"
            | "cf-connecting-ip"
            | "x-original-url"
            | "x-original-uri"
            | "x-original-method"
            | "x-rewrite-url"
            | "x-envoy-original-path"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
            | "x-request-id"
            | "client-cert"
            | "client-cert-chain"
            | "txn-token"
            | "early-data"
            | "expect"
    ) || name.starts_with("x-forwarded-")
}

/// A name that some servers read as another: `X_User` becomes the same variable as `X-User` in CGI and its descendants.
fn is_odd(name: &str) -> bool {
    name.bytes().any(|b| !(b.is_ascii_alphanumeric() || b == b'-'))
}

/// The client as the upstream should see it.
#[derive(Clone, Debug)]
pub struct Client {
    /// The address of the client: the peer's, or what a trusted proxy says.
    pub address: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub trusted: bool,
    /// Whether the client used TLS, if a trusted proxy says.
    secure: Option<bool>,
    /// What came before in X-Forwarded-For, if a trusted proxy sent it.
    chain: Option<HeaderValue>,
}

impl Client {
    /// Finds the client's address: from a trusted peer, the last address in X-Forwarded-For that is not itself trusted.
    pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
        let peer = peer.to_canonical();
        let mut client = Self { address: peer, trusted: is_trusted(&peer), secure: None, chain: None };
        if !client.trusted {
            return client;
        }
        client.secure = match single(headers, &X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
            Some(b"https") => Some(true),
            Some(b"http") => Some(false),
            Some(_) | None => None,
        };
        let Some(chain) = single(headers, &X_FORWARDED_FOR) else { return client };
        client.chain = Some(chain.clone());
        for hop in chain.to_str().unwrap_or_default().rsplit(',') {
            let Some(hop) = parse_hop(hop.trim()) else { break };
            client.address = hop;
            if !is_trusted(&hop) {
                break;
            }
        }
        client
    }
}

/// The value of a field that came once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// An address in X-Forwarded-For, with or without port and brackets.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let address = hop.parse::<IpAddr>().or_else(|_| hop.parse::<std::net::SocketAddr>().map(|s| s.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// What the gateway tells an upstream about a request.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The client.
    pub client: &'a Client,
    /// The address of the peer on this connection, which is the last hop.
    pub peer: IpAddr,
    /// Whether it came over TLS.
    pub secure: bool,
    /// The version the client speaks, for Via.
    pub version: Version,
    /// The authority the client asked for.
    pub host: &'a HeaderValue,
    /// The id of this request.
    pub request_id: &'a HeaderValue,
    /// Whether the client's Authorization goes on.
    pub forward_token: bool,
    /// Every identity header of the policy, to be removed.
    pub identity_headers: &'a [HeaderName],
    /// The protocol to switch to, if this is a request that may.
    pub upgrade: Option<&'static str>,
    /// The trailer fields that may follow the body.
    pub trailers: &'a [HeaderName],
}

/// Removes what must not go on, and sets what the gateway says. Identity follows by [`identify`].
pub fn to_upstream(headers: &mut HeaderMap, outgoing: &Outgoing<'_>) {
    remove_nominated(headers);
    let trailers = headers.get(header::TE).is_some_and(accepts_trailers);
    let doomed: SmallVec<[HeaderName; 8]> = headers
        .keys()
        .filter(|name| {
            let text = name.as_str();
            is_hop_by_hop(text)
                || is_gateway_only(text)
                || is_odd(text)
                || (**name == header::AUTHORIZATION && !outgoing.forward_token)
                || outgoing.identity_headers.contains(name)
        })
        .cloned()
        .collect();
    for name in doomed {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = outgoing.upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    }
    for name in outgoing.trailers {
        headers.append(header::TRAILER, HeaderValue::from_name(name.clone()));
    }
    set_forwarding(headers, outgoing);
}

/// Removes the fields that `Connection` names (RFC 9110 §7.6.1). What it names of the gateway's own is set afterwards.
fn remove_nominated(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let named: SmallVec<[HeaderName; 4]> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // These carry the request itself; a client cannot ask to lose them.
        .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH | header::TE))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// Whether TE says that trailers are understood: the one value that may pass a proxy.
fn accepts_trailers(te: &HeaderValue) -> bool {
    te.as_bytes().split(|b| *b == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn set_forwarding(headers: &mut HeaderMap, outgoing: &Outgoing<'_>) {
    let proto = if outgoing.client.secure.unwrap_or(outgoing.secure) { "https" } else { "http" };
    let mut text = String::with_capacity(96);
    if let Some(chain) = outgoing.client.chain.as_ref().and_then(|chain| chain.to_str().ok()) {
        text.push_str(chain);
        text.push_str(", ");
    }
    let _ = write!(text, "{}", outgoing.peer.to_canonical());
    insert(headers, X_FORWARDED_FOR, &text);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    headers.insert(X_FORWARDED_HOST, outgoing.host.clone());

    text.clear();
    let _ = match outgoing.client.address {
        IpAddr::V4(address) => write!(text, "for={address};proto={proto}"),
        // IPv6 holds colons, so it stands in brackets and quotes (RFC 7239 §6).
        IpAddr::V6(address) => write!(text, "for=\"[{address}]\";proto={proto}"),
    };
    if let Ok(host) = outgoing.host.to_str() {
        let _ = write!(text, ";host=\"{host}\"");
    }
    insert(headers, header::FORWARDED, &text);
    headers.insert(X_REQUEST_ID, outgoing.request_id.clone());
    add_via(headers, outgoing.version);
}

fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// Adds this gateway to Via (RFC 9110 §7.6.3).
fn add_via(headers: &mut HeaderMap, version: Version) {
    let own = match version {
        Version::HTTP_10 => HeaderValue::from_static("1.0 scopegate"),
        Version::HTTP_2 => HeaderValue::from_static("2.0 scopegate"),
        _ => HeaderValue::from_static("1.1 scopegate"),
    };
    headers.append(header::VIA, own);
}

/// Sets the identity headers of a route from verified facts. A field that the token does not have stays absent: it was
/// removed before, so that it cannot be the client's.
pub fn identify(
    headers: &mut HeaderMap,
    fields: &[(HeaderName, IdentityField)],
    facts: &TokenFacts,
    issuer: Option<&IssuerPolicy>,
) {
    for (name, field) in fields {
        let roles = || issuer.and_then(|issuer| issuer.claims.roles.as_ref());
        let value = match field {
            IdentityField::Subject => facts.subject.as_deref().and_then(value),
            IdentityField::Client => facts.client.as_deref().and_then(value),
            IdentityField::Scope => value(&facts.scopes.join(" ")),
            IdentityField::Tenant => facts.tenant.as_deref().and_then(value),
            IdentityField::Issuer => value(facts.issuer.as_str()),
            IdentityField::Actor => facts.actor.as_deref().and_then(value),
            IdentityField::TokenId => facts.token_id.as_deref().and_then(value),
            IdentityField::Roles => roles().and_then(|path| claim(facts, path)),
            IdentityField::Claim(path) => claim(facts, path),
        };
        if let Some(value) = value {
            headers.insert(name.clone(), value);
        }
    }
}

/// A header value of claim text, byte for byte. Text that a header cannot carry as it is (a control character, a space at
/// either end) gives none: encoded or trimmed, it could pass for another caller's.
fn value(text: &str) -> Option<HeaderValue> {
    let fits = !text.is_empty() && text.trim() == text && !text.bytes().any(|b| b.is_ascii_control());
    fits.then(|| HeaderValue::from_bytes(text.as_bytes()).ok()).flatten()
}

/// The value of a claim: a scalar, or the scalars of an array separated by commas.
fn claim(facts: &TokenFacts, path: &ClaimPath) -> Option<HeaderValue> {
    let mut text = String::new();
    match facts.claims.at(path)? {
        Json::Array(items) => {
            for item in items {
                if !text.is_empty() {
                    text.push(',');
                }
                // A comma within an item could pass for two items.
                if matches!(item, Json::String(item) if item.contains(',')) {
                    return None;
                }
                scalar(&mut text, item)?;
            }
        }
        single => scalar(&mut text, single)?,
    }
    value(&text)
}

fn scalar(text: &mut String, json: &Json) -> Option<()> {
    match json {
        Json::Bool(flag) => write!(text, "{flag}").ok(),
        Json::Number(number) => write!(text, "{number}").ok(),
        Json::String(item) => write!(text, "{item}").ok(),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// Removes from a response what belongs to the upstream's hop.
pub fn to_client(headers: &mut HeaderMap, request_id: &HeaderValue) {
    remove_nominated(headers);
    let doomed: SmallVec<[HeaderName; 4]> = headers
        .keys()
        // A trailer section that the upstream announces is passed on, so its announcement is too.
        .filter(|name| is_hop_by_hop(name.as_str()) && **name != header::TRAILER)
        .cloned()
        .collect();
    for name in doomed {
        headers.remove(name);
    }
    headers.insert(X_REQUEST_ID, request_id.clone());
}

/// Names of a trailer section that may go on.
pub(super) type TrailerNames = SmallVec<[HeaderName; 2]>;

/// The trailer fields that a request announces and that may go on (RFC 9110 §6.5.1, §6.6.2): nothing that frames, routes,
/// authenticates or identifies. A field that is not announced does not go on.
pub(super) fn announced_trailers(headers: &HeaderMap, identity_headers: &[HeaderName]) -> TrailerNames {
    let announced = headers.get_all(header::TRAILER).iter();
    announced
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| {
            let text = name.as_str();
            !(is_hop_by_hop(text)
                || is_gateway_only(text)
                || is_odd(text)
                || text.starts_with("content-")
                || identity_headers.contains(name)
                || matches!(
                    *name,
                    header::AUTHORIZATION
                        | header::CACHE_CONTROL
                        | header::COOKIE
                        | header::HOST
                        | header::MAX_FORWARDS
                        | header::RANGE
                        | header::VIA
                ))
        })
        .collect()
}

/// Leaves of a trailer section what was announced and may go on.
pub(super) fn keep_trailers(mut trailers: HeaderMap, names: &TrailerNames) -> HeaderMap {
    let doomed: Vec<HeaderName> = trailers.keys().filter(|name| !names.contains(name)).cloned().collect();
    for name in doomed {
        trailers.remove(name);
    }
    trailers
}
