//! Header fields that tell an upstream who calls: claims of a verified token, byte for byte or not at all.

use std::borrow::Cow;
use std::fmt::Write;

use http::HeaderName;

use super::headers::Fields;
use crate::authenticate::json::Json;
use crate::authenticate::{ClaimPath, IssuerPolicy, Principal, TokenFacts};
use crate::snapshot::IdentityField;

/// Sets the identity headers of a route from verified facts. A field that the token does not have stays absent: it was
/// removed before, so that it cannot be the client's.
pub fn identify(
    headers: &[(HeaderName, IdentityField)],
    principal: &Principal,
    issuer: Option<&IssuerPolicy>,
    fields: &mut impl Fields,
) {
    let facts = principal.facts();
    for (name, field) in headers {
        let roles = || issuer.and_then(|issuer| issuer.claims.roles.as_ref());
        let text: Option<Cow<'_, str>> = match field {
            IdentityField::Subject => facts.subject.as_deref().map(Cow::from),
            IdentityField::Client => facts.client.as_deref().map(Cow::from),
            IdentityField::Scope => Some(facts.scopes.join(" ").into()),
            IdentityField::Tenant => principal.tenant().map(Cow::from),
            IdentityField::Issuer => Some(facts.issuer.as_str().into()),
            IdentityField::Actor => facts.actor.as_deref().map(Cow::from),
            IdentityField::TokenId => facts.token_id.as_deref().map(Cow::from),
            IdentityField::Roles => roles().and_then(|path| claim(facts, path)).map(Cow::from),
            // The claim may name tenants that the issuer may not assert.
            IdentityField::Claim(path) if issuer.is_none_or(|issuer| issuer.limits_tenants_at(path)) => {
                principal.tenant().map(Cow::from)
            }
            IdentityField::Claim(path) => claim(facts, path).map(Cow::from),
        };
        if let Some(text) = text.filter(|text| fits(text)) {
            fields.add_text(name, &text);
        }
    }
}

/// Whether a header can carry claim text byte for byte. Text that it cannot (a control character, a space at either end)
/// gives no field: encoded or trimmed, it could pass for another caller's.
fn fits(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.bytes().any(|b| b.is_ascii_control())
}

/// The text of a claim: a scalar, or the scalars of an array separated by commas.
fn claim(facts: &TokenFacts, path: &ClaimPath) -> Option<String> {
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
    Some(text)
}

fn scalar(text: &mut String, json: &Json) -> Option<()> {
    match json {
        Json::Bool(flag) => write!(text, "{flag}").ok(),
        // A number that was rounded when it was read could be another caller's.
        Json::Number(number) if number.is_f64() => None,
        Json::Number(number) => write!(text, "{number}").ok(),
        Json::String(item) => write!(text, "{item}").ok(),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}
