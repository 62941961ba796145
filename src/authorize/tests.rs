use std::collections::BTreeMap;
use std::time::Duration;

use smallvec::smallvec;

use super::*;
use crate::authenticate::json::{Json, Object};
use crate::authenticate::{ClaimPath, KeyThumbprint, TokenFacts};
use crate::types::{Audience, Issuer, IssuerIndex, Scope};

const NOW: Timestamp = Timestamp(1_000_000);
const ROUTE: RouteIndex = RouteIndex(7);

/// A token that meets [`requirement`].
fn facts() -> TokenFacts {
    TokenFacts {
        epoch: 0,
        key: KeyThumbprint([0; 32]),
        issuer: Issuer::new("https://idp.example.com/"),
        subject: Some("alice".into()),
        client: Some("mobile-app".into()),
        tenants: smallvec!["acme".into()],
        actor: None,
        token_id: Some("1".into()),
        audience: smallvec!["https://api.example.com".into()],
        scopes: smallvec!["orders:read".into()],
        expires: Timestamp(2_000_000),
        not_before: None,
        issued: Some(NOW.minus(Duration::from_secs(60))),
        claims: Object::default(),
    }
}

/// The least a route demands.
fn requirement() -> Requirement {
    Requirement {
        issuers: vec![IssuerIndex(0)],
        audiences: vec![Audience::new("https://api.example.com")],
        scopes: ScopeRequirement::any_authenticated(),
        tenant: None,
        clients: None,
        subjects: None,
        claims: Vec::new(),
        max_token_age: None,
        mode: Mode::Enforce,
    }
}

fn decide(facts: TokenFacts, requirement: &Requirement) -> Result<Permit, Reject> {
    decide_at(facts, requirement, &[], "api.example.com")
}

fn decide_at(
    facts: TokenFacts,
    requirement: &Requirement,
    params: &[(&str, Cow<'_, str>)],
    host: &str,
) -> Result<Permit, Reject> {
    let params: Vec<(&str, Cow<'_, str>)> =
        params.iter().map(|(name, value)| (*name, Cow::Borrowed(&**value))).collect();
    let context = Context { params: &params, host, issuers: &Issuers::default(), now: NOW };
    let principal = Principal::for_tests(facts, IssuerIndex(0));
    authorize(ROUTE, principal, requirement, &context, &mut Checks::default()).map_err(|(_, reject)| reject)
}

/// The reason of the refusal, or `None`.
fn refusal(facts: TokenFacts, requirement: &Requirement) -> Option<Reason> {
    decide(facts, requirement).err().map(|reject| reject.reason)
}

fn scope(text: &str) -> ScopeExpr {
    ScopeExpr::One(Scope::parse(text).unwrap())
}

fn implications(section: &[(&str, &[&str])]) -> ScopeImplications {
    ScopeImplications::new(
        section
            .iter()
            .map(|(scope, implied)| (Scope::new(*scope), implied.iter().map(|s| Scope::new(*s)).collect()))
            .collect::<BTreeMap<_, _>>(),
    )
}

fn text(value: &str) -> Json {
    Json::String(value.into())
}

fn number(value: i64) -> Json {
    Json::Number(value.into())
}

#[test]
fn a_permit_names_its_route_and_its_caller() {
    let permit = decide(facts(), &requirement()).unwrap();
    assert_eq!(permit.route(), ROUTE);
    assert_eq!(permit.principal().unwrap().facts().subject.as_deref(), Some("alice"));
    assert_eq!(permit.shadowed(), None);
    let public = admit_public(ROUTE);
    assert_eq!(public.route(), ROUTE);
    assert!(public.principal().is_none());
}

#[test]
fn only_the_issuers_of_the_route_are_accepted() {
    for (issuers, expected) in [
        (vec![0], None),
        (vec![1, 0], None),
        (vec![1], Some(Reason::IssuerRefused)),
        (vec![], Some(Reason::IssuerRefused)),
    ] {
        let requirement =
            Requirement { issuers: issuers.iter().copied().map(IssuerIndex).collect(), ..requirement() };
        assert_eq!(refusal(facts(), &requirement), expected, "{issuers:?}");
    }
}

#[test]
fn an_audience_is_compared_exactly() {
    const API: &str = "https://api.example.com";
    for (token, route, fits, why) in [
        (&[API][..], &[API][..], true, "the same"),
        (&["other", API], &[API], true, "one of the token's"),
        (&[API], &["other", API], true, "one of the route's"),
        (&[], &[API], false, "none in the token"),
        (&[API], &[], false, "none in the route"),
        (&["https://api.example.com/"], &[API], false, "slash at the end"),
        (&["https://api.example"], &[API], false, "a prefix"),
        (&["https://api.example.com/orders"], &[API], false, "a longer one"),
        (&["HTTPS://API.EXAMPLE.COM"], &[API], false, "case"),
        (&["https://api.example.com "], &[API], false, "a space"),
        (&["https://api.example.com other"], &[API], false, "two in one"),
        (&[""], &[API], false, "empty"),
        (&["*"], &[API], false, "a wildcard"),
    ] {
        let token =
            TokenFacts { audience: token.iter().map(|audience| Box::from(*audience)).collect(), ..facts() };
        let requirement = Requirement {
            audiences: route.iter().map(|audience| Audience::new(*audience)).collect(),
            ..requirement()
        };
        let expected = (!fits).then_some(Reason::AudienceMismatch);
        assert_eq!(refusal(token, &requirement), expected, "{why}");
    }
}

#[test]
fn scopes_are_compared_exactly_and_combined_as_written() {
    let all = |parts: Vec<ScopeExpr>| ScopeExpr::All(parts);
    let any = |parts: Vec<ScopeExpr>| ScopeExpr::Any(parts);
    for (demand, granted, met, why) in [
        (scope("read"), "read", true, "the same"),
        (scope("read"), "write read", true, "among others"),
        (scope("read"), "", false, "none"),
        (scope("read"), "readonly", false, "a longer one"),
        (scope("readonly"), "read", false, "a prefix"),
        (scope("read"), "READ", false, "case"),
        (scope("read"), "read:all *", false, "no wildcards"),
        (all(vec![scope("a"), scope("b")]), "b a", true, "all of them"),
        (all(vec![scope("a"), scope("b")]), "a", false, "one of all"),
        (all(vec![]), "", true, "all of nothing"),
        (any(vec![scope("a"), scope("b")]), "b", true, "any of them"),
        (any(vec![scope("a"), scope("b")]), "c", false, "none of any"),
        (any(vec![]), "a", false, "any of nothing"),
        (all(vec![scope("a"), any(vec![scope("b"), scope("c")])]), "a c", true, "nested"),
        (all(vec![scope("a"), any(vec![scope("b"), scope("c")])]), "b c", false, "nested, all fails"),
        (all(vec![scope("a"), any(vec![scope("b"), scope("c")])]), "a", false, "nested, any fails"),
        (any(vec![all(vec![scope("a"), scope("b")]), scope("c")]), "a", false, "half of an alternative"),
        (any(vec![all(vec![scope("a"), scope("b")]), scope("c")]), "a b", true, "a whole alternative"),
    ] {
        let token = TokenFacts { scopes: granted.split_whitespace().map(Box::from).collect(), ..facts() };
        let requirement = Requirement {
            scopes: ScopeRequirement::new(&demand, &ScopeImplications::default()),
            ..requirement()
        };
        assert_eq!(refusal(token, &requirement), (!met).then_some(Reason::ScopeMissing), "{why}");
    }
}

#[test]
fn a_valid_token_without_scopes_is_enough_where_the_route_says_so() {
    let token = TokenFacts { scopes: smallvec![], ..facts() };
    assert_eq!(refusal(token, &requirement()), None);
}

#[test]
fn implications_are_followed_one_way() {
    let section = implications(&[
        ("admin", &["write"]),
        ("write", &["read"]),
        ("round", &["about"]),
        ("about", &["round"]),
        ("self", &["self"]),
    ]);
    for (wanted, granted, met) in [
        ("read", "read", true),
        ("read", "write", true),
        ("read", "admin", true),
        ("write", "admin", true),
        ("write", "read", false),
        ("admin", "write", false),
        ("round", "about", true),
        ("about", "round", true),
        ("round", "read", false),
        ("self", "self", true),
        ("self", "round", false),
        ("unlisted", "admin", false),
    ] {
        let requirement = ScopeRequirement::new(&scope(wanted), &section);
        assert_eq!(requirement.met_by(&[granted.into()]), met, "{granted} for {wanted}");
    }
    let plain = ScopeRequirement::new(&scope("read"), &ScopeImplications::default());
    assert!(!plain.met_by(&["admin".into()]), "nothing is implied unless it is written");
}

#[test]
fn a_challenge_lists_the_scopes_as_the_route_names_them() {
    let expr = ScopeExpr::All(vec![scope("b"), ScopeExpr::Any(vec![scope("a"), scope("b")]), scope("c")]);
    let section = implications(&[("admin", &["a"])]);
    let listed: Vec<String> =
        ScopeRequirement::new(&expr, &section).listed().iter().map(Scope::to_string).collect();
    assert_eq!(listed, ["b", "a", "c"]);
    assert!(ScopeRequirement::any_authenticated().listed().is_empty());
}

#[test]
fn the_token_must_belong_to_the_tenant_the_request_is_about() {
    let literal =
        |tenants: &[&str]| TenantRule::Equals(tenants.iter().map(|tenant| Box::from(*tenant)).collect());
    let param = || TenantRule::PathParam("tenant".into());
    let exact = ["acme", "acme.api.example.com", "api.acme.example.com"].map(Box::from);
    let below = ["example.com", "longer.example.com"].map(Box::from);
    let host_label = |label| {
        TenantRule::HostLabel(
            label,
            HostShape { exact: Box::new(exact.clone()), below: Box::new(below.clone()) },
        )
    };
    for (rule, tenant, path_tenant, host, held, why) in [
        (literal(&["acme"]), Some("acme"), "x", "h", true, "literal"),
        (literal(&["other", "acme"]), Some("acme"), "x", "h", true, "in a list"),
        (literal(&["other"]), Some("acme"), "acme", "acme", false, "another literal"),
        (literal(&["ACME"]), Some("acme"), "x", "h", false, "literal in another case"),
        (literal(&[]), Some("acme"), "x", "h", false, "an empty list"),
        (literal(&["acme"]), None, "acme", "acme", false, "a token without tenant"),
        (literal(&[""]), None, "", "", false, "a token without tenant, and an empty literal"),
        (param(), Some("acme"), "acme", "h", true, "path"),
        (param(), Some("acme"), "other", "acme", false, "another path"),
        (param(), Some("acme"), "ACME", "h", false, "path in another case"),
        (param(), Some("acme"), "acme/", "h", false, "a longer path"),
        (param(), Some("acme"), "", "h", false, "an empty path"),
        (param(), None, "acme", "h", false, "path, and a token without tenant"),
        (
            TenantRule::PathParam("missing".into()),
            Some("acme"),
            "acme",
            "h",
            false,
            "a parameter that is not there",
        ),
        (host_label(1), Some("acme"), "x", "acme.api.example.com", true, "first label"),
        (host_label(2), Some("acme"), "x", "api.acme.example.com", true, "second label"),
        (host_label(1), Some("acme"), "acme", "other.example.com", false, "another label"),
        (host_label(9), Some("acme"), "acme", "acme.example.com", false, "a label that is not there"),
        (host_label(0), Some("acme"), "acme", "acme", false, "labels are counted from 1"),
        (host_label(1), Some("acme"), "x", "acme.longer.example.com", true, "a longer wildcard"),
        (
            host_label(1),
            Some("acme"),
            "x",
            "acme.globex.example.com",
            false,
            "two labels before the wildcard",
        ),
        (host_label(1), Some("acme"), "x", "acme.notexample.com", false, "another name"),
        (host_label(1), None, "acme", "acme.example.com", false, "label, and a token without tenant"),
    ] {
        let token = TokenFacts { tenants: tenant.map(Box::from).into_iter().collect(), ..facts() };
        let requirement = Requirement { tenant: Some(rule), ..requirement() };
        let params = [("id", Cow::Borrowed("7")), ("tenant", Cow::Borrowed(path_tenant))];
        let result = decide_at(token, &requirement, &params, host);
        assert_eq!(
            result.err().map(|reject| reject.reason),
            (!held).then_some(Reason::TenantMismatch),
            "{why}"
        );
    }
}

#[test]
fn request_is_about_one_tenant_of_the_token() {
    let equals = |tenants: &[&str]| TenantRule::Equals(tenants.iter().map(|t| (*t).into()).collect());
    let path = || TenantRule::PathParam("tenant".into());
    for (rule, tenants, in_path, expected, why) in [
        (Some(path()), &["acme", "globex"][..], "globex", Ok(Some("globex")), "named by the path"),
        (Some(path()), &["acme", "globex"], "initech", Err(()), "another one in the path"),
        (
            Some(equals(&["globex", "acme"])),
            &["acme", "globex"],
            "x",
            Ok(Some("globex")),
            "first of the rule",
        ),
        (Some(equals(&["initech"])), &["acme", "globex"], "x", Err(()), "none of the rule"),
        (Some(TenantRule::Any), &["acme"], "x", Ok(Some("acme")), "any, one"),
        (Some(TenantRule::Any), &["acme", "globex"], "x", Err(()), "any, two"),
        (Some(TenantRule::Any), &[], "x", Err(()), "any, none"),
        (None, &["acme"], "x", Ok(Some("acme")), "no rule, one"),
        (None, &["acme", "globex"], "x", Ok(None), "no rule, two"),
        (None, &[], "x", Ok(None), "no rule, none"),
    ] {
        for mode in [Mode::Enforce, Mode::Shadow] {
            let token =
                TokenFacts { tenants: tenants.iter().map(|tenant| (*tenant).into()).collect(), ..facts() };
            let requirement = Requirement { tenant: rule.clone(), mode, ..requirement() };
            let result = decide_at(token, &requirement, &[("tenant", in_path.into())], "h");
            let tenant = result.as_ref().map_err(|_| ()).map(|permit| permit.principal().unwrap().tenant());
            match (mode, expected) {
                (Mode::Enforce, expected) | (Mode::Shadow, expected @ Ok(_)) => {
                    assert_eq!(tenant, expected, "{why}")
                }
                (Mode::Shadow, Err(())) => assert_eq!(tenant, Ok(None), "{why}"),
            }
        }
    }
}

#[test]
fn claims_are_compared_with_their_types() {
    let claims = || {
        Object::of_members_for_tests([
            ("department", text("sales")),
            ("level", number(3)),
            ("mfa", Json::Bool(true)),
            ("nothing", Json::Null),
            ("tags", Json::Array(Box::new([text("a"), number(1)]))),
            (
                "realm_access",
                Json::Object(Object::of_members_for_tests([(
                    "roles",
                    Json::Array(Box::new([text("clerk"), text("viewer")])),
                )])),
            ),
            ("https://example.com/team", text("blue")),
        ])
    };
    let equals = ClaimTest::Equals;
    let contains = |value| ClaimTest::ContainsAny(vec![value]);
    let member = |name: &str| ClaimTest::HasMember(name.into());
    for (path, test, held, why) in [
        ("department", equals(text("sales")), true, "equal"),
        ("department", equals(text("Sales")), false, "case"),
        ("department", equals(text("sale")), false, "a prefix"),
        ("level", equals(number(3)), true, "equal number"),
        ("level", equals(text("3")), false, "a number is no string"),
        ("department", equals(number(3)), false, "a string is no number"),
        ("mfa", equals(Json::Bool(true)), true, "equal boolean"),
        ("mfa", equals(text("true")), false, "a boolean is no string"),
        ("mfa", equals(number(1)), false, "a boolean is no number"),
        ("nothing", equals(Json::Null), true, "null that is there"),
        ("nothing", equals(Json::Bool(false)), false, "null is not false"),
        ("absent", equals(Json::Null), false, "absent is not null"),
        ("department", ClaimTest::OneOf(vec![text("ops"), text("sales")]), true, "one of"),
        ("department", ClaimTest::OneOf(vec![text("ops")]), false, "none of"),
        ("department", ClaimTest::OneOf(vec![]), false, "one of nothing"),
        ("absent", ClaimTest::OneOf(vec![Json::Null]), false, "absent is none of them"),
        ("realm_access.roles", contains(text("clerk")), true, "contained, nested"),
        ("realm_access.roles", contains(text("cler")), false, "a part of an item"),
        ("realm_access.roles", equals(text("clerk")), false, "an array equals none of its items"),
        ("tags", contains(number(1)), true, "contained number"),
        ("tags", contains(text("1")), false, "contained number is no string"),
        ("department", contains(text("sales")), false, "a string contains nothing"),
        ("department", contains(text("s")), false, "a part of a string"),
        ("realm_access", contains(text("roles")), false, "an object contains nothing"),
        ("absent", contains(text("x")), false, "absent contains nothing"),
        ("realm_access", member("roles"), true, "a member"),
        ("realm_access", member("role"), false, "no member"),
        ("realm_access.roles", member("clerk"), false, "an array has no members"),
        ("department", member("sales"), false, "a string has no members"),
        ("absent", member("x"), false, "absent has no members"),
        ("realm_access.absent", contains(text("clerk")), false, "absent below"),
        ("department.below", equals(text("sales")), false, "nothing is below a string"),
        ("tags.0", equals(text("a")), false, "arrays have no names"),
        ("https://example.com/team", equals(text("blue")), true, "a name with dots"),
    ] {
        let token = TokenFacts { claims: claims(), ..facts() };
        let requirement = Requirement {
            claims: vec![ClaimRule { path: ClaimPath::parse(path).unwrap(), test }],
            ..requirement()
        };
        assert_eq!(refusal(token, &requirement), (!held).then_some(Reason::ClaimMismatch), "{why}");
    }
}

#[test]
fn all_claim_rules_must_hold_and_the_first_that_fails_is_named() {
    let rule = |path: &str, value: &str| ClaimRule {
        path: ClaimPath::parse(path).unwrap(),
        test: ClaimTest::Equals(text(value)),
    };
    let token = || TokenFacts {
        claims: Object::of_members_for_tests([("a", text("1")), ("b", text("2"))]),
        ..facts()
    };
    let with = |claims| Requirement { claims, ..requirement() };
    assert_eq!(refusal(token(), &with(vec![rule("a", "1"), rule("b", "2")])), None);
    let reject =
        decide(token(), &with(vec![rule("a", "1"), rule("b", "secret"), rule("c", "3")])).unwrap_err();
    assert_eq!(reject.reason, Reason::ClaimMismatch);
    let cause = "claim `b`: expected the value of the route's rule, found another string";
    assert_eq!(reject.cause.as_deref(), Some(cause), "the value is not told");
}

#[test]
fn clients_and_subjects_are_allow_lists() {
    let list = |names: &[&str]| {
        Some(AllowList { names: names.iter().map(|name| Box::from(*name)).collect(), ..AllowList::default() })
    };
    for (names, name, allowed, why) in [
        (None, None, true, "no list"),
        (list(&["x", "batch"]), Some("batch"), true, "on the list"),
        (list(&["batch"]), Some("Batch"), false, "case"),
        (list(&["batch"]), Some("batch-2"), false, "a longer one"),
        (list(&["batch"]), None, false, "the token names nobody"),
        (list(&[""]), None, false, "the token names nobody, and an empty name is listed"),
        (list(&[]), Some("batch"), false, "an empty list"),
    ] {
        let token = || TokenFacts { client: name.map(Box::from), subject: name.map(Box::from), ..facts() };
        let by_client = Requirement { clients: names.clone(), ..requirement() };
        let by_subject = Requirement { subjects: names, ..requirement() };
        assert_eq!(refusal(token(), &by_client), (!allowed).then_some(Reason::ClientRefused), "{why}");
        assert_eq!(refusal(token(), &by_subject), (!allowed).then_some(Reason::SubjectRefused), "{why}");
    }
}

#[test]
fn a_route_may_ask_for_a_recent_token() {
    let limit = Duration::from_secs(900);
    for (issued, limit, fresh, why) in [
        (Some(NOW.0 - 60), Some(limit), true, "fresh"),
        (Some(NOW.0 - 900), Some(limit), true, "just in time"),
        (Some(NOW.0 - 901), Some(limit), false, "a second too old"),
        (Some(NOW.0 + 5), Some(limit), true, "issued ahead within the leeway"),
        (Some(i64::MIN), Some(limit), false, "the beginning of time"),
        (None, Some(limit), false, "of unknown age"),
        (None, None, true, "nobody asked"),
        (Some(0), None, true, "nobody asked"),
    ] {
        let token = TokenFacts { issued: issued.map(Timestamp), ..facts() };
        let requirement = Requirement { max_token_age: limit, ..requirement() };
        assert_eq!(refusal(token, &requirement), (!fresh).then_some(Reason::TokenStale), "{why}");
    }
}

/// What fails every check.
fn impossible(mode: Mode) -> Requirement {
    Requirement {
        issuers: vec![IssuerIndex(9)],
        audiences: vec![Audience::new("other")],
        scopes: ScopeRequirement::new(&scope("admin"), &ScopeImplications::default()),
        tenant: Some(TenantRule::Equals(vec!["other".into()])),
        clients: Some(AllowList::default()),
        subjects: Some(AllowList::default()),
        claims: vec![ClaimRule {
            path: ClaimPath::parse("absent").unwrap(),
            test: ClaimTest::Equals(Json::Null),
        }],
        max_token_age: Some(Duration::ZERO),
        mode,
    }
}

#[test]
fn the_first_check_that_fails_is_the_reason() {
    let mut requirement = impossible(Mode::Enforce);
    let good = self::requirement();
    let mut failed = Vec::new();
    let repairs: [fn(&mut Requirement, &Requirement); 8] = [
        |r, good| r.issuers.clone_from(&good.issuers),
        |r, good| r.audiences.clone_from(&good.audiences),
        |r, _| r.max_token_age = None,
        |r, good| r.scopes = good.scopes.clone(),
        |r, _| r.clients = None,
        |r, _| r.subjects = None,
        |r, _| r.tenant = None,
        |r, _| r.claims.clear(),
    ];
    for repair in repairs {
        failed.extend(refusal(facts(), &requirement));
        repair(&mut requirement, &good);
    }
    assert_eq!(
        failed,
        [
            Reason::IssuerRefused,
            Reason::AudienceMismatch,
            Reason::TokenStale,
            Reason::ScopeMissing,
            Reason::ClientRefused,
            Reason::SubjectRefused,
            Reason::TenantMismatch,
            Reason::ClaimMismatch,
        ]
    );
    assert_eq!(refusal(facts(), &requirement), None);
}

type Recorded = Vec<(Check, Outcome)>;

fn outcomes(requirement: &Requirement) -> (Recorded, Result<Permit, (Principal, Reject)>) {
    let mut checks = Checks::default();
    let context = Context { params: &[], host: "h", issuers: &Issuers::default(), now: NOW };
    let principal = Principal::for_tests(facts(), IssuerIndex(0));
    let result = authorize(ROUTE, principal, requirement, &context, &mut checks);
    (checks.iter().map(|result| (result.check, result.outcome)).collect(), result)
}

#[test]
fn checks_are_recorded_up_to_the_one_that_decides() {
    let requirement = Requirement { clients: Some(AllowList::default()), ..requirement() };
    let (recorded, result) = outcomes(&requirement);
    assert_eq!(
        recorded,
        [
            (Check::RouteIssuer, Outcome::Passed),
            (Check::Audience, Outcome::Passed),
            (Check::TokenAge, Outcome::Passed),
            (Check::Scope, Outcome::Passed),
            (Check::Client, Outcome::Failed(Reason::ClientRefused)),
        ]
    );
    let (principal, reject) = result.unwrap_err();
    assert_eq!(reject.reason, Reason::ClientRefused);
    assert_eq!(principal.facts().subject.as_deref(), Some("alice"), "the log learns who it was");
}

#[test]
fn checks_are_made_in_the_order_of_their_names() {
    let (recorded, _) = outcomes(&requirement());
    assert_eq!(recorded.len(), STEPS.len());
    assert!(recorded.is_sorted_by(|(a, _), (b, _)| a < b));
}

#[test]
fn shadow_mode_records_every_failure_and_permits() {
    let (recorded, result) = outcomes(&impossible(Mode::Shadow));
    let expected = [
        Reason::IssuerRefused,
        Reason::AudienceMismatch,
        Reason::TokenStale,
        Reason::ScopeMissing,
        Reason::ClientRefused,
        Reason::SubjectRefused,
        Reason::TenantMismatch,
        Reason::ClaimMismatch,
    ];
    let shadowed: Vec<Outcome> = recorded.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(shadowed, expected.map(Outcome::Shadowed));
    let permit = result.unwrap();
    assert_eq!(permit.shadowed().map(|reject| reject.reason), Some(Reason::IssuerRefused));
    assert!(permit.principal().is_some());
}

#[test]
fn shadow_mode_leaves_a_good_request_alone() {
    let requirement = Requirement { mode: Mode::Shadow, ..requirement() };
    assert_eq!(decide(facts(), &requirement).unwrap().shadowed(), None);
}
