//! Any key set: it is refused, or it has usable keys that are found again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scopegate::authenticate::Algorithm;
use scopegate::authenticate::keys::{KeySet, MAX_KEYS};

fuzz_target!(|data: &[u8]| {
    if let Ok((keys, warnings)) = KeySet::from_jwks(data, Algorithm::ALL.into_iter().collect()) {
        assert!(!keys.is_empty());
        assert!(keys.len() + warnings.len() <= MAX_KEYS);
        for key in keys.iter() {
            assert!(keys.contains(&key.thumbprint()));
            assert!(!key.verifies(data, &data.to_vec()));
        }
    }
});
