//! The `routes` section as it is written; the rules of [`super::raw`] hold.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::raw_scopes::RawScopes;
use super::raw_values::{OneOrMany, RawClaimTest, RawDuration, RawSize, RawWebSocket};

/// A route: which requests it takes, what it demands of them, where they go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = whole_without_group)]
pub(super) struct RawRoute {
    /// Its name: unique, stable, a label of metrics.
    pub(super) id: String,
    /// The key of a group, whose keys count where the route does not have them itself. Default: none.
    pub(super) group: Option<String>,
    /// Which requests it takes.
    #[serde(rename = "match")]
    pub(super) matches: RawMatch,
    /// What a request must show. A route has either this or `public: true`.
    pub(super) require: Option<RawRequire>,
    /// `true`: anyone may call, without a token.
    #[serde(default)]
    pub(super) public: bool,
    /// The key of its upstream.
    pub(super) upstream: String,
    /// What the upstream gets.
    #[serde(default)]
    pub(super) forward: RawForward,
    /// Cross-origin requests from browsers. Default: not enabled.
    pub(super) cors: Option<RawCors>,
    /// Limits of this route instead of the gateway's.
    #[serde(default)]
    pub(super) limits: RawRouteLimits,
    /// Timeouts of this route instead of the gateway's.
    #[serde(default)]
    pub(super) timeouts: RawRouteTimeouts,
    /// Who answers for it: shown to callers that it refuses.
    pub(super) owner: Option<String>,
    /// `shadow`: refusals of authorization are recorded and let through. Default `enforce`.
    #[serde(default)]
    pub(super) mode: RawMode,
}

/// What a route must have is demanded in full only of one without a group: the group may bring it.
fn whole_without_group(schema: &mut Schema) {
    if let Some(required) = schema.get_mut("required").and_then(|required| required.as_array_mut()) {
        required.retain(|key| key != "upstream");
    }
    schema.insert("if".to_owned(), json!({ "not": { "required": ["group"] } }));
    let demands = json!({ "required": ["issuers", "audience", "scopes"] });
    let whole = json!({
        "required": ["upstream"],
        "properties": { "require": demands, "cors": { "required": ["origins"] } },
    });
    schema.insert("then".to_owned(), whole);
}

/// Whether refusals refuse.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawMode {
    /// They do.
    #[default]
    Enforce,
    /// Those of authorization are recorded only.
    Shadow,
}

/// Which requests a route takes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMatch {
    /// One host or a list; `*.example.com` for all below a domain. Default: hosts no other route names.
    pub(super) host: Option<OneOrMany>,
    /// `/a/b`, `/a/{id}` or `/a/{*rest}`.
    pub(super) path: String,
    /// Methods. Default: all.
    pub(super) methods: Option<Vec<String>>,
    /// Doubtful spellings of a path that this route takes although they are refused by default.
    #[serde(default)]
    pub(super) allow_path: Vec<String>,
    /// Takes requests whose query names another method in `_method`, which this path serves by another rule.
    #[serde(default)]
    pub(super) allow_method_query: bool,
}

/// What a request must show.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRequire {
    /// Keys of the issuers it accepts.
    pub(super) issuers: Option<OneOrMany>,
    /// The audience: one, or a list of which the token must hold one. Compared exactly.
    pub(super) audience: Option<OneOrMany>,
    /// The scopes: a list of which all are needed, `{ any: […] }`, both nested at will, or `any_authenticated`.
    pub(super) scopes: Option<RawScopes>,
    /// The tenant the token must belong to; `any`: it must name exactly one.
    pub(super) tenant: Option<RawTenant>,
    /// Clients that may call. Default: any.
    pub(super) clients: Option<OneOrMany>,
    /// Subjects that may call. Default: any.
    pub(super) subjects: Option<OneOrMany>,
    /// Rules on claims; all must hold.
    #[serde(default)]
    pub(super) claims: BTreeMap<String, RawClaimTest>,
    /// Longest `now - iat`.
    pub(super) max_token_age: Option<RawDuration>,
}

/// The tenant.
#[derive(Debug)]
pub(super) enum RawTenant {
    /// `any`.
    Any,
    /// A certain one.
    One(RawTenantRule),
}

impl<'de> Deserialize<'de> for RawTenant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = RawTenant;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`any`, `{ from: … }` or `{ equals: … }`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawTenant, E> {
                match text {
                    "any" => Ok(RawTenant::Any),
                    _ => Err(E::custom(
                        "a tenant is named by a rule | write `{ equals: … }`, `{ from: … }` or `any`",
                    )),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawTenant, A::Error> {
                RawTenantRule::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    .map(RawTenant::One)
            }
        }
        deserializer.deserialize_any(Value)
    }
}

impl JsonSchema for RawTenant {
    fn schema_name() -> Cow<'static, str> {
        "Tenant".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rule = generator.subschema_for::<RawTenantRule>();
        json_schema!({ "anyOf": [{ "const": "any" }, rule] })
    }
}

/// A certain tenant: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTenantRule {
    /// `path.NAME`: the one in this path parameter; `host.N`: the one in the host's N-th label from the left.
    pub(super) from: Option<String>,
    /// A literal, or a list of them.
    pub(super) equals: Option<OneOrMany>,
}

/// What the upstream gets.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawForward {
    /// Removed from the front of the path.
    pub(super) strip_prefix: Option<String>,
    /// Put in front of the path.
    pub(super) add_prefix: Option<String>,
    /// Whether the upstream gets the client's token. Default `false`.
    #[serde(default)]
    pub(super) forward_token: bool,
    /// Whether a request may turn its connection into a WebSocket. Default `false`.
    #[serde(default)]
    pub(super) websocket: RawWebSocket,
    /// Whether `Location` and `Content-Location` of responses are rewritten to the public origin and path. Default `true`.
    pub(super) rewrite_location: Option<bool>,
    /// Whether `Domain` and `Path` of cookies in responses are rewritten likewise. Default `false`.
    #[serde(default)]
    pub(super) rewrite_cookies: bool,
    /// Headers that tell who calls: `sub`, `client`, `scope`, `tenant`, `issuer`, `actor`, `jti`, `roles` or `claim.PATH`.
    #[serde(default)]
    pub(super) identity_headers: BTreeMap<String, String>,
    /// Fields of the client's that go on although their names hold other characters than letters, digits and `-`, such as
    /// `X_FOO`.
    #[serde(default)]
    pub(super) allow_headers: Vec<String>,
    /// Changes of the request's fields.
    #[serde(default)]
    pub(super) headers: RawFieldChanges,
    /// Changes of the response's fields.
    #[serde(default)]
    pub(super) answer_headers: RawFieldChanges,
}

/// Fixed header fields.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFieldChanges {
    /// Fields that are set to a fixed value, whatever was sent.
    #[serde(default)]
    pub(super) set: BTreeMap<String, String>,
    /// Fields that are removed.
    #[serde(default)]
    pub(super) remove: Vec<String>,
}

/// Cross-origin requests from browsers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCors {
    /// Origins such as `https://app.example.com`, or `'*'` for any.
    pub(super) origins: Option<OneOrMany>,
    /// Whether a browser may send credentials of its own. Default `false`; never with `'*'`.
    #[serde(default)]
    pub(super) credentials: bool,
    /// Request headers a script may set, beside the safe ones and `Authorization`.
    #[serde(default)]
    pub(super) headers: Vec<String>,
    /// Response headers a script may read.
    #[serde(default)]
    pub(super) expose: Vec<String>,
    /// How long a browser may remember the answer. Default `10m`.
    pub(super) max_age: Option<RawDuration>,
}

/// Limits of a route.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRouteLimits {
    /// Largest request body.
    pub(super) body: Option<RawSize>,
    /// Least bytes a second of a request body while the gateway waits for it; `0B` is none.
    pub(super) body_rate: Option<RawSize>,
}

/// Timeouts of a route.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRouteTimeouts {
    /// Longest pause within a request body.
    pub(super) body_idle: Option<RawDuration>,
    /// From the head of a request to the end of its body.
    pub(super) body_total: Option<RawDuration>,
    /// Once the answer has begun, the longest silence both ways while the request body has not ended.
    pub(super) stream_idle: Option<RawDuration>,
    /// Longest wait for the upstream's header section.
    pub(super) upstream_response: Option<RawDuration>,
    /// Longest pause within the body of the upstream's answer.
    pub(super) upstream_idle: Option<RawDuration>,
}
