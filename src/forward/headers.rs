//! Header fields on their way to the upstream and back.
//!
//! The order is the protection (RFC 9110 §7.6.1; RFC 9700 §4.13):
//!
//! 1. What the client's `Connection` names does not go on, nor do hop-by-hop fields.
//! 2. What only the gateway may say does not go on: identity, forwarding and override fields, on every route. Nor do tokens,
//!    whatever field an issuer's come in.
//! 3. The gateway's own fields are added after that, so that nothing the client names can take them away.
//!
//! Fields whose names an upstream could confuse with others (`X_User`) are removed with the rest, as nginx does, unless the route
//! lets one through by name. What is removed for its name is counted.

use std::cell::Cell;
use std::fmt::Write;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use smallvec::SmallVec;

use crate::snapshot::{FieldRules, UpstreamCredential};
use crate::types::Networks;
use crate::types::field_names::{is_gateway_only, is_hop_by_hop, is_odd};

/// The id of a request, given to the upstream and the client, and written to the log.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

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
    ///
    /// Several X-Forwarded-For lines are one list (RFC 9110 §5.3): HAProxy adds a line of its own. Several
    /// X-Forwarded-Proto lines say nothing. `Forwarded` is not read.
    pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &Networks) -> Self {
        let peer = peer.to_canonical();
        let mut client = Self { address: peer, trusted: trusted.contains(peer), secure: None, chain: None };
        if !client.trusted {
            return client;
        }
        client.secure = match single(headers, &X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
            Some(b"https") => Some(true),
            Some(b"http") => Some(false),
            Some(_) | None => None,
        };
        let Some(chain) = joined(headers, &X_FORWARDED_FOR, b", ") else { return client };
        for hop in chain.to_str().unwrap_or_default().rsplit(',') {
            let Some(hop) = parse_hop(hop.trim()) else { break };
            client.address = hop;
            if !trusted.contains(hop) {
                break;
            }
        }
        client.chain = Some(chain);
        client
    }
}

impl Client {
    /// Whether the client used TLS: on its connection to here, or to the trusted proxy that says so.
    pub fn is_secure(&self, here: bool) -> bool {
        self.secure.unwrap_or(here)
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

/// Most fields that are added to those of a usual request.
pub(super) const MOST_ADDED: usize = 12;

/// Where the fields of a head are gathered.
pub trait Fields {
    /// Adds a field, beside those of the same name.
    fn add(&mut self, name: &HeaderName, value: &HeaderValue);

    /// Adds a field with this text, if a header can carry it.
    fn add_text(&mut self, name: &HeaderName, text: &str) {
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            self.add(name, &value);
        }
    }
}

impl Fields for HeaderMap {
    fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name.clone(), value.clone());
    }
}

/// What the gateway tells an upstream about a request.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The client.
    pub client: &'a Client,
    /// The address of the peer on this connection, which is the last hop.
    pub peer: &'a str,
    /// Whether it came over TLS.
    pub secure: bool,
    /// The version the client speaks, for Via.
    pub version: Version,
    /// The authority the client asked for, if it did.
    pub host: Option<&'a HeaderValue>,
    /// The Host field, for upstreams that are spoken to in HTTP/1.1; HTTP/2 has it elsewhere, and no connection's fields.
    pub host_field: Option<&'a HeaderValue>,
    /// The id of this request.
    pub request_id: &'a HeaderValue,
    /// The field whose token goes on; the client's other credentials do not.
    pub token_field: Option<&'a HeaderName>,
    /// Every identity header and `token_header` of the policy: never the client's.
    pub reserved_headers: &'a [HeaderName],
    /// How many times an OPTIONS request may be forwarded from here on, if it says.
    pub max_forwards: Option<u32>,
    /// What the route changes in fields, if anything.
    pub rules: Option<&'a FieldRules>,
    /// The gateway's own credential for the upstream, if it has one.
    pub credential: Option<&'a UpstreamCredential>,
    /// Set to the number of fields that were removed because an upstream could confuse their names.
    pub removed: &'a Cell<u64>,
    /// The protocol to switch to, if this is a request that may.
    pub upgrade: Option<&'static str>,
    /// The subprotocols that are offered instead of the client's; `None` leaves them as they are.
    pub subprotocols: Option<&'a [&'a str]>,
    /// The trailer fields that may follow the body.
    pub trailers: &'a [HeaderName],
}

/// Adds the fields of the client's head that may go on, then what the gateway says. Identity follows by [`super::identity`].
pub fn to_upstream(headers: &HeaderMap, outgoing: &Outgoing<'_>, fields: &mut impl Fields) {
    if let Some(host) = outgoing.host_field {
        fields.add(&header::HOST, host);
    }
    let nominated = nominated(headers);
    let mut cookie_seen = false;
    let mut removed = 0;
    for (name, value) in headers {
        if is_confusable(name, outgoing.rules) {
            removed += 1;
            continue;
        }
        if !goes_on(name, outgoing) || nominated.contains(name) {
            continue;
        }
        if *name != header::COOKIE {
            fields.add(name, value);
        } else if !std::mem::replace(&mut cookie_seen, true) {
            // HTTP/2 may split Cookie into several fields; HTTP/1 has one (RFC 9113 §8.2.3).
            fields.add(name, joined(headers, name, b"; ").as_ref().unwrap_or(value));
        }
    }
    outgoing.removed.set(removed);
    if let Some(offered @ [_, ..]) = outgoing.subprotocols
        && !nominated.contains(&header::SEC_WEBSOCKET_PROTOCOL)
    {
        fields.add_text(&header::SEC_WEBSOCKET_PROTOCOL, &offered.join(", "));
    }
    if let Some(hops) = outgoing.max_forwards {
        fields.add(&header::MAX_FORWARDS, &HeaderValue::from(hops));
    }
    let trailers = headers.get(header::TE).is_some_and(accepts_trailers);
    if trailers {
        fields.add(&header::TE, &HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = outgoing.upgrade {
        fields.add(&header::CONNECTION, &HeaderValue::from_static("upgrade"));
        fields.add(&header::UPGRADE, &HeaderValue::from_static(protocol));
    } else if trailers && outgoing.host_field.is_some() {
        // TE is about this connection (RFC 9110 §10.1.4).
        fields.add(&header::CONNECTION, &HeaderValue::from_static("te"));
    }
    for name in outgoing.trailers {
        fields.add(&header::TRAILER, &HeaderValue::from_name(name.clone()));
    }
    add_forwarding(fields, outgoing);
    fields.add(&header::VIA, &via(outgoing.version));
    for (name, value) in outgoing.rules.iter().flat_map(|rules| &rules.request.set) {
        fields.add(name, value);
    }
    if let Some(credential) = outgoing.credential {
        fields.add(&credential.name, &credential.value);
    }
}

/// Whether a field is removed because servers could take its name for another, and the route does not let it through.
pub fn is_confusable(name: &HeaderName, rules: Option<&FieldRules>) -> bool {
    is_odd(name.as_str()) && rules.is_none_or(|rules| !rules.allow.contains(name))
}

/// The names of the fields that [`is_confusable`] removes, for people: at most eight, each once.
pub fn removed_names(headers: &HeaderMap, rules: Option<&FieldRules>) -> String {
    const MOST: usize = 8;
    let mut names = headers.keys().filter(|name| is_confusable(name, rules)).map(HeaderName::as_str);
    let mut listed = names.by_ref().take(MOST).collect::<Vec<_>>().join(", ");
    if names.next().is_some() {
        listed.push_str(", …");
    }
    listed
}

/// Whether a name is among these, which are sorted.
fn is_reserved(name: &HeaderName, reserved: &[HeaderName]) -> bool {
    reserved.binary_search_by(|other| other.as_str().cmp(name.as_str())).is_ok()
}

/// Whether a field of the client's may go on, as far as its name tells.
fn goes_on(name: &HeaderName, outgoing: &Outgoing<'_>) -> bool {
    let text = name.as_str();
    !(is_hop_by_hop(text)
        || is_gateway_only(text)
        || *name == header::HOST
        || (outgoing.max_forwards.is_some() && *name == header::MAX_FORWARDS)
        || outgoing.rules.is_some_and(|rules| rules.request.remove.contains(name))
        || outgoing.credential.is_some_and(|credential| credential.remove.contains(name))
        || (outgoing.subprotocols.is_some() && *name == header::SEC_WEBSOCKET_PROTOCOL)
        || ((*name == header::AUTHORIZATION || is_reserved(name, outgoing.reserved_headers))
            && outgoing.token_field != Some(name)))
}

/// The fields that `Connection` names, which are to be removed (RFC 9110 §7.6.1). What it names of the gateway's own is
/// added all the same.
fn nominated(headers: &HeaderMap) -> SmallVec<[HeaderName; 4]> {
    let options = headers.get_all(header::CONNECTION).iter();
    options
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // These carry the request itself; a client cannot ask to lose them.
        .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH | header::TE))
        .collect()
}

/// The lines of a field in one, with this text between them. `None` if there are none.
fn joined(headers: &HeaderMap, name: &HeaderName, between: &[u8]) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(first.clone()) };
    let mut joined = first.as_bytes().to_vec();
    for value in std::iter::once(second).chain(values) {
        joined.extend_from_slice(between);
        joined.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_bytes(&joined).ok()
}

/// Whether TE says that trailers are understood: the one value that may pass a proxy.
fn accepts_trailers(te: &HeaderValue) -> bool {
    te.as_bytes().split(|b| *b == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn add_forwarding(fields: &mut impl Fields, outgoing: &Outgoing<'_>) {
    let secure = outgoing.client.is_secure(outgoing.secure);
    let proto = if secure { "https" } else { "http" };
    let mut text = String::with_capacity(128);
    if let Some(chain) = outgoing.client.chain.as_ref().and_then(|chain| chain.to_str().ok()) {
        text.push_str(chain);
        text.push_str(", ");
    }
    text.push_str(outgoing.peer);
    fields.add_text(&X_FORWARDED_FOR, &text);
    fields.add(&X_FORWARDED_PROTO, &HeaderValue::from_static(proto));
    if let Some(host) = outgoing.host {
        fields.add(&X_FORWARDED_HOST, host);
    }

    text.clear();
    text.push_str("for=");
    let address = outgoing.client.address;
    // IPv6 holds colons, so it stands in brackets and quotes (RFC 7239 §6).
    let (open, close) = if address.is_ipv6() { ("\"[", "]\"") } else { ("", "") };
    text.push_str(open);
    if outgoing.client.trusted {
        let _ = write!(text, "{address}");
    } else {
        text.push_str(outgoing.peer);
    }
    text.push_str(close);
    text.push_str(";proto=");
    text.push_str(proto);
    if let Some(host) = outgoing.host.and_then(|host| host.to_str().ok()) {
        text.push_str(";host=\"");
        text.push_str(host);
        text.push('"');
    }
    fields.add_text(&header::FORWARDED, &text);
    fields.add(&X_REQUEST_ID, outgoing.request_id);
}

/// This gateway in Via (RFC 9110 §7.6.3).
fn via(version: Version) -> HeaderValue {
    match version {
        Version::HTTP_10 => HeaderValue::from_static("1.0 scopegate"),
        Version::HTTP_2 => HeaderValue::from_static("2.0 scopegate"),
        _ => HeaderValue::from_static("1.1 scopegate"),
    }
}

/// Removes from an answer what belongs to the upstream's hop.
pub(super) fn to_client(headers: &mut HeaderMap) {
    for name in nominated(headers) {
        headers.remove(name);
    }
    let doomed: SmallVec<[HeaderName; 4]> = headers
        .keys()
        // A trailer section that the upstream announces is passed on, so its announcement is too.
        .filter(|name| is_hop_by_hop(name.as_str()) && **name != header::TRAILER)
        .cloned()
        .collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Names of a trailer section that may go on.
pub(super) type TrailerNames = SmallVec<[HeaderName; 2]>;

/// The trailer fields that a request announces and that may go on (RFC 9110 §6.5.1, §6.6.2): nothing that frames, routes,
/// authenticates or identifies. A field that is not announced does not go on.
pub(super) fn announced_trailers(headers: &HeaderMap, reserved_headers: &[HeaderName]) -> TrailerNames {
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
                || text.starts_with("sec-websocket-")
                || is_reserved(name, reserved_headers)
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
