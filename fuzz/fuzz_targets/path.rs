//! Any text as a path: a canonical path is its own canonical form, matches what it is sent as, and a rewrite of it stays
//! below its prefix.
#![no_main]

use http::{Method, Uri};
use libfuzzer_sys::fuzz_target;
use scopegate::route::path::{CanonicalPath, PathOptOuts};
use scopegate::route::rewrite::{Rewrite, Target};
use scopegate::route::table::{Methods, PathPattern, RouteSpec, RouteTable};
use scopegate::types::RouteIndex;

fuzz_target!(|raw: &str| {
    let _ = PathPattern::parse(raw);
    let _ = Rewrite::new(Some(raw), Some(raw));
    let Ok(path) = CanonicalPath::parse(raw) else {
        return;
    };
    let again = CanonicalPath::parse(path.as_str()).expect("a canonical path is accepted");
    assert_eq!(again, path, "a canonical path is its own canonical form");

    let table = table();
    let _ = table.find("h", &path, &Method::GET);

    let Ok(uri) = raw.parse::<Uri>() else { return };
    let rewrite = Rewrite::new(None, Some("/in/ner")).expect("a plain prefix");
    if let Ok(Target::Rewritten(target)) = rewrite.apply(&path, &uri) {
        assert!(
            target.path().starts_with("/in/ner/"),
            "a rewrite stays below its prefix"
        );
    }
});

fn table() -> RouteTable {
    let paths = [
        "/public/{*rest}",
        "/api/{*rest}",
        "/api/admin/{*rest}",
        "/api/{id}/x",
    ];
    let specs = (0..).zip(paths).map(|(i, path)| RouteSpec {
        index: RouteIndex(i),
        hosts: Vec::new(),
        path: PathPattern::parse(path).expect("a plain pattern"),
        methods: Methods::any(),
        opt_outs: PathOptOuts::ALL,
    });
    RouteTable::build(&specs.collect::<Vec<_>>()).expect("no two routes are equal")
}
