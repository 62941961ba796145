//! What a policy compiles to.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use scopegate::authenticate::TenantAssertion;
use scopegate::config::{self, boot_changes};
use scopegate::reject::Control;
use scopegate::respond::cors::annotate;
use scopegate::snapshot::{Access, AccessLogTarget, IdentityField, Resource, Resources, Route};
use scopegate::types::Owner;

use crate::{DEMO, GOOD, parse, with};

#[test]
fn defaults_are_those_of_the_documentation() {
    let gateway = parse(GOOD).unwrap().snapshot.gateway;
    assert_eq!(gateway.limits.header_bytes, 32 << 10);
    assert_eq!(gateway.limits.headers, 100);
    assert_eq!(gateway.limits.uri, 8 << 10);
    assert_eq!(gateway.limits.body, 10 << 20);
    assert_eq!(gateway.limits.token, 16 << 10);
    assert_eq!((gateway.limits.body_rate, gateway.limits.response_rate), (500, 500));
    assert_eq!(gateway.limits.buffer, 256 << 10);
    assert_eq!((gateway.limits.streams, gateway.limits.connection_requests), (100, 10_000));
    assert_eq!((gateway.limits.control_frames, gateway.limits.connections_per_client), (1000, 512));
    assert_eq!((gateway.limits.connections, gateway.limits.requests_in_flight), (None, None));
    let seconds = Duration::from_secs;
    let timeouts = &gateway.timeouts;
    assert_eq!((timeouts.handshake, timeouts.header, timeouts.idle), (seconds(10), seconds(10), seconds(60)));
    assert_eq!((timeouts.body_idle, timeouts.body_total), (seconds(15), seconds(300)));
    assert_eq!((timeouts.stream_idle, timeouts.response_stall), (seconds(300), seconds(30)));
    assert_eq!(timeouts.connection_age, seconds(3600));
    assert_eq!(gateway.timeouts.upstream_connect, Duration::from_secs(2));
    assert_eq!(gateway.timeouts.drain, Duration::from_secs(30));
    assert_eq!(gateway.access_log, AccessLogTarget::Stdout);
    assert_eq!((gateway.workers, gateway.trusted_proxies.is_empty()), (None, true));
}

#[test]
fn issuer_defaults_are_strict() {
    let snapshot = parse(GOOD).unwrap().snapshot;
    let (_, corp) = snapshot.issuers.find("https://idp.example.com/").unwrap();
    assert_eq!(corp.token_types.accept, ["at+jwt".into()]);
    assert!(!corp.token_types.accept_absent);
    assert_eq!(corp.token_types.required_claims.len(), 4);
    assert_eq!(corp.max_lifetime, Duration::from_secs(24 * 3600));
    assert_eq!(corp.leeway, Duration::from_secs(10));
    assert!(!corp.plain_http);
    assert!(snapshot.issuers.find("https://idp.example.com").is_none(), "compared byte for byte");
}

#[test]
fn a_relaxed_token_type_is_taken_and_warned_of() {
    let text = with(
        "algorithms:",
        "token_type: { accept: [JWT, application/at+jwt, none], require_claims: [client_id] }\n    algorithms:",
    );
    let loaded = parse(&text).unwrap();
    let (_, corp) = loaded.snapshot.issuers.find("https://idp.example.com/").unwrap();
    assert_eq!(corp.token_types.accept, ["jwt".into(), "at+jwt".into()]);
    assert!(corp.token_types.accept_absent);
    assert!(loaded.warnings.iter().any(|w| w.key.as_deref() == Some("token_type")));
}

#[test]
fn routes_are_compiled() {
    let snapshot = parse(GOOD).unwrap().snapshot;
    let route = &snapshot.routes[0];
    assert_eq!(route.id.as_str(), "orders-read");
    assert_eq!(&*route.matches, "GET,HEAD api.example.com/v1/{tenant}/orders/{id}");
    assert_eq!(*route.identity_headers, [("x-user".parse().unwrap(), IdentityField::Subject)]);
    assert_eq!(snapshot.reserved_headers, ["x-user"]);
    assert!(!route.forward_token);
    let Access::Protected(requirement) = &route.access else { panic!("not protected") };
    assert!(requirement.scopes.met_by(&["orders:write".into()]), "implied by the scopes section");
    assert!(!requirement.scopes.met_by(&["orders".into()]));
    assert!(matches!(snapshot.routes[1].access, Access::Public));
}

#[test]
fn fields_of_tokens_are_reserved_on_every_route() {
    let text = with("    algorithms", "    token_header: Cf-Access-Jwt-Assertion\n    algorithms");
    let snapshot = parse(&text).unwrap().snapshot;
    assert_eq!(snapshot.reserved_headers, ["cf-access-jwt-assertion", "x-user"]);
    let places = snapshot.routes[0].token_places.as_deref().unwrap();
    assert!(!places.authorization);
    assert_eq!(*places.fields, ["cf-access-jwt-assertion"]);
    assert!(snapshot.routes[1].token_places.is_none(), "a public route reads no tokens");
    assert!(parse(GOOD).unwrap().snapshot.routes[0].token_places.is_none());
}

#[test]
fn the_order_of_the_sections_does_not_matter() {
    let whole = GOOD.strip_suffix("...\n").unwrap();
    let in_order = parse(GOOD).unwrap();
    for section in ["version", "gateway", "hosts", "issuers", "scopes", "upstreams", "owners"] {
        let begin = whole.find(&format!("\n{section}:")).map_or(0, |end_of_line| end_of_line + 1);
        let rest = whole.get(begin..).unwrap();
        let length =
            rest.match_indices('\n').map(|(at, _)| at + 1).find(|next| !rest[*next..].starts_with(' '));
        let (moved, others) = rest.split_at(length.unwrap());
        let last = format!("{}{others}{moved}...\n", &whole[..begin]);
        let loaded = parse(&last).unwrap();
        assert_eq!(
            format!("{:?}", loaded.snapshot.routes),
            format!("{:?}", in_order.snapshot.routes),
            "{section}"
        );
        assert_eq!(loaded.warnings, in_order.warnings, "{section}");

        let errors = parse(&last.replace("issuers: [corp]", "issuers: [crop]")).unwrap_err();
        let messages: Vec<&str> = errors.0.iter().map(|error| error.message.as_str()).collect();
        assert_eq!(messages, ["unknown issuer `crop`"], "{section}");
    }
}

#[test]
fn routes_that_say_the_same_share_it() {
    let text = with(
        "    public: true\n",
        "    require: { issuers: corp, audience: https://api.example.com, scopes: [a] }\n",
    );
    let more = text.replace(
        "...\n",
        "  - id: other\n    match: { path: /other }\n    upstream: orders\n    \
         require: { scopes: [a], issuers: [corp], audience: [https://api.example.com] }\n...\n",
    );
    let routes = parse(&more).unwrap().snapshot.routes;
    let shared = |route: &Route| match &route.access {
        Access::Protected(requirement) => Arc::clone(requirement),
        Access::Public => panic!("a public route"),
    };
    assert!(Arc::ptr_eq(&shared(&routes[1]), &shared(&routes[2])));
    assert!(!Arc::ptr_eq(&shared(&routes[0]), &shared(&routes[1])));
}

#[test]
fn scopes_nest() {
    let text = with("scopes: [orders:read]", "scopes: [a, { any: [b, { all: [c, d] }] }]");
    let snapshot = parse(&text).unwrap().snapshot;
    let Access::Protected(requirement) = &snapshot.routes[0].access else { panic!("not protected") };
    let met = |granted: &[&str]| {
        let granted: Vec<Box<str>> = granted.iter().map(|scope| (*scope).into()).collect();
        requirement.scopes.met_by(&granted)
    };
    assert!(met(&["a", "b"]) && met(&["a", "c", "d"]));
    assert!(!met(&["a"]) && !met(&["b", "c", "d"]) && !met(&["a", "c"]));
}

#[test]
fn metadata_is_published_under_the_external_url() {
    let snapshot = parse(GOOD).unwrap().snapshot;
    let [resource] = &snapshot.resources.0[..] else { panic!("{:?}", snapshot.resources) };
    assert_eq!(&*resource.host, "api.example.com");
    assert_eq!(&*resource.metadata_path, "/.well-known/oauth-protected-resource/orders");
    assert_eq!(resource.resource.as_str(), "https://api.example.com/orders");
    assert_eq!(resource.authorization_servers[0].as_str(), "https://idp.example.com/");
    assert_eq!(&*resource.scopes[0], "orders:read");
    let url = "https://api.example.com/.well-known/oauth-protected-resource/orders";
    assert_eq!(snapshot.routes[0].resource_metadata.as_deref(), Some(url));
    assert_eq!(snapshot.routes[1].resource_metadata, None, "a public route has no challenge");
}

#[test]
fn an_audience_elsewhere_gives_the_external_url_itself() {
    for audience in [
        "urn:orders",
        "https://other.example.com/orders",
        "https://api.example.com.evil.example/",
        "'https://api.example.com/?q'",
    ] {
        let snapshot = parse(&with("https://api.example.com/orders", audience)).unwrap().snapshot;
        let resource = &snapshot.resources.0[0];
        assert_eq!(resource.resource.as_str(), "https://api.example.com", "{audience}");
        assert_eq!(&*resource.metadata_path, "/.well-known/oauth-protected-resource", "{audience}");
    }
}

#[test]
fn routes_of_one_resource_share_their_metadata() {
    let more = "routes:\n  - id: write\n    match: { host: api.example.com, path: /w }\n    require: { issuers: corp, audience: 'https://api.example.com/orders', scopes: [orders:write, orders:read] }\n    upstream: orders\n";
    let snapshot = parse(&with("routes:\n", more)).unwrap().snapshot;
    let [resource] = &snapshot.resources.0[..] else { panic!("{:?}", snapshot.resources) };
    let scopes: Vec<_> = resource.scopes.iter().map(AsRef::as_ref).collect();
    assert_eq!(scopes, ["orders:write", "orders:read"]);
}

#[test]
fn a_preflight_lists_the_methods_of_all_routes_at_the_path() {
    let text = with(
        "public: true\n    upstream: orders\n",
        "public: true\n    upstream: orders\n    cors: { origins: 'https://app.example.com' }\n  - id: status-set\n    match: { host: api.example.com, path: /status, methods: [PUT] }\n    public: true\n    upstream: orders\n",
    );
    let snapshot = parse(&text).unwrap().snapshot;
    let cors = snapshot.routes[1].cors.as_ref().unwrap();
    assert_eq!(cors.methods, [http::Method::GET, http::Method::PUT]);
    assert_eq!(cors.origins.as_deref(), Some(&["https://app.example.com".into()][..]));
}

#[test]
fn warnings_point_at_what_someone_should_look_at() {
    let rows: [(&str, &str, &str); 9] = [
        ("...\n", "", "does not end with `...`"),
        ("strip_prefix", "forward_token: true\n      strip_prefix", "hands the caller's token"),
        (
            "    upstream: orders\n    forward",
            "    upstream: orders\n    mode: shadow\n    forward",
            "shadow mode",
        ),
        (
            "path: /status",
            "path: /status, allow_path: [semicolon]",
            "doubtful spellings of a path: semicolon",
        ),
        (
            "upstreams:\n",
            "upstreams:\n  spare: { url: 'http://127.0.0.1:1' }\n",
            "no route goes to upstream `spare`",
        ),
        (
            "issuers:\n",
            "issuers:\n  spare:\n    issuer: https://spare.example.com\n    keys: { discovery: true }\n    algorithms: [RS256]\n",
            "no route accepts issuer `spare`",
        ),
        ("host: api.example.com, path: /status", "path: /status", "not reached at host `api.example.com`"),
        ("[orders:read]\nup", "[ordres:read]\nup", "implies nothing that a route demands"),
        (
            "external_url: https://api.example.com",
            "external_url: https://api.example.com, hsts: { max_age: 365d, include_subdomains: true, preload: true }",
            "is asked to be preloaded",
        ),
    ];
    for (from, to, message) in rows {
        let loaded = parse(&with(from, to)).unwrap_or_else(|errors| panic!("{to:?}: {errors}"));
        let found = loaded.warnings.iter().any(|warning| warning.to_string().contains(message));
        assert!(found, "{to:?}: expected `{message}`, got {:#?}", loaded.warnings);
    }
}

#[test]
fn only_what_lives_as_long_as_the_process_needs_a_restart() {
    let old = parse(GOOD).unwrap().snapshot.gateway;
    let rows: [(&str, &str, &[&str]); 10] = [
        ("127.0.0.1:8080", "127.0.0.1:8081", &["gateway.listen"]),
        ("127.0.0.1:9090", "127.0.0.1:9091", &["gateway.admin.address"]),
        ("  admin:", "  workers: 3\n  admin:", &["gateway.workers"]),
        ("  admin:", "  token_cache: { bytes: 1MiB }\n  admin:", &["gateway.token_cache"]),
        ("  admin:", "  limits: { connections: 9 }\n  admin:", &["gateway.limits.connections"]),
        ("  admin:", "  limits: { requests_in_flight: 9 }\n  admin:", &["gateway.limits.requests_in_flight"]),
        ("  admin:", "  access_log: off\n  admin:", &["gateway.access_log"]),
        ("  admin:", "  timeouts: { idle: 1s }\n  limits: { body: 1KiB }\n  admin:", &[]),
        ("id: status", "id: other", &[]),
        ("  admin:", "  access_log: { file: access.jsonl }\n  admin:", &["gateway.access_log"]),
    ];
    for (from, to, changes) in rows {
        let new = parse(&with(from, to)).unwrap().snapshot.gateway;
        assert_eq!(boot_changes(&old, &new), changes, "{to}");
    }
}

#[test]
fn the_demo_policy_loads_whole() {
    let loaded = parse(DEMO).unwrap();
    assert!(loaded.complete);
    assert_eq!(loaded.snapshot.routes.len(), 5);
    assert_eq!(loaded.snapshot.resources.0.len(), 1);
    assert_eq!(
        loaded.snapshot.routes[0].resource_metadata.as_deref(),
        Some("http://127.0.0.1:8080/.well-known/oauth-protected-resource")
    );
}

#[test]
fn the_schema_accepts_the_policies_and_refuses_misspellings() {
    let schema = jsonschema::draft202012::new(&config::schema()).unwrap();
    let as_json =
        |text: &str| -> serde_json::Value { serde_yaml::from_str(text.trim_end_matches("...\n")).unwrap() };
    for (name, text) in [("demo", DEMO), ("test", GOOD)] {
        let errors: Vec<_> = schema.iter_errors(&as_json(text)).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
    for (from, to) in [
        ("audience:", "audiance:"),
        ("      scopes: [orders:read]\n", ""),
        ("scopes: [orders:read]", "scopes: []"),
        ("version: 1", "version: 2"),
        ("public: true", "public: null"),
    ] {
        assert!(!schema.is_valid(&as_json(&with(from, to))), "{to:?} is valid by the schema");
    }
}

#[test]
fn the_default_owner_answers_for_what_nobody_else_does() {
    let owners = |text: &str| {
        let text = with("owners: { authentication: iam@example.com, default: ops@example.com }", text);
        let loaded = parse(&text).unwrap();
        let of = |control| loaded.snapshot.owners.of(control).map(|owner: &Owner| owner.as_str().to_owned());
        let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        (Control::ALL.map(of), warnings.join("\n"))
    };
    let (all, warnings) = owners("owners: { request: edge, default: ops }");
    for (control, owner) in Control::ALL.into_iter().zip(all) {
        assert_eq!(owner.as_deref(), Some(if control == Control::Request { "edge" } else { "ops" }));
    }
    assert_eq!(warnings, "");
    let (all, warnings) = owners("owners: { authentication: iam, authorization: sec, upstream: api }");
    assert_eq!(all.iter().flatten().count(), 3);
    let hint = "add `default: …` for the controls without an owner of their own";
    assert_eq!(
        warnings,
        format!(
            "routes.yaml:18:1: warning: nobody is named for refusals of `gateway`, `request`, `routing`; {hint}"
        )
    );
    assert_eq!(owners("").1, "", "a policy without owners is left alone");
}

#[test]
fn an_external_url_without_its_port_is_a_warning() {
    let http = |address: &str| format!("    - http: {address}\n");
    let origin = |url: &str| {
        format!(
            "api.example.com: {{ external_url: {url} }}\n  127.0.0.1: {{ external_url: 'http://127.0.0.1' }}"
        )
    };
    for (listen, url, more, warned) in [
        (http("127.0.0.1:8080"), "https://api.example.com", "", true),
        (http("127.0.0.1:80"), "https://api.example.com", "", false),
        (http("127.0.0.1:8080") + &http("127.0.0.1:80"), "https://api.example.com", "", false),
        (http("127.0.0.1:0"), "https://api.example.com", "", false),
        (http("127.0.0.1:8080"), "https://api.example.com", "  trusted_proxies: [10.0.0.0/8]\n", false),
    ] {
        let text = with("    - http: 127.0.0.1:8080\n", &listen)
            .replace("api.example.com: { external_url: https://api.example.com }", &origin(url))
            .replace("  admin:", &format!("{more}  admin:"));
        let warnings = parse(&text).unwrap().warnings;
        let about = warnings.iter().filter(|warning| warning.key.as_deref() == Some("external_url"));
        let shown: Vec<_> = about.map(ToString::to_string).collect();
        assert_eq!(shown.len(), usize::from(warned), "{text}\n{shown:?}");
        assert!(
            shown.iter().all(|text| text.contains("`external_url` of `127.0.0.1` means port 80")
                && text.contains("`http://127.0.0.1:8080`")),
            "{shown:?}"
        );
    }
}

#[test]
fn white_space_around_a_variable_is_a_warning() {
    let warnings = |audience: &str| {
        let text = with("audience: https://api.example.com/orders", &format!("audience: {audience}"));
        let warnings = parse(&text).unwrap().warnings;
        let found: Vec<_> = warnings.iter().filter(|w| w.message.contains("white space")).cloned().collect();
        found
    };
    let found = warnings("${PADDED}");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].key.as_deref(), Some("PADDED"));
    assert_eq!((found[0].line, found[0].column), (24, 17), "{found:?}");
    assert!(!found[0].to_string().contains("api.example.com"), "the value is not told");
    assert_eq!(warnings("${SECRET}"), []);
}

#[test]
fn lists_are_found_in_whatever_order_they_are_written() {
    let text = with("    algorithms", "    tenants: [zeta, acme, mid, acme]\n    algorithms");
    let text = text.replace(
        "    public: true\n",
        "    public: true\n    cors: { origins: ['https://z.example', 'https://a.example', 'https://m.example'] }\n",
    );
    let text = text.replace(
        "  admin:",
        "  trusted_proxies: [192.0.2.0/24, 10.0.0.0/8, 10.1.0.0/16, 'fd00::/8']\n  admin:",
    );
    let snapshot = parse(&text).unwrap().snapshot;
    let tenants = &snapshot.issuers.iter().next().unwrap().1.tenants;
    assert_eq!(*tenants, TenantAssertion::OneOf(["acme", "mid", "zeta"].map(Box::from).into()));
    let cors = snapshot.routes[1].cors.as_ref().unwrap();
    for (origin, allowed) in [
        ("https://z.example", true),
        ("https://a.example", true),
        ("https://m.example", true),
        ("https://b.example", false),
        ("https://zz.example", false),
    ] {
        let origin = HeaderValue::from_static(origin);
        assert_eq!(annotate(cors, Some(&origin), &mut HeaderMap::new()), allowed, "{origin:?}");
    }
    for (address, trusted) in [
        ("10.2.3.4", true),
        ("10.1.0.1", true),
        ("192.0.2.9", true),
        ("::ffff:10.0.0.1", true),
        ("fd12::1", true),
        ("192.0.3.1", false),
        ("fe80::1", false),
    ] {
        assert_eq!(snapshot.gateway.is_trusted(address.parse().unwrap()), trusted, "{address}");
    }
}

#[test]
fn each_resource_is_found_by_its_host_and_path() {
    let resource = |host: &str, path: &str| Resource {
        host: host.into(),
        metadata_path: path.into(),
        ..parse(GOOD).unwrap().snapshot.resources.0[0].clone()
    };
    let base = "/.well-known/oauth-protected-resource";
    let paths = ["", "/z", "/a", "/a/b"].map(|path| format!("{base}{path}"));
    let all = ["z.example", "a.example", "m.example"]
        .iter()
        .flat_map(|host| paths.iter().map(|path| resource(host, path)));
    let resources = Resources::new(all.collect());
    for host in ["a.example", "m.example", "z.example"] {
        for path in &paths {
            let found = resources.find(host, path).unwrap();
            assert_eq!((&*found.host, &*found.metadata_path), (host, path.as_str()));
        }
        assert!(resources.find(host, &format!("{base}/b")).is_none());
    }
    assert!(resources.find("b.example", base).is_none());
}
