//! Who is calling: from the request's header to a [`Principal`].
//!
//! The contract, in the order it is kept (RFC 6750 §2 – §3, RFC 7515, RFC 7519, RFC 8725, RFC 9068 §4):
//!
//! 1. Exactly one credential in a place that the route reads ([`credential`]): `Authorization: Bearer` ([`bearer`]) or the
//!    `token_header` of an issuer. None is `credential_missing`, two are refused.
//! 2. A token seen before is known by its [`TokenFacts`]; only its times are checked again.
//! 3. Otherwise it is taken apart strictly ([`jwt`]), its issuer chosen by exact `iss`, its key by (`kid`, `alg`, `kty`)
//!    ([`keys`]), the signature verified, and only then its claims read ([`claims`]).
//! 4. Whatever cannot be decided for lack of keys is a [`Need`], never a pass.
//!
//! Nothing here does I/O or reads a clock.

pub mod bearer;
mod claim_path;
pub mod claims;
pub mod credential;
mod facts;
mod issuer_template;
pub mod json;
pub mod jwt;
pub mod keys;
mod policy;
pub mod subprotocol;
pub mod twin;

use std::sync::Arc;

pub use claim_path::ClaimPath;
pub use credential::{Presented, TokenPlaces};
pub use facts::{KeyThumbprint, TokenFacts};
pub use issuer_template::IssuerTemplate;
pub use policy::{
    AdvertisedScopes, Algorithm, AlgorithmSet, ClaimMap, IssuerPolicy, Issuers, KeyRefresh, KeySource,
    KeyToken, TenantAssertion, TokenTypes,
};

use crate::reject::{Reason, Reject};
use crate::types::{Check, Checks, IssuerIndex, Outcome, Timestamp};
use keys::KeySet;

/// What the gateway knows beside the request and the policy. Implemented by live state and by `explain`.
pub trait Knowledge {
    /// The facts of this very token, if it was verified before under the issuer's present configuration with a key the
    /// issuer still publishes.
    fn facts(&self, token: &str) -> Option<Arc<TokenFacts>>;

    /// The keys of an issuer; `None` while there are none, or while the last good ones are older than `max_stale`.
    fn keys(&self, issuer: IssuerIndex) -> Option<Arc<KeySet>>;

    /// Whether the issuer could not be asked for its keys the last time it was tried: what is not known of it may be new.
    fn is_failing(&self, issuer: IssuerIndex) -> bool {
        let _ = issuer;
        false
    }

    /// The epoch of the issuer's configuration, which newly verified facts remember.
    fn epoch(&self, issuer: IssuerIndex) -> u64;
}

/// Why a decision cannot be made yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The issuer has no usable keys at all.
    Keys(IssuerIndex),
    /// The issuer has keys, but none for this token's `kid` and `alg`: it may have added one.
    NewerKeys(IssuerIndex),
    /// No key that the token could mean made its signature: the issuer may have replaced one under the same `kid`, or one
    /// without `kid`.
    ReplacedKeys(IssuerIndex),
}

impl Need {
    /// The issuer whose keys are needed.
    pub const fn issuer(self) -> IssuerIndex {
        match self {
            Self::Keys(issuer) | Self::NewerKeys(issuer) | Self::ReplacedKeys(issuer) => issuer,
        }
    }

    /// The reason of the refusal, if the need cannot be met.
    pub const fn unmet(self) -> Reason {
        match self {
            Self::Keys(_) => Reason::KeysUnavailable,
            Self::NewerKeys(_) => Reason::KeyUnknown,
            Self::ReplacedKeys(_) => Reason::SignatureInvalid,
        }
    }
}

/// Why authentication stopped.
#[derive(Clone, Debug)]
pub enum Stop {
    /// The credential is refused.
    Reject(Reject),
    /// More must be known.
    Need(Need),
}

impl Stop {
    /// The reason of the refusal that stands as things are.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Reject(reject) => reject.reason,
            Self::Need(need) => need.unmet(),
        }
    }
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

/// A verified caller. Only [`authenticate`] makes one; facts alone are not enough:
///
/// ```compile_fail,E0451
/// # use scopegate::{authenticate::{Principal, TokenFacts}, types::IssuerIndex};
/// fn forge(facts: std::sync::Arc<TokenFacts>) -> Principal {
///     Principal { facts, issuer: IssuerIndex(0), remembered: true, tenant: None }
/// }
/// ```
///
/// ```
/// # use scopegate::authenticate::Principal;
/// fn who(principal: &Principal) -> Option<&str> {
///     principal.facts().subject.as_deref()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Principal {
    facts: Arc<TokenFacts>,
    issuer: IssuerIndex,
    remembered: bool,
    /// Which of the facts' tenants the request is about.
    tenant: Option<usize>,
}

impl Principal {
    const fn new(facts: Arc<TokenFacts>, issuer: IssuerIndex, remembered: bool) -> Self {
        Self { facts, issuer, remembered, tenant: None }
    }

    /// The tenant that the caller acts for: the one that the route's rule found, or the only one of the token.
    pub fn tenant(&self) -> Option<&str> {
        let tenants = &self.facts.tenants;
        match self.tenant {
            Some(position) => tenants.get(position).map(AsRef::as_ref),
            None => tenants.first().filter(|_| tenants.len() == 1).map(AsRef::as_ref),
        }
    }

    /// Notes that the caller acts for the tenant at this position of the facts' list.
    pub(crate) const fn acting_for(&mut self, tenant: usize) {
        self.tenant = Some(tenant);
    }

    /// What the token says, verified.
    pub fn facts(&self) -> &Arc<TokenFacts> {
        &self.facts
    }

    /// The issuer, as a position in the snapshot that decided.
    pub const fn issuer(&self) -> IssuerIndex {
        self.issuer
    }

    /// Whether the token had been verified before.
    pub const fn remembered(&self) -> bool {
        self.remembered
    }

    /// A caller for tests of what comes after authentication.
    #[cfg(test)]
    pub(crate) fn for_tests(facts: TokenFacts, issuer: IssuerIndex) -> Self {
        Self::new(Arc::new(facts), issuer, false)
    }

    /// Whether the caller acts for itself: `sub` equals the client (RFC 9068 §5).
    pub fn is_service(&self) -> bool {
        self.facts.subject.is_some() && self.facts.subject == self.facts.client
    }
}

/// Finds out who is calling.
///
/// # Errors
///
/// A [`Stop`]: the refusal, or what must be known first.
pub fn authenticate<K: Knowledge>(
    presented: Presented<'_>,
    issuers: &Issuers,
    knowledge: &K,
    now: Timestamp,
    checks: &mut Checks,
) -> Result<Principal, Stop> {
    let credential = match presented.credential() {
        Ok(credential) => credential,
        Err(reject) => return check(checks, Check::Credential, Err(reject)),
    };
    if let Some(facts) = knowledge.facts(credential.token) {
        // A reload may have given the `iss` to another issuer than the one whose keys verified the token.
        let known = issuers.find(facts.issuer.as_str());
        let known = known.filter(|(issuer, _)| knowledge.epoch(*issuer) == facts.epoch);
        if let Some((issuer, policy)) = known {
            checks.passed(Check::Credential);
            if let Err(reject) = credential.fits(policy) {
                return check(checks, Check::Issuer, Err(reject));
            }
            for seen in jwt::CHECKS {
                checks.push(seen, Outcome::Remembered);
            }
            check(checks, Check::Lifetime, claims::check_times(&facts, policy, now))?;
            return Ok(Principal::new(facts, issuer, true));
        }
    }
    check(checks, Check::Credential, bearer::check_form(credential.token))?;
    let (issuer, facts) = jwt::verify(credential, issuers, knowledge, now, checks)?;
    let policy = issuers.get(issuer).ok_or(Reject::new(Reason::Internal))?;
    check(checks, Check::Lifetime, claims::check_times(&facts, policy, now))?;
    Ok(Principal::new(Arc::new(facts), issuer, false))
}

/// Notes how a check ended.
fn check<T>(checks: &mut Checks, what: Check, result: Result<T, impl Into<Stop>>) -> Result<T, Stop> {
    let result = result.map_err(Into::into);
    checks.push(
        what,
        match &result {
            Ok(_) => Outcome::Passed,
            Err(stop) => Outcome::Failed(stop.reason()),
        },
    );
    result
}

#[cfg(test)]
pub(crate) mod testing;
