//! What routes have in common is written once, means the same as if each had written it, and opens nothing.

use serde_json::Value;

use crate::faults::assert_refused;
use crate::{GOOD, parse, with};

/// The good policy with its routes in a group.
fn grouped(group: &str, routes: &str) -> String {
    let (before, _) = GOOD.split_once("routes:\n").unwrap();
    format!("{before}groups:\n{group}\nroutes:\n{routes}\n...\n")
}

const GROUP: &str = "  orders:
    match: { host: api.example.com }
    require: { issuers: [corp], audience: https://api.example.com/orders, scopes: [orders:read], max_token_age: 1h }
    upstream: orders
    forward: { strip_prefix: /v1, identity_headers: { X-User: sub } }
    cors: { origins: https://app.example.com, max_age: 1h }
    limits: { body: 1KiB, body_rate: 1KiB }
    timeouts: { body_idle: 5s, upstream_idle: 7s }
    owner: orders-team@example.com";

fn routes(text: &str) -> Vec<String> {
    let loaded = parse(text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    loaded.snapshot.routes.iter().map(|route| format!("{route:#?}")).collect()
}

#[test]
fn a_group_means_what_the_route_could_write() {
    let joined = grouped(
        GROUP,
        "  - { id: a, group: orders, match: { path: /v1/a } }
  - id: b
    group: orders
    match: { host: b.example.com, path: /v1/b, methods: [GET] }
    require: { scopes: any_authenticated, clients: [batch] }
    forward: { identity_headers: { X-Client: client } }
    cors: { max_age: 2h }
    limits: { body: 2KiB }
    timeouts: { body_idle: 9s }
    mode: shadow
    owner: b@example.com",
    );
    let written = grouped(
        "  unused: {}",
        "  - id: a
    match: { host: api.example.com, path: /v1/a }
    require: { issuers: [corp], audience: https://api.example.com/orders, scopes: [orders:read], max_token_age: 1h }
    upstream: orders
    forward: { strip_prefix: /v1, identity_headers: { X-User: sub } }
    cors: { origins: https://app.example.com, max_age: 1h }
    limits: { body: 1KiB, body_rate: 1KiB }
    timeouts: { body_idle: 5s, upstream_idle: 7s }
    owner: orders-team@example.com
  - id: b
    match: { host: b.example.com, path: /v1/b, methods: [GET] }
    require: { issuers: [corp], audience: https://api.example.com/orders, scopes: any_authenticated, max_token_age: 1h, clients: [batch] }
    upstream: orders
    forward: { strip_prefix: /v1, identity_headers: { X-Client: client } }
    cors: { origins: https://app.example.com, max_age: 2h }
    limits: { body: 2KiB, body_rate: 1KiB }
    timeouts: { body_idle: 9s, upstream_idle: 7s }
    mode: shadow
    owner: b@example.com",
    );
    assert_eq!(routes(&joined), routes(&written));
    // The order of the sections does not matter.
    let (before, after) = joined.split_once("groups:\n").unwrap();
    let (group, rest) = after.split_once("routes:\n").unwrap();
    let behind = format!("{before}routes:\n{}groups:\n{group}\n...\n", rest.trim_end_matches("...\n"));
    assert_eq!(routes(&behind), routes(&written));
    let schema = jsonschema::draft202012::new(&scopegate::config::schema()).unwrap();
    for text in [&joined, &written] {
        let json: Value = serde_yaml::from_str(text.trim_end().trim_end_matches("...")).unwrap();
        let errors: Vec<_> = schema.iter_errors(&json).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

#[test]
fn a_group_opens_nothing_and_its_faults_have_a_place() {
    let group = |text: &str| format!("groups:\n  g: {text}\nroutes:\n");
    let rows = [
        (group("{ ⟦public: true }"), "`public` is not a key of a group; a group can demand, but never open"),
        (group("{ ⟦mode: shadow }"), "`mode` is not a key of a group"),
        (group("{ match: { ⟦path: /a } }"), "`path` is not a key of a group"),
        (group("{ match: { ⟦methods: [GET] } }"), "`methods` is not a key of a group"),
        (group("{ match: { ⟦allow_path: [semicolon] } }"), "`allow_path` is not a key of a group"),
        (group("{ ⟦requires: {} }"), "unknown key `requires`; did you mean `require`?"),
        (group("⟦[]"), "expected a mapping"),
        (group("{ upstream: ⟦10 }"), "quote it if text is meant"),
        (format!("{}  - {{ id: x, group: ⟦h, match: {{ path: /x }} }}\n", group("{}")), "unknown group `h`"),
        (
            format!(
                "{}  - {{ id: x, group: g, ⟦public: true, match: {{ path: /x }}, upstream: orders }}\n",
                group("{ require: { issuers: corp } }")
            ),
            "a route has either `require` or `public: true`; remove one of them, or take the route out of its group",
        ),
        (
            format!("{}  - ⟦{{ id: x, group: g, match: {{ path: /x }}, upstream: orders }}\n", group("{}")),
            "does not say who may call it",
        ),
        (
            format!(
                "{}  - ⟦{{ id: x, group: g, public: true, match: {{ path: /x }} }}\n",
                group("{ owner: me }")
            ),
            "missing `upstream`",
        ),
        (
            format!(
                "{}  - {{ id: x, group: g, match: {{ path: /x }} }}\n",
                group("{ upstream: orders, require: { issuers: [⟦nobody], audience: a, scopes: [b] } }")
            ),
            "unknown issuer `nobody`",
        ),
    ];
    for (to, message) in &rows {
        assert_refused(&[("routes:\n", to, message)]);
    }
}

#[test]
fn a_fault_of_a_group_is_reported_once() {
    let many: String =
        (0..50).map(|n| format!("  - {{ id: r{n}, group: g, match: {{ path: /r{n} }} }}\n")).collect();
    let text = with(
        "routes:\n",
        &format!(
            "groups:\n  g: {{ upstream: nowhere, require: {{ issuers: corp, audience: a, scopes: [b] }} }}\nroutes:\n{many}"
        ),
    );
    let errors = parse(&text).unwrap_err();
    assert_eq!(errors.0.len(), 1, "{errors}");
}

#[test]
fn a_group_without_routes_is_a_warning() {
    let warnings = parse(&with("routes:\n", "groups:\n  g: {}\nroutes:\n")).unwrap().warnings;
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["routes.yaml:20:3: warning: no route is in group `g`"]
    );
}

#[test]
fn groups_cannot_multiply_a_policy_without_end() {
    let clients = "x, ".repeat(100_000);
    let many: String = (0..60)
        .map(|n| {
            format!("  - {{ id: r{n}, group: g, match: {{ path: /r{n} }}, require: {{ clients: [x] }} }}\n")
        })
        .collect();
    let group = format!(
        "  g: {{ upstream: orders, require: {{ issuers: corp, audience: a, scopes: [b], clients: [{clients}] }} }}\n"
    );
    let errors = parse(&with("routes:\n", &format!("groups:\n{group}routes:\n{many}"))).unwrap_err();
    assert!(errors.to_string().contains("the policy is too large: groups add more than"), "{errors}");
}
