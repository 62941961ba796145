use serde_json::{Value, json};

use super::*;
use crate::authenticate::testing::{NOW, claims_with, paths, policy};
use crate::authenticate::{IssuerTemplate, Issuers};

fn facts(policy: &IssuerPolicy, changes: Value) -> Result<TokenFacts, Reject> {
    let claims = Object::parse(claims_with(changes).to_string().as_bytes()).unwrap();
    read(claims, policy, 7, KeyThumbprint([1; 32]))
}

/// Reads and checks the times: what becomes of a token with these claims.
fn refusal(policy: &IssuerPolicy, changes: Value) -> Option<Reason> {
    facts(policy, changes)
        .and_then(|facts| check_times(&facts, policy, NOW))
        .err()
        .map(|reject| reject.reason)
}

#[test]
fn a_good_token_is_read_whole() {
    let facts = facts(
        &policy(),
        json!({"tenant_id": "acme", "nbf": NOW.0 - 5, "act": {"sub": "batch", "act": {"sub": "earlier"}},
               "aud": ["a", "b"], "x": {"y": 1}}),
    )
    .unwrap();
    assert_eq!((facts.epoch, facts.key), (7, KeyThumbprint([1; 32])));
    assert_eq!(facts.subject.as_deref(), Some("alice"));
    assert_eq!(facts.client.as_deref(), Some("app"));
    assert_eq!(facts.tenants.as_slice(), ["acme".into()]);
    assert_eq!(facts.actor.as_deref(), Some("batch"), "the outermost actor");
    assert_eq!(facts.token_id.as_deref(), Some("id-1"));
    assert_eq!(facts.audience.as_slice(), ["a".into(), "b".into()]);
    assert_eq!(facts.scopes.as_slice(), ["orders:read".into(), "orders:write".into()]);
    assert_eq!(facts.expires, Timestamp(NOW.0 + 300));
    assert_eq!(facts.not_before, Some(Timestamp(NOW.0 - 5)));
    assert_eq!(facts.issued, Some(Timestamp(NOW.0 - 10)));
    assert!(facts.claims.at(&ClaimPath::parse("x.y").unwrap()).is_some());
}

#[test]
fn claims_of_the_wrong_type_are_refused() {
    use Reason::{TokenClaimInvalid as Invalid, TokenClaimMissing as Missing};
    let rows = [
        (json!({"exp": null}), Missing, "no exp"),
        (json!({"aud": null}), Missing, "no aud"),
        (json!({"sub": null}), Missing, "no sub"),
        (json!({"client_id": null}), Missing, "no client_id"),
        (json!({"iat": null}), Missing, "no iat"),
        (json!({"jti": null}), Missing, "no jti"),
        (json!({"exp": "9999999999"}), Invalid, "exp string"),
        (json!({"exp": true}), Invalid, "exp bool"),
        (json!({"exp": [1]}), Invalid, "exp array"),
        (json!({"exp": {}}), Invalid, "exp object"),
        (json!({"exp": 9_223_372_036_854_775_808_u64}), Invalid, "exp 2^63"),
        (json!({"exp": 1e300}), Invalid, "exp huge"),
        (json!({"nbf": "1"}), Invalid, "nbf string"),
        (json!({"iat": "1"}), Invalid, "iat string"),
        (json!({"exp": -1e300}), Invalid, "exp far in the past"),
        (json!({"sub": ""}), Missing, "empty sub"),
        (json!({"sub": 7}), Invalid, "sub number"),
        (json!({"jti": 7}), Invalid, "jti number"),
        (json!({"client_id": ["app"]}), Invalid, "client array"),
        (json!({"aud": ""}), Invalid, "empty aud"),
        (json!({"aud": []}), Invalid, "no aud in the array"),
        (json!({"aud": ["a", ""]}), Invalid, "an empty aud in the array"),
        (json!({"aud": ["a", 1]}), Invalid, "a number in the array"),
        (json!({"aud": {"a": 1}}), Invalid, "aud object"),
        (json!({"act": "batch"}), Invalid, "act string"),
        (json!({"act": [{"sub": "batch"}]}), Invalid, "act array"),
        (json!({"act": {}}), Invalid, "act without sub"),
        (json!({"act": {"sub": 1}}), Invalid, "act.sub number"),
    ];
    for (changes, reason, why) in rows {
        assert_eq!(refusal(&policy(), changes), Some(reason), "{why}");
    }
}

#[test]
fn null_is_not_a_value() {
    let with_null = |claim: &str| {
        let mut claims = claims_with(json!({}));
        claims[claim] = Value::Null;
        let claims = Object::parse(claims.to_string().as_bytes()).unwrap();
        read(claims, &policy(), 1, KeyThumbprint([0; 32]))
    };
    for claim in ["exp", "aud", "sub", "iat", "jti", "client_id"] {
        assert_eq!(with_null(claim).unwrap_err().reason, Reason::TokenClaimMissing, "{claim}");
    }
    for claim in ["nbf", "act", "scope", "tenant_id", "cnf"] {
        let facts = with_null(claim).unwrap();
        assert!(facts.not_before.is_none() || claim != "nbf", "{claim}");
        assert!(facts.actor.is_none() && (facts.tenants.is_empty() || claim != "tenant_id"), "{claim}");
        assert!(facts.scopes.is_empty() || claim != "scope", "{claim}");
    }
}

#[test]
fn fractions_of_seconds_are_rounded_to_the_strict_side() {
    for (changes, expires, not_before, issued) in [
        (
            json!({"exp": 1_800_000_100.9, "nbf": 1_799_999_990.1, "iat": 1_799_999_990.9}),
            1_800_000_100,
            1_799_999_991,
            1_799_999_990,
        ),
        (
            json!({"exp": 1.8000001e9, "nbf": 1.7999999e9, "iat": 1.7999999e9}),
            1_800_000_100,
            1_799_999_900,
            1_799_999_900,
        ),
    ] {
        let facts = facts(&policy(), changes).unwrap();
        let found = (facts.expires, facts.not_before, facts.issued);
        assert_eq!(found, (Timestamp(expires), Some(Timestamp(not_before)), Some(Timestamp(issued))));
    }
}

#[test]
fn bound_token_is_no_bearer_token() {
    for cnf in [json!({"jkt": "x"}), json!({"x5t#S256": "x"}), json!({}), json!(true), json!("x"), json!([])]
    {
        let why = cnf.to_string();
        assert_eq!(refusal(&policy(), json!({ "cnf": cnf })), Some(Reason::BindingMissing), "{why}");
    }
}

#[test]
fn tenant_counts_where_the_issuer_may_assert_it() {
    use TenantAssertion::{Any, Constant, OneOf};
    let listed = || OneOf(Box::new(["acme".into(), "globex".into()]));
    for (assertion, claim, tenant) in [
        (Any, json!("acme"), Some("acme")),
        (listed(), json!("globex"), Some("globex")),
        (listed(), json!("initech"), None),
        (listed(), json!("ACME"), None),
        (listed(), json!(null), None),
        (Constant("acme".into()), json!("globex"), Some("acme")),
        (Constant("acme".into()), json!(null), Some("acme")),
    ] {
        let policy = IssuerPolicy { tenants: assertion, ..policy() };
        let facts = facts(&policy, json!({ "tenant_id": claim })).unwrap();
        assert_eq!(facts.tenants.first().map(AsRef::as_ref), tenant, "{:?}", policy.tenants);
        assert!(facts.tenants.len() <= 1, "{:?}", policy.tenants);
    }
    let policy = IssuerPolicy { tenants: listed(), ..policy() };
    let facts = facts(&policy, json!({ "tenant_id": ["acme", "initech", "globex"] })).unwrap();
    assert_eq!(facts.tenants.as_slice(), ["acme".into(), "globex".into()]);
}

#[test]
fn tenants_are_read_from_any_type_of_claim() {
    for (claim, tenants) in [
        (json!("acme"), &["acme"][..]),
        (json!(42), &["42"]),
        (json!(-7), &["-7"]),
        (json!(18_446_744_073_709_551_615_u64), &["18446744073709551615"]),
        (json!(["acme", 42, "globex"]), &["acme", "42", "globex"]),
        (json!({"acme": {"id": 1}, "globex": {}}), &["acme", "globex"]),
        (json!(["acme", null, true, ["globex"], {"initech": 1}, "", 1.5]), &["acme"]),
        (json!(""), &[]),
        (json!(42.5), &[]),
        (json!(1e20), &[]),
        (json!(true), &[]),
        (json!(null), &[]),
        (json!([]), &[]),
        (json!({}), &[]),
        (json!({"": 1}), &[]),
    ] {
        let facts = facts(&policy(), json!({ "tenant_id": claim })).unwrap();
        assert_eq!(facts.tenants.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), tenants, "{claim}");
    }
}

#[test]
fn template_issuer_must_agree_with_its_claim() {
    let policy = IssuerPolicy {
        template: Some(IssuerTemplate::parse("https://idp.example/{tid}/v2.0").unwrap()),
        ..policy()
    };
    let iss = |tenant: &str| format!("https://idp.example/{tenant}/v2.0");
    let read = |iss: String, tid: Value| {
        facts(&policy, json!({ "iss": iss, "tid": tid })).map_err(|reject| reject.reason)
    };
    assert_eq!(read(iss("acme"), json!("acme")).unwrap().issuer, Issuer::new(&*iss("acme")));
    for (named, said, reason) in [
        ("acme", json!("globex"), Reason::TokenClaimInvalid),
        ("acme", json!("ACME"), Reason::TokenClaimInvalid),
        ("acme", json!(["acme"]), Reason::TokenClaimInvalid),
        ("42", json!(42), Reason::TokenClaimInvalid),
        ("acme", json!(null), Reason::TokenClaimMissing),
        ("acme/v2.0/globex", json!("acme"), Reason::TokenClaimInvalid),
    ] {
        assert_eq!(read(iss(named), said.clone()).unwrap_err(), reason, "{named} {said}");
    }
}

#[test]
fn template_is_found_for_allowed_tenants_only() {
    let template = |tenants| IssuerPolicy {
        issuer: Issuer::new("https://idp.example/{tid}/v2.0"),
        template: Some(IssuerTemplate::parse("https://idp.example/{tid}/v2.0").unwrap()),
        tenants,
        ..policy()
    };
    let own = IssuerPolicy { issuer: Issuer::new("https://idp.example/own/v2.0"), ..policy() };
    let listed = TenantAssertion::OneOf(Box::new(["acme".into(), "own".into()]));
    let find = |issuers: &Issuers, iss| issuers.find(iss).map(|(index, _)| index.get());
    let issuers = Issuers::new(vec![template(listed), own.clone()]);
    for (iss, found) in [
        ("https://idp.example/acme/v2.0", Some(0)),
        ("https://idp.example/own/v2.0", Some(1)),
        ("https://idp.example/globex/v2.0", None),
        ("https://idp.example/{tid}/v2.0", None),
        ("https://other.example/acme/v2.0", None),
        ("https://idp.example", None),
        ("", None),
    ] {
        assert_eq!(find(&issuers, iss), found, "{iss}");
    }
    let issuers = Issuers::new(vec![own, template(TenantAssertion::Any)]);
    assert_eq!(find(&issuers, "https://idp.example/globex/v2.0"), Some(1), "any tenant");
}

#[test]
fn audience_is_the_first_path_that_is_there() {
    let mut policy = policy();
    policy.claims.audience = paths(&["client_id"]);
    assert_eq!(*facts(&policy, json!({"aud": null})).unwrap().audience[0], *"app");
    assert_eq!(*facts(&policy, json!({"aud": "other"})).unwrap().audience[0], *"app");
    policy.claims.audience = paths(&["aud", "client_id"]);
    assert_eq!(*facts(&policy, json!({"aud": "other"})).unwrap().audience[0], *"other");
    assert_eq!(*facts(&policy, json!({"aud": null})).unwrap().audience[0], *"app");
}

#[test]
fn what_must_be_there_is_said_by_the_policy() {
    let mut relaxed = policy();
    relaxed.token_types.required_claims = Vec::new();
    let bare = json!({"sub": null, "client_id": null, "iat": null, "jti": null, "scope": null});
    let facts = facts(&relaxed, bare).unwrap();
    assert_eq!((facts.subject, facts.client, facts.issued, facts.token_id), (None, None, None, None));
    assert!(facts.scopes.is_empty(), "no scope claim grants nothing");
    for claim in ["exp", "aud"] {
        assert_eq!(refusal(&relaxed, json!({claim: null})), Some(Reason::TokenClaimMissing), "{claim}");
    }
    relaxed.token_types.required_claims = paths(&["org.unit"]);
    assert_eq!(refusal(&relaxed, json!({"org": {"unit": 1}})), None, "of whatever type");
    assert_eq!(refusal(&relaxed, json!({"org": {}})), Some(Reason::TokenClaimMissing));
}

#[test]
fn scopes_are_exact_tokens_between_spaces() {
    let rows: [(Value, Option<&[&str]>, &str); 24] = [
        (json!({"scope": "read write"}), Some(&["read", "write"]), "as the RFC writes it"),
        (json!({"scope": "read"}), Some(&["read"]), "one"),
        (json!({"scope": "readonly"}), Some(&["readonly"]), "not a prefix"),
        (json!({"scope": "READ"}), Some(&["READ"]), "case kept"),
        (json!({"scope": "read:all"}), Some(&["read:all"]), "a colon is a letter"),
        (json!({"scope": "read,write"}), Some(&["read,write"]), "a comma does not separate"),
        (json!({"scope": "*"}), Some(&["*"]), "a star is a star"),
        (json!({"scope": ""}), Some(&[]), "empty"),
        (json!({"scope": " read  write "}), Some(&["read", "write"]), "runs of spaces count once"),
        (json!({"scope": ["read", "write"]}), Some(&["read", "write"]), "an array"),
        (json!({"scope": []}), Some(&[]), "an empty array"),
        (json!({"scope": null, "scp": "read"}), Some(&["read"]), "the second path"),
        (json!({"scope": null, "scp": ["read"]}), Some(&["read"]), "the second path, an array"),
        (json!({"scope": "read", "scp": "admin"}), Some(&["read"]), "the first path alone"),
        (json!({"scope": "", "scp": "admin"}), Some(&[]), "the first path alone, though empty"),
        (json!({"scope": "read\twrite"}), None, "a tab"),
        (json!({"scope": "read\nadmin"}), None, "a line end"),
        (json!({"scope": "read\u{a0}write"}), None, "a no-break space"),
        (json!({"scope": "re\"ad"}), None, "a quote"),
        (json!({"scope": ["read admin", "write"]}), Some(&["write"]), "a space within an item"),
        (json!({"scope": ["read", "", "a\nb"]}), Some(&["read"]), "items that are no scopes"),
        (json!({"scope": [["read"]]}), None, "a nested array"),
        (json!({"scope": 1}), None, "a number"),
        (json!({"scope": {"read": true}}), None, "an object"),
    ];
    for (changes, expected, why) in rows {
        match (facts(&policy(), changes), expected) {
            (Ok(facts), Some(expected)) => {
                let found: Vec<&str> = facts.scopes.iter().map(AsRef::as_ref).collect();
                assert_eq!(found, expected, "{why}");
            }
            (Err(reject), None) => assert_eq!(reject.reason, Reason::TokenClaimInvalid, "{why}"),
            (found, expected) => panic!("{why}: {found:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn the_client_is_the_first_path_that_is_there() {
    let mut policy = policy();
    policy.token_types.required_claims = Vec::new();
    let client = |changes| facts(&policy, changes).unwrap().client;
    assert_eq!(client(json!({"azp": "other"})).as_deref(), Some("app"));
    assert_eq!(client(json!({"client_id": null, "azp": "other"})).as_deref(), Some("other"));
    assert_eq!(client(json!({"client_id": null})), None);
}

#[test]
fn times_are_judged_to_the_second() {
    use Reason::{TokenExpired, TokenLifetimeExcessive, TokenNotYetValid};
    let now = NOW.0;
    let rows = [
        (json!({"exp": now + 1}), None, "a second left"),
        (json!({"exp": now}), None, "expired, within the leeway"),
        (json!({"exp": now - 9}), None, "the leeway's last second"),
        (json!({"exp": now - 10}), Some(TokenExpired), "the leeway over"),
        (json!({"exp": 0}), Some(TokenExpired), "1970"),
        (json!({"exp": -1}), Some(TokenExpired), "before 1970"),
        (json!({"exp": i64::MIN}), Some(TokenExpired), "the smallest time"),
        (json!({"exp": i64::MAX}), Some(TokenLifetimeExcessive), "the largest time"),
        (json!({"exp": 9_007_199_254_740_993_i64}), Some(TokenLifetimeExcessive), "2^53 + 1"),
        (json!({"exp": i64::MAX, "iat": i64::MIN}), Some(TokenLifetimeExcessive), "the whole range"),
        (json!({"nbf": now + 10}), None, "nbf ahead within the leeway"),
        (json!({"nbf": now + 11}), Some(TokenNotYetValid), "nbf ahead"),
        (json!({"nbf": i64::MAX}), Some(TokenNotYetValid), "nbf far ahead"),
        (json!({"iat": now + 10}), None, "iat ahead within the leeway"),
        (json!({"iat": now + 11}), Some(TokenNotYetValid), "iat ahead"),
        (json!({"iat": now - 1, "exp": now + 3_599}), None, "the longest lifetime"),
        (json!({"iat": now - 1, "exp": now + 3_600}), Some(TokenLifetimeExcessive), "a second too long"),
    ];
    for (changes, expected, why) in rows {
        assert_eq!(refusal(&policy(), changes), expected, "{why}");
    }
    let mut no_iat = policy();
    no_iat.token_types.required_claims = Vec::new();
    for (exp, expected) in [(now + 3_610, None), (now + 3_611, Some(TokenLifetimeExcessive))] {
        assert_eq!(refusal(&no_iat, json!({"iat": null, "exp": exp})), expected, "without iat, exp {exp}");
    }
}

#[test]
fn causes_name_claims_and_hold_no_values() {
    for changes in [
        json!({"sub": ["secret"]}),
        json!({"scope": "a\tsecret"}),
        json!({"aud": ["secret", 1]}),
        json!({"exp": "secret"}),
    ] {
        let reject = facts(&policy(), changes).unwrap_err();
        let cause = reject.cause.unwrap();
        assert!(!cause.contains("secret") && cause.contains('`'), "{cause}");
    }
}
