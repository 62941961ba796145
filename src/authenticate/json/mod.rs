//! Strict JSON for headers and claims of tokens, key sets and issuer metadata.
//!
//! 1. One object and nothing behind it; UTF-8 without a byte order mark (RFC 8259 §8.1).
//! 2. A member that stands twice in one object is refused at any depth (RFC 7515 §4, RFC 7519 §4): two readers could take
//!    different ones.
//! 3. Depth, members of the outer object and values altogether are bounded, so that a short text costs little and nothing
//!    overflows the stack.
//! 4. A number that no 64-bit type holds, such as `1e400`, is refused; the others keep what they were, integer or not.
//! 5. An error names the place or the member, never a value.

mod error;

use std::cmp::Ordering;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use super::ClaimPath;
pub use error::{DocumentError, JsonError};

/// How much one JSON text may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep objects and arrays may be nested, the outer object counted.
    pub depth: usize,
    /// Members of the outer object.
    pub members: usize,
    /// Values altogether.
    pub nodes: usize,
}

impl Limits {
    /// For the header and the claims of a token.
    pub const TOKEN: Self = Self { depth: 16, members: 100, nodes: 2_000 };

    /// For what an issuer publishes: its metadata and its keys.
    pub const DOCUMENT: Self = Self { depth: 16, members: 1_000, nodes: 20_000 };
}

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number. The integer 1 and the number 1.0 are not equal.
    Number(Number),
    /// A string.
    String(Box<str>),
    /// An array.
    Array(Box<[Json]>),
    /// An object.
    Object(Object),
}

impl Json {
    /// The text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// The items, if it is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) | Self::Object(_) => None,
        }
    }

    /// The object, if it is one.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) | Self::Array(_) => None,
        }
    }

    /// Whether every number in it is an integer that 64 bits hold. Any other was rounded when it was read.
    pub fn is_exact(&self) -> bool {
        match self {
            Self::Null | Self::Bool(_) | Self::String(_) => true,
            Self::Number(number) => !number.is_f64(),
            Self::Array(items) => items.iter().all(Self::is_exact),
            Self::Object(object) => object.iter().all(|(_, value)| value.is_exact()),
        }
    }

    /// About how many bytes it occupies on the heap.
    fn weight(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => 0,
            Self::String(text) => text.len(),
            Self::Array(items) => {
                size_of_val::<[Self]>(items) + items.iter().map(Self::weight).sum::<usize>()
            }
            Self::Object(object) => object.weight(),
        }
    }
}

/// A JSON object without duplicate members. Equality does not look at the order of members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Object(
    /// Sorted by name.
    Box<[(Box<str>, Json)]>,
);

impl Object {
    #[cfg(test)]
    pub(crate) fn of_members_for_tests(members: impl IntoIterator<Item = (&'static str, Json)>) -> Self {
        let mut members: Vec<(Box<str>, Json)> =
            members.into_iter().map(|(name, value)| (name.into(), value)).collect();
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self(members.into())
    }

    /// Parses one object within [`Limits::TOKEN`].
    ///
    /// # Errors
    ///
    /// A [`JsonError`].
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        Self::parse_within(text, Limits::TOKEN)
    }

    /// Parses one object within [`Limits::DOCUMENT`].
    ///
    /// # Errors
    ///
    /// A [`DocumentError`].
    pub fn parse_document(text: &[u8]) -> Result<Self, DocumentError> {
        Self::parse_located(text, Limits::DOCUMENT)
    }

    /// Parses one object within `limits`.
    ///
    /// # Errors
    ///
    /// A [`JsonError`].
    pub fn parse_within(text: &[u8], limits: Limits) -> Result<Self, JsonError> {
        Self::parse_located(text, limits).map_err(|error| error.fault)
    }

    fn parse_located(text: &[u8], limits: Limits) -> Result<Self, DocumentError> {
        let whole = |fault| DocumentError { fault, place: None };
        let text = std::str::from_utf8(text).map_err(|_| whole(JsonError::Encoding))?;
        let mut budget = Budget { limits, values: 0, fault: None };
        let mut reader = serde_json::Deserializer::from_str(text);
        let seed = Seed { budget: &mut budget, depth: 0 };
        let parsed = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        match (parsed, budget.fault) {
            (Err(error), Some(fault)) => {
                Err(DocumentError { fault, place: Some((error.line(), error.column())) })
            }
            (Ok(_), Some(fault)) => Err(whole(fault)),
            (Err(error), None) => {
                let text = error.to_string();
                let what = text.split(" at line ").next().unwrap_or_default().into();
                Err(DocumentError {
                    fault: JsonError::Syntax(what),
                    place: Some((error.line(), error.column())),
                })
            }
            (Ok(Json::Object(object)), None) => Ok(object),
            (Ok(Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_)), None) => {
                Err(whole(JsonError::NotAnObject))
            }
        }
    }

    /// Sorts the members; the first name that stands twice, if one does.
    fn new(mut members: Vec<(Box<str>, Json)>) -> Result<Self, Box<str>> {
        members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let twice = members.windows(2).find_map(|pair| match pair {
            [(a, _), (b, _)] if a == b => Some(a.clone()),
            _ => None,
        });
        match twice {
            Some(name) => Err(name),
            None => Ok(Self(members.into_boxed_slice())),
        }
    }

    /// The member with this name.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let found = self.0.binary_search_by(|(key, _)| (**key).cmp(name)).ok()?;
        self.0.get(found).map(|(_, value)| value)
    }

    /// The member with this name, unless it is `null`, which serialisers write for what is not set.
    pub fn get_set(&self, name: &str) -> Option<&Json> {
        self.get(name).filter(|value| **value != Json::Null)
    }

    /// The value at this path.
    pub fn at(&self, path: &ClaimPath) -> Option<&Json> {
        let mut names = path.names();
        let mut value = self.get(names.next()?)?;
        for name in names {
            value = value.as_object()?.get(name)?;
        }
        Some(value)
    }

    /// The members, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// How many members it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// About how many bytes it occupies on the heap.
    pub fn weight(&self) -> usize {
        size_of_val::<[(Box<str>, Json)]>(&self.0)
            + self.iter().map(|(name, value)| name.len() + value.weight()).sum::<usize>()
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => Self::Number(number),
            Value::String(text) => Self::String(text.into()),
            Value::Array(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Value::Object(members) => Self::Object(members.into()),
        }
    }
}

impl From<serde_json::Map<String, Value>> for Object {
    fn from(members: serde_json::Map<String, Value>) -> Self {
        let mut members: Vec<_> =
            members.into_iter().map(|(name, value)| (name.into_boxed_str(), Json::from(value))).collect();
        members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Self(members.into_boxed_slice())
    }
}

impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Number(number.clone()),
            Json::String(text) => Self::String(text.to_string()),
            Json::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Json::Object(object) => object.into(),
        }
    }
}

impl From<&Object> for Value {
    fn from(object: &Object) -> Self {
        Self::Object(object.iter().map(|(name, value)| (name.to_owned(), Self::from(value))).collect())
    }
}

/// What is left to spend, and what went wrong: serde's errors carry text alone.
struct Budget {
    limits: Limits,
    values: usize,
    fault: Option<JsonError>,
}

impl Budget {
    fn fail<E: serde::de::Error>(&mut self, fault: JsonError) -> E {
        self.fault.get_or_insert(fault);
        E::custom("refused")
    }

    fn spend<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.values += 1;
        match self.values.cmp(&self.limits.nodes) {
            Ordering::Less | Ordering::Equal => Ok(()),
            Ordering::Greater => Err(self.fail(JsonError::TooManyValues(self.limits.nodes))),
        }
    }
}

/// Reads one value, `depth` objects and arrays deep.
struct Seed<'b> {
    budget: &'b mut Budget,
    depth: usize,
}

impl Seed<'_> {
    /// One level deeper.
    fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        let limit = self.budget.limits.depth;
        if self.depth > limit {
            return Err(self.budget.fail(JsonError::TooDeep(limit)));
        }
        Ok(())
    }

    fn inner(&mut self) -> Seed<'_> {
        Seed { budget: self.budget, depth: self.depth }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        self.budget.spend()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::String(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Json, A::Error> {
        self.enter()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner())? {
            array.push(item);
        }
        Ok(Json::Array(array.into()))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Json, A::Error> {
        self.enter()?;
        let mut members = Vec::new();
        while let Some(name) = entries.next_key::<String>()? {
            let limit = self.budget.limits.members;
            if self.depth == 1 && members.len() >= limit {
                return Err(self.budget.fail(JsonError::TooManyMembers(limit)));
            }
            let value = entries.next_value_seed(self.inner())?;
            members.push((name.into_boxed_str(), value));
        }
        Object::new(members).map(Json::Object).map_err(|name| {
            let name = name.chars().take(64).collect::<String>();
            self.budget.fail(JsonError::DuplicateMember(name.into()))
        })
    }
}

#[cfg(test)]
mod tests;
