//! Credentials that authenticate a connection instead of a request: NTLM, and Negotiate where it falls back to NTLM
//! (RFC 4559 §6). An upstream that accepted one takes every later request on that connection for the same caller.
//!
//! 1. A connection that carried such a credential is closed after its response. No other request is sent on it.
//! 2. NTLM is refused: its three messages need one connection, which then would have to belong to one client.
//! 3. Over HTTP/2 both are refused: other clients' requests share the connection at the same time.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::reject::{Reason, Reject};

/// Whether the connection that carries a request may carry others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// It may.
    No,
    /// It must not: the credential may authenticate it.
    Connection,
}

/// Looks at the Authorization fields that go to the upstream. `shared` is whether the connection is.
///
/// # Errors
///
/// `credential_unsupported`.
pub(super) fn credential(headers: &HeaderMap, shared: bool) -> Result<Bound, Reject> {
    let refused = |scheme: &'static str, why: &'static str| {
        let cause = format!("Authorization: {scheme} authenticates a connection; {why}");
        Err(Reject::because(Reason::CredentialUnsupported, cause))
    };
    let mut bound = Bound::No;
    for value in headers.get_all(header::AUTHORIZATION) {
        match scheme(value.as_bytes()) {
            Some("NTLM") => {
                return refused("NTLM", "connections to upstreams are not tied to one client");
            }
            Some(scheme) if shared => {
                return refused(scheme, "an HTTP/2 upstream's connection is shared between clients");
            }
            Some(_) => bound = Bound::Connection,
            None => {}
        }
    }
    Ok(bound)
}

/// Whether a response asks for such a credential, or says that one was accepted. Only a 401 and a request that carried one
/// can.
pub(super) fn challenges(status: StatusCode, headers: &HeaderMap) -> bool {
    let asks =
        |value: &HeaderValue| value.as_bytes().split(|b| *b == b',').any(|part| scheme(part).is_some());
    status == StatusCode::UNAUTHORIZED && headers.get_all(header::WWW_AUTHENTICATE).iter().any(asks)
}

/// The scheme at the start of a credential or challenge, if it is one that authenticates connections.
fn scheme(value: &[u8]) -> Option<&'static str> {
    let value = value.trim_ascii_start();
    let end = value.iter().position(|b| !(b.is_ascii_alphanumeric() || *b == b'-')).unwrap_or(value.len());
    let name = value.get(..end).unwrap_or_default();
    ["NTLM", "Negotiate", "Nego2", "Kerberos"]
        .into_iter()
        .find(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: header::HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_credentials_of_a_connection_bind_it() {
        for (values, own, shared) in [
            (&[][..], Some(Bound::No), Some(Bound::No)),
            (&["Bearer abc"], Some(Bound::No), Some(Bound::No)),
            (&["Basic TlRMTVNTUAAB"], Some(Bound::No), Some(Bound::No)),
            (&["Negotiated abc"], Some(Bound::No), Some(Bound::No)),
            (&["Negotiate YII="], Some(Bound::Connection), None),
            (&["negotiate YII="], Some(Bound::Connection), None),
            (&["Negotiate"], Some(Bound::Connection), None),
            (&["Negotiate\tYII="], Some(Bound::Connection), None),
            (&["Nego2 YII="], Some(Bound::Connection), None),
            (&["Kerberos YII="], Some(Bound::Connection), None),
            (&["Bearer abc", "Negotiate YII="], Some(Bound::Connection), None),
            (&["NTLM TlRMTVNTUAAB"], None, None),
            (&["nTlM TlRMTVNTUAAB"], None, None),
            (&["  NTLM TlRMTVNTUAAB"], None, None),
            (&["Bearer abc", "NTLM TlRMTVNTUAAB"], None, None),
        ] {
            let headers = fields(header::AUTHORIZATION, values);
            assert_eq!(credential(&headers, false).ok(), own, "{values:?}");
            assert_eq!(credential(&headers, true).ok(), shared, "{values:?}, shared");
        }
    }

    #[test]
    fn only_a_401_with_such_a_challenge_counts() {
        for (status, values, expected) in [
            (401, &["NTLM"][..], true),
            (401, &["NTLM TlRMTVNTUAACAAAA"], true),
            (401, &["Bearer realm=\"x\"", "negotiate"], true),
            (401, &["Bearer realm=\"x\", Negotiate"], true),
            (401, &["Bearer realm=\"x\""], false),
            (401, &["Basic realm=\"NTLM\""], false),
            (401, &[], false),
            (200, &["NTLM"], false),
        ] {
            let headers = fields(header::WWW_AUTHENTICATE, values);
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(challenges(status, &headers), expected, "{status} {values:?}");
        }
    }
}
