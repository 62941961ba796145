//! Group J, and the keys of group H: key sets and those who serve them, while others attack or the issuer fails.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use crate::support::{
    AUDIENCE, Alg, Behaviour, Call, Client, Gateway, Policy, Recorded, Reply, Rig, TestIssuer, Upstream, b64,
    eventually, has_keys, ok,
};
use crate::trial::{Row, Trial};

/// What an issuer named in the path of one shared server does while the server is ill.
struct Fault {
    /// Its name: the first segment of the path.
    name: &'static str,
    /// What it sends.
    reply: fn() -> Reply,
    /// What the status says of it; nothing where this is no fault.
    error: &'static str,
}

/// A JSON document.
fn document(status: u16, fields: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    Reply::Bytes([head.as_bytes(), body].concat())
}

/// These pieces, and then silence on an open connection.
fn unending(pieces: impl IntoIterator<Item = Vec<u8>>) -> Reply {
    let (sender, receiver) = mpsc::unbounded_channel();
    pieces.into_iter().for_each(|piece| sender.send(piece).unwrap());
    std::mem::forget(sender);
    Reply::Stream(receiver)
}

/// One byte each 50 ms for as long as somebody listens.
fn drip(head: &'static [u8]) -> Reply {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        let mut bytes = head.iter().copied().chain(std::iter::repeat(b' '));
        while sender.send(vec![bytes.next().unwrap()]).is_ok() {
            tick.tick().await;
        }
    });
    Reply::Stream(receiver)
}

/// gzip of 100 MiB of zeros would be some 100 KB; how much it would unfold to does not matter to who does not unfold it.
fn bomb() -> Vec<u8> {
    [vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], vec![0; 100_000]].concat()
}

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Everything a key endpoint may do wrong.
const FAULTS: &[Fault] = &[
    Fault {
        name: "drip",
        reply: || drip(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n"),
        error: "timed out",
    },
    Fault { name: "drip-head", reply: || drip(b"HTTP/1.1 200 OK\r\nX-Long: "), error: "timed out" },
    Fault { name: "silent", reply: || Reply::Never, error: "timed out" },
    Fault {
        name: "endless-chunks",
        reply: || {
            let piece = [b"8000\r\n".as_slice(), &[b' '; 0x8000], b"\r\n"].concat();
            unending([CHUNKED.to_vec()].into_iter().chain(std::iter::repeat_n(piece, 256)))
        },
        error: "larger than",
    },
    Fault {
        name: "endless-empty-lines",
        reply: || unending(std::iter::repeat_n(b"\r\n".repeat(0x8000), 64)),
        error: "exchange failed",
    },
    Fault {
        name: "endless-head",
        reply: || {
            let line = format!("X: {}\r\n", "x".repeat(1000)).into_bytes();
            unending([b"HTTP/1.1 200 OK\r\n".to_vec()].into_iter().chain(std::iter::repeat_n(line, 4000)))
        },
        error: "exchange failed",
    },
    Fault {
        name: "interim",
        reply: || {
            unending(std::iter::repeat_n(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n".repeat(100), 300))
        },
        error: "timed out",
    },
    Fault {
        name: "large",
        reply: || {
            unending([b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n".to_vec(), vec![b' '; 4 << 20]])
        },
        error: "larger than",
    },
    Fault { name: "two-mib", reply: || document(200, "", vec![b' '; 2 << 20]), error: "larger than" },
    Fault {
        name: "gzip",
        reply: || document(200, "Content-Encoding: gzip\r\n", bomb()),
        error: "content coding",
    },
    Fault { name: "gzip-unsaid", reply: || document(200, "", bomb()), error: "JSON" },
    Fault {
        name: "link-local",
        reply: || document(302, "Location: http://169.254.169.254/latest/meta-data\r\n", ""),
        error: "redirect",
    },
    Fault {
        name: "file",
        reply: || document(301, "Location: file:///etc/passwd\r\n", ""),
        error: "redirect",
    },
    Fault {
        name: "scheme-less",
        reply: || document(307, "Location: //169.254.169.254/\r\n", ""),
        error: "redirect",
    },
    Fault { name: "loop", reply: || document(302, "Location: /loop/jwks\r\n", ""), error: "redirect" },
    Fault { name: "no-location", reply: || document(302, "", ""), error: "redirect" },
    Fault {
        name: "html",
        reply: || document(200, "Content-Type: text/html\r\n", "<html>Sign in</html>"),
        error: "JSON",
    },
    Fault { name: "empty-body", reply: || document(200, "", ""), error: "JSON" },
    Fault { name: "truncated", reply: || document(200, "", r#"{"keys":[{"kty":"EC","crv":"#), error: "JSON" },
    Fault {
        name: "cut-off",
        reply: || {
            Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"keys\":[".to_vec())
        },
        error: "broke off",
    },
    Fault {
        name: "cut-chunk",
        reply: || Reply::BytesThenClose([CHUNKED, b"9\r\n{\"keys\":["].concat()),
        error: "broke off",
    },
    Fault { name: "twice", reply: || document(200, "", r#"{"keys":[],"keys":[]}"#), error: "JSON" },
    Fault { name: "keys-object", reply: || document(200, "", r#"{"keys":{}}"#), error: "no array" },
    Fault { name: "keys-null", reply: || document(200, "", r#"{"keys":null}"#), error: "no array" },
    Fault { name: "keys-absent", reply: || document(200, "", "{}"), error: "no array" },
    Fault { name: "keys-empty", reply: || document(200, "", r#"{"keys":[]}"#), error: "no usable key" },
    Fault { name: "array", reply: || document(200, "", "[]"), error: "JSON" },
    Fault {
        name: "deep",
        reply: || document(200, "", format!("{{\"keys\":{}", "[".repeat(100_000))),
        error: "JSON",
    },
    Fault {
        name: "many",
        reply: || document(200, "", format!("{{\"keys\":[{}{{}}]}}", "{},".repeat(200))),
        error: "more than",
    },
    Fault {
        name: "symmetric",
        reply: || {
            document(200, "", r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"p256-1","alg":"HS256"}]}"#)
        },
        error: "no usable key",
    },
    Fault { name: "no-content", reply: || Reply::Bytes(b"HTTP/1.1 204 X\r\n\r\n".to_vec()), error: "204" },
    Fault { name: "not-modified", reply: || Reply::Bytes(b"HTTP/1.1 304 X\r\n\r\n".to_vec()), error: "304" },
    Fault { name: "not-found", reply: || document(404, "", "{}"), error: "404" },
    Fault { name: "error", reply: || document(500, "", "out of order"), error: "500" },
    Fault { name: "busy", reply: || document(503, "Retry-After: soon\r\n", ""), error: "503" },
    Fault { name: "too-many", reply: || document(429, "Retry-After: 1\r\n", ""), error: "429" },
    Fault { name: "closed", reply: || Reply::CloseEarly, error: "exchange failed" },
    Fault { name: "garbage", reply: || Reply::BytesThenClose(vec![0xff; 4000]), error: "exchange failed" },
    Fault {
        name: "http2",
        reply: || Reply::BytesThenClose(b"\0\0\0\x04\0\0\0\0\0".to_vec()),
        error: "exchange failed",
    },
];

/// All these issuers on one server, which is well or ill.
struct Ward {
    server: Upstream,
    ill: Arc<AtomicBool>,
    asked: Arc<Mutex<HashMap<String, usize>>>,
    signer: TestIssuer,
    upstream: Upstream,
}

impl Ward {
    async fn new(ill: bool) -> Self {
        let signer = TestIssuer::start().await;
        let (ill, asked) = (Arc::new(AtomicBool::new(ill)), Arc::new(Mutex::new(HashMap::new())));
        let (is_ill, count, keys) = (Arc::clone(&ill), Arc::clone(&asked), signer.jwks());
        let server = Upstream::start(move |request: &Recorded| {
            let name = request.target.split('/').nth(1).unwrap_or_default();
            *count.lock().unwrap().entry(name.to_owned()).or_insert(0usize) += 1;
            match FAULTS.iter().find(|fault| fault.name == name) {
                Some(fault) if is_ill.load(Ordering::SeqCst) => (fault.reply)(),
                // What the type says does not matter: the content does.
                Some(_) | None => document(200, "Content-Type: text/plain\r\n", &keys),
            }
        })
        .await;
        let upstream = Upstream::start(|_| ok("hello")).await;
        Self { server, ill, asked, signer, upstream }
    }

    /// A gateway with these issuers beside `corp`, which is always well; one route accepts all of them.
    async fn gateway(&self) -> Gateway {
        let refresh = "key_refresh: { interval: 1s, unknown_kid_cooldown: 1s }";
        let url = self.server.url();
        let issuers: Vec<String> = FAULTS
            .iter()
            .map(|Fault { name, .. }| {
                format!("{name}: {{ issuer: '{url}/{name}', keys: {{ jwks_uri: '{url}/{name}/jwks' }}, algorithms: [ES256], {refresh} }}")
            })
            .collect();
        let names: Vec<&str> = FAULTS.iter().map(|fault| fault.name).chain(["corp"]).collect();
        let routes = format!(
            "
- id: all
  match: {{ path: '/orders/{{*rest}}' }}
  require: {{ issuers: [{}], audience: {AUDIENCE}, scopes: [orders:read] }}
  upstream: orders
- id: open
  match: {{ path: '/open' }}
  public: true
  upstream: orders
",
            names.join(", ")
        );
        let policy = Policy::default()
            .issuer(&format!("keys: {{ jwks_uri: '{url}/corp/jwks' }}\n{refresh}"))
            .issuers(&issuers.join("\n"))
            .routes(&routes);
        Gateway::start(&policy.render(&format!("{url}/corp"), &self.upstream.url())).await
    }

    async fn verdict(&self, gateway: &Gateway, name: &str) -> String {
        let token = self.signer.token().claim("iss", format!("{}/{name}", self.server.url())).mint();
        gateway.get("/orders/1").token(&token).send().await.verdict()
    }

    fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

/// Waits until an issuer's keys are there; others may never have any.
async fn has_keys_of(gateway: &Gateway, name: &str) {
    eventually(&format!("the keys of {name} are there"), || async {
        issuer_status(gateway, name).await["usable"].as_bool().filter(|usable| *usable)
    })
    .await;
}

/// Waits until the last fetch of an issuer's keys has failed for one of these reasons, separated by `|`. On a loaded machine
/// one or another may time out instead; it is tried again.
async fn fails(gateway: &Gateway, name: &str, errors: &str) {
    eventually(&format!("{name} has failed with {errors:?}"), || async {
        let status = issuer_status(gateway, name).await;
        let told = status["last_error"]["error"].as_str()?;
        errors.split('|').any(|error| told.contains(error)).then_some(())
    })
    .await;
}

async fn issuer_status(gateway: &Gateway, name: &str) -> Value {
    let status = gateway.status().await;
    let issuers = status["issuers"].as_array().unwrap();
    issuers.iter().find(|issuer| issuer["name"] == name).unwrap().clone()
}

#[tokio::test]
async fn j06_j13_whatever_an_endpoint_sends_the_old_keys_stay_and_nobody_else_suffers() {
    let ward = Ward::new(false).await;
    let gateway = ward.gateway().await;
    has_keys(&gateway).await;
    for name in FAULTS.iter().map(|fault| fault.name).chain(["corp"]) {
        assert_eq!(ward.verdict(&gateway, name).await, "200 -", "J06 {name}, well");
    }
    ward.ill.store(true, Ordering::SeqCst);
    for Fault { name, error, .. } in FAULTS {
        fails(&gateway, name, error).await;
        assert_eq!(ward.verdict(&gateway, name).await, "200 -", "J06 {name}, ill");
    }
    let corp = issuer_status(&gateway, "corp").await;
    assert!(
        corp["last_error"].is_null() && corp["key_age_seconds"].as_u64().is_some_and(|age| age < 30),
        "J13: {corp}"
    );
    let peak = gateway.peak_memory();
    assert!(peak < 200 << 20, "J06: {peak} bytes at the most");
    ward.ill.store(false, Ordering::SeqCst);
    for Fault { name, .. } in FAULTS {
        eventually(&format!("J06 {name} has recovered"), || async {
            issuer_status(&gateway, name).await["last_error"].is_null().then_some(())
        })
        .await;
        assert_eq!(ward.verdict(&gateway, name).await, "200 -", "J06 {name}, well again");
    }
    let failed = gateway.metric("scopegate_jwks_refreshes_total", &[r#"outcome="failed""#]).await;
    assert!(failed >= FAULTS.len() as f64, "R13: {failed} failed fetches were counted");
}

#[tokio::test]
async fn j04_j17_dead_at_boot_is_an_outage_and_never_a_pass() {
    let ward = Ward::new(true).await;
    let gateway = ward.gateway().await;
    assert_eq!(gateway.get("/open").send().await.status, 200, "J04: what needs no key is served");
    assert_eq!(gateway.admin("GET", "/readyz").send().await.status, 503, "J04");
    has_keys_of(&gateway, "corp").await;
    assert_eq!(ward.verdict(&gateway, "corp").await, "200 -", "J13");
    for Fault { name, .. } in FAULTS {
        let response = {
            let token = ward.signer.token().claim("iss", format!("{}/{name}", ward.server.url())).mint();
            gateway.get("/orders/1").token(&token).send().await
        };
        assert_eq!(response.verdict(), "503 keys_unavailable", "J04 {name}");
        assert!(
            response.header("retry-after").is_some() && response.challenge().is_empty(),
            "J04 {name}: {response:?}"
        );
    }
    ward.ill.store(false, Ordering::SeqCst);
    for Fault { name, .. } in FAULTS {
        let what = format!("J04 {name} recovers without a restart");
        eventually(&what, || async { (ward.verdict(&gateway, name).await == "200 -").then_some(()) }).await;
    }
    eventually("J04 ready", || async {
        (gateway.admin("GET", "/readyz").send().await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn j05_requests_do_not_wake_a_dead_issuer() {
    let ward = Ward::new(true).await;
    let gateway = ward.gateway().await;
    let (before, started) = (ward.asked("error"), Instant::now());
    let mut client = Client::connect(gateway.address()).await;
    let token = ward.signer.token().claim("iss", format!("{}/error", ward.server.url())).mint();
    let call = gateway.get("/orders/1").token(&token);
    for _ in 0..500 {
        assert_eq!(call.on(&mut client).await.unwrap().verdict(), "503 keys_unavailable", "J05");
    }
    // Its own retries come besides, with pauses of half a second at least; 500 requests are no reason for more than one a
    // cooldown, which is a second.
    let asked = ward.asked("error") - before;
    let seconds = started.elapsed().as_secs();
    assert!(asked as u64 <= 3 + 3 * seconds, "J05: asked {asked} times for 500 requests in {seconds} s");
}

#[tokio::test]
async fn j16_an_endpoint_without_good_tls_gives_no_keys() {
    let issuer = TestIssuer::start().await;
    let authority = crate::support::tls::Authority::new("nobody knows me");
    let leaf = authority.server(&["127.0.0.1", "localhost"]);
    let (untrusted, asked) = https(&leaf, issuer.jwks()).await;
    let plain = Upstream::start(|_| ok("{}")).await;
    let closing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closes = closing.local_addr().unwrap();
    tokio::spawn(async move { while closing.accept().await.is_ok() {} });
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Nobody else gets its port, and nobody listens there.
    let refusing = tokio::net::TcpSocket::new_v4().unwrap();
    refusing.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let rows = [
        ("untrusted", format!("https://127.0.0.1:{}/jwks", untrusted.port()), "TLS failed"),
        ("other-name", format!("https://localhost:{}/jwks", untrusted.port()), "TLS failed"),
        // That server waits for more of what it takes for a request.
        ("plain", format!("https://{}/jwks", plain.address()), "timed out"),
        ("closing", format!("https://{}/jwks", closes), "TLS failed"),
        ("silent", format!("https://{}/jwks", silent.local_addr().unwrap()), "timed out"),
        ("refused", format!("https://{}/jwks", refusing.local_addr().unwrap()), "cannot connect"),
        // Where names are looked up slowly, time runs out first.
        ("unresolved", "https://idp.invalid/jwks".to_owned(), "cannot be resolved|timed out"),
    ];
    let issuers: Vec<String> = rows
        .iter()
        .map(|(name, uri, _)| {
            format!("{name}: {{ issuer: 'https://{name}.example.com', keys: {{ jwks_uri: '{uri}' }}, algorithms: [ES256] }}")
        })
        .collect();
    let names: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let require =
        format!("{{ issuers: [corp, {}], audience: {AUDIENCE}, scopes: [orders:read] }}", names.join(", "));
    let upstream = Upstream::start(|_| ok("hello")).await;
    let policy = Policy::default().issuers(&issuers.join("\n")).require(&require);
    let gateway = Gateway::start(&policy.render(issuer.url(), &upstream.url())).await;
    for (name, _, error) in rows {
        let token = issuer.token().claim("iss", format!("https://{name}.example.com")).mint();
        let verdict = gateway.get("/orders/1").token(&token).send().await.verdict();
        assert_eq!(verdict, "503 keys_unavailable", "J16 {name}");
        fails(&gateway, name, error).await;
    }
    has_keys_of(&gateway, "corp").await;
    assert_eq!(asked.load(Ordering::SeqCst), 0, "J16: nothing was asked of who could not prove its name");
    assert_eq!(gateway.get("/orders/1").token(&issuer.token().mint()).send().await.verdict(), "200 -");
    assert_eq!((upstream.requests().len(), plain.requests().len()), (1, 0));
}

/// A server with this certificate that answers everything with this document, and how many handshakes it has completed.
async fn https(leaf: &crate::support::tls::Leaf, body: String) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    use tokio::io::AsyncWriteExt;

    let acceptor = leaf.acceptor();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(socket).await {
                count.fetch_add(1, Ordering::SeqCst);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(head.as_bytes()).await;
            }
        }
    });
    (address, asked)
}

#[tokio::test]
async fn j10_metadata_names_its_own_issuer_and_a_safe_place() {
    let trap = Upstream::start(|_| ok("{}")).await;
    let issuer = TestIssuer::start().await;
    let documents = Arc::new(Mutex::new(HashMap::<String, String>::new()));
    let served = Arc::clone(&documents);
    let front = Upstream::start(move |request| {
        let name = request.target.rsplit('/').next().unwrap_or_default();
        match served.lock().unwrap().get(name) {
            Some(text) => document(200, "Content-Type: application/json\r\n", text),
            None => document(404, "", ""),
        }
    })
    .await;
    let of = |name: &str| format!("{}/{name}", front.url());
    let keys = issuer.jwks_uri();
    let rows = [
        ("good", json!({"issuer": of("good"), "jwks_uri": keys}), ""),
        ("slash", json!({"issuer": of("slash/"), "jwks_uri": keys}), "issuer"),
        ("case", json!({"issuer": of("CASE"), "jwks_uri": keys}), "issuer"),
        ("list", json!({"issuer": [of("list")], "jwks_uri": keys}), "issuer"),
        ("other", json!({"issuer": "https://evil.example.com", "jwks_uri": keys}), "issuer"),
        ("none", json!({"jwks_uri": keys}), "issuer"),
        ("no-uri", json!({"issuer": of("no-uri")}), "jwks_uri"),
        ("number", json!({"issuer": of("number"), "jwks_uri": 7}), "jwks_uri"),
        ("file", json!({"issuer": of("file"), "jwks_uri": "file:///etc/passwd"}), "jwks_uri"),
        ("relative", json!({"issuer": of("relative"), "jwks_uri": "/jwks"}), "jwks_uri"),
        (
            "gopher",
            json!({"issuer": of("gopher"), "jwks_uri": format!("gopher://{}/x", trap.address())}),
            "jwks_uri",
        ),
        (
            "link-local",
            json!({"issuer": of("link-local"), "jwks_uri": "http://169.254.169.254/keys"}),
            "cannot be resolved",
        ),
        (
            "elsewhere",
            json!({"issuer": of("elsewhere"), "jwks_uri": "http://idp.invalid/keys"}),
            "cannot be resolved|timed out",
        ),
        (
            "user",
            json!({"issuer": of("user"), "jwks_uri": format!("http://a@{}/x", trap.address())}),
            "user name",
        ),
    ];
    for (name, metadata, _) in &rows {
        documents.lock().unwrap().insert((*name).to_owned(), metadata.to_string());
    }
    let twice =
        format!("{{\"issuer\":\"{}\",\"issuer\":\"{}\",\"jwks_uri\":\"{keys}\"}}", of("x"), of("twice"));
    documents.lock().unwrap().insert("twice".to_owned(), twice);
    let rows: Vec<(&str, &str)> = rows.iter().map(|row| (row.0, row.2)).chain([("twice", "JSON")]).collect();
    let issuers: Vec<String> = rows
        .iter()
        .map(|(name, _)| {
            format!("{name}: {{ issuer: '{}', keys: {{ discovery: true }}, algorithms: [ES256] }}", of(name))
        })
        .collect();
    let names: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let route = format!(
        "
- id: all
  match: {{ path: '/orders/{{*rest}}' }}
  require: {{ issuers: [{}], audience: {AUDIENCE}, scopes: [orders:read] }}
  upstream: orders
",
        names.join(", ")
    );
    let upstream = Upstream::start(|_| ok("hello")).await;
    let policy = Policy::default().issuers(&issuers.join("\n")).routes(&route);
    let gateway = Gateway::start(&policy.render(issuer.url(), &upstream.url())).await;
    has_keys_of(&gateway, "good").await;
    for (name, error) in rows {
        let token = issuer.token().claim("iss", of(name)).mint();
        let verdict = gateway.get("/orders/1").token(&token).send().await.verdict();
        if error.is_empty() {
            assert_eq!(verdict, "200 -", "J10 {name}");
            continue;
        }
        assert_eq!(verdict, "503 keys_unavailable", "J10 {name}");
        fails(&gateway, name, error).await;
    }
    assert_eq!(trap.connections(), 0, "J10: nobody else was asked");
}

/// Requests with this many different tokens, on eight connections; the verdicts with their counts.
async fn flood(rig: &Rig, count: usize, token: impl Fn(usize) -> String) -> HashMap<String, usize> {
    let mut clients = tokio::task::JoinSet::new();
    for lane in 0..8 {
        let calls: Vec<Call> =
            (lane..count).step_by(8).map(|n| rig.gateway.get("/orders/1").token(&token(n))).collect();
        let address = rig.gateway.address();
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut verdicts = Vec::new();
            for call in calls {
                verdicts.push(call.on(&mut client).await.unwrap().verdict());
            }
            verdicts
        });
    }
    let mut verdicts = HashMap::new();
    for verdict in clients.join_all().await.into_iter().flatten() {
        *verdicts.entry(verdict).or_insert(0) += 1;
    }
    verdicts
}

/// A token with this key id. Its signature is any: nobody has the key.
fn unknown(rig: &Rig, kid: String) -> String {
    rig.issuer.token().header("kid", kid).mint_with_signature(&[7; 64])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j01_a_flood_of_unknown_keys_is_one_fetch() {
    let issuer = TestIssuer::start().await;
    let upstream = Upstream::start(|_| ok("hello")).await;
    let keys = format!(
        "keys: {{ jwks_uri: '{}' }}\nkey_refresh: {{ interval: 1h, unknown_kid_cooldown: 1h }}",
        issuer.jwks_uri()
    );
    let gateway =
        Gateway::start(&Policy::default().issuer(&keys).render(issuer.url(), &upstream.url())).await;
    has_keys(&gateway).await;
    let rig = Rig { issuer, upstream, gateway };
    assert_eq!(rig.get("/orders/1").send().await.verdict(), "200 -");
    let (good, stop) = (rig.get("/orders/2"), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let address = rig.gateway.address();
    // Somebody with a good token all the while.
    let bystander = tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        let mut served = 0;
        while !stopped.load(Ordering::SeqCst) {
            assert_eq!(good.on(&mut client).await.unwrap().verdict(), "200 -", "J01: a good client");
            served += 1;
        }
        served
    });
    let verdicts = flood(&rig, 10_000, |n| unknown(&rig, format!("nobody-{n}"))).await;
    assert_eq!(verdicts, HashMap::from([("401 key_unknown".to_owned(), 10_000)]), "J01");
    stop.store(true, Ordering::SeqCst);
    assert!(bystander.await.unwrap() > 10);
    assert_eq!(
        (rig.issuer.jwks_requests(), rig.issuer.metadata_requests()),
        (2, 0),
        "J01: at the start, and once"
    );
    assert_eq!(
        rig.get("/orders/1").send().await.verdict(),
        "200 -",
        "J01: the keys that were there are there"
    );
    let counted = rig.gateway.metric("scopegate_decisions_total", &[r#"reason="key_unknown""#]).await;
    assert!(counted >= 9_999.0, "R13: {counted} refusals were counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j01_what_is_refused_anyway_asks_for_no_key() {
    let mut trial =
        Trial::with(Policy::default().issuer("key_refresh: { interval: 1h, unknown_kid_cooldown: 1s }"))
            .await;
    let issuer = &trial.rig.issuer;
    let token = || issuer.token().header("kid", "nobody");
    let rows: Vec<(&str, String, &str)> = vec![
        (
            "of an unknown issuer",
            token().claim("iss", "https://evil.example.com").mint(),
            "401 issuer_unknown",
        ),
        ("without an issuer", token().without("iss").mint(), "401 token_claim_missing"),
        ("by another algorithm", token().header("alg", "HS256").mint(), "401 algorithm_refused"),
        ("by none", token().header("alg", "none").mint(), "401 algorithm_refused"),
        ("of another type", token().header("typ", "JWT").mint(), "401 token_type_refused"),
        ("with crit", token().header("crit", json!(["x"])).mint(), "401 token_malformed"),
        ("cut off", token().mint().split('.').next().unwrap().to_owned() + ".e30", "401 token_malformed"),
        // The answer does not tell these apart from one that was worth a fetch.
        ("expired", token().times(-700, -100).mint(), "401 key_unknown"),
        ("without exp", token().without("exp").mint(), "401 key_unknown"),
        ("without aud", token().without("aud").mint(), "401 key_unknown"),
    ];
    for (what, token, expected) in rows {
        for _ in 0..20 {
            trial.judge(&Row::token("J01", what, &token, expected, "jose, go-oidc#482")).await;
        }
    }
    trial.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j02_the_cooldown_begins_before_the_fetch_whatever_comes_of_it() {
    let weak = r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"weak"}]}"#;
    let behaviours = [
        ("fails", Behaviour::Failing),
        ("is down", Behaviour::Down),
        ("has no keys", Behaviour::Empty),
        ("has weak keys", Behaviour::Jwks(weak.into())),
        ("sends nonsense", Behaviour::Jwks("<html>".into())),
        ("is well", Behaviour::Well),
    ];
    for (what, behaviour) in behaviours {
        let rig =
            Rig::with(Policy::default().issuer("key_refresh: { interval: 1h, unknown_kid_cooldown: 1h }"))
                .await;
        assert_eq!(rig.get("/orders/1").send().await.verdict(), "200 -");
        rig.issuer.behave(behaviour);
        let before = rig.issuer.metadata_requests();
        let verdicts = flood(&rig, 2_000, |n| unknown(&rig, format!("nobody-{n}"))).await;
        let refused: usize =
            ["401 key_unknown", "503 keys_unavailable"].iter().filter_map(|v| verdicts.get(*v)).sum();
        assert_eq!(refused, 2_000, "J02, an issuer that {what}: {verdicts:?}");
        assert_eq!(rig.get("/orders/1").send().await.verdict(), "200 -", "J02, an issuer that {what}");
        // After a failure its own retries come besides, with pauses of at least half a second, then one, two, four.
        let asked = rig.issuer.metadata_requests() - before;
        assert!(
            (1..=6).contains(&asked),
            "J02, an issuer that {what}: asked {asked} times for 2,000 requests"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j12_j14_a_cold_start_is_one_fetch_whoever_leaves() {
    let issuer = TestIssuer::start().await;
    let sign = Arc::new(Notify::new());
    issuer.behave(Behaviour::Slow(Arc::clone(&sign)));
    let upstream = Upstream::start(|_| ok("hello")).await;
    let keys = format!(
        "keys: {{ jwks_uri: '{}' }}\nkey_refresh: {{ interval: 1h, unknown_kid_cooldown: 1h }}",
        issuer.jwks_uri()
    );
    // All of them come from one address.
    let policy = Policy::default().issuer(&keys).gateway("limits: { connections_per_client: 2000 }");
    let started = Instant::now();
    let gateway = Gateway::start(&policy.render(issuer.url(), &upstream.url())).await;
    let (call, address) = (gateway.get("/orders/1").token(&issuer.token().mint()), gateway.address());
    // The first to ask leave before there is an answer: whoever leads the fetch may go.
    for _ in 0..50 {
        let mut client = Client::connect(address).await;
        client.send(call.bytes()).await;
    }
    let mut waiting = tokio::task::JoinSet::new();
    let all_sent = Arc::new(tokio::sync::Barrier::new(1_001));
    for _ in 0..1_000 {
        let (call, all_sent) = (call.clone(), Arc::clone(&all_sent));
        waiting.spawn(async move {
            let mut client = Client::connect(address).await;
            client.send(call.bytes()).await;
            all_sent.wait().await;
            client.response().await.verdict()
        });
    }
    all_sent.wait().await;
    issuer.behave(Behaviour::Well);
    // Whoever asked is answered; also one that was about to wait.
    sign.notify_waiters();
    sign.notify_one();
    let verdicts = waiting.join_all().await;
    // Nobody waits longer than two seconds: on a slow machine some were told to come again.
    assert!(
        verdicts.iter().all(|verdict| ["200 -", "503 keys_unavailable"].contains(&verdict.as_str())),
        "J14: {verdicts:?}"
    );
    has_keys(&gateway).await;
    // One fetch, and where all this took long the next that is due when one has timed out: half a second after it at least.
    let asked = issuer.jwks_requests();
    let due = started.elapsed().as_millis()
        / (scopegate::reload::fetch::TIMEOUT + Duration::from_millis(500)).as_millis();
    assert!(asked as u128 <= 1 + due, "J14: {asked} fetches for {} requests", verdicts.len());
    assert_eq!(call.send().await.verdict(), "200 -", "J12: nothing is left hanging");
    assert_eq!(issuer.jwks_requests(), asked, "J14");
    assert_eq!(gateway.metric("scopegate_panics_total", &[]).await, 0.0);
}

#[tokio::test]
async fn j18_an_issuer_that_asks_to_be_left_alone_is() {
    let rig =
        Rig::with(Policy::default().issuer("key_refresh: { interval: 1h, unknown_kid_cooldown: 1s }")).await;
    assert_eq!(rig.get("/orders/1").send().await.verdict(), "200 -");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // The same address with another answer: a front that counts and asks for an hour of peace.
    let front = Upstream::start(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        document(429, "Retry-After: 3600\r\n", "")
    })
    .await;
    let policy = Policy::default().issuer(&format!(
        "keys: {{ jwks_uri: '{}/jwks' }}\nkey_refresh: {{ interval: 1h, unknown_kid_cooldown: 1s }}",
        front.url()
    ));
    rig.gateway.replace_config(&policy.render(rig.issuer.url(), &rig.upstream.url()));
    rig.gateway.wait_loaded().await;
    eventually("J18 it was asked", || async {
        (!issuer_status(&rig.gateway, "corp").await["last_error"].is_null()).then_some(())
    })
    .await;
    // Far beyond the cooldown, and beyond what its own pauses would be.
    let mut pause = tokio::time::interval(Duration::from_millis(500));
    for n in 0..8 {
        pause.tick().await;
        let verdict =
            rig.gateway.get("/orders/1").token(&unknown(&rig, format!("nobody-{n}"))).send().await.verdict();
        assert_eq!(verdict, "503 keys_unavailable", "J18");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "J18: asked once");
}

#[tokio::test]
async fn j08_keys_that_share_a_name_are_told_apart_by_their_kind() {
    let issuer = TestIssuer::start().await;
    let mut set: Value = serde_json::from_str(&issuer.jwks()).unwrap();
    for key in set["keys"].as_array_mut().unwrap() {
        key["kid"] = "same".into();
    }
    // A key of a kind that is there already, under the same name: both are tried.
    let other = TestIssuer::start().await;
    other.rotate();
    let mut second: Value = serde_json::from_str::<Value>(&other.jwks()).unwrap()["keys"][1].clone();
    second["kid"] = "same".into();
    set["keys"].as_array_mut().unwrap().push(second);
    issuer.behave(Behaviour::Jwks(set.to_string()));
    let upstream = Upstream::start(|_| ok("hello")).await;
    let gateway = Gateway::start(&Policy::default().render(issuer.url(), &upstream.url())).await;
    has_keys(&gateway).await;
    for alg in Alg::ALL {
        let good = issuer.token().alg(alg).header("kid", "same");
        assert_eq!(
            gateway.get("/orders/1").token(&good.mint()).send().await.verdict(),
            "200 -",
            "J08 {alg:?}"
        );
        let unnamed = good.without_header("kid").mint();
        assert_eq!(
            gateway.get("/orders/1").token(&unnamed).send().await.verdict(),
            "200 -",
            "J08 {alg:?}, no kid"
        );
    }
    let late = other.token().claim("iss", issuer.url()).header("kid", "same").mint();
    let verdict = gateway.get("/orders/1").token(&late).send().await.verdict();
    assert_eq!(verdict, "200 -", "J08: the second of its kind and name");
    let stranger = TestIssuer::with_own_keys().await;
    let forged = stranger.token().claim("iss", issuer.url()).header("kid", "same").mint();
    let verdict = gateway.get("/orders/1").token(&forged).send().await.verdict();
    assert_eq!(verdict, "401 signature_invalid", "J08: a key of neither");
}

/// The signature that anybody can make for an RSA key whose exponent is one: the padded digest itself (RFC 8017 §9.2).
fn signature_of_exponent_one(modulus: usize, message: &[u8]) -> Vec<u8> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message);
    let info = [0x30, 0x31, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
    let padding = vec![0xff; modulus - info.len() - digest.as_ref().len() - 3];
    [&[0, 1], padding.as_slice(), &[0], &info, digest.as_ref()].concat()
}

#[tokio::test]
async fn h22_weak_and_unfit_keys_are_not_used_and_the_others_are() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/wycheproof_key_sets.json")).unwrap();
    let issuer = TestIssuer::start().await;
    let mut set: Value = serde_json::from_str(&issuer.jwks()).unwrap();
    let keys = set["keys"].as_array_mut().unwrap();
    let mut rows = Vec::new();
    for case in vectors["keySets"].as_array().unwrap() {
        let kid = format!("wycheproof-{}", case["id"]);
        for key in case["public"]["keys"].as_array().unwrap() {
            let mut key = key.clone();
            key["kid"] = kid.clone().into();
            keys.push(key);
        }
        rows.push((kid, case["result"] == "valid", case["test"].clone()));
    }
    let rsa = keys[0].clone();
    let with = |name: &str, value: Value| {
        let mut key = rsa.clone();
        key[name] = value;
        key
    };
    let modulus = |bytes: usize| json!(b64(&[vec![0xc1; bytes - 1], vec![0xbf]].concat()));
    for (name, key) in [
        ("rsa-1024", with("n", modulus(128))),
        ("rsa-2040", with("n", modulus(255))),
        ("rsa-16384", with("n", modulus(2048))),
        ("rsa-even", with("n", json!(b64(&[0xc2; 256])))),
        ("rsa-e-1", with("e", json!("AQ"))),
        ("rsa-e-2", with("e", json!("Ag"))),
        ("rsa-e-3", with("e", json!("Aw"))),
        ("rsa-private", with("d", json!("AQAB"))),
        ("rsa-encryption", with("use", json!("enc"))),
        ("rsa-wrap", with("key_ops", json!(["wrapKey"]))),
        ("symmetric", json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"})),
        ("symmetric-empty", json!({"kty": "oct", "k": "", "alg": "HS256"})),
    ] {
        let mut key = key;
        key["kid"] = name.into();
        keys.push(key);
        rows.push((name.to_owned(), false, json!(name)));
    }
    issuer.behave(Behaviour::Jwks(set.to_string()));
    let upstream = Upstream::start(|_| ok("hello")).await;
    let gateway = Gateway::start(&Policy::default().render(issuer.url(), &upstream.url())).await;
    has_keys(&gateway).await;
    assert_eq!(gateway.get("/orders/1").token(&issuer.token().mint()).send().await.verdict(), "200 -");
    let status = issuer_status(&gateway, "corp").await;
    for (kid, valid, test) in &rows {
        let used = status["keys"].as_array().unwrap().iter().any(|key| key["kid"] == **kid);
        assert_eq!(used, *valid, "H22 {kid} {test}");
        let named = format!("\"{kid}\"");
        eventually(&format!("H22: the operator is told of {kid}"), || async {
            (*valid || gateway.output().contains(&named)).then_some(())
        })
        .await;
        // Whatever stands in place of a signature, such a key verifies nothing.
        for alg in [Alg::Rs256, Alg::Es256] {
            let token = issuer.token().alg(alg).header("kid", kid.clone());
            let forged = crate::jose::sign_with(&token, |message| signature_of_exponent_one(256, message));
            let verdict = gateway.get("/orders/1").token(&forged).send().await.verdict();
            assert!(
                ["401 key_unknown", "401 signature_invalid"].contains(&verdict.as_str()),
                "H22 {kid}: {verdict}"
            );
        }
    }
    assert_eq!(upstream.requests().len(), 1);
    // Alone they are no key set at all.
    for case in vectors["keySets"].as_array().unwrap().iter().filter(|case| case["result"] != "valid") {
        let issuer = TestIssuer::start().await;
        issuer.behave(Behaviour::Jwks(case["public"].to_string()));
        let gateway = Gateway::start(&Policy::default().render(issuer.url(), &upstream.url())).await;
        let verdict = gateway.get("/orders/1").token(&issuer.token().mint()).send().await.verdict();
        assert_eq!(verdict, "503 keys_unavailable", "H22 {case}");
    }
    let n = rsa["n"].as_str().unwrap();
    assert_eq!(
        URL_SAFE_NO_PAD.decode(n).unwrap().len(),
        256,
        "the forged signatures are as long as a real one"
    );
}
