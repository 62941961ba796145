//! One routes.yaml, compiled: immutable, built whole, swapped whole.
//!
//! A request loads the snapshot once and ends on it, whatever is reloaded meanwhile. What outlives a snapshot (keys,
//! connections, token facts) is in [`crate::state`].

mod edge;
mod fields;
mod resources;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use edge::{CertifiedFiles, EgressProxy, Listener, Origin, TlsPolicy};
pub use fields::{FieldChanges, FieldRules, UpstreamCredential};
use http::{HeaderName, HeaderValue, Method};
pub use resources::{Resource, Resources};
use rustls_pki_types::ServerName;

use crate::authenticate::{ClaimPath, Issuers, TokenPlaces};
use crate::authorize::Requirement;
pub use crate::limits::{BodyLimits, Limits, Timeouts};
use crate::reject::Control;
use crate::route::path::PathOptOuts;
use crate::route::rewrite::Rewrite;
use crate::route::table::RouteTable;
use crate::types::{
    IssuerIndex, KeyPin, Networks, Owner, RouteId, RouteIndex, Secret, UpstreamIndex, UpstreamName,
};

/// A compiled policy.
#[derive(Debug)]
pub struct Snapshot {
    /// SHA-256 of all that the policy was made from but secrets, in lower-case hex: its text, the files that it names and the
    /// variables in it. Without files and variables it is [`Self::text_hash`].
    pub hash: Box<str>,
    /// SHA-256 of routes.yaml alone: what `sha256sum` prints.
    pub text_hash: Box<str>,
    /// SHA-256 of all that the policy was made from, secrets too. Two policies are the same if these are. It is never shown.
    pub fingerprint: [u8; 32],
    /// Listeners, limits, timeouts of the process.
    pub gateway: Gateway,
    /// The issuers.
    pub issuers: Issuers,
    /// The upstreams, by [`UpstreamIndex`].
    pub upstreams: Vec<UpstreamPolicy>,
    /// The credentials of the gateway's own for them, by [`UpstreamIndex`].
    pub credentials: Vec<Option<UpstreamCredential>>,
    /// Who answers for a control.
    pub owners: Owners,
    /// The routes, by [`RouteIndex`].
    pub routes: Vec<Route>,
    /// Finds a route by host, path and method.
    pub table: RouteTable,
    /// The protected resources that metadata is published for.
    pub resources: Resources,
    /// Where the hosts of the `hosts` section are reached.
    pub origins: HashMap<Box<str>, Origin>,
    /// Strict-Transport-Security of the hosts that have it (RFC 6797).
    pub hsts: HashMap<Box<str>, HeaderValue>,
    /// The identity headers of any route and the `token_header` of any issuer: removed from each request on each route. Sorted.
    pub reserved_headers: Vec<HeaderName>,
    /// The files this snapshot was built from, routes.yaml first: a change of any of them asks for a reload.
    pub files: Vec<PathBuf>,
}

impl Snapshot {
    /// The route at this position.
    pub fn route(&self, index: RouteIndex) -> Option<&Route> {
        self.routes.get(index.get())
    }

    /// The issuers that a route accepts.
    pub fn issuers_in_use(&self) -> BTreeSet<IssuerIndex> {
        let requirements = self.routes.iter().filter_map(|route| match &route.access {
            Access::Protected(requirement) => Some(requirement),
            Access::Public => None,
        });
        requirements.flat_map(|requirement| &requirement.issuers).copied().collect()
    }

    /// The gateway's own credential for the upstream at this position.
    pub fn credential(&self, index: UpstreamIndex) -> Option<&UpstreamCredential> {
        self.credentials.get(index.get())?.as_ref()
    }

    /// The upstream at this position.
    pub fn upstream(&self, index: UpstreamIndex) -> Option<&UpstreamPolicy> {
        self.upstreams.get(index.get())
    }

    /// The https origin of a host, which is in lower case without port: its `external_url`, else its name alone. `None` for a
    /// host that the policy does not name; to send a client there would be to send it wherever it wants.
    pub fn https_origin(&self, host: &str) -> Option<Cow<'_, str>> {
        match self.origins.get(host) {
            Some(origin) => origin.secure.then_some(Cow::Borrowed(&*origin.text)),
            None => self.table.names(host).then(|| format!("https://{host}").into()),
        }
    }

    /// Who answers for a control on a route: the route's owner for what the route demands, else the control's.
    pub fn owner(&self, route: Option<RouteIndex>, control: Control) -> Option<&Owner> {
        let of_route = || route.and_then(|index| self.route(index)).and_then(|route| route.owner.as_ref());
        match control {
            Control::Authorization | Control::Upstream => of_route().or_else(|| self.owners.of(control)),
            Control::Authentication | Control::Gateway | Control::Request | Control::Routing => {
                self.owners.of(control)
            }
        }
    }
}

/// The `owners` section: who answers for a control.
#[derive(Clone, Debug, Default)]
pub struct Owners(pub HashMap<Control, Owner>);

impl Owners {
    /// The owner of a control.
    pub fn of(&self, control: Control) -> Option<&Owner> {
        self.0.get(&control)
    }
}

/// The `gateway` section.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Public listeners. Their addresses live as long as the process; their certificates do not.
    pub listen: Vec<Listener>,
    /// The admin listener. Its address lives as long as the process.
    pub admin: Option<Admin>,
    /// Networks whose peers may speak for a client address; empty by default.
    pub trusted_proxies: Networks,
    /// The way to issuers; `None` is the direct one.
    pub egress_proxy: Option<Arc<EgressProxy>>,
    /// Worker threads; `None` is one for each core. Lives as long as the process.
    pub workers: Option<usize>,
    /// Most bytes of token facts that are kept. Lives as long as the process.
    pub token_cache_bytes: u64,
    /// Limits of a connection and a request.
    pub limits: Limits,
    /// Timeouts of a connection and a request.
    pub timeouts: Timeouts,
    /// Where the access log goes.
    pub access_log: AccessLogTarget,
    /// Which issuers in use must have had keys before the process is ready.
    pub ready: Readiness,
}

impl Gateway {
    /// Whether a peer may speak for a client's address.
    pub fn is_trusted(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.contains(peer.to_canonical())
    }
}

/// Which issuers in use must have had keys before the process is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// One of them: the tokens of the others are answered with 503 until their keys come.
    #[default]
    Any,
    /// Each of them.
    All,
}

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Standard output, one JSON object a line.
    #[default]
    Stdout,
    /// Nowhere.
    Off,
    /// This file.
    File(PathBuf),
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
    /// The bearer token that every write needs; without one, writes are refused.
    pub token: Option<Secret>,
    /// Names that may stand in Host beside addresses and `localhost`, such as a service's name in a cluster.
    pub hosts: Vec<Box<str>>,
}

/// One API behind the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamPolicy {
    /// Its key in routes.yaml.
    pub name: UpstreamName,
    /// Where it answers: at least one.
    pub endpoints: Vec<Endpoint>,
    /// What is spoken to it.
    pub protocol: UpstreamProtocol,
    /// What it sees as Host.
    pub host: HostHeader,
    /// TLS settings; used where an endpoint's scheme is https.
    pub tls: UpstreamTls,
}

/// One address of an upstream, before names are resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub secure: bool,
    /// Name or IP address literal, without brackets.
    pub host: Box<str>,
    /// Port.
    pub port: u16,
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 over TLS, agreed on by ALPN.
    H2,
    /// HTTP/2 in plain text with prior knowledge.
    H2c,
}

/// What an upstream sees as Host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostHeader {
    /// What the client sent.
    #[default]
    Preserve,
    /// This.
    Literal(HeaderValue),
}

/// TLS to an upstream. Contents were read together with the configuration.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM of the authorities to trust instead of the public ones.
    pub ca: Option<Arc<[u8]>>,
    /// The client certificate, if one is shown.
    pub client: Option<CertifiedFiles>,
    /// The name to ask for (SNI) and to verify, if it is not the host of the endpoint.
    pub server_name: Option<ServerName<'static>>,
    /// The keys of which the server must have one; any key if empty. Without `ca`, they stand for all other verification.
    pub pins: Vec<KeyPin>,
}

impl std::fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamTls")
            .field("ca", &self.ca.is_some())
            .field("client", &self.client.is_some())
            .field("server_name", &self.server_name)
            .field("pins", &self.pins)
            .finish()
    }
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub id: RouteId,
    /// How it is matched, as written, for people: `GET,HEAD api.example.com/v1/{tenant}/orders/{id}`.
    pub matches: Box<str>,
    /// What it demands.
    pub access: Access,
    /// Where permitted requests go.
    pub upstream: UpstreamIndex,
    /// How the path is changed on the way.
    pub rewrite: Rewrite,
    /// Which doubtful spellings of a path this route takes.
    pub path_opt_outs: PathOptOuts,
    /// Whether `_method` in the query may name a method that this path serves by another rule.
    pub method_query: bool,
    /// Where tokens are read from; `None` is `Authorization` alone. Routes with the same places share them.
    pub token_places: Option<Arc<TokenPlaces>>,
    /// Whether the upstream gets the client's token, in the field that it came in.
    pub forward_token: bool,
    /// Whether a request may turn its connection into a WebSocket.
    pub websocket: bool,
    /// Whether `Location` and `Content-Location` of responses are rewritten for the client.
    pub rewrite_location: bool,
    /// Whether `Domain` and `Path` of cookies in responses are.
    pub rewrite_cookies: bool,
    /// Headers that tell the upstream who calls.
    pub identity_headers: Arc<[(HeaderName, IdentityField)]>,
    /// What it changes in header fields, if anything.
    pub fields: Option<Arc<FieldRules>>,
    /// Cross-origin answers, if enabled.
    pub cors: Option<Cors>,
    /// How much a request body may be, and how slow.
    pub body: BodyLimits,
    /// Longest wait for the upstream's header section.
    pub upstream_response: Duration,
    /// Longest pause within the body of the upstream's answer.
    pub upstream_idle: Duration,
    /// Who answers for it.
    pub owner: Option<Owner>,
    /// The metadata URL that challenges name (RFC 9728 §5.1).
    pub resource_metadata: Option<Arc<str>>,
}

/// What a route demands.
#[derive(Clone, Debug)]
pub enum Access {
    /// Nothing; written as `public: true`.
    Public,
    /// A principal that meets this. Routes that demand the same share it.
    Protected(Arc<Requirement>),
}

/// What an identity header carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IdentityField {
    /// `sub`.
    Subject,
    /// The client.
    Client,
    /// The granted scopes, separated by spaces.
    Scope,
    /// The tenant.
    Tenant,
    /// `iss`.
    Issuer,
    /// `act.sub` of the outermost actor.
    Actor,
    /// `jti`.
    TokenId,
    /// The roles of the issuer's `claims.roles`, separated by commas.
    Roles,
    /// Any claim: a string, number or boolean, or an array of them separated by commas.
    Claim(ClaimPath),
}

/// Cross-origin resource sharing of a route (Fetch standard).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Allowed origins, sorted and compared exactly; `None` is any, and then never with credentials.
    pub origins: Option<Vec<Box<str>>>,
    /// Whether cookies and such may be sent.
    pub credentials: bool,
    /// Request header fields allowed beside the safe ones; `Authorization` is always among them.
    pub headers: Vec<HeaderName>,
    /// Response header fields a script may read.
    pub expose: Vec<HeaderName>,
    /// How long a preflight's answer may be kept.
    pub max_age: Duration,
    /// The methods of all routes at this host and path.
    pub methods: Vec<Method>,
}
