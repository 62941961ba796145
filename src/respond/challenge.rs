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
    let mut text = String::with_capacity(128);
    if let Some(error) = error {
        add(&mut text, "error", &[error.as_str()]);
    }
    if error == Some(OAuthError::InsufficientScope) {
        // All scopes at once (RFC 6750 §3.1): the client should not have to ask again and again.
        add(&mut text, "scope", refused.scopes());
    }
    if let Some(url) = refused.route().and_then(|route| route.resource_metadata.as_deref()) {
        add(&mut text, "resource_metadata", &[url]);
    }
    if text.is_empty() {
        // The scheme must be followed by a parameter (RFC 6750 §3).
        add(&mut text, "realm", &["scopegate"]);
    }
    HeaderValue::from_str(&text).ok()
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
