//! Verification keys of an issuer, parsed once.

/// The usable keys of one JWK Set.
#[derive(Debug)]
pub struct KeySet {}
