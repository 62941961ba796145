//! What a permit vouches for was asserted by an issuer that may assert it: tenant, client and subject.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use scopegate::authorize::Permit;
use scopegate::decide::Verdict;
use serde_json::{Value, json};

use crate::{decided, parse};

const TENANTS: [&str; 4] = ["acme", "globex", "initech", "7"];
/// Names of callers. Some of them look like names with an issuer in front.
const CALLERS: [&str; 5] = ["app", "bot", "i0/app", "i1/app", "i2/bot"];

/// The tenants that an issuer may assert.
#[derive(Clone, Debug)]
enum May {
    AssertNone,
    AssertAny,
    AssertOneOf(Vec<&'static str>),
    /// It is one tenant itself.
    Be(&'static str),
    /// Its `iss` names the tenant; with the list of those whose tokens are accepted.
    BeEach(Option<Vec<&'static str>>),
}

#[derive(Clone, Debug)]
enum Rule {
    None,
    Any,
    OneOf(Vec<&'static str>),
    Path,
    Host,
}

#[derive(Clone, Debug)]
struct Route {
    /// Positions of the issuers that it accepts.
    issuers: Vec<usize>,
    tenant: Rule,
    /// As they are written in the policy: names, or names with an issuer in front.
    clients: Option<Vec<&'static str>>,
    subjects: Option<Vec<&'static str>>,
    shadow: bool,
}

#[derive(Clone, Debug)]
struct Request {
    issuer: usize,
    /// The claim `tenant`.
    tenant: Value,
    /// Which tenant the `iss` of a template names, and which one its claim.
    iss: &'static str,
    tid: &'static str,
    client: Option<&'static str>,
    subject: Option<&'static str>,
    /// The tenants that path and host name.
    path: &'static str,
    host: &'static str,
}

fn may() -> impl Strategy<Value = May> {
    prop_oneof![
        Just(May::AssertNone),
        Just(May::AssertAny),
        subsequence(TENANTS.to_vec(), 1..3).prop_map(May::AssertOneOf),
        select(&TENANTS[..]).prop_map(May::Be),
        prop::option::of(subsequence(TENANTS.to_vec(), 1..3)).prop_map(May::BeEach),
    ]
}

fn route() -> impl Strategy<Value = Route> {
    let tenant = prop_oneof![
        Just(Rule::None),
        Just(Rule::Any),
        subsequence(TENANTS.to_vec(), 1..3).prop_map(Rule::OneOf),
        Just(Rule::Path),
        Just(Rule::Host),
    ];
    let callers = || prop::option::of(subsequence(CALLERS.to_vec(), 1..4));
    (subsequence(vec![0, 1, 2], 1..3), tenant, callers(), callers(), prop::bool::weighted(0.2)).prop_map(
        |(issuers, tenant, clients, subjects, shadow)| Route { issuers, tenant, clients, subjects, shadow },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let tenant = prop_oneof![
        Just(Value::Null),
        Just(json!("")),
        Just(json!(7)),
        Just(json!(7.5)),
        Just(json!(true)),
        select(&TENANTS[..]).prop_map(|tenant| json!(tenant)),
        subsequence(TENANTS.to_vec(), 0..4).prop_map(|tenants| json!(tenants)),
        subsequence(TENANTS.to_vec(), 0..3)
            .prop_map(|tenants| tenants.into_iter().map(|tenant| (tenant.to_owned(), json!({}))).collect()),
        Just(json!([7, ["acme"], null, "globex"])),
    ];
    let caller = || prop::option::weighted(0.9, select(&CALLERS[..]));
    let iss_and_tid = prop_oneof![
        4 => select(&TENANTS[..]).prop_map(|tenant| (tenant, tenant)),
        1 => (select(&TENANTS[..]), select(&TENANTS[..])),
    ];
    let host = select(
        &["acme.example.test", "globex.example.test", "7.example.test", "acme.globex.example.test"][..],
    );
    (0..3_usize, tenant, iss_and_tid, caller(), caller(), select(&TENANTS[..]), host).prop_map(
        |(issuer, tenant, (iss, tid), client, subject, path, host)| Request {
            issuer,
            tenant,
            iss,
            tid,
            client,
            subject,
            path,
            host,
        },
    )
}

fn policy(issuers: &[May], routes: &[Route]) -> String {
    let mut text =
        "version: 1\ngateway: { listen: [http: 127.0.0.1:0] }\nupstreams:\n  api: { url: 'http://127.0.0.1:9' }\nissuers:\n"
            .to_owned();
    for (i, may) in issuers.iter().enumerate() {
        let (template, tenants) = match may {
            May::AssertNone => ("", String::new()),
            May::AssertAny => ("", "claims: { tenant: tenant }, ".to_owned()),
            May::AssertOneOf(tenants) => {
                ("", format!("claims: {{ tenant: tenant }}, tenants: {tenants:?}, "))
            }
            May::Be(tenant) => ("", format!("tenant: {tenant:?}, ")),
            May::BeEach(None) => ("/{tid}", String::new()),
            May::BeEach(Some(tenants)) => ("/{tid}", format!("tenants: {tenants:?}, ")),
        };
        let keys = "keys: { jwks_uri: 'https://keys.example/' }, algorithms: [RS256], token_type: { accept: [none], \
                    require_claims: [iss] }";
        writeln!(text, "  i{i}: {{ issuer: 'https://i{i}.example{template}', {tenants}{keys} }}").unwrap();
    }
    text += "routes:\n";
    for (i, route) in routes.iter().enumerate() {
        let issuers: Vec<String> = route.issuers.iter().map(|issuer| format!("i{issuer}")).collect();
        let tenant = match &route.tenant {
            Rule::None => String::new(),
            Rule::Any => ", tenant: any".to_owned(),
            Rule::OneOf(tenants) => format!(", tenant: {{ equals: {tenants:?} }}"),
            Rule::Path => ", tenant: { from: path.t }".to_owned(),
            Rule::Host => ", tenant: { from: host.1 }".to_owned(),
        };
        let list = |key: &str, names: &Option<Vec<&str>>| {
            names.as_ref().map_or_else(String::new, |names| format!(", {key}: {names:?}"))
        };
        let (clients, subjects) = (list("clients", &route.clients), list("subjects", &route.subjects));
        let mode = if route.shadow { "    mode: shadow\n" } else { "" };
        writeln!(
            text,
            "  - id: r{i}\n    match: {{ host: '*.example.test', path: '/r{i}/{{t}}' }}\n    require: {{ issuers: {issuers:?}, \
             audience: a, scopes: any_authenticated{tenant}{clients}{subjects} }}\n{mode}    upstream: api"
        )
        .unwrap();
    }
    text + "...\n"
}

fn claims(issuers: &[May], request: &Request) -> Value {
    let Request { issuer, iss, .. } = request;
    let iss = match &issuers[*issuer] {
        May::BeEach(_) => format!("https://i{issuer}.example/{iss}"),
        May::AssertNone | May::AssertAny | May::AssertOneOf(_) | May::Be(_) => {
            format!("https://i{issuer}.example")
        }
    };
    let Request { tenant, tid, client, subject, .. } = request;
    json!({ "iss": iss, "aud": "a", "tenant": tenant, "tid": tid, "client_id": client, "sub": subject })
}

/// The tenants that the token belongs to, as far as its issuer may say so. `None` for a token that is refused.
fn tenants(issuers: &[May], request: &Request) -> Option<Vec<String>> {
    let name = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if number.is_i64() => Some(number.to_string()),
        _ => None,
    };
    let said = || -> Vec<String> {
        match &request.tenant {
            Value::Array(items) => items.iter().filter_map(name).collect(),
            Value::Object(members) => members.keys().cloned().collect(),
            other => name(other).into_iter().collect(),
        }
    };
    let of = |allowed: &[&str], said: Vec<String>| -> Vec<String> {
        said.into_iter().filter(|tenant| allowed.contains(&tenant.as_str())).collect()
    };
    match &issuers[request.issuer] {
        May::AssertNone => Some(Vec::new()),
        May::AssertAny => Some(said()),
        May::AssertOneOf(allowed) => Some(of(allowed, said())),
        May::Be(tenant) => Some(vec![(*tenant).to_owned()]),
        May::BeEach(_) if request.iss != request.tid => None,
        May::BeEach(None) => Some(vec![request.tid.to_owned()]),
        May::BeEach(Some(allowed)) if !allowed.contains(&request.tid) => None,
        May::BeEach(Some(_)) => Some(vec![request.tid.to_owned()]),
    }
}

/// Whether the list names this caller of this issuer.
fn lists(list: &Option<Vec<&str>>, route: &Route, issuer: usize, name: Option<&str>) -> bool {
    let Some(list) = list else { return true };
    let Some(name) = name else { return false };
    list.iter().any(|entry| {
        let qualified = entry.split_once('/').and_then(|(of, name)| {
            route.issuers.iter().find(|issuer| format!("i{issuer}") == of).map(|issuer| (*issuer, name))
        });
        match qualified {
            Some(qualified) => qualified == (issuer, name),
            None => *entry == name,
        }
    })
}

/// The tenant that the rule finds among these: the outer `None` if the rule is not met.
fn found(route: &Route, request: &Request, tenants: &[String]) -> Option<Option<String>> {
    let only = || tenants.first().filter(|_| tenants.len() == 1).cloned();
    let one = |wanted: &str| tenants.iter().find(|tenant| *tenant == wanted).cloned();
    match &route.tenant {
        Rule::None => Some(only()),
        Rule::Any => only().map(Some),
        Rule::OneOf(wanted) => wanted.iter().find_map(|wanted| one(wanted)).map(Some),
        Rule::Path => one(request.path).map(Some),
        Rule::Host => {
            let label = request.host.strip_suffix(".example.test").filter(|label| !label.contains('.'))?;
            one(label).map(Some)
        }
    }
}

/// What the policy says of the request: refused, or let through with the tenant that the upstream is told of.
#[derive(Debug, PartialEq)]
enum Expected {
    Refused,
    /// Let through in shadow mode though the route does not accept the issuer: nothing is vouched for.
    Unvouched,
    Vouched {
        tenant: Option<String>,
    },
}

fn expected(issuers: &[May], route: &Route, request: &Request) -> Expected {
    let Some(tenants) = tenants(issuers, request) else { return Expected::Refused };
    let accepted = route.issuers.contains(&request.issuer);
    let found = found(route, request, &tenants);
    let named = lists(&route.clients, route, request.issuer, request.client)
        && lists(&route.subjects, route, request.issuer, request.subject);
    match found {
        _ if !accepted => {
            if route.shadow {
                Expected::Unvouched
            } else {
                Expected::Refused
            }
        }
        Some(tenant) if named || route.shadow => Expected::Vouched { tenant },
        None if route.shadow => {
            let only = tenants.first().filter(|_| tenants.len() == 1).cloned();
            Expected::Vouched { tenant: only }
        }
        Some(_) | None => Expected::Refused,
    }
}

fn seen(permit: Option<&Permit>) -> Expected {
    match permit.map(Permit::vouched) {
        None => Expected::Refused,
        Some(None) => Expected::Unvouched,
        Some(Some(principal)) => Expected::Vouched { tenant: principal.tenant().map(str::to_owned) },
    }
}

proptest! {
    #![proptest_config(crate::cases(1_000))]

    #[test]
    fn a_permit_vouches_only_for_what_was_asserted(
        issuers in prop::collection::vec(may(), 3),
        routes in prop::collection::vec(route(), 1..4),
        requests in prop::collection::vec(request(), 8),
    ) {
        let policy = policy(&issuers, &routes);
        let loaded = parse(&policy);
        prop_assert!(loaded.is_some(), "refused:\n{policy}");
        let Some(loaded) = loaded else { return Ok(()) };
        for request in &requests {
            let claims = claims(&issuers, request);
            for (i, route) in routes.iter().enumerate() {
                let target = format!("/r{i}/{}", request.path);
                let record = decided(&loaded.snapshot, "GET", request.host, &target, Some(&claims)).unwrap();
                let permit = match &record.verdict {
                    Verdict::Permit(permit, _) => Some(permit),
                    Verdict::Reject(_) => None,
                    Verdict::Options(..) | Verdict::Preflight(_) | Verdict::Metadata(_) => panic!("{record:?}"),
                };
                prop_assert_eq!(seen(permit), expected(&issuers, route, request), "{:?}\n{}", claims, policy);
                if let Some(principal) = permit.and_then(Permit::vouched) {
                    let facts = principal.facts();
                    prop_assert_eq!(facts.client.as_deref(), request.client);
                    prop_assert_eq!(facts.subject.as_deref(), request.subject);
                }
            }
        }
    }
}
