//! Does the token belong to the tenant this request is about?

use super::{Context, Requirement};
use crate::authenticate::Principal;
use crate::reject::{Reason, Reject};
use crate::types::{Quoted, quoted_list};

/// Which tenant a token must belong to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TenantRule {
    /// One of these, literally.
    Equals(Vec<Box<str>>),
    /// The one named by this path parameter of the route.
    PathParam(Box<str>),
    /// The one named by this label of the host, counted from 1 on the left, at a host of this shape.
    HostLabel(usize, HostShape),
}

/// The hosts at which a label can name a tenant. A wildcard matches any number of labels, and only one of them has a meaning:
/// the tenant of `acme.globex.example.com` would be in doubt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HostShape {
    /// Hosts as they are.
    pub exact: Box<[Box<str>]>,
    /// Hosts with exactly one label in front of one of these.
    pub below: Box<[Box<str>]>,
}

impl HostShape {
    fn fits(&self, host: &str) -> bool {
        let is_below = |base: &str| {
            let label = host.strip_suffix(base).and_then(|label| label.strip_suffix('.'));
            label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
        };
        self.exact.iter().any(|exact| **exact == *host) || self.below.iter().any(|base| is_below(base))
    }
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
    let wanted = match rule {
        TenantRule::Equals(tenants) if tenants.iter().any(|t| **t == *tenant) => return Ok(()),
        TenantRule::Equals(tenants) => return Err(mismatch(tenants.iter().map(AsRef::as_ref), tenant)),
        TenantRule::PathParam(name) => context.param(name),
        TenantRule::HostLabel(label, shape) => {
            if !shape.fits(context.host) {
                let cause = "the host has more labels than the route's wildcard and its tenant";
                return Err(Reject::because(Reason::TenantMismatch, cause));
            }
            label.checked_sub(1).and_then(|skipped| context.host.split('.').nth(skipped))
        }
    };
    if wanted == Some(tenant) { Ok(()) } else { Err(mismatch(wanted, tenant)) }
}

fn mismatch<'a>(expected: impl IntoIterator<Item = &'a str>, found: &str) -> Reject {
    let expected = quoted_list(expected);
    let cause = format!("expected tenant {expected}, found {}", Quoted(found));
    Reject::because(Reason::TenantMismatch, cause)
}
