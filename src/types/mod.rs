//! Nouns of the gateway as types that are parsed once and never checked again.

mod body_signal;
mod checks;
pub mod field_names;
mod index;
mod key_pin;
mod names;
mod networks;
mod quoted;
mod raw_query;
mod secret;
mod shared;
mod timestamp;

pub use body_signal::BodySignal;
pub use checks::{Check, CheckResult, Checks, Outcome};
pub use index::{IssuerIndex, RouteIndex, UpstreamIndex};
pub use key_pin::{KeyPin, NotAPin};
pub use names::{Audience, Issuer, IssuerName, Owner, RouteId, Scope, UpstreamName};
pub use networks::Networks;
pub use quoted::{Quoted, quoted_list};
pub use raw_query::RawQuery;
pub use secret::Secret;
pub use shared::Shared;
pub use timestamp::Timestamp;
