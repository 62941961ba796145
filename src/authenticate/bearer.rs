//! The credential in the header (RFC 6750 §2.1).
//!
//! 1. Only the `Authorization` field is read here: a token in the query or the body is no credential, and one in another
//!    field only where an issuer says so ([`super::credential`]).
//! 2. Two `Authorization` fields are refused, whatever is in them: which one counts must not depend on who reads.
//! 3. The scheme is compared without regard to case (RFC 9110 §11.1); exactly one space and one `b64token` follow.
//! 4. No field, or one of another scheme, is a missing credential. A field that cannot be read is a malformed token and
//!    never a missing one: what is absent may one day be let through somewhere, what is broken may not.
//! 5. What is longer than a token may be is refused before it is looked at.

use http::{HeaderMap, header};

use crate::reject::{Reason, Reject};

/// The scheme and the space behind it.
const PREFIX: usize = "Bearer ".len();

/// Takes the one bearer token out of the header. `max_token` is in bytes.
///
/// # Errors
///
/// `credential_missing`, `credential_ambiguous`, `token_malformed`.
pub fn extract(headers: &HeaderMap, max_token: usize) -> Result<&str, Reject> {
    find(headers, max_token).and_then(check_form)
}

/// The same without a look at the form of the token: a token that was accepted before has the right one.
pub(super) fn find(headers: &HeaderMap, max_token: usize) -> Result<&str, Reject> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let field = fields
        .next()
        .ok_or(Reject::because(Reason::CredentialMissing, "the request has no Authorization field"))?;
    if fields.next().is_some() {
        return Err(Reject::because(Reason::CredentialAmbiguous, "more than one Authorization field"));
    }
    if field.len() > max_token.saturating_add(PREFIX) {
        return Err(too_long(max_token));
    }
    // Of ASCII, the type of a value lets through visible characters, space and tab.
    let field = std::str::from_utf8(field.as_bytes())
        .ok()
        .filter(|field| field.is_ascii())
        .ok_or_else(|| malformed("the Authorization field holds bytes outside ASCII"))?;

    let end = field.bytes().position(|b| !is_tchar(b)).unwrap_or(field.len());
    let (scheme, rest) = field.split_at_checked(end).unwrap_or((field, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Reject::because(
            Reason::CredentialMissing,
            "the Authorization field holds no Bearer credential",
        ));
    }
    rest.strip_prefix(' ').filter(|token| !token.is_empty()).ok_or_else(no_token)
}

/// Refuses what is no `b64token`.
pub(super) fn check_form(token: &str) -> Result<&str, Reject> {
    if is_b64token(token) { Ok(token) } else { Err(no_token()) }
}

fn no_token() -> Reject {
    malformed("not one space and one token after the scheme")
}

fn malformed(cause: &'static str) -> Reject {
    Reject::because(Reason::TokenMalformed, cause)
}

/// A character of a `token`, such as a scheme's name (RFC 9110 §5.6.2).
pub(super) const fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether a text may be a bearer token (RFC 6750 §2.1): `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
pub fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=').as_bytes();
    // Without a way out in the middle, the compiler looks at many bytes at once.
    !body.is_empty() && body.iter().fold(true, |legal, byte| legal & is_b64token_byte(*byte))
}

const fn is_b64token_byte(byte: u8) -> bool {
    // `-`, `.` and `/` stand side by side.
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    letter | (byte.wrapping_sub(b'-') < 13) | (byte == b'_') | (byte == b'~') | (byte == b'+')
}

/// The refusal of a token that is longer than `limits.token`.
pub(super) fn too_long(limit: usize) -> Reject {
    let cause = format!("the token has more than {limit} bytes (`limits.token`)");
    Reject::because(Reason::TokenMalformed, cause)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap())).collect()
    }

    fn reason(values: &[&[u8]]) -> Option<Reason> {
        extract(&headers(values), 64).err().map(|reject| reject.reason)
    }

    #[test]
    fn one_bearer_credential_is_taken() {
        for (value, token, why) in [
            ("Bearer a", "a", "as the RFC writes it"),
            ("bearer a.b.c", "a.b.c", "lower case"),
            ("BEARER a-._~+/9==", "a-._~+/9==", "upper case, all of b64token"),
            ("bEaReR a", "a", "mixed case"),
        ] {
            assert_eq!(extract(&headers(&[value.as_bytes()]), 64), Ok(token), "{why}");
        }
    }

    #[test]
    fn what_is_not_one_bearer_credential_is_refused() {
        use Reason::{CredentialAmbiguous, CredentialMissing, TokenMalformed};
        let long = format!("Bearer {}", "a".repeat(65));
        let rows: &[(&[&[u8]], Reason, &str)] = &[
            (&[], CredentialMissing, "no field"),
            (&[b""], CredentialMissing, "an empty field"),
            (&[b"Basic dTpw"], CredentialMissing, "Basic"),
            (&[b"DPoP a"], CredentialMissing, "DPoP"),
            (&[b"Bearera"], CredentialMissing, "another scheme"),
            (&[b"Bearer a", b"Bearer b"], CredentialAmbiguous, "two fields"),
            (&[b"Bearer a", b"Bearer a"], CredentialAmbiguous, "two equal fields"),
            (&[b"Basic x", b"Bearer a"], CredentialAmbiguous, "two schemes"),
            (&[b"Bearer a", b""], CredentialAmbiguous, "an empty one beside it"),
            (&[b"Bearer a, Bearer b"], TokenMalformed, "a list"),
            (&[b"Bearer a,"], TokenMalformed, "a trailing comma"),
            (&[b"Bearer a b"], TokenMalformed, "two tokens"),
            (&[b"Bearer  a"], TokenMalformed, "two spaces"),
            (&[b"Bearer\ta"], TokenMalformed, "a tab"),
            (&[b"Bearer a "], TokenMalformed, "a trailing space"),
            (&[b"Bearer"], TokenMalformed, "no token"),
            (&[b"Bearer "], TokenMalformed, "an empty token"),
            (&[b"Bearer ="], TokenMalformed, "padding alone"),
            (&[b"Bearer a=b"], TokenMalformed, "padding inside"),
            (&[b"Bearer:a"], TokenMalformed, "a colon"),
            (&[b"Bearer \"a\""], TokenMalformed, "quotes"),
            (&[b"Bearer \xff"], TokenMalformed, "a byte outside ASCII"),
            (&["Bearer é".as_bytes()], TokenMalformed, "UTF-8"),
            (&["Bäsic x".as_bytes()], TokenMalformed, "a scheme outside ASCII is not absence"),
            (&[long.as_bytes()], TokenMalformed, "longer than allowed"),
        ];
        for (values, expected, why) in rows {
            assert_eq!(reason(values), Some(*expected), "{why}");
        }
    }

    #[test]
    fn the_limit_counts_the_token_alone() {
        let value = format!("Bearer {}", "a".repeat(64));
        assert!(extract(&headers(&[value.as_bytes()]), 64).is_ok());
        assert!(extract(&headers(&[value.as_bytes()]), usize::MAX).is_ok());
        assert!(extract(&headers(&[value.as_bytes()]), 0).is_err());
    }

    #[test]
    fn other_fields_are_not_read() {
        let mut map = HeaderMap::new();
        for name in ["proxy-authorization", "x-authorization", "x-forwarded-authorization"] {
            map.insert(name, HeaderValue::from_static("Bearer a"));
        }
        assert_eq!(extract(&map, 64).unwrap_err().reason, Reason::CredentialMissing);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_the_field_without_its_scheme(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(field) = HeaderValue::from_bytes(&value) {
                let map = HeaderMap::from_iter([(header::AUTHORIZATION, field)]);
                if let Ok(token) = extract(&map, 64) {
                    prop_assert_eq!(token.as_bytes(), &value[PREFIX..]);
                }
            }
        }
    }
}
