use super::*;
use crate::route::path::CanonicalPath;
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// A route from `hosts path methods`: hosts separated by commas or `-`, methods by commas or `*`.
fn spec(index: u32, line: &str) -> RouteSpec {
    let parts: Vec<&str> = line.split_whitespace().collect();
    let [hosts, path, methods] = parts[..] else { panic!("{line}") };
    RouteSpec {
        index: RouteIndex(index),
        hosts: match hosts {
            "-" => Vec::new(),
            hosts => hosts.split(',').map(|host| HostPattern::parse(host).unwrap()).collect(),
        },
        path: PathPattern::parse(path).unwrap(),
        methods: match methods {
            "*" => Methods::any(),
            methods => Methods::only(
                methods.split(',').map(|method| Method::from_bytes(method.as_bytes()).unwrap()).collect(),
            )
            .unwrap(),
        },
        opt_outs: PathOptOuts::NONE,
        access: AccessClass(0),
    }
}

fn build(lines: &[&str]) -> Result<RouteTable, Vec<Conflict>> {
    build_of((0..).zip(lines).map(|(i, line)| spec(i, line)))
}

fn build_of(specs: impl IntoIterator<Item = RouteSpec>) -> Result<RouteTable, Vec<Conflict>> {
    RouteTable::build(&specs.into_iter().collect::<Vec<_>>())
}

/// `3 id=7`, `404`, `405 GET, HEAD` or `400`.
fn find(table: &RouteTable, host: &str, path: &str, method: &str) -> String {
    let Ok(path) = CanonicalPath::parse(path) else { return "400".to_owned() };
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    match table.find(host, &path, &method) {
        Ok(found) => found
            .params
            .iter()
            .fold(found.route.0.to_string(), |text, (name, value)| format!("{text} {name}={value}")),
        Err(NotFound::Route) => "404".to_owned(),
        Err(NotFound::Method { allow }) => format!("405 {allow}"),
        Err(NotFound::Ambiguous) => "400".to_owned(),
    }
}

#[test]
fn the_most_specific_path_wins_whatever_the_order() {
    let lines = [
        "- / *",
        "- /{*all} *",
        "- /a *",
        "- /a/ *",
        "- /a/{id} *",
        "- /a/{*rest} *",
        "- /a/b *",
        "- /a/b/c *",
        "- /a/{id}/d *",
        "- /a/{id}/d/{*rest} *",
        "- /a/{x}/{y} *",
        "- /caf%C3%A9/a:b *",
    ];
    let cases = [
        ("/", "0"),
        ("/x", "1 all=x"),
        ("/x/y/", "1 all=x/y/"),
        ("/a", "2"),
        ("/a/", "3"),
        ("/a/7", "4 id=7"),
        ("/a/a%20b%2Bc", "4 id=a b+c"),
        ("/a/b", "6"),
        ("/a/b/", "5 rest=b/"),
        ("/a/b/c", "7"),
        ("/a/b/d", "8 id=b"),
        ("/a/7/d", "8 id=7"),
        ("/a/7/d/", "9 id=7 rest="),
        ("/a/7/d/e/f", "9 id=7 rest=e/f"),
        ("/a/7/e", "10 x=7 y=e"),
        ("/a/b/x", "10 x=b y=x"),
        ("/a/7/e/f", "5 rest=7/e/f"),
        ("/ab", "1 all=ab"),
        ("/caf%c3%a9/a%3ab", "11"),
        ("/caf%C3%A9/a:b", "11"),
    ];
    let table = build(&lines).unwrap();
    let mut specs: Vec<RouteSpec> = (0..).zip(&lines).map(|(i, line)| spec(i, line)).collect();
    specs.reverse();
    let backwards = build_of(specs).unwrap();
    for (path, expected) in cases {
        assert_eq!(find(&table, "h", path, "GET"), expected, "{path}");
        assert_eq!(find(&backwards, "h", path, "GET"), expected, "{path}");
    }
}

#[test]
fn parameters_stand_for_whole_segments_that_are_not_empty() {
    let table = build(&["- /a/{id} *", "- /b/{*rest} *", "- /c/{x}/d *"]).unwrap();
    for (path, expected) in [
        ("/a", "404"),
        ("/a/", "404"),
        ("/a/x/", "404"),
        ("/ax", "404"),
        ("/b", "404"),
        ("/b/", "1 rest="),
        ("/bx", "404"),
        ("/c//d", "404"),
        ("/b//x", "1 rest=/x"),
        ("/a/x%2Fy", "0 id=x/y"),
    ] {
        assert_eq!(find(&table, "h", path, "GET"), expected, "{path}");
    }
}

#[test]
fn hosts_are_final() {
    let table = build(&[
        "- /everywhere *",
        "example.com /exact *",
        "*.example.com /below *",
        "*.b.example.com /longer *",
        "a.b.example.com,other.com /both *",
        "[::1] /v6 *",
    ])
    .unwrap();
    for (host, path, expected) in [
        ("h", "/everywhere", "0"),
        ("example.com", "/exact", "1"),
        ("example.com", "/everywhere", "404"),
        ("example.com", "/below", "404"),
        ("a.example.com", "/below", "2"),
        ("x.y.example.com", "/below", "2"),
        ("c.b.example.com", "/longer", "3"),
        ("c.b.example.com", "/below", "404"),
        ("b.example.com", "/below", "2"),
        ("b.example.com", "/longer", "404"),
        ("a.b.example.com", "/both", "4"),
        ("a.b.example.com", "/longer", "404"),
        ("other.com", "/both", "4"),
        ("example.com.evil", "/exact", "404"),
        ("example.com.evil", "/everywhere", "0"),
        ("xn--bcher-kva.example.com", "/below", "2"),
        ("[::1]", "/v6", "5"),
        ("evilexample.com", "/everywhere", "0"),
    ] {
        assert_eq!(find(&table, host, path, "GET"), expected, "{host}{path}");
    }
}

#[test]
fn methods_are_final() {
    let table =
        build(&["- /a/{*rest} *", "- /a/b GET,HEAD", "- /a/{x} POST", "- /a/{y} PUT", "- /g GET"]).unwrap();
    for (path, method, expected) in [
        ("/a/b", "GET", "1"),
        ("/a/b", "POST", "405 GET, HEAD"),
        ("/a/c", "POST", "2 x=c"),
        ("/a/c", "PUT", "3 y=c"),
        ("/a/c", "GET", "405 POST, PUT"),
        ("/g", "HEAD", "405 GET"),
        ("/g", "OPTIONS", "405 GET"),
        ("/g", "FOO", "405 GET"),
        ("/g", "get", "405 GET"),
        ("/a/c/d", "PROPFIND", "0 rest=c/d"),
        ("/a/c/d", "CONNECT", "405 GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("/a/c/d", "TRACE", "405 GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    ] {
        assert_eq!(find(&table, "h", path, method), expected, "{method} {path}");
    }
}

#[test]
fn conflicts_name_both_routes() {
    let conflicts = |lines: &[&str]| {
        build(lines).err().map_or_else(String::new, |conflicts| {
            conflicts
                .iter()
                .map(|c| format!("{}-{} {} {}", c.first.0, c.second.0, c.host, c.method))
                .collect::<Vec<_>>()
                .join("; ")
        })
    };
    for (lines, expected) in [
        (&["- /a GET", "- /a POST"][..], ""),
        (&["- /a GET", "- /a GET"], "0-1 * GET"),
        (&["- /a *", "- /a GET"], "0-1 * GET"),
        (&["- /a GET", "- /a *"], "0-1 * GET"),
        (&["- /a *", "- /a *"], "0-1 * GET"),
        (&["- /a *", "- /a FOO"], "0-1 * FOO"),
        (&["- /a/{x}/c GET", "- /a/{y}/c GET"], "0-1 * GET"),
        (&["- /a/{*x} GET", "- /a/{*y} GET"], "0-1 * GET"),
        (&["- /a/{x} GET", "- /a/{*x} GET"], ""),
        (&["- /a%3Ab GET", "- /a:b GET"], "0-1 * GET"),
        (&["- /%61 GET", "- /a GET"], "0-1 * GET"),
        (&["- /A GET", "- /a GET"], ""),
        (&["- /a GET", "- /a/ GET"], ""),
        (&["a.com,b.com /a GET", "b.com,c.com /a GET"], "0-1 b.com GET"),
        (&["a.com,b.com /a GET", "B.com,a.com. /a GET"], "0-1 a.com GET; 0-1 b.com GET"),
        (&["a.com,A.com /a GET"], ""),
        (&["*.a.com /a GET", "b.a.com /a GET", "- /a GET"], ""),
        (&["- /a GET", "- /a GET", "- /a GET"], "0-1 * GET; 0-2 * GET"),
    ] {
        assert_eq!(conflicts(lines), expected, "{lines:?}");
    }
}

#[test]
fn a_path_that_misses_a_literal_by_case_alone_is_refused() {
    let mut lines = vec![
        "- /api/{*rest} *".to_owned(),
        "- /api/admin/{*rest} *".to_owned(),
        "- /api/stra%C3%9Fe *".to_owned(),
        "- /users/me *".to_owned(),
        "- /users/{id} *".to_owned(),
        "- /Mixed *".to_owned(),
        "- /mixed *".to_owned(),
        "- /Twin/x *".to_owned(),
        "- /twin/y *".to_owned(),
        "- /{*all} GET,HEAD".to_owned(),
    ];
    let cases = [
        ("/api/admin/x", "1 rest=x"),
        ("/api/Admin/x", "400"),
        ("/api/aDMIN/", "400"),
        ("/api/Admin", "0 rest=Admin"),
        ("/api/Administrator/x", "0 rest=Administrator/x"),
        ("/API/admin/x", "400"),
        ("/Twin/x", "7"),
        ("/twin/y", "8"),
        ("/twin/x", "400"),
        ("/twin/z", "9 all=twin/z"),
        ("/api/STRA%C3%9FE", "400"),
        ("/api/%C5%BFtra%C3%9Fe", "400"),
        ("/users/ME", "400"),
        ("/users/MEE", "4 id=MEE"),
        ("/Mixed", "5"),
        ("/mixed", "6"),
        ("/MIXED", "400"),
    ];
    for more in [0, 40] {
        // With many literals they are found by another way.
        lines.extend((0..more).map(|i| format!("- /api/x{i} *")));
        lines.extend((0..more).map(|i| format!("- /users/y{i} *")));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let table = build(&lines).unwrap();
        for (path, expected) in cases {
            assert_eq!(find(&table, "h", path, "GET"), expected, "{path} with {more} more");
        }
    }
}

#[test]
fn a_doubtful_path_is_served_only_where_all_readings_agree() {
    let lines = ["- /files/{name} *", "- /api/{*rest} *", "- /api/admin/{*rest} *", "- /api/a%2Fb *"];
    let table =
        build_of((0..).zip(lines).map(|(i, line)| RouteSpec { opt_outs: PathOptOuts::ALL, ..spec(i, line) }))
            .unwrap();
    for (path, expected) in [
        ("/files/a%2Fb", "0 name=a/b"),
        ("/files/a;b", "0 name=a;b"),
        ("/api/x//y", "1 rest=x//y"),
        ("/api/a%2fb", "400"),
        ("/api/admin%2Fx", "400"),
        ("/api/admin%5Cx", "400"),
        ("/api//admin/x", "400"),
        ("/api/admin;a=b/x", "400"),
        ("/api/%2561dmin/x", "400"),
        ("/api/x/%252e%252e/admin/x", "400"),
        ("/api/ADMIN%2Fx", "400"),
        ("/api/x/%252e%252e%252fadmin/x", "400"),
        ("/api/admin%2F%3Fx", "400"),
        ("/api/admin/x%2Fy", "2 rest=x/y"),
        ("/api/%255C/admin/x;;%5C", "400"),
        ("/files/what%3F", "0 name=what?"),
    ] {
        assert_eq!(find(&table, "h", path, "GET"), expected, "{path}");
    }
    // A route that does not opt in is found, so that the refusal can say why.
    let strict = build(&["- /api/{*rest} *", "- /api/admin/{*rest} *"]).unwrap();
    assert_eq!(find(&strict, "h", "/api/admin%2Fx", "GET"), "0 rest=admin/x");
    let cut = build(&["- /a/{*rest} *", "- /a/b *"]).unwrap();
    assert_eq!(find(&cut, "h", "/a/b%3Fx", "GET"), "400");
}

/// How strict a path is: 0 for nothing there, then public, api, admin.
fn strictness(path: &str) -> u32 {
    if path.starts_with("/api/admin/") {
        3
    } else if path.starts_with("/api/") {
        2
    } else {
        u32::from(path.starts_with("/public/"))
    }
}

/// Decodes the escapes of these octets; any escape if there are none.
fn unescape(text: &str, only: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let value = (*first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(value) if only.is_empty() || only.as_bytes().contains(&value) => {
                bytes.push(value);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (i, segment) in segments.iter().enumerate() {
        match *segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => {
                kept.push(segment);
                continue;
            }
        }
        if i + 1 == segments.len() {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

fn merged(path: &str) -> String {
    let mut path = path.to_owned();
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    path
}

fn without_params(path: &str) -> String {
    path.split('/').map(|segment| segment.split(';').next().unwrap()).collect::<Vec<_>>().join("/")
}

/// What servers of seven kinds make of a path, each laxer than the one before, and each kind of laxness alone.
fn oracles(path: &str) -> Vec<String> {
    let mut seen = vec![without_dots(path)];
    let plain = unescape(path, ".-_~abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    seen.push(without_dots(&unescape(&plain, "/\\")));
    seen.push(without_dots(&plain.replace('\\', "/")));
    seen.push(without_dots(&merged(&plain)));
    seen.push(without_dots(&without_params(&plain)));
    seen.push(without_dots(&unescape(path, "")));
    seen.push(without_dots(&unescape(&unescape(path, ""), "")));
    let slashes = unescape(&plain, "/\\").replace('\\', "/");
    let all = without_params(&merged(&slashes));
    seen.push(without_dots(&slashes));
    seen.push(without_dots(&merged(&slashes)));
    seen.push(without_dots(&all));
    let again = unescape(&unescape(&all, ""), "").replace('\\', "/");
    seen.push(merged(&without_dots(&merged(&without_params(&again)))));
    for i in 0..seen.len() {
        seen.push(seen[i].to_lowercase());
    }
    seen
}

/// All targets of the C21 generator: names with up to three dots in any spelling behind any separator, to a depth of four.
fn generated() -> impl Iterator<Item = String> {
    let mut dots = vec![String::new()];
    for length in 1..=3u32 {
        for choice in 0..3usize.pow(length) {
            let mut choice = choice;
            let spelled = (0..length).map(|_| {
                let dot = [".", "%2e", "%2E"][choice % 3];
                choice /= 3;
                dot
            });
            dots.push(spelled.collect());
        }
    }
    let separators = ["/", "//", "%2f", "%2F", "%5c", "\\", ";/", "/;a=b/", "%252f"];
    let steps: Vec<String> = separators
        .iter()
        .flat_map(|separator| dots.iter().map(move |dots| format!("{separator}{dots}")))
        .collect();
    let starts = ["/public", "/api", "/api/x", "/public/a", "/%61pi", "/API"];
    let ends =
        ["/api/admin/x", "admin/x", "Admin/x", "/admin/x", "%2fadmin%2fx", "/Admin/x", "//api/admin/x"];
    let two = steps.clone();
    let one = steps.clone();
    let deep = ["/..", "%2f..", "/%2e%2e", "//", ";/", "%252f", "%5c.."];
    let shallow = starts.into_iter().flat_map(move |start| {
        let one = one.clone();
        ends.into_iter()
            .flat_map(move |end| one.clone().into_iter().map(move |step| format!("{start}{step}{end}")))
    });
    let double = ["/public", "/api"].into_iter().flat_map(move |start| {
        let (first, second) = (steps.clone(), two.clone());
        first
            .into_iter()
            .flat_map(move |a| second.clone().into_iter().map(move |b| format!("{start}{a}{b}/admin/x")))
    });
    let fourfold = (0..deep.len().pow(4)).map(move |mut choice| {
        let mut path = "/public/a".to_owned();
        for _ in 0..4 {
            path += deep[choice % deep.len()];
            choice /= deep.len();
        }
        path + "/api/admin/x"
    });
    shallow.chain(double).chain(fourfold)
}

#[test]
fn no_reading_of_a_served_path_is_for_a_stricter_route() {
    let lines = ["- /public/{*rest} *", "- /api/{*rest} *", "- /api/admin/{*rest} *"];
    for opt_outs in [PathOptOuts::NONE, PathOptOuts::ALL] {
        let table =
            build_of((0..).zip(lines).map(|(i, line)| RouteSpec { opt_outs, ..spec(i, line) })).unwrap();
        let (mut all, mut served) = (0, 0);
        for raw in generated() {
            all += 1;
            let Ok(path) = CanonicalPath::parse(&raw) else {
                continue;
            };
            let Ok(found) = table.find("h", &path, &Method::GET) else {
                continue;
            };
            if path.allowed_by(opt_outs).is_err() {
                continue;
            }
            served += 1;
            for oracle in oracles(path.as_str()) {
                assert!(
                    strictness(&oracle) <= found.route.0 + 1,
                    "{raw} was served by route {} and may be read as {oracle}",
                    found.route.0
                );
            }
        }
        assert!(all > 100_000, "{all} targets");
        assert!(served > 0, "some are harmless");
    }
}

#[test]
fn the_oracles_see_attacks() {
    for raw in [
        "/public/../api/admin/x",
        "/public/%2e%2e/api/admin/x",
        "/api%5cadmin/x",
        "/api//admin/x",
        "/api/;a=b/admin/x",
        "/api/%2561dmin/x",
        "/API/ADMIN/x",
    ] {
        assert!(oracles(raw).iter().any(|path| strictness(path) == 3), "{raw}");
    }
}

#[test]
fn patterns_are_parsed_strictly() {
    for (text, names) in [
        ("/", ""),
        ("/a/{id}", "id"),
        ("/{a}/{b-c}/{*d_e}", "a b-c d_e"),
        ("/caf%C3%A9", ""),
        ("/a/", ""),
        ("/.well-known/x", ""),
        ("/%7Bx%7D", ""),
    ] {
        let pattern = PathPattern::parse(text).unwrap();
        assert_eq!(pattern.params().collect::<Vec<_>>().join(" "), names, "{text}");
        assert_eq!(pattern.as_str(), text);
        assert!(pattern.doubts().is_empty(), "{text}");
    }
    for text in [
        "",
        "a",
        "*",
        "/a?b",
        "/a#b",
        "/{",
        "/}",
        "/{}",
        "/{*}",
        "/a{b}",
        "/{a}b",
        "/{a}{b}",
        "/{a}/{a}",
        "/{a}/{*a}",
        "/{*a}/b",
        "/{*a}/",
        "/{a b}",
        "/{é}",
        "/{{a}}",
        "/..",
        "/a/./b",
        "/a b",
        "/é",
        "/...",
        "/%FF",
        "/%zz",
        "/%00",
        "/a\\b",
    ] {
        assert!(PathPattern::parse(text).is_err(), "{text}");
    }
    assert!(PathPattern::parse(&"/a".repeat(64)).is_ok());
    assert!(PathPattern::parse(&"/a".repeat(65)).is_err());
    assert_eq!(PathPattern::parse("/a//b;c./d%20").unwrap().doubts().names().count(), 4);
}

#[test]
fn methods_are_parsed_strictly() {
    assert!(Methods::only(vec![]).is_err());
    assert!(Methods::only(vec![Method::GET, Method::GET]).is_err());
    assert!(Methods::only(vec![Method::TRACE]).is_err());
    assert!(Methods::only(vec![Method::CONNECT]).is_err());
    assert!(!Methods::only(vec![Method::GET]).unwrap().contains(&Method::HEAD));
    assert!(!Methods::any().contains(&Method::TRACE));
}

#[test]
fn methods_of_one_path_are_gathered() {
    let table = build(&["- /a/{x} GET,HEAD", "- /a/{y} POST", "a.com /a/{y} PUT", "- /b *"]).unwrap();
    let at = |host: &str, path: &str| {
        let host = HostPattern::parse(host).unwrap();
        table
            .methods_at(&host, &PathPattern::parse(path).unwrap())
            .iter()
            .map(Method::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    assert_eq!(at("*", "/a/{z}"), "GET,HEAD,POST");
    assert_eq!(at("a.com", "/a/{z}"), "PUT");
    assert_eq!(at("*", "/a/{*z}"), "");
    assert_eq!(at("*", "/b"), "GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS");
    assert_eq!(at("*.com", "/b"), "");
}

#[test]
fn routes_that_a_host_hides_are_listed() {
    for (lines, expected) in [
        (&["- /a *", "- /b *"][..], ""),
        (&["- /health *", "a.com /x *"], "0 a.com"),
        (&["- /health *", "b.com /x *", "a.com /x *"], "0 a.com"),
        (&["- /health *", "a.com /health *"], ""),
        (&["- /health *", "a.com /{*all} *"], ""),
        (&["- /health *", "a.com /{x} *"], ""),
        (&["- /{x} *", "a.com /health *"], "0 a.com"),
        (&["- /{*x} *", "a.com /{x} *"], "0 a.com"),
        (&["- /v/{*x} *", "a.com /{*x} *"], ""),
        (&["- /v/ *", "a.com /v/{x} *"], "0 a.com"),
        (&["*.a.com /x *", "b.a.com /y *"], "0 b.a.com"),
        (&["*.a.com,b.a.com /x *", "b.a.com /y *"], ""),
        (&["*.a.com /x *", "a.com /y *"], ""),
    ] {
        let specs: Vec<RouteSpec> = (0..).zip(lines).map(|(i, line)| spec(i, line)).collect();
        let hidden: Vec<String> = RouteTable::build(&specs)
            .unwrap()
            .hidden(&specs)
            .iter()
            .map(|hidden| format!("{} {}", hidden.route.0, hidden.host))
            .collect();
        assert_eq!(hidden.join("; "), expected, "{lines:?}");
    }
}

#[test]
fn an_empty_table_finds_nothing() {
    assert_eq!(find(&RouteTable::default(), "h", "/", "GET"), "404");
}

/// 100,000 routes in the shapes that could make a table slow: many hosts, one wide node, deep paths.
#[test]
fn a_large_table_is_built_and_searched_in_no_time() {
    let host = |i: u32| HostPattern::parse(&format!("h{i}.example.com")).unwrap();
    let specs = (0..100_000u32).map(|i| RouteSpec {
        index: RouteIndex(i),
        hosts: if i % 2 == 0 { vec![host(i)] } else { vec![] },
        path: PathPattern::parse(&format!("/v1/items{i}/{{id}}/parts/{{*rest}}")).unwrap(),
        methods: Methods::any(),
        access: AccessClass(0),
        opt_outs: PathOptOuts::NONE,
    });
    let started = Instant::now();
    let table = build_of(specs).unwrap();
    // Generous: the machine may be busy and the build is not optimised.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let started = Instant::now();
    for i in (0..100_000u32).step_by(10) {
        let path = format!("/v1/items{i}/7/parts/x/y");
        assert_eq!(find(&table, &format!("h{i}.example.com"), &path, "GET"), format!("{i} id=7 rest=x/y"));
        let path = format!("/v1/items{}/7/parts/x/y", i + 1);
        assert_eq!(find(&table, "other", &path, "GET"), format!("{} id=7 rest=x/y", i + 1));
        assert_eq!(find(&table, "other", &format!("/v1/items{i}/7/parts/x"), "GET"), "404");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_search_that_fails_late_visits_no_node_twice() {
    let deep = format!("- {}/end *", "/a".repeat(60));
    let other_case = format!("- {}/END *", "/A".repeat(60));
    let table = build_of(
        (0..)
            .zip([deep.as_str(), &other_case, "- /{*all} *"])
            .map(|(i, line)| RouteSpec { opt_outs: PathOptOuts::ALL, ..spec(i, line) }),
    )
    .unwrap();
    let path = format!("{}/nowhere;x", "/a".repeat(60));
    let found = find(&table, "h", &path, "GET");
    assert!(found.starts_with("2 all=a/a/"), "{found}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// The tree agrees with the plain definition: of all patterns that match, the one that is more specific at the first
    /// segment in which they differ.
    #[test]
    fn the_tree_finds_what_the_definition_says(
        patterns in prop::collection::hash_set(
            prop::collection::vec(prop::sample::select(vec!["a", "b", "{}", ""]), 1..4)
                .prop_flat_map(|parts| any::<bool>().prop_map(move |rest| (parts.clone(), rest))),
            1..12,
        ),
        path in prop::collection::vec(prop::sample::select(vec!["a", "b", "c", ""]), 1..5),
    ) {
        let texts: std::collections::BTreeSet<String> = patterns
            .iter()
            .map(|(parts, rest)| {
                let mut text = String::new();
                for (i, part) in parts.iter().enumerate() {
                    text += "/";
                    text += &part.replace("{}", &format!("{{p{i}}}"));
                }
                if *rest { text + "/{*rest}" } else { text }
            })
            .collect();
        let texts: Vec<String> = texts.into_iter().collect();
        let table = build_of((0..).zip(&texts).map(|(i, text)| spec(i, &format!("- {text} *")))).unwrap();
        let path = format!("/{}", path.join("/"));
        let expected = texts
            .iter()
            .enumerate()
            .filter_map(|(i, text)| Some((rank(text, &path)?, i)))
            .min()
            .map_or_else(|| "404".to_owned(), |(_, i)| i.to_string());
        let found = find(&table, "h", &path, "GET");
        prop_assert_eq!(found.split(' ').next().unwrap(), expected, "{} in {:?}", path, texts);
    }
}

/// How a pattern matches a path, segment by segment: 0 literal, 1 parameter, 2 rest; smaller is more specific.
fn rank(pattern: &str, path: &str) -> Option<Vec<u8>> {
    let mut rank = Vec::new();
    let mut segments = path.split('/').skip(1);
    for part in pattern.split('/').skip(1) {
        if part.starts_with("{*") {
            segments.next()?;
            rank.push(2);
            return Some(rank);
        }
        let segment = segments.next()?;
        match part.starts_with('{') {
            true if segment.is_empty() => return None,
            true => rank.push(1),
            false if part == segment => rank.push(0),
            false => return None,
        }
    }
    segments.next().is_none().then_some(rank)
}

#[test]
fn slash_at_the_end_hides_no_stricter_route() {
    let lines = [
        // Strict ones first: up to 5.
        "- /secret GET,HEAD",
        "- /dir *",
        "- /api/users/{id} *",
        "- /tree/{*rest} *",
        "- /both *",
        "- /items/7/ *",
        // Lax ones.
        "- /{*all} *",
        "- /dir/{*rest} *",
        "- /both/ *",
        "- /items/{id} *",
        "- /same *",
    ];
    let specs: Vec<RouteSpec> = (0..)
        .zip(lines)
        .map(|(i, line)| RouteSpec { access: AccessClass((i < 6).into()), ..spec(i, line) })
        .collect();
    let table = build_of(specs.clone()).unwrap();
    for (method, path, expected) in [
        ("GET", "/secret", "0"),
        ("GET", "/secret/", "400"),
        ("GET", "/SECRET/", "400"),
        ("HEAD", "/secret/", "400"),
        // A server that ignores the slash would answer a method that the strict path does not.
        ("POST", "/secret/", "400"),
        ("GET", "/secret/x", "6 all=secret/x"),
        ("GET", "/dir", "1"),
        ("GET", "/dir/", "400"),
        ("GET", "/dir/x", "7 rest=x"),
        ("GET", "/api/users/7", "2 id=7"),
        ("GET", "/api/users/7/", "400"),
        ("GET", "/api/users/7/x", "6 all=api/users/7/x"),
        ("GET", "/tree", "400"),
        ("GET", "/tree/", "3 rest="),
        ("GET", "/both", "4"),
        ("GET", "/both/", "8"),
        ("GET", "/items/7", "400"),
        ("GET", "/items/7/", "5"),
        ("GET", "/items/8", "9 id=8"),
        ("GET", "/same", "10"),
        ("GET", "/same/", "6 all=same/"),
        ("GET", "/", "6 all="),
    ] {
        assert_eq!(find(&table, "h", path, method), expected, "{method} {path}");
    }
    let pairs: Vec<_> = table.lookalikes(&specs).iter().map(|pair| (pair.first.0, pair.second.0)).collect();
    assert_eq!(pairs, [(4, 8), (5, 9), (1, 7)]);
}

#[test]
fn letter_case_hides_no_stricter_route() {
    let lines = [
        // Strict ones first: up to 4.
        "- /a/admin *",
        "- /B *",
        "- /{x} *",
        "- /c/C *",
        "- /D/ *",
        // Lax ones.
        "- /A/{*rest} *",
        "- /b/{*rest} *",
        "- /one *",
        "- /{*all} HEAD",
        "- /c/c *",
        "- /d *",
    ];
    let specs = (0..).zip(lines);
    let table =
        build_of(specs.map(|(i, line)| RouteSpec { access: AccessClass((i < 5).into()), ..spec(i, line) }))
            .unwrap();
    for (method, path, expected) in [
        ("GET", "/a/admin", "0"),
        ("GET", "/A/admin", "400"),
        ("GET", "/A/admin/", "400"),
        ("GET", "/A/ADMIN", "400"),
        ("GET", "/A/other", "5 rest=other"),
        ("GET", "/B", "1"),
        ("GET", "/b/", "400"),
        ("GET", "/b/x", "6 rest=x"),
        ("GET", "/one", "7"),
        // To a server that ignores the slash, but not letter case, this is `/{x}`.
        ("HEAD", "/ONE/", "400"),
        // These differ in letter case or the slash alone: both are served, and warned of.
        ("GET", "/c/C", "3"),
        ("GET", "/c/c", "9"),
        ("GET", "/D/", "4"),
        ("GET", "/d", "10"),
    ] {
        assert_eq!(find(&table, "h", path, method), expected, "{method} {path}");
    }
}

#[test]
fn head_beside_get_with_other_demands_is_noted() {
    let of = |second: usize| {
        let lines = ["- /a GET", "- /a HEAD,POST"];
        lookalikes(&lines, &[0, second])
    };
    assert_eq!(of(0), []);
    let kind = LookalikeKind::Head;
    assert_eq!(of(1), [Lookalike { first: RouteIndex(0), second: RouteIndex(1), kind }]);
}

/// The pairs among routes with these access classes.
fn lookalikes(lines: &[&str], classes: &[usize]) -> Vec<Lookalike> {
    let specs = (0..).zip(lines).zip(classes);
    let specs: Vec<RouteSpec> =
        specs.map(|((i, line), class)| RouteSpec { access: AccessClass(*class), ..spec(i, line) }).collect();
    build_of(specs.clone()).unwrap().lookalikes(&specs)
}

#[test]
fn lax_routes_that_cover_strict_ones_are_noted() {
    use LookalikeKind::{Case, Directory, Host, Slash};
    for (lines, kind) in [
        (["- /dir GET", "- /dir/{*rest} *"], Some(Directory)),
        (["- /dir GET", "- /dir/{*rest} POST"], None),
        (["- /dir *", "- /{*rest} *"], None),
        (["- /Dir *", "- /dir/{*rest} *"], Some(Directory)),
        (["- /a/b *", "- /A/b *"], Some(Case)),
        (["- /a/{*rest} *", "- /A/{*rest} *"], Some(Case)),
        (["- /a/{x} *", "- /A/b *"], Some(Case)),
        (["- /a/{x} *", "- /a/b *"], None),
        (["- /a GET", "- /a/ HEAD"], Some(Slash)),
        (["- /a *", "- /A/ *"], Some(Slash)),
        (["- /dir/{*rest} *", "- / *"], None),
        (["- /{*rest} *", "- / *"], None),
        (["a.example.com /admin *", "- /{*rest} *"], Some(Host)),
        (["a.example.com /admin GET", "- /{*rest} POST"], None),
        (["a.example.com /admin *", "- /admin/x *"], None),
        (["a.example.com /{*rest} *", "- /{*rest} *"], Some(Host)),
        (["a.example.com /admin/{id} *", "*.example.com /admin/{*rest} *"], Some(Host)),
        (["*.example.com /admin *", "- /{*rest} *"], Some(Host)),
        (["a.example.com /admin *", "b.example.com /{*rest} *"], None),
        (["a.example.com /admin *", "*.example.org /{*rest} *"], None),
    ] {
        let expected = kind.map(|kind| Lookalike { first: RouteIndex(0), second: RouteIndex(1), kind });
        assert_eq!(lookalikes(&lines, &[1, 0]), expected.as_slice(), "{lines:?}");
        assert_eq!(lookalikes(&lines, &[1, 1]), [], "{lines:?}, the same demands");
        let [first, second] = lines;
        let turned = expected.map(|pair| match pair.kind {
            Host => Lookalike { first: RouteIndex(1), second: RouteIndex(0), ..pair },
            _ => pair,
        });
        assert_eq!(lookalikes(&[second, first], &[0, 1]), turned.as_slice(), "{lines:?}, turned");
    }
}
