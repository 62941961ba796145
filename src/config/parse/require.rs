//! `require` of a route.
//!
//! Issuers, audience and scopes are always written out: what is left out is an error, never "any".

use serde_json::Value;

use super::{Declared, Parser};
use crate::authenticate::json::Json;
use crate::authenticate::{ClaimPath, IssuerPolicy, TenantAssertion};
use crate::authorize::{
    AllowList, ClaimRule, ClaimTest, HostShape, Mode, Requirement, ScopeExpr, ScopeRequirement, TenantRule,
};
use crate::config::diagnostic::{Fault, suggest};
use crate::config::places::Names;
use crate::config::raw_routes::{RawMode, RawRequire, RawTenant};
use crate::config::raw_scopes::{RawScopeExpr, RawScopes};
use crate::config::raw_values::{OneOrMany, RawClaimTest};
use crate::config::read::Node;
use crate::route::host::HostPattern;
use crate::route::table::RouteSpec;
use crate::types::{Audience, IssuerIndex};

impl Parser<'_, '_> {
    /// Compiles the section; `node` is the section itself.
    pub(super) fn requirement(
        &mut self,
        raw: &RawRequire,
        node: &Node<'_>,
        mode: RawMode,
        spec: Option<&RouteSpec>,
        declared: &Declared<'_>,
    ) -> Option<Requirement> {
        let issuers =
            self.required(raw.issuers.as_ref(), node, "issuers", "name the issuers it accepts: `[corp]`");
        let audience = self.required(
            raw.audience.as_ref(),
            node,
            "audience",
            "name what tokens must be meant for: without it any token of the issuer would do",
        );
        let issuers = issuers.map(|names| self.route_issuers(names, node, &declared.issuer_names));
        let audiences = audience.map(|names| names.iter().map(|name| Audience::new(name.as_str())).collect());
        let scopes = self.scopes(raw.scopes.as_ref(), node, declared);
        let tenant = match &raw.tenant {
            None => None,
            Some(tenant) => Some(self.tenant(tenant, node, spec)?),
        };
        let accepted: Vec<(&str, IssuerIndex)> = accepted_issuers(raw, &declared.issuer_names);
        let clients = self.allow_list(raw.clients.as_ref(), node, "clients", &accepted)?;
        let subjects = self.allow_list(raw.subjects.as_ref(), node, "subjects", &accepted)?;
        if tenant.is_some() {
            self.check_tenants(node, &accepted, &declared.issuers);
        }
        let claims = self.claim_rules(raw, node)?;
        for rule in &claims {
            self.check_tenant_rule(&rule.path, node, &accepted, &declared.issuers);
        }
        let max_token_age =
            raw.max_token_age.map(|age| self.duration(Some(age), age.0, node, &["max_token_age"]));
        let requirement = Requirement {
            issuers: issuers?,
            audiences: audiences?,
            scopes: scopes?,
            tenant,
            clients,
            subjects,
            claims,
            max_token_age,
            mode: match mode {
                RawMode::Enforce => Mode::Enforce,
                RawMode::Shadow => Mode::Shadow,
            },
        };
        self.check_satisfiable(raw, &requirement, node, declared);
        Some(requirement)
    }

    /// A list that must be there and hold something.
    fn required<'r>(
        &mut self,
        raw: Option<&'r OneOrMany>,
        node: &Node<'_>,
        key: &str,
        hint: &str,
    ) -> Option<&'r [String]> {
        let values = raw.map(|raw| raw.values.as_slice()).unwrap_or_default();
        if let Some(empty) = values.iter().position(String::is_empty) {
            let place = node.place_of_item(&[key], empty);
            self.faults.error(Fault::new(place, format!("an empty text in `{key}`")).key(key));
            return None;
        }
        if values.is_empty() {
            let message = match raw {
                None => format!("missing `{key}`"),
                Some(_) => format!("`{key}` is empty"),
            };
            self.faults.error(Fault::new(node.place_of(&[key]), message).key(key).hint(hint));
            return None;
        }
        Some(values)
    }

    fn route_issuers(&mut self, names: &[String], node: &Node<'_>, declared: &Names) -> Vec<IssuerIndex> {
        let mut issuers = Vec::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            match declared.find(name) {
                Some(position) => issuers.extend(position.map(IssuerIndex)),
                None => {
                    let place = node.place_of_item(&["issuers"], i);
                    let mut fault = Fault::new(place, format!("unknown issuer `{name}`")).key("issuers");
                    fault.hint = suggest(name, declared.iter());
                    self.faults.error(fault);
                }
            }
        }
        issuers
    }

    fn scopes(
        &mut self,
        raw: Option<&RawScopes>,
        node: &Node<'_>,
        declared: &Declared<'_>,
    ) -> Option<ScopeRequirement> {
        match raw {
            Some(RawScopes::AnyAuthenticated) => Some(ScopeRequirement::any_authenticated()),
            Some(RawScopes::Demand(raw)) => {
                let expr = self.scope_expr(raw, node)?;
                Some(ScopeRequirement::new(&expr, &declared.implications))
            }
            None => {
                let fault = Fault::new(node.place, "missing `scopes`").key("scopes");
                self.faults.error(
                    fault.hint("write `scopes: [name]`; for any valid token `scopes: any_authenticated`"),
                );
                None
            }
        }
    }

    fn scope_expr(&mut self, raw: &RawScopeExpr, node: &Node<'_>) -> Option<ScopeExpr> {
        let mut all = |parts: &[RawScopeExpr]| -> Option<Vec<ScopeExpr>> {
            // All parts are looked at, so that all faults are found.
            let parts: Vec<_> = parts.iter().map(|part| self.scope_expr(part, node)).collect();
            parts.into_iter().collect()
        };
        match raw {
            RawScopeExpr::One(text) => {
                let place = node.place_of(&["scopes"]);
                if text.contains('*') {
                    self.warn_wildcard(place, "scopes");
                }
                self.scope(text, place).map(ScopeExpr::One)
            }
            RawScopeExpr::All(parts) => all(parts).map(ScopeExpr::All),
            RawScopeExpr::Any(parts) => all(parts).map(ScopeExpr::Any),
        }
    }

    fn tenant(&mut self, raw: &RawTenant, node: &Node<'_>, spec: Option<&RouteSpec>) -> Option<TenantRule> {
        let place = node.place_of(&["tenant"]);
        let raw = match raw {
            RawTenant::Any => return Some(TenantRule::Any),
            RawTenant::One(rule) => rule,
        };
        let wrong = match (&raw.from, &raw.equals) {
            (None, Some(equals))
                if equals.values.iter().all(|t| !t.is_empty()) && !equals.values.is_empty() =>
            {
                return Some(TenantRule::Equals(equals.values.iter().map(|t| t.as_str().into()).collect()));
            }
            (None, Some(_)) => "no tenant is named".to_owned(),
            (Some(_), Some(_)) | (None, None) => "a tenant rule is either `from` or `equals`".to_owned(),
            (Some(from), None) => match tenant_from(from, spec) {
                Ok(rule) => return rule,
                Err(message) => message,
            },
        };
        let place = match &raw.from {
            Some(_) => node.place_of(&["tenant", "from"]),
            None => place,
        };
        let fault = Fault::new(place, wrong).key("tenant");
        self.faults.error(fault.hint("write `{ from: path.NAME }`, `{ from: host.1 }` or `{ equals: … }`"));
        None
    }

    /// An allow-list; the outer `None` after a fault.
    fn allow_list(
        &mut self,
        raw: Option<&OneOrMany>,
        node: &Node<'_>,
        key: &str,
        issuers: &[(&str, IssuerIndex)],
    ) -> Option<Option<AllowList>> {
        let Some(raw) = raw else { return Some(None) };
        if raw.values.is_empty() || raw.values.iter().any(String::is_empty) {
            let fault = Fault::new(node.place_of(&[key]), format!("`{key}` names nobody")).key(key);
            self.faults.error(fault.hint(format!("leave `{key}` out to allow any")));
            return None;
        }
        let mut list = AllowList::default();
        for (i, text) in raw.values.iter().enumerate() {
            let issuer = |of: &str| issuers.iter().find(|(name, _)| *name == of).map(|(_, index)| *index);
            let qualified = text.split_once('/').and_then(|(of, name)| Some((issuer(of)?, name)));
            match qualified {
                Some((issuer, name)) if !name.is_empty() => {
                    list.qualified.entry(issuer).or_default().insert(name.into());
                }
                Some(_) | None => {
                    if let [(first, _), _, ..] = issuers {
                        let message = format!("each issuer of the route may assert `{text}`");
                        let fault = Fault::new(node.place_of_item(&[key], i), message).key(key);
                        self.faults.warn(fault.hint(format!("name the one that may: `{first}/{text}`")));
                    }
                    list.names.insert(text.as_str().into());
                }
            }
        }
        Some(Some(list))
    }

    /// Refuses a claim rule on the tenant of an issuer that may not assert each: the rule would look at the bare claim.
    fn check_tenant_rule(
        &mut self,
        path: &ClaimPath,
        node: &Node<'_>,
        accepted: &[(&str, IssuerIndex)],
        issuers: &[IssuerPolicy],
    ) {
        let limited = accepted
            .iter()
            .any(|(_, index)| issuers.get(index.get()).is_some_and(|issuer| issuer.limits_tenants_at(path)));
        if limited {
            let message = format!("`{path}` is the tenant of an issuer whose `tenants` are limited");
            let fault = Fault::new(node.place_of(&["claims"]), message).key("claims");
            self.faults
                .error(fault.hint("write `tenant: { equals: … }`, which only counts asserted tenants"));
        }
    }

    /// Warns of an issuer that may assert the tenants of other issuers.
    fn check_tenants(&mut self, node: &Node<'_>, accepted: &[(&str, IssuerIndex)], issuers: &[IssuerPolicy]) {
        if accepted.len() < 2 {
            return;
        }
        for (name, index) in accepted {
            if issuers.get(index.get()).is_some_and(|issuer| issuer.tenants == TenantAssertion::Any) {
                let message = format!("issuer `{name}` may assert any tenant, also one of another issuer");
                let fault = Fault::new(node.place_of(&["tenant"]), message).key("tenant");
                self.faults.warn(fault.hint(format!(
                    "give `{name}` the `tenants` that it may assert, or `tenant` if it is one itself"
                )));
            }
        }
    }

    fn claim_rules(&mut self, raw: &RawRequire, node: &Node<'_>) -> Option<Vec<ClaimRule>> {
        if raw.claims.is_empty() && node.get("claims").is_some() {
            let fault = Fault::new(node.place_of(&["claims"]), "`claims` demands nothing").key("claims");
            self.faults.error(fault);
            return None;
        }
        let mut rules = Vec::with_capacity(raw.claims.len());
        for (name, test) in &raw.claims {
            let place = node.place_of_key(&["claims", name]);
            let path = self.claim_path(name, place)?;
            let test = self.claim_test(test, node, name)?;
            rules.push(ClaimRule { path, test });
        }
        Some(rules)
    }

    /// What a rule demands: exactly one of its keys.
    fn claim_test(&mut self, raw: &RawClaimTest, node: &Node<'_>, name: &str) -> Option<ClaimTest> {
        let RawClaimTest { equals, one_of, contains, contains_any, has_member } = raw;
        match (equals, one_of, contains, contains_any, has_member) {
            (Some(value), None, None, None, None) => {
                Some(ClaimTest::Equals(self.claim_value(value, node, name)?))
            }
            (None, Some(values), None, None, None) if !values.is_empty() => {
                Some(ClaimTest::OneOf(self.claim_values(values, node, name)?))
            }
            (None, None, Some(value), None, None) if value.is_array() => {
                let place = node.place_of(&["claims", name]);
                let message = "`contains` compares the items of the claim with one value, not with a list";
                let fault = Fault::new(place, message).key(name);
                self.faults.error(fault.hint("for any of several values write `contains_any: […]`"));
                None
            }
            (None, None, Some(value), None, None) => {
                Some(ClaimTest::ContainsAny(vec![self.claim_value(value, node, name)?]))
            }
            (None, None, None, Some(values), None) if !values.is_empty() => {
                Some(ClaimTest::ContainsAny(self.claim_values(values, node, name)?))
            }
            (None, None, None, None, Some(member)) if !member.is_empty() => {
                Some(ClaimTest::HasMember(member.as_str().into()))
            }
            _ => {
                let message = "a claim rule is exactly one of `equals`, `one_of`, `contains`, `contains_any` and `has_member`, with values";
                let place = node.place_of(&["claims", name]);
                self.faults.error(Fault::new(place, message).key(name));
                None
            }
        }
    }

    fn claim_values(&mut self, values: &[Value], node: &Node<'_>, name: &str) -> Option<Vec<Json>> {
        values.iter().map(|value| self.claim_value(value, node, name)).collect()
    }

    /// A value to compare with a claim. A number that 64 bits do not hold exactly could equal another one.
    fn claim_value(&mut self, value: &Value, node: &Node<'_>, name: &str) -> Option<Json> {
        let value = Json::from(value.clone());
        if value.is_exact() {
            return Some(value);
        }
        let message = "a number that is no integer of 64 bits cannot be compared exactly";
        let fault = Fault::new(node.place_of(&["claims", name]), message).key(name);
        self.faults.error(fault.hint("if the claim is text, quote the value"));
        None
    }
}

/// The issuers that a route accepts, each once, those with faults of their own left out.
fn accepted_issuers<'r>(raw: &'r RawRequire, declared: &Names) -> Vec<(&'r str, IssuerIndex)> {
    let names = raw.issuers.iter().flat_map(|names| &names.values);
    let mut issuers: Vec<(&str, IssuerIndex)> =
        names.filter_map(|name| Some((name.as_str(), IssuerIndex(declared.find(name)??)))).collect();
    issuers.sort_unstable_by_key(|(_, index)| *index);
    issuers.dedup();
    issuers
}

fn shape(hosts: &[HostPattern]) -> HostShape {
    let exact = |host: &HostPattern| match host {
        HostPattern::Exact(name) => Some(name.clone()),
        HostPattern::Below(_) | HostPattern::Any => None,
    };
    let below = |host: &HostPattern| match host {
        HostPattern::Below(name) => Some(name.clone()),
        HostPattern::Exact(_) | HostPattern::Any => None,
    };
    let mut shape = HostShape {
        exact: hosts.iter().filter_map(exact).collect(),
        below: hosts.iter().filter_map(below).collect(),
    };
    shape.exact.sort_unstable();
    shape.below.sort_unstable();
    shape
}

/// Where the tenant of a request is. `Ok(None)` where the route's own faults leave it open.
fn tenant_from(from: &str, spec: Option<&RouteSpec>) -> Result<Option<TenantRule>, String> {
    if let Some(name) = from.strip_prefix("path.") {
        return match spec {
            Some(spec) if spec.path.params().any(|param| param == name) => {
                Ok(Some(TenantRule::PathParam(name.into())))
            }
            Some(spec) => Err(format!("the path `{}` has no parameter `{name}`", spec.path)),
            None => Ok(None),
        };
    }
    let label = from.strip_prefix("host.").and_then(|label| label.parse::<usize>().ok());
    let Some(label) = label.filter(|label| *label > 0) else {
        return Err(format!("`{from}` is not where a tenant can be"));
    };
    let Some(spec) = spec else { return Ok(None) };
    if spec.hosts.is_empty() {
        return Err("the tenant comes from the host, but the route names no host".to_owned());
    }
    let labels = |host: &HostPattern| match host {
        HostPattern::Any => 0,
        HostPattern::Exact(name) => name.split('.').count(),
        HostPattern::Below(name) => name.split('.').count() + 1,
    };
    match spec.hosts.iter().find(|host| labels(host) < label) {
        Some(host) => Err(format!("host `{host}` has no label {label}")),
        None => Ok(Some(TenantRule::HostLabel(label, shape(&spec.hosts)))),
    }
}
