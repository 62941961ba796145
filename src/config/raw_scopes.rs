//! `scopes` of a route as it is written: a list, `{ any: […] }`, `{ all: […] }`, nested at will, or `any_authenticated`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A demand for scopes.
#[derive(Debug)]
pub(super) enum RawScopes {
    /// `any_authenticated`.
    AnyAuthenticated,
    /// Scopes.
    Demand(RawScopeExpr),
}

/// A part of a demand.
#[derive(Debug)]
pub(super) enum RawScopeExpr {
    One(String),
    All(Vec<RawScopeExpr>),
    Any(Vec<RawScopeExpr>),
}

const ANY_AUTHENTICATED: &str = "any_authenticated";
const SCOPES: &str = "a list of scopes, `{ any: […] }`, `{ all: […] }` or `any_authenticated`";

impl<'de> Deserialize<'de> for RawScopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = RawScopes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SCOPES)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawScopes, E> {
                if text == ANY_AUTHENTICATED {
                    return Ok(RawScopes::AnyAuthenticated);
                }
                Err(E::custom(
                    "scopes are a list, even if it is one | write `[scope]`, or `any_authenticated`",
                ))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<RawScopes, A::Error> {
                Part.visit_seq(items).map(RawScopes::Demand)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawScopes, A::Error> {
                Part.visit_map(map).map(RawScopes::Demand)
            }
        }
        deserializer.deserialize_any(Whole)
    }
}

/// Visits one part of a demand.
struct Part;

impl<'de> Visitor<'de> for Part {
    type Value = RawScopeExpr;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scope (a string), `{ any: […] }` or `{ all: […] }`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawScopeExpr, E> {
        if text == ANY_AUTHENTICATED {
            return Err(E::custom(
                "`any_authenticated` is not a scope | write `scopes: any_authenticated` alone",
            ));
        }
        Ok(RawScopeExpr::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawScopeExpr, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = items.next_element()? {
            parts.push(part);
        }
        if parts.is_empty() {
            let message =
                "an empty list of scopes | a route for any valid token says `scopes: any_authenticated`";
            return Err(A::Error::custom(message));
        }
        Ok(RawScopeExpr::All(parts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawScopeExpr, A::Error> {
        const ONE: &str = "either `any` or `all`, once | nest them: `all: [a, { any: [b, c] }]`";
        let Some(key) = map.next_key::<String>()? else {
            return Err(A::Error::custom(ONE));
        };
        if key != "any" && key != "all" {
            return Err(A::Error::unknown_field(&key, &["any", "all"]));
        }
        let RawParts(parts) = map.next_value()?;
        if map.next_key::<String>()?.is_some() {
            return Err(A::Error::custom(ONE));
        }
        Ok(if key == "any" { RawScopeExpr::Any(parts) } else { RawScopeExpr::All(parts) })
    }
}

/// The list behind `any` or `all`: never empty, for an empty `all` would let everyone in.
struct RawParts(Vec<RawScopeExpr>);

impl<'de> Deserialize<'de> for RawParts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Vec::deserialize(deserializer)?;
        if parts.is_empty() {
            return Err(D::Error::custom("an empty list of scopes"));
        }
        Ok(Self(parts))
    }
}

impl<'de> Deserialize<'de> for RawScopeExpr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Part)
    }
}

impl JsonSchema for RawScopes {
    fn schema_name() -> Cow<'static, str> {
        "Scopes".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let part = generator.subschema_for::<RawScopeExpr>();
        json_schema!({ "anyOf": [
            { "const": "any_authenticated" },
            { "type": "array", "items": part, "minItems": 1 },
            { "type": "object", "allOf": [part] },
        ] })
    }
}

impl JsonSchema for RawScopeExpr {
    fn schema_name() -> Cow<'static, str> {
        "ScopeDemand".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let part = generator.subschema_for::<Self>();
        let list = json_schema!({ "type": "array", "items": part, "minItems": 1 });
        json_schema!({ "anyOf": [
            { "type": "string" },
            list,
            { "type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
              "properties": { "any": list, "all": list } },
        ] })
    }
}
