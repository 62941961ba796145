//! Strict-Transport-Security.

use std::collections::HashMap;

use http::{HeaderMap, HeaderValue, Uri, Version, header};

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
    // A request without a host has no field, whatever its version.
    let host = || Host::of(uri, request, Version::HTTP_11).ok();
    let found = as_written.or_else(|| hosts.get(host()?.as_str()));
    if let Some(value) = found {
        response.insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
    }
}
