//! Group C: default deny. What no route names is refused before anything is sent on, and a route that does not say who may
//! call it is no route: nothing becomes public by being left out.

use crate::harness::{Row, Stage, refused};
use crate::reload::unweakened;
use crate::support::{Policy, Rig, process};

/// No route takes what no other one takes; one takes GET alone.
const ROUTES: &str = "
- { id: public, match: { host: h, path: '/public/{*rest}' }, public: true, upstream: orders }
- id: api
  match: { host: h, path: '/api/{*rest}', methods: [GET] }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [read] }
  upstream: orders
  forward: { identity_headers: { X-User: sub, X-Scopes: scope } }
";

#[tokio::test]
async fn c20_what_no_route_names_goes_nowhere() {
    let mut stage = Stage::with(Policy::default().routes(ROUTES)).await;
    let unknown = "404 route_unknown";
    for (what, host, target) in [
        ("the root", "h", "/"),
        ("a path of none", "h", "/none"),
        ("a path that begins like one", "h", "/publicity/a"),
        ("a path that ends before one", "h", "/publi"),
        ("a path in other letters", "h", "/PUBLIC/a"),
        ("the path of a route in a query", "h", "/none?/public/a"),
        ("a well-known path", "h", "/.well-known/security.txt"),
        ("the admin listener's path", "h", "/metrics"),
        ("the path of a route at another host", "other.example.com", "/public/a"),
        ("a protected path at another host", "other.example.com", "/api/a"),
        ("a host that ends like one", "evil.h", "/public/a"),
    ] {
        for method in ["GET", "POST", "OPTIONS", "HEAD"] {
            let expected = if method == "HEAD" { "404" } else { unknown };
            for token in ["", "Authorization: Bearer $READ\r\n"] {
                let raw = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{token}\r\n");
                let with = if token.is_empty() { "without a token" } else { "with a token" };
                let row = Row::new("C20", format!("{method} of {what}, {with}"), "CWE-1188", raw);
                stage.run([row.answers([refused(expected)]).stays().few_ways()]).await;
            }
        }
    }
    let raw = "DELETE /api/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer $READ\r\n\r\n";
    let row = Row::new("C20", "a method that no route of the path names", "CWE-1188", raw);
    stage.run([row.answers([refused("405 method_not_allowed")]).stays()]).await;
    stage.finish().await;
}

/// Routes that leave open who may call them, with what is said of each.
const OPEN: &[(&str, &str, &str)] = &[
    ("nothing", "", "does not say who may call it"),
    ("public that is not", "public: false", "does not say who may call it"),
    ("public without a value", "public:", "a value is missing"),
    ("require without a value", "require:", "a value is missing"),
    ("an empty require", "require: {}", "missing `issuers`"),
    ("no issuer", "require: { audience: a, scopes: [read] }", "missing `issuers`"),
    (
        "an empty list of issuers",
        "require: { issuers: [], audience: a, scopes: [read] }",
        "`issuers` is empty",
    ),
    ("no audience", "require: { issuers: [corp], scopes: [read] }", "missing `audience`"),
    (
        "an empty list of audiences",
        "require: { issuers: [corp], audience: [], scopes: [read] }",
        "`audience` is empty",
    ),
    ("no scopes", "require: { issuers: [corp], audience: a }", "missing `scopes`"),
    (
        "an empty list of scopes",
        "require: { issuers: [corp], audience: a, scopes: [] }",
        "an empty list of scopes",
    ),
    (
        "an empty choice of scopes",
        "require: { issuers: [corp], audience: a, scopes: { any: [] } }",
        "an empty list of scopes",
    ),
    (
        "both",
        "public: true\n  require: { issuers: [corp], audience: a, scopes: [read] }",
        "either `require` or `public: true`",
    ),
    ("another gateway's word for it", "auth: none", "unknown key `auth`"),
    (
        "the same, beside a requirement in comments",
        "anonymous: true # require: {}",
        "unknown key `anonymous`",
    ),
];

#[tokio::test]
async fn c20_a_route_that_does_not_say_who_may_call_it_is_no_policy() {
    let rig = Rig::with(Policy::default()).await;
    let gateway = &rig.gateway;
    let good = std::fs::read_to_string(gateway.config_path()).unwrap();
    let hash = gateway.config_hash();
    let path = gateway.config_path().to_str().unwrap().to_owned();
    for (what, who, said) in OPEN {
        let route =
            format!("- id: open\n  match: {{ host: h, path: '/open' }}\n  upstream: orders\n  {who}\n");
        let route: String = route.lines().map(|line| format!("  {line}\n")).collect();
        let bad = good.replace("...\n", &format!("{route}...\n"));
        gateway.replace_config(&bad);
        let lines = |text: &str| 1 + bad[..bad.find(text).unwrap()].matches('\n').count();
        let (first, last) = (lines("- id: open"), lines("...\n"));
        // The place is the route, or the line in it that is wrong.
        let names_it = |text: &str| {
            text.contains(said) && (first..last).any(|line| text.contains(&format!("routes.yaml:{line}:")))
        };
        for command in ["check", "run"] {
            let output = process::scopegate([command, "--config", &path]).await;
            assert_eq!(output.code, Some(1), "C20 {what}: {command}: {output:?}");
            assert!(names_it(&output.stderr), "C20 {what}: {command}: {}", output.stderr);
        }
        let response = gateway.reload().await;
        assert_eq!(response.status, 422, "C20 {what}: {}", response.text());
        let status = gateway.status().await;
        let error = status["reload"]["error"].to_string();
        assert!(names_it(&error), "C20 {what}: {error}");
        assert_eq!(status["policy"]["hash"], hash, "C20 {what}");
        let open = gateway.get("/open").host("h").send().await;
        assert_eq!(open.verdict(), "404 route_unknown", "C20 {what}");
        unweakened(&rig, what).await;
    }
    // Said in so many words, it is a policy.
    let route = "  - { id: open, match: { host: h, path: '/open' }, upstream: orders, public: true }\n";
    gateway.replace_config(&good.replace("...\n", &format!("{route}...\n")));
    assert_eq!(gateway.reload().await.status, 200);
    assert_eq!(gateway.get("/open").host("h").send().await.verdict(), "200 -");
}
