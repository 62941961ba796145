//! Any text as a path. The first octet chooses which doubtful spellings the routes take (one for each bit), the second
//! how they rewrite; what follows is the path.
//!
//! 1. A canonical path is its own canonical form.
//! 2. What is sent is what was matched: the canonical path, or the route's rewrite of it; the query byte for byte.
//! 3. However a lax server reads what is sent ([`paths::readings`]), it is not for a route that asks for more, and it stays
//!    below a prefix that the route adds.
#![no_main]

use std::sync::LazyLock;

use http::{Method, Uri};
use libfuzzer_sys::fuzz_target;
use scopegate::route::path::{CanonicalPath, PathOptOuts};
use scopegate::route::rewrite::{Rewrite, Target};
use scopegate::route::table::{Methods, PathPattern, RouteSpec, RouteTable};
use scopegate::types::RouteIndex;
use scopegate_fuzz::paths;

/// The routes; each asks for more than the one before it.
const ROUTES: [&str; 4] = ["/public/{*rest}", "/api/{*rest}", "/api/admin/{*rest}", "/api/{id}/secret"];
/// What some of them put in front.
const PREFIX: &str = "/in/ner";

/// A table for each set of opt-outs.
static TABLES: LazyLock<Vec<RouteTable>> =
    LazyLock::new(|| (0..=u8::MAX).map(|bits| table(opt_outs(bits))).collect());

fuzz_target!(init: paths::see_attacks(), |data: &[u8]| {
    let [bits, change, raw @ ..] = data else { return };
    let Ok(raw) = std::str::from_utf8(raw) else { return };
    let _ = PathPattern::parse(raw);
    let _ = Rewrite::new(Some(raw), Some(raw));
    let (raw_path, query) = raw.split_once('?').map_or((raw, None), |(path, query)| (path, Some(query)));
    let Ok(path) = CanonicalPath::parse(raw_path) else { return };
    let again = CanonicalPath::parse(path.as_str()).expect("a canonical path is accepted");
    assert_eq!(again, path, "a canonical path is its own canonical form");

    let Ok(uri) = raw.parse::<Uri>() else { return };
    let Ok(found) = TABLES[usize::from(*bits)].find("h", &path, &Method::GET) else { return };
    if path.allowed_by(opt_outs(*bits)).is_err() {
        return;
    }
    let (strip, add) = match (change & 3, found.route.0) {
        (1, _) => (None, Some(PREFIX)),
        (2, 1..) => (Some("/api"), None),
        (3, 1..) => (Some("/api"), Some(PREFIX)),
        _ => (None, None),
    };
    let Ok(target) = Rewrite::new(strip, add).expect("plain prefixes").apply(&path, &uri) else { return };
    let sent = match &target {
        Target::Unchanged => uri.path_and_query().expect("a target that is sent as it is"),
        Target::Rewritten(rewritten) => rewritten,
    };
    assert_eq!(sent.query(), uri.query(), "the query goes on as it came");
    assert_eq!(uri.query(), query.map(|query| query.split('#').next().unwrap_or_default()));

    let matched = path.as_str();
    let rest = if strip.is_some() { &matched["/api".len()..] } else { matched };
    let expected = [add.unwrap_or_default(), rest].concat();
    assert_eq!(sent.path(), if expected.is_empty() { "/" } else { &expected }, "what was matched is sent");

    for reading in paths::readings(matched) {
        if let Some(route) = strictest(&reading) {
            assert!(route <= found.route.0, "{matched} was served by route {}, but is {reading}", found.route.0);
        }
    }
    if add.is_some() {
        for reading in paths::readings(sent.path()) {
            let below = reading.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            assert!(below, "{} is {reading}, which is not below {PREFIX}", sent.path());
        }
    }
});

fn opt_outs(bits: u8) -> PathOptOuts {
    let names = PathOptOuts::ALL_NAMES.into_iter().enumerate();
    names.filter(|(i, _)| bits >> i & 1 == 1).filter_map(|(_, name)| PathOptOuts::from_name(name)).collect()
}

fn table(opt_outs: PathOptOuts) -> RouteTable {
    let specs = (0..).zip(ROUTES).map(|(i, path)| RouteSpec {
        access: Default::default(),
        index: RouteIndex(i),
        hosts: Vec::new(),
        path: PathPattern::parse(path).expect("a plain pattern"),
        methods: Methods::any(),
        opt_outs,
    });
    RouteTable::build(&specs.collect::<Vec<_>>()).expect("no two routes are equal")
}

/// The route that asks for the most among those that a server with the same routes may take for this reading: one that
/// looks at letter case, or one that does not.
fn strictest(reading: &str) -> Option<u32> {
    let exact = route_of(reading);
    exact.max(route_of(&reading.to_ascii_lowercase()))
}

fn route_of(path: &str) -> Option<u32> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["public", _, ..] => Some(0),
        ["api", "admin", _, ..] => Some(2),
        ["api", id, "secret"] if !id.is_empty() => Some(3),
        ["api", _, ..] => Some(1),
        _ => None,
    }
}
