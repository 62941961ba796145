//! `gateway.access_log` as it is written; the rules of [`super::raw`] hold.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Where the access log goes.
#[derive(Debug, Default)]
pub(super) enum RawAccessLog {
    /// Standard output, one JSON object a line.
    #[default]
    Stdout,
    /// Nowhere.
    Off,
    /// A file.
    File(RawAccessLogFile),
}

/// The access log in a file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAccessLogFile {
    /// The file. It is made if it is not there, and opened again on SIGHUP and when it was moved or removed.
    pub(super) file: String,
}

impl<'de> Deserialize<'de> for RawAccessLog {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = RawAccessLog;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`stdout`, `off` or `{ file: … }`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<RawAccessLog, E> {
                match text {
                    "stdout" => Ok(RawAccessLog::Stdout),
                    "off" => Ok(RawAccessLog::Off),
                    _ => Err(E::custom(
                        "expected `stdout`, `off` or a file | a file is `{ file: access.jsonl }`",
                    )),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawAccessLog, A::Error> {
                RawAccessLogFile::deserialize(MapAccessDeserializer::new(map)).map(RawAccessLog::File)
            }
        }
        deserializer.deserialize_any(Value)
    }
}

impl JsonSchema for RawAccessLog {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "AccessLog".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let file = generator.subschema_for::<RawAccessLogFile>();
        json_schema!({ "oneOf": [{ "enum": ["stdout", "off"] }, file] })
    }
}
