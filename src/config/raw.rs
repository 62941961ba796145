//! routes.yaml as it is written: a mirror for serde, and the source of its JSON Schema.
//!
//! 1. Unknown keys are errors everywhere.
//! 2. A field that may be left out has its default in `parse`, not here; none of the defaults opens anything.
//! 3. There are no untagged enums: what may be written in two ways has its own type in [`super::raw_values`], so that an
//!    error says what is wrong and not that "no variant matched".

use std::collections::BTreeMap;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::raw_access_log::RawAccessLog;
use super::raw_groups::RawGroup;
use super::raw_issuers::RawIssuer;
use super::raw_routes::RawRoute;
use super::raw_values::{AutoOr, OneOrMany, RawDuration, RawSecret, RawSize};

/// A policy of Scopegate: who may call which route with which access token. The file ends with `...`.
#[derive(Debug, JsonSchema)]
#[schemars(title = "routes.yaml of Scopegate", deny_unknown_fields, inline)]
#[expect(dead_code, reason = "the root is read section by section; this type is the schema of the whole")]
pub(super) struct RawPolicy {
    /// The version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub(super) version: u64,
    /// Listeners, limits and timeouts of the process.
    pub(super) gateway: RawGateway,
    /// The public origin of each host, for resource metadata and challenges. It is never taken from a request.
    #[serde(default)]
    pub(super) hosts: BTreeMap<String, RawHost>,
    /// Authorization servers whose tokens are accepted. A route names those it accepts.
    #[serde(default)]
    pub(super) issuers: BTreeMap<String, RawIssuer>,
    /// What a scope implies: `orders:write: [orders:read]`. Nothing is implied otherwise.
    #[serde(default)]
    pub(super) scopes: BTreeMap<String, Vec<String>>,
    /// The APIs behind the gateway.
    #[serde(default)]
    pub(super) upstreams: BTreeMap<String, RawUpstream>,
    /// Who answers for a control: `authentication`, `authorization`, `gateway`, `request`, `routing` or `upstream`; `default` is
    /// for those without an entry.
    #[serde(default)]
    pub(super) owners: BTreeMap<String, String>,
    /// What several routes have in common: `routes[].group` names one.
    #[serde(default)]
    pub(super) groups: BTreeMap<String, RawGroup>,
    /// The routes. Their order does not matter.
    pub(super) routes: Vec<RawRoute>,
}

/// The sections of the file.
pub(super) const SECTIONS: [&str; 9] =
    ["version", "gateway", "hosts", "issuers", "scopes", "upstreams", "owners", "groups", "routes"];

/// Listeners, limits and timeouts of the process.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGateway {
    /// Public listeners.
    #[schemars(length(min = 1))]
    pub(super) listen: Vec<RawListener>,
    /// The admin listener: metrics, health, status, reload. Keep it off public networks.
    pub(super) admin: Option<RawAdmin>,
    /// Networks (CIDR) whose peers may speak for a client address. Default: none.
    #[serde(default)]
    pub(super) trusted_proxies: Vec<String>,
    /// The proxy through which issuers are asked for their keys. Default: none, they are asked directly.
    pub(super) egress_proxy: Option<RawEgressProxy>,
    /// Worker threads; `auto` is one for each core.
    pub(super) workers: Option<AutoOr>,
    /// The cache of verified tokens.
    pub(super) token_cache: Option<RawTokenCache>,
    /// Limits of a connection and a request.
    #[serde(default)]
    pub(super) limits: RawLimits,
    /// Timeouts of a connection and a request.
    #[serde(default)]
    pub(super) timeouts: RawTimeouts,
    /// Where the access log goes: `stdout` (the default), `off`, or `{ file: logs/access.jsonl }`.
    #[serde(default)]
    pub(super) access_log: RawAccessLog,
    /// Whether the process is ready once any issuer in use has had keys, or all of them. Default `any`.
    #[serde(default)]
    pub(super) ready: RawReady,
}

/// Which issuers in use must have had keys.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawReady {
    /// One of them.
    #[default]
    Any,
    /// Each of them.
    All,
}

/// One listener: either `http` or `https`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListener {
    /// Address and port for plain HTTP.
    #[serde(default, deserialize_with = "listening_address")]
    #[schemars(with = "Option<String>")]
    pub(super) http: Option<SocketAddr>,
    /// Address and port for HTTPS; HTTP/1.1 and HTTP/2 are chosen by ALPN.
    #[serde(default, deserialize_with = "listening_address")]
    #[schemars(with = "Option<String>")]
    pub(super) https: Option<SocketAddr>,
    /// Certificates, chosen by SNI; the first serves clients without a known name.
    pub(super) certificates: Option<Vec<RawCertificate>>,
    /// PEM file of the authorities whose client certificates are verified if sent.
    pub(super) client_ca: Option<String>,
    /// `https`: every request is sent on to the https origin of its host, and nothing is forwarded. On `http` only.
    pub(super) redirect: Option<RawRedirect>,
    /// Whether each connection begins with a PROXY protocol header (v1 or v2). Only from `trusted_proxies`. Default `false`.
    #[serde(default)]
    pub(super) proxy_protocol: bool,
}

/// An address to listen at. A name would have to be looked up, and may have several addresses.
fn listening_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if let Ok(address) = text.parse() {
        return Ok(Some(address));
    }
    let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok()).unwrap_or("8080");
    let hint = match text.rsplit_once(':').map(|(host, _)| host) {
        Some("localhost") => format!("write `127.0.0.1:{port}`, or `[::1]:{port}` for IPv6"),
        Some("" | "*") => {
            format!("write `0.0.0.0:{port}` for all addresses, and `[::]:{port}` for those of IPv6")
        }
        Some(_) | None => {
            format!("write `127.0.0.1:{port}` for this machine alone, `0.0.0.0:{port}` for all addresses")
        }
    };
    Err(serde::de::Error::custom(format!("not an IP address with a port | {hint}")))
}

/// Where a listener redirects.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawRedirect {
    /// To the same resource over https.
    Https,
}

/// A proxy that is asked for tunnels (CONNECT) to issuers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEgressProxy {
    /// Where it is: `http://proxy.internal:3128`.
    pub(super) url: String,
    /// `user:password` for it, sent as Basic credentials. Default: none.
    pub(super) credentials: Option<RawSecret>,
    /// Hosts that are asked directly: exact names or `*.example.com`. Default: none.
    #[serde(default)]
    pub(super) no_proxy: Vec<String>,
}

/// A certificate chain and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCertificate {
    /// PEM file of the chain, leaf first.
    pub(super) cert: String,
    /// PEM file of the private key.
    pub(super) key: String,
}

/// The admin listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAdmin {
    /// Address and port; loopback unless you know better.
    #[schemars(with = "String")]
    pub(super) address: SocketAddr,
    /// The bearer token every write needs. Without one, writes are refused.
    pub(super) token: Option<RawSecret>,
    /// Names that may stand in Host beside addresses and `localhost`, such as a service's name in a cluster.
    #[serde(default)]
    pub(super) hosts: Vec<String>,
}

/// The cache of verified tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTokenCache {
    /// Most bytes it may take. Default `64MiB`.
    pub(super) bytes: RawSize,
}

/// Limits.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    /// Longest header section of a request. Default `32KiB`.
    pub(super) header_bytes: Option<RawSize>,
    /// Most header fields of a request. Default 100.
    pub(super) headers: Option<usize>,
    /// Longest request target. Default `8KiB`.
    pub(super) uri: Option<RawSize>,
    /// Largest request body. Default `10MiB`.
    pub(super) body: Option<RawSize>,
    /// Least bytes a second of a request body while the gateway waits for it; `0B` is none. Default `500B`.
    pub(super) body_rate: Option<RawSize>,
    /// Least bytes a second of an answer that a client must take while more is ready; `0B` is none. Default `500B`.
    pub(super) response_rate: Option<RawSize>,
    /// Longest access token. Default `16KiB`.
    pub(super) token: Option<RawSize>,
    /// Most bytes of bodies held for one HTTP/1 connection, each way. Default `256KiB`.
    pub(super) buffer: Option<RawSize>,
    /// Most concurrent streams of one HTTP/2 connection. Default 100.
    pub(super) streams: Option<usize>,
    /// Most control frames that an HTTP/2 client may send at once, beside those that answers bring along; half as many a
    /// second. A reset counts as five. Default 1000.
    pub(super) control_frames: Option<usize>,
    /// Most client connections; `auto` follows the limit of open files.
    pub(super) connections: Option<AutoOr>,
    /// Most connections of one IPv4 address or IPv6 network of 64 bits; behind a PROXY header, of the client it names. Trusted
    /// proxies are exempt. Default 512.
    pub(super) connections_per_client: Option<usize>,
    /// Most requests on one connection. Default 10000.
    pub(super) connection_requests: Option<usize>,
    /// Most requests at a time; `auto` is 10000, or what the limit of open files has room for.
    pub(super) requests_in_flight: Option<AutoOr>,
    /// Longest header section of an upstream's answer. Default `64KiB`.
    pub(super) upstream_header_bytes: Option<RawSize>,
    /// Most header fields of an upstream's answer. Default 256.
    pub(super) upstream_headers: Option<usize>,
}

/// Timeouts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTimeouts {
    /// The TLS handshake. Default `10s`.
    pub(super) handshake: Option<RawDuration>,
    /// The header section of a request. Default `10s`.
    pub(super) header: Option<RawDuration>,
    /// Longest pause within a request body. Default `15s`.
    pub(super) body_idle: Option<RawDuration>,
    /// From the head of a request to the end of its body. Default `5m`.
    pub(super) body_total: Option<RawDuration>,
    /// Once the answer has begun, the longest silence both ways while the request body has not ended. Default `5m`.
    pub(super) stream_idle: Option<RawDuration>,
    /// How long a client may take nothing of an answer, or too little. Default `30s`.
    pub(super) response_stall: Option<RawDuration>,
    /// Connecting to an upstream, TLS included. Default `2s`.
    pub(super) upstream_connect: Option<RawDuration>,
    /// Waiting for an upstream's header section. Default `15s`.
    pub(super) upstream_response: Option<RawDuration>,
    /// Longest pause within the body of an upstream's answer. Default `30s`.
    pub(super) upstream_idle: Option<RawDuration>,
    /// A connection to an upstream without a request is closed after this. `0s`: none is used again. Default `4s`.
    pub(super) upstream_keep_alive: Option<RawDuration>,
    /// A client connection without a request is closed after this. Default `60s`.
    pub(super) idle: Option<RawDuration>,
    /// A client connection takes no more requests after this. Default `1h`.
    pub(super) connection_age: Option<RawDuration>,
    /// Before it drains, a gateway that was told to end serves on for this long and says that it is not ready. Default `0s`.
    pub(super) drain_notice: Option<RawDuration>,
    /// Running requests may take this long to end on shutdown. Default `30s`.
    pub(super) drain: Option<RawDuration>,
}

/// A public host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHost {
    /// The origin clients use: `https://api.example.com`. Plain `http` only for loopback addresses.
    pub(super) external_url: String,
    /// Strict-Transport-Security on every answer for this host over TLS. Default: none.
    pub(super) hsts: Option<RawHsts>,
}

/// Strict-Transport-Security (RFC 6797 §6.1).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHsts {
    /// How long a browser must use https only. `0s` ends what was said before.
    pub(super) max_age: RawDuration,
    /// Whether the same holds for every name below this host. Default `false`.
    #[serde(default)]
    pub(super) include_subdomains: bool,
    /// Whether browsers may ship with it. Needs `include_subdomains` and a year. Default `false`.
    #[serde(default)]
    pub(super) preload: bool,
}

/// An API behind the gateway.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstream {
    /// Where it answers: scheme, host and port.
    pub(super) url: Option<String>,
    /// Where it answers, if at several addresses. Instead of `url`.
    pub(super) endpoints: Option<Vec<String>>,
    /// What is spoken to it. Default `http1`.
    #[serde(default)]
    pub(super) protocol: RawProtocol,
    /// What it sees as Host: `preserve` (the default), or a name.
    pub(super) host: Option<String>,
    /// TLS settings, for `https` addresses.
    pub(super) tls: Option<RawUpstreamTls>,
    /// A credential of the gateway's own, for an API that does not take tokens.
    pub(super) credential: Option<RawCredential>,
}

/// A credential of the gateway's own: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCredential {
    /// HTTP Basic (RFC 7617).
    pub(super) basic: Option<RawBasic>,
    /// A field with a secret value, such as an API key.
    pub(super) header: Option<RawSecretField>,
}

/// User and password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBasic {
    /// The user, without `:`.
    pub(super) user: String,
    /// The password.
    pub(super) password: RawSecret,
}

/// A field with a secret value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSecretField {
    /// The name of the field.
    pub(super) name: String,
    /// Its whole value.
    pub(super) value: RawSecret,
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 in plain text.
    H2c,
}

/// TLS to an upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstreamTls {
    /// PEM file of the authorities to trust instead of the public ones.
    pub(super) ca: Option<String>,
    /// PEM file of the client certificate chain. Needs `client_key`.
    pub(super) client_cert: Option<String>,
    /// PEM file of the client certificate's key. Needs `client_cert`.
    pub(super) client_key: Option<String>,
    /// The name that is asked for (SNI) and that the certificate must have. Default: the host of the address.
    pub(super) server_name: Option<String>,
    /// Public keys of which the server must have one: `sha256/` and the base64 of the SHA-256 of SubjectPublicKeyInfo. Without
    /// `ca`, the key alone is verified: neither the certificate's issuer nor its names nor its validity.
    pub(super) pin: Option<OneOrMany>,
}
