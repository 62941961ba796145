//! Any Authorization fields, or lines of subprotocols, one a line: a token is taken from one field alone, and only where an independent reader of
//! RFC 6750 §2.1 finds the same one, no longer than a token may be. Of subprotocols, all go on but the token and its name.
#![no_main]

use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use scopegate::authenticate::bearer;
use scopegate::authenticate::subprotocol::Offer;
use scopegate::reject::Reason;

const LONGEST: usize = 64;

fuzz_target!(|data: &[u8]| {
    let values = data.split(|byte| *byte == b'\n').map(HeaderValue::from_bytes);
    let Ok(values) = values.collect::<Result<Vec<_>, _>>() else { return };
    let fields: HeaderMap = values.iter().map(|value| (header::AUTHORIZATION, value.clone())).collect();
    subprotocols(&values);
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

/// The items of a list that announces a token are the name, the token and what goes on.
fn subprotocols(values: &[HeaderValue]) {
    let fields: HeaderMap =
        values.iter().map(|value| (header::SEC_WEBSOCKET_PROTOCOL, value.clone())).collect();
    let Ok(Some(offer)) = Offer::parse(&fields, "bearer", LONGEST) else { return };
    let items = values.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let items: Vec<&[u8]> = items.map(<[u8]>::trim_ascii).collect();
    let at = items.iter().position(|item| *item == b"bearer").unwrap();
    assert_eq!(items[at + 1], offer.token().as_bytes());
    assert!(offer.token().len() <= LONGEST);
    let others: Vec<&[u8]> = [&items[..at], &items[at + 2..]].concat();
    assert!(others.iter().copied().eq(offer.others().iter().map(|other| other.as_bytes())));
    assert!(!others.iter().any(|other| other.eq_ignore_ascii_case(b"bearer") || *other == items[at + 1]));
}

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
