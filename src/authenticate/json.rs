//! Strict JSON for headers and claims of tokens.

use super::ClaimPath;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A string.
    String(Box<str>),
    /// An array.
    Array(Box<[Json]>),
    /// An object.
    Object(Object),
}

/// A JSON object without duplicate members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(Box<[(Box<str>, Json)]>);

impl Object {
    /// An object of these members, for tests of what comes after parsing.
    #[cfg(test)]
    pub(crate) fn of_members_for_tests(members: impl IntoIterator<Item = (&'static str, Json)>) -> Self {
        Self(
            members
                .into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect(),
        )
    }

    /// The member with this name.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0
            .iter()
            .find(|(key, _)| **key == *name)
            .map(|(_, value)| value)
    }

    /// The value at this path.
    pub fn at(&self, path: &ClaimPath) -> Option<&Json> {
        let mut names = path.names();
        let mut value = self.get(names.next()?)?;
        for name in names {
            let Json::Object(object) = value else { return None };
            value = object.get(name)?;
        }
        Some(value)
    }

    /// About how many bytes it occupies on the heap.
    pub fn weight(&self) -> usize {
        todo!()
    }
}
