use super::*;
use http::HeaderName;

const LIMITS: Limits = Limits { header_bytes: 1000, headers: 10, uri: 100, ..Limits::DEFAULT };

fn check_fields(version: Version, fields: &[(&str, &[u8])]) -> Result<(), Reject> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value).unwrap(),
        );
    }
    check_head(&Method::POST, "/", version, &headers)
}

fn check_head(method: &Method, target: &str, version: Version, headers: &HeaderMap) -> Result<(), Reject> {
    let uri: Uri = target.parse().unwrap();
    let head = Head { method, uri: &uri, version, headers };
    check(&head, &LIMITS)
}

/// HTTP/1.1 with a Host and one or two more fields.
fn http1(fields: &[(&str, &str)]) -> Result<(), Reason> {
    let mut all: Vec<(&str, &[u8])> = vec![("host", b"h")];
    all.extend(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
    check_fields(Version::HTTP_11, &all).map_err(|reject| reject.reason)
}

#[test]
fn plain_requests_are_taken() {
    for fields in [
        &[][..],
        &[("content-length", "0")],
        &[("content-length", "200")],
        &[("content-length", "18446744073709551615")],
        &[("transfer-encoding", "chunked")],
        &[("transfer-encoding", "Chunked")],
        &[("expect", "100-continue"), ("content-length", "5")],
        &[("expect", "100-Continue")],
        &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")],
        &[("connection", "upgrade"), ("upgrade", "websocket"), ("content-length", "0")],
        &[("connection", "close"), ("upgrade", "h2c"), ("content-length", "5")],
        &[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("content-length", "5")],
        &[("connection", "Upgrade"), ("upgrade", "TLS/1.2"), ("transfer-encoding", "chunked")],
        &[("connection", "Upgrade"), ("upgrade", "foo"), ("content-length", "40")],
        &[("x-user-2", "a"), ("cookie", "a=1"), ("cookie", "b=2")],
        &[("te", "trailers, gzip")],
    ] {
        assert_eq!(http1(fields), Ok(()), "{fields:?}");
    }
}

#[test]
fn framing_that_two_servers_read_differently_is_refused() {
    for fields in [
        &[("content-length", "5"), ("content-length", "5")][..],
        &[("content-length", "5"), ("content-length", "6")],
        &[("content-length", "5, 5")],
        &[("content-length", "005")],
        &[("content-length", "00")],
        &[("content-length", "+5")],
        &[("content-length", "-1")],
        &[("content-length", "-0")],
        &[("content-length", "0x5")],
        &[("content-length", "0o5")],
        &[("content-length", "1_0")],
        &[("content-length", "1 0")],
        &[("content-length", "5e0")],
        &[("content-length", "5.0")],
        &[("content-length", "")],
        &[("content-length", " 5")],
        &[("content-length", "5\u{a0}")],
        &[("content-length", "18446744073709551616")],
        &[("content-length", "99999999999999999999")],
        &[("transfer-encoding", "chunked"), ("content-length", "5")],
        &[("transfer-encoding", "chunked"), ("content-length", "0")],
        &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "chunked, chunked")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", ",chunked")],
        &[("transfer-encoding", "chunked,")],
        &[("transfer-encoding", "chunked;ext=v")],
        &[("transfer-encoding", "xchunked")],
        &[("transfer-encoding", "\"chunked\"")],
        &[("transfer-encoding", "chunkedchunked")],
        &[("transfer-encoding", "identity")],
        &[("transfer-encoding", "")],
        &[("transfer-encoding", "chunked ")],
        &[("connection", "Upgrade"), ("upgrade", "websocket"), ("content-length", "40")],
        &[("connection", "x,upgrade"), ("upgrade", "h2c, WebSocket"), ("transfer-encoding", "chunked")],
    ] {
        assert_eq!(http1(fields), Err(Reason::RequestInvalid), "{fields:?}");
    }
}

#[test]
fn http10_has_no_transfer_encoding() {
    assert_eq!(check_fields(Version::HTTP_10, &[("content-length", b"5")]), Ok(()));
    let reject = check_fields(Version::HTTP_10, &[("transfer-encoding", b"chunked")]).unwrap_err();
    assert_eq!(reject.reason, Reason::RequestInvalid);
}

#[test]
fn http11_needs_a_host() {
    let mut headers = HeaderMap::new();
    for target in ["/", "http://h/"] {
        let result = check_head(&Method::GET, target, Version::HTTP_11, &headers);
        assert_eq!(result.map_err(|reject| reject.reason), Err(Reason::RequestInvalid), "{target}");
    }
    headers.append(header::HOST, HeaderValue::from_static("h"));
    assert_eq!(check_head(&Method::GET, "http://h/", Version::HTTP_11, &headers), Ok(()));
}

#[test]
fn only_one_expectation_is_known() {
    for fields in [
        &[("expect", "200-ok")][..],
        &[("expect", "x 100-continue")],
        &[("expect", "100-continue, 100-continue")],
        &[("expect", "100-continue"), ("expect", "100-continue")],
        &[("expect", "")],
    ] {
        assert_eq!(http1(fields), Err(Reason::ExpectationFailed), "{fields:?}");
    }
}

#[test]
fn http2_knows_no_connection_fields() {
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("http2-settings", "AAMAAABk"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("content-length", "+5"),
    ] {
        let result = check_fields(Version::HTTP_2, &[(name, value.as_bytes())]);
        assert_eq!(result.map_err(|reject| reject.reason), Err(Reason::RequestInvalid), "{name}: {value}");
    }
    for (name, value) in [("te", "trailers"), ("content-length", "5"), ("cookie", "a=1")] {
        assert_eq!(check_fields(Version::HTTP_2, &[(name, value.as_bytes())]), Ok(()), "{name}");
    }
}

#[test]
fn http2_values_have_no_white_space_around() {
    for (value, expected, why) in [
        (&b"a"[..], Ok(()), "a plain value"),
        (b"a b\tc", Ok(()), "white space within"),
        (b"", Ok(()), "an empty value"),
        (b" a", Err(Reason::RequestInvalid), "a space before"),
        (b"a ", Err(Reason::RequestInvalid), "a space after"),
        (b"\ta", Err(Reason::RequestInvalid), "a tab before"),
        (b"a\t", Err(Reason::RequestInvalid), "a tab after"),
        (b" ", Err(Reason::RequestInvalid), "a space alone"),
    ] {
        let result = check_fields(Version::HTTP_2, &[("x-user-2", value)]);
        assert_eq!(result.map_err(|reject| reject.reason), expected, "{why}");
    }
}

#[test]
fn limits_hold_in_both_protocols() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let crumbs: Vec<(&str, &[u8])> = vec![("cookie", b"a=1"); 9];
        let host: &[(&str, &[u8])] = &[("host", b"h")];
        assert_eq!(check_fields(version, &[host, &crumbs].concat()), Ok(()));
        let too_many = [host, &crumbs, &[("cookie", b"b=2")]].concat();
        assert_eq!(
            check_fields(version, &too_many).map_err(|reject| reject.reason),
            Err(Reason::HeadersTooLarge)
        );
        // host: 4 + 1 + 4, x: 1 + 4.
        for (length, expected) in [(986, Ok(())), (987, Err(Reason::HeadersTooLarge))] {
            let value = vec![b'a'; length];
            let result = check_fields(version, &[("host", b"h"), ("x", &value)]);
            assert_eq!(result.map_err(|reject| reject.reason), expected, "{length}");
        }
    }
}

#[test]
fn methods_and_targets_are_bounded() {
    let mut headers = HeaderMap::new();
    headers.append(header::HOST, HeaderValue::from_static("h"));
    let long = format!("/{}", "a".repeat(100));
    let just = format!("/{}?", "a".repeat(98));
    let custom = Method::from_bytes(b"FOO").unwrap();
    for (method, target, expected) in [
        (Method::GET, "/", Ok(())),
        (custom, "/", Ok(())),
        (Method::GET, just.as_str(), Ok(())),
        (Method::GET, "/?a|b{c}", Ok(())),
        (Method::GET, long.as_str(), Err(Reason::UriTooLong)),
        (Method::GET, "/?é", Err(Reason::RequestInvalid)),
        (Method::GET, "/é", Err(Reason::RequestInvalid)),
        (Method::GET, "*", Err(Reason::RequestInvalid)),
        (Method::OPTIONS, "*", Err(Reason::RequestInvalid)),
        (Method::TRACE, "/", Err(Reason::MethodNotAllowed)),
        (Method::CONNECT, "h:443", Err(Reason::MethodNotAllowed)),
        (Method::CONNECT, "/", Err(Reason::MethodNotAllowed)),
    ] {
        let result = check_head(&method, target, Version::HTTP_11, &headers);
        assert_eq!(result.map_err(|reject| reject.reason), expected, "{method} {target}");
    }
    for version in [Version::HTTP_09, Version::HTTP_3] {
        assert!(check_head(&Method::GET, "/", version, &headers).is_err(), "{version:?}");
    }
}
