//! Nouns of the gateway as types that are parsed once and never checked again.

mod checks;
mod index;
mod names;
mod secret;
mod shared;
mod timestamp;

pub use checks::{Check, CheckResult, Checks, Outcome};
pub use index::{IssuerIndex, RouteIndex, UpstreamIndex};
pub use names::{Audience, Issuer, IssuerName, Owner, RouteId, Scope, UpstreamName};
pub use secret::Secret;
pub use shared::Shared;
pub use timestamp::Timestamp;
