//! Group C: paths that one server reads as public and another as protected.
//!
//! All run against a table with a public route for every path that no other route takes: whatever is not refused is sent on,
//! and then no reading of [`crate::normalise`] may lead to a route that asks for more. They run once more with a table whose
//! routes take every doubtful spelling that can be allowed.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Answer, ROUTES, Row, Stage, refused};
use crate::normalise::READINGS;
use crate::support::{Policy, Reader, Response, Rig, soon};

/// Whatever no other route takes is public.
const REST: &str = "
- { id: rest, match: { host: h, path: '/{*rest}' }, public: true, upstream: orders }
";

fn strict_policy() -> Policy {
    Policy::default().routes(&format!("{ROUTES}{REST}"))
}

/// The same routes, each with every opt-out there is.
fn lax_policy() -> Policy {
    let allowed = "match: { host: h, allow_path: [encoded_slash, encoded_backslash, empty_segments, semicolon, double_encoding, trailing_dot, trailing_space, non_utf8],";
    Policy::default().routes(&format!("{ROUTES}{REST}").replace("match: { host: h,", allowed))
}

/// The catalogue's paths: each id with those of its class.
const PATHS: &[(&str, &str, &[&str])] = &[
    (
        "C01",
        "CVE-2026-33494, CVE-2026-42274, CVE-2019-9901",
        &["/public/../api/admin/x", "/public/x/../../api/admin/x", "/public/..", "/public/../public/a"],
    ),
    (
        "C02",
        "RFC 3986 §6.2.2",
        &[
            "/public/%2e%2e/api/admin/x",
            "/public/.%2e/api/admin/x",
            "/public/%2E%2E/api/admin/x",
            "/public/.%2E/api/admin",
            "/public/%2e./api/admin/x",
            "/public/%2E/../api/admin/x",
        ],
    ),
    (
        "C03",
        "RFC 3986 §2.2",
        &[
            "/public%2f..%2fapi/admin/x",
            "/public/..%2fapi/admin/x",
            "/public/%2e%2e%2fapi%2fadmin%2fx",
            "/api%2fadmin/x",
            "/api%2Fadmin%2Fx",
            "/public/x%2f..%2f..%2fapi/admin",
            "/%2fapi/admin/x",
            "/public/%2f/api/admin",
        ],
    ),
    (
        "C04",
        "CVE-2026-52844",
        &[
            "/public/..%5capi/admin",
            "/public\\..\\api\\admin",
            "/api%5cadmin",
            "/api\\admin",
            "/api%5Cadmin%5Cx",
            "/public%5c..%5capi",
            "\\api\\admin",
            "/public/..\\api/admin",
            "/%5capi%5cadmin",
        ],
    ),
    (
        "C05",
        "HAProxy normalize_uri.vtc",
        &[
            "/public/%252e%252e%252fapi/admin",
            "/public/%25%32%65%25%32%65/api/admin",
            "/public/%%32%65%%32%65/api/admin",
            "/public/%c0%ae%c0%ae/api/admin",
            "/public/%c0%ae%c0%ae%c0%afapi",
            "/public/%25252e%25252e/api/admin",
            "/api%252fadmin/x",
            "/%2561pi/admin/x",
            "/public/%e0%80%ae%e0%80%ae/api",
            "/%%36%31pi/admin",
            "/public/%u002e%u002e/api/admin",
            "/public/%uff0e%uff0e/api",
            "/public/%25u002e%25u002e/api/admin",
            "/api%25252fadmin",
            "/public/%2525252e%2525252e/api/admin",
        ],
    ),
    (
        "C06",
        "CVE-2021-31920, CVE-2021-29492",
        &[
            "//api/admin/x",
            "/api//admin/x",
            "/public//../api/admin",
            "///api",
            "/api///admin",
            "//public/a",
            "/public//a",
            "/api/admin//x",
            "//",
        ],
    ),
    (
        "C07",
        "CVE-2021-31920",
        &[
            "/public/;/../api/admin",
            "/public/..;/api/admin",
            "/public/..;a=b/api/admin/x",
            "/api;x/admin/y",
            "/api/admin;x",
            "/;/api/admin",
            "/public;/../api",
            "/api%3bx/admin",
            "/public/%2e%2e;/api",
            "/;a=b/api/admin/x",
            "/api/;/admin/x",
            "/public/.;/../api",
        ],
    ),
    (
        "C08",
        "RFC 3986 §5.2.4",
        &[
            "/./api/admin",
            "/api/./admin",
            "/api/admin/.",
            "/api/admin/%2e",
            "/api/admin/x/..",
            "/../api/admin",
            "/api/../../api/admin",
            "/..",
            "/.",
            "/api/..",
            "/public/...",
            "/public/.../api",
            "/public/....//api",
        ],
    ),
    (
        "C09",
        "Spring CVE-2023-34035 and their kin",
        &[
            "/api/admin/",
            "/api/admin//",
            "/api/admin%20",
            "/api/admin%09",
            "/api/admin.",
            "/api/admin..",
            "/api/admin%00",
            "/api/admin%00.png",
            "/api/admin%0a",
            "/api/admin.json",
            "/api/admin~",
            "/api/admin%23",
            "/api/admin%3f",
            "/api/admin;",
            "/api/admin%20/x",
            "/api/admin./x",
            "/api/admin%2e",
            "/api/admin%3fx/y",
            "/api/admin%23x/y",
            "/api/admin%a0",
            "/api/admin%e2%80%8b",
            "/api%23/admin",
            "/api%3f/admin",
            "/ws/",
            "/ws%20",
            "/ws%3fx",
            "/ws%2f",
        ],
    ),
    (
        "C10",
        "CVE-2026-27587",
        &[
            "/API/Admin/x",
            "/Api/admin",
            "/api/ADMIN/x",
            "/%61pi/admin/x",
            "/api/%41dmin",
            "/api/%61dmin/x",
            "/%41PI/x",
            "/aPi",
            "/WS",
            "/%57s",
            "/%50ublic/a",
            "/api/admi%6e",
            "/api/adm%69n/%78",
        ],
    ),
    (
        "C12",
        "prefixes end at a segment",
        &[
            "/public-x",
            "/publicx",
            "/apiX",
            "/api/administrator",
            "/api-admin",
            "/api.admin/x",
            "/wsx",
            "/ws/x",
            "/publi",
            "/ap",
            "/",
        ],
    ),
    (
        "C13",
        "CVE-2026-48020, CVE-2026-40912",
        &[
            "/api../admin",
            "/api%2e%2e/admin",
            "/api%2e/admin/secret",
            "/api%20/admin/secret",
            "/api%2e%2e%2fadmin",
            "/api..;/admin",
            "/api%09/admin",
        ],
    ),
    ("C18", "CVE-2026-34457", &["/healthz/../api/admin", "//healthz", "/healthz", "/metrics", "/readyz"]),
];

/// A refusal, or an answer of the upstream, which the path oracle judges.
fn no_surprise(answers: &[Answer]) -> Result<(), String> {
    match answers {
        [Answer::Own(verdict)] if verdict.starts_with("400 ") => Ok(()),
        [Answer::Own(verdict), Answer::Upstream(next)] if next == "/public/next" => {
            let expected =
                ["400 path_ambiguous", "401 credential_missing", "403 scope_missing", "404 route_unknown"];
            if expected.contains(&verdict.as_str()) { Ok(()) } else { Err(verdict.clone()) }
        }
        [Answer::Upstream(_), Answer::Upstream(next)] if next == "/public/next" => Ok(()),
        _ => Err(format!("{answers:?}")),
    }
}

#[tokio::test]
async fn no_path_is_public_to_the_gateway_and_protected_to_the_api() {
    for (name, policy) in [("strict", strict_policy()), ("lax", lax_policy())] {
        let mut stage = Stage::with(policy).await;
        let rows =
            PATHS.iter().flat_map(|(id, source, paths)| paths.iter().map(move |path| (id, source, path)));
        for (who, token) in [("nobody", ""), ("a token for less", "Authorization: Bearer $READ\r\n")] {
            stage
                .sweep(rows.clone().map(|(id, source, path)| {
                    let raw = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{token}\r\n");
                    let row = Row::new(id, format!("{path}, {name}, {who}"), source, raw).judged(no_surprise);
                    if name == "strict" && token.is_empty() { row } else { row.few_ways() }
                }))
                .await;
        }
        stage.finish().await;
    }
}

#[tokio::test]
async fn what_is_sent_is_what_was_matched() {
    let mut stage = Stage::with(strict_policy()).await;
    for (path, sent) in [
        ("/public/%41%2d%7e", "/public/A-~"),
        ("/public/%e2%82%ac", "/public/%E2%82%AC"),
        ("/publicx", "/publicx"),
        ("/public-x", "/public-x"),
        ("/apiX", "/apiX"),
        ("/public/a%20b", "/public/a%20b"),
        ("/public/?a=/../b", "/public/?a=/../b"),
        ("/public/a%3Fb", "/public/a%3Fb"),
        ("/%70ublic/a", "/public/a"),
        ("/public/%5B", "/public/%5B"),
        ("/", "/"),
    ] {
        stage
            .run([Row::new(
                "C10",
                path,
                "RFC 3986 §6.2.2.2",
                format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"),
            )
            .forwarded(sent)])
            .await;
    }
    for (path, verdict) in [
        ("/api/administrator", "401 credential_missing"),
        ("/%61pi/x", "401 credential_missing"),
        ("/api/%61dmin", "401 credential_missing"),
        ("/API/x", "400 path_ambiguous"),
        ("/api/Admin", "400 path_ambiguous"),
        ("/api;x", "400 path_ambiguous"),
        ("/public/%2F", "400 path_ambiguous"),
        ("/public/%2525", "400 path_ambiguous"),
        ("//", "400 path_ambiguous"),
        ("/public/a%00", "400 path_ambiguous"),
    ] {
        let row = Row::new("C10", path, "RFC 3986 §6.2.2", format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        stage.run([row.answers([refused(verdict)]).stays()]).await;
    }
    stage.finish().await;
}

#[tokio::test]
async fn nothing_but_path_host_and_method_chooses_the_route() {
    let mut stage = Stage::start().await;
    for field in [
        "X-Original-URL: /public/a",
        "X-Rewrite-URL: /public/a",
        "X-Forwarded-Uri: /public/a",
        "X-Forwarded-Prefix: /public",
        "X-Forwarded-Path: /public/a",
        "X-Envoy-Original-Path: /public/a",
        "X-HTTP-Method-Override: OPTIONS",
        "X-HTTP-Method: OPTIONS",
        "X-Method-Override: OPTIONS",
        "X-Forwarded-Host: evil",
        "X-Forwarded-Proto: https",
        "Forwarded: proto=https;host=evil",
        "X-Original-Host: evil",
        "X-Host: evil",
        "User-Agent: GoogleHC/1.0",
        "User-Agent: kube-probe/1.30",
        "User-Agent: ELB-HealthChecker/2.0",
        "X-Forwarded-For: 10.1.2.3",
        "X-Forwarded-Port: 9090",
        "X-Original-Method: OPTIONS",
        "X-Forwarded-Method: OPTIONS",
        "X-Auth-Request-Redirect: /public/a",
        "X-Waf-Bypass: 1",
        "X-Forwarded-Scheme: https",
    ] {
        let id = if field.starts_with("User") {
            "C18"
        } else if field.contains("roto") {
            "C24"
        } else {
            "C16"
        };
        let source = "CVE-2026-40575, CVE-2026-35051, CVE-2026-33495, CVE-2026-34457";
        let raw = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n");
        let protected = Row::new(id, format!("{field} on a protected path"), source, raw("/api/admin/x"));
        let public = Row::new(id, format!("{field} on a public path"), source, raw("/public/a"))
            .forwarded("/public/a")
            .upstream(move |request| {
                let (name, value) = field.split_once(": ")?;
                let passes =
                    ["User-Agent", "X-Host", "X-Auth-Request-Redirect", "X-Waf-Bypass"].contains(&name);
                (!passes && request.fields.all(name).contains(&value)).then(|| format!("{field} was sent on"))
            });
        stage.run([protected.answers([refused("401 credential_missing")]).stays(), public]).await;
    }
    let target = "/api/admin/x?_method=OPTIONS&access_token=$ADMIN&url=/public/a";
    let row = Row::new(
        "C16",
        "a query that overrides",
        "RFC 6750 §2.3",
        format!("POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
    );
    stage.run([row.answers([refused("401 credential_missing")]).stays()]).await;
    for method in ["HEAD", "OPTIONS", "PROPFIND", "FOO", "GETGET", "POST", "TRACK", "DEBUG"] {
        let row = Row::new(
            "C17",
            format!("{method} on a protected path"),
            "RFC 9110 §9.1",
            format!("{method} /api/admin/x HTTP/1.1\r\nHost: h\r\n\r\n"),
        );
        let expected = if method == "HEAD" { "401" } else { "401 credential_missing" };
        stage.run([row.answers([refused(expected)]).stays()]).await;
    }
    let misspelt = "get /api/admin/x HTTP/1.1\r\nHost: h\r\n\r\n";
    let row = Row::new("C17", "get in small letters", "RFC 9110 §9.1", misspelt);
    stage.run([row.refused("400 request_invalid")]).await;
    stage.finish().await;
    let only_get = "
- { id: public, match: { host: h, path: '/public/{*rest}', methods: [GET] }, public: true, upstream: orders }
- { id: ready, match: { host: h, path: '/api/ready' }, require: { issuers: [corp], audience: https://api.example.com, scopes: [read] }, upstream: orders, forward: { identity_headers: { X-Scopes: scope } } }
- { id: rest, match: { host: h, path: '/{*rest}' }, public: true, upstream: orders }
";
    let mut stage = Stage::with(Policy::default().routes(only_get)).await;
    for method in ["HEAD", "OPTIONS", "PROPFIND", "FOO", "GETGET", "POST", "TRACK"] {
        let row = Row::new(
            "C17",
            format!("{method} where only GET is taken"),
            "RFC 9110 §15.5.6",
            format!("{method} /public/a HTTP/1.1\r\nHost: h\r\n\r\n"),
        );
        let expected = if method == "HEAD" { "405" } else { "405 method_not_allowed" };
        stage.run([row.answers([refused(expected)]).stays()]).await;
    }
    stage
        .run([Row::new("C17", "get where only GET is taken", "RFC 9110 §9.1", misspelt)
            .refused("400 request_invalid")])
        .await;
    stage.finish().await;
}

#[tokio::test]
async fn a_wildcard_host_covers_what_is_below_it_only() {
    let routes = "
- { id: next, match: { host: h, path: '/public/{*rest}' }, public: true, upstream: orders }
- { id: ready, match: { host: h, path: '/api/ready' }, require: { issuers: [corp], audience: https://api.example.com, scopes: [read] }, upstream: orders, forward: { identity_headers: { X-Scopes: scope } } }
- { id: below, match: { host: '*.example.com', path: '/a' }, public: true, upstream: orders }
";
    let mut stage = Stage::with(Policy::default().routes(routes)).await;
    for (host, is_below) in [
        ("a.example.com", true),
        ("a.b.example.com", true),
        ("A.EXAMPLE.COM", true),
        ("xn--bcher-kva.example.com", true),
        ("a.example.com.", true),
        ("example.com", false),
        (".example.com", false),
        ("example.com.evil", false),
        ("aexample.com", false),
        ("a.example.com.evil", false),
        ("a.example.comx", false),
        ("example.com:80", false),
        ("xn--a.example.org", false),
    ] {
        let row = Row::new(
            "C22",
            format!("the host {host}"),
            "RUSTSEC-2024-0421",
            format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
        let row = match (is_below, host.starts_with('.')) {
            (true, _) => row.forwarded("/a"),
            (false, true) => row.refused("400 request_invalid"),
            (false, false) => row.answers([refused("404 route_unknown")]).stays(),
        };
        stage.run([row]).await;
    }
    stage.finish().await;
}

/// Dot segments in every spelling of up to three dots.
fn dots() -> Vec<String> {
    let one = [".", "%2e", "%2E"].map(str::to_owned);
    let longer = |shorter: &[String]| -> Vec<String> {
        shorter.iter().flat_map(|dots| one.iter().map(move |dot| format!("{dots}{dot}"))).collect()
    };
    let two = longer(&one);
    let three = longer(&two);
    [one.to_vec(), two, three].concat()
}

const SEPARATORS: [&str; 9] = ["/", "//", "%2f", "%2F", "%5c", "\\", ";/", "/;a=b/", "%252f"];

/// A separator and a dot segment, in all combinations.
fn units() -> Vec<String> {
    let dots = dots();
    SEPARATORS
        .iter()
        .flat_map(|separator| dots.iter().map(move |dots| format!("{separator}{dots}")))
        .collect()
}

/// Sends a GET for each path, many in a row on each of a few connections; gives the answers in order.
async fn send_all(rig: &Rig, paths: &[String]) -> Vec<Response> {
    let share = paths.len().div_ceil(4);
    let connections = paths.chunks(share).map(|share| async move {
        let stream = TcpStream::connect(rig.gateway.address()).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let sending = async {
            for some in share.chunks(100) {
                let requests: String =
                    some.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
                write.write_all(requests.as_bytes()).await.unwrap();
            }
            write
                .write_all(b"GET /public/last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                .await
                .unwrap();
        };
        let mut raw = Vec::new();
        let (_, read) = tokio::join!(sending, read.read_to_end(&mut raw));
        read.unwrap();
        let mut reader = Reader::new(raw.as_slice());
        let mut answers = Vec::new();
        while let Some(answer) = reader.response("GET").await.unwrap() {
            answers.push(answer);
        }
        let last = answers.pop().unwrap();
        assert_eq!(
            (last.status, answers.len()),
            (200, share.len()),
            "each request has an answer, the last one too"
        );
        answers
    });
    futures_util::future::join_all(connections).await.concat()
}

#[tokio::test]
async fn no_spelling_of_a_dot_segment_is_served() {
    let rig =
        Rig::with(strict_policy().gateway("workers: 1\naccess_log: off\ntimeouts: { idle: 10m }")).await;
    let units = units();
    let mut paths: Vec<String> =
        units.iter().flat_map(|a| units.iter().map(move |b| format!("/public{a}{b}/api/admin/x"))).collect();
    for unit in &units {
        for depth in [1, 3, 4] {
            paths.push(format!("/public{}/api/admin/x", unit.repeat(depth)));
            paths.push(format!("/public{}", unit.repeat(depth)));
        }
    }
    assert!(paths.len() > 120_000, "{}", paths.len());
    for some in paths.chunks(10_000) {
        let answers = Box::pin(send_all(&rig, some)).await;
        for (path, answer) in some.iter().zip(answers) {
            assert_eq!(answer.verdict(), "400 path_ambiguous", "{path}");
        }
    }
    assert!(rig.upstream.requests().iter().all(|request| request.target == "/public/last"));
    assert_eq!(rig.gateway.metric("scopegate_panics_total", &[]).await, 0.0);
}

#[tokio::test]
async fn no_reading_of_a_served_spelling_asks_for_more() {
    let segments = [
        "",
        ".",
        "..",
        "x",
        "api",
        "admin",
        "API",
        "%61pi",
        "public",
        "%252e%252e",
        "a%20",
        "%c0%ae",
        "api.",
        "admin%20.",
        "adm%FFin",
        ".%FF",
    ];
    let units: Vec<String> = SEPARATORS
        .iter()
        .flat_map(|separator| segments.iter().map(move |segment| format!("{separator}{segment}")))
        .collect();
    let mut paths = Vec::new();
    for first in &units {
        for second in &units {
            paths.extend(["/api", "/public", ""].map(|root| format!("{root}{first}{second}")));
        }
    }
    // A target that begins with something else is no path, and ends the connection.
    paths.retain(|path| path.starts_with('/'));
    let mut served = Vec::new();
    for policy in [strict_policy(), lax_policy()] {
        let rig = Rig::with(policy.gateway("workers: 1\naccess_log: off\ntimeouts: { idle: 10m }")).await;
        let mut answers = Vec::new();
        for some in paths.chunks(3_000) {
            answers.extend(soon("all answers", Box::pin(send_all(&rig, some))).await);
        }
        served.push(answers.iter().filter(|answer| answer.status == 200).count());
        let faults: Vec<String> =
            rig.upstream.requests().iter().filter_map(crate::harness::stricter_reading).collect();
        assert!(faults.is_empty(), "{} faults: {:#?}", faults.len(), &faults[..faults.len().min(30)]);
        for (path, answer) in paths.iter().zip(answers) {
            assert!(
                ["200 -", "400 path_ambiguous", "401 credential_missing"]
                    .contains(&answer.verdict().as_str()),
                "{path}: {answer:?}"
            );
        }
    }
    assert!(served[0] > 50 && served[1] > 1000, "the oracle saw too little: {served:?} of {}", paths.len());
}

#[tokio::test]
async fn a_rewritten_path_stays_below_its_prefix() {
    let allowed = "allow_path: [encoded_slash, encoded_backslash, empty_segments, semicolon, double_encoding, trailing_dot, trailing_space, non_utf8]";
    for opt_outs in ["", allowed] {
        let routes = format!(
            "
- {{ id: last, match: {{ host: h, path: /public/last }}, public: true, upstream: orders }}
- id: moved
  match: {{ host: h, path: '/v1/{{*rest}}', {opt_outs} }}
  public: true
  upstream: orders
  forward: {{ strip_prefix: /v1, add_prefix: /inner/public }}
"
        );
        let rig = Rig::with(Policy::default().routes(&routes).gateway("workers: 1\naccess_log: off")).await;
        let dotted = units()
            .into_iter()
            .chain(["..", "../api", "%2e%2e/api", "x/..", "..%2f", ".;/"].map(str::to_owned));
        let catalogue = PATHS.iter().flat_map(|(_, _, paths)| paths.iter().map(|path| (*path).to_owned()));
        let paths: Vec<String> = catalogue
            .chain(dotted)
            .flat_map(|path| [format!("/v1{path}"), format!("/v1/{path}"), format!("/v1/x{path}")])
            .collect();
        let answers = soon("all answers", Box::pin(send_all(&rig, &paths))).await;
        let served: Vec<String> = rig
            .upstream
            .requests()
            .into_iter()
            .map(|request| request.target)
            .filter(|t| t != "/public/last")
            .collect();
        assert_eq!(served.len(), answers.iter().filter(|answer| answer.status == 200).count());
        assert!(served.len() > 50, "{served:?}");
        for target in served {
            for reading in READINGS {
                let path = reading.path(target.as_bytes());
                assert!(
                    path.starts_with(b"/inner/public/"),
                    "{target} leaves its prefix by `{}`",
                    reading.name
                );
            }
        }
    }
}
