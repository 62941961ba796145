//! The `issuers` section as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::raw_values::{OneOrMany, RawDuration, RawSecret, RawTokenType};

/// An authorization server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIssuer {
    /// The `iss` of its tokens, compared byte for byte: a trailing slash matters. With a claim in braces, such as
    /// `https://login.example.com/{tid}/v2.0`, that of many tenants with the same keys.
    pub(super) issuer: String,
    /// Where its keys come from.
    pub(super) keys: RawKeys,
    /// Allowed signature algorithms: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `EdDSA`, `Ed25519`.
    #[schemars(length(min = 1))]
    pub(super) algorithms: Vec<String>,
    /// The kind of token: `at+jwt` (the default), or what is accepted instead.
    pub(super) token_type: Option<RawTokenType>,
    /// Longest allowed `exp - iat`. Default `24h`.
    pub(super) max_lifetime: Option<RawDuration>,
    /// Tolerated difference of clocks. Default `10s`.
    pub(super) leeway: Option<RawDuration>,
    /// Which claims carry what.
    #[serde(default)]
    pub(super) claims: RawClaims,
    /// The values of its tenant claim that it may assert. Default: any.
    pub(super) tenants: Option<Vec<String>>,
    /// The tenant that all its tokens belong to, where the issuer is one itself. Default: none.
    pub(super) tenant: Option<String>,
    /// How often keys are fetched.
    #[serde(default)]
    pub(super) key_refresh: RawKeyRefresh,
    /// How clients must ask this issuer for a scope of the policy: `{ prefix: "api://app/" }` for all scopes, or
    /// `{ read: "api://app/read" }` for single ones, which win over the prefix. Used in metadata and challenges only.
    #[serde(default)]
    pub(super) advertised_scopes: BTreeMap<String, String>,
    /// The header field that its tokens are read from instead of `Authorization`, such as `Cf-Access-Jwt-Assertion`; its
    /// whole value is the token. It is removed from every request. Default: `Authorization`.
    pub(super) token_header: Option<String>,
}

/// Where an issuer's keys come from: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeys {
    /// `true`: the issuer's metadata document names them.
    pub(super) discovery: Option<bool>,
    /// The URL of its JWK Set.
    pub(super) jwks_uri: Option<String>,
    /// A file with its JWK Set.
    pub(super) jwks_file: Option<String>,
    /// The bearer token that the server asks for: `{ file: … }`, which is read for each fetch, or `{ env: … }`.
    pub(super) token: Option<RawSecret>,
    /// PEM file of the authorities to trust instead of the public ones when they are fetched.
    pub(super) ca: Option<String>,
}

/// Which claims of an issuer carry what. A path such as `realm_access.roles` goes into objects.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawClaims {
    /// The scopes; of several, the first that is there. Default `[scope, scp]`.
    pub(super) scope: Option<OneOrMany>,
    /// The client; of several, the first that is there. Default `[client_id, azp]`.
    pub(super) client: Option<OneOrMany>,
    /// What a token is meant for; of several, the first that is there. Default `aud`.
    pub(super) audience: Option<OneOrMany>,
    /// The tenant. Default: none.
    pub(super) tenant: Option<String>,
    /// The roles, for the identity header `roles`. Default: none.
    pub(super) roles: Option<String>,
}

/// How often keys are fetched.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeyRefresh {
    /// Fetched again after this long. Default `5m`.
    pub(super) interval: Option<RawDuration>,
    /// At most one fetch for unknown key ids and wrong signatures in this long. Default `30s`.
    pub(super) unknown_kid_cooldown: Option<RawDuration>,
    /// The last good keys are used for this long. Default `24h`.
    pub(super) max_stale: Option<RawDuration>,
}
