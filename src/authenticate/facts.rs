//! What a verified token says.

use smallvec::SmallVec;

use super::json::Object;
use crate::types::{Issuer, Timestamp};

/// The SHA-256 thumbprint of the key that signed a token (RFC 7638).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyThumbprint(pub [u8; 32]);

/// The facts of one token whose signature was verified: what it says, never what it may do.
///
/// Facts are cached; a verdict never is. Whoever uses them checks times, audience and scopes again.
#[derive(Debug)]
pub struct TokenFacts {
    /// The epoch of the issuer's configuration under which the claims were read.
    pub epoch: u64,
    /// The key that signed the token.
    pub key: KeyThumbprint,
    /// `iss`.
    pub issuer: Issuer,
    /// `sub`.
    pub subject: Option<Box<str>>,
    /// The client, from the first of the issuer's `claims.client` paths that is there.
    pub client: Option<Box<str>>,
    /// The tenants that the issuer asserts and may assert: its constant one, or those at its `claims.tenant` path.
    pub tenants: SmallVec<[Box<str>; 1]>,
    /// `act.sub` of the outermost actor (RFC 8693 §4.1): who really calls.
    pub actor: Option<Box<str>>,
    /// `jti`.
    pub token_id: Option<Box<str>>,
    /// `aud`, one or several.
    pub audience: SmallVec<[Box<str>; 2]>,
    /// The granted scopes, split on U+0020 only; empty if the claim is absent.
    pub scopes: SmallVec<[Box<str>; 4]>,
    /// `exp`: refused from this second on, leeway aside.
    pub expires: Timestamp,
    /// `nbf`.
    pub not_before: Option<Timestamp>,
    /// `iat`.
    pub issued: Option<Timestamp>,
    /// All claims, for the rules that routes make on them.
    pub claims: Object,
}

impl TokenFacts {
    /// About how many bytes these facts occupy, for the cache's bound.
    pub fn weight(&self) -> usize {
        let text = |t: &Option<Box<str>>| t.as_ref().map_or(0, |t| t.len());
        let list = |l: &[Box<str>]| l.iter().map(|t| t.len() + size_of::<Box<str>>()).sum::<usize>();
        size_of::<Self>()
            + text(&self.subject)
            + text(&self.client)
            + text(&self.actor)
            + text(&self.token_id)
            + list(&self.tenants)
            + list(&self.audience)
            + list(&self.scopes)
            + self.claims.weight()
    }
}
