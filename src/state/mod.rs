//! What outlives a snapshot: keys, addresses, TLS settings, token facts.

pub mod tls;
pub mod upstream;
