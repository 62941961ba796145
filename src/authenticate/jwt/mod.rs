//! A compact JWS, taken apart and verified (RFC 7515, RFC 8725, RFC 9068 §4).
//!
//! 1. Exactly three parts, each strict base64url: no padding, no spare bits, no white space. Header and payload are strict
//!    JSON objects ([`super::json`]).
//! 2. `crit`, `b64`, `zip` and a nested JWT are refused: none is understood here. `jku`, `x5u`, `jwk` and `x5c` are ignored:
//!    a token never says which key to trust.
//! 3. The issuer is chosen by exact `iss` before the signature is checked, the token must stand where that issuer's tokens
//!    are read, and everything after is judged by that issuer's policy and keys alone.
//! 4. The algorithm is one of the issuer's list and of the key, never of the token alone.
//! 5. A key that is not there is asked for only if the token is otherwise plausible, so that junk never causes a fetch.
//! 6. Claims become facts only after the signature verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use smallvec::SmallVec;

use super::credential::Credential;
use super::json::{Json, Object};
use super::keys::{KeySet, MAX_KID, VerificationKey};
use super::{Algorithm, IssuerPolicy, Issuers, Knowledge, Need, Stop, TokenFacts, TokenTypes, check, claims};
use crate::reject::{Reason, Reject};
use crate::types::{Check, Checks, IssuerIndex, Quoted, Timestamp, quoted_list};

/// The checks made here, in their order.
pub const CHECKS: [Check; 7] = [
    Check::TokenFormat,
    Check::Issuer,
    Check::TokenType,
    Check::Algorithm,
    Check::Key,
    Check::Signature,
    Check::Claims,
];

/// Verifies a token that was not seen before. Its length has been bounded by [`super::credential`].
///
/// # Errors
///
/// A [`Stop`].
pub fn verify<K: Knowledge>(
    credential: Credential<'_>,
    issuers: &Issuers,
    knowledge: &K,
    now: Timestamp,
    checks: &mut Checks,
) -> Result<(IssuerIndex, TokenFacts), Stop> {
    let token = check(checks, Check::TokenFormat, Unverified::parse(credential.token))?;
    let placed = token.issuer(issuers).and_then(|found| credential.fits(found.1).map(|()| found));
    let (issuer, policy) = check(checks, Check::Issuer, placed)?;
    check(checks, Check::TokenType, token.check_type(&policy.token_types))?;
    let algorithm = check(checks, Check::Algorithm, token.algorithm(policy))?;

    let keys = knowledge.keys(issuer);
    let candidates = token.candidates(keys.as_deref(), issuer, policy, algorithm, now);
    let candidates = check(checks, Check::Key, candidates)?;
    let signer = candidates
        .into_iter()
        .find(|key| key.verifies(token.signed, &token.signature))
        .ok_or_else(|| token.unsigned(keys.as_deref(), issuer, policy, now));
    let key = check(checks, Check::Signature, signer)?.thumbprint();
    let epoch = knowledge.epoch(issuer);
    let facts = check(checks, Check::Claims, claims::read(token.claims, policy, epoch, key))?;
    Ok((issuer, facts))
}

/// A token as its sender wrote it. Nothing in it is to be believed.
struct Unverified<'t> {
    header: Object,
    claims: Object,
    /// The JWS signing input: header, dot, payload.
    signed: &'t [u8],
    signature: Vec<u8>,
}

impl<'t> Unverified<'t> {
    fn parse(token: &'t str) -> Result<Self, Reject> {
        // Counting first: a token of a million dots allocates nothing.
        match memchr::memchr_iter(b'.', token.as_bytes()).count() {
            2 => {}
            0 => {
                return Err(Reject::because(Reason::TokenOpaque, "the token has no dots, so it is no JWT"));
            }
            4 => {
                return Err(malformed("five parts: an encrypted token (JWE), which is not accepted"));
            }
            _ => return Err(malformed("a signed token has three parts")),
        }
        let (signed, signature) = token.rsplit_once('.').unwrap_or_default();
        let (header, payload) = signed.split_once('.').unwrap_or_default();
        if signature.is_empty() {
            return Err(malformed("the token is not signed"));
        }
        let token = Self {
            header: object("header", header)?,
            claims: object("payload", payload)?,
            signed: signed.as_bytes(),
            signature: decode("signature", signature)?,
        };
        token.check_extensions()?;
        Ok(token)
    }

    /// Header members that would change what the token means, none of which is understood here.
    fn check_extensions(&self) -> Result<(), Reject> {
        for name in ["crit", "b64", "zip"] {
            if self.header.get(name).is_some() {
                return Err(Reject::because(
                    Reason::TokenMalformed,
                    format!("the header has `{name}`, which is not understood"),
                ));
            }
        }
        let nested = |cty: &Json| match cty.as_str() {
            Some(cty) => media_type(cty).eq_ignore_ascii_case("jwt"),
            None => true,
        };
        if self.header.get("cty").is_some_and(nested) {
            return Err(malformed("the payload is a token itself (`cty`)"));
        }
        match self.header.get("kid") {
            None => Ok(()),
            Some(kid) if kid.as_str().is_some_and(|kid| kid.len() <= MAX_KID) => Ok(()),
            Some(_) => Err(malformed("`kid` is not a string of at most 256 bytes")),
        }
    }

    /// The issuer, by exact `iss` (RFC 8725 §3.8).
    fn issuer<'i>(&self, issuers: &'i Issuers) -> Result<(IssuerIndex, &'i IssuerPolicy), Reject> {
        let claim =
            self.claims.get("iss").ok_or(Reject::because(Reason::TokenClaimMissing, "`iss` is missing"))?;
        let text =
            claim.as_str().ok_or(Reject::because(Reason::TokenClaimInvalid, "`iss` is not a string"))?;
        issuers.find(text).ok_or_else(|| unknown_issuer(text, issuers))
    }

    fn check_type(&self, types: &TokenTypes) -> Result<(), Reject> {
        let refuse = |found: &str| {
            let expected = quoted_list(types.accept.iter().map(AsRef::as_ref));
            let cause = format!("expected `typ` {expected}, found {found}");
            Err(Reject::because(Reason::TokenTypeRefused, cause))
        };
        let Some(value) = self.header.get("typ") else {
            return match types.accept_absent {
                true => Ok(()),
                false => refuse("none"),
            };
        };
        let Some(text) = value.as_str() else {
            return refuse("no string");
        };
        let text = media_type(text);
        match types.accept.iter().any(|accepted| accepted.eq_ignore_ascii_case(text)) {
            true => Ok(()),
            false => refuse(&format!("{} (unverified)", Quoted(text))),
        }
    }

    fn algorithm(&self, policy: &IssuerPolicy) -> Result<Algorithm, Reject> {
        let name = self.header.get("alg").and_then(Json::as_str);
        name.and_then(Algorithm::from_name)
            .filter(|algorithm| policy.algorithms.contains(*algorithm))
            .ok_or_else(|| {
                let expected = quoted_list(policy.algorithms.iter().map(Algorithm::as_str));
                let found = name.map_or_else(|| "none".to_owned(), |name| Quoted(name).to_string());
                let cause = format!("expected `alg` {expected}, found {found} (unverified)");
                Reject::because(Reason::AlgorithmRefused, cause)
            })
    }

    /// The keys that may have signed the token.
    fn candidates<'k>(
        &self,
        keys: Option<&'k KeySet>,
        issuer: IssuerIndex,
        policy: &IssuerPolicy,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<Candidates<'k>, Stop> {
        let Some(keys) = keys else {
            return Err(self.need(Need::Keys(issuer), policy, now));
        };
        let kid = self.header.get("kid").and_then(Json::as_str);
        let found: Candidates<'k> = keys.find(kid, algorithm).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        Err(self.need(Need::NewerKeys(issuer), policy, now))
    }

    /// No key that was tried signed the token. If they were keys without `kid`, the issuer may have a newer key with the
    /// token's `kid`; else it may have replaced a key and kept its `kid`, if it has one.
    fn unsigned(
        &self,
        keys: Option<&KeySet>,
        issuer: IssuerIndex,
        policy: &IssuerPolicy,
        now: Timestamp,
    ) -> Stop {
        let kid = self.header.get("kid").and_then(Json::as_str);
        if kid.zip(keys).is_some_and(|(kid, keys)| !keys.has_kid(kid)) {
            return self.need(Need::NewerKeys(issuer), policy, now);
        }
        if claims::plausible(&self.claims, policy, now).is_ok() {
            return Stop::Need(Need::ReplacedKeys(issuer));
        }
        let cause = match kid {
            Some(kid) => format!("the signature is not that of the key {} (unverified)", Quoted(kid)),
            None => "the token has no `kid`, and the signature is not that of a key it could mean".to_owned(),
        };
        Stop::Reject(Reject::because(Reason::SignatureInvalid, cause))
    }

    /// A need for keys, unless the token would be refused whatever keys there were: then the refusal that stands without
    /// them, which tells nothing about a token that nobody could verify.
    fn need(&self, need: Need, policy: &IssuerPolicy, now: Timestamp) -> Stop {
        match claims::plausible(&self.claims, policy, now) {
            Ok(()) => Stop::Need(need),
            Err(flaw) => Stop::Reject(Reject::because(
                need.unmet(),
                format!(
                    "keys were not asked for, because the token (unverified) would be refused with them: {flaw}"
                ),
            )),
        }
    }
}

type Candidates<'k> = SmallVec<[&'k VerificationKey; 8]>;

/// The refusal of an `iss` that is none of the policy's, by the letter.
fn unknown_issuer(found: &str, issuers: &Issuers) -> Reject {
    let mut cause = format!("no issuer of the policy has this `iss` (unverified): {}", Quoted(found));
    let slashed = || issuers.find(&format!("{found}/"));
    if let Some((_, policy)) = found.strip_suffix('/').map_or_else(slashed, |bare| issuers.find(bare)) {
        cause.push_str("; expected ");
        cause.push_str(&Quoted(policy.issuer.as_str()).to_string());
        cause.push_str(", which differs in the slash at the end");
    }
    Reject::because(Reason::IssuerUnknown, cause)
}

fn malformed(cause: &'static str) -> Reject {
    Reject::because(Reason::TokenMalformed, cause)
}

/// A media type without the `application/` that may be left out (RFC 7515 §4.1.9).
fn media_type(text: &str) -> &str {
    const PREFIX: &str = "application/";
    match text.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        Some(_) | None => text,
    }
}

fn object(part: &'static str, text: &str) -> Result<Object, Reject> {
    Object::parse(&decode(part, text)?)
        .map_err(|error| Reject::because(Reason::TokenMalformed, format!("the token's {part}: {error}")))
}

/// The engine refuses padding, spare bits and every character outside the alphabet.
fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, Reject> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Reject::because(Reason::TokenMalformed, format!("the {part} is not strict base64url")))
}

#[cfg(test)]
mod tests;
