//! Upstreams over TLS that are not who they should be, or do not keep to TLS.

use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::script::{OK, Scripted};
use super::support::tls::{Authority, Leaf};
use super::support::{Gateway, Policy, TestIssuer, Upstream, ok};

/// Serves TLS with this certificate, and says nothing of TLS any more once a request is there if it `lies`.
pub(super) async fn server(leaf: &Leaf, lies: bool) -> u16 {
    let acceptor = leaf.acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = [0; 4096];
                while stream.read(&mut head).await.is_ok_and(|count| count > 0) {
                    if lies {
                        let _ = stream.get_mut().0.write_all(OK.as_bytes()).await;
                    } else {
                        stream.write_all(OK.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    port
}

/// A certificate that was valid once.
pub(super) fn expired(authority: &rcgen::CertifiedIssuer<'static, KeyPair>) -> Leaf {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    let key = KeyPair::generate().unwrap();
    Leaf { cert: params.signed_by(&key, authority).unwrap().pem(), key: key.serialize_pem() }
}

pub(super) fn authority() -> rcgen::CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    rcgen::CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// One public route to each of these upstreams, named by their position.
pub(super) fn policy(upstreams: &[(String, &str)]) -> Policy {
    let mut policy = Policy::default().gateway("workers: 1\ntimeouts: { upstream_connect: 1s }");
    let mut routes = String::new();
    for (n, (url, tls)) in upstreams.iter().enumerate() {
        policy = policy.upstreams(&format!("u{n}: {{ url: '{url}', tls: {tls} }}"));
        routes += &format!(
            "- id: u{n}\n  match: {{ host: api.example.com, path: /{n} }}\n  public: true\n  upstream: u{n}\n"
        );
    }
    routes +=
        "- id: good\n  match: { host: api.example.com, path: /good }\n  public: true\n  upstream: orders\n";
    policy.routes(&routes)
}

#[tokio::test]
async fn an_upstream_that_is_not_who_it_should_be_gets_no_request() {
    let (issuer, good) = (TestIssuer::start().await, Upstream::start(|_| ok("good")).await);
    let trusted = Authority::new("trusted");
    let with_dates = authority();
    let alone = KeyPair::generate().unwrap();
    let self_signed =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&alone).unwrap();
    let self_signed = Leaf { cert: self_signed.pem(), key: alone.serialize_pem() };
    let right = trusted.server(&["localhost"]);
    let mute = Scripted::start(|mut wire| async move {
        wire.drain().await;
    })
    .await;
    let plain = Scripted::start(|mut wire| async move {
        wire.send(OK).await;
        wire.drain().await;
    })
    .await;
    let localhost = |port: u16| format!("https://localhost:{port}");
    let (trust, dated) = ("{ ca: ca.pem }", "{ ca: dated.pem }");
    let cases = [
        ("it is", localhost(server(&right, false).await), trust, "200 -"),
        (
            "an expired certificate",
            localhost(server(&expired(&with_dates), false).await),
            dated,
            "502 upstream_unreachable",
        ),
        (
            "another name",
            localhost(server(&trusted.server(&["other.example"]), false).await),
            trust,
            "502 upstream_unreachable",
        ),
        ("signed by itself", localhost(server(&self_signed, false).await), trust, "502 upstream_unreachable"),
        (
            "a client's certificate",
            localhost(server(&trusted.client("localhost"), false).await),
            trust,
            "502 upstream_unreachable",
        ),
        ("plain text", localhost(plain.address().port()), trust, "502 upstream_unreachable"),
        ("no word of TLS", localhost(mute.address().port()), trust, "504 upstream_timeout"),
        (
            "plain text instead of the answer",
            localhost(server(&right, true).await),
            trust,
            "502 upstream_invalid",
        ),
    ];
    let upstreams: Vec<_> = cases.iter().map(|(_, url, tls, _)| (url.clone(), *tls)).collect();
    let files = [("ca.pem", trusted.pem()), ("dated.pem", with_dates.pem())];
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let gateway = Gateway::start_with(&policy(&upstreams).render(issuer.url(), &good.url()), &files).await;
    for (n, (what, _, _, verdict)) in cases.iter().enumerate() {
        assert_eq!(gateway.get(&format!("/{n}")).send().await.verdict(), *verdict, "{what}");
        assert_eq!(gateway.get("/good").send().await.text(), "good", "{what}");
    }
}

#[tokio::test]
async fn a_connection_is_used_only_under_the_settings_it_was_opened_with() {
    let (issuer, good) = (TestIssuer::start().await, Upstream::start(|_| ok("good")).await);
    let (right, wrong) = (Authority::new("right"), Authority::new("wrong"));
    let url = format!("https://localhost:{}", server(&right.server(&["localhost"]), false).await);
    let files = [("right.pem", right.pem()), ("wrong.pem", wrong.pem())];
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let both = [(url.clone(), "{ ca: right.pem }"), (url.clone(), "{ ca: wrong.pem }")];
    let gateway = Gateway::start_with(&policy(&both).render(issuer.url(), &good.url()), &files).await;
    for _ in 0..3 {
        // The first leaves an open connection, and a session that could be resumed.
        assert_eq!(gateway.get("/0").send().await.text(), "ok");
        assert_eq!(gateway.get("/1").send().await.verdict(), "502 upstream_unreachable");
    }
    let stricter = [(url.clone(), "{ ca: wrong.pem }"), (url, "{ ca: right.pem }")];
    gateway.replace_config(&policy(&stricter).render(issuer.url(), &good.url()));
    gateway.wait_loaded().await;
    assert_eq!(gateway.get("/0").send().await.verdict(), "502 upstream_unreachable", "after a reload");
    assert_eq!(gateway.get("/1").send().await.text(), "ok", "after a reload");
}
