//! Verification keys of an issuer, parsed once (RFC 7517, RFC 7518 §6, RFC 8037).
//!
//! 1. A key is used for signatures by exactly the algorithms that its type, its curve, its `alg` and the issuer's allow-list
//!    all permit; each such pair is a key of its own, so that an algorithm is never chosen by the token (RFC 8725 §3.1).
//! 2. A key that is weak, private, symmetric, for encryption, or not on its curve is left out with a warning; the others
//!    stay. A set without one usable key is an error, so that the last good set is kept.
//! 3. A key is found by (`kid`, `alg`, `kty`); an algorithm has exactly one `kty` here. Where several fit, or no key has the
//!    `kid` and some have none, each is tried within a bound.

mod jwk;
mod roca;

#[cfg(test)]
pub(super) use jwk::key_type;

use std::fmt;

use super::json::{DocumentError, Object};
use super::{Algorithm, AlgorithmSet, KeyThumbprint};

/// Most bytes of a JWK Set that are read.
pub const MAX_JWKS_BYTES: usize = 1024 * 1024;

/// Most keys of a JWK Set.
pub const MAX_KEYS: usize = 100;

/// Longest `kid` in bytes, in a key and in a token.
pub const MAX_KID: usize = 256;

/// Maximum number of keys that are tried for one token.
const MAX_TRIES: usize = 8;

/// Why a JWK Set is not used at all.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// It is too long.
    #[error("the key set is larger than {MAX_JWKS_BYTES} bytes")]
    TooLarge,
    /// It is not strict JSON.
    #[error("the key set is not acceptable JSON: {0}")]
    Json(DocumentError),
    /// It has no array `keys`.
    #[error("the key set has no array `keys`")]
    NoKeys,
    /// It has too many keys.
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooManyKeys,
    /// No key in it can be used.
    #[error("the key set has no usable key{}", first_warning(.0))]
    NoUsableKey(Vec<KeyWarning>),
}

fn first_warning(warnings: &[KeyWarning]) -> String {
    warnings.first().map(|warning| format!(": {warning}")).unwrap_or_default()
}

/// A key that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyWarning {
    /// Its `kid`, if it has a legal one.
    pub kid: Option<Box<str>>,
    /// Its position in `keys`, from 0.
    pub position: usize,
    /// Why it is not used.
    pub why: &'static str,
}

impl fmt::Display for KeyWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kid {
            Some(kid) => write!(f, "key {kid:?}: {}", self.why),
            None => write!(f, "key at position {}: {}", self.position, self.why),
        }
    }
}

/// The usable keys of one JWK Set. Equal sets hold equal keys in the same order.
#[derive(Debug, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
    /// Sorted, without repetition.
    thumbprints: Vec<KeyThumbprint>,
}

impl KeySet {
    /// Parses a JWK Set (RFC 7517 §5) and keeps what `allowed` permits.
    ///
    /// # Errors
    ///
    /// A [`JwksError`].
    pub fn from_jwks(text: &[u8], allowed: AlgorithmSet) -> Result<(Self, Vec<KeyWarning>), JwksError> {
        if text.len() > MAX_JWKS_BYTES {
            return Err(JwksError::TooLarge);
        }
        let set = Object::parse_document(text).map_err(JwksError::Json)?;
        let items = set.get("keys").and_then(|keys| keys.as_array()).ok_or(JwksError::NoKeys)?;
        if items.len() > MAX_KEYS {
            return Err(JwksError::TooManyKeys);
        }
        let mut keys: Vec<VerificationKey> = Vec::new();
        let mut warnings = Vec::new();
        for (position, item) in items.iter().enumerate() {
            let added = jwk::parse(item, allowed).and_then(|found| {
                let taken = |key: &VerificationKey| {
                    keys.iter().filter(|k| k.kid == key.kid && k.algorithm == key.algorithm).count()
                };
                // Keys that cannot be told apart by `kid` are tried one after the other, so there may be only so many.
                if found.iter().any(|key| taken(key) >= MAX_TRIES) {
                    return Err("too many keys have the same kid, alg and kty");
                }
                keys.extend(found);
                Ok(())
            });
            if let Err(why) = added {
                warnings.push(KeyWarning {
                    kid: item.as_object().and_then(jwk::kid).map(Box::from),
                    position,
                    why,
                });
            }
        }
        if keys.is_empty() {
            return Err(JwksError::NoUsableKey(warnings));
        }
        let mut thumbprints: Vec<_> = keys.iter().map(|key| key.thumbprint).collect();
        thumbprints.sort_unstable();
        thumbprints.dedup();
        Ok((Self { keys, thumbprints }, warnings))
    }

    /// The keys that may have signed a token with this `kid` and algorithm, at most 8: with a `kid` those that have it, or
    /// else those that have none; without one all that fit the algorithm.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &VerificationKey> {
        // A key set may leave `kid` out of its keys while the tokens have one (RFC 7515 §4.1.4).
        let wanted = kid.map(|kid| Some(kid).filter(|kid| self.has_kid(kid)));
        self.keys
            .iter()
            .filter(move |key| {
                key.algorithm == algorithm && wanted.is_none_or(|wanted| key.kid.as_deref() == wanted)
            })
            .take(MAX_TRIES)
    }

    /// Whether some usable key has this `kid`, for whatever algorithm.
    pub fn has_kid(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// Whether the key with this thumbprint is in the set.
    pub fn contains(&self, key: &KeyThumbprint) -> bool {
        self.thumbprints.binary_search(key).is_ok()
    }

    /// How many different keys there are; one that serves several algorithms counts once.
    pub fn len(&self) -> usize {
        self.thumbprints.len()
    }

    /// Never: a set without keys is not made.
    pub fn is_empty(&self) -> bool {
        self.thumbprints.is_empty()
    }

    /// Each key with each algorithm it serves, in the order of the document.
    pub fn iter(&self) -> impl Iterator<Item = &VerificationKey> {
        self.keys.iter()
    }
}

/// One key for one algorithm.
pub struct VerificationKey {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    thumbprint: KeyThumbprint,
    parsed: aws_lc_rs::signature::ParsedPublicKey,
}

impl VerificationKey {
    /// The `kid`.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm this key verifies.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The `kty` (RFC 7518 §6.1, RFC 8037 §2).
    pub const fn key_type(&self) -> &'static str {
        jwk::key_type(self.algorithm)
    }

    /// The SHA-256 thumbprint (RFC 7638).
    pub const fn thumbprint(&self) -> KeyThumbprint {
        self.thumbprint
    }

    /// Whether `signature` is this key's signature of `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl PartialEq for VerificationKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.kid, self.algorithm, self.thumbprint) == (&other.kid, other.algorithm, other.thumbprint)
    }
}

impl Eq for VerificationKey {}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
