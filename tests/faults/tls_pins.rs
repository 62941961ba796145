//! Upstreams that are known by another name than their address, or by their key.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::script::OK;
use super::support::tls::{Authority, Leaf, self_signed, self_signed_authority};
use super::support::{Gateway, TestIssuer, Upstream, ok};
use super::tls::{authority, expired, policy, server};

/// The pin of a certificate's key, made from the key and not from the certificate.
fn pin(leaf: &Leaf) -> String {
    let pem = rcgen::KeyPair::from_pem(&leaf.key).unwrap();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&pem);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &spki);
    format!("sha256/{}", base64::engine::general_purpose::STANDARD.encode(digest))
}

/// Shows one certificate whatever is asked for, and notes what was asked for.
#[derive(Debug)]
struct Shows {
    certified: Arc<CertifiedKey>,
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.asked.lock().unwrap().push(hello.server_name().map(str::to_owned));
        Some(Arc::clone(&self.certified))
    }
}

/// A server that shows the certificate of `shown` and signs with the key of `signs`; and the names that were asked for.
async fn impostor(
    shown: &Leaf,
    signs: &Leaf,
    version: &'static SupportedProtocolVersion,
) -> (u16, Arc<Mutex<Vec<Option<String>>>>) {
    let provider = Arc::new(default_provider());
    let key = provider.key_provider.load_private_key(signs.parsed().1).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let certified = Arc::new(CertifiedKey::new(shown.parsed().0, key));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shows { certified, asked: Arc::clone(&asked) }));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = [0; 4096];
                while stream.read(&mut head).await.is_ok_and(|count| count > 0) {
                    stream.write_all(OK.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_server_name_replaces_the_host_of_the_address() {
    let (issuer, good) = (TestIssuer::start().await, Upstream::start(|_| ok("good")).await);
    let trusted = Authority::new("trusted");
    let leaf = trusted.server(&["legacy.internal"]);
    let (port, asked) = impostor(&leaf, &leaf, &rustls::version::TLS13).await;
    let (by_address, by_name) = (format!("https://127.0.0.1:{port}"), format!("https://localhost:{port}"));
    let cases = [
        (
            by_address.clone(),
            "{ ca: ca.pem, server_name: legacy.internal }",
            "200 -",
            Some("legacy.internal"),
        ),
        (by_name.clone(), "{ ca: ca.pem, server_name: LEGACY.internal }", "200 -", Some("legacy.internal")),
        (by_address.clone(), "{ ca: ca.pem }", "502 upstream_unreachable", None),
        (by_name, "{ ca: ca.pem }", "502 upstream_unreachable", Some("localhost")),
        (
            by_address.clone(),
            "{ ca: ca.pem, server_name: other.internal }",
            "502 upstream_unreachable",
            Some("other.internal"),
        ),
        (by_address, "{ ca: ca.pem, server_name: 127.0.0.1 }", "502 upstream_unreachable", None),
    ];
    let upstreams: Vec<_> = cases.iter().map(|(url, tls, ..)| (url.clone(), *tls)).collect();
    let files = [("ca.pem", trusted.pem())];
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let gateway = Gateway::start_with(&policy(&upstreams).render(issuer.url(), &good.url()), &files).await;
    for (n, (_, tls, verdict, name)) in cases.iter().enumerate() {
        asked.lock().unwrap().clear();
        assert_eq!(gateway.get(&format!("/{n}")).send().await.verdict(), *verdict, "{tls}");
        assert_eq!(*asked.lock().unwrap(), [name.map(str::to_owned)], "{tls}");
    }
    let entry = gateway.wait_for_log(|line| line["path"] == "/2").await;
    let cause = entry["cause"].as_str().unwrap();
    assert!(cause.contains("legacy.internal") && cause.contains("`tls.server_name`"), "{cause}");
}

#[tokio::test]
async fn a_pin_names_the_key_and_nothing_else_counts() {
    let (issuer, good) = (TestIssuer::start().await, Upstream::start(|_| ok("good")).await);
    let (trusted, dated) = (Authority::new("trusted"), authority());
    let (own, both) = (self_signed(&["elsewhere"]), self_signed_authority(&["elsewhere"]));
    let (old, chained, stranger) =
        (expired(&dated), trusted.server(&["localhost"]), self_signed(&["localhost"]));
    let misnamed = trusted.server(&["elsewhere"]);
    let rsa = trusted.rsa_server(&["elsewhere"]);
    let backup = pin(&self_signed(&["spare"]));
    let (yes, no) = ("200 -", "502 upstream_unreachable");
    let alone = |leaf: &Leaf| format!("{{ pin: '{}' }}", pin(leaf));
    let cases = [
        ("signed by itself", server(&own, false).await, alone(&own), yes),
        ("an authority itself", server(&both, false).await, alone(&both), yes),
        ("expired", server(&old, false).await, alone(&old), yes),
        ("RSA", server(&rsa, false).await, alone(&rsa), yes),
        ("a list", server(&own, false).await, format!("{{ pin: ['{backup}', '{}'] }}", pin(&own)), yes),
        ("another key", server(&stranger, false).await, alone(&own), no),
        ("another key with a chain", server(&chained, false).await, alone(&own), no),
        (
            "chain and key",
            server(&chained, false).await,
            format!("{{ ca: ca.pem, pin: '{}' }}", pin(&chained)),
            yes,
        ),
        ("chain, wrong key", server(&chained, false).await, format!("{{ ca: ca.pem, pin: '{backup}' }}"), no),
        (
            "key without chain",
            server(&own, false).await,
            format!("{{ ca: ca.pem, pin: '{}' }}", pin(&own)),
            no,
        ),
        (
            "key, chain of another name",
            server(&misnamed, false).await,
            format!("{{ ca: ca.pem, pin: '{}' }}", pin(&misnamed)),
            no,
        ),
        (
            "key, chain, and name by server_name",
            server(&misnamed, false).await,
            format!("{{ ca: ca.pem, server_name: elsewhere, pin: '{}' }}", pin(&misnamed)),
            yes,
        ),
        (
            "key, chain that ended",
            server(&old, false).await,
            format!("{{ ca: dated.pem, pin: '{}' }}", pin(&old)),
            no,
        ),
    ];
    let upstreams: Vec<_> =
        cases.iter().map(|(_, port, tls, _)| (format!("https://localhost:{port}"), tls.as_str())).collect();
    let files = [("ca.pem", trusted.pem()), ("dated.pem", dated.pem())];
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let gateway = Gateway::start_with(&policy(&upstreams).render(issuer.url(), &good.url()), &files).await;
    for (n, (what, _, _, verdict)) in cases.iter().enumerate() {
        assert_eq!(gateway.get(&format!("/{n}")).send().await.verdict(), *verdict, "{what}");
    }
    // What the server shows is named, so that it can be compared with what it should be.
    let cause = gateway.wait_for_log(|line| line["path"] == "/5").await["cause"].to_string();
    assert!(cause.contains(&pin(&stranger)) && cause.contains("`tls.pin`"), "{cause}");
}

#[tokio::test]
async fn a_pinned_certificate_without_its_key_is_refused() {
    let (issuer, good) = (TestIssuer::start().await, Upstream::start(|_| ok("good")).await);
    let (pinned, thief) = (self_signed(&["localhost"]), self_signed(&["localhost"]));
    let tls = format!("{{ pin: '{}' }}", pin(&pinned));
    let mut upstreams = Vec::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for signs in [&pinned, &thief] {
            let (port, _) = impostor(&pinned, signs, version).await;
            upstreams.push((format!("https://localhost:{port}"), tls.as_str()));
        }
    }
    let gateway = Gateway::start(&policy(&upstreams).render(issuer.url(), &good.url())).await;
    for (n, verdict) in ["200 -", "502 upstream_unreachable"].iter().cycle().take(4).enumerate() {
        assert_eq!(gateway.get(&format!("/{n}")).send().await.verdict(), *verdict, "{n}");
    }
}

#[tokio::test]
async fn another_pin_ends_the_use_of_open_connections() {
    let (issuer, good) = (TestIssuer::start().await, Upstream::start(|_| ok("good")).await);
    let leaf = self_signed(&["localhost"]);
    let url = format!("https://localhost:{}", server(&leaf, false).await);
    let (right, wrong) =
        (format!("{{ pin: '{}' }}", pin(&leaf)), format!("{{ pin: '{}' }}", pin(&self_signed(&["x"]))));
    let with = |tls: &str| policy(&[(url.clone(), tls)]).render(issuer.url(), &good.url());
    let gateway = Gateway::start(&with(&right)).await;
    assert_eq!(gateway.get("/0").send().await.text(), "ok");
    gateway.replace_config(&with(&wrong));
    gateway.wait_loaded().await;
    assert_eq!(gateway.get("/0").send().await.verdict(), "502 upstream_unreachable");
}

#[test]
fn the_pin_of_the_tests_is_that_of_the_certificate() {
    let leaf = self_signed(&["localhost"]);
    let der = CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap();
    let spki = webpki::EndEntityCert::try_from(&der).unwrap().subject_public_key_info();
    assert_eq!(scopegate::types::KeyPin::of(&spki).to_string(), pin(&leaf));
}
