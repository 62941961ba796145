//! Any key set. The first octet chooses the algorithms that the issuer may use; what follows is the set.
//!
//! It is refused, or it has usable keys: they are found again under their thumbprint and only for their own algorithm, no
//! key is for an algorithm that is not allowed, and reading the set twice gives the same keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scopegate::authenticate::keys::{KeySet, MAX_KEYS};
use scopegate::authenticate::{Algorithm, AlgorithmSet};

fuzz_target!(|data: &[u8]| {
    let Some((bits, document)) = data.split_first() else { return };
    // Spread over nine algorithms; `*` (0x2a) and most letters allow several, `@` (0x40) only one.
    let allowed = |i: usize| if i < 8 { bits >> i & 1 == 1 } else { bits & 1 == 0 };
    let all = Algorithm::ALL.into_iter().enumerate();
    let allowed: AlgorithmSet = all.filter(|(i, _)| allowed(*i)).map(|(_, algorithm)| algorithm).collect();
    let Ok((keys, warnings)) = KeySet::from_jwks(document, allowed) else { return };
    assert!(!keys.is_empty());
    assert!(keys.len() + warnings.len() <= MAX_KEYS);
    for key in keys.iter() {
        assert!(keys.contains(&key.thumbprint()));
        assert!(!key.verifies(document, &document.to_vec()));
    }
    for algorithm in Algorithm::ALL {
        assert!(allowed.contains(algorithm) || keys.find(None, algorithm).next().is_none(), "{algorithm:?}");
    }
    let (again, _) = KeySet::from_jwks(document, allowed).expect("it was accepted before");
    assert!(keys.iter().map(|key| key.thumbprint()).eq(again.iter().map(|key| key.thumbprint())));
});
