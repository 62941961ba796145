//! Strict-Transport-Security.

use std::collections::HashMap;

use http::{HeaderMap, HeaderValue, Uri, header};

use crate::route::host::{self, Host};

/// Sets the field of the request's host in a response that goes out over TLS, and removes it from any other (RFC 6797 §7).
/// `hosts` has its value for each host. `uri` and `request` are the target and the fields of the request.
pub fn set(
    hosts: &HashMap<Box<str>, HeaderValue>,
    secure: bool,
    uri: &Uri,
    request: &HeaderMap,
    response: &mut HeaderMap,
) {
    if !secure {
        response.remove(header::STRICT_TRANSPORT_SECURITY);
        return;
    }
    if hosts.is_empty() {
        return;
    }
    let as_written = host::written(uri, request).and_then(|host| hosts.get(host));
    let found = as_written.or_else(|| hosts.get(Host::of(uri, request).ok()?.as_str()));
    if let Some(value) = found {
        response.insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
    }
}
