//! `Max-Forwards` of OPTIONS requests (RFC 9110 §7.6.2): how many times one may still be forwarded. In other methods that the
//! gateway answers, the field means nothing.

use http::{HeaderMap, Method, header};

use super::invalid;
use crate::reject::Reject;

/// How many times the request may still be forwarded; `None` if it does not say.
///
/// # Errors
///
/// `request_invalid` for an OPTIONS request whose field is repeated or not a number: the next hop could read another one.
pub fn remaining(method: &Method, headers: &HeaderMap) -> Result<Option<u32>, Reject> {
    if *method != Method::OPTIONS {
        return Ok(None);
    }
    let mut values = headers.get_all(header::MAX_FORWARDS).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits && values.next().is_none() => Ok(Some(number)),
        Ok(_) | Err(_) => Err(invalid("Max-Forwards is repeated or not a number below 2^32")),
    }
}
