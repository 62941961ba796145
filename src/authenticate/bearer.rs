//! The credential in the header (RFC 6750 §2.1).

use http::HeaderMap;

use crate::reject::Reject;

/// Takes the one bearer token out of the header.
///
/// # Errors
///
/// `credential_missing`, `credential_ambiguous`, `token_malformed`.
pub fn extract(headers: &HeaderMap, max_token: usize) -> Result<&str, Reject> {
    let _ = (headers, max_token);
    todo!()
}
