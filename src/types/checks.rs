//! What was checked on the way to a decision, in the order it was checked.

use smallvec::SmallVec;

use crate::reject::Reason;

/// One thing a decision looks at. The order of the variants is the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Check {
    /// The route matched host, path and method.
    Route,
    /// Exactly one bearer credential came in the header (RFC 6750 §2).
    Credential,
    /// The token is a compact JWS of allowed size, strictly encoded (RFC 7515 §7.1).
    TokenFormat,
    /// The `iss` claim names a configured issuer (RFC 8725 §3.8).
    Issuer,
    /// The `typ` header is one the issuer may use (RFC 9068 §4).
    TokenType,
    /// The `alg` header is on the issuer's allow-list (RFC 8725 §3.1).
    Algorithm,
    /// The issuer has a usable key for (`kid`, `alg`, `kty`).
    Key,
    /// The signature verifies.
    Signature,
    /// Claims are present and of the right type (RFC 9068 §2.2).
    Claims,
    /// `exp`, `nbf`, `iat` and the issuer's `max_lifetime` hold now (RFC 7519 §4.1.4 – §4.1.6).
    Lifetime,
    /// The route accepts this issuer.
    RouteIssuer,
    /// The token is meant for this route's audience (RFC 9068 §4).
    Audience,
    /// The token was issued recently enough for this route.
    TokenAge,
    /// The token carries the scopes this route needs (RFC 6750 §3.1).
    Scope,
    /// The client is on the route's allow-list.
    Client,
    /// The subject is on the route's allow-list.
    Subject,
    /// The token belongs to the tenant this request is about.
    Tenant,
    /// The claims satisfy the route's rules.
    ClaimRules,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It held.
    Passed,
    /// It held when this same token was first seen, and its facts are still valid.
    Remembered,
    /// It failed and decided the request.
    Failed(Reason),
    /// It failed, but the route is in shadow mode: recorded and let through.
    Shadowed(Reason),
}

/// A check with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// What was looked at.
    pub check: Check,
    /// How it ended.
    pub outcome: Outcome,
}

/// The checks of one decision. Kept on the stack: a decision allocates nothing for it.
#[derive(Clone, Debug, Default)]
pub struct Checks(SmallVec<[CheckResult; 20]>);

impl Checks {
    /// Adds a check that held.
    pub fn passed(&mut self, check: Check) {
        self.push(check, Outcome::Passed);
    }

    /// Adds a check with its outcome.
    pub fn push(&mut self, check: Check, outcome: Outcome) {
        self.0.push(CheckResult { check, outcome });
    }

    /// The checks in the order they were made.
    pub fn iter(&self) -> impl Iterator<Item = CheckResult> + '_ {
        self.0.iter().copied()
    }
}
