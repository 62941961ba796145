//! Do the token's claims satisfy the route's rules?

use crate::authenticate::json::Json;
use crate::authenticate::{ClaimPath, Principal};
use crate::reject::{Reason, Reject};

/// One rule on one claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimRule {
    /// Where the claim is.
    pub path: ClaimPath,
    /// What must hold of it.
    pub test: ClaimTest,
}

/// What must hold of a claim. Values are compared with their types: the string `1` is not the number 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClaimTest {
    /// It is this value.
    Equals(Json),
    /// It is one of these values.
    OneOf(Vec<Json>),
    /// It is an array that holds one of these values. A string is never searched for a part.
    ContainsAny(Vec<Json>),
    /// It is an object with a member of this name that is not null.
    HasMember(Box<str>),
}

impl ClaimTest {
    const fn demand(&self) -> &'static str {
        match self {
            Self::Equals(_) => "the value of the route's rule",
            Self::OneOf(_) => "one of the values of the route's rule",
            Self::ContainsAny(_) => "an array with a value of the route's rule",
            Self::HasMember(_) => "an object with the member of the route's rule",
        }
    }

    fn holds(&self, claim: &Json) -> bool {
        match self {
            Self::Equals(value) => claim == value,
            Self::OneOf(values) => values.contains(claim),
            Self::HasMember(name) => claim.as_object().is_some_and(|claim| claim.get_set(name).is_some()),
            Self::ContainsAny(values) => match claim {
                Json::Array(items) => items.iter().any(|item| values.contains(item)),
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_) => false,
            },
        }
    }
}

/// A claim that is absent satisfies nothing.
pub(super) fn check(principal: &Principal, rules: &[ClaimRule]) -> Result<(), Reject> {
    let claims = &principal.facts().claims;
    match rules.iter().find(|rule| !claims.at(&rule.path).is_some_and(|claim| rule.test.holds(claim))) {
        None => Ok(()),
        Some(rule) => {
            let found = claims.at(&rule.path).map_or("nothing", kind);
            let cause = format!("claim `{}`: expected {}, found {found}", rule.path, rule.test.demand());
            Err(Reject::because(Reason::ClaimMismatch, cause))
        }
    }
}

/// What a claim is. Its value is not told: a rule may be about personal data.
const fn kind(claim: &Json) -> &'static str {
    match claim {
        Json::Null => "null",
        Json::Bool(_) => "another boolean",
        Json::Number(_) => "another number",
        Json::String(_) => "another string",
        Json::Array(_) => "an array without it",
        Json::Object(_) => "another object",
    }
}
