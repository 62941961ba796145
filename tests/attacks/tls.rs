//! Group Q: TLS and what is beneath it.
//!
//! The gateway has two certificates, a listener in TLS that verifies client certificates, and one in plain text. Whatever
//! a row does, the upstream sees no request that is not asked for, and the gateway serves the next client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, NamedGroup};

use crate::support::process::{self, Output};
use crate::support::tls::{Authority, Connect, Leaf};
use crate::support::{Call, Client, Gateway, PATIENCE, Policy, TestIssuer, Upstream, eventually, ok, soon};

const LISTEN: &str = "
- https: 127.0.0.1:0
  certificates:
    - { cert: first.crt, key: first.key }
    - { cert: second.crt, key: second.key }
  client_ca: clients.crt
- http: 127.0.0.1:0
";

const ROUTES: &str = "
- id: named
  match: { host: [api.example.com, second.example.com], path: '/{*rest}' }
  public: true
  upstream: orders
";

const FIRST: &str = "api.example.com";
const SECOND: &str = "second.example.com";

struct Rig {
    authority: Authority,
    clients: Authority,
    first: Leaf,
    second: Leaf,
    upstream: Upstream,
    gateway: Gateway,
}

impl Rig {
    async fn start() -> Self {
        let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
        let issuer = TestIssuer::start().await;
        let upstream = Upstream::start(|_| ok("hello")).await;
        let first = authority.server(&[FIRST]);
        let second = authority.server(&[SECOND, "*.wild.example.com"]);
        let ca = clients.pem();
        let files = [
            ("first.crt", first.cert.as_str()),
            ("first.key", &first.key),
            ("second.crt", &second.cert),
            ("second.key", &second.key),
            ("clients.crt", &ca),
        ];
        let policy = Policy::default().listen(LISTEN).routes(ROUTES);
        let gateway = Gateway::start_with(&policy.render(issuer.url(), &upstream.url()), &files).await;
        Self { authority, clients, first, second, upstream, gateway }
    }

    fn connect(&self) -> Connect<'_> {
        Connect { authority: &self.authority, name: FIRST, alpn: &["http/1.1"], client: None }
    }

    /// A good request on a TLS connection of its own.
    async fn canary(&self, after: &str) {
        let before = self.upstream.requests().len();
        let stream = self.connect().to(self.gateway.https()).await;
        let mut client = Client::over(stream.unwrap_or_else(|error| panic!("after {after}: {error}")));
        let response = Call::new(self.gateway.https(), "GET", "/canary").on(&mut client).await;
        assert_eq!(response.map(|response| response.status), Some(200), "after {after}");
        assert_eq!(self.upstream.requests().len(), before + 1, "after {after}");
    }

    /// `openssl s_client` with these arguments, until it has nothing more to say.
    async fn openssl(&self, args: &[&str], input: &str) -> Output {
        let address = self.gateway.https().to_string();
        let own = ["s_client", "-connect", &address];
        process::run_with_input("openssl", own.iter().chain(args), input.into()).await
    }
}

/// What openssl says of the protocol and the suite, such as `New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384`.
fn agreed(output: &Output) -> &str {
    let line = output.stdout.lines().find(|line| line.contains(", Cipher is "));
    line.unwrap_or("no handshake")
}

// Q01: the name that a client asks for.

#[tokio::test]
async fn q01_no_spelling_of_a_name_leads_to_laxer_settings() {
    let rig = Rig::start().await;
    let foreign = Authority::new("clients").client("mobile-app");
    let dir = rig.gateway.dir();
    let show = |name: &str, content: &str| {
        std::fs::write(dir.join(name), content).unwrap();
        dir.join(name).to_str().unwrap().to_owned()
    };
    let (cert, key) = (show("foreign.crt", &foreign.cert), show("foreign.key", &foreign.key));
    let long = "a".repeat(63);
    let longest = [long.as_str(); 4].join(".");
    for (what, name, leaf) in [
        ("none", None, Some(&rig.first)),
        ("as it is", Some(FIRST), Some(&rig.first)),
        ("the other", Some(SECOND), Some(&rig.second)),
        ("upper case", Some("SECOND.EXAMPLE.COM"), Some(&rig.second)),
        ("mixed case", Some("sEcOnD.example.com"), Some(&rig.second)),
        ("a dot at the end", Some("second.example.com."), Some(&rig.second)),
        ("upper case and a dot", Some("Second.Example.Com."), Some(&rig.second)),
        ("below the wildcard", Some("a.wild.example.com"), Some(&rig.second)),
        ("below the wildcard, mixed case", Some("A.Wild.Example.com."), Some(&rig.second)),
        ("two labels below the wildcard", Some("a.b.wild.example.com"), Some(&rig.first)),
        ("the wildcard's parent", Some("wild.example.com"), Some(&rig.first)),
        ("unknown", Some("unknown.example.com"), Some(&rig.first)),
        ("an address", Some("127.0.0.1"), Some(&rig.first)),
        ("an underscore", Some("a_b.example.com"), Some(&rig.first)),
        ("the longest", Some(&*longest), None),
        ("the wildcard itself", Some("*.wild.example.com"), None),
        ("two dots", Some("second..example.com"), None),
        ("a colon and a port", Some("second.example.com:443"), None),
        ("a space", Some("second.example.com "), None),
    ] {
        let sni = name.map_or_else(|| vec!["-noservername"], |name| vec!["-servername", name]);
        let output = rig.openssl(&sni, "").await;
        let shown = output.stdout.split("-----BEGIN CERTIFICATE-----").nth(1).map(plain);
        let wanted = leaf.map(|leaf| plain(leaf.cert.trim_start_matches("-----BEGIN CERTIFICATE-----")));
        assert_eq!(shown, wanted, "{what}: {output:?}");
        if wanted.is_some() {
            assert!(output.stdout.contains("CN = clients"), "{what}: client certificates are asked for");
        }
        // The same demand on a client certificate under every name.
        let args = [&sni[..], &["-tls1_2", "-cert", &cert, "-key", &key]].concat();
        let refused = rig.openssl(&args, "").await;
        assert_ne!(refused.code, Some(0), "{what}: {refused:?}");
    }
    rig.canary("all names").await;
}

/// The characters of one PEM block up to its end, without line breaks.
fn plain(pem: &str) -> String {
    let block = pem.split("-----END").next().unwrap();
    block.chars().filter(|c| !c.is_whitespace()).collect()
}

// Q02: the name of the connection and the host of the request.

#[tokio::test]
async fn q02_a_request_for_a_host_of_other_settings_is_misdirected() {
    let rig = Rig::start().await;
    for (name, target, host, wanted) in [
        (FIRST, "/a", FIRST, "200 -"),
        (FIRST, "/a", SECOND, "421 misdirected"),
        (SECOND, "/a", SECOND, "200 -"),
        (SECOND, "/a", FIRST, "421 misdirected"),
        (FIRST, "/a", "SECOND.example.com.:443", "421 misdirected"),
        (FIRST, "https://second.example.com/a", SECOND, "421 misdirected"),
        (FIRST, "https://second.example.com/a", FIRST, "400 request_invalid"),
        (FIRST, "/a", "second.example.com@api.example.com", "400 request_invalid"),
    ] {
        let connect = Connect { name, ..rig.connect() };
        let mut client = Client::over(connect.to(rig.gateway.https()).await.unwrap());
        let call = Call::new(rig.gateway.https(), "GET", target).host(host);
        let response = call.on(&mut client).await.unwrap();
        assert_eq!(response.verdict(), wanted, "{name}: {target} {host}");
    }
    assert_eq!(rig.upstream.requests().len(), 2);
    // The name of the connection in other spellings, which rustls' client cannot say.
    for name in ["SECOND.EXAMPLE.COM", "second.example.com.", "Second.Example.Com."] {
        for (host, status) in [(SECOND, "200"), ("Second.example.com.", "200"), (FIRST, "421")] {
            let request = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let output = rig.openssl(&["-quiet", "-servername", name], &request).await;
            assert!(output.stdout.starts_with(&format!("HTTP/1.1 {status} ")), "{name} {host}: {output:?}");
        }
    }
    rig.canary("misdirected requests").await;
}

// Q04: what TLS has given up.

#[tokio::test]
async fn q04_old_versions_and_weak_suites_are_refused() {
    let rig = Rig::start().await;
    let any = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";
    let cbc = "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0";
    for (what, args) in [
        ("TLS 1.0", ["-tls1", "-cipher", any]),
        ("TLS 1.1", ["-tls1_1", "-cipher", any]),
        ("CBC", ["-tls1_2", "-cipher", cbc]),
        ("key exchange without forward secrecy", ["-tls1_2", "-cipher", "kRSA:@SECLEVEL=0"]),
        ("finite fields", ["-tls1_2", "-cipher", "DHE:@SECLEVEL=0"]),
        ("nobody's certificate", ["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"]),
        ("no encryption", ["-tls1_2", "-cipher", "eNULL:@SECLEVEL=0"]),
        ("pre-shared keys", ["-tls1_2", "-cipher", "PSK:@SECLEVEL=0"]),
        ("CCM with a short tag", ["-tls1_2", "-cipher", "AESCCM8:@SECLEVEL=0"]),
        ("8-bit tags in TLS 1.3", ["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_8_SHA256"]),
        ("a curve below 128 bits", ["-tls1_2", "-curves", "P-192"]),
        ("SHA-1 signatures", ["-tls1_2", "-sigalgs", "ECDSA+SHA1"]),
    ] {
        let output = rig.openssl(&args, "").await;
        assert_eq!(agreed(&output), "New, (NONE), Cipher is (NONE)", "{what}: {output:?}");
    }
    for (args, suite) in [
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"], "TLS_AES_128_GCM_SHA256"),
    ] {
        let output = rig.openssl(&args, "").await;
        assert!(agreed(&output).ends_with(suite), "{output:?}");
        assert!(output.stdout.contains("Compression: NONE"), "{output:?}");
    }
    rig.canary("old versions").await;
}

#[tokio::test]
async fn q04_a_client_cannot_renegotiate() {
    let rig = Rig::start().await;
    // `R` at the start of a line has openssl renegotiate; what follows would be a request.
    let output = rig.openssl(&["-tls1_2"], "R\nGET / HTTP/1.1\r\n\r\n").await;
    assert!(
        output.stderr.contains("RENEGOTIATING") && output.stderr.contains("no renegotiation"),
        "{output:?}"
    );
    assert_ne!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.contains("Secure Renegotiation IS supported"), "RFC 5746: {output:?}");
    assert_eq!(rig.upstream.requests().len(), 0);
    rig.canary("a renegotiation").await;
}

#[tokio::test]
async fn q04_a_client_that_wants_compression_alone_is_refused() {
    let rig = Rig::start().await;
    let mut hello = Hello::of(&rig);
    let at = hello.compression_methods();
    assert_eq!(hello.first[at..at + 2], [1, 0], "one method: none");
    hello.first[at + 1] = 1;
    let ended = hello.sent(rig.gateway.https(), |bytes| vec![bytes.to_vec()]);
    assert!(ended.await.is_err());
    rig.canary("a wish for compression").await;
}

// Q05: early data.

#[tokio::test]
async fn q05_early_data_is_neither_offered_nor_taken() {
    let rig = Rig::start().await;
    let path = |name: &str| rig.gateway.dir().join(name).to_str().unwrap().to_owned();
    let (session, early) = (path("session.pem"), path("early.txt"));
    let request = "GET /early HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n";
    std::fs::write(&early, request).unwrap();
    let name = ["-tls1_3", "-servername", FIRST, "-ign_eof"];
    let first = rig.openssl(&[&name[..], &["-sess_out", &session]].concat(), request).await;
    assert!(first.stdout.contains("Max Early Data: 0"), "{first:?}");
    assert_eq!(rig.upstream.requests().len(), 1);
    let again = [&name[..], &["-sess_in", &session, "-early_data", &early]].concat();
    let second = rig.openssl(&again, request).await;
    assert!(second.stdout.contains("Reused, TLSv1.3"), "{second:?}");
    assert!(!second.stdout.contains("Early data was accepted"), "{second:?}");
    assert_eq!(rig.upstream.requests().len(), 2, "what stood in early data was not taken: {second:?}");
}

/// Remembers tickets, and that each of them permits early data, whatever the server said.
#[derive(Debug)]
struct Forger(ClientSessionMemoryCache);

impl ClientSessionStore for Forger {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(server)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, server: ServerName<'static>, mut ticket: Tls13ClientSessionValue) {
        assert_eq!(ticket.max_early_data_size(), 0, "the gateway offers no early data");
        ticket._private_set_max_early_data_size(16_384);
        self.0.insert_tls13_ticket(server, ticket);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(server)
    }
}

/// The types of the TLS records that these bytes are, and nothing behind them.
fn record_types(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = bytes {
        types.push(*kind);
        bytes = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    types
}

#[tokio::test]
async fn q05_forged_early_data_reaches_nobody() {
    const EARLY: &[u8] = b"GET /early HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let rig = Rig::start().await;
    let early = |what: &str| {
        let served = rig.upstream.requests().iter().any(|request| request.target == "/early");
        assert!(!served, "{what}: what stood in early data was served");
    };
    let cuts: [(&str, Cut); 3] =
        [("whole", CUTS[0].1), ("in packets", |flight| packets(flight, 97)), ("a byte a packet", CUTS[1].1)];
    for (what, cut) in cuts {
        for (much, data) in [("one request", EARLY.to_vec()), ("as much as there can be", EARLY.repeat(300))]
        {
            let what = format!("{much}, {what}");
            let mut config = rig.connect().config();
            config.enable_early_data = true;
            config.resumption = Resumption::store(Arc::new(Forger(ClientSessionMemoryCache::new(8))));
            let config = Arc::new(config);
            // A handshake like any other brings a ticket.
            let answer = Hello::by(Arc::clone(&config)).sent(rig.gateway.https(), CUTS[0].1).await;
            assert!(
                answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")),
                "{what}: {answer:?}"
            );
            let mut connection = ClientConnection::new(config, FIRST.try_into().unwrap()).unwrap();
            let sent = connection.early_data().expect("the client believes in it").write(&data).unwrap();
            assert!(sent >= data.len().min(16_000), "{what}: {sent}");
            let mut first = Vec::new();
            while connection.wants_write() {
                connection.write_tls(&mut first).unwrap();
            }
            assert_eq!(record_types(&first)[..3], [22, 20, 23], "{what}: data comes with the hello");
            let replayed = first.clone();
            let answer = Hello { connection, first }.sent(rig.gateway.https(), cut).await;
            // It goes on as if nothing had been said early; where there is too much to pass over, it may end instead.
            let goes_on = answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"));
            assert!(goes_on || answer.is_err() && data.len() > 8_000, "{what}: {answer:?}");
            early(&what);
            // The same flight again, by somebody who has no keys.
            for _ in 0..3 {
                let mut client = Client::connect(rig.gateway.https()).await;
                client.send(&replayed).await;
                client.finish().await;
                while !client.closes().await {}
            }
            early(&what);
        }
    }
    // Records of data behind a hello that does not speak of any.
    for (what, data) in [("plain text", EARLY.to_vec()), ("noise", vec![0xa5; 500])] {
        let record = [&[23, 3, 3][..], &u16::try_from(data.len()).unwrap().to_be_bytes(), &data].concat();
        let answer = Hello::of(&rig).sent(rig.gateway.https(), |hello| vec![[hello, &record].concat()]).await;
        assert!(answer.is_err(), "{what}: {answer:?}");
        early(what);
    }
    rig.canary("early data").await;
    nothing_is_held(&rig).await;
}

#[tokio::test]
async fn q05_what_a_client_says_of_early_data_does_not_go_on() {
    let rig = Rig::start().await;
    let secure = Client::over(rig.connect().to(rig.gateway.https()).await.unwrap());
    let plain = Client::connect(rig.gateway.address()).await;
    for mut client in [secure, plain] {
        for name in ["Early-Data", "early-data", "EARLY-DATA"] {
            let call = rig.gateway.get("/a").header(name, "1").header("X-Kept", "1");
            assert_eq!(call.on(&mut client).await.unwrap().status, 200);
            let seen = rig.upstream.last();
            assert!(!seen.fields.has("early-data") && seen.fields.has("x-kept"), "{:?}", seen.fields);
        }
    }
}

// Q06: a ClientHello in pieces.

/// A client whose first flight is in its hands.
struct Hello {
    connection: ClientConnection,
    /// One TLS record with the ClientHello.
    first: Vec<u8>,
}

impl Hello {
    fn of(rig: &Rig) -> Self {
        Self::with(rig, None)
    }

    fn with(rig: &Rig, client: Option<&Leaf>) -> Self {
        Self::by(Arc::new(Connect { client, ..rig.connect() }.config()))
    }

    /// That of a client with these settings.
    fn by(config: Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from(FIRST).unwrap();
        let mut connection = ClientConnection::new(config, name).unwrap();
        let mut first = Vec::new();
        connection.write_tls(&mut first).unwrap();
        Self { connection, first }
    }

    /// Where the list of compression methods is (RFC 8446 §4.1.2), its length first.
    fn compression_methods(&self) -> usize {
        let session = 5 + 4 + 2 + 32;
        let suites = session + 1 + usize::from(self.first[session]);
        suites + 2 + usize::from(u16::from_be_bytes([self.first[suites], self.first[suites + 1]]))
    }

    /// Sends the hello as these writes, finishes the handshake and asks for `/a`; the whole answer.
    async fn sent(self, to: SocketAddr, writes: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> std::io::Result<String> {
        let writes = writes(&self.first);
        let mut connection = self.connection;
        let work = tokio::task::spawn_blocking(move || {
            let mut socket = TcpStream::connect(to)?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            for write in writes {
                socket.write_all(&write)?;
            }
            let mut stream = rustls::Stream::new(&mut connection, &mut socket);
            stream.write_all(b"GET /a HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n")?;
            assert!(!stream.conn.is_early_data_accepted(), "early data was accepted");
            let mut answer = String::new();
            match stream.read_to_string(&mut answer) {
                Err(error) if answer.is_empty() => Err(error),
                Ok(_) | Err(_) => Ok(answer),
            }
        });
        soon("the handshake ends", work).await.unwrap()
    }
}

/// The payload of a record in records of this many bytes each.
fn records(record: &[u8], size: usize) -> Vec<Vec<u8>> {
    let (head, payload) = record.split_at(5);
    let part = |part: &[u8]| [&head[..3], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat();
    payload.chunks(size).map(part).collect()
}

fn packets(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    bytes.chunks(size).map(<[u8]>::to_vec).collect()
}

/// A way to cut a ClientHello.
type Cut = fn(&[u8]) -> Vec<Vec<u8>>;

const CUTS: [(&str, Cut); 7] = [
    ("whole", |hello| vec![hello.to_vec()]),
    ("a byte a packet", |hello| packets(hello, 1)),
    ("a byte a record", |hello| vec![records(hello, 1).concat()]),
    ("a byte a record, a record a packet", |hello| records(hello, 1)),
    ("a byte a record, a byte a packet", |hello| packets(&records(hello, 1).concat(), 1)),
    ("records that do not end with packets", |hello| packets(&records(hello, 7).concat(), 11)),
    ("two halves", |hello| records(hello, hello.len() / 2)),
];

#[tokio::test]
async fn q06_a_hello_in_pieces_is_the_same_hello() {
    let rig = Rig::start().await;
    let good = rig.clients.client("mobile-app");
    let foreign = Authority::new("clients").client("mobile-app");
    for (what, cut) in CUTS {
        for (client, wanted) in [(None, true), (Some(&good), true), (Some(&foreign), false)] {
            let answer = Hello::with(&rig, client).sent(rig.gateway.https(), cut).await;
            let served = answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "));
            assert_eq!(served, wanted, "{what}: {answer:?}");
        }
    }
    assert_eq!(rig.upstream.requests().len(), 2 * CUTS.len());
}

#[tokio::test]
async fn q06_a_hello_is_the_same_wherever_it_is_split() {
    let rig = Rig::start().await;
    let length = Hello::of(&rig).first.len();
    for at in (1..length - 5).step_by(3) {
        let answer = Hello::of(&rig).sent(rig.gateway.https(), |hello| {
            let (first, second) = hello[5..].split_at(at.min(hello.len() - 6));
            let part =
                |part: &[u8]| [&hello[..3], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat();
            vec![part(first), part(second)]
        });
        let answer = answer.await;
        assert!(
            answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")),
            "at {at}: {answer:?}"
        );
    }
}

// Q08: another protocol than the one of the port.

/// A ClientHello of SSL 2.0, which offers one suite of export strength.
const SSL2: &[u8] = &[
    0x80, 0x1c, 0x01, 0x00, 0x02, 0x00, 0x03, 0x00, 0x00, 0x00, 0x10, 0x02, 0x00, 0x80, b'0', b'1', b'2',
    b'3', b'4', b'5', b'6', b'7', b'8', b'9', b'a', b'b', b'c', b'd', b'e', b'f',
];

#[tokio::test]
async fn q08_what_is_no_tls_ends_at_the_tls_port() {
    let rig = Rig::start().await;
    let hello = Hello::of(&rig).first;
    let mut claims = hello.clone();
    claims[5..9].copy_from_slice(&[1, 0xff, 0xff, 0xff]);
    let http = b"GET /a HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let rows: [(&str, Vec<u8>); 14] = [
        ("plain HTTP/1.1", http.to_vec()),
        ("plain HTTP/2", preface.to_vec()),
        ("SSL 2.0", SSL2.to_vec()),
        ("a PROXY header", [b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n", &hello[..]].concat()),
        ("noise", (0..500u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        ("zeros", vec![0; 100]),
        ("a record of 64 KiB", [&[0x16, 3, 1, 0xff, 0xff][..], &vec![1; 0xffff]].concat()),
        ("a record of nothing", [&[0x16, 3, 1, 0, 0][..], &hello].concat()),
        ("a hello of 16 MiB", claims),
        ("application data first", [&[0x17, 3, 3, 0, 5][..], b"hello"].concat()),
        ("ChangeCipherSpec first", [&[0x14, 3, 3, 0, 1, 1][..], &hello].concat()),
        ("an alert that closes", vec![0x15, 3, 3, 0, 2, 2, 0]),
        ("a heartbeat", vec![0x18, 3, 3, 0, 3, 1, 0xff, 0xff]),
        ("two hellos", [&hello[..], &hello].concat()),
    ];
    for (what, bytes) in &rows {
        let mut client = Client::connect(rig.gateway.https()).await;
        client.send(bytes).await;
        client.finish().await;
        let mut heard = Vec::new();
        loop {
            let more = client.raw().await;
            if more.is_empty() {
                break;
            }
            heard.extend(more);
        }
        assert!(!heard.starts_with(b"HTTP"), "{what}: no answer in plain text");
        rig.canary(what).await;
    }
    assert_eq!(rig.upstream.requests().len(), rows.len(), "the canaries alone");
    nothing_is_held(&rig).await;
}

#[tokio::test]
async fn q08_what_is_no_http_ends_at_the_plain_port() {
    let rig = Rig::start().await;
    let hello = Hello::of(&rig).first;
    for (what, bytes) in [
        ("TLS", hello.clone()),
        ("TLS in pieces", records(&hello, 1).concat()),
        ("SSL 2.0", SSL2.to_vec()),
        ("noise", (0..500u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        (
            "a PROXY header",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        ),
    ] {
        let mut client = Client::connect(rig.gateway.address()).await;
        client.send(bytes).await;
        client.finish().await;
        let answer = client.response_to("GET").await;
        assert!(answer.as_ref().is_none_or(|answer| answer.status == 400), "{what}: {answer:?}");
        assert!(client.closes().await, "{what}");
        rig.canary(what).await;
    }
    assert_eq!(rig.upstream.requests().len(), 6, "the canaries alone");
    nothing_is_held(&rig).await;
}

#[tokio::test]
async fn q08_a_protocol_nobody_knows_is_refused_in_the_handshake() {
    let rig = Rig::start().await;
    for alpn in [&["foo"][..], &["h3"], &["http/0.9"], &["HTTP/1.1"], &["h2c"]] {
        let handshake = Connect { alpn, ..rig.connect() }.to(rig.gateway.https()).await;
        let error = handshake.err().map(|error| error.to_string());
        assert!(
            error.as_ref().is_some_and(|error| error.contains("NoApplicationProtocol")),
            "{alpn:?}: {error:?}"
        );
    }
    for alpn in [&[][..], &["foo", "http/1.1"], &["http/1.0"]] {
        let stream = Connect { alpn, ..rig.connect() }.to(rig.gateway.https()).await.unwrap();
        let response = rig.gateway.get("/a").on(&mut Client::over(stream)).await;
        assert_eq!(response.map(|response| response.status), Some(200), "{alpn:?}");
    }
}

/// Waits until no client connection is open any more.
async fn nothing_is_held(rig: &Rig) {
    eventually("all connections are gone", || async {
        (rig.gateway.metric("scopegate_connections", &[]).await == 0.0).then_some(())
    })
    .await;
    assert_eq!(rig.gateway.metric("scopegate_panics_total", &[]).await, 0.0);
}

/// Whether the server has shown this certificate.
pub(crate) fn shows(stream: &tokio_rustls::client::TlsStream<tokio::net::TcpStream>, leaf: &Leaf) -> bool {
    use rustls::pki_types::pem::PemObject;
    let (_, session) = stream.get_ref();
    let wanted = rustls::pki_types::CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap();
    session.peer_certificates().unwrap()[0] == wanted
}

// Q10: certificates change under load.

#[tokio::test]
async fn q10_a_rotation_under_load_fails_no_handshake() {
    const ROTATIONS: usize = 12;
    let rig = Rig::start().await;
    let leaves: Vec<Leaf> = (0..2).map(|_| rig.authority.server(&[FIRST])).collect();
    let stop = AtomicBool::new(false);
    let handshakes = AtomicUsize::new(0);
    let client = async || {
        while !stop.load(Ordering::SeqCst) {
            let stream = rig.connect().to(rig.gateway.https()).await.expect("a handshake");
            let response = rig.gateway.get("/a").on(&mut Client::over(stream)).await;
            assert_eq!(response.expect("an answer").status, 200);
            handshakes.fetch_add(1, Ordering::SeqCst);
        }
    };
    let rotate = async {
        for turn in 0..ROTATIONS {
            let leaf = &leaves[turn % leaves.len()];
            for (name, content) in [("first.key", &leaf.key), ("first.crt", &leaf.cert)] {
                let path = rig.gateway.dir().join(name);
                std::fs::write(path.with_extension("new"), content).unwrap();
                std::fs::rename(path.with_extension("new"), path).unwrap();
            }
            eventually("the new certificate is served", || async {
                let stream = rig.connect().to(rig.gateway.https()).await.expect("a handshake");
                shows(&stream, leaf).then_some(())
            })
            .await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    tokio::join!(client(), client(), client(), rotate);
    assert!(handshakes.load(Ordering::SeqCst) > ROTATIONS);
    rig.canary("the rotations").await;
}
