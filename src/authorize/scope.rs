//! Does the token carry the scopes this route needs?

use std::collections::{BTreeMap, BTreeSet};

use crate::authenticate::Principal;
use crate::reject::{Reason, Reject};
use crate::types::{Scope, quoted_list};

/// What each scope implies, from the `scopes` section: `orders:write: [orders:read]` says that whoever may write may read.
#[derive(Clone, Debug, Default)]
pub struct ScopeImplications(BTreeMap<Scope, Vec<Scope>>);

impl ScopeImplications {
    /// Takes the section as it is written; implication is followed through any number of steps, and a circle is harmless.
    pub const fn new(implied: BTreeMap<Scope, Vec<Scope>>) -> Self {
        Self(implied)
    }

    /// All scopes that satisfy a demand for `wanted`: itself first, then every scope that implies it.
    fn satisfying(&self, wanted: &Scope) -> Vec<Scope> {
        let mut found = vec![wanted.clone()];
        let mut seen = BTreeSet::from([wanted.clone()]);
        let mut next = 0;
        while let Some(target) = found.get(next).cloned() {
            for (scope, implied) in &self.0 {
                if implied.contains(&target) && seen.insert(scope.clone()) {
                    found.push(scope.clone());
                }
            }
            next += 1;
        }
        found
    }
}

/// A demand for scopes as written: a scope, all of a list, or any of a list, nested at will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeExpr {
    /// This scope.
    One(Scope),
    /// All of these.
    All(Vec<ScopeExpr>),
    /// At least one of these.
    Any(Vec<ScopeExpr>),
}

impl ScopeExpr {
    fn collect(&self, into: &mut Vec<Scope>) {
        match self {
            Self::One(scope) => {
                if !into.contains(scope) {
                    into.push(scope.clone());
                }
            }
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.collect(into)),
        }
    }
}

/// A demand for scopes, compiled: implications resolved, names listed for the challenge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScopeRequirement {
    compiled: Option<Compiled>,
    listed: Box<[Scope]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Compiled {
    /// Any one of these names: a scope and all that imply it.
    OneOf(Vec<Scope>),
    All(Vec<Compiled>),
    Any(Vec<Compiled>),
}

impl ScopeRequirement {
    /// `any_authenticated`: a valid token is enough.
    pub fn any_authenticated() -> Self {
        Self { compiled: None, listed: Box::default() }
    }

    /// Compiles a demand.
    pub fn new(expr: &ScopeExpr, implications: &ScopeImplications) -> Self {
        let mut listed = Vec::new();
        expr.collect(&mut listed);
        Self { compiled: Some(Compiled::new(expr, implications)), listed: listed.into() }
    }

    /// All scopes the demand names, each once, for the `scope` attribute of a challenge (RFC 6750 §3) and the metadata.
    pub fn listed(&self) -> &[Scope] {
        &self.listed
    }

    /// Whether the granted scopes meet the demand. An empty `All` is met, an empty `Any` is not.
    pub fn met_by(&self, granted: &[Box<str>]) -> bool {
        self.compiled.as_ref().is_none_or(|compiled| compiled.met_by(granted))
    }
}

impl Compiled {
    fn new(expr: &ScopeExpr, implications: &ScopeImplications) -> Self {
        let all = |parts: &[ScopeExpr]| parts.iter().map(|part| Self::new(part, implications)).collect();
        match expr {
            ScopeExpr::One(scope) => Self::OneOf(implications.satisfying(scope)),
            ScopeExpr::All(parts) => Self::All(all(parts)),
            ScopeExpr::Any(parts) => Self::Any(all(parts)),
        }
    }

    fn met_by(&self, granted: &[Box<str>]) -> bool {
        match self {
            Self::OneOf(names) => {
                names.iter().any(|name| granted.iter().any(|scope| **scope == *name.as_str()))
            }
            Self::All(parts) => parts.iter().all(|part| part.met_by(granted)),
            Self::Any(parts) => parts.iter().any(|part| part.met_by(granted)),
        }
    }
}

/// Exact comparison of scope-tokens (RFC 9068 §2.2.3): `readonly` is not `read`.
pub(super) fn check(principal: &Principal, required: &ScopeRequirement) -> Result<(), Reject> {
    if required.met_by(&principal.facts().scopes) {
        Ok(())
    } else {
        let expected = quoted_list(required.listed().iter().map(Scope::as_str));
        let found = quoted_list(principal.facts().scopes.iter().map(AsRef::as_ref));
        Err(Reject::because(
            Reason::ScopeMissing,
            format!("expected by the route: scopes {expected}; found: {found}"),
        ))
    }
}
