//! The proof that a request may be forwarded.

use crate::authenticate::Principal;
use crate::reject::{Reason, Reject};
use crate::types::RouteIndex;

/// A passed decision. Its fields are private and its makers visible to `authorize` alone, so that `forward`, which takes
/// one, cannot be reached without a decision:
///
/// ```compile_fail,E0624
/// scopegate::authorize::Permit::public(scopegate::types::RouteIndex(0));
/// ```
///
/// ```compile_fail,E0451
/// # use scopegate::{authorize::Permit, types::RouteIndex};
/// Permit { route: RouteIndex(0), principal: None, shadowed: None };
/// ```
///
/// `decide` asks for one:
///
/// ```
/// # use scopegate::{authorize::{Permit, admit_public}, types::RouteIndex};
/// let permit: Permit = admit_public(RouteIndex(0));
/// assert!(permit.route() == RouteIndex(0) && permit.principal().is_none());
/// ```
#[derive(Debug)]
pub struct Permit {
    route: RouteIndex,
    principal: Option<Principal>,
    shadowed: Option<Reject>,
}

impl Permit {
    /// A permit for a verified principal; `shadowed` is the refusal that shadow mode let through.
    pub(super) const fn granted(route: RouteIndex, principal: Principal, shadowed: Option<Reject>) -> Self {
        Self { route, principal: Some(principal), shadowed }
    }

    /// A permit for a public route: nobody was asked.
    pub(super) const fn public(route: RouteIndex) -> Self {
        Self { route, principal: None, shadowed: None }
    }

    /// The route this permit is for.
    pub const fn route(&self) -> RouteIndex {
        self.route
    }

    /// The caller; `None` on a public route.
    pub const fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// The caller, if the route accepts its issuer and audience: what the upstream may be told. Shadow mode lets other tokens
    /// through. The names in one of another issuer could be those of other callers, and one for another audience was not
    /// given to this API.
    pub fn vouched(&self) -> Option<&Principal> {
        let refused = self
            .shadowed
            .as_ref()
            .is_some_and(|reject| matches!(reject.reason, Reason::IssuerRefused | Reason::AudienceMismatch));
        self.principal.as_ref().filter(|_| !refused)
    }

    /// The refusal that shadow mode let through: the first in the order of the checks, which begins with issuer and audience.
    pub const fn shadowed(&self) -> Option<&Reject> {
        self.shadowed.as_ref()
    }
}
