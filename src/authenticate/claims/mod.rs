//! Claims of a verified token, read with their types (RFC 7519 §4.1, RFC 9068 §2.2, RFC 8693 §4.1).
//!
//! 1. `iss`, `exp` and `aud` must be there; what else must is said by the issuer's [`TokenTypes`]. `null` is not there, and
//!    neither is an empty `sub`.
//! 2. A claim of another type than the specification gives it refuses the token: nothing is converted. A time may
//!    have a fraction (RFC 7519 §2): `exp` and `iat` are rounded down, `nbf` up.
//! 3. Scopes are split on U+0020 alone, runs of it count once. Every scope of a text must be a scope-token of RFC 6749 §3.3,
//!    or the token is refused. An item of an array that is none, such as a role with a space in its name, is ignored: it
//!    never becomes two scopes in the eyes of an upstream.
//! 4. Where several paths may carry a claim, the first that is there counts alone; there is never a union.
//! 5. Only the outermost actor is read: those it acted for before say nothing about authority (RFC 8693 §4.1).
//!
//! 6. The tenants are text, a whole number, an array of these, or the names of an object's members. Any other value names
//!    none. A tenant counts only if the issuer may assert it ([`TenantAssertion`]).
//! 7. Where an issuer is a template ([`IssuerTemplate`]), `iss` and its claim must agree.
//! 8. A token that is bound to a key or certificate (`cnf`, RFC 7800) is refused: a bearer proves neither.
//!
//! Causes name claims and, of their values, hold times alone.
//!
//! [`TokenTypes`]: super::TokenTypes
//! [`TenantAssertion`]: super::TenantAssertion
//! [`IssuerTemplate`]: super::IssuerTemplate

use smallvec::SmallVec;

use super::json::{Json, Object};
use super::policy::is_listed;
use super::{ClaimPath, IssuerPolicy, KeyThumbprint, TenantAssertion, TokenFacts};
use crate::reject::{Reason, Reject};
use crate::types::{Issuer, Scope, Timestamp};

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
        if present(claims.at(path)).is_none_or(|value| value.as_str() == Some("")) {
            return Err(missing(&path.to_string()));
        }
    }
    if present(claims.get("cnf")).is_some() {
        let cause = "the token is bound to its sender (`cnf`), and the request proves no binding";
        return Err(Reject::because(Reason::BindingMissing, cause));
    }
    Ok(TokenFacts {
        epoch,
        key,
        issuer: issuer(&claims, policy)?,
        subject: subject(&claims)?,
        client: first(&claims, &policy.claims.client)?,
        tenants: tenants(&claims, policy),
        actor: actor(&claims)?,
        token_id: text(claims.get("jti"), "jti")?,
        audience: audience(&claims, &policy.claims.audience)?,
        scopes: scopes(&claims, &policy.claims.scope)?,
        expires: expires(&claims)?,
        not_before: time(&claims, "nbf", f64::ceil)?,
        issued: time(&claims, "iat", f64::floor)?,
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
        return Err(expired(facts.expires, now));
    }
    let horizon = now.plus(policy.leeway);
    for (claim, time) in [("nbf", facts.not_before), ("iat", facts.issued)] {
        if let Some(time) = time.filter(|time| *time > horizon) {
            let (ahead, leeway) = (time.since(now).as_secs(), policy.leeway.as_secs());
            let cause = format!("`{claim}` lies {ahead} s ahead ({claim} {time}); `leeway` is {leeway} s");
            return Err(Reject::because(Reason::TokenNotYetValid, cause));
        }
    }
    let (lifetime, limit) = match facts.issued {
        Some(issued) => (facts.expires.since(issued), policy.max_lifetime),
        // Without `iat` the token is at best as old as this moment on the issuer's clock.
        None => (facts.expires.since(now), policy.max_lifetime.saturating_add(policy.leeway)),
    };
    if lifetime > limit {
        let of = if facts.issued.is_some() { "`exp - iat`" } else { "`exp`, without `iat`, lies ahead by" };
        let (lifetime, limit) = (lifetime.as_secs(), policy.max_lifetime.as_secs());
        let cause = format!("{of} {lifetime} s; `max_lifetime` is {limit} s");
        return Err(Reject::because(Reason::TokenLifetimeExcessive, cause));
    }
    Ok(())
}

/// Whether claims, not yet verified, could be those of a good token: only then is it worth asking the issuer for the key.
pub(super) fn plausible(claims: &Object, policy: &IssuerPolicy, now: Timestamp) -> Result<(), Reject> {
    issuer(claims, policy)?;
    audience(claims, &policy.claims.audience)?;
    let expires = expires(claims)?;
    if has_expired(expires, policy, now) {
        return Err(expired(expires, now));
    }
    Ok(())
}

/// A token is not accepted "on or after" `exp` (RFC 7519 §4.1.4).
fn has_expired(expires: Timestamp, policy: &IssuerPolicy, now: Timestamp) -> bool {
    now >= expires.plus(policy.leeway)
}

fn expired(expires: Timestamp, now: Timestamp) -> Reject {
    let ago = now.since(expires).as_secs();
    Reject::because(Reason::TokenExpired, format!("expired {ago} s ago (exp {expires})"))
}

fn missing(claim: &str) -> Reject {
    Reject::because(Reason::TokenClaimMissing, format!("`{claim}` is missing"))
}

fn invalid(claim: &str, demand: &str) -> Reject {
    Reject::because(Reason::TokenClaimInvalid, format!("`{claim}` is not {demand}"))
}

/// `null` is as good as absent: serialisers write it for members that are not set.
fn present(value: Option<&Json>) -> Option<&Json> {
    value.filter(|value| **value != Json::Null)
}

/// The issuer. The part of `iss` that a template leaves open must be what the template's claim says.
fn issuer(claims: &Object, policy: &IssuerPolicy) -> Result<Issuer, Reject> {
    let Some(template) = &policy.template else {
        return Ok(policy.issuer.clone());
    };
    let iss = text(claims.get("iss"), "iss")?.ok_or_else(|| missing("iss"))?;
    let said = text(claims.at(&template.claim), &template.claim.to_string())?;
    let said = said.ok_or_else(|| missing(&template.claim.to_string()))?;
    match template.value(&iss) {
        Some(named) if *named == *said => Ok(Issuer::new(&*iss)),
        Some(_) | None => Err(invalid("iss", &format!("that of the token's `{}`", template.claim))),
    }
}

/// `sub`. An empty one names nobody.
fn subject(claims: &Object) -> Result<Option<Box<str>>, Reject> {
    text(claims.get("sub").filter(|value| value.as_str() != Some("")), "sub")
}

/// The tenants that the issuer asserts and may assert. A claim that names no tenant in a way that is understood names none:
/// it must not keep the token from routes that ask for no tenant.
fn tenants(claims: &Object, policy: &IssuerPolicy) -> SmallVec<[Box<str>; 1]> {
    let claimed = || policy.claims.tenant.as_ref().and_then(|path| claims.at(path));
    match &policy.tenants {
        TenantAssertion::Any => claimed().map(named).unwrap_or_default(),
        TenantAssertion::OneOf(tenants) => {
            let mut named = claimed().map(named).unwrap_or_default();
            named.retain(|tenant| is_listed(tenant, tenants));
            named
        }
        TenantAssertion::Constant(tenant) => SmallVec::from([tenant.clone()]),
    }
}

/// The tenants in a claim: text, a whole number, an array of these, or the names of an object's members.
fn named(claim: &Json) -> SmallVec<[Box<str>; 1]> {
    let one = |item: &Json| match item {
        Json::String(text) => (!text.is_empty()).then(|| text.clone()),
        // A number that was rounded when it was read could be another tenant's.
        Json::Number(number) => (!number.is_f64()).then(|| number.to_string().into()),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    };
    match claim {
        Json::Array(items) => items.iter().filter_map(one).collect(),
        Json::Object(members) => {
            let set = members.iter().filter(|(name, value)| !name.is_empty() && **value != Json::Null);
            set.map(|(name, _)| Box::from(name)).collect()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => one(claim).into_iter().collect(),
    }
}

/// A string that is not empty: an empty name would pass for one that was never set.
fn text(value: Option<&Json>, claim: &str) -> Result<Option<Box<str>>, Reject> {
    match present(value) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) if !text.is_empty() => Ok(Some(text.into())),
            Some(_) | None => Err(invalid(claim, "a string with something in it")),
        },
    }
}

/// The string at the first path that is there.
fn first(claims: &Object, paths: &[ClaimPath]) -> Result<Option<Box<str>>, Reject> {
    match paths.iter().find_map(|path| Some((path, present(claims.at(path))?))) {
        None => Ok(None),
        Some((path, value)) => text(Some(value), &path.to_string()),
    }
}

/// A NumericDate (RFC 7519 §2), which may have a fraction; `whole` rounds it to the strict side. Numbers that no whole second
/// stands for exactly are refused.
fn time(claims: &Object, claim: &str, whole: fn(f64) -> f64) -> Result<Option<Timestamp>, Reject> {
    /// 2^53: up to here every whole number of seconds is exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let out_of_range = || invalid(claim, "a number of seconds in range");
    match present(claims.get(claim)) {
        None => Ok(None),
        Some(Json::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(seconds), _) => Ok(Some(Timestamp(seconds))),
            (None, Some(seconds)) if seconds.abs() <= EXACT => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "whole, and within the range just checked"
                )]
                let seconds = whole(seconds) as i64;
                Ok(Some(Timestamp(seconds)))
            }
            (None, Some(_) | None) => Err(out_of_range()),
        },
        Some(Json::Null | Json::Bool(_) | Json::String(_) | Json::Array(_) | Json::Object(_)) => {
            Err(invalid(claim, "a number"))
        }
    }
}

fn expires(claims: &Object) -> Result<Timestamp, Reject> {
    time(claims, "exp", f64::floor)?.ok_or_else(|| missing("exp"))
}

/// One string or an array of them, none empty (RFC 7519 §4.1.3), at the first path that is there.
fn audience(claims: &Object, paths: &[ClaimPath]) -> Result<SmallVec<[Box<str>; 2]>, Reject> {
    let found = paths.iter().find_map(|path| Some((path, present(claims.at(path))?)));
    let Some((path, value)) = found else {
        return Err(missing(&paths.first().map_or_else(|| "aud".to_owned(), ClaimPath::to_string)));
    };
    let invalid = || invalid(&path.to_string(), "a string, or an array of strings, with something in it");
    let items = value.as_array().unwrap_or(std::slice::from_ref(value));
    if items.is_empty() {
        return Err(invalid());
    }
    items
        .iter()
        .map(|item| match item.as_str() {
            Some(text) if !text.is_empty() => Ok(text.into()),
            Some(_) | None => Err(invalid()),
        })
        .collect()
}

/// The scopes at the first path that is there: a string to split, or an array of scope-tokens.
fn scopes(claims: &Object, paths: &[ClaimPath]) -> Result<SmallVec<[Box<str>; 4]>, Reject> {
    let Some((path, value)) = paths.iter().find_map(|path| Some((path, present(claims.at(path))?))) else {
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
            .filter_map(|item| match item.as_str() {
                Some(text) => Scope::is_legal(text).then(|| Ok(text.into())),
                None => Some(Err(invalid(&path.to_string(), "an array of strings"))),
            })
            .collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => {
            Err(invalid(&path.to_string(), "a string or an array of strings"))
        }
    }
}

/// `act.sub` of the outermost actor.
fn actor(claims: &Object) -> Result<Option<Box<str>>, Reject> {
    let Some(act) = present(claims.get("act")) else {
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
