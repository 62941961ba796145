//! The protected resources that metadata is published for (RFC 9728).

use crate::types::{Audience, Issuer};

/// One protected resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The host it is served at, in lower case without port.
    pub host: Box<str>,
    /// The path of its metadata: `/.well-known/oauth-protected-resource` and the path of the identifier.
    pub metadata_path: Box<str>,
    /// The resource identifier (RFC 9728 §1.2).
    pub resource: Audience,
    /// Whether any of its routes reads tokens from `Authorization`.
    pub bearer: bool,
    /// Issuers any of its routes accepts, whose tokens are read from `Authorization`.
    pub authorization_servers: Vec<Issuer>,
    /// Scopes any of its routes names, as clients must ask its issuers for them.
    pub scopes: Vec<Box<str>>,
}

/// The protected resources of a snapshot (RFC 9728).
#[derive(Clone, Debug, Default)]
pub struct Resources(pub Box<[Resource]>);

impl Resources {
    /// These resources.
    pub fn new(mut resources: Vec<Resource>) -> Self {
        let place = |resource: &Resource| (resource.host.clone(), resource.metadata_path.clone());
        resources.sort_by_cached_key(place);
        Self(resources.into())
    }

    /// Whether metadata of protected resources is here, or nothing: no route takes these paths.
    pub fn are_at(path: &str) -> bool {
        path.strip_prefix("/.well-known/oauth-protected-resource")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The resource whose metadata is at this host and path.
    pub fn find(&self, host: &str, path: &str) -> Option<&Resource> {
        // Cheap for every request that is not about metadata.
        if !Self::are_at(path) {
            return None;
        }
        let place = |resource: &Resource| (&*resource.host, &*resource.metadata_path).cmp(&(host, path));
        let position = self.0.binary_search_by(place).ok()?;
        self.0.get(position)
    }
}
