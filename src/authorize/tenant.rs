//! Does the token belong to the tenant this request is about?

use super::Context;
use crate::authenticate::Principal;
use crate::reject::{Reason, Reject};
use crate::types::quoted_list;

/// Which tenant a token must belong to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TenantRule {
    /// Any, if it names exactly one.
    Any,
    /// One of these, literally. If a token belongs to several, the first of this list counts.
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
    /// Hosts as they are, sorted.
    pub exact: Box<[Box<str>]>,
    /// Hosts with exactly one label in front of one of these, which are sorted.
    pub below: Box<[Box<str>]>,
}

impl HostShape {
    fn fits(&self, host: &str) -> bool {
        let is_in =
            |hosts: &[Box<str>], host: &str| hosts.binary_search_by(|listed| (**listed).cmp(host)).is_ok();
        let base = host.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, base)| base);
        is_in(&self.exact, host) || base.is_some_and(|base| is_in(&self.below, base))
    }
}

/// The tenant comes from the verified token alone; the request only says which one it is about.
pub(super) fn check(
    principal: &Principal,
    rule: Option<&TenantRule>,
    context: &Context<'_>,
) -> Result<(), Reject> {
    find(principal, rule, context).map(|_| ())
}

/// The position of the tenant that the request is about among those of the token. `None` if the route has no rule.
pub(super) fn find(
    principal: &Principal,
    rule: Option<&TenantRule>,
    context: &Context<'_>,
) -> Result<Option<usize>, Reject> {
    let Some(rule) = rule else {
        return Ok(None);
    };
    let tenants = &principal.facts().tenants;
    if tenants.is_empty() {
        return Err(Reject::because(Reason::TenantMismatch, "the token names no tenant"));
    }
    let position = |wanted: &str| tenants.iter().position(|tenant| **tenant == *wanted);
    let found = match rule {
        TenantRule::Any if tenants.len() == 1 => Some(0),
        TenantRule::Any => {
            let cause = format!("expected one tenant, found {}", tenants.len());
            return Err(Reject::because(Reason::TenantMismatch, cause));
        }
        TenantRule::Equals(wanted) => wanted.iter().find_map(|wanted| position(wanted)),
        TenantRule::PathParam(_) | TenantRule::HostLabel(..) => requested(rule, context).and_then(position),
    };
    found.map(Some).ok_or_else(|| mismatch(rule, context, tenants))
}

/// The tenant that the request is about.
fn requested<'c>(rule: &TenantRule, context: &'c Context<'_>) -> Option<&'c str> {
    match rule {
        TenantRule::Any | TenantRule::Equals(_) => None,
        TenantRule::PathParam(name) => context.param(name),
        TenantRule::HostLabel(label, shape) => {
            let skipped = label.checked_sub(1).filter(|_| shape.fits(context.host))?;
            context.host.split('.').nth(skipped)
        }
    }
}

fn mismatch(rule: &TenantRule, context: &Context<'_>, tenants: &[Box<str>]) -> Reject {
    let expected = match rule {
        TenantRule::HostLabel(_, shape) if !shape.fits(context.host) => {
            let cause = "the host has more labels than the route's wildcard and its tenant";
            return Reject::because(Reason::TenantMismatch, cause);
        }
        TenantRule::Equals(wanted) => quoted_list(wanted.iter().map(AsRef::as_ref)),
        TenantRule::Any | TenantRule::PathParam(_) | TenantRule::HostLabel(..) => {
            quoted_list(requested(rule, context))
        }
    };
    let found = quoted_list(tenants.iter().map(AsRef::as_ref));
    Reject::because(Reason::TenantMismatch, format!("expected tenant {expected}, found {found}"))
}
