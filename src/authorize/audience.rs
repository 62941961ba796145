//! Is the token meant for this resource?

use crate::authenticate::Principal;
use crate::reject::{Reason, Reject};
use crate::types::{Audience, quoted_list};

/// One of the token's audiences must be one of the route's, code point by code point (RFC 9068 §4, RFC 8725 §3.9).
pub(super) fn check(principal: &Principal, accepted: &[Audience]) -> Result<(), Reject> {
    let meant = |wanted: &str| principal.facts().audience.iter().any(|audience| **audience == *wanted);
    if accepted.iter().any(|audience| meant(audience.as_str())) {
        Ok(())
    } else {
        let expected = quoted_list(accepted.iter().map(Audience::as_str));
        let found = quoted_list(principal.facts().audience.iter().map(AsRef::as_ref));
        let cause = format!("expected audience {expected}, found {found}");
        Err(Reject::because(Reason::AudienceMismatch, cause))
    }
}
