//! Cross-origin answers (Fetch standard §3.3), for routes that enable them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::authenticate::TokenPlaces;
use crate::snapshot::Cors;

/// Response fields that every script may read, so that it can act on a refusal.
const ALWAYS_EXPOSED: &[HeaderName] = &[header::WWW_AUTHENTICATE];

/// The answer to a preflight: what is allowed if the origin is, and nothing if it is not. `places` is where the route reads
/// tokens from.
pub fn preflight(cors: &Cors, places: Option<&TokenPlaces>, request: &HeaderMap) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allowed = annotate(cors, request.get(header::ORIGIN), response.headers_mut());
    let headers = response.headers_mut();
    headers.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
    for vary in ["access-control-request-method", "access-control-request-headers"] {
        headers.append(header::VARY, HeaderValue::from_static(vary));
    }
    if !allowed {
        return response;
    }
    let methods: Vec<_> = cors.methods.iter().map(http::Method::as_str).collect();
    let fields = [header::AUTHORIZATION, header::CONTENT_TYPE];
    let tokens = places.into_iter().flat_map(|places| &places.fields);
    let fields: Vec<_> = fields.iter().chain(tokens).chain(&cors.headers).map(HeaderName::as_str).collect();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, methods.join(", ")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, fields.join(", ")),
        (header::ACCESS_CONTROL_MAX_AGE, cors.max_age.as_secs().to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Adds what lets a script of `origin` read a response. What the upstream said on the matter is replaced: the route
/// answers for it. Returns whether the origin is allowed.
pub fn annotate(cors: &Cors, origin: Option<&HeaderValue>, headers: &mut HeaderMap) -> bool {
    for name in [
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
    ] {
        headers.remove(name);
    }
    let Some(origins) = &cors.origins else {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        expose(cors, headers);
        return origin.is_some();
    };
    // The answer depends on the origin, also where there is none.
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    let Some(origin) = origin.filter(|origin| is_listed(origin, origins)) else {
        return false;
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if cors.credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    expose(cors, headers);
    true
}

fn is_listed(origin: &HeaderValue, origins: &[Box<str>]) -> bool {
    origins.binary_search_by(|listed| listed.as_bytes().cmp(origin.as_bytes())).is_ok()
}

fn expose(cors: &Cors, headers: &mut HeaderMap) {
    let names: Vec<_> = ALWAYS_EXPOSED.iter().chain(&cors.expose).map(HeaderName::as_str).collect();
    if let Ok(value) = HeaderValue::from_str(&names.join(", ")) {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, value);
    }
}
