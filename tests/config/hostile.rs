//! Cut off, mangled and hostile files: an error, in bounded time and memory, never a policy with less protection.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use scopegate::snapshot::{Access, Snapshot};

use crate::{DEMO, GOOD, parse};

/// What protects each route, as text: equal text is equal protection.
fn protections(snapshot: &Snapshot) -> HashMap<String, String> {
    let of = |access: &Access| match access {
        Access::Public => "public".to_owned(),
        Access::Protected(requirement) => format!("{requirement:?}"),
    };
    snapshot.routes.iter().map(|route| (route.id.to_string(), of(&route.access))).collect()
}

#[test]
fn no_prefix_of_a_policy_is_complete_with_less_in_it() {
    for (name, text) in [("demo", DEMO), ("test", GOOD)] {
        let whole = protections(&parse(text).unwrap().snapshot);
        let mut loaded_cut = 0;
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            let Ok(loaded) = parse(&text[..end]) else { continue };
            if loaded.complete {
                assert_eq!(
                    protections(&loaded.snapshot),
                    whole,
                    "{name} cut at byte {end} counts as complete"
                );
            } else {
                loaded_cut += 1;
            }
        }
        assert!(loaded_cut > 0, "{name}: some prefixes are valid YAML, which is why the marker is needed");
    }
}

#[test]
fn a_cut_within_a_route_is_refused_or_leaves_the_routes_before_it_as_they_were() {
    let whole = protections(&parse(DEMO).unwrap().snapshot);
    for end in (0..DEMO.len()).filter(|end| DEMO.is_char_boundary(*end)) {
        let Ok(loaded) = parse(&DEMO[..end]) else { continue };
        for (id, protection) in protections(&loaded.snapshot) {
            // A cut value or a missing later rule is possible; a route that has become public is not.
            assert_eq!(
                protection == "public",
                whole.get(&id).is_some_and(|p| p == "public"),
                "{id} at byte {end}"
            );
        }
    }
}

#[test]
fn files_that_are_no_policy_are_refused() {
    let utf16: Vec<u8> = GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("only a comment", b"# nothing\n".to_vec()),
        ("only a marker", b"---\n".to_vec()),
        ("only an end", b"...\n".to_vec()),
        ("null", b"null\n...\n".to_vec()),
        ("a list", b"[]\n...\n".to_vec()),
        ("text", b"hello\n".to_vec()),
        ("byte order mark", [b"\xEF\xBB\xBF", GOOD.as_bytes()].concat()),
        // A reader of YAML 1.1 takes what is behind it for the next line.
        ("line separator", GOOD.replacen('\n', " #\u{2028}\n", 1).into_bytes()),
        ("paragraph separator", GOOD.replacen('\n', " #\u{2029}\n", 1).into_bytes()),
        ("utf-16", utf16),
        ("latin-1", GOOD.replace("iam@", "i\u{e4}m@").chars().map(|c| c as u8).collect()),
        ("nul", GOOD.replace("...", "\0...").into_bytes()),
        ("binary", (0..=255).collect()),
        ("two documents", [GOOD, GOOD].concat().replace("...\n", "---\n").into_bytes()),
    ];
    for (name, bytes) in rows {
        let result = scopegate::config::parse("p", &bytes, std::path::Path::new(""), &|_| None, crate::NOW);
        assert!(result.is_err(), "{name} was accepted");
    }
}

#[test]
fn line_ends_of_windows_change_nothing() {
    let loaded = parse(&GOOD.replace('\n', "\r\n")).unwrap();
    assert!(loaded.complete);
    assert_eq!(protections(&loaded.snapshot), protections(&parse(GOOD).unwrap().snapshot));
}

#[test]
fn bombs_are_refused_quickly() {
    let mut laughs = String::from("a0: &a0 [lol, lol]\n");
    for level in 1..10 {
        let refs = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(laughs, "a{level}: &a{level} [{refs}]").unwrap();
    }
    let rows = [
        ("billion laughs", laughs),
        ("self reference", "a: &a [*a]\n".to_owned()),
        ("aliases", format!("a: &a 1\nb: [{}]\n", "*a, ".repeat(50_000))),
        ("deep flow", "[".repeat(100_000)),
        ("deep flow maps", "{a: ".repeat(100_000)),
        ("deep block", (0..2_000).map(|i| format!("{}a:\n", " ".repeat(i))).collect()),
        (
            "many errors",
            format!("version: 1\n{}", (0..100_000).map(|i| format!("k{i}: 1\n")).collect::<String>()),
        ),
        ("same key", "k: 1\n".repeat(50_000)),
    ];
    for (name, text) in rows {
        let start = Instant::now();
        let errors = parse(&text).expect_err(name);
        assert!(errors.0.len() <= 1002, "{name}: {} diagnostics", errors.0.len());
        assert!(start.elapsed() < Duration::from_secs(20), "{name} took {:?}", start.elapsed());
    }
}

#[test]
fn a_hundred_thousand_routes_load() {
    let (head, _) = GOOD.split_once("routes:\n").unwrap();
    let mut text = format!("{head}routes:\n");
    for i in 0..100_000 {
        write!(
            text,
            "  - id: r{i}\n    match: {{ host: api.example.com, path: '/r{i}/{{id}}', methods: [GET] }}\n    require: {{ issuers: [corp], audience: 'https://api.example.com', scopes: [s{i}] }}\n    upstream: orders\n"
        )
        .unwrap();
    }
    text.push_str("...\n");
    let snapshot = parse(&text).unwrap_or_else(|e| panic!("{}", e.0[0])).snapshot;
    assert_eq!(snapshot.routes.len(), 100_000);
    let path = scopegate::route::path::CanonicalPath::parse("/r77777/x").unwrap();
    let found = snapshot.table.find("api.example.com", &path, &http::Method::GET).unwrap();
    assert_eq!(snapshot.route(found.route).unwrap().id.as_str(), "r77777");
}

#[test]
fn what_stands_in_messages_cannot_forge_lines() {
    let errors =
        parse(&GOOD.replace("  - id: status", "  - \"a\\nb\\e[2J\": 1\n    id: status")).unwrap_err();
    assert_eq!(errors.to_string().lines().count(), errors.0.len(), "{errors}");
    assert!(!errors.to_string().contains('\u{1b}'));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever becomes of the file, reading it ends with a policy or with errors.
    #[test]
    fn mutations_never_panic(edits in prop::collection::vec((0..DEMO.len(), 0usize..12, "[ -~\n\t\u{e4}]{0,6}"), 1..6)) {
        let mut text: Vec<char> = DEMO.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.min(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(errors) = parse(&text) {
            prop_assert!(!errors.0.is_empty());
        }
    }

    /// Bytes of any kind.
    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let result = scopegate::config::parse("p", &bytes, std::path::Path::new(""), &|_| None, crate::NOW);
        prop_assert!(result.is_err());
    }

    /// A file that loads is a file in which every route says how it is protected.
    #[test]
    fn a_removed_line_never_opens_a_route(line in 0..DEMO.lines().count()) {
        let text: String = DEMO.lines().enumerate().filter(|(i, _)| *i != line).map(|(_, l)| format!("{l}\n")).collect();
        if let Ok(loaded) = parse(&text) {
            for (id, protection) in protections(&loaded.snapshot) {
                prop_assert!(protection != "public" || id == "status", "{} is public without line {}", id, line + 1);
            }
        }
    }
}
