//! The `groups` section as it is written; the rules of [`super::raw`] hold.

use schemars::JsonSchema;
use serde::Deserialize;

use super::raw_routes::{RawCors, RawForward, RawRequire, RawRouteLimits, RawRouteTimeouts};
use super::raw_values::OneOrMany;

/// What several routes have in common. A key of the route itself wins; within `match`, `require`, `forward`, `cors`, `limits` and
/// `timeouts` the keys win one by one. A group can demand and never open: `public` and `mode` are keys of routes only.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "a group is joined with its routes as text; this type checks it and is its schema"
)]
pub(super) struct RawGroup {
    /// Which requests its routes take.
    #[serde(rename = "match")]
    matches: Option<RawGroupMatch>,
    /// What a request must show.
    require: Option<RawRequire>,
    /// The key of an upstream.
    upstream: Option<String>,
    /// What the upstream gets.
    forward: Option<RawForward>,
    /// Cross-origin requests from browsers.
    cors: Option<RawCors>,
    /// Limits instead of the gateway's.
    limits: Option<RawRouteLimits>,
    /// Timeouts instead of the gateway's.
    timeouts: Option<RawRouteTimeouts>,
    /// Who answers for its routes.
    owner: Option<String>,
}

/// Which requests the routes of a group take.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as for RawGroup")]
pub(super) struct RawGroupMatch {
    /// One host or a list.
    host: Option<OneOrMany>,
}
