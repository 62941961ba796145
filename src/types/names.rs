//! Names that come from configuration or from a verified token.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Makes a cheaply cloned, immutable string type, so that two kinds of name cannot be confused.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is; comparison is byte for byte.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(
    /// An issuer identifier, the `iss` of its tokens (RFC 7519 §4.1.1); compared code point by code point (RFC 8725 §3.8).
    Issuer
);
name!(
    /// The key of an issuer in the `issuers` section of routes.yaml.
    IssuerName
);
name!(
    /// One value of the `aud` claim: the resource a token is meant for (RFC 7519 §4.1.3). Never a prefix match.
    Audience
);
name!(
    /// One scope-token (RFC 6749 §3.3): printable ASCII without space, `"` and `\`.
    Scope
);
name!(
    /// The `id` of a route: unique in a policy, stable over reloads, a metric label.
    RouteId
);
name!(
    /// The key of an upstream in the `upstreams` section of routes.yaml.
    UpstreamName
);
name!(
    /// Who answers for a control or a route, as written in routes.yaml: a mail address, a team, a link.
    Owner
);

impl Scope {
    /// Parses one scope-token.
    ///
    /// Returns `None` where RFC 6749 §3.3 does not allow the text: empty, or a character outside
    /// `%x21 / %x23-5B / %x5D-7E`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::is_legal(text).then(|| Self::new(text))
    }

    /// Whether RFC 6749 §3.3 allows the text as one scope-token.
    pub fn is_legal(text: &str) -> bool {
        let legal = |b: u8| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        !text.is_empty() && text.bytes().all(legal)
    }
}
