//! TLS at the public listeners and towards the upstreams.
#![cfg(test)]

mod support;

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use support::tls::{Authority, Connect, Leaf};
use support::{Client, Gateway, Policy, TestIssuer, Upstream, eventually, ok, process};

/// A gateway with a TLS listener, and what its tests need.
struct Tls {
    authority: Authority,
    clients: Authority,
    issuer: TestIssuer,
    upstream: Upstream,
    gateway: Gateway,
}

/// Two certificates chosen by name, and a `client_ca`.
const LISTEN: &str = "
- https: 127.0.0.1:0
  certificates:
    - { cert: first.crt, key: first.key }
    - { cert: second.crt, key: second.key }
  client_ca: clients.crt
";

impl Tls {
    async fn start(routes: Option<&str>) -> Self {
        let authority = Authority::new("servers");
        let clients = Authority::new("clients");
        let issuer = TestIssuer::start().await;
        let upstream = Upstream::start(|_| ok("hello")).await;
        let mut policy = Policy::default().listen(LISTEN);
        if let Some(routes) = routes {
            policy = policy.routes(routes);
        }
        let first = authority.server(&["api.example.com", "localhost"]);
        let second = authority.server(&["second.example.com", "*.wild.example.com"]);
        let ca = authority.pem();
        let clients_ca = clients.pem();
        let files = [
            ("first.crt", first.cert.as_str()),
            ("first.key", &first.key),
            ("second.crt", &second.cert),
            ("second.key", &second.key),
            ("clients.crt", &clients_ca),
            ("ca.crt", &ca),
        ];
        let gateway = Gateway::start_with(&policy.render(issuer.url(), &upstream.url()), &files).await;
        Self { authority, clients, issuer, upstream, gateway }
    }

    fn connect<'a>(&'a self, name: &'a str, alpn: &'a [&'a str], client: Option<&'a Leaf>) -> Connect<'a> {
        Connect { authority: &self.authority, name, alpn, client }
    }

    /// The answer to a good request over this kind of connection; an error is a handshake that failed.
    async fn get(&self, connect: Connect<'_>) -> std::io::Result<u16> {
        let stream = connect.to(self.gateway.https()).await?;
        let mut client = Client::over(stream);
        let call = self.gateway.get("/orders/1").token(&self.issuer.token().mint());
        let response = call.on(&mut client).await;
        response.map(|response| response.status).ok_or_else(|| std::io::ErrorKind::ConnectionReset.into())
    }

    /// curl's arguments for a good request.
    fn curl(&self, more: &[&str]) -> Vec<String> {
        let address = self.gateway.https();
        let ca = self.gateway.dir().join("ca.crt");
        let own = [
            "--cacert".to_owned(),
            ca.to_str().unwrap().to_owned(),
            "--resolve".to_owned(),
            format!("api.example.com:{}:127.0.0.1", address.port()),
            "-H".to_owned(),
            format!("Authorization: Bearer {}", self.issuer.token().mint()),
            "-w".to_owned(),
            " %{http_version} %{http_code}".to_owned(),
        ];
        let url = format!("https://api.example.com:{}/orders/1", address.port());
        own.into_iter().chain(more.iter().map(|arg| (*arg).to_owned())).chain([url]).collect()
    }
}

#[tokio::test]
async fn curl_speaks_both_versions_of_http_over_tls() {
    let tls = Tls::start(None).await;
    for (args, wanted) in [
        (vec![], "hello 2 200"),
        (vec!["--http1.1"], "hello 1.1 200"),
        (vec!["--tlsv1.2", "--tls-max", "1.2"], "hello 2 200"),
        (vec!["--tlsv1.3"], "hello 2 200"),
    ] {
        let output = process::curl(tls.curl(&args)).await;
        assert_eq!(output.stdout, wanted, "{args:?}: {output:?}");
    }
    let old = process::curl(tls.curl(&["--tls-max", "1.1"])).await;
    assert_ne!(old.code, Some(0), "TLS 1.1 is not spoken: {old:?}");
    assert_eq!(tls.upstream.last().header("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name() {
    let tls = Tls::start(None).await;
    let http1 = &["http/1.1"];
    for name in ["api.example.com", "localhost", "second.example.com", "a.wild.example.com"] {
        let handshake = tls.connect(name, http1, None).to(tls.gateway.https()).await;
        assert!(handshake.is_ok(), "{name}: {:?}", handshake.err());
    }
    let unknown = tls.connect("unknown.example.com", http1, None).to(tls.gateway.https()).await;
    assert!(unknown.is_err(), "an unknown name gets the first certificate, which does not have it");
}

/// A client that can verify one kind of key alone, by the suites of TLS 1.2.
async fn shown(authority: &Authority, gateway: &Gateway, name: &str, kind: &str) -> Option<Vec<u8>> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains(kind));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = tokio::net::TcpStream::connect(gateway.https()).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

#[tokio::test]
async fn keys_of_one_name_fit_the_client() {
    let authority = Authority::new("servers");
    let names = ["api.example.com", "*.wild.example.com"];
    let (ec, rsa) = (authority.server(&names), authority.rsa_server(&names));
    let der = |leaf: &Leaf| leaf.parsed().0.first().map(|certificate| certificate.to_vec());
    let other = authority.server(&["second.example.com"]);
    for (first, second) in [(&ec, &rsa), (&rsa, &ec)] {
        let listen = "
- https: 127.0.0.1:0
  certificates:
    - { cert: first.crt, key: first.key }
    - { cert: other.crt, key: other.key }
    - { cert: second.crt, key: second.key }
";
        let files = [
            ("first.crt", first.cert.as_str()),
            ("first.key", &first.key),
            ("second.crt", &second.cert),
            ("second.key", &second.key),
            ("other.crt", &other.cert),
            ("other.key", &other.key),
        ];
        let issuer = TestIssuer::start().await;
        let upstream = Upstream::start(|_| ok("hello")).await;
        let policy = Policy::default().listen(listen).render(issuer.url(), &upstream.url());
        let gateway = Gateway::start_with(&policy, &files).await;
        for (name, kind, expected) in [
            ("api.example.com", "ECDHE_RSA", der(&rsa)),
            ("api.example.com", "ECDHE_ECDSA", der(&ec)),
            ("api.example.com", "TLS13", der(first)),
            ("a.wild.example.com", "ECDHE_RSA", der(&rsa)),
            ("a.wild.example.com", "ECDHE_ECDSA", der(&ec)),
            ("second.example.com", "ECDHE_ECDSA", der(&other)),
            ("second.example.com", "ECDHE_RSA", None),
        ] {
            let got = shown(&authority, &gateway, name, kind).await;
            assert!(got == expected, "{name} for {kind}");
        }
        // Both certificates are of one name, so either connection may ask for it, and for no other.
        let connect =
            Connect { authority: &authority, name: "api.example.com", alpn: &["http/1.0"], client: None };
        let stream = connect.to(gateway.https()).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.0"[..]));
        let mut client = Client::over(stream);
        for (host, status) in
            [("api.example.com", 401), ("a.wild.example.com", 404), ("second.example.com", 421)]
        {
            let answer = gateway.get("/orders/1").host(host).on(&mut client).await;
            assert_eq!(answer.map(|answer| answer.status), Some(status), "{host}");
        }
    }
}

#[tokio::test]
async fn a_client_certificate_is_verified_if_it_is_sent() {
    let tls = Tls::start(None).await;
    let name = "api.example.com";
    assert_eq!(tls.get(tls.connect(name, &["http/1.1"], None)).await.unwrap(), 200, "none is needed");
    let good = tls.clients.client("mobile-app");
    assert_eq!(tls.get(tls.connect(name, &["http/1.1"], Some(&good))).await.unwrap(), 200);
    let foreign = Authority::new("clients").client("mobile-app");
    assert!(tls.get(tls.connect(name, &["http/1.1"], Some(&foreign))).await.is_err(), "by another authority");
    let server = tls.clients.server(&["mobile-app"]);
    assert!(tls.get(tls.connect(name, &["http/1.1"], Some(&server))).await.is_err(), "of another use");
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let tls = Tls::start(None).await;
    let name = "api.example.com";
    let before = tls.connect(name, &["http/1.1"], None).to(tls.gateway.https()).await.unwrap();
    let mut open = Client::over(before);

    let renewed = Authority::new("servers, renewed");
    let leaf = renewed.server(&[name]);
    let put = |file: &str, content: &str| {
        let path = tls.gateway.dir().join(file);
        std::fs::write(path.with_extension("new"), content).unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    };
    put("first.key", &leaf.key);
    put("first.crt", &leaf.cert);
    let connect = || Connect { authority: &renewed, name, alpn: &["http/1.1"], client: None };
    support::eventually("the new certificate is served", || async {
        connect().to(tls.gateway.https()).await.ok().map(drop)
    })
    .await;
    let call = tls.gateway.get("/orders/1").token(&tls.issuer.token().mint());
    assert_eq!(call.on(&mut open).await.unwrap().status, 200, "open connections go on");

    put("first.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    tls.gateway.wait_reload_error().await;
    assert!(connect().to(tls.gateway.https()).await.is_ok(), "the last good one stays");
}

#[tokio::test]
async fn plain_http_at_a_tls_port_harms_nobody() {
    let tls = Tls::start(None).await;
    let mut plain = Client::connect(tls.gateway.https()).await;
    plain.send("GET /orders/1 HTTP/1.1\r\nHost: api.example.com\r\n\r\n").await;
    while !plain.closes().await {}
    let mut silent = Client::connect(tls.gateway.https()).await;
    silent.send([0x16, 0x03]).await;
    assert_eq!(tls.get(tls.connect("localhost", &["http/1.1"], None)).await.unwrap(), 200);
    assert_eq!(tls.upstream.requests().len(), 1);
}

/// Routes of hosts with one certificate, with another, and of all others.
const HOSTS: &str = "
- id: named
  match: { host: [api.example.com, second.example.com, '*.wild.example.com'], path: '/{*rest}' }
  public: true
  upstream: orders
- id: any
  match: { path: '/{*rest}' }
  public: true
  upstream: orders
";

#[tokio::test]
async fn a_host_is_served_only_where_its_certificate_is() {
    let tls = Tls::start(Some(HOSTS)).await;
    let first = [Some("api.example.com"), Some("localhost"), None];
    let second = [Some("second.example.com"), Some("a.wild.example.com")];
    let of_first = [
        "api.example.com",
        "API.example.com.:8443",
        "localhost",
        "127.0.0.1",
        "[::1]",
        "unknown.example.com",
    ];
    let of_second =
        ["second.example.com", "SECOND.example.com.", "a.wild.example.com:443", "b.wild.example.com"];
    let ask = async |name: Option<&str>, host: &str| {
        let connect = tls.connect(name.unwrap_or("localhost"), &["http/1.1"], None);
        let mut config = connect.config();
        config.enable_sni = name.is_some();
        let socket = tokio::net::TcpStream::connect(tls.gateway.https()).await.unwrap();
        let name = connect.name.to_owned().try_into().unwrap();
        let stream =
            tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, socket).await;
        let mut client = Client::over(stream.unwrap());
        tls.gateway.get("/a").host(host).on(&mut client).await.unwrap().verdict()
    };
    for (names, own, others) in
        [(&first[..], &of_first[..], &of_second[..]), (&second, &of_second, &of_first)]
    {
        for name in names {
            for host in own {
                assert_eq!(ask(*name, host).await, "200 -", "{name:?} {host}");
            }
            for host in others {
                assert_eq!(ask(*name, host).await, "421 misdirected", "{name:?} {host}");
            }
        }
    }
    let served = tls.upstream.requests();
    assert_eq!(served.len(), first.len() * of_first.len() + second.len() * of_second.len());
    let refused = 3.0 * 4.0 + 2.0 * 6.0;
    eventually("each refusal is counted", || async {
        let counted = tls.gateway.metric("scopegate_decisions_total", &[r#"reason="misdirected""#]).await;
        (counted == refused).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_http2_connection_is_shared_by_hosts_of_one_certificate_alone() {
    let tls = Tls::start(Some(HOSTS)).await;
    for (host, wanted) in
        [("api.example.com", "2 200"), ("localhost", "2 200"), ("second.example.com", "2 421")]
    {
        let host = format!("Host: {host}");
        let output = process::curl(tls.curl(&["--http2", "-H", &host, "-o", "/dev/null"])).await;
        assert_eq!(output.stdout.trim(), wanted, "{host}: {output:?}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_keeps_open_connections_good() {
    let tls = Tls::start(Some(HOSTS)).await;
    let stream =
        tls.connect("second.example.com", &["http/1.1"], None).to(tls.gateway.https()).await.unwrap();
    let mut open = Client::over(stream);
    let renewed = tls.authority.server(&["second.example.com"]);
    let put = |file: &str, content: &str| std::fs::write(tls.gateway.dir().join(file), content).unwrap();
    put("second.key", &renewed.key);
    put("second.crt", &renewed.cert);
    assert_eq!(tls.gateway.reload().await.status, 200);
    let ask = async |open: &mut Client, host: &str| {
        tls.gateway.get("/a").host(host).on(open).await.unwrap().verdict()
    };
    assert_eq!(ask(&mut open, "second.example.com").await, "200 -");
    assert_eq!(ask(&mut open, "a.wild.example.com").await, "421 misdirected", "a name it has no more");
}

#[tokio::test]
async fn the_upstream_is_verified_and_shown_a_client_certificate() {
    // One gateway as the TLS upstream of another.
    let inner = Tls::start(Some(
        "
- id: open
  match: { path: '/{*rest}' }
  public: true
  upstream: orders
",
    ))
    .await;
    let client = inner.clients.client("gateway");
    let url = format!("https://localhost:{}", inner.gateway.https().port());
    let outer = |tls: &'static str, ca: String| {
        let (url, client, issuer) = (url.clone(), client.clone(), inner.issuer.url().to_owned());
        async move {
            let config = Policy::default().upstream(tls).render(&issuer, &url);
            let files = [("up.crt", ca.as_str()), ("own.crt", &client.cert), ("own.key", &client.key)];
            Gateway::start_with(&config, &files).await
        }
    };
    let trust = "tls: { ca: up.crt, client_cert: own.crt, client_key: own.key }\nhost: localhost";
    for (what, tls, ca, wanted) in [
        ("trusted", trust, inner.authority.pem(), "200 -"),
        ("another authority", trust, Authority::new("servers").pem(), "502 upstream_unreachable"),
        ("only the public ones", "host: localhost", inner.authority.pem(), "502 upstream_unreachable"),
    ] {
        let gateway = outer(tls, ca).await;
        let response = gateway.get("/orders/1").token(&inner.issuer.token().mint()).send().await;
        assert_eq!(response.verdict(), wanted, "{what}");
    }
    let h2 = outer("protocol: h2\nhost: localhost\ntls: { ca: up.crt }", inner.authority.pem()).await;
    assert_eq!(
        h2.get("/orders/1").token(&inner.issuer.token().mint()).send().await.verdict(),
        "200 -",
        "HTTP/2"
    );
}
