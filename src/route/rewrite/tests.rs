use super::*;
use proptest::prelude::*;

fn apply(strip: Option<&str>, add: Option<&str>, target: &str) -> Result<Target, Reject> {
    let uri: Uri = target.parse().unwrap();
    let path = CanonicalPath::parse(uri.path()).unwrap();
    Rewrite::new(strip, add).unwrap().apply(&path, &uri)
}

fn rewritten(target: &str) -> Result<Target, Reject> {
    Ok(Target::Rewritten(PathAndQuery::try_from(target).unwrap()))
}

#[test]
fn a_canonical_target_is_sent_as_it_came() {
    for target in ["/", "/a/b", "/a?", "/a?x=%2e%2E&y=a|b", "/a%20b?q", "/a%2Fb", "http://h/a?b", "http://h"]
    {
        assert_eq!(apply(None, None, target), Ok(Target::Unchanged), "{target}");
    }
}

#[test]
fn what_is_sent_is_the_canonical_path() {
    for (target, expected) in
        [("/%61", "/a"), ("/%61?", "/a?"), ("/a%c3%a9?x=%c3", "/a%C3%A9?x=%c3"), ("http://h?x", "/?x")]
    {
        assert_eq!(apply(None, None, target), rewritten(expected), "{target}");
    }
}

#[test]
fn prefixes_are_whole_segments() {
    for (strip, add, target, expected) in [
        (Some("/v1"), None, "/v1/x?q=/v1", "/x?q=/v1"),
        (Some("/v1"), None, "/v1", "/"),
        (Some("/v1"), None, "/v1/", "/"),
        (Some("/v1/"), None, "/v1/x", "/x"),
        (Some("/v1/a"), None, "/v1/a/b/", "/b/"),
        (Some("/v1"), None, "/%76%31/x", "/x"),
        (Some("/a:b"), None, "/a%3ab/x", "/x"),
        (Some("/"), None, "/x/y", "/x/y"),
        (None, Some("/in"), "/x", "/in/x"),
        (None, Some("/in/"), "/", "/in/"),
        (Some("/v1"), Some("/in/ner"), "/v1/x", "/in/ner/x"),
        (Some("/v1"), Some("/in"), "/v1", "/in"),
        (Some("/v1"), Some("/in"), "/v1/", "/in/"),
        (Some("/v1"), None, "/v1/a//b", "/a//b"),
        (None, Some("/in"), "//x", "/in//x"),
    ] {
        let result = apply(strip, add, target);
        let unchanged = result == Ok(Target::Unchanged) && target == expected;
        assert!(unchanged || result == rewritten(expected), "{strip:?} {add:?} {target}: {result:?}");
    }
}

#[test]
fn a_path_without_the_prefix_is_never_sent() {
    for target in ["/v1x", "/v", "/", "/v2/x", "/V1/x", "/x/v1"] {
        let reject = apply(Some("/v1"), None, target).unwrap_err();
        assert_eq!(reject.reason, Reason::Internal, "{target}");
    }
}

#[test]
fn a_rewrite_makes_no_authority_of_a_path() {
    for target in ["/v1//evil.com/x", "/v1//"] {
        let reject = apply(Some("/v1"), None, target).unwrap_err();
        assert_eq!(reject.reason, Reason::PathAmbiguous, "{target}");
    }
}

#[test]
fn prefixes_are_parsed_strictly() {
    for prefix in
        ["", "v1", "/v1/..", "/a//b", "//", "/a;b", "/a%2Fb", "/a?b", "/a#b", "/{x}", "/a b", "/a%00"]
    {
        for (strip, add, key) in [(Some(prefix), None, "strip_prefix"), (None, Some(prefix), "add_prefix")] {
            let wrong = Rewrite::new(strip, add).unwrap_err();
            assert!(wrong.starts_with(key), "{prefix}: {wrong}");
        }
    }
    assert_eq!(Rewrite::new(Some("/"), Some("/")), Ok(Rewrite::default()));
}

#[test]
fn a_prefix_fits_the_literal_start_of_a_pattern() {
    for (prefix, pattern, expected) in [
        ("/v1", "/v1", true),
        ("/v1", "/v1/", true),
        ("/v1", "/v1/{*rest}", true),
        ("/v1/a", "/v1/a/{id}", true),
        ("/a%3Ab", "/a:b/{id}", true),
        ("/v1", "/v1x", false),
        ("/v1", "/{*rest}", false),
        ("/v1", "/{version}/x", false),
        ("/v1/a", "/v1/{x}", false),
        ("/v1/a", "/v1", false),
        ("/v1", "/V1", false),
    ] {
        let rewrite = Rewrite::new(Some(prefix), None).unwrap();
        let pattern = PathPattern::parse(pattern).unwrap();
        assert_eq!(rewrite.fits(&pattern), expected, "{prefix} {pattern}");
    }
    assert!(Rewrite::default().fits(&PathPattern::parse("/{*rest}").unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn a_rewritten_path_stays_below_its_prefix(
        parts in prop::collection::vec(
            prop::sample::select(vec!["a", "..", "%2e", "/", "//", "%2f", "%5c", ";", "%61", "%25", "2e", "%20", "v1"]),
            0..10,
        ),
        strips in any::<bool>(),
    ) {
        let raw = format!("/v1/{}?q=1", parts.concat());
        let uri: Uri = raw.parse().unwrap();
        if let Ok(path) = CanonicalPath::parse(uri.path()) {
            let rewrite = Rewrite::new(strips.then_some("/v1"), Some("/in/ner")).unwrap();
            match rewrite.apply(&path, &uri) {
                Ok(Target::Rewritten(target)) => {
                    prop_assert!(target.path() == "/in/ner" || target.path().starts_with("/in/ner/"));
                    prop_assert_eq!(target.query(), Some("q=1"));
                    let again = CanonicalPath::parse(target.path()).unwrap();
                    prop_assert_eq!(again.as_str(), target.path());
                    let decoded = decode(target.path()).unwrap().into_owned();
                    prop_assert!(decoded.split(['/', '\\']).all(|segment| segment != ".."));
                }
                Ok(Target::Unchanged) => prop_assert!(false, "a prefix was to be added"),
                Err(reject) => prop_assert_eq!(reject.reason, Reason::PathAmbiguous),
            }
        }
    }
}

proptest! {
    #[test]
    fn inverse_leads_back_to_the_same_path(rest in "(/[a-z0-9%. ]{0,5}){0,3}", strips: bool, adds: bool) {
        let rewrite = Rewrite::new(strips.then_some("/v1"), adds.then_some("/in/ner")).unwrap();
        let public = if strips { format!("/v1{rest}") } else { rest };
        let parsed = public.parse::<Uri>();
        if let (Ok(uri), Ok(path)) = (parsed, CanonicalPath::parse(&public)) {
            let sent = match rewrite.apply(&path, &uri) {
                Ok(Target::Rewritten(target)) => target.path().to_owned(),
                Ok(Target::Unchanged) => path.as_str().to_owned(),
                Err(_) => return Ok(()),
            };
            let back = rewrite.invert(&sent);
            // `/v1` and `/v1/` are two paths, of which both are sent as `/`.
            let slash = format!("{}/", path.as_str());
            prop_assert!(back.as_deref() == Some(path.as_str()) || back.as_deref() == Some(&*slash), "{back:?}");
        }
    }
}
