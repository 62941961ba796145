//! The support of the other tests, tried without the gateway: what tests others must itself be right.
#![cfg(test)]

mod support;

use support::oidc::OidcProvider;
use support::tls::{Authority, Connect};
use support::{Alg, Behaviour, Call, Client, Reply, TestIssuer, Upstream, ok, process};

#[tokio::test]
async fn the_upstream_records_what_it_is_sent_and_answers_as_scripted() {
    let upstream = Upstream::start(|request| ok(&request.target)).await;
    let mut client = Client::connect(upstream.address()).await;
    for target in ["/a", "/b"] {
        let call = Call::new(upstream.address(), "POST", target).body("abc");
        assert_eq!(call.on(&mut client).await.unwrap().text(), target);
        assert_eq!(upstream.last().body, b"abc");
    }
    assert_eq!(upstream.connections(), 1, "keep-alive");

    upstream.answers(|_| Reply::Echo);
    client
        .send("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\nX-T: 1\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!((response.text().as_str(), response.trailers.get("x-t")), ("xyz", Some("1")));
    assert!(upstream.last().complete);

    upstream.answers(|_| Reply::BytesThenClose(Vec::new()));
    assert!(Call::new(upstream.address(), "GET", "/").try_send().await.is_none());
}

#[tokio::test]
async fn the_issuer_signs_with_every_algorithm_and_publishes_the_keys() {
    let issuer = TestIssuer::start().await;
    let address = issuer.url().trim_start_matches("http://").parse().unwrap();
    let fetch = |path: &'static str| Call::new(address, "GET", path);
    let metadata = fetch("/.well-known/openid-configuration").send().await.json();
    assert_eq!(metadata["issuer"], issuer.url());
    assert_eq!(metadata["jwks_uri"], issuer.jwks_uri());
    let jwks: jsonwebtoken::jwk::JwkSet = serde_json::from_value(fetch("/jwks").send().await.json()).unwrap();
    for alg in Alg::ALL {
        let token = issuer.token().alg(alg).mint();
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!(header.typ.as_deref(), Some("at+jwt"));
        let key = jsonwebtoken::DecodingKey::from_jwk(jwks.find(&header.kid.unwrap()).unwrap()).unwrap();
        let mut validation = jsonwebtoken::Validation::new(header.alg);
        validation.set_audience(&[support::AUDIENCE]);
        let claims = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation);
        assert_eq!(claims.unwrap().claims["sub"], "alice", "{alg:?}");
    }
    issuer.behave(Behaviour::Down);
    assert!(fetch("/jwks").try_send().await.is_none());
    assert_eq!(issuer.jwks_requests(), 2);
}

#[tokio::test]
async fn the_openid_provider_gives_access_tokens_and_rotates() {
    let provider = OidcProvider::start().await;
    let token = provider.token("https://api.example.com/eddsa", "orders:read").await;
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!((header.typ.as_deref(), header.kid.as_deref()), (Some("at+jwt"), Some("eddsa-1")));
    provider.rotate().await;
    let tokens = provider.login("https://api.example.com/es256", "orders:read").await;
    let kid = |name: &str| jsonwebtoken::decode_header(tokens[name].as_str().unwrap()).unwrap().kid.unwrap();
    assert_eq!((kid("access_token"), kid("id_token")), ("es256-2".into(), "rs256-2".into()));
}

#[tokio::test]
async fn nginx_and_python_serve_files() {
    for server in [process::nginx("").await, process::python_http_server().await] {
        let root = server.dir().join("html");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("a.txt"), "from a file").unwrap();
        let path = if server.dir().join("nginx.conf").exists() { "/a.txt" } else { "/html/a.txt" };
        let output = process::curl([format!("{}{path}", server.url())]).await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(0), "from a file"), "{output:?}");
    }
}

#[tokio::test]
async fn prometheus_scrapes_what_promtool_accepts() {
    let metrics = "# HELP t_total Things.\n# TYPE t_total counter\nt_total 7\n";
    let output = process::promtool_check_metrics(metrics).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let broken = process::promtool_check_metrics("t_total{ 7\n").await;
    assert_ne!(broken.code, Some(0), "{broken:?}");

    let target = Upstream::start(move |_| Reply::with(200, "Content-Type: text/plain\r\n", metrics)).await;
    let prometheus = process::prometheus(target.address()).await;
    assert_eq!(process::query(&prometheus, "t_total").await, "7");
}

#[tokio::test]
async fn the_certificates_are_those_of_the_names() {
    let authority = Authority::new("test authority");
    let leaf = authority.server(&["localhost", "127.0.0.1"]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cert.pem"), leaf.cert).unwrap();
    std::fs::write(dir.path().join("key.pem"), leaf.key).unwrap();
    let address = process::free_address();
    let accept = format!("127.0.0.1:{}", address.port());
    let args = ["s_server", "-quiet", "-accept", &accept, "-cert", "cert.pem", "-key", "key.pem", "-www"];
    let server = process::Background::start("openssl", args, address, dir).await;
    let connect = |name| Connect { authority: &authority, name, alpn: &[], client: None };
    assert!(connect("localhost").to(server.address()).await.is_ok());
    assert!(connect("example.com").to(server.address()).await.is_err());
}
