//! The way to issuers: a private authority for them, and a proxy that opens tunnels.
#![cfg(test)]

mod support;

use std::sync::{Arc, Mutex};

use support::tls::{Authority, Front};
use support::{Gateway, Policy, TestIssuer, Upstream, eventually, ok, process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An issuer whose keys are behind TLS of a private authority.
struct Private {
    authority: Authority,
    issuer: TestIssuer,
    front: Front,
    upstream: Upstream,
}

impl Private {
    async fn start() -> Self {
        let authority = Authority::new("private");
        let leaf = authority.server(&["localhost"]);
        let issuer = TestIssuer::start().await;
        let front = Front::start(&leaf, issuer.server_address()).await;
        let upstream = Upstream::start(|_| ok("hello")).await;
        Self { authority, issuer, front, upstream }
    }

    /// A policy with these members of `keys` beside the address, and of `gateway`.
    fn policy(&self, keys: &str, gateway: &str) -> String {
        let port = self.front.address().port();
        let keys = format!(
            "keys: {{ jwks_uri: 'https://localhost:{port}/jwks'{keys} }}\n\
            key_refresh: {{ interval: 1s, unknown_kid_cooldown: 1s }}"
        );
        Policy::default().issuer(&keys).gateway(gateway).render(self.issuer.url(), &self.upstream.url())
    }

    async fn gateway(&self, keys: &str, gateway: &str) -> Gateway {
        let (good, other) = (self.authority.pem(), Authority::new("private").pem());
        let files = [("ca.crt", good.as_str()), ("other.crt", &other), ("proxy.secret", "user:password\n")];
        Gateway::start_with(&self.policy(keys, gateway), &files).await
    }

    async fn verdict(&self, gateway: &Gateway) -> String {
        gateway.get("/orders/1").token(&self.issuer.token().mint()).send().await.verdict()
    }
}

/// Waits until a fetch of keys fails, and tells why.
async fn failure(gateway: &Gateway) -> String {
    eventually("a fetch of keys fails", || async {
        Some(gateway.status().await["issuers"][0]["last_error"]["error"].as_str()?.to_owned())
    })
    .await
}

/// What a proxy does with a request for a tunnel.
#[derive(Clone, Copy)]
enum Does {
    /// Connects to where it is asked to.
    Connect,
    /// Connects to another address, as one that spies does.
    Elsewhere(std::net::SocketAddr),
    /// Answers with this status and keeps the connection.
    Refuse(u16),
    /// Says nothing.
    Silence,
    /// Says yes, and nothing after that.
    Void,
    /// Sends a head that never ends.
    Endless,
}

/// A small forward proxy that records the heads it gets.
struct Proxy {
    address: std::net::SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(tunnel(stream, does, Arc::clone(&seen)));
            }
        });
        Self { address, heads, task }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn member(&self) -> String {
        format!("egress_proxy: {{ url: 'http://{}' }}", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tunnel(mut client: TcpStream, does: Does, heads: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let asked = head.split(' ').nth(1).unwrap_or_default().to_owned();
    heads.lock().unwrap().push(head);
    let target = match does {
        Does::Connect => asked,
        Does::Elsewhere(address) => address.to_string(),
        Does::Refuse(status) => {
            client.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
            return client.read_u8().await.map(drop);
        }
        Does::Silence => return client.read_u8().await.map(drop),
        Does::Void => {
            client.write_all(b"HTTP/1.1 200 X\r\n\r\n").await?;
            return tokio::io::copy(&mut client, &mut tokio::io::sink()).await.map(drop);
        }
        Does::Endless => {
            client.write_all(b"HTTP/1.1 200 X\r\n").await?;
            loop {
                client.write_all(b"X-Padding: padding\r\n").await?;
            }
        }
    };
    let mut server = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

#[tokio::test]
async fn a_private_authority_is_trusted_instead_of_the_public_ones() {
    let private = Private::start().await;
    let good = private.gateway(", ca: ca.crt", "").await;
    eventually("the keys are there", || async { (private.verdict(&good).await == "200 -").then_some(()) })
        .await;

    for keys in ["", ", ca: other.crt"] {
        let gateway = private.gateway(keys, "").await;
        let why = failure(&gateway).await;
        assert!(why.contains("TLS failed"), "{keys:?}: {why}");
        assert_eq!(private.verdict(&gateway).await, "503 keys_unavailable", "{keys:?}");
    }
}

#[tokio::test]
async fn a_new_authority_counts_without_a_restart_and_what_the_old_one_vouched_for_does_not() {
    let private = Private::start().await;
    let gateway = private.gateway(", ca: ca.crt", "").await;
    let verdict = |wanted: &'static str| {
        let (private, gateway) = (&private, &gateway);
        eventually(wanted, move || async move { (private.verdict(gateway).await == wanted).then_some(()) })
    };
    let put = |content: &str| {
        std::fs::write(gateway.dir().join("ca.new"), content).unwrap();
        std::fs::rename(gateway.dir().join("ca.new"), gateway.dir().join("ca.crt")).unwrap();
    };
    verdict("200 -").await;
    put(&Authority::new("another").pem());
    verdict("503 keys_unavailable").await;
    put(&private.authority.pem());
    verdict("200 -").await;
}

#[tokio::test]
async fn keys_come_through_a_tunnel_in_which_the_certificate_is_verified() {
    let private = Private::start().await;
    let proxy = Proxy::start(Does::Connect).await;
    let gateway = private.gateway(", ca: ca.crt", &proxy.member()).await;
    eventually("the keys are there", || async { (private.verdict(&gateway).await == "200 -").then_some(()) })
        .await;
    let authority = format!("localhost:{}", private.front.address().port());
    for head in proxy.heads() {
        assert_eq!(head.lines().next(), Some(format!("CONNECT {authority} HTTP/1.1").as_str()));
        assert!(head.to_ascii_lowercase().contains(&format!("host: {authority}\r\n")), "{head}");
        assert!(!head.to_ascii_lowercase().contains("authorization"), "{head}");
    }
    assert!(!proxy.heads().is_empty());

    // A proxy that leads elsewhere has no certificate for the issuer.
    let private = Private::start().await;
    let fake = Authority::new("private").server(&["localhost"]);
    let spy = Front::start(&fake, private.issuer.server_address()).await;
    let proxy = Proxy::start(Does::Elsewhere(spy.address())).await;
    let fooled = private.gateway(", ca: ca.crt", &proxy.member()).await;
    assert!(failure(&fooled).await.contains("TLS failed"));
    assert_eq!(private.verdict(&fooled).await, "503 keys_unavailable");
    assert!(!proxy.heads().is_empty());
    assert_eq!(private.issuer.jwks_requests(), 0, "nothing was asked by way of the spy");
}

#[tokio::test]
async fn a_proxy_that_fails_is_told_and_bounded() {
    let private = Private::start().await;
    for (does, wanted) in [
        (Does::Refuse(407), "the egress proxy refuses the tunnel with status 407"),
        (Does::Refuse(403), "the egress proxy refuses the tunnel with status 403"),
        (Does::Refuse(302), "the egress proxy refuses the tunnel with status 302"),
        (Does::Silence, "timed out"),
        (Does::Void, "timed out"),
        (Does::Endless, "the egress proxy cannot be reached"),
    ] {
        let proxy = Proxy::start(does).await;
        let gateway = private.gateway(", ca: ca.crt", &proxy.member()).await;
        let why = failure(&gateway).await;
        assert!(why.contains(wanted), "{wanted}: {why}");
    }
    let nobody = format!("egress_proxy: {{ url: 'http://{}' }}", process::free_address());
    let gateway = private.gateway(", ca: ca.crt", &nobody).await;
    assert!(failure(&gateway).await.contains("the egress proxy cannot be reached"));
    assert_eq!(private.issuer.jwks_requests(), 0, "nothing goes around the proxy");
}

#[tokio::test]
async fn hosts_without_proxy_and_plain_issuers_are_asked_directly() {
    let private = Private::start().await;
    let proxy = Proxy::start(Does::Refuse(403)).await;
    let direct =
        format!("egress_proxy: {{ url: 'http://{}', no_proxy: [LOCALHOST, '*.internal'] }}", proxy.address);
    let gateway = private.gateway(", ca: ca.crt", &direct).await;
    eventually("the keys are there", || async { (private.verdict(&gateway).await == "200 -").then_some(()) })
        .await;

    let policy = Policy::default().gateway(&proxy.member());
    let gateway = Gateway::start(&policy.render(private.issuer.url(), &private.upstream.url())).await;
    eventually("the keys are there", || async { (private.verdict(&gateway).await == "200 -").then_some(()) })
        .await;
    assert_eq!(proxy.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn tinyproxy_opens_the_tunnel_for_credentials_and_a_reload_changes_the_way() {
    let private = Private::start().await;
    let tinyproxy = process::tinyproxy(private.front.address().port()).await;
    let with = |rest: &str| format!("egress_proxy: {{ url: '{}'{rest} }}", tinyproxy.url());
    let gateway = private.gateway(", ca: ca.crt", &with("")).await;
    assert!(failure(&gateway).await.contains("status 407"), "without credentials");

    gateway.replace_config(&private.policy(", ca: ca.crt", &with(", credentials: { file: proxy.secret }")));
    eventually("the keys are there", || async { (private.verdict(&gateway).await == "200 -").then_some(()) })
        .await;

    // Another secret in the same file is another way, too.
    std::fs::write(gateway.dir().join("secret.new"), "user:wrong\n").unwrap();
    std::fs::rename(gateway.dir().join("secret.new"), gateway.dir().join("proxy.secret")).unwrap();
    let why = failure(&gateway).await;
    assert!(why.contains("refuses the tunnel with status 40"), "{why}");
    assert_eq!(private.verdict(&gateway).await, "200 -", "the keys it has stay good");
    let output = gateway.output();
    for secret in ["password", "wrong", "dXNlcjp"] {
        assert!(!output.contains(secret), "{secret} in {output}");
    }
}

#[tokio::test]
async fn self_signed_authority_is_trusted_as_the_issuers_own() {
    let issuer = TestIssuer::start().await;
    let upstream = Upstream::start(|_| ok("hello")).await;
    let leaf = support::tls::self_signed_authority(&["localhost"]);
    let front = Front::start(&leaf, issuer.server_address()).await;
    let keys =
        format!("keys: {{ jwks_uri: 'https://localhost:{}/jwks', ca: ca.crt }}", front.address().port());
    let policy = Policy::default().issuer(&keys).render(issuer.url(), &upstream.url());
    let gateway = Gateway::start_with(&policy, &[("ca.crt", leaf.cert.as_str())]).await;
    support::has_keys(&gateway).await;
    let other = support::tls::self_signed_authority(&["localhost"]);
    let refused = Gateway::start_with(&policy, &[("ca.crt", other.cert.as_str())]).await;
    assert!(failure(&refused).await.contains("TLS failed"));
}
