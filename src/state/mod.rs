//! What outlives a snapshot.

pub mod clock;
pub mod issuer;
pub mod token_cache;
