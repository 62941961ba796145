//! Names of header fields that do not go on from a client to an upstream.

/// Fields that belong to one hop only.
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Fields that a client could use to speak for the gateway, or to have an upstream see another request than the one that
/// was decided on. The one list, with who reads them:
///
/// - Client address: load balancers and content delivery networks (nginx, Envoy, Akamai, Cloudflare, Fastly, Fly, Azure,
///   App Engine, Incapsula) and the frameworks that believe them.
/// - Host, scheme, port, prefix: Rails and Rack (`X-Forwarded-*`, `X-Original-Host`), Symfony (`X-Forwarded-Prefix`),
///   ASP.NET (`X-Original-*`, `X-ARR-SSL`), WSGI and IIS (`Front-End-Https`, `X-Url-Scheme`), PHP (`X-Host`,
///   `X-HTTP-Host-Override`).
/// - Path: IIS with URL Rewrite, Symfony and Zend (`X-Original-URL`, `X-Rewrite-URL`), Envoy, Traefik (`X-Replaced-Path`).
/// - Method: Rails, Laravel, Spring, Express and OData (`X-HTTP-Method-Override` and its spellings).
/// - `Proxy` becomes the variable `HTTP_PROXY` in CGI (CVE-2016-5385 and its kin).
/// - Certificates of clients (RFC 9440), transaction tokens, early data (RFC 8470). The gateway answers `Expect` itself.
pub fn is_gateway_only(name: &str) -> bool {
    matches!(
        name,
        "forwarded"
            | "x-forwarded"
            | "forwarded-for"
            | "forwarded-for-ip"
            | "x-original-forwarded-for"
            | "x-original-remote-addr"
            | "x-real-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "x-originating-ip"
            | "x-proxyuser-ip"
            | "x-appengine-user-ip"
            | "x-azure-clientip"
            | "x-azure-socketip"
            | "x-envoy-external-address"
            | "true-client-ip"
            | "client-ip"
            | "cf-connecting-ip"
            | "cf-connecting-ipv6"
            | "cf-pseudo-ipv4"
            | "fastly-client-ip"
            | "fly-client-ip"
            | "incap-client-ip"
            | "wl-proxy-client-ip"
            | "proxy-client-ip"
            | "x-host"
            | "x-http-host-override"
            | "x-host-override"
            | "x-original-host"
            | "x-original-proto"
            | "x-original-scheme"
            | "x-original-for"
            | "x-original-port"
            | "x-original-prefix"
            | "x-scheme"
            | "x-url-scheme"
            | "x-arr-ssl"
            | "front-end-https"
            | "x-script-name"
            | "x-original-url"
            | "x-original-uri"
            | "x-original-path"
            | "x-override-url"
            | "x-rewrite-url"
            | "x-rewrite-uri"
            | "x-rewrite-path"
            | "x-replaced-path"
            | "x-envoy-original-path"
            | "x-envoy-original-host"
            | "x-original-method"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method"
            | "x-method-override"
            | "proxy"
            | "x-request-id"
            | "client-cert"
            | "client-cert-chain"
            | "txn-token"
            | "early-data"
            | "expect"
    ) || name.starts_with("x-forwarded-")
        || is_of_other_gateways(name)
}

/// Fields by which other gateways say who calls: an API that was behind one of them may believe them. A signed assertion, which
/// an API verifies itself, is not among them.
///
/// Apache and many proxies (`Remote-User`, `X-Remote-User`), Grafana and others (`X-WEBAUTH-USER`), oauth2-proxy
/// (`X-Auth-Request-*`), Azure App Service (`X-MS-Client-Principal*`), Google IAP (`X-Goog-Authenticated-User-*`), AWS load
/// balancers (`X-Amzn-Oidc-Identity`), authentik, Cloudflare Access, and TLS terminators (`SSL-Client-*`).
fn is_of_other_gateways(name: &str) -> bool {
    let prefixes: &[&str] = match name.as_bytes() {
        [b'x', ..] => &[
            "x-remote-",
            "x-webauth-",
            "x-authenticated-",
            "x-auth-request-",
            "x-ms-client-principal",
            "x-goog-authenticated-user-",
            "x-amzn-oidc-identity",
            "x-authentik-",
            "x-ssl-client-",
            "x-client-cert",
        ],
        [b'c', ..] => &["cf-access-authenticated-user-"],
        [b'r', ..] => &["remote-"],
        [b's', ..] => &["ssl-client-"],
        _ => &[],
    };
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// The name as servers read it that hand fields over as variables: every character that is no letter or digit is one there. The
/// name is in lower case.
pub fn as_read_by_cgi(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// A name that some servers read as another: `X_User` becomes the same variable as `X-User` in CGI and its descendants.
pub fn is_odd(name: &str) -> bool {
    name.bytes().any(|b| !(b.is_ascii_alphanumeric() || b == b'-'))
}
