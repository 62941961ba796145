//! Row J16: issuers whose keys are behind TLS that proves nothing.
//!
//! All of them have the same good keys behind them and trust the same authority, so that TLS is all that is wrong.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{DnType, ExtendedKeyUsagePurpose, date_time_ymd};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::process::{self, Background};
use crate::support::tls::{Authority, Front, self_signed};
use crate::support::{AUDIENCE, Gateway, Policy, TestIssuer, Upstream, eventually, has_keys, ok};

/// An address that leads elsewhere when it is told to.
struct Switch {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    task: tokio::task::JoinHandle<()>,
}

impl Switch {
    async fn new(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(target));
        let current = Arc::clone(&target);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let target = *current.lock().unwrap();
                connections.spawn(async move {
                    let mut server = TcpStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self { address, target, task }
    }

    fn lead_to(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server that answers whoever connects with these bytes, and then with nothing more.
async fn says(bytes: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                stream.write_all(&bytes).await?;
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
            });
        }
    });
    address
}

/// A ServerHello that chooses this version, whatever was offered (RFC 5246 §7.4.1.3).
fn server_hello(minor: u8) -> Vec<u8> {
    let hello = [&[3, minor], [7; 32].as_slice(), &[0], &[0xc0, 0x14], &[0]].concat();
    let length = u8::try_from(hello.len()).unwrap();
    [&[22, 3, minor, 0, length + 4, 2, 0, 0, length], hello.as_slice()].concat()
}

/// `openssl s_server`, which serves `jwks` in no other version than this.
async fn openssl(version: &str, authority: &Authority, jwks: &str) -> Background {
    let dir = tempfile::tempdir().unwrap();
    let leaf = authority.server(&["localhost"]);
    for (name, content) in [("cert.pem", &leaf.cert), ("key.pem", &leaf.key), ("jwks", &jwks.to_owned())] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let address = process::free_address();
    let at = address.to_string();
    // Without a lower security level it would refuse old versions by itself.
    let args =
        ["s_server", "-accept", &at, "-cert", "cert.pem", "-key", "key.pem", version, "-WWW", "-quiet"];
    Background::start("openssl", [&args[..], &["-cipher", "ALL:@SECLEVEL=0"]].concat(), address, dir).await
}

/// Everything that may be wrong with an issuer's TLS: a name, where it is, and what is told of it.
struct Wrongs {
    rows: Vec<(&'static str, SocketAddr, &'static str)>,
    _fronts: Vec<Front>,
    _servers: Vec<Background>,
}

impl Wrongs {
    async fn new(authority: &Authority, issuer: &TestIssuer) -> Self {
        let local = ["localhost"];
        let certificates = [
            (
                "expired",
                authority.unusual(&local, |params| params.not_after = date_time_ymd(2001, 1, 1)),
                "certificate expired",
            ),
            (
                "not-yet-valid",
                authority.unusual(&local, |params| params.not_before = date_time_ymd(2999, 1, 1)),
                "not valid yet",
            ),
            ("other-name", authority.server(&["idp.example.com"]), "not valid for name"),
            ("suffix", authority.server(&["localhost.example.com", "*.localhost"]), "not valid for name"),
            (
                "common-name",
                authority
                    .unusual(&[], |params| params.distinguished_name.push(DnType::CommonName, "localhost")),
                "not valid for name",
            ),
            (
                "for-clients",
                authority.unusual(&local, |params| {
                    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                }),
                "invalid peer certificate",
            ),
            ("self-signed", self_signed(&local), "UnknownIssuer"),
            ("other-authority", Authority::new("other").server(&local), "UnknownIssuer"),
            // It has the name of the good one, so that only its signature tells.
            ("namesake", Authority::new("authority").server(&local), "invalid peer certificate"),
        ];
        let (mut rows, mut fronts, mut servers) = (Vec::new(), Vec::new(), Vec::new());
        for (name, leaf, error) in certificates {
            let front = Front::start(&leaf, issuer.server_address()).await;
            rows.push((name, front.address(), error));
            fronts.push(front);
        }
        for (name, version) in [("tls-1-0", "-tls1"), ("tls-1-1", "-tls1_1")] {
            let server = openssl(version, authority, &issuer.jwks()).await;
            rows.push((name, server.address(), "ProtocolVersion"));
            servers.push(server);
        }
        // Servers that choose an old version though it was not offered.
        for (name, minor) in [("chooses-ssl-3-0", 0), ("chooses-tls-1-0", 1), ("chooses-tls-1-1", 2)] {
            rows.push((name, says(server_hello(minor)).await, "peer is incompatible"));
        }
        Self { rows, _fronts: fronts, _servers: servers }
    }
}

/// Waits until the last fetch of an issuer's keys has failed in TLS, for this reason. On a loaded machine one or another may
/// time out instead; it is tried again.
async fn fails(gateway: &Gateway, name: &str, error: &str) {
    eventually(&format!("J16 {name} has failed with {error:?}"), || async {
        let status = gateway.status().await;
        let issuers = status["issuers"].as_array().unwrap();
        let issuer = issuers.iter().find(|issuer| issuer["name"] == name).unwrap();
        let told = issuer["last_error"]["error"].as_str()?;
        (told.contains("TLS failed") && told.contains(error)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn j16_keys_come_only_from_who_proves_its_name_today() {
    let authority = Authority::new("authority");
    let issuer = TestIssuer::start().await;
    let wrongs = Wrongs::new(&authority, &issuer).await;
    let good = Front::start(&authority.server(&["localhost"]), issuer.server_address()).await;
    let mut switches = Vec::new();
    for (_, address, _) in &wrongs.rows {
        switches.push(Switch::new(*address).await);
    }
    let rows = || wrongs.rows.iter().zip(&switches);
    let issuers: String = rows()
        .map(|((name, ..), switch)| {
            format!(
                "{name}: {{ issuer: 'https://{name}.example.com', algorithms: [ES256], \
                keys: {{ jwks_uri: 'https://localhost:{}/jwks', ca: ca.crt }}, \
                key_refresh: {{ interval: 1s, unknown_kid_cooldown: 1s }} }}\n",
                switch.address.port()
            )
        })
        .collect();
    let names: Vec<&str> = wrongs.rows.iter().map(|row| row.0).collect();
    let require =
        format!("{{ issuers: [{}], audience: {AUDIENCE}, scopes: [orders:read] }}", names.join(", "));
    let upstream = Upstream::start(|_| ok("hello")).await;
    // The issuer that every policy has is none of them.
    let policy =
        Policy::default().issuer("keys: { jwks_file: keys.json }").issuers(&issuers).require(&require);
    let (ca, keys) = (authority.pem(), issuer.jwks());
    let files = [("ca.crt", ca.as_str()), ("keys.json", &keys)];
    let gateway =
        Gateway::start_with(&policy.render("https://corp.example.com", &upstream.url()), &files).await;
    let verdict = async |name: &str| {
        let token = issuer.token().claim("iss", format!("https://{name}.example.com")).mint();
        gateway.get("/orders/1").token(&token).send().await.verdict()
    };

    // At the start: an outage, and nothing is asked of who could not prove its name.
    for ((name, _, error), _) in rows() {
        assert_eq!(verdict(name).await, "503 keys_unavailable", "J16 {name}");
        fails(&gateway, name, error).await;
        let logged = |line: &str| {
            line.contains(&format!("issuer={name} ")) && line.contains("TLS failed") && line.contains(error)
        };
        let what = format!("J16 {name} is logged");
        eventually(&what, || async { gateway.output().lines().any(logged).then_some(()) }).await;
        let labels = [&*format!("issuer=\"{name}\""), "outcome=\"failed\""];
        eventually(&format!("J16 {name} is counted"), || async {
            (gateway.metric("scopegate_jwks_refreshes_total", &labels).await >= 1.0).then_some(())
        })
        .await;
    }
    assert_eq!(issuer.jwks_requests(), 0, "J16: asked in spite of bad TLS");
    assert_eq!(upstream.requests().len(), 0, "J16: permitted without keys");

    // Well: each recovers by itself.
    for ((name, ..), switch) in rows() {
        switch.lead_to(good.address());
        let what = format!("J16 {name} recovers");
        eventually(&what, || async { (verdict(name).await == "200 -").then_some(()) }).await;
    }

    // While it runs: the last good keys stay.
    for ((_, address, _), switch) in rows() {
        switch.lead_to(*address);
    }
    for ((name, _, error), _) in rows() {
        fails(&gateway, name, error).await;
        assert_eq!(verdict(name).await, "200 -", "J16 {name}: the keys it has stay good");
    }
}

/// The program that plays an old server is otherwise a good one.
#[tokio::test]
async fn j16_openssl_gives_keys_in_a_version_that_is_accepted() {
    let authority = Authority::new("authority");
    let issuer = TestIssuer::start().await;
    let server = openssl("-tls1_2", &authority, &issuer.jwks()).await;
    let keys =
        format!("keys: {{ jwks_uri: 'https://localhost:{}/jwks', ca: ca.crt }}", server.address().port());
    let upstream = Upstream::start(|_| ok("hello")).await;
    let config = Policy::default().issuer(&keys).render(issuer.url(), &upstream.url());
    let gateway = Gateway::start_with(&config, &[("ca.crt", &authority.pem())]).await;
    has_keys(&gateway).await;
    assert_eq!(gateway.get("/orders/1").token(&issuer.token().mint()).send().await.verdict(), "200 -");
}
