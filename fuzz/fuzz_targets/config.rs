//! Any bytes as a policy, and what is left of it where it is cut off.
//!
//! 1. It is read to the end without a panic; a refusal says why; no route is open that does not say so.
//! 2. A cut policy that counts as complete protects every route as the whole one does. One that does not is told from it
//!    by a warning, and has no more open routes.
#![no_main]

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use scopegate::config::{self, ConfigErrors, Loaded};
use scopegate::snapshot::{Access, Snapshot};

fuzz_target!(|bytes: &[u8]| {
    let whole = match parse(bytes) {
        Err(errors) => return assert!(!errors.0.is_empty(), "a refusal says why"),
        Ok(whole) => protections(&whole.snapshot),
    };
    let open = whole.values().filter(|access| *access == PUBLIC).count();
    let said = bytes.windows(6).filter(|word| word == b"public").count();
    assert!(open <= said, "a route is open and nobody said so");

    for end in cuts(bytes) {
        let Ok(cut) = parse(&bytes[..end]) else { continue };
        let left = protections(&cut.snapshot);
        if cut.complete {
            assert_eq!(left, whole, "cut off at {end}, it counts as complete");
            continue;
        }
        assert!(!cut.warnings.is_empty(), "cut off at {end} and nobody is told");
        // Names and paths may be cut short, but no route becomes open.
        let opened = left.values().filter(|access| *access == PUBLIC).count();
        assert!(opened <= open, "cut off at {end}, {opened} instead of {open} routes are open");
    }
});

const PUBLIC: &str = "public";

fn parse(bytes: &[u8]) -> Result<Loaded, ConfigErrors> {
    // No variables and no folder: what is fuzzed is the text.
    config::parse("fuzz.yaml", bytes, Path::new("/nonexistent"), &|_| None)
}

/// What protects each route, as text.
fn protections(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let routes = snapshot.routes.iter().map(|route| {
        let access = match &route.access {
            Access::Public => PUBLIC.to_owned(),
            Access::Protected(requirement) => format!("{requirement:?}"),
        };
        (route.id.to_string(), access)
    });
    routes.collect()
}

/// Where the policy is cut: behind everything that may be its end, and at some other place.
fn cuts(bytes: &[u8]) -> Vec<usize> {
    let ends = bytes.windows(3).enumerate().filter(|(_, word)| word == b"...").map(|(at, _)| at + 3);
    let mut cuts: Vec<usize> =
        ends.flat_map(|end| [end, end + 1]).filter(|end| *end < bytes.len()).take(8).collect();
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    cuts.push((hasher.finish() % (bytes.len() as u64 + 1)) as usize);
    cuts
}
