//! `application/problem+json` (RFC 9457).

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::Refused;
use crate::reject::{Reason, Row};

/// Where the reasons are documented; the name of the reason follows.
const TYPE_BASE: &str = "https://scopegate.dev/reasons/";

/// Room that a usual body fits in, in bytes.
const USUAL_BODY: usize = 512;

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    reason: &'static str,
    control: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    required_scopes: Option<Vec<&'a str>>,
    request_id: &'a str,
    detail: &'static str,
}

pub(super) fn response(refused: &Refused<'_>, row: &'static Row) -> Response<Bytes> {
    // A 403 is given to known callers only.
    let known = refused.authenticated && row.status == 403;
    let problem = Problem {
        r#type: [TYPE_BASE, row.name].concat(),
        title: row.title,
        status: row.status,
        reason: row.name,
        control: row.control.as_str(),
        route: refused.route().map(|route| route.id.as_str()),
        owner: known.then(|| refused.snapshot.owner(refused.route, row.control).map(AsRef::as_ref)).flatten(),
        required_scopes: (known && refused.reject.reason == Reason::ScopeMissing)
            .then(|| refused.scopes().iter().map(AsRef::as_ref).collect()),
        request_id: refused.request_id,
        detail: row.detail,
    };
    let mut body = Vec::with_capacity(USUAL_BODY);
    // Writing to memory does not fail, nor does text as JSON.
    let _ = serde_json::to_writer(&mut body, &problem);
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(row.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
