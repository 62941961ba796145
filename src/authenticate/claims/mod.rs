//! Claims of a verified token, read with their types (RFC 7519 §4.1, RFC 9068 §2.2, RFC 8693 §4.1).
//!
//! 1. `iss`, `exp` and `aud` must be there; what else must is said by the issuer's [`TokenTypes`]. `null` is not there.
//! 2. A claim of another type than the specification gives it refuses the token: nothing is converted. Times are integers.
//! 3. Scopes are split on U+0020 alone, runs of it count once. Every scope must be a scope-token of RFC 6749 §3.3, so an
//!    item of an array that holds a space, or a scope with a line end in it, refuses the token instead of becoming two
//!    scopes in the eyes of an upstream.
//! 4. Where several paths may carry a claim, the first that is there counts alone; there is never a union.
//! 5. Only the outermost actor is read: those it acted for before say nothing about authority (RFC 8693 §4.1).
//!
//! Causes name claims and never hold their values.
//!
//! [`TokenTypes`]: super::TokenTypes

use smallvec::SmallVec;

use super::json::{Json, Object};
use super::{ClaimPath, IssuerPolicy, KeyThumbprint, TokenFacts};
use crate::reject::{Reason, Reject};
use crate::types::{Scope, Timestamp};

/// Reads the claims of a token whose signature was verified with `key`, and whose `iss` is `policy`'s.
///
/// # Errors
///
/// `token_claim_missing`, `token_claim_invalid`.
pub fn read(
    claims: Object,
    policy: &IssuerPolicy,
    epoch: u64,
    key: KeyThumbprint,
) -> Result<TokenFacts, Reject> {
    for path in &policy.token_types.required_claims {
        match claims.at(path) {
            None | Some(Json::Null) => return Err(missing(&path.to_string())),
            Some(Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) | Json::Object(_)) => {}
        }
    }
    Ok(TokenFacts {
        epoch,
        key,
        issuer: policy.issuer.clone(),
        subject: text(claims.get("sub"), "sub")?,
        client: first(&claims, &policy.claims.client)?,
        tenant: first(&claims, policy.claims.tenant.as_slice())?,
        actor: actor(&claims)?,
        token_id: text(claims.get("jti"), "jti")?,
        audience: audience(&claims)?,
        scopes: scopes(&claims, &policy.claims.scope)?,
        expires: expires(&claims)?,
        not_before: time(&claims, "nbf")?,
        issued: time(&claims, "iat")?,
        claims,
    })
}

/// Checks `exp`, `nbf` and `iat` against the time.
///
/// # Errors
///
/// `token_expired`, `token_not_yet_valid`, `token_lifetime_excessive`.
pub fn check_times(facts: &TokenFacts, policy: &IssuerPolicy, now: Timestamp) -> Result<(), Reject> {
    if has_expired(facts.expires, policy, now) {
        return Err(Reject::new(Reason::TokenExpired));
    }
    let horizon = now.plus(policy.leeway);
    for (claim, time) in [("nbf", facts.not_before), ("iat", facts.issued)] {
        if time.is_some_and(|time| time > horizon) {
            return Err(Reject::because(Reason::TokenNotYetValid, format!("`{claim}` lies ahead")));
        }
    }
    let (lifetime, limit) = match facts.issued {
        Some(issued) => (facts.expires.since(issued), policy.max_lifetime),
        // Without `iat` the token is at best as old as this moment on the issuer's clock.
        None => (facts.expires.since(now), policy.max_lifetime.saturating_add(policy.leeway)),
    };
    if lifetime > limit {
        return Err(Reject::new(Reason::TokenLifetimeExcessive));
    }
    Ok(())
}

/// Whether claims, not yet verified, could be those of a good token: only then is it worth asking the issuer for the key.
pub(super) fn plausible(claims: &Object, policy: &IssuerPolicy, now: Timestamp) -> Result<(), Reject> {
    audience(claims)?;
    if has_expired(expires(claims)?, policy, now) {
        return Err(Reject::new(Reason::TokenExpired));
    }
    Ok(())
}

/// A token is not accepted "on or after" `exp` (RFC 7519 §4.1.4).
fn has_expired(expires: Timestamp, policy: &IssuerPolicy, now: Timestamp) -> bool {
    now >= expires.plus(policy.leeway)
}

fn missing(claim: &str) -> Reject {
    Reject::because(Reason::TokenClaimMissing, format!("`{claim}` is missing"))
}

fn invalid(claim: &str, demand: &str) -> Reject {
    Reject::because(Reason::TokenClaimInvalid, format!("`{claim}` is not {demand}"))
}

/// A string that is not empty: an empty name would pass for one that was never set.
fn text(value: Option<&Json>, claim: &str) -> Result<Option<Box<str>>, Reject> {
    match value {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) if !text.is_empty() => Ok(Some(text.into())),
            Some(_) | None => Err(invalid(claim, "a string with something in it")),
        },
    }
}

/// The string at the first path that is there.
fn first(claims: &Object, paths: &[ClaimPath]) -> Result<Option<Box<str>>, Reject> {
    match paths.iter().find_map(|path| Some((path, claims.at(path)?))) {
        None => Ok(None),
        Some((path, value)) => text(Some(value), &path.to_string()),
    }
}

/// A NumericDate. RFC 7519 §2 allows fractions; no issuer needs them, and readers round them in different ways.
fn time(claims: &Object, claim: &str) -> Result<Option<Timestamp>, Reject> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Json::Number(number)) => number
            .as_i64()
            .map(|seconds| Some(Timestamp(seconds)))
            .ok_or_else(|| invalid(claim, "an integer in range")),
        Some(Json::Null | Json::Bool(_) | Json::String(_) | Json::Array(_) | Json::Object(_)) => {
            Err(invalid(claim, "a number"))
        }
    }
}

fn expires(claims: &Object) -> Result<Timestamp, Reject> {
    time(claims, "exp")?.ok_or_else(|| missing("exp"))
}

/// One string or an array of them, none empty (RFC 7519 §4.1.3).
fn audience(claims: &Object) -> Result<SmallVec<[Box<str>; 2]>, Reject> {
    let demand = "a string, or an array of strings, with something in it";
    let value = claims.get("aud").ok_or_else(|| missing("aud"))?;
    let items = value.as_array().unwrap_or(std::slice::from_ref(value));
    if items.is_empty() {
        return Err(invalid("aud", demand));
    }
    items
        .iter()
        .map(|item| match item.as_str() {
            Some(text) if !text.is_empty() => Ok(text.into()),
            Some(_) | None => Err(invalid("aud", demand)),
        })
        .collect()
}

/// The scopes at the first path that is there: a string to split, or an array of scope-tokens.
fn scopes(claims: &Object, paths: &[ClaimPath]) -> Result<SmallVec<[Box<str>; 4]>, Reject> {
    let Some((path, value)) = paths.iter().find_map(|path| Some((path, claims.at(path)?))) else {
        return Ok(SmallVec::new());
    };
    let token = |text: &str| match Scope::is_legal(text) {
        true => Ok(text.into()),
        false => Err(invalid(&path.to_string(), "made of scope-tokens")),
    };
    match value {
        Json::String(list) => list.split(' ').filter(|part| !part.is_empty()).map(token).collect(),
        Json::Array(items) => items
            .iter()
            .map(|item| match item.as_str() {
                Some(text) => token(text),
                None => Err(invalid(&path.to_string(), "an array of strings")),
            })
            .collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => {
            Err(invalid(&path.to_string(), "a string or an array of strings"))
        }
    }
}

/// `act.sub` of the outermost actor.
fn actor(claims: &Object) -> Result<Option<Box<str>>, Reject> {
    let Some(act) = claims.get("act") else {
        return Ok(None);
    };
    let act = act.as_object().ok_or_else(|| invalid("act", "an object"))?;
    let subject = text(act.get("sub"), "act.sub")?;
    match subject {
        Some(subject) => Ok(Some(subject)),
        None => Err(invalid("act", "an object with a `sub`")),
    }
}

#[cfg(test)]
mod tests;
