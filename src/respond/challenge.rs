//! `WWW-Authenticate` (RFC 6750 §3).

use std::borrow::Cow;

use http::HeaderValue;

use super::Refused;
use crate::reject::{Challenge, OAuthError, Row};
use crate::snapshot::Access;
use crate::types::Scope;

/// The challenge, if the reason asks for one. All of it comes from the policy, which holds only legal characters.
pub(super) fn value(refused: &Refused<'_>, row: &Row) -> Option<HeaderValue> {
    let error = match row.challenge {
        Challenge::None => return None,
        Challenge::Plain => None,
        Challenge::Error(error) => Some(error),
    };
    let mut text = String::with_capacity(128);
    if let Some(error) = error {
        add(&mut text, "error", &[error.as_str()]);
    }
    let metadata = refused.route().and_then(|route| route.resource_metadata.as_deref());
    let scopes = match error {
        Some(OAuthError::InsufficientScope) => Some(insufficient(refused)),
        Some(_) => None,
        // A caller that is not known learns the scopes where the metadata publishes them to everybody.
        None => metadata.and_then(|_| wanted(refused)),
    };
    if let Some(scopes) = scopes {
        add(&mut text, "scope", &scopes);
    }
    if let Some(url) = metadata {
        add(&mut text, "resource_metadata", &[url]);
    }
    if text.is_empty() {
        // The scheme must be followed by a parameter (RFC 6750 §3).
        add(&mut text, "realm", &["scopegate"]);
    }
    HeaderValue::from_str(&text).ok()
}

/// The scopes that a token lacks, as the client must ask its issuer for them: all at once (RFC 6750 §3.1), so that the client
/// need not ask again and again.
fn insufficient<'a>(refused: &Refused<'a>) -> Vec<Cow<'a, str>> {
    let issuer = refused.issuer.and_then(|issuer| refused.snapshot.issuers.get(issuer));
    let name = |scope: &'a Scope| match issuer {
        Some(issuer) => issuer.advertised_scopes.of(scope),
        None => Cow::Borrowed(scope.as_str()),
    };
    refused.scopes().iter().map(name).collect()
}

/// The scopes that a first token must have. `None` if the route names none, or if its issuers name them differently: nobody
/// knows which of them the client will ask.
fn wanted<'a>(refused: &Refused<'a>) -> Option<Vec<Cow<'a, str>>> {
    let Access::Protected(requirement) = &refused.route()?.access else { return None };
    let issuers = requirement.issuers.iter().filter_map(|index| refused.snapshot.issuers.get(*index));
    // Nobody asks an issuer whose tokens a proxy in front brings.
    let mut issuers = issuers.filter(|issuer| issuer.token_header.is_none());
    let advertised = &issuers.next()?.advertised_scopes;
    let agree = issuers.all(|issuer| issuer.advertised_scopes == *advertised);
    let scopes = refused.scopes();
    (agree && !scopes.is_empty()).then(|| scopes.iter().map(|scope| advertised.of(scope)).collect())
}

/// Adds a parameter, its words separated by spaces.
fn add(text: &mut String, name: &str, words: &[impl AsRef<str>]) {
    text.push_str(if text.is_empty() { "Bearer " } else { ", " });
    text.push_str(name);
    text.push_str("=\"");
    for (position, word) in words.iter().enumerate() {
        if position > 0 {
            text.push(' ');
        }
        text.push_str(word.as_ref());
    }
    text.push('"');
}
