//! Any Authorization fields, one a line: a token is taken from one field alone, and only where an independent reader of
//! RFC 6750 §2.1 finds the same one, no longer than a token may be.
#![no_main]

use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use scopegate::authenticate::bearer;
use scopegate::reject::Reason;

const LONGEST: usize = 64;

fuzz_target!(|data: &[u8]| {
    let values = data.split(|byte| *byte == b'\n').map(HeaderValue::from_bytes);
    let Ok(values) = values.collect::<Result<Vec<_>, _>>() else { return };
    let fields: HeaderMap = values.iter().map(|value| (header::AUTHORIZATION, value.clone())).collect();
    let expected = match values.as_slice() {
        [one] => token(one.as_bytes()),
        _ => None,
    };
    match (bearer::extract(&fields, LONGEST), expected) {
        (Ok(token), Some(expected)) => {
            assert_eq!(token.as_bytes(), expected);
            assert!(token.len() <= LONGEST, "{} octets are too many", token.len());
        }
        (Ok(token), None) => panic!("{token:?} is no credential"),
        (Err(reject), Some(expected)) => {
            assert!(expected.len() > LONGEST, "refused although it is good: {reject:?}");
        }
        (Err(reject), None) => {
            let scheme = values
                .first()
                .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"bearer "));
            // What was broken is never taken for absent.
            assert!(!scheme || reject.reason != Reason::CredentialMissing, "{reject:?}");
        }
    }
});

/// The token of a field: the scheme, one space, `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
fn token(field: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = field.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return None;
    }
    let body =
        rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte)).count();
    let padding = rest[body..].iter().all(|byte| *byte == b'=');
    (body > 0 && padding).then_some(rest)
}
