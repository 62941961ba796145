//! What `check` warns of: rules that no token satisfies, text that is taken literally, headers that a request may lack.

use crate::{parse, with};

/// The warnings for the good policy with one part replaced, each as one text.
fn warnings(from: &str, to: &str) -> Vec<String> {
    let loaded = parse(&with(from, to)).unwrap_or_else(|errors| panic!("{to:?}: {errors}"));
    loaded.warnings.iter().map(ToString::to_string).collect()
}

/// A claim rule on the route.
fn rule(rule: &str) -> String {
    format!("      claims: {{ {rule} }}\n      tenant:")
}

#[test]
fn rules_that_no_token_satisfies_are_warned_of() {
    let rows = [
        ("    claims: { tenant: tenant_id }\n", String::new(), "no token of issuer `corp` has a tenant"),
        ("      tenant:", rule("sub.name: { equals: x }"), "nothing is below the claim `sub`"),
        ("      tenant:", rule("exp.x: { equals: x }"), "nothing is below the claim `exp`"),
        ("      tenant:", rule("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r: { equals: x }"), "nest 16 levels"),
        ("      tenant:", rule("sub: { equals: 7 }"), "the claim `sub` is text: this rule never holds"),
        ("      tenant:", rule("sub: { one_of: [true, 7] }"), "the claim `sub` is text"),
        ("      tenant:", rule("sub: { contains: x }"), "neither a list nor an object"),
        ("      tenant:", rule("iat: { equals: '7' }"), "the claim `iat` is a number"),
        ("      tenant:", rule("aud: { has_member: x }"), "the claim `aud` is no object"),
        (
            "      tenant:",
            rule("iss: { equals: 'https://other.example.com' }"),
            "no issuer of the route has this",
        ),
        ("      tenant:", rule("'roles[*]': { equals: x }"), "stand for themselves in a claim path"),
        ("      tenant:", rule("$.roles: { equals: x }"), "stand for themselves in a claim path"),
        (
            "      tenant:",
            rule("/realm_access/roles: { contains: x }"),
            "stand for themselves in a claim path",
        ),
    ];
    for (from, to, message) in rows {
        let found = warnings(from, &to);
        assert!(found.iter().any(|warning| warning.contains(message)), "{to}: {found:#?}");
    }
}

#[test]
fn tenants_that_no_issuer_asserts_are_warned_of() {
    let equals = |tenants: &str, rule: &str| {
        let from = "claims: { tenant: tenant_id }\n";
        let text = with(from, &format!("{from}    tenants: [{tenants}]\n"));
        let text = text.replace("{ from: path.tenant }", rule);
        parse(&text).unwrap().warnings.iter().map(ToString::to_string).collect::<String>()
    };
    assert!(equals("acme", "{ equals: globex }").contains("`corp` may assert none of these tenants"));
    assert_eq!(equals("acme, globex", "{ equals: globex }"), "");
    assert_eq!(equals("acme", "{ from: path.tenant }"), "");
    assert_eq!(equals("acme", "any"), "");
}

#[test]
fn wildcards_that_stand_for_themselves_are_warned_of() {
    for (from, to, key) in [
        ("audience: https://api.example.com/orders", "audience: 'https://*.example.com'", "audience"),
        ("      tenant:", "      clients: ['app-*']\n      tenant:", "clients"),
        ("      tenant:", "      subjects: ['system:*']\n      tenant:", "subjects"),
        ("{ from: path.tenant }", "{ equals: ['*'] }", "equals"),
        ("      scopes: [orders:read]", "      scopes: ['orders:*']", "scopes"),
        (
            "      tenant:",
            "      claims: { department: { one_of: ['sales-*'] } }\n      tenant:",
            "department",
        ),
        ("    claims: {", "    tenants: ['*']\n    claims: {", "tenants"),
        ("issuer: https://idp.example.com/", "issuer: 'https://idp.example.com/*'", "issuer"),
    ] {
        let message = format!("`*` in `{key}` stands for itself");
        let found = warnings(from, to);
        assert!(found.iter().any(|warning| warning.contains(&message)), "{to}: {found:#?}");
    }
}

#[test]
fn name_of_an_issuer_of_another_route_is_warned_of() {
    let spare = "  spare:\n    issuer: https://spare.example.com\n    keys: { discovery: true }\n    algorithms: [RS256]\n";
    let text = with("scopes:\n", &format!("{spare}scopes:\n"));
    let of = |clients: &str| {
        let text = text.replace("      tenant:", &format!("      clients: [{clients}]\n      tenant:"));
        parse(&text).unwrap().warnings.iter().map(ToString::to_string).collect::<String>()
    };
    assert!(of("spare/app").contains("does not accept issuer `spare`: `spare/app` is one name"));
    for clients in ["corp/app", "other/app", "app"] {
        assert!(!of(clients).contains("does not accept issuer"), "{clients}");
    }
}

#[test]
fn identity_headers_that_may_lack_are_warned_of() {
    let relaxed = "token_type: { accept: [JWT], require_claims: [jti] }\n    algorithms:";
    let with_header = |claims: &str, field: &str, rule: &str| {
        let text = with("algorithms:", &relaxed.replace("jti", claims));
        let text = text.replace("X-User: sub", &format!("X-Who: {field}"));
        let text = text.replace("      tenant: { from: path.tenant }\n", rule);
        let found = parse(&text).unwrap().warnings.iter().map(ToString::to_string).collect::<String>();
        found.contains("`x-who` is absent for tokens of issuer `corp`")
    };
    let rule = |rule: &str| format!("      {rule}\n");
    for (claims, field, rule, warned) in [
        ("jti", "sub", rule(""), true),
        ("sub", "sub", rule(""), false),
        ("jti", "sub", rule("subjects: [alice]"), false),
        ("jti", "sub", rule("claims: { sub: { equals: alice } }"), false),
        ("jti", "client", rule(""), true),
        ("azp", "client", rule(""), false),
        ("jti", "client", rule("clients: [app]"), false),
        ("jti", "tenant", rule(""), true),
        ("tenant_id", "tenant", rule(""), false),
        ("jti", "tenant", rule("tenant: any"), false),
        ("jti", "claim.department", rule(""), true),
        ("department", "claim.department", rule(""), false),
        ("jti", "claim.department", rule("claims: { department: { one_of: [a, b] } }"), false),
        ("jti", "claim.iss", rule(""), false),
        ("jti", "scope", rule(""), false),
        ("jti", "roles", rule(""), false),
        ("jti", "actor", rule(""), false),
    ] {
        assert_eq!(with_header(claims, field, &rule), warned, "{claims}, {field}, {rule}");
    }
}

#[test]
fn lax_route_that_covers_a_strict_one_is_warned_of() {
    let second = |matches: &str, upstream: &str| {
        let route = format!(
            "  - id: lax\n    match: {{ {matches} }}\n    public: true\n    upstream: {upstream}\n...\n"
        );
        let text = with("...\n", &route);
        let text = text.replace("owners:", "  other: { url: http://127.0.0.1:9001 }\nowners:");
        parse(&text).unwrap().warnings.iter().map(ToString::to_string).collect::<String>()
    };
    let hosts = "demand different things, but the second has their paths at other hosts too";
    assert!(second("path: '/{*rest}'", "orders").contains(hosts));
    assert!(second("host: '*.example.com', path: '/v1/{*rest}'", "orders").contains(hosts));
    assert!(!second("path: '/{*rest}'", "other").contains(hosts), "another upstream");
    assert!(!second("path: '/v2/{*rest}'", "orders").contains(hosts), "other paths");
    let below = "one is for a path, the other for all that is below it";
    assert!(
        second("host: api.example.com, path: '/v1/{tenant}/orders/{id}/{*rest}'", "orders").contains(below)
    );
}

#[test]
fn names_that_end_in_a_number_are_warned_of() {
    let message = |name: &str| format!("the last label of `{name}` is a number, but it is no IPv4 address");
    for (from, to, name) in [
        ("{ host: api.example.com, path: /status", "{ host: api.7, path: /status", "api.7"),
        ("{ host: api.example.com, path: /status", "{ host: '*.1.2.3', path: /status", "1.2.3"),
        ("{ url: http://127.0.0.1:9000 }", "{ url: http://1.2.3.256:9000 }", "1.2.3.256"),
    ] {
        let found = warnings(from, to);
        assert!(found.iter().any(|warning| warning.contains(&message(name))), "{to}: {found:#?}");
    }
    let hosts = warnings("hosts:\n", "hosts:\n  api.0x1: { external_url: https://api.0x1 }\n");
    assert!(hosts.iter().any(|warning| warning.contains(&message("api.0x1"))), "{hosts:#?}");
    assert_eq!(warnings("{ url: http://127.0.0.1:9000 }", "{ url: http://192.0.2.7:9000 }"), [""; 0]);
}
