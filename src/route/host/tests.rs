use super::*;
use http::HeaderValue;

fn host(target: &str, fields: &[&str]) -> Result<String, Reject> {
    let uri: Uri = target.parse().unwrap();
    let mut headers = HeaderMap::new();
    for field in fields {
        headers.append(header::HOST, HeaderValue::from_bytes(field.as_bytes()).unwrap());
    }
    Host::of(&uri, &headers, Version::HTTP_11).map(|host| host.as_str().to_owned())
}

#[test]
fn the_host_is_found_where_it_is_beyond_doubt() {
    for (target, fields, expected, why) in [
        ("/", &["example.com"][..], "example.com", "plain"),
        ("/", &["eXaMpLe.COM"], "example.com", "case"),
        ("/", &["example.com."], "example.com", "one dot at the end"),
        ("/", &["example.com:8080"], "example.com", "port"),
        ("/", &["example.com.:8080"], "example.com", "dot and port"),
        ("/", &["my_service"], "my_service", "underscore, as container names have"),
        ("/", &["127.0.0.1:80"], "127.0.0.1", "IPv4"),
        ("/", &["[::1]"], "[::1]", "IPv6"),
        ("/", &["[0:0::0:1]:443"], "[::1]", "IPv6 in another form"),
        ("/", &["[FE80::A]"], "[fe80::a]", "IPv6 in upper case"),
        ("http://h/", &["h"], "h", "both, equal"),
        ("http://h/", &["H"], "h", "both, case aside"),
        ("http://h:80/", &["h"], "h", "default port in the target"),
        ("http://h/", &["h:80"], "h", "default port in Host"),
        ("https://h:443/", &["h"], "h", "default port of https"),
        ("http://h:8080/", &["h:8080"], "h", "other port in both"),
        ("http://h./", &["h"], "h", "dot in the target"),
        ("https://h/", &[], "h", "authority alone, as in HTTP/2"),
    ] {
        assert_eq!(host(target, fields).as_deref(), Ok(expected), "{why}");
    }
}

#[test]
fn a_doubtful_host_is_refused() {
    for (target, fields, why) in [
        ("/", &[][..], "no host at all"),
        ("/", &["h", "h"], "two equal fields"),
        ("/", &["h", "i"], "two fields"),
        ("/", &["h,i"], "a list"),
        ("/", &[""], "empty"),
        ("/", &["."], "a dot"),
        ("/", &[":80"], "a port alone"),
        ("/", &["h.."], "two dots"),
        ("/", &["a..b"], "empty label"),
        ("/", &[".a"], "leading dot"),
        ("/", &["h:"], "empty port"),
        ("/", &["h:0"], "port 0"),
        ("/", &["h:+80"], "plus"),
        ("/", &["h:65536"], "port too large"),
        ("/", &["h:99999"], "port too large"),
        ("/", &["h:abc"], "port in letters"),
        ("/", &["h:80:80"], "two ports"),
        ("/", &["h:8 0"], "space in port"),
        ("/", &["a b"], "space"),
        ("/", &[" h\t"], "white space"),
        ("/", &["user@h"], "user information"),
        ("/", &["user:pass@h"], "user information with colon"),
        ("/", &["h/x"], "slash"),
        ("/", &["h?x"], "question mark"),
        ("/", &["h#x"], "number sign"),
        ("/", &["h\\x"], "backslash"),
        ("/", &["h%2ecom"], "escape"),
        ("/", &["exämple.com"], "not ASCII"),
        ("/", &["[::1"], "open bracket"),
        ("/", &["[::1]x"], "text after the bracket"),
        ("/", &["[h]"], "a name in brackets"),
        ("/", &["[fe80::1%25eth0]"], "zone"),
        ("/", &["::1"], "IPv6 without brackets"),
        ("http://evil/api", &["h"], "another host in the target"),
        ("http://h:8080/", &["h"], "port in the target alone"),
        ("http://h/", &["h:81"], "port in Host alone"),
        ("https://h:80/", &["h"], "default port of the other scheme"),
        ("http://h/", &["h", "h"], "two fields beside the target"),
        ("ftp://h/", &["h"], "another scheme"),
        ("http://user@h/", &["h"], "user information in the target"),
        ("http://h:99999/", &["h"], "bad port in the target"),
        ("http://h:abc/", &[], "bad port in the target"),
    ] {
        assert_eq!(
            host(target, fields).map_err(|reject| reject.reason),
            Err(Reason::RequestInvalid),
            "{why}: {target} {fields:?}"
        );
    }
    let long = "a".repeat(254);
    assert!(host("/", &[long.as_str()]).is_err(), "too long");
}

#[test]
fn a_clean_host_is_borrowed() {
    let mut headers = HeaderMap::new();
    headers.append(header::HOST, HeaderValue::from_static("api.example.com:8080"));
    let uri = Uri::from_static("/");
    assert!(matches!(Host::of(&uri, &headers, Version::HTTP_11).unwrap().0, Cow::Borrowed(_)));
}

#[test]
fn patterns_are_parsed_strictly() {
    for (text, expected) in [
        ("*", HostPattern::Any),
        ("API.example.com.", HostPattern::Exact("api.example.com".into())),
        ("*.Example.com", HostPattern::Below("example.com".into())),
        ("[0::1]", HostPattern::Exact("[::1]".into())),
    ] {
        assert_eq!(HostPattern::parse(text), Ok(expected), "{text}");
    }
    for text in [
        "",
        ".",
        "*.",
        "*.*.com",
        "a.*",
        "*a.com",
        "a:80",
        "h/",
        "bücher.example",
        "*.[::1]",
        "a b",
        "user@h",
        "http://h",
    ] {
        assert!(HostPattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_wildcard_covers_whole_labels_and_at_least_one() {
    let pattern = HostPattern::parse("*.example.com").unwrap();
    for (host, expected) in [
        ("a.example.com", true),
        ("a.b.example.com", true),
        ("xn--bcher-kva.example.com", true),
        ("example.com", false),
        (".example.com", false),
        ("aexample.com", false),
        ("example.com.evil", false),
        ("a.example.com.evil", false),
    ] {
        assert_eq!(pattern.matches(host), expected, "{host}");
    }
}

#[test]
fn wider_patterns_are_known() {
    let parse = |text| HostPattern::parse(text).unwrap();
    for (wide, narrow) in [
        ("*", "a.example.com"),
        ("*", "*.example.com"),
        ("*.example.com", "a.example.com"),
        ("*.example.com", "*.a.example.com"),
    ] {
        assert!(parse(wide).is_wider_than(&parse(narrow)), "{wide} {narrow}");
        assert!(!parse(narrow).is_wider_than(&parse(wide)), "{narrow} {wide}");
    }
    for same in ["*", "*.example.com", "example.com"] {
        assert!(!parse(same).is_wider_than(&parse(same)), "{same}");
    }
    assert!(!parse("*.example.com").is_wider_than(&parse("example.com")));
}

#[test]
fn only_http_1_0_may_name_no_host() {
    let (uri, headers) = ("/".parse::<Uri>().unwrap(), HeaderMap::new());
    assert!(Host::of(&uri, &headers, Version::HTTP_10).unwrap().is_absent());
    for version in [Version::HTTP_09, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3] {
        assert!(Host::of(&uri, &headers, version).is_err(), "{version:?}");
    }
    let empty = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(""))]);
    assert!(Host::of(&uri, &empty, Version::HTTP_10).is_err(), "an empty Host is not an absent one");
}
