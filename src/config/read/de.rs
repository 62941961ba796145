//! serde takes its values from located nodes.
//!
//! 1. An error has the place of the innermost node or key it is about.
//! 2. Types are exact: text is asked for and `10` is written plainly: an error, not the text `10`.
//! 3. A key without a value is an error, also where the key may be left out: `clients:` must not mean "any client".
//! 4. Messages name kinds, never values: a value may be a secret in the wrong place.

use std::cell::RefCell;
use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::node::{Content, Key, Map, Node, Style};
use super::yaml::{Typed, resolve};
use crate::config::diagnostic::{Fault, Faults, Place, suggest};

/// Keys of the format that this version cannot honour yet.
const LATER: [&str; 13] = [
    "assurance",
    "audit",
    "authorization_details",
    "binding",
    "condition",
    "consent",
    "delegation",
    "health",
    "introspection",
    "rate_limit",
    "retries",
    "revocation",
    "telemetry",
];

/// Decodes a node. Gathers all unknown keys in it, and the first thing that does not fit, with their places.
pub(in crate::config) fn decode<T: DeserializeOwned>(node: &Node<'_>, faults: &mut Faults) -> Option<T> {
    let unknown = RefCell::new(Vec::new());
    let result = T::deserialize(De { node, unknown: &unknown });
    let unknown = unknown.into_inner();
    let misspelt = !unknown.is_empty();
    unknown.into_iter().for_each(|fault| faults.error(fault));
    match result {
        Ok(value) => (!misspelt).then_some(value),
        // What is missing may be there under the unknown key.
        Err(error) if misspelt && error.missing => None,
        Err(error) => {
            faults.error(error.into_fault(node.place));
            None
        }
    }
}

/// The unknown keys met on the way.
type Unknown = RefCell<Vec<Fault>>;

/// What did not fit.
#[derive(Debug)]
pub(in crate::config) struct Error {
    place: Option<Place>,
    key: Option<String>,
    message: String,
    hint: Option<String>,
    /// Whether it is about a key that is not there.
    missing: bool,
}

impl Error {
    fn new(message: impl Into<String>) -> Self {
        Self { place: None, key: None, message: message.into(), hint: None, missing: false }
    }

    /// The fault of a key that is not known.
    pub(in crate::config) fn unknown(key: &str, allowed: &[&'static str]) -> Self {
        if LATER.contains(&key) || key == "state" {
            return Self {
                key: Some(key.to_owned()),
                ..Self::new(format!("this version does not support `{key}`"))
            };
        }
        Self {
            key: Some(key.to_owned()),
            hint: suggest(key, allowed.iter().copied()),
            ..Self::new(format!("unknown key `{key}`"))
        }
    }

    fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }

    fn under(mut self, key: &str) -> Self {
        self.key.get_or_insert_with(|| key.to_owned());
        self
    }

    /// The fault, at this place if it has none yet.
    pub(in crate::config) fn into_fault(self, place: Place) -> Fault {
        Fault { place: self.place.unwrap_or(place), key: self.key, message: self.message, hint: self.hint }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        // `|` parts a message from its hint: serde's errors have no second field.
        let text = message.to_string();
        match text.split_once(" | ") {
            Some((message, hint)) => Self { hint: Some(hint.to_owned()), ..Self::new(message) },
            None => Self::new(text),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let hint = match found {
            Unexpected::Bool(_) | Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_)
                if expected.to_string().contains("string") =>
            {
                Some("quote it if text is meant".to_owned())
            }
            _ => None,
        };
        Self { hint, ..Self::new(format!("expected {}, found {}", Wanted(expected), kind(found))) }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}, found {} that is none", Wanted(expected), kind(found)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self {
            hint: suggest(variant, expected.iter().copied()),
            ..Self::new("not one of the words that may stand here")
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::unknown(field, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self { key: Some(field.to_owned()), missing: true, ..Self::new(format!("missing `{field}`")) }
    }
}

/// What was expected, in the words of YAML.
struct Wanted<'a>(&'a dyn Expected);

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(match text.as_str() {
            "a string" => "text",
            "a sequence" => "a list",
            "a boolean" => "true or false",
            "usize" | "u64" | "u32" | "u16" => "a whole number",
            text if text.starts_with("struct ") => "a mapping",
            text => text,
        })
    }
}

fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "true or false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
        Unexpected::Seq => "a list",
        Unexpected::Map | Unexpected::StructVariant => "a mapping",
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::Char(_)
        | Unexpected::Str(_)
        | Unexpected::Bytes(_)
        | Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::Other(_) => "text",
    }
}

#[derive(Clone, Copy)]
struct De<'n, 't> {
    node: &'n Node<'t>,
    unknown: &'n Unknown,
}

impl<'n, 't> De<'n, 't> {
    fn entries(&self, map: &'n Map<'t>, known: Option<&'static [&'static str]>) -> Entries<'n, 't> {
        Entries { entries: map.0.iter(), known, unknown: self.unknown, value: None }
    }

    fn typed(&self) -> Option<(&'n str, Style, Typed)> {
        match &self.node.content {
            Content::Scalar(text, Style::Quoted) => Some((text, Style::Quoted, Typed::Text)),
            Content::Scalar(text, style) => Some((text, *style, resolve(text))),
            Content::Sequence(_) | Content::Map(_) => None,
        }
    }
}

impl<'de> Deserializer<'de> for De<'_, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let place = self.node.place;
        let result = match &self.node.content {
            Content::Sequence(items) => {
                visitor.visit_seq(Items { items: items.iter(), unknown: self.unknown })
            }
            Content::Map(map) => visitor.visit_map(self.entries(map, None)),
            Content::Scalar(text, _) => match self.typed().map_or(Typed::Text, |(_, _, typed)| typed) {
                Typed::Null => Err(Error::new("a value is missing")),
                Typed::Bool(value) => visitor.visit_bool(value),
                Typed::Unsigned(value) => visitor.visit_u64(value),
                Typed::Signed(value) => visitor.visit_i64(value),
                Typed::Float(value) if value.is_finite() => visitor.visit_f64(value),
                Typed::Float(_) => Err(Error::new("not a finite number")),
                Typed::Text => visitor.visit_str(text),
            },
        };
        result.map_err(|e| e.at(place))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let place = self.node.place;
        match &self.node.content {
            // Where text is asked for, a variable is text whatever it looks like.
            Content::Scalar(text, Style::Expanded) if !text.is_empty() => {
                visitor.visit_str(text).map_err(|e: Error| e.at(place))
            }
            Content::Scalar(..) | Content::Sequence(_) | Content::Map(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let place = self.node.place;
        match self.typed() {
            Some((text, _, Typed::Text)) => visitor.visit_enum(Word(text)).map_err(|e| e.at(place)),
            Some(_) | None => Err(Error::new("expected a word").at(place)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Content::Map(map) = &self.node.content else {
            // The derived visitor would take the items of a list for fields.
            let list = self.node.items().map(|_| serde::de::Error::invalid_type(Unexpected::Seq, &visitor));
            return list.map_or_else(|| self.deserialize_any(visitor), |e: Error| Err(e.at(self.node.place)));
        };
        visitor.visit_map(self.entries(map, Some(fields))).map_err(|e| e.at(self.node.place))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items<'n, 't> {
    items: std::slice::Iter<'n, Node<'t>>,
    unknown: &'n Unknown,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let unknown = self.unknown;
        self.items.next().map(|node| seed.deserialize(De { node, unknown })).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'n, 't> {
    entries: std::slice::Iter<'n, (Key<'t>, Node<'t>)>,
    /// The keys that may be here; the others are gathered and passed over. `None` is any.
    known: Option<&'static [&'static str]>,
    unknown: &'n Unknown,
    value: Option<(&'n Key<'t>, &'n Node<'t>)>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let (key, node) = loop {
            let Some((key, node)) = self.entries.next() else {
                return Ok(None);
            };
            match self.known {
                Some(known) if !known.contains(&&*key.text) => {
                    let fault = Error::unknown(&key.text, known).into_fault(key.place);
                    self.unknown.borrow_mut().push(fault);
                }
                Some(_) | None => break (key, node),
            }
        };
        self.value = Some((key, node));
        let name = seed.deserialize(Name(&key.text)).map_err(|e| e.at(key.place))?;
        Ok(Some(name))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let (key, node) = self.value.take().ok_or_else(|| Error::new("a value is missing"))?;
        let value = De { node, unknown: self.unknown };
        seed.deserialize(value).map_err(|e| e.under(&key.text).at(node.place))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// A key: always text.
struct Name<'n>(&'n str);

impl<'de> Deserializer<'de> for Name<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// One of a set of words.
struct Word<'n>(&'n str);

impl<'de> EnumAccess<'de> for Word<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        Ok((seed.deserialize(Name(self.0))?, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Error> {
        Err(Error::new("expected a word"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(Error::new("expected a word"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Error> {
        Err(Error::new("expected a word"))
    }
}
