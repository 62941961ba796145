//! Group B: request target and Host. Which resource a request is about must be beyond doubt.
//!
//! The URI type of the HTTP library drops a fragment before anybody sees it, so the gateway rejects one in the request line.

use crate::harness::{Answer, ROUTES, Row, Stage, bytes, forwarded, refused};
use crate::support::{Policy, Rig, process};

const HOST: &str = "RFC 9112 §3.2";
const FORM: &str = "RFC 9112 §3.2; HAProxy h1_host_normalization.vtc";

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn get_bytes(target: &[u8]) -> Vec<u8> {
    bytes(&[b"GET ", target, b" HTTP/1.1\r\nHost: h\r\n\r\n"])
}

#[tokio::test]
async fn there_is_one_host() {
    let mut stage = Stage::start().await;
    let invalid = "400 request_invalid";
    for (id, fields) in [
        ("B01", ""),
        ("B02", "Host: h\r\nHost: h\r\n"),
        ("B02", "Host: h\r\nHost: evil\r\n"),
        ("B02", "Host: evil\r\nhost: h\r\n"),
        ("B03", "Host: h,h\r\n"),
        ("B03", "Host: h evil\r\n"),
        ("B03", "Host: h/public\r\n"),
        ("B03", "Host: h@evil\r\n"),
        ("B03", "Host: evil@h\r\n"),
        ("B03", "Host: h:\r\n"),
        ("B03", "Host: h:0\r\n"),
        ("B03", "Host: h:65536\r\n"),
        ("B03", "Host: h:80:80\r\n"),
        ("B03", "Host: h:+80\r\n"),
        ("B03", "Host: h#x\r\n"),
        ("B03", "Host: h?x\r\n"),
        ("B03", "Host: h\\x\r\n"),
        ("B03", "Host: \r\n"),
        ("B03", "Host: :80\r\n"),
        ("B03", "Host: h%2e\r\n"),
        ("B03", "Host: h..\r\n"),
        ("B03", "Host: .h\r\n"),
        ("B03", "Host: [h]\r\n"),
        ("B03", "Host: \"h\"\r\n"),
    ] {
        let raw = format!("GET /public/a HTTP/1.1\r\n{fields}\r\n");
        stage.run([Row::new(id, format!("{fields:?}"), HOST, raw).refused(invalid)]).await;
    }
    for (field, raw) in
        [("octets beyond ASCII", &b"Host: h\xff\r\n"[..]), ("UTF-8", "Host: \u{125}\r\n".as_bytes())]
    {
        stage
            .run([Row::new("B03", field, HOST, bytes(&[b"GET /public/a HTTP/1.1\r\n", raw, b"\r\n"]))
                .refused(invalid)])
            .await;
    }
    for (id, fields) in [("B03", "Host : h\r\n"), ("B03", "Host\t: h\r\n"), ("B03", "\u{48}ost\x00: h\r\n")] {
        stage
            .run([Row::new(
                id,
                format!("{fields:?}"),
                HOST,
                format!("GET /public/a HTTP/1.1\r\n{fields}\r\n"),
            )])
            .await;
    }
    for host in ["H", "h:80", "h:8080", "h.", "H.:8080", "  h  "] {
        let raw = format!("GET /public/a HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stage.run([Row::new("B04", format!("the host {host:?}"), HOST, raw).forwarded("/public/a")]).await;
    }
    for host in ["evil", "x.h", "h.evil", "hh", "127.0.0.1", "[::1]"] {
        let raw = format!("GET /public/a HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stage
            .run([Row::new("B04", format!("the host {host:?} has no routes"), HOST, raw)
                .answers([refused("404 route_unknown")])
                .stays()])
            .await;
    }
    stage
        .run(vec![
            Row::new("B01", "HTTP/1.0 without Host", HOST, "GET /public/a HTTP/1.0\r\n\r\n").refused(invalid),
            Row::new(
                "B02",
                "one Host by another name",
                "CVE-2025-64484",
                "GET /public/a HTTP/1.1\r\nHost: h\r\nX-Forwarded-Host: evil\r\n\
            Host_: evil\r\nX-Host: evil\r\n\r\n",
            )
            .forwarded("/public/a")
            .with("host", "h")
            .with("x-forwarded-host", "h"),
        ])
        .await;
    stage.finish().await;
}

/// A policy whose many hosts are protected but for one path.
fn hosts(count: usize) -> String {
    let names: String = (0..count).map(|n| format!("host-{n}.example.com, ")).collect();
    format!(
        "
- {{ id: next, match: {{ host: h, path: '/public/{{*rest}}' }}, public: true, upstream: orders }}
- {{ id: any, match: {{ path: '/{{*rest}}' }}, public: true, upstream: orders }}
- id: hosts
  match: {{ host: [{names} last.example.com], path: '/{{*rest}}' }}
  require: {{ issuers: [corp], audience: https://api.example.com, scopes: [admin] }}
  upstream: orders
"
    )
}

#[tokio::test]
async fn letter_case_of_a_host_never_counts() {
    for count in [1, 99, 101, 10_000] {
        let rig = Rig::with(Policy::default().routes(&hosts(count)).gateway("workers: 1")).await;
        for host in [
            "last.example.com",
            "LAST.example.COM",
            "Last.Example.Com:80",
            "lasT.example.com.",
            "HOST-0.example.com",
            "hOST-0.EXAMPLE.com.",
        ] {
            let answer = rig.gateway.get("/x").host(host).send().await;
            assert_eq!(answer.verdict(), "401 credential_missing", "{host} of {count}");
        }
        assert_eq!(rig.gateway.get("/x").host("other.example.com").send().await.status, 200);
        assert_eq!(rig.upstream.requests().len(), 1);
    }
}

#[tokio::test]
async fn every_form_of_a_target_leads_to_origin_form() {
    let mut stage = Stage::start().await;
    let with_host = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (target, host, sent) in [
        ("http://h/public/a", "h", "/public/a"),
        ("http://h:80/public/a", "h", "/public/a"),
        ("http://h/public/a", "h:80", "/public/a"),
        ("http://h:80/public/a", "h:80", "/public/a"),
        ("http://h:8080/public/a", "h:8080", "/public/a"),
        ("http://H/public/a", "h", "/public/a"),
        ("HTTP://h/public/a", "h", "/public/a"),
        ("https://h/public/a", "h", "/public/a"),
        ("https://h:443/public/a", "h", "/public/a"),
        ("http://h/public/a?x=http://evil/", "h", "/public/a?x=http://evil/"),
        ("http://h./public/a", "h", "/public/a"),
    ] {
        let row = Row::new("B06", format!("{target} with Host {host}"), FORM, with_host(target, host));
        stage.run([row.forwarded(sent)]).await;
    }
    for (target, host) in [
        ("http://evil/public/a", "h"),
        ("http://h/public/a", "evil"),
        ("http://h:8080/public/a", "h"),
        ("http://h/public/a", "h:81"),
        ("http://h:80/public/a", "h:443"),
        ("https://h:80/public/a", "h"),
        ("http://h:443/public/a", "h"),
        ("ftp://h/public/a", "h"),
        ("ws://h/public/a", "h"),
        ("file:///public/a", "h"),
        ("http://user@h/public/a", "h"),
        ("http://user:pass@h/public/a", "h"),
        ("http://h@evil/public/a", "h"),
        ("http:///public/a", "h"),
        ("http://", "h"),
        ("http:/public/a", "h"),
        ("http://h:/public/a", "h"),
        ("http://h:99999/public/a", "h"),
        ("http://h:abc/public/a", "h"),
        ("http://h:+80/public/a", "h"),
        ("http://h,evil/public/a", "h"),
        ("http://h\\evil/public/a", "h"),
        ("http://[h]/public/a", "h"),
        ("http://h:80:80/public/a", "h"),
        ("javascript:alert(1)", "h"),
        ("h:80", "h"),
        ("h", "h"),
        ("public/a", "h"),
        ("public", "h"),
        ("@h/public/a", "h"),
        (".", "h"),
        ("\\public\\a", "h"),
    ] {
        let id = if target.starts_with("http://evil") {
            "B05"
        } else if target.contains("://") {
            "B06"
        } else {
            "B09"
        };
        stage
            .run([Row::new(id, format!("{target} with Host {host}"), FORM, with_host(target, host))
                .refused("400")])
            .await;
    }
    stage
        .run(vec![
            Row::new("B06", "a protected path in absolute form", FORM, get("http://h/api/admin/x"))
                .answers([refused("401 credential_missing")])
                .stays(),
            Row::new("B06", "no path in absolute form", FORM, get("http://h"))
                .answers([refused("404 route_unknown")])
                .stays(),
            Row::new("B06", "a query and no path", FORM, get("http://h?x"))
                .answers([refused("404 route_unknown")])
                .stays(),
            Row::new("B06", "absolute form without Host", FORM, "GET http://h/public/a HTTP/1.1\r\n\r\n")
                .refused("400 request_invalid"),
            Row::new(
                "B06",
                "absolute form with two Hosts",
                FORM,
                "GET http://h/public/a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
            )
            .refused("400 request_invalid"),
            Row::new("B08", "GET *", "RFC 9112 §3.2.4", get("*")).refused("400"),
            Row::new("B08", "OPTIONS *", "RFC 9112 §3.2.4", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
                .refused("400 request_invalid"),
            Row::new(
                "B08",
                "OPTIONS */test",
                "RFC 9112 §3.2.4",
                "OPTIONS */test HTTP/1.1\r\nHost: h\r\n\r\n",
            )
            .refused("400"),
            Row::new("B11", "TRACE", "RFC 9110 §9.3.8", "TRACE /public/a HTTP/1.1\r\nHost: h\r\n\r\n")
                .answers([refused("405 method_not_allowed")])
                .stays(),
            Row::new("B14", "two slashes at the start", "CVE-2026-26205", get("//h/api/admin"))
                .answers([refused("404")])
                .stays(),
            Row::new("B14", "an authority after two slashes", "CVE-2026-26205", get("//evil.com/public/a"))
                .answers([refused("404")])
                .stays(),
            Row::new("B16", "a query alone", "RFC 9112 §3.2", get("?x")).refused("400"),
            Row::new("B16", "no target", "RFC 9112 §3", "GET  HTTP/1.1\r\nHost: h\r\n\r\n"),
            Row::new("B16", "no target and one space", "RFC 9112 §3", "GET HTTP/1.1\r\nHost: h\r\n\r\n"),
        ])
        .await;
    // What follows a CONNECT is meant for the tunnel, and is no request here.
    for target in ["h:443", "h", "/", "/public/a", "http://h/public/a", "[::1]:443", "h:443/public/a"] {
        for body in ["", "Content-Length: 5\r\n"] {
            let tunnelled =
                if body.is_empty() { "GET /public/b HTTP/1.1\r\nHost: h\r\n\r\n" } else { "hello" };
            let raw = format!("CONNECT {target} HTTP/1.1\r\nHost: h\r\n{body}\r\n");
            let row = Row::new(
                "B10",
                format!("CONNECT {target} with {body:?}"),
                "RFC 9110 §9.3.6; CVE-2026-71324, CVE-2026-73547",
                raw,
            );
            stage
                .run([row.followed_by(tunnelled).judged(|answers| match answers {
                    [Answer::Own(verdict)] if verdict.starts_with("405") || verdict.starts_with("400") => {
                        Ok(())
                    }
                    _ => Err(format!("{answers:?}")),
                })])
                .await;
        }
    }
    for length in [8192, 8193, 65_535, 65_536, 70_000] {
        let path = format!("/public/{}", "a".repeat(length - "/public/".len()));
        let row =
            Row::new("B15", format!("a target of {length} octets"), "RFC 9110 §4.1", get(&path)).few_ways();
        let row = match length {
            8192 => row.forwarded(&path),
            8193 => row.refused("414 uri_too_long"),
            _ => row.judged(|answers| match answers {
                [Answer::Own(verdict)] if verdict.starts_with("414") || verdict.starts_with("431") => Ok(()),
                _ => Err(format!("{answers:?}")),
            }),
        };
        stage.run([row]).await;
    }
    stage.finish().await;
}

#[tokio::test]
async fn target_with_a_fragment_is_refused() {
    let mut stage = Stage::start().await;
    let source = "RFC 9112 §3.2; CVE-2021-32779, CVE-2026-41059, CVE-2023-47106";
    for target in [
        "/public/x#y",
        "/public#/../api/admin/x",
        "/public/x#/../../api/admin/x",
        "/public/x?q#y",
        "/public/x#?q",
        "http://h/public/x#y",
        "http://h#/public/x",
        "/public/x##",
        "/public/x?#",
        "/api/admin/x#/../../public/x",
        "/#/public/x",
        "/public/..#x",
        "#",
        "#/public/x",
    ] {
        stage.run([Row::new("B12", target, source, get(target)).refused("400")]).await;
    }
    for target in ["/public/x%23y", "/public/x%23/../y"] {
        let row = Row::new("B12", target, source, get(target));
        stage
            .run([if target.contains("..") {
                row.answers([refused("400 path_ambiguous")]).stays()
            } else {
                row.forwarded(target)
            }])
            .await;
    }
    stage.finish().await;
}

#[tokio::test]
async fn raw_octets_are_refused_or_sent_as_they_came() {
    let mut stage = Stage::start().await;
    let mut rows = Vec::new();
    for byte in 0..=255_u8 {
        let raw = bytes(&[b"/public/a", &[byte], b"b"]);
        let row = Row::new(
            "B17",
            format!("octet {byte} in the path"),
            "RFC 3986 §3.3; CVE-2019-18278",
            get_bytes(&raw),
        )
        .few_ways();
        let text = String::from_utf8_lossy(&raw).into_owned();
        let row = match byte {
            b'#' => row.refused("400"),
            b';' => row.answers([refused("400 path_ambiguous")]).stays(),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => row.forwarded(&text),
            _ if b"-._~!$&'()*+,=:@/?".contains(&byte) => row.forwarded(&text),
            _ => row.judged(|answers| match answers {
                [Answer::Own(verdict)] if verdict.starts_with("400") => Ok(()),
                [Answer::Own(verdict), Answer::Upstream(next)]
                    if verdict == "400 path_ambiguous" && next == "/public/next" =>
                {
                    Ok(())
                }
                _ => Err(format!("{answers:?}")),
            }),
        };
        rows.push(row);
        let raw = bytes(&[b"/public/a?a", &[byte], b"b"]);
        let sent = forwarded(&String::from_utf8_lossy(&raw));
        let row = Row::new("B17", format!("octet {byte} in the query"), "RFC 3986 §3.4", get_bytes(&raw))
            .few_ways();
        let row = match byte {
            b'#' => row.refused("400"),
            b' ' | ..0x20 | 0x7f.. => row.judged(|answers| match answers {
                [Answer::Own(verdict)] if verdict.starts_with("400") => Ok(()),
                _ => Err(format!("{answers:?}")),
            }),
            _ => row.judged(move |answers| match answers {
                [answer, _] if *answer == sent => Ok(()),
                _ => Err(format!("{answers:?}")),
            }),
        };
        rows.push(row);
    }
    stage.sweep(rows).await;
    for path in [
        "%",
        "%1",
        "%zz",
        "%u002e",
        "%2",
        "%%",
        "%%32",
        "%-1",
        "%2g",
        "%\u{ff12}e",
        "%00",
        "%0a",
        "%0d%0a",
        "%7f",
        "%c0%ae",
        "%ff",
        "%ed%a0%80",
        "%f4%90%80%80",
    ] {
        let row = Row::new(
            "B18",
            format!("the escape {path}"),
            "RFC 3986 §2.1; nginx http_uri.t",
            get(&format!("/public/a{path}")),
        );
        stage
            .run([row.judged(|answers| match answers {
                [Answer::Own(verdict), ..] if verdict.starts_with("400") && answers.len() <= 2 => Ok(()),
                _ => Err(format!("{answers:?}")),
            })])
            .await;
    }
    stage.finish().await;
}

#[tokio::test]
async fn the_same_goes_for_http2() {
    let rig = Rig::with(Policy::default().routes(ROUTES)).await;
    let url = format!("http://{}/", rig.gateway.address());
    for (path, forwarded) in [
        ("/public/x#y", Some("/public/x")),
        ("/public#/../api/admin/x", Some("/public")),
        ("/api/admin/x#/../../public/x", None),
        ("api/admin/x", None),
        ("public/x", None),
        ("*", None),
        ("//h/public/x", None),
        ("/public/../api/admin/x", None),
        ("http://h/public/x", None),
    ] {
        let path_field = format!("-H:path: {path}");
        let told = process::nghttp(["-v", "--timeout=5", "-H:authority: h", &path_field, &url]).await.stdout;
        let answers: &[&str] = match forwarded {
            Some(_) => &[":status: 200"],
            None => &[":status: 4", "recv RST_STREAM", "recv GOAWAY"],
        };
        assert!(answers.iter().any(|answer| told.contains(answer)), "{path}: {told}");
        let sent: Vec<String> = rig.upstream.requests().into_iter().map(|request| request.target).collect();
        assert_eq!(sent, forwarded.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{path}");
        rig.upstream.forget();
    }
}

#[tokio::test]
async fn method_in_the_query_reaches_no_other_rule() {
    let routes = "
- { id: items, match: { host: h, path: /items, methods: [GET, POST] }, public: true, upstream: orders }
- { id: lifted, match: { host: h, path: /lifted, methods: [GET], allow_method_query: true }, public: true, upstream: orders }
- { id: hidden, match: { host: h, path: /wide/secret }, require: { issuers: corp, audience: api, scopes: any_authenticated }, upstream: orders }
- { id: rest, match: { host: h, path: '/wide/{*rest}' }, public: true, upstream: orders }
";
    let mut stage = Stage::with(Policy::default().routes(&format!("{ROUTES}{routes}"))).await;
    let source = "OWASP CRS 920650";
    for target in ["/items?_method=DELETE", "/items?a=b&%5Fmethod=delete", "/items?_method=GET&_method=PUT"] {
        stage.run([Row::new("B11", target, source, get(target)).refused("400 request_invalid")]).await;
    }
    for target in ["/wide/secret/", "/wide/SECRET/"] {
        stage
            .run([Row::new("C11", target, source, get(target))
                .answers([refused("400 path_ambiguous")])
                .stays()])
            .await;
    }
    for target in
        ["/items?_method=POST", "/items?_methods=DELETE", "/lifted?_method=DELETE", "/wide/x?_method=DELETE"]
    {
        stage.run([Row::new("B11", target, source, get(target)).answers([forwarded(target)]).stays()]).await;
    }
    stage.finish().await;
}
