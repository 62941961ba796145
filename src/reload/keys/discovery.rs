//! From an issuer's identifier to its `jwks_uri`.

use std::net::IpAddr;

use http::{StatusCode, Uri};

use super::{RefreshError, plain};
use crate::authenticate::IssuerPolicy;
use crate::authenticate::json::{Json, Object};
use crate::reload::fetch::{FetchError, Fetcher};

/// Finds the `jwks_uri` in the issuer's metadata.
pub(super) async fn jwks_uri(policy: &IssuerPolicy, fetcher: &Fetcher) -> Result<Uri, RefreshError> {
    let mut first = None;
    for url in locations(policy.issuer.as_str())? {
        let error = match fetcher.get(&url, plain(policy)).await {
            Ok(text) => match read(&text, policy) {
                Ok(uri) => return Ok(uri),
                Err(error) => error,
            },
            Err(source) => {
                // A response says that the document may be elsewhere; silence would be the same there, and a server that
                // asks for a pause gets it.
                let answered = match &source {
                    FetchError::Status { status, retry_after } => {
                        *status != StatusCode::TOO_MANY_REQUESTS && retry_after.is_none()
                    }
                    FetchError::Redirect { .. }
                    | FetchError::Http(_)
                    | FetchError::Body(_)
                    | FetchError::Encoded => true,
                    FetchError::Url(_)
                    | FetchError::Resolve(_)
                    | FetchError::Connect(_)
                    | FetchError::Proxy(_)
                    | FetchError::Tunnel(_)
                    | FetchError::Tls(_)
                    | FetchError::Timeout => false,
                };
                let error = RefreshError::Metadata { url: url.to_string().into(), source };
                if !answered {
                    return Err(error);
                }
                error
            }
        };
        // A document that is there and wrong says more than one that is not there.
        match (&first, &error) {
            (None, _) | (Some(RefreshError::Metadata { .. }), _) => first = Some(error),
            (Some(_), _) => {}
        }
    }
    Err(first.unwrap_or(RefreshError::Issuer("it has no location")))
}

/// Whether a URL has scheme, host and port of the issuer.
pub(super) fn is_of_issuer(url: &Uri, policy: &IssuerPolicy) -> bool {
    let origin = |url: &Uri| {
        let scheme = url.scheme_str()?.to_owned();
        let default = if scheme == "https" { 443 } else { 80 };
        Some((scheme, url.host()?.to_ascii_lowercase(), url.port_u16().unwrap_or(default)))
    };
    policy.issuer.as_str().parse().is_ok_and(|issuer| origin(url).is_some() && origin(url) == origin(&issuer))
}

/// Where metadata may be, in the order of RFC 8414 §3.1 and §5: inserted before the path under both names, then appended.
fn locations(issuer: &str) -> Result<Vec<Uri>, RefreshError> {
    let uri: Uri = issuer.parse().map_err(|_| RefreshError::Issuer("it is no URL"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(RefreshError::Issuer("it has no scheme or host"));
    };
    if uri.query().is_some() || issuer.contains('#') {
        return Err(RefreshError::Issuer("it has a query or a fragment"));
    }
    let path = uri.path().trim_end_matches('/');
    let mut paths = vec![
        format!("/.well-known/oauth-authorization-server{path}"),
        format!("/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        paths.push(format!("{path}/.well-known/openid-configuration"));
    }
    paths
        .into_iter()
        .map(|path| {
            format!("{scheme}://{authority}{path}")
                .parse()
                .map_err(|_| RefreshError::Issuer("it makes no legal URL"))
        })
        .collect()
}

/// The issuer that metadata names, for the log: not verified, so its length is bounded.
fn shown(metadata: &Object) -> Box<str> {
    let named = metadata.get("issuer").and_then(Json::as_str).unwrap_or_default();
    named.chars().take(200).collect::<String>().into()
}

fn read(text: &[u8], policy: &IssuerPolicy) -> Result<Uri, RefreshError> {
    let metadata = Object::parse_document(text).map_err(RefreshError::Json)?;
    if metadata.get("issuer").and_then(Json::as_str) != Some(policy.issuer.as_str()) {
        return Err(RefreshError::OtherIssuer(shown(&metadata), policy.issuer.clone()));
    }
    let uri: Uri = metadata
        .get("jwks_uri")
        .and_then(Json::as_str)
        .ok_or(RefreshError::KeysUri("it is missing"))?
        .parse()
        .map_err(|_| RefreshError::KeysUri("it is no URL"))?;
    let issuer: Uri = policy.issuer.as_str().parse().map_err(|_| RefreshError::Issuer("it is no URL"))?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if policy.plain_http && issuer.scheme_str() == Some("http") => {}
        Some(_) | None => return Err(RefreshError::KeysUri("it is not https")),
    }
    let host = uri.host().ok_or(RefreshError::KeysUri("it has no host"))?;
    if is_private(host) && !issuer.host().is_some_and(is_private) {
        return Err(RefreshError::KeysUri("it is a private address, and the issuer is not"));
    }
    Ok(uri)
}

/// Whether a host is written as an address that means something else on every network, or as this machine itself.
fn is_private(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.');
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(v4)) => {
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
        }
        Ok(IpAddr::V6(v6)) => {
            v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
        Err(_) => {
            let host = host.to_ascii_lowercase();
            // Digits, dots and `0x` alone are an address to some resolvers: `127.1`, `2130706433`, `0x7f.1`.
            let last = host.rsplit('.').next().unwrap_or_default();
            host == "localhost"
                || host.ends_with(".localhost")
                || last.starts_with(|c: char| c.is_ascii_digit())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::testing;
    use crate::types::Issuer;

    #[test]
    fn metadata_is_looked_for_in_the_order_of_the_rfc() {
        let rows: [(&str, &[&str]); 3] = [
            (
                "https://idp.example.com",
                &[
                    "https://idp.example.com/.well-known/oauth-authorization-server",
                    "https://idp.example.com/.well-known/openid-configuration",
                ],
            ),
            (
                "https://idp.example.com/",
                &[
                    "https://idp.example.com/.well-known/oauth-authorization-server",
                    "https://idp.example.com/.well-known/openid-configuration",
                ],
            ),
            (
                "https://idp.example.com:8443/realms/a/",
                &[
                    "https://idp.example.com:8443/.well-known/oauth-authorization-server/realms/a",
                    "https://idp.example.com:8443/.well-known/openid-configuration/realms/a",
                    "https://idp.example.com:8443/realms/a/.well-known/openid-configuration",
                ],
            ),
        ];
        for (issuer, expected) in rows {
            let found: Vec<_> = locations(issuer).unwrap().iter().map(Uri::to_string).collect();
            assert_eq!(found, expected, "{issuer}");
        }
        for issuer in ["corp", "/a", "https://a?b=c", "https://a/#b", ""] {
            assert!(locations(issuer).is_err(), "{issuer:?}");
        }
    }

    #[test]
    fn metadata_counts_only_for_its_own_issuer_and_with_a_safe_jwks_uri() {
        let mut policy = testing::policy();
        policy.issuer = Issuer::new("https://idp.example.com");
        let good = "https://idp.example.com";
        for (issuer, uri, accepted, why) in [
            (good, "https://idp.example.com/keys", true, "the same host"),
            (good, "https://keys.example.net/keys", true, "another host"),
            ("https://idp.example.com/", "https://idp.example.com/keys", false, "a slash too many"),
            ("https://IDP.example.com", "https://idp.example.com/keys", false, "another spelling"),
            (good, "http://idp.example.com/keys", false, "plain HTTP"),
            (good, "file:///etc/passwd", false, "a file"),
            (good, "/keys", false, "relative"),
            (good, "https://169.254.169.254/latest", false, "link-local"),
            (good, "https://127.0.0.1/keys", false, "loopback"),
            (good, "https://127.1/keys", false, "loopback, short"),
            (good, "https://2130706433/keys", false, "loopback as a number"),
            (good, "https://0x7f.1/keys", false, "loopback in hex, last part a digit"),
            (good, "https://10.0.0.1/keys", false, "a private network"),
            (good, "https://[::1]/keys", false, "IPv6 loopback"),
            (good, "https://[::ffff:127.0.0.1]/keys", false, "IPv4 in IPv6"),
            (good, "https://localhost/keys", false, "this machine"),
        ] {
            let text = serde_json::json!({"issuer": issuer, "jwks_uri": uri}).to_string();
            assert_eq!(read(text.as_bytes(), &policy).is_ok(), accepted, "{why}");
        }
        for text in [
            "[]",
            "{}",
            "<html>",
            r#"{"issuer":"https://idp.example.com"}"#,
            r#"{"issuer":["https://idp.example.com"],"jwks_uri":"https://a/"}"#,
        ] {
            assert!(read(text.as_bytes(), &policy).is_err(), "{text}");
        }
    }
}
