//! What one route demands: its `require` section, parsed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{ClaimRule, ScopeRequirement, TenantRule};
use crate::types::{Audience, IssuerIndex};

/// What a route demands of a principal. `issuers` and `audiences` are never empty: the parser refuses that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The issuers this route accepts.
    pub issuers: Vec<IssuerIndex>,
    /// The audiences this route answers to: the token's `aud` must hold one of them, exactly.
    pub audiences: Vec<Audience>,
    /// The scopes.
    pub scopes: ScopeRequirement,
    /// The tenant the token must belong to.
    pub tenant: Option<TenantRule>,
    /// The clients that may call.
    pub clients: Option<AllowList>,
    /// The subjects that may call.
    pub subjects: Option<AllowList>,
    /// Rules on claims; all must hold.
    pub claims: Vec<ClaimRule>,
    /// Longest allowed age of the token, `now - iat`.
    pub max_token_age: Option<Duration>,
    /// Whether refusals refuse.
    pub mode: Mode,
}

/// A list of names; only those on it pass, compared byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AllowList {
    /// Names that any issuer of the route may assert.
    pub names: BTreeSet<Box<str>>,
    /// Names that count for one issuer only: two issuers may give one name to different callers.
    pub qualified: BTreeMap<IssuerIndex, BTreeSet<Box<str>>>,
}

impl AllowList {
    /// Whether `name`, asserted by `issuer`, is on the list.
    pub fn contains(&self, issuer: IssuerIndex, name: &str) -> bool {
        self.names.contains(name) || self.qualified.get(&issuer).is_some_and(|names| names.contains(name))
    }
}

/// Whether a route's authorization refuses, or only records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Refusals refuse.
    #[default]
    Enforce,
    /// Refusals of authorization are recorded and let through; authentication still refuses.
    Shadow,
}
