//! Header fields that tell an upstream who calls: claims of a verified token, byte for byte or not at all.

use std::fmt::Write;

use http::{HeaderName, HeaderValue};

use super::headers::Fields;
use crate::authenticate::json::Json;
use crate::authenticate::{ClaimPath, IssuerPolicy, TokenFacts};
use crate::snapshot::IdentityField;

/// Sets the identity headers of a route from verified facts. A field that the token does not have stays absent: it was
/// removed before, so that it cannot be the client's.
pub(super) fn identify(
    headers: &[(HeaderName, IdentityField)],
    facts: &TokenFacts,
    issuer: Option<&IssuerPolicy>,
    fields: &mut impl Fields,
) {
    for (name, field) in headers {
        let roles = || issuer.and_then(|issuer| issuer.claims.roles.as_ref());
        let value = match field {
            IdentityField::Subject => facts.subject.as_deref().and_then(value),
            IdentityField::Client => facts.client.as_deref().and_then(value),
            IdentityField::Scope => value(&facts.scopes.join(" ")),
            IdentityField::Tenant => facts.tenant.as_deref().and_then(value),
            IdentityField::Issuer => value(facts.issuer.as_str()),
            IdentityField::Actor => facts.actor.as_deref().and_then(value),
            IdentityField::TokenId => facts.token_id.as_deref().and_then(value),
            IdentityField::Roles => roles().and_then(|path| claim(facts, path)),
            IdentityField::Claim(path) => claim(facts, path),
        };
        if let Some(value) = value {
            fields.add(name, &value);
        }
    }
}

/// A header value of claim text, byte for byte. Text that a header cannot carry as it is (a control character, a space at
/// either end) gives none: encoded or trimmed, it could pass for another caller's.
fn value(text: &str) -> Option<HeaderValue> {
    let fits = !text.is_empty() && text.trim() == text && !text.bytes().any(|b| b.is_ascii_control());
    fits.then(|| HeaderValue::from_bytes(text.as_bytes()).ok()).flatten()
}

/// The value of a claim: a scalar, or the scalars of an array separated by commas.
fn claim(facts: &TokenFacts, path: &ClaimPath) -> Option<HeaderValue> {
    let mut text = String::new();
    match facts.claims.at(path)? {
        Json::Array(items) => {
            for item in items {
                if !text.is_empty() {
                    text.push(',');
                }
                // A comma within an item could pass for two items.
                if matches!(item, Json::String(item) if item.contains(',')) {
                    return None;
                }
                scalar(&mut text, item)?;
            }
        }
        single => scalar(&mut text, single)?,
    }
    value(&text)
}

fn scalar(text: &mut String, json: &Json) -> Option<()> {
    match json {
        Json::Bool(flag) => write!(text, "{flag}").ok(),
        Json::Number(number) => write!(text, "{number}").ok(),
        Json::String(item) => write!(text, "{item}").ok(),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}
