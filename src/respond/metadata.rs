//! Protected resource metadata (RFC 9728), from the live snapshot.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;

use crate::snapshot::Resource;

#[derive(Serialize)]
struct Document<'a> {
    resource: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_servers: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<&'a str>,
    bearer_methods_supported: &'static [&'static str],
}

/// The answer to a request for the metadata of a resource: the document (RFC 9728 §3.2), or what a preflight asks for.
pub fn response(resource: &Resource, method: &Method) -> Response<Bytes> {
    if *method == Method::OPTIONS { preflight() } else { document(resource) }
}

/// Scripts of any origin may read the document, with any field: MCP clients send `MCP-Protocol-Version`.
fn preflight() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ALLOW, "GET, HEAD, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD"),
        // A `*` covers all fields but Authorization; older browsers know no `*`.
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, mcp-protocol-version, *"),
        (header::ACCESS_CONTROL_MAX_AGE, "3600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn document(resource: &Resource) -> Response<Bytes> {
    let document = Document {
        resource: resource.resource.as_str(),
        authorization_servers: resource.authorization_servers.iter().map(AsRef::as_ref).collect(),
        scopes_supported: resource.scopes.iter().map(AsRef::as_ref).collect(),
        // An empty list says that there is no such method (RFC 9728 §2).
        bearer_methods_supported: if resource.bearer { &["header"] } else { &[] },
    };
    let mut response = Response::new(Bytes::from(serde_json::to_vec(&document).unwrap_or_default()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    // Scripts of any origin must be able to find out where to get a token; nothing here is secret.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
