//! Who may ask what of the admin listener.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Request, StatusCode, Version, header};
use hyper::body::Incoming;

use super::{Answer, plain};
use crate::snapshot::Admin;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is refused; `open` is one that needs no token anywhere.
pub(super) fn refusal(
    policy: &Admin,
    request: &Request<Incoming>,
    write: bool,
    open: bool,
) -> Option<Answer> {
    if !(is_known_host(policy, request) || (open && !write && names_no_host(request))) {
        return Some(plain(
            StatusCode::MISDIRECTED_REQUEST,
            "unknown Host: use the address, localhost, or a name listed in gateway.admin.hosts\n",
        ));
    }
    if is_cross_origin(request) {
        return Some(plain(StatusCode::FORBIDDEN, "requests of another origin are refused\n"));
    }
    let local = policy.address.ip().is_loopback();
    if !write && (open || local) {
        return None;
    }
    match &policy.token {
        None if write => {
            Some(plain(StatusCode::FORBIDDEN, "writes need gateway.admin.token, which is not configured\n"))
        }
        None => Some(plain(
            StatusCode::FORBIDDEN,
            "off loopback, only metrics and health answer without gateway.admin.token\n",
        )),
        Some(token) => match bearer(request.headers().get(header::AUTHORIZATION)) {
            Some(presented) if token.matches(presented) => None,
            Some(_) | None => {
                let mut response = plain(StatusCode::UNAUTHORIZED, "the admin token is needed\n");
                let challenge = HeaderValue::from_static("Bearer realm=\"scopegate admin\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                Some(response)
            }
        },
    }
}

fn bearer(value: Option<&HeaderValue>) -> Option<&[u8]> {
    let (scheme, token) = value?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// A page that had its own name point here (DNS rebinding) sends that name: an address or `localhost` cannot be one.
fn is_known_host(policy: &Admin, request: &Request<Incoming>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(authority) = http::uri::Authority::try_from(host.as_bytes()) else {
        return false;
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || policy.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether this is HTTP/1.0 without Host, as health checks of load balancers are. No browser sends it.
fn names_no_host(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_10
        && !request.headers().contains_key(header::HOST)
        && request.uri().authority().is_none()
}

/// Whether a browser says that a page of another origin asks.
fn is_cross_origin(request: &Request<Incoming>) -> bool {
    let site = request.headers().get(SEC_FETCH_SITE);
    if site.is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none")) {
        return true;
    }
    let own = request.headers().get(header::HOST).map(HeaderValue::as_bytes);
    request.headers().get(header::ORIGIN).is_some_and(|origin| {
        let origin = origin.as_bytes();
        let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        authority.is_none() || authority != own
    })
}
