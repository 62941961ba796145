//! Is the token meant for this resource?

use super::{Context, Requirement};
use crate::authenticate::Principal;
use crate::reject::{Reason, Reject};
use crate::types::{Audience, quoted_list};

/// One of the token's audiences must be one of the route's, code point by code point (RFC 9068 §4, RFC 8725 §3.9).
pub(super) fn check(principal: &Principal, requirement: &Requirement, _: &Context<'_>) -> Result<(), Reject> {
    let meant = |wanted: &str| principal.facts().audience.iter().any(|audience| **audience == *wanted);
    if requirement.audiences.iter().any(|audience| meant(audience.as_str())) {
        Ok(())
    } else {
        let expected = quoted_list(requirement.audiences.iter().map(Audience::as_str));
        let found = quoted_list(principal.facts().audience.iter().map(AsRef::as_ref));
        let cause = format!("expected audience {expected}, found {found}");
        Err(Reject::because(Reason::AudienceMismatch, cause))
    }
}
