//! What outlives a snapshot: keys, addresses, TLS settings, token facts. A cell is carried over to the next snapshot while
//! its own configuration is unchanged.

pub mod admission;
pub mod clock;
pub mod connect_health;
pub mod issuer;
pub mod live;
mod pinned;
pub mod tls;
pub mod token_cache;
pub mod trust;
pub mod upstream;
