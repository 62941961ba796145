//! Which tenants an issuer may assert.

use std::collections::BTreeSet;

use super::Parser;
use crate::authenticate::{ClaimMap, IssuerTemplate, TenantAssertion};
use crate::config::diagnostic::Fault;
use crate::config::raw_issuers::RawIssuer;
use crate::config::read::Node;

impl Parser<'_, '_> {
    /// The template, if the issuer is one. Its claim is the tenant, so that `tenants` is the list of those that are allowed.
    pub(super) fn issuer_template(
        &mut self,
        raw: &RawIssuer,
        claims: &ClaimMap,
        node: &Node<'_>,
    ) -> Option<IssuerTemplate> {
        let place = node.place_of(&["issuer"]);
        if !raw.issuer.contains(['{', '}']) {
            if raw.issuer.contains('*') {
                let fault = Fault::new(place, "`*` in `issuer` stands for itself").key("issuer");
                self.faults.warn(fault.hint("for the tenants of one provider name the claim: `/{tid}/`"));
            }
            return None;
        }
        let template = match IssuerTemplate::parse(&raw.issuer) {
            Ok(template) => template,
            Err(message) => {
                self.faults.error(Fault::new(place, message).key("issuer"));
                return None;
            }
        };
        let trouble = match (&claims.tenant, &raw.tenant) {
            (Some(tenant), None) if *tenant != template.claim => {
                Some(format!("the template names `{}`, but `claims.tenant` is `{tenant}`", template.claim))
            }
            (_, Some(_)) => Some("`tenant` beside a template, whose issuers are tenants each".to_owned()),
            (Some(_) | None, None) => None,
        };
        if let Some(message) = trouble {
            let fault = Fault::new(place, message).key("issuer");
            self.faults.error(fault.hint("the claim in braces is the one that names the tenant"));
        } else if raw.tenants.is_none() {
            let message = "the tokens of every tenant of this provider are accepted";
            let fault = Fault::new(place, message).key("issuer");
            self.faults.warn(fault.hint("list those that may call in `tenants`"));
        }
        Some(template)
    }

    /// Which tenants the issuer may assert.
    pub(super) fn tenant_assertion(&mut self, raw: &RawIssuer, node: &Node<'_>) -> TenantAssertion {
        for (i, _) in raw.tenants.iter().flatten().enumerate().filter(|(_, text)| text.contains('*')) {
            self.warn_wildcard(node.place_of_item(&["tenants"], i), "tenants");
        }
        let (key, message, hint) = match (&raw.tenants, &raw.tenant) {
            (None, None) => return TenantAssertion::Any,
            (None, Some(tenant)) if !tenant.is_empty() && raw.claims.tenant.is_none() => {
                return TenantAssertion::Constant(tenant.as_str().into());
            }
            (Some(tenants), None)
                if (raw.claims.tenant.is_some() || raw.issuer.contains('{'))
                    && !tenants.is_empty()
                    && !tenants.iter().any(String::is_empty) =>
            {
                let sorted: BTreeSet<&str> = tenants.iter().map(String::as_str).collect();
                return TenantAssertion::OneOf(sorted.into_iter().map(Box::from).collect());
            }
            (Some(_), Some(_)) => ("tenant", "`tenant` beside `tenants`", "keep one of them"),
            (None, Some(tenant)) if tenant.is_empty() => ("tenant", "no tenant is named", "name it"),
            (None, Some(_)) => {
                let hint = "remove `claims.tenant`, or list its values in `tenants`";
                ("tenant", "`tenant` beside a claim that names the tenant", hint)
            }
            (Some(tenants), None) if tenants.is_empty() || tenants.iter().any(String::is_empty) => {
                ("tenants", "no tenant is named", "leave `tenants` out to accept any")
            }
            (Some(_), None) => {
                let hint =
                    "set `claims.tenant`; for an issuer that is one tenant itself write `tenant: name`";
                ("tenants", "`tenants` without a claim that names the tenant", hint)
            }
        };
        self.faults.error(Fault::new(node.place_of_key(&[key]), message).key(key).hint(hint));
        TenantAssertion::Any
    }
}
