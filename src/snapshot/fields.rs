//! What routes and upstreams change in the header fields on their way.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Rules of a route for header fields. Routes with the same rules share them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldRules {
    /// Fields of the client's that go on although some servers read their names as another, such as `x_foo`.
    pub allow: Vec<HeaderName>,
    /// Changes of the request's fields. What is set replaces the client's.
    pub request: FieldChanges,
    /// Changes of the response's fields. What is set replaces the upstream's.
    pub response: FieldChanges,
}

/// Fields that are removed and fields that are set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldChanges {
    /// The names that are removed: those that are set are among them, in each spelling that some server reads alike.
    pub remove: Vec<HeaderName>,
    /// The fields that are set after that.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

impl FieldChanges {
    /// Makes the changes.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
    }
}

/// A credential of the gateway's own for an upstream.
#[derive(Clone, Debug)]
pub struct UpstreamCredential {
    /// The field that it is sent in.
    pub name: HeaderName,
    /// Names of the client's fields that are removed: this one, in each spelling that some server reads alike.
    pub remove: Vec<HeaderName>,
    /// The value, marked as sensitive: `Debug` hides it, and HPACK does not index it.
    pub value: HeaderValue,
}
