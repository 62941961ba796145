//! Any bytes as a policy: read to the end without a panic, and no route is open that does not say so.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use scopegate::config;
use scopegate::snapshot::Access;

fuzz_target!(|bytes: &[u8]| {
    // No variables and no folder: what is fuzzed is the text.
    match config::parse("fuzz.yaml", bytes, Path::new("/nonexistent"), &|_| None) {
        Err(errors) => assert!(!errors.0.is_empty(), "a refusal says why"),
        Ok(loaded) => {
            let open = loaded.snapshot.routes.iter().filter(|route| matches!(route.access, Access::Public));
            let said = bytes.windows(6).filter(|word| word == b"public").count();
            assert!(open.count() <= said, "a route is open and nobody said so");
        }
    }
});
