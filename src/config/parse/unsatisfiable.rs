//! Rules that no token can satisfy: warnings, for each is most likely a mistake.

use super::{Declared, Parser};
use crate::authenticate::json::{Json, Limits};
use crate::authenticate::{ClaimPath, IssuerPolicy, TenantAssertion};
use crate::authorize::{ClaimRule, ClaimTest, Requirement, TenantRule};
use crate::config::diagnostic::{Fault, Place};
use crate::config::places::Names;
use crate::config::raw_routes::RawRequire;
use crate::config::raw_values::OneOrMany;
use crate::config::read::Node;
use crate::types::IssuerIndex;

/// The type of a claim that specifications give one to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    /// Text or an array.
    List,
}

/// Registered claims (RFC 7519 §4.1, RFC 8693 §4.2 and §4.3) and `azp` of OpenID Connect.
const TYPED: [(&str, Kind); 9] = [
    ("iss", Kind::Text),
    ("sub", Kind::Text),
    ("jti", Kind::Text),
    ("client_id", Kind::Text),
    ("azp", Kind::Text),
    ("exp", Kind::Number),
    ("nbf", Kind::Number),
    ("iat", Kind::Number),
    ("aud", Kind::List),
];

impl Parser<'_, '_> {
    /// Warns of what in `require` no token of the route's issuers can satisfy.
    pub(super) fn check_satisfiable(
        &mut self,
        raw: &RawRequire,
        requirement: &Requirement,
        node: &Node<'_>,
        declared: &Declared<'_>,
    ) {
        for (key, values) in
            [("audience", &raw.audience), ("clients", &raw.clients), ("subjects", &raw.subjects)]
        {
            self.check_wildcards(values.as_ref(), node, &[key]);
        }
        for (key, values) in [("clients", &raw.clients), ("subjects", &raw.subjects)] {
            self.check_qualifiers(values.as_ref(), node, key, requirement, &declared.issuer_names);
        }
        if let Some(rule) = &requirement.tenant {
            self.check_tenant_assertions(rule, requirement, node, declared);
        }
        for rule in &requirement.claims {
            let name = raw.claims.keys().find(|name| ClaimPath::parse(name).as_ref() == Some(&rule.path));
            let Some(name) = name else { continue };
            let place = node.place_of(&["claims", name]);
            if let Some(message) = never_holds(rule, requirement, &declared.issuers) {
                let fault = Fault::new(place, message).key(name.as_str());
                self.faults.warn(fault.hint("this route refuses every token"));
            }
            if values(&rule.test).iter().any(|value| value.as_str().is_some_and(|text| text.contains('*'))) {
                self.warn_wildcard(place, name);
            }
        }
    }

    /// Warns of `*` in texts that are compared as they are.
    pub(super) fn check_wildcards(&mut self, values: Option<&OneOrMany>, node: &Node<'_>, keys: &[&str]) {
        let values = values.iter().flat_map(|values| &values.values);
        for (i, _) in values.enumerate().filter(|(_, text)| text.contains('*')) {
            self.warn_wildcard(node.place_of_item(keys, i), keys.last().copied().unwrap_or_default());
        }
    }

    /// Warns of a `*` that stands for itself.
    pub(super) fn warn_wildcard(&mut self, place: Place, key: &str) {
        let fault = Fault::new(place, format!("`*` in `{key}` stands for itself")).key(key);
        self.faults.warn(fault.hint("values are compared byte for byte: list them"));
    }

    /// Warns of a name whose part before the slash is an issuer that the route does not accept.
    fn check_qualifiers(
        &mut self,
        values: Option<&OneOrMany>,
        node: &Node<'_>,
        key: &str,
        requirement: &Requirement,
        issuers: &Names,
    ) {
        for (i, text) in values.iter().flat_map(|values| &values.values).enumerate() {
            let Some((issuer, _)) = text.split_once('/') else { continue };
            let accepted = |index: u32| requirement.issuers.contains(&IssuerIndex(index));
            if issuers.find(issuer).flatten().is_some_and(|index| !accepted(index)) {
                let message = format!("the route does not accept issuer `{issuer}`: `{text}` is one name");
                let fault = Fault::new(node.place_of_item(&[key], i), message).key(key);
                self.faults.warn(fault.hint("name one of the route's issuers, or add this one to `issuers`"));
            }
        }
    }

    /// Warns of issuers none of whose tokens can have a tenant that the rule takes.
    fn check_tenant_assertions(
        &mut self,
        rule: &TenantRule,
        requirement: &Requirement,
        node: &Node<'_>,
        declared: &Declared<'_>,
    ) {
        let place = node.place_of(&["tenant"]);
        if let TenantRule::Equals(wanted) = rule
            && wanted.iter().any(|tenant| tenant.contains('*'))
        {
            self.warn_wildcard(place, "equals");
        }
        let issuers = requirement.issuers.iter().filter_map(|index| declared.issuers.get(index.get()));
        for issuer in issuers {
            let name = &issuer.name;
            let asserted = match &issuer.tenants {
                TenantAssertion::Any if issuer.claims.tenant.is_none() => {
                    let message = format!("no token of issuer `{name}` has a tenant: the route refuses all");
                    let hint = format!("give `{name}` a `claims.tenant`, or a `tenant` if it is one itself");
                    self.faults.warn(Fault::new(place, message).key("tenant").hint(hint));
                    continue;
                }
                TenantAssertion::Any => continue,
                TenantAssertion::OneOf(tenants) => &**tenants,
                TenantAssertion::Constant(tenant) => std::slice::from_ref(tenant),
            };
            let TenantRule::Equals(wanted) = rule else { continue };
            if !wanted.iter().any(|tenant| asserted.contains(tenant)) {
                let message = format!("issuer `{name}` may assert none of these tenants");
                let fault = Fault::new(place, message).key("tenant");
                self.faults.warn(fault.hint(format!("the route refuses all tokens of `{name}`")));
            }
        }
    }

    /// Warns of a claim path at which no token has a value.
    pub(super) fn check_claim_path(&mut self, text: &str, path: &ClaimPath, place: Place) {
        let mut names = path.names();
        let first = names.next().unwrap_or_default();
        let typed = TYPED.iter().any(|(name, _)| *name == first);
        let message = if typed && names.next().is_some() {
            format!("nothing is below the claim `{first}`, which is no object")
        } else if path.names().count() > Limits::TOKEN.depth {
            format!("tokens nest {} levels at most", Limits::TOKEN.depth)
        } else if !text.contains('"') && looks_like_a_query(text) {
            "`*`, `[` and `$` stand for themselves in a claim path".to_owned()
        } else {
            return;
        };
        let fault = Fault::new(place, message);
        self.faults.warn(fault.hint("a path is names joined by dots; quote a name with other characters"));
    }
}

/// Whether a path is written as in JSONPath, or as a JSON Pointer.
fn looks_like_a_query(text: &str) -> bool {
    text.starts_with(['/', '$']) || text.contains(['*', '[', ']'])
}

const fn values(test: &ClaimTest) -> &[Json] {
    match test {
        ClaimTest::Equals(value) => std::slice::from_ref(value),
        ClaimTest::OneOf(values) | ClaimTest::ContainsAny(values) => values.as_slice(),
        ClaimTest::HasMember(_) => &[],
    }
}

/// Why a rule holds for no token.
fn never_holds(rule: &ClaimRule, requirement: &Requirement, issuers: &[IssuerPolicy]) -> Option<String> {
    let mut names = rule.path.names();
    let name = names.next().filter(|_| names.next().is_none())?;
    let (_, kind) = TYPED.iter().find(|(typed, _)| *typed == name)?;
    let has = |wanted: fn(&Json) -> bool| values(&rule.test).iter().any(wanted);
    let (is, possible) = match (kind, &rule.test) {
        (Kind::Text | Kind::Number, ClaimTest::ContainsAny(_) | ClaimTest::HasMember(_)) => {
            ("neither a list nor an object", false)
        }
        (Kind::List, ClaimTest::HasMember(_)) => ("no object", false),
        (Kind::Text, ClaimTest::Equals(_) | ClaimTest::OneOf(_)) => {
            ("text", has(|value| matches!(value, Json::String(_))))
        }
        (Kind::Number, ClaimTest::Equals(_) | ClaimTest::OneOf(_)) => {
            ("a number", has(|value| matches!(value, Json::Number(_))))
        }
        (Kind::List, ClaimTest::Equals(_) | ClaimTest::OneOf(_) | ClaimTest::ContainsAny(_)) => return None,
    };
    if !possible {
        return Some(format!("the claim `{name}` is {is}: this rule never holds"));
    }
    let accepted = || requirement.issuers.iter().filter_map(|index| issuers.get(index.get()));
    let issued = |value: &Json| {
        accepted().any(|issuer| issuer.template.is_some() || value.as_str() == Some(issuer.issuer.as_str()))
    };
    let never = name == "iss" && !values(&rule.test).iter().any(issued);
    never.then(|| "no issuer of the route has this `iss`: this rule never holds".to_owned())
}
