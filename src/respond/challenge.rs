//! `WWW-Authenticate` (RFC 6750 §3).

use http::HeaderValue;

use super::Refused;
use crate::reject::{Challenge, OAuthError, Row};

/// The challenge, if the reason asks for one. All of it comes from the policy, which holds only legal characters.
pub(super) fn value(refused: &Refused<'_>, row: &Row) -> Option<HeaderValue> {
    let error = match row.challenge {
        Challenge::None => return None,
        Challenge::Plain => None,
        Challenge::Error(error) => Some(error),
    };
    let mut params = Vec::with_capacity(3);
    if let Some(error) = error {
        params.push(format!("error=\"{}\"", error.as_str()));
    }
    if error == Some(OAuthError::InsufficientScope) {
        // All scopes at once (RFC 6750 §3.1): the client should not have to ask again and again.
        let scopes: Vec<_> = refused.scopes().iter().map(AsRef::as_ref).collect();
        params.push(format!("scope=\"{}\"", scopes.join(" ")));
    }
    if let Some(url) = refused.route().and_then(|route| route.resource_metadata.as_deref()) {
        params.push(format!("resource_metadata=\"{url}\""));
    }
    if params.is_empty() {
        // The scheme must be followed by a parameter (RFC 6750 §3).
        params.push("realm=\"scopegate\"".to_owned());
    }
    HeaderValue::from_str(&format!("Bearer {}", params.join(", "))).ok()
}
