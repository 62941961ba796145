use super::readings::readings;
use super::*;
use proptest::prelude::*;

fn canonical(raw: &str) -> Result<String, Reject> {
    CanonicalPath::parse(raw).map(|path| path.as_str().to_owned())
}

fn doubts(raw: &str) -> String {
    format!("{:?}", CanonicalPath::parse(raw).unwrap().doubts())
}

#[test]
fn clean_paths_are_borrowed() {
    for raw in [
        "/",
        "/a",
        "/a/",
        "/a/b.c/d-e_f~g",
        "/!$&'()*+,=:@",
        "/.well-known/x",
        "/..a",
        "/...a/b",
        "/a%20b",
        "/%C3%A9",
        "/100%25",
        "/a//b",
        "/a;b",
        "/a%2Fb",
    ] {
        let path = CanonicalPath::parse(raw).unwrap();
        assert!(matches!(path.text, Cow::Borrowed(text) if text == raw), "{raw}");
    }
}

#[test]
fn escapes_are_brought_to_one_form() {
    for (raw, expected) in [
        ("/%61pi/%41dmin", "/api/Admin"),
        ("/%7e%2D%5f", "/~-_"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a%3ab", "/a%3Ab"),
        ("/a%20b%2fc", "/a%20b%2Fc"),
        ("/x%2Ey", "/x.y"),
        ("/%25%32%65x", "/%252ex"),
    ] {
        assert_eq!(canonical(raw).as_deref(), Ok(expected), "{raw}");
    }
}

#[test]
fn a_target_that_is_no_absolute_path_is_an_invalid_request() {
    for raw in ["", "*", "admin", "admin/a/b", "?x", "%2Fa", "http:", "\\a"] {
        assert_eq!(canonical(raw).map_err(|reject| reject.reason), Err(Reason::RequestInvalid), "{raw}");
    }
}

#[test]
fn what_two_servers_read_differently_is_refused_always() {
    for raw in [
        // Octets that a path may not hold.
        "/a b",
        "/\u{2}",
        "/\u{7f}",
        "/é",
        "/a\\b",
        "/a|b",
        "/a\"b",
        "/a{b}",
        "/a^b",
        "/a`b",
        "/a<b",
        "/a>b",
        "/a#b",
        "/a?b",
        "/a[b]",
        "/public\\..\\api",
        // Broken escapes.
        "/%",
        "/%1",
        "/a%",
        "/%zz",
        "/%u002e",
        "/%%32%65",
        "/%%36%36",
        "/%2",
        "/%+1",
        "/%-1",
        "/% 1",
        // Escaped controls.
        "/a%00",
        "/%0a",
        "/%0D%0A",
        "/%1f",
        "/%7f",
        "/%09",
        // Overlong forms of ASCII.
        "/%c0%ae",
        "/%c0%af",
        "/%e0%80%af",
        "/%f8%80%80%80%af",
        "/a/%c0%80",
        // What is left once octets are dropped that are not UTF-8.
        "/.%ff.",
        "/%ff.",
        "/%ff./a",
        "/a/%e9%20",
        "/%ff..%2Fx",
        "/%25%ff2e",
        // Octets that are not UTF-8, and escapes that are escaped.
        "/%ff/%252f",
        "/%25ff",
        // Dot segments.
        "/.",
        "/..",
        "/./a",
        "/../a",
        "/a/.",
        "/a/..",
        "/a/./b",
        "/public/../api/admin/x",
        "/%2e",
        "/a/%2e%2e/b",
        "/a/.%2e/b",
        "/a/%2E%2E",
        "/public/.%2E/",
        "/api/admin/%2e",
        "/..;/a",
        "/..;x/a",
        "/.;/a",
        "/..%3bx/a",
        "/a/..%3B",
        "/a/..%2Fb",
        "/a%2F..%2Fb",
        "/a%2f%2e%2e",
        "/..%5capi",
        "/%2e%2e%5capi",
        "/a%5C..",
        "/a/..%3Fx",
        "/a/..%23x",
        // Segments of which some file systems leave nothing.
        "/...",
        "/%20",
        "/a/%20%20/b",
        "/.%20",
        "/%20./a",
        "/..%20/a",
        "/%20;x",
        "/a%2F...",
        // Escapes that are escaped more than once.
        "/%25252e",
        "/a%25252fb",
        "/%2525u002e",
        "/%25%32%35%32%65",
        "/%25%2532%2535%2532%2565",
        "/%252%2565",
        // The same for whoever decodes twice.
        "/%252e",
        "/%252e%252e/a",
        "/%25%32%65",
        "/x/%252e%252e%252fa",
        "/a%252e/b",
        "/a%2520/b",
        "/a%2520",
        "/a%2500",
        "/a%250d%250a",
        "/a%25C0%25AE",
        "/a%2541%252e",
        "/a.%253bx",
        "/a%253b.",
        "/a;.",
    ] {
        assert_eq!(
            canonical(raw).map_err(|reject| (reject.reason, reject.cause.is_some())),
            Err((Reason::PathAmbiguous, true)),
            "{raw}"
        );
    }
}

#[test]
fn doubtful_spellings_wait_for_the_route() {
    for (raw, expected) in [
        ("/a/b", ""),
        ("/a%2Fb", "encoded_slash"),
        ("/a%2fb", "encoded_slash"),
        ("/a%5cb", "encoded_backslash"),
        ("//a", "empty_segments"),
        ("/a//", "empty_segments"),
        ("/a//b%20c", "empty_segments"),
        ("/a;b", "semicolon"),
        ("/a%3bb", "semicolon"),
        ("/a;b/%20c", "semicolon"),
        ("/;/a", "empty_segments, semicolon"),
        ("/%3B/a", "empty_segments, semicolon"),
        ("/a%252eb", "double_encoding"),
        ("/a%252fb", "double_encoding"),
        ("/a%2520b", "double_encoding"),
        ("/%25%32%65x", "double_encoding"),
        ("/%25u002e", "double_encoding"),
        ("/a.", "trailing_dot"),
        ("/a./b", "trailing_dot"),
        ("/api%2e%2e/admin", "trailing_dot"),
        ("/a%20", "trailing_space"),
        ("/api%20/admin", "trailing_space"),
        ("/a.%20", "trailing_dot, trailing_space"),
        ("/a%20.", "trailing_dot, trailing_space"),
        ("/a%20/b.", "trailing_dot, trailing_space"),
        ("/a%20%2Fb", "encoded_slash, trailing_space"),
        ("/a%20;x", "semicolon, trailing_space"),
        ("/admin.;x=1/y", "semicolon, trailing_dot"),
        ("/a;x./y", "semicolon, trailing_dot"),
        ("/a.%5Cb", "encoded_backslash, trailing_dot"),
        ("/a.%3Fb", "trailing_dot"),
        ("/a%20%23", "trailing_space"),
        ("/a.b/c%20d", ""),
        ("/caf%E9", "non_utf8"),
        ("/%ff", "non_utf8"),
        ("/%c3/%a9", "non_utf8"),
        ("/%ed%a0%80", "non_utf8"),
        ("/%f4%90%80%80", "non_utf8"),
        ("/%C0%20la%20carte", "non_utf8"),
        ("/a.%ff", "trailing_dot, non_utf8"),
        ("/a%20%ff/", "trailing_space, non_utf8"),
        ("/100%25", ""),
        ("/100%25/x", ""),
        ("/a%2F%5C//;%2541", "encoded_slash, encoded_backslash, empty_segments, semicolon, double_encoding"),
    ] {
        assert_eq!(doubts(raw), expected, "{raw}");
        let path = CanonicalPath::parse(raw).unwrap();
        assert_eq!(path.allowed_by(PathOptOuts::NONE).is_ok(), expected.is_empty(), "{raw}");
        assert_eq!(path.allowed_by(path.doubts()), Ok(()), "{raw}");
        assert_eq!(path.allowed_by(PathOptOuts::ALL), Ok(()), "{raw}");
    }
}

#[test]
fn one_opt_out_allows_one_spelling() {
    for (raw, name) in [
        ("/a%2Fb", "encoded_slash"),
        ("/a%5Cb", "encoded_backslash"),
        ("/a//b", "empty_segments"),
        ("/a;b", "semicolon"),
        ("/%252ex", "double_encoding"),
        ("/a.", "trailing_dot"),
        ("/a%20/b", "trailing_space"),
        ("/%E9", "non_utf8"),
    ] {
        let path = CanonicalPath::parse(raw).unwrap();
        for other in PathOptOuts::ALL_NAMES {
            let flag = PathOptOuts::from_name(other).unwrap();
            match path.allowed_by(flag) {
                Ok(()) => assert_eq!(other, name, "{raw}"),
                Err(reject) => {
                    assert_ne!(other, name, "{raw}");
                    assert_eq!(reject.reason, Reason::PathAmbiguous);
                    assert!(reject.cause.unwrap().contains(name), "{raw}");
                }
            }
        }
    }
    assert_eq!(PathOptOuts::from_name("letter_case"), None);
    let all: PathOptOuts = PathOptOuts::ALL_NAMES.into_iter().filter_map(PathOptOuts::from_name).collect();
    assert_eq!(all, PathOptOuts::ALL);
}

#[test]
fn readings_are_those_of_laxer_servers() {
    let read = |raw: &str| readings(&CanonicalPath::parse(raw).unwrap()).collect::<Vec<_>>();
    assert_eq!(read("/plain/path%20x"), Vec::<String>::new());
    for (raw, reading) in [
        ("/a%2Fb", "/a/b"),
        ("/a%5Cb", "/a/b"),
        ("//a///b/", "/a/b/"),
        ("/a;x=1/b;y", "/a/b"),
        ("/a%3Bx/b", "/a/b"),
        ("/x%255Ca", "/x/a"),
        ("/a%253Fx", "/a"),
        ("/%2561/b", "/a/b"),
        ("/a%3Fx", "/a"),
        ("/a/b%23x", "/a/b"),
        ("/a%2F/b", "/a/b"),
        ("/a/;/b", "/a/b"),
        ("/a;%5C", "/a"),
        ("/%255C/a;%5C", "/a"),
        ("/a/%3B%255Cb;%5C", "/a/%3B/b"),
        ("/a./b..", "/a/b"),
        ("/a%20/b", "/a/b"),
        ("/a.%20.", "/a"),
        ("/a%20.", "/a%20"),
        ("/a.%2Fb", "/a/b"),
        ("/a.;x/b", "/a/b"),
        ("/a.%3Fx", "/a"),
        ("/caf%E9", "/caf%C3%A9"),
        ("/adm%FFin", "/admin"),
        ("/admin.%FF", "/admin"),
        ("/adm%FFin;x", "/admin"),
        ("/a%2F%FFb", "/a/b"),
    ] {
        assert!(read(raw).contains(&reading.to_owned()), "{raw}: {:?}", read(raw));
    }
}

#[test]
fn decoding_is_done_once() {
    for (segment, expected) in [("a", "a"), ("a%2Fb", "a/b"), ("%252e", "%2e"), ("%C3%A9", "é"), ("", "")] {
        assert_eq!(decode(segment).as_deref(), Some(expected), "{segment}");
    }
    assert_eq!(decode("%FF"), None);
}

/// Text made of the parts that matter.
fn hostile_path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "a", "Admin", "public", ".", "..", "%2e", "%2E", "/", "//", "%2f", "%2F", "%5c", "\\", ";", ";a=b",
        "%3b", "%25", "%", "2", "e", "%61", "%c3%a9", "%c0", "%ff", "%ae", "%20", "+", "~", ":", "%3A",
        "%3f", "%23", "é",
    ]);
    prop::collection::vec(part, 0..12).prop_map(|parts| format!("/{}", parts.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_canonical_path_is_its_own_canonical_form(raw in hostile_path()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            let again = CanonicalPath::parse(path.as_str()).unwrap();
            prop_assert_eq!(&again, &path);
            prop_assert!(matches!(again.text, Cow::Borrowed(_)));
        }
    }

    #[test]
    fn a_canonical_path_decodes_to_what_was_sent(raw in hostile_path()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            prop_assert_eq!(decode(path.as_str()), decode(&raw));
        }
    }

    #[test]
    fn no_text_is_beyond_the_parser(raw in any::<String>()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            prop_assert!(path.as_str().starts_with('/') && path.as_str().is_ascii());
            for _ in readings(&path) {}
        }
    }

    #[test]
    fn an_accepted_path_has_no_dot_segment_however_often_it_is_split(raw in hostile_path()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            let octets = percent_encoding::percent_decode_str(path.as_str()).collect::<Vec<u8>>();
            let dropped: String = octets.utf8_chunks().map(|chunk| chunk.valid()).collect();
            for decoded in [String::from_utf8_lossy(&octets).into_owned(), dropped] {
                for segment in decoded.split(['/', '\\', ';']) {
                    prop_assert!(segment.is_empty() || !segment.trim_matches(['.', ' ']).is_empty(), "{} in {}", segment, raw);
                }
            }
        }
    }
}
