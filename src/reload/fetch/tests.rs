use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::reload::testing::{Reply, Server};

fn fetcher() -> Fetcher {
    Fetcher::new(None, Egress::default()).unwrap().with_timeout(Duration::from_secs(5))
}

async fn get(server: &Server, path: &str) -> Result<Bytes, FetchError> {
    fetcher().get(&server.uri(path), Plain::Loopback).await
}

#[tokio::test]
async fn a_document_is_fetched_with_nothing_that_identifies_anybody() {
    let server = Server::start(|_| Reply::ok(r#"{"a":1}"#)).await;
    assert_eq!(get(&server, "/keys?x=1").await.unwrap(), r#"{"a":1}"#);
    let heads = server.heads();
    assert_eq!(server.count("/keys?x=1"), 1);
    assert!(heads[0].contains(&format!("host: {}\r\n", server.address)), "{heads:?}");
    assert!(heads[0].contains("accept: application/jwk-set+json, application/json;"), "{heads:?}");
    for name in ["authorization", "cookie", "referer"] {
        assert!(!heads[0].contains(name), "{heads:?}");
    }
}

#[tokio::test]
async fn only_status_200_without_a_content_coding_brings_a_document() {
    let server = Server::start(|path| match path {
        "/gzip" => Reply::status("200 OK", "content-encoding: gzip\r\n", "\x1f"),
        "/identity" => Reply::status("200 OK", "content-encoding: identity\r\n", "{}"),
        status => Reply::status(status.trim_start_matches('/'), "retry-after: 7\r\n", "{}"),
    })
    .await;
    assert!(matches!(get(&server, "/gzip").await, Err(FetchError::Encoded)));
    assert!(get(&server, "/identity").await.is_ok());
    for status in ["201", "204", "206", "304", "404", "429", "500", "503"] {
        let error = get(&server, &format!("/{status}")).await.unwrap_err();
        assert!(matches!(error, FetchError::Status { .. }), "{status}: {error:?}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{status}");
    }
}

#[tokio::test]
async fn a_redirect_stays_on_the_server() {
    let other = Server::start(|_| Reply::ok("stolen")).await;
    let elsewhere = other.uri("/keys").to_string();
    let port = other.address.port();
    let server = Server::start(move |path| match path {
        "/relative" => Reply::redirect("/keys"),
        "/once" => Reply::redirect("/relative"),
        "/twice" => Reply::redirect("/once"),
        "/circle" => Reply::redirect("/circle"),
        "/elsewhere" => Reply::redirect(&elsewhere),
        "/network-path" => Reply::redirect(&format!("//127.0.0.1:{port}/keys")),
        "/metadata" => Reply::redirect("http://169.254.169.254/latest"),
        "/https" => Reply::redirect(&elsewhere.replace("http:", "https:")),
        "/user" => Reply::redirect("http://user@127.0.0.1/keys"),
        "/file" => Reply::redirect("file:///etc/passwd"),
        "/name" => Reply::redirect("keys"),
        "/nowhere" => Reply::status("302 Found", "", ""),
        _ => Reply::ok("{}"),
    })
    .await;
    for path in ["/relative", "/name", "/once"] {
        assert!(get(&server, path).await.is_ok(), "{path}");
    }
    for path in [
        "/twice",
        "/circle",
        "/elsewhere",
        "/network-path",
        "/metadata",
        "/https",
        "/user",
        "/file",
        "/nowhere",
    ] {
        let error = get(&server, path).await.unwrap_err();
        assert!(matches!(error, FetchError::Redirect { .. }), "{path}: {error:?}");
    }
    let error = get(&server, "/file").await.unwrap_err().to_string();
    assert_eq!(error, "the redirect to \"file:///etc/passwd\" is refused: it leads to another server");
    assert_eq!(server.count("/circle"), 3);
    assert!(other.heads().is_empty(), "nobody else was asked");
}

#[tokio::test]
async fn an_absolute_redirect_to_the_same_server_is_followed() {
    let target = Arc::new(std::sync::OnceLock::<String>::new());
    let script = Arc::clone(&target);
    let server = Server::start(move |path| match path {
        "/keys" => Reply::ok("{}"),
        _ => Reply::redirect(script.get().unwrap()),
    })
    .await;
    target.set(server.uri("/keys").to_string()).unwrap();
    assert!(get(&server, "/absolute").await.is_ok());
}

#[tokio::test]
async fn a_body_is_bounded() {
    let server = Server::start(|path| match path {
        "/limit" => Reply::ok(vec![b' '; MAX_BODY]),
        "/over" => Reply::ok(vec![b' '; MAX_BODY + 1]),
        "/short" => Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".to_vec()),
        "/head" => Reply::status("200 OK", &format!("x: {}\r\n", "x".repeat(MAX_HEAD)), "{}"),
        _ => Reply::Endless,
    })
    .await;
    assert_eq!(get(&server, "/limit").await.unwrap().len(), MAX_BODY);
    for path in ["/over", "/endless", "/short"] {
        let error = get(&server, path).await.unwrap_err();
        assert!(matches!(error, FetchError::Body(_)), "{path}: {error:?}");
    }
    assert!(matches!(get(&server, "/head").await, Err(FetchError::Http(_))));
}

#[tokio::test]
async fn a_slow_server_does_not_outlive_the_deadline() {
    let server = Server::start(|path| match path {
        "/drip" => Reply::Drip,
        _ => Reply::Silence,
    })
    .await;
    let fetcher = fetcher().with_timeout(Duration::from_millis(200));
    for path in ["/drip", "/silence"] {
        let started = std::time::Instant::now();
        let result = fetcher.get(&server.uri(path), Plain::Loopback).await;
        assert!(matches!(result, Err(FetchError::Timeout)), "{path}: {result:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "{path}");
    }
}

#[tokio::test]
async fn plain_http_is_for_loopback_and_only_where_it_is_allowed() {
    let server = Server::start(|_| Reply::ok("{}")).await;
    let refused = fetcher().get(&server.uri("/keys"), Plain::Refuse).await;
    assert!(matches!(refused, Err(FetchError::Url(_))), "{refused:?}");
    let remote = fetcher().get(&Uri::from_static("http://192.0.2.1/keys"), Plain::Loopback).await;
    assert!(matches!(remote, Err(FetchError::Resolve(None))), "{remote:?}");
    for url in ["ftp://127.0.0.1/", "/keys", "http://user:password@127.0.0.1/", "127.0.0.1:80"] {
        let result = fetcher().get(&url.parse().unwrap(), Plain::Loopback).await;
        assert!(matches!(result, Err(FetchError::Url(_))), "{url}: {result:?}");
    }
    assert!(server.heads().is_empty());
}

#[tokio::test]
async fn what_is_no_http_is_an_error() {
    let server = Server::start(|path| match path {
        "/garbage" => Reply::Bytes(b"SSH-2.0\r\n".to_vec()),
        _ => Reply::Bytes(Vec::new()),
    })
    .await;
    for path in ["/garbage", "/closed"] {
        let result = get(&server, path).await;
        assert!(matches!(result, Err(FetchError::Http(_))), "{path}: {result:?}");
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let uri: Uri = format!("http://{free}/").parse().unwrap();
    assert!(matches!(fetcher().get(&uri, Plain::Loopback).await, Err(FetchError::Connect(_))));
}

/// A private authority and a certificate of it for these names.
fn certificate(names: &[&str], not_after: Option<(i32, u8, u8)>) -> (String, TlsAcceptor) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    if let Some((year, month, day)) = not_after {
        params.not_after = rcgen::date_time_ymd(year, month, day);
    }
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    (authority.pem(), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn tls_is_verified() {
    let ask = async |names: &[&str], not_after, trusted: bool| {
        let (ca, acceptor) = certificate(names, not_after);
        let server = Server::with_tls(Some(acceptor), |_| Reply::ok("{}")).await;
        let fetcher = Fetcher::new(trusted.then_some(ca.as_bytes()), Egress::default()).unwrap();
        let result = fetcher.get(&server.uri("/keys"), Plain::Refuse).await;
        assert_eq!(server.heads().len(), usize::from(result.is_ok()));
        result
    };
    assert!(ask(&["127.0.0.1"], None, true).await.is_ok());
    for (result, why) in [
        (ask(&["127.0.0.1"], None, false).await, "an authority nobody knows"),
        (ask(&["idp.example.com"], None, true).await, "another host's certificate"),
        (ask(&["127.0.0.1"], Some((2020, 1, 1)), true).await, "an expired certificate"),
    ] {
        assert!(matches!(result, Err(FetchError::Tls(_))), "{why}: {result:?}");
    }
}

#[test]
fn a_ca_file_without_a_certificate_is_refused() {
    for pem in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(
            matches!(Fetcher::new(Some(pem.as_bytes()), Egress::default()), Err(FetcherError::Authority)),
            "{pem:?}"
        );
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let parse = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, text.parse().unwrap());
        retry_after(&headers)
    };
    assert_eq!(parse("120"), Some(Duration::from_secs(120)));
    assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO), "in the past");
    assert!(parse("Fri, 06 Nov 2099 08:49:37 GMT").unwrap() > Duration::from_secs(1_000_000));
    for text in ["", "soon", "-1", "1.5", "99999999999999999999999"] {
        assert_eq!(parse(text), None, "{text}");
    }
}
