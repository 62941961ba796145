//! A compact JWS, taken apart and verified.

use super::{Issuers, Knowledge, Stop, TokenFacts};
use crate::types::{Check, Checks, IssuerIndex};

/// The checks made here, in their order.
pub const CHECKS: [Check; 7] = [
    Check::TokenFormat,
    Check::TokenType,
    Check::Algorithm,
    Check::Issuer,
    Check::Key,
    Check::Signature,
    Check::Claims,
];

/// Verifies a token that was not seen before.
///
/// # Errors
///
/// A [`Stop`].
pub fn verify<K: Knowledge>(
    token: &str,
    issuers: &Issuers,
    knowledge: &K,
    checks: &mut Checks,
) -> Result<(IssuerIndex, TokenFacts), Stop> {
    let _ = (token, issuers, knowledge, checks);
    todo!()
}
