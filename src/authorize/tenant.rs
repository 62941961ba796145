//! Does the token belong to the tenant this request is about?

use super::{Context, Requirement};
use crate::authenticate::Principal;
use crate::reject::{Reason, Reject};

/// Which tenant a token must belong to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TenantRule {
    /// One of these, literally.
    Equals(Vec<Box<str>>),
    /// The one named by this path parameter of the route.
    PathParam(Box<str>),
    /// The one named by this label of the host, counted from 1 on the left.
    HostLabel(usize),
}

/// The tenant comes from the verified token alone; the request only says which one it is about.
pub(super) fn check(
    principal: &Principal,
    requirement: &Requirement,
    context: &Context<'_>,
) -> Result<(), Reject> {
    let Some(rule) = &requirement.tenant else {
        return Ok(());
    };
    let Some(tenant) = principal.facts().tenant.as_deref() else {
        return Err(Reject::because(Reason::TenantMismatch, "the token names no tenant"));
    };
    let held = match rule {
        TenantRule::Equals(tenants) => tenants.iter().any(|t| **t == *tenant),
        TenantRule::PathParam(name) => context.param(name) == Some(tenant),
        TenantRule::HostLabel(label) => {
            label.checked_sub(1).and_then(|skipped| context.host.split('.').nth(skipped)) == Some(tenant)
        }
    };
    if held { Ok(()) } else { Err(Reject::new(Reason::TenantMismatch)) }
}
