//! What a route changes in the header fields on their way.

use http::HeaderName;

/// Rules of a route for header fields. Routes with the same rules share them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldRules {
    /// Fields of the client's that go on although some servers read their names as another, such as `x_foo`.
    pub allow: Vec<HeaderName>,
}
