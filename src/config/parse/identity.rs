//! Identity headers that a request may lack: warnings, for an API without token code takes such a request for anybody's.

use http::HeaderName;

use super::{Declared, Parser};
use crate::authenticate::{ClaimPath, IssuerPolicy, TenantAssertion};
use crate::authorize::{Mode, Requirement};
use crate::config::diagnostic::Fault;
use crate::config::read::Node;
use crate::snapshot::IdentityField;

impl Parser<'_, '_> {
    /// Warns of identity headers whose value neither the route nor one of its issuers requires.
    ///
    /// Those that many tokens lack by nature are left out: scopes, roles, the actor and the token's id.
    pub(super) fn check_identity(
        &mut self,
        headers: &[(HeaderName, IdentityField)],
        requirement: &Requirement,
        node: &Node<'_>,
        declared: &Declared<'_>,
    ) {
        let accepted = || requirement.issuers.iter().filter_map(|index| declared.issuers.get(index.get()));
        for (name, field) in headers {
            let Some(issuer) = accepted().find(|issuer| !is_required(field, requirement, issuer)) else {
                continue;
            };
            let message =
                format!("`{name}` is absent for tokens of issuer `{}` that lack its claim", issuer.name);
            let place = node.place_of_key(&["forward", "identity_headers"]);
            let fault = Fault::new(place, message).key("identity_headers");
            self.faults.warn(fault.hint(
                "an API may take a request without it for anybody's; add the claim to `require_claims`, or a rule to the route",
            ));
        }
    }
}

fn is_required(field: &IdentityField, requirement: &Requirement, issuer: &IssuerPolicy) -> bool {
    let enforced = requirement.mode == Mode::Enforce;
    let by_issuer = |path: &ClaimPath| issuer.token_types.required_claims.contains(path);
    let by_rule = |path: &ClaimPath| enforced && requirement.claims.iter().any(|rule| rule.path == *path);
    let required = |path: &ClaimPath| by_issuer(path) || by_rule(path);
    let named = |name: &str| ClaimPath::parse(name).is_some_and(|path| required(&path));
    match field {
        IdentityField::Subject => (enforced && requirement.subjects.is_some()) || named("sub"),
        IdentityField::Client => {
            (enforced && requirement.clients.is_some()) || issuer.claims.client.iter().any(required)
        }
        IdentityField::Tenant => {
            (enforced && requirement.tenant.is_some())
                || matches!(issuer.tenants, TenantAssertion::Constant(_))
                || issuer.template.is_some()
                || issuer.claims.tenant.as_ref().is_some_and(required)
        }
        IdentityField::Claim(path) => {
            ["iss", "aud", "exp"].iter().any(|name| ClaimPath::parse(name).as_ref() == Some(path))
                || required(path)
        }
        IdentityField::Scope
        | IdentityField::Issuer
        | IdentityField::Actor
        | IdentityField::TokenId
        | IdentityField::Roles => true,
    }
}
