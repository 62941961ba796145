//! Is the token meant for this resource?

use super::{Context, Requirement};
use crate::authenticate::Principal;
use crate::reject::{Reason, Reject};

/// One of the token's audiences must be one of the route's, code point by code point (RFC 9068 §4, RFC 8725 §3.9).
pub(super) fn check(principal: &Principal, requirement: &Requirement, _: &Context<'_>) -> Result<(), Reject> {
    let meant = |wanted: &str| principal.facts().audience.iter().any(|audience| **audience == *wanted);
    if requirement.audiences.iter().any(|audience| meant(audience.as_str())) {
        Ok(())
    } else {
        Err(Reject::new(Reason::AudienceMismatch))
    }
}
