//! What the caller may do here: from a [`Principal`] and a route's [`Requirement`] to a [`Permit`].
//!
//! The checks in their order: issuer, audience, token age (these three answer 401 as RFC 6750 §3.1 and RFC 9068 §4 ask),
//! then scope, client, subject, tenant, claim rules (403). The first that fails is the reason. In shadow mode a failure is
//! recorded and let through; authentication has already passed by then, so shadow never admits a bad token. A permit for a
//! caller whose issuer the route refuses does not vouch for the caller ([`Permit::vouched`]).
//!
//! Nothing here does I/O or reads a clock.

mod audience;
mod claim_rules;
mod permit;
mod requirement;
mod scope;
mod tenant;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use claim_rules::{ClaimRule, ClaimTest};
pub use permit::Permit;
pub use requirement::{AllowList, Mode, Requirement};
pub use scope::{ScopeExpr, ScopeImplications, ScopeRequirement};
pub use tenant::{HostShape, TenantRule};

use crate::authenticate::{Issuers, Principal};
use crate::reject::{Reason, Reject};
use crate::types::{Check, Checks, Outcome, Quoted, RouteIndex, Timestamp, quoted_list};

/// What of the request authorization looks at, beside the principal.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The path parameters of the matched route, decoded once: (name, value).
    pub params: &'a [(&'a str, Cow<'a, str>)],
    /// The matched host in lower case without port.
    pub host: &'a str,
    /// The issuers of the policy, which name those that a refusal is about.
    pub issuers: &'a Issuers,
    /// The time of the decision.
    pub now: Timestamp,
}

impl Context<'_> {
    fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_ref())
    }
}

/// One check: what it is called, and what makes it.
type Step = (Check, fn(&Principal, &Requirement, &Context<'_>) -> Result<(), Reject>);

/// The checks in their order.
const STEPS: [Step; 8] = [
    (Check::RouteIssuer, check_issuer),
    (Check::Audience, |principal, required, _| audience::check(principal, &required.audiences)),
    (Check::TokenAge, check_age),
    (Check::Scope, |principal, required, _| scope::check(principal, &required.scopes)),
    (Check::Client, check_client),
    (Check::Subject, check_subject),
    (Check::Tenant, |principal, required, context| {
        tenant::check(principal, required.tenant.as_ref(), context)
    }),
    (Check::ClaimRules, |principal, required, _| claim_rules::check(principal, &required.claims)),
];

/// Decides whether the principal may use the route.
///
/// # Errors
///
/// The first check that failed, unless the route is in shadow mode: then the permit remembers it.
pub fn authorize(
    route: RouteIndex,
    mut principal: Principal,
    requirement: &Requirement,
    context: &Context<'_>,
    checks: &mut Checks,
) -> Result<Permit, (Principal, Reject)> {
    let mut shadowed = None;
    for (check, step) in STEPS {
        match step(&principal, requirement, context) {
            Ok(()) => checks.passed(check),
            Err(reject) => match requirement.mode {
                Mode::Enforce => {
                    checks.push(check, Outcome::Failed(reject.reason));
                    return Err((principal, reject));
                }
                Mode::Shadow => {
                    checks.push(check, Outcome::Shadowed(reject.reason));
                    shadowed.get_or_insert(reject);
                }
            },
        }
    }
    if principal.facts().tenants.len() > 1
        && let Ok(Some(position)) = tenant::find(&principal, requirement.tenant.as_ref(), context)
    {
        principal.acting_for(position);
    }
    Ok(Permit::granted(route, principal, shadowed))
}

/// Lets a request to a public route through.
pub fn admit_public(route: RouteIndex) -> Permit {
    Permit::public(route)
}

fn check_issuer(
    principal: &Principal,
    requirement: &Requirement,
    context: &Context<'_>,
) -> Result<(), Reject> {
    if requirement.issuers.contains(&principal.issuer()) {
        return Ok(());
    }
    let accepted = requirement.issuers.iter().filter_map(|index| context.issuers.get(*index));
    let expected = quoted_list(accepted.map(|issuer| issuer.issuer.as_str()));
    let found = Quoted(principal.facts().issuer.as_str());
    Err(Reject::because(Reason::IssuerRefused, format!("expected issuer {expected}, found {found}")))
}

fn check_age(principal: &Principal, requirement: &Requirement, context: &Context<'_>) -> Result<(), Reject> {
    let Some(limit) = requirement.max_token_age else {
        return Ok(());
    };
    match principal.facts().issued {
        Some(issued) if context.now.since(issued) <= limit => Ok(()),
        Some(issued) => {
            let age = context.now.since(issued).as_secs();
            let limit = limit.as_secs();
            let cause = format!("issued {age} s ago (iat {issued}); `max_token_age` is {limit} s");
            Err(Reject::because(Reason::TokenStale, cause))
        }
        None => Err(Reject::because(Reason::TokenStale, "the token has no iat, so its age is unknown")),
    }
}

fn check_client(principal: &Principal, requirement: &Requirement, _: &Context<'_>) -> Result<(), Reject> {
    allowed(&requirement.clients, principal, principal.facts().client.as_deref(), Reason::ClientRefused)
}

fn check_subject(principal: &Principal, requirement: &Requirement, _: &Context<'_>) -> Result<(), Reject> {
    allowed(&requirement.subjects, principal, principal.facts().subject.as_deref(), Reason::SubjectRefused)
}

fn allowed(
    list: &Option<AllowList>,
    principal: &Principal,
    name: Option<&str>,
    refusal: Reason,
) -> Result<(), Reject> {
    let Some(list) = list else {
        return Ok(());
    };
    match name {
        Some(name) if list.contains(principal.issuer(), name) => Ok(()),
        Some(name) => {
            let issuer = Quoted(principal.facts().issuer.as_str());
            let cause = format!("found {} of issuer {issuer}, which is not on the list", Quoted(name));
            Err(Reject::because(refusal, cause))
        }
        None => Err(Reject::because(refusal, "the token names none")),
    }
}
