//! Values of routes.yaml that may be written in more than one way, or in a notation of their own.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Longest duration: a number typed with too many digits is refused, not obeyed.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// Largest size: 1 TiB.
const LARGEST: u64 = 1 << 40;

/// Whether a request may turn its connection into a WebSocket.
#[derive(Debug, Default)]
pub(super) enum RawWebSocket {
    /// `false`.
    #[default]
    No,
    /// `true`.
    Yes,
    /// `{ token_subprotocol: … }`.
    With(RawTokenSubprotocol),
}

/// A WebSocket whose handshake may bring a token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTokenSubprotocol {
    /// The subprotocol, such as `bearer`, behind which a browser offers its token.
    pub(super) token_subprotocol: String,
}

impl<'de> Deserialize<'de> for RawWebSocket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = RawWebSocket;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false` or `{ token_subprotocol: … }`")
            }
            fn visit_bool<E>(self, allowed: bool) -> Result<RawWebSocket, E> {
                Ok(if allowed { RawWebSocket::Yes } else { RawWebSocket::No })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawWebSocket, A::Error> {
                RawTokenSubprotocol::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    .map(RawWebSocket::With)
            }
        }
        deserializer.deserialize_any(Value)
    }
}

impl JsonSchema for RawWebSocket {
    fn schema_name() -> Cow<'static, str> {
        "WebSocket".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let with = generator.subschema_for::<RawTokenSubprotocol>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, with] })
    }
}

/// One text or a list of texts.
#[derive(Debug)]
pub(super) struct OneOrMany {
    pub(super) values: Vec<String>,
    /// Whether it was written as a list.
    pub(super) list: bool,
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = OneOrMany;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }
            fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany { values: vec![text.to_owned()], list: false })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMany, A::Error> {
                let mut values = Vec::with_capacity(items.size_hint().unwrap_or(0).min(1024));
                while let Some(value) = items.next_element::<String>()? {
                    values.push(value);
                }
                Ok(OneOrMany { values, list: true })
            }
        }
        // Text is asked for first, so that a variable that looks like a number is still text.
        deserializer.deserialize_str(Values)
    }
}

impl JsonSchema for OneOrMany {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] })
    }
}

/// `auto` or a number.
#[derive(Clone, Copy, Debug)]
pub(super) enum AutoOr {
    Auto,
    Number(usize),
}

impl<'de> Deserialize<'de> for AutoOr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl Visitor<'_> for Value {
            type Value = AutoOr;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a whole number above 0")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<AutoOr, E> {
                match text {
                    "auto" => Ok(AutoOr::Auto),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(""), &self)),
                }
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<AutoOr, E> {
                match usize::try_from(number) {
                    Ok(number) if number > 0 => Ok(AutoOr::Number(number)),
                    Ok(_) | Err(_) => Err(E::invalid_value(serde::de::Unexpected::Unsigned(0), &self)),
                }
            }
        }
        deserializer.deserialize_any(Value)
    }
}

impl JsonSchema for AutoOr {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "AutoOr".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1 }] })
    }
}

/// Declares a number with a unit.
macro_rules! with_unit {
    ($(#[$doc:meta])* $name:ident($inner:ty), $parse:ident, $expected:literal, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Value;
                impl Visitor<'_> for Value {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        $parse(text).map($name).map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<$name, E> {
                        Err(E::custom(concat!("a number without a unit | write ", $expected)))
                    }
                }
                deserializer.deserialize_any(Value)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

with_unit!(
    /// A duration such as `10s`.
    RawDuration(Duration), parse_duration, "a duration such as `500ms`, `10s`, `5m`, `1h` or `1d`",
    r"^([0-9]+(ms|s|m|h|d)|.*\$\{.*)$"
);
with_unit!(
    /// A size such as `64KiB`.
    RawSize(u64), parse_size, "a size such as `512B`, `64KiB`, `10MiB` or `1GiB`",
    r"^([0-9]+(B|KiB|MiB|GiB)|.*\$\{.*)$"
);

/// Splits `10s` into the number and the unit.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

/// Parses a duration: a whole number and its unit.
fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const BAD: &str = "not a duration | write a whole number and a unit: `500ms`, `10s`, `5m`, `1h`, `1d`";
    let (number, unit) = number_and_unit(text).ok_or(BAD)?;
    let seconds = |n: u64| number.checked_mul(n).map(Duration::from_secs);
    let duration = match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(24 * 3600),
        _ => return Err(BAD),
    };
    match duration {
        Some(duration) if duration <= LONGEST => Ok(duration),
        Some(_) | None => Err("a duration longer than a year"),
    }
}

/// Parses a size: a whole number and its unit.
fn parse_size(text: &str) -> Result<u64, &'static str> {
    const BAD: &str = "not a size | write a whole number and a unit: `512B`, `64KiB`, `10MiB`, `1GiB`";
    let (number, unit) = number_and_unit(text).ok_or(BAD)?;
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(BAD),
    };
    match number.checked_mul(factor) {
        Some(size) if size <= LARGEST => Ok(size),
        Some(_) | None => Err("a size above 1024GiB"),
    }
}

/// A secret, which never stands in the file itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSecret {
    /// The file that holds it; one line end at its end is removed.
    pub(super) file: Option<String>,
    /// The environment variable that holds it.
    pub(super) env: Option<String>,
}

/// What must hold of a claim: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawClaimTest {
    /// It is this value, of this type.
    pub(super) equals: Option<serde_json::Value>,
    /// It is one of these values.
    pub(super) one_of: Option<Vec<serde_json::Value>>,
    /// It is an array that holds this value.
    pub(super) contains: Option<serde_json::Value>,
    /// It is an array that holds one of these values.
    pub(super) contains_any: Option<Vec<serde_json::Value>>,
    /// It is an object with a member of this name.
    pub(super) has_member: Option<String>,
}

/// The kinds of token an issuer's access tokens may claim to be.
#[derive(Debug)]
pub(super) enum RawTokenType {
    /// `at+jwt`, with what RFC 9068 asks for.
    AccessToken,
    /// Something else.
    Relaxed(RawRelaxed),
}

/// What is accepted instead of `at+jwt`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRelaxed {
    /// Accepted `typ` values; `none` is a token without one.
    #[schemars(length(min = 1))]
    pub(super) accept: Vec<String>,
    /// Claims that must be there, so that no other kind of token passes for an access token.
    #[schemars(length(min = 1))]
    pub(super) require_claims: Vec<String>,
}

impl<'de> Deserialize<'de> for RawTokenType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = RawTokenType;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`at+jwt` or `{ accept: […], require_claims: […] }`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawTokenType, E> {
                if text.eq_ignore_ascii_case("at+jwt") {
                    return Ok(RawTokenType::AccessToken);
                }
                let message = "the only type without conditions is `at+jwt` | write `{ accept: […], require_claims: […] }`";
                Err(E::custom(message))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawTokenType, A::Error> {
                RawRelaxed::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    .map(RawTokenType::Relaxed)
            }
        }
        deserializer.deserialize_any(Value)
    }
}

impl JsonSchema for RawTokenType {
    fn schema_name() -> Cow<'static, str> {
        "TokenType".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let relaxed = generator.subschema_for::<RawRelaxed>();
        json_schema!({ "anyOf": [{ "const": "at+jwt" }, relaxed] })
    }
}
