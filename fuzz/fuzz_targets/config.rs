//! Any bytes as a policy, and what is left of it where it is cut off.
//!
//! 1. It is read to the end without a panic; a refusal says why.
//! 2. To a foreign reader of YAML it has as many routes, and those are open, one by one, that say `public: true`.
//! 3. A cut policy that counts as complete protects every route as the whole one does. One that does not is told from it
//!    by a warning. It has no more routes, and each that is open is open in the whole one too.
#![no_main]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use scopegate::config::{self, ConfigErrors, Loaded};
use scopegate::snapshot::{Access, Snapshot};
use serde_yaml::Value;

fuzz_target!(|bytes: &[u8]| {
    let whole = match parse(bytes) {
        Err(errors) => return assert!(!errors.0.is_empty(), "a refusal says why"),
        Ok(whole) => protections(&whole.snapshot),
    };
    let open: Vec<bool> = whole.iter().map(|(_, access)| access == PUBLIC).collect();
    if let Some(said) = said_public(bytes) {
        assert_eq!(open, said, "which routes are open, and which say so");
    }

    for end in cuts(bytes) {
        let Ok(cut) = parse(&bytes[..end]) else { continue };
        let left = protections(&cut.snapshot);
        if cut.complete {
            assert_eq!(left, whole, "cut off at {end}, it counts as complete");
            continue;
        }
        assert!(!cut.warnings.is_empty(), "cut off at {end} and nobody is told");
        // What is before the cut is as it was, so a route has the place that it has in the whole policy. Names and paths
        // may be cut short, but no route becomes open.
        assert!(left.len() <= whole.len(), "cut off at {end}, there are more routes");
        for (place, ((id, access), open)) in left.iter().zip(&open).enumerate() {
            assert!(access != PUBLIC || *open, "cut off at {end}, route {place} ({id}) is open");
        }
    }
});

const PUBLIC: &str = "public";

fn parse(bytes: &[u8]) -> Result<Loaded, ConfigErrors> {
    // No variables and no folder: what is fuzzed is the text.
    config::parse(
        "fuzz.yaml",
        bytes,
        Path::new("/nonexistent"),
        &|_| None,
        scopegate::types::Timestamp(1_800_000_000),
    )
}

/// The id of each route and what protects it, as text, in the order of the policy.
fn protections(snapshot: &Snapshot) -> Vec<(String, String)> {
    let routes = snapshot.routes.iter().map(|route| {
        let access = match &route.access {
            Access::Public => PUBLIC.to_owned(),
            Access::Protected(requirement) => format!("{requirement:?}"),
        };
        (route.id.to_string(), access)
    });
    routes.collect()
}

/// Whether each route says that it is public, as libyaml reads it; `None` for what that does not take.
fn said_public(bytes: &[u8]) -> Option<Vec<bool>> {
    let policy: Value = serde_yaml::from_slice(bytes).ok()?;
    let Some(routes) = policy.get("routes").and_then(Value::as_sequence) else { return Some(Vec::new()) };
    Some(routes.iter().map(|route| route.get("public") == Some(&Value::Bool(true))).collect())
}

/// Where the policy is cut: behind everything that may be its end, behind some lines, where what is left most often is a
/// policy too, and at some other place.
fn cuts(bytes: &[u8]) -> Vec<usize> {
    let ends = bytes.windows(3).enumerate().filter(|(_, word)| word == b"...").map(|(at, _)| at + 3);
    let mut cuts: Vec<usize> =
        ends.flat_map(|end| [end, end + 1]).filter(|end| *end < bytes.len()).take(8).collect();
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let chance = hasher.finish();
    cuts.push((chance % (bytes.len() as u64 + 1)) as usize);
    let lines: Vec<usize> =
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    // The lower half of the lines is that of the routes.
    let lower = &lines[lines.len() / 2..];
    cuts.extend((0..4).filter_map(|turn| lower.get((chance >> (16 * turn)) as usize % lower.len().max(1))));
    cuts
}
