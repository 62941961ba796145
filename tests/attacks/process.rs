//! Group R: the process as a whole. How it ends, what it holds, what it tells.

use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use scopegate::limits::{Limits, Timeouts};
use scopegate::observe::metrics::{Cause, StreamError};
use scopegate::server::worker::{Crew, Worker};
use scopegate::server::{Abort, ConnectionLimits, Handler, Peer, ProxyHeader, listener, shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::http2;
use crate::support::{
    ADMIN_TOKEN, Behaviour, Client, Gateway, Policy, Reply, Rig, TestIssuer, Upstream, eventually, has_keys,
    ok, soon,
};

async fn not_ready(gateway: &Gateway) {
    eventually("it is not ready", || async {
        (gateway.admin("GET", "/readyz").send().await.status == 503).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r01_readiness_goes_first_and_no_client_sees_an_error() {
    let mut rig = Rig::with(Policy::default().gateway("timeouts: { drain_notice: 1h, drain: 1h }")).await;
    let (address, call) = (rig.gateway.address(), rig.get("/orders/1"));
    let leave = Arc::new(AtomicBool::new(false));
    let running = Arc::new(tokio::sync::Barrier::new(9));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (call, leave, running) = (call.clone(), Arc::clone(&leave), Arc::clone(&running));
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            let (mut answered, mut told) = (0, 0);
            loop {
                let last = leave.load(Ordering::SeqCst);
                // Every connection succeeds and every request is answered: a well-behaved client sees no error at all.
                let response = call.on(&mut client).await.expect("R01: a request without an answer");
                assert_eq!(response.verdict(), "200 -", "R01");
                answered += 1;
                if response.header("connection") == Some("close") {
                    told += 1;
                    client = Client::connect(address).await;
                }
                if answered == 50 {
                    running.wait().await;
                }
                if last && told > 0 {
                    return answered;
                }
            }
        });
    }
    running.wait().await;
    rig.gateway.signal("TERM");
    not_ready(&rig.gateway).await;
    // A load balancer has noticed. Each client makes one more request at least, and is told to go elsewhere.
    leave.store(true, Ordering::SeqCst);
    let answered: usize = clients.join_all().await.into_iter().sum();
    assert_eq!(rig.upstream.requests().len(), answered, "R01: each was forwarded once");
    // However long the clients took, the notice was not over; now it may be.
    rig.gateway.signal("TERM");
    assert_eq!(rig.gateway.wait_exit().await, Some(0), "R01");
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Reads frames until one of this type.
async fn until_frame(stream: &mut TcpStream, wanted: u8) {
    loop {
        let mut head = [0; 9];
        soon("a frame", stream.read_exact(&mut head)).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        soon("its payload", stream.read_exact(&mut payload)).await.unwrap();
        if head[3] == wanted {
            return;
        }
    }
}

#[tokio::test]
async fn r01_http2_hears_goodbye_when_the_notice_begins() {
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    let mut rig = Rig::with(Policy::default().gateway("timeouts: { drain_notice: 1h, drain: 1h }")).await;
    let mut stream = TcpStream::connect(rig.gateway.address()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    until_frame(&mut stream, SETTINGS).await;
    let mut idle = Client::connect(rig.gateway.address()).await;
    assert_eq!(rig.get("/orders/1").on(&mut idle).await.unwrap().status, 200);
    rig.gateway.signal("TERM");
    until_frame(&mut stream, GOAWAY).await;
    not_ready(&rig.gateway).await;
    // The drain itself is an hour away: old connections and new ones are served, with a word about the end.
    let old = rig.get("/orders/2").on(&mut idle).await.unwrap();
    let new = rig.get("/orders/3").send().await;
    for answer in [old, new] {
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "R01");
    }
    let url = format!("http://{}/status", rig.gateway.address());
    let curl =
        crate::support::process::curl(["--http2-prior-knowledge", "-H", "host: api.example.com", &url]).await;
    assert_eq!((curl.code, curl.stdout.as_str()), (Some(0), "hello"), "R01: {curl:?}");
    assert!(rig.gateway.runs());
    rig.gateway.signal("TERM");
    assert_eq!(rig.gateway.wait_exit().await, Some(0), "R01: a second signal waits for nothing");
}

/// A rig that would drain for an hour if it waited for anything that does not end by itself.
async fn patient() -> Rig {
    let timeouts = "timeouts: { header: 1s, upstream_connect: 1s, upstream_response: 1s, drain: 1h }";
    Rig::with(Policy::default().gateway(timeouts)).await
}

/// Told to end, it ends, with nothing but the limits of what is under way.
async fn ends(what: &str, gateway: &mut Gateway) {
    gateway.signal("TERM");
    assert_eq!(gateway.wait_exit().await, Some(0), "R04 {what}");
}

/// An address where connecting takes for ever: its queue is full.
fn black_hole() -> (socket2::Socket, SocketAddr, Vec<StdTcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let waiting: Vec<_> =
        std::iter::from_fn(|| StdTcpStream::connect_timeout(&address, Duration::from_millis(200)).ok())
            .take(64)
            .collect();
    assert!(waiting.len() < 64, "the queue is never full");
    (socket, address, waiting)
}

#[tokio::test]
async fn r04_nothing_under_way_holds_up_the_end() {
    let authority = crate::support::tls::Authority::new("authority");
    let leaf = authority.server(&["api.example.com"]);
    let listen =
        "- { http: 127.0.0.1:0 }\n- { https: 127.0.0.1:0, certificates: [{ cert: c.pem, key: k.pem }] }";
    let (issuer, upstream) = (TestIssuer::start().await, Upstream::start(|_| ok("hello")).await);
    let policy = Policy::default().listen(listen).gateway("timeouts: { header: 1h, drain: 1h }");
    let files = [("c.pem", leaf.cert.as_str()), ("k.pem", leaf.key.as_str())];
    let mut gateway = Gateway::start_with(&policy.render(issuer.url(), &upstream.url()), &files).await;
    let mut half = TcpStream::connect(gateway.https()).await.unwrap();
    half.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
    let silent = TcpStream::connect(gateway.https()).await.unwrap();
    let unspoken = TcpStream::connect(gateway.address()).await.unwrap();
    ends("in a handshake, and before a word", &mut gateway).await;
    drop((half, silent, unspoken));

    let mut rig = patient().await;
    let mut half = Client::connect(rig.gateway.address()).await;
    half.send("GET /orders/1 HTTP/1.1\r\nHost: api.exa").await;
    ends("in a header section", &mut rig.gateway).await;

    let mut rig = patient().await;
    rig.issuer.behave(Behaviour::Slow(Arc::default()));
    rig.issuer.add_keys();
    let mut waiting = Client::connect(rig.gateway.address()).await;
    let asked = rig.issuer.metadata_requests();
    waiting.send(rig.get("/orders/1").bytes()).await;
    eventually("the issuer is asked", || async { (rig.issuer.metadata_requests() > asked).then_some(()) })
        .await;
    ends("in a fetch of keys", &mut rig.gateway).await;
    let verdict = waiting.response().await.verdict();
    assert!(["401 key_unknown", "503 keys_unavailable"].contains(&verdict.as_str()), "R04: {verdict}");

    let (_full, address, _queue) = black_hole();
    let issuer = TestIssuer::start().await;
    let policy = Policy::default().gateway("timeouts: { upstream_connect: 1s, drain: 1h }");
    let mut gateway = Gateway::start(&policy.render(issuer.url(), &format!("http://{address}"))).await;
    has_keys(&gateway).await;
    let mut waiting = Client::connect(gateway.address()).await;
    waiting.send(gateway.get("/orders/1").token(&issuer.token().mint()).bytes()).await;
    gateway.signal("TERM");
    let verdict = waiting.response().await.verdict();
    assert!(
        ["504 upstream_timeout", "502 upstream_unreachable"].contains(&verdict.as_str()),
        "R04: {verdict}"
    );
    assert_eq!(gateway.wait_exit().await, Some(0), "R04 while connecting to an upstream");

    let mut rig = patient().await;
    rig.upstream.answers(|_| Reply::Never);
    let mut waiting = Client::connect(rig.gateway.address()).await;
    waiting.send(rig.get("/orders/1").bytes()).await;
    rig.upstream.wait("the request arrives", |upstream| upstream.requests().len() == 1).await;
    ends("while an upstream is silent", &mut rig.gateway).await;
    assert_eq!(waiting.response().await.verdict(), "504 upstream_timeout", "R04");
}

/// How many bytes the process has read so far, of files and of all else.
fn bytes_read(gateway: &Gateway) -> u64 {
    let counts = std::fs::read_to_string(format!("/proc/{}/io", gateway.pid())).unwrap();
    counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[tokio::test]
async fn r04_a_reload_holds_up_no_end_and_a_crash_leaves_nothing_behind() {
    let routes: String = (0..20_000)
        .map(|n| format!("- {{ id: r{n}, match: {{ path: /r{n} }}, public: true, upstream: orders }}\n"))
        .collect();
    let mut attempts = 0;
    let rig = loop {
        let mut rig = patient().await;
        let large = Policy::default().routes(&routes).render(rig.issuer.url(), &rig.upstream.url());
        let before = bytes_read(&rig.gateway);
        rig.gateway.replace_config(&large);
        rig.gateway.signal("HUP");
        eventually("R04: the file is read", || async {
            (bytes_read(&rig.gateway) - before >= large.len() as u64).then_some(())
        })
        .await;
        ends("in a reload", &mut rig.gateway).await;
        eventually("R04: the last line", || async { rig.gateway.output().contains("drained").then_some(()) })
            .await;
        if !rig.gateway.output().contains("policy applied") {
            break rig;
        }
        // A test that was held up itself may come too late to end the reload.
        attempts += 1;
        assert!(attempts < 5, "R04: the end waits for the reload");
    };
    let good = Policy::default().render(rig.issuer.url(), &rig.upstream.url());

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("routes.yaml"), &good).unwrap();
    let mut first = Gateway::start_in(dir).await;
    has_keys(&first).await;
    assert_eq!(first.get("/orders/1").token(&rig.token()).send().await.status, 200);
    first.signal("KILL");
    assert_eq!(first.wait_exit().await, None);
    let again = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(first.dir())
        .unwrap()
        .map(Result::unwrap)
        .filter(|file| file.file_name() != "ready.json")
    {
        std::fs::copy(file.path(), again.path().join(file.file_name())).unwrap();
    }
    let second = Gateway::start_in(again).await;
    has_keys(&second).await;
    assert_eq!(second.get("/orders/1").token(&rig.token()).send().await.status, 200, "R04: after a crash");
}

/// HTTP/2 connections whose windows are a byte and never grow: large answers that nobody lets in, and requests of fields that
/// take a byte each, whose refusals cannot leave either.
async fn shut_windows(address: SocketAddr, token: &str) -> Vec<http2::Http2> {
    let large = http2::Block::default().set(":path", "/orders/large").token(token).bytes();
    let bomb = [http2::Block::default().bytes(), http2::indexed(62).repeat(190)].concat();
    let mut clients = Vec::new();
    for n in 0..20 {
        let mut client = http2::Http2::with_settings(address, &[(4, 1)]).await;
        let first = [http2::Block::default().bytes(), http2::kept_field("a", "")].concat();
        let mut bytes = http2::headers(1, http2::END_STREAM, &first);
        for stream in (3..200).step_by(2) {
            bytes.extend(http2::headers(stream, http2::END_STREAM, if n % 2 == 0 { &large } else { &bomb }));
        }
        client.send(bytes).await;
        assert!(client.settled().await, "R06: within the limits of HTTP/2");
        clients.push(client);
    }
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r06_a_mix_of_attacks_stays_within_256_mib() {
    let issuer = TestIssuer::start().await;
    let large = "x".repeat(512 << 10);
    let upstream = Upstream::start(move |request| match request.target.as_str() {
        "/orders/large" => ok(&large),
        _ => ok("hello"),
    })
    .await;
    let policy = Policy::default()
        .gateway("token_cache: { bytes: 4MiB }")
        // What is held stays held however long the test takes.
        .gateway("timeouts: { header: 10m, body_idle: 10m, body_total: 10m, response_stall: 10m, upstream_idle: 10m }")
        .gateway("limits: { body_rate: 0B, response_rate: 0B }")
        .issuer("key_refresh: { interval: 1s, unknown_kid_cooldown: 1s }");
    let good = policy.render(issuer.url(), &upstream.url());
    let gateway = Gateway::start(&good).await;
    has_keys(&gateway).await;
    let rig = Rig { issuer, upstream, gateway };
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    let (address, token) = (rig.gateway.address(), rig.token());
    // Bodies that are announced and never come, and heads that never end.
    let mut held = Vec::new();
    for n in 0..400 {
        let mut client = Client::connect(address).await;
        let head = match n % 2 {
            0 => format!(
                "POST /orders/1 HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {token}\r\nContent-Length: 9999999\r\n\r\n"
            ),
            _ => format!("GET /orders/1 HTTP/1.1\r\nX: {}", "x".repeat(30_000)),
        };
        client.send(head).await;
        held.push(client);
    }
    let shut = shut_windows(address, &token).await;
    // The bodies that never come, and the answers that are not let in: 200 and 990.
    eventually("R06: all of it is held", || async {
        (rig.gateway.metric("scopegate_in_flight_requests", &[]).await >= 1_190.0).then_some(())
    })
    .await;
    // Good tokens as large as they may be, all different; and an issuer and a policy that are bombs.
    let keys = format!("{{\"keys\":[{}{{}}]}}", "{},".repeat(345_000));
    assert!(keys.len() < scopegate::reload::fetch::MAX_BODY, "R06: it is read to its end");
    rig.issuer.behave(Behaviour::Jwks(keys));
    let mut laughs = String::from("a0: &a0 [lol, lol]\n");
    for level in 1..10 {
        laughs += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(", "));
    }
    let mut client = Client::connect(address).await;
    for n in 0..1_500 {
        let large = rig.issuer.token().claim("pad", format!("{n:011000}")).mint();
        assert_eq!(
            rig.gateway.get("/orders/1").token(&large).on(&mut client).await.unwrap().status,
            200,
            "R06"
        );
        if n % 100 == 0 {
            rig.gateway.replace_config(&laughs);
            assert_eq!(rig.gateway.reload().await.status, 422, "R06");
        }
    }
    let deep = "[".repeat(11_000);
    for _ in 0..500 {
        let bomb = rig.issuer.token().mint_bytes(format!("{{\"x\":{deep}"), format!("{{\"x\":{deep}"));
        assert_eq!(
            rig.gateway.get("/orders/1").token(&bomb).on(&mut client).await.unwrap().status,
            401,
            "R06"
        );
    }
    let cache = rig.gateway.metric("scopegate_token_cache_bytes", &[]).await;
    assert!(cache <= f64::from(4 << 20), "R06: {cache} bytes in the token cache");
    let peak = rig.gateway.peak_memory();
    println!("{peak} bytes at the most");
    assert!(peak < 256 << 20, "R06: {peak} bytes at the most");
    assert_eq!(rig.get("/orders/1").send().await.status, 200, "R06");
    drop((held, shut));
}

/// Panics on `/panic`, else says the path.
struct Faulty {
    panics: Arc<AtomicUsize>,
}

impl Handler for Faulty {
    type Body = Full<Bytes>;
    type Open = ();

    async fn handle(
        self: Rc<Self>,
        _: Rc<Peer>,
        request: http::Request<hyper::body::Incoming>,
    ) -> http::Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        if path == "/panic" {
            self.panics.fetch_add(1, Ordering::SeqCst);
            panic!("as asked");
        }
        http::Response::new(Full::new(Bytes::from(path)))
    }

    fn limits(&self) -> ConnectionLimits {
        ConnectionLimits::of(&Limits::DEFAULT, &Timeouts::DEFAULT)
    }

    fn tls(&self, _: usize) -> Option<Arc<rustls::ServerConfig>> {
        None
    }

    fn proxy_header(&self, _: usize, _: std::net::IpAddr) -> ProxyHeader {
        ProxyHeader::Absent
    }

    fn opened(&self, _: usize) -> Option<()> {
        None
    }

    fn share(&self, _: std::net::IpAddr) -> Option<usize> {
        None
    }

    fn aborted(&self, _: &Peer, _: Abort) {}

    fn closed(&self, _: Cause) {}

    fn reset(&self, _: StreamError) {}

    fn stalled(&self) {}

    fn not_accepted(&self) {}

    fn tick(&self) {}
}

/// What the net around a request does not catch, such as a fault while an answer is sent, costs one connection and no more.
/// The net itself is tested where it is: `pipeline::tests::a_panic_becomes_an_answer_wherever_it_happens`.
#[tokio::test]
async fn r08_a_panic_costs_one_connection_and_no_worker() {
    let (announcer, listening) = shutdown::channel();
    let bound = listener::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let (crew, mut inboxes) = Crew::new(1);
    let worker = Worker {
        number: 0,
        crew,
        inbox: inboxes.remove(0),
        listeners: bound.sockets,
        max_connections: 100,
        shutdown: listening,
    };
    let panics = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&panics);
    let thread = std::thread::spawn(move || {
        let options = tokio::runtime::LocalOptions::default();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(options).unwrap();
        runtime.block_on(worker.run(Rc::new(Faulty { panics: seen })))
    });
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut other = Client::connect(bound.address).await;
    for n in 1..=20 {
        let mut victim = Client::connect(bound.address).await;
        victim.send(get("/panic")).await;
        assert!(victim.response_to("GET").await.is_none(), "R08: the connection ends");
        assert_eq!(panics.load(Ordering::SeqCst), n);
        other.send(get("/well")).await;
        assert_eq!(other.response().await.text(), "/well", "R08: another connection goes on");
    }
    drop(other);
    announcer.announce(shutdown::Phase::Drain);
    tokio::task::spawn_blocking(move || thread.join().unwrap().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r10_a_hundred_thousand_names_are_no_series() {
    const NAMES: usize = 100_000;
    let routes = "
- id: orders
  match: { path: '/orders/{*rest}' }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
";
    let policy = Policy::default()
        .gateway("access_log: 'off'\nlimits: { connection_requests: 1000000 }")
        .issuer("key_refresh: { interval: 1h, unknown_kid_cooldown: 1h }")
        .routes(routes);
    let rig = Rig::with(policy).await;
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    let claims = crate::support::b64(rig.issuer.token().claims().to_string().as_bytes());
    let address = rig.gateway.address();
    let attack = |from: usize, to: usize| {
        let claims = claims.clone();
        async move {
            let mut client = Client::connect(address).await;
            for batch in (from..to).collect::<Vec<_>>().chunks(50) {
                let requests: String = batch
                    .iter()
                    .map(|n| {
                        let header = format!("{{\"alg\":\"ES256\",\"typ\":\"at+jwt\",\"kid\":\"kid-{n}\"}}");
                        let token =
                            format!("{}.{claims}.{}", crate::support::b64(header.as_bytes()), "A".repeat(86));
                        format!(
                            "GET /orders/{n} HTTP/1.1\r\nHost: h{n}.example.com\r\nUser-Agent: agent-{n}\r\n\
                            X-Forwarded-For: 10.{}.{}.{}\r\nAuthorization: Bearer {token}\r\n\r\n",
                            n >> 16,
                            n >> 8 & 0xff,
                            n & 0xff
                        )
                    })
                    .collect();
                client.send(requests).await;
                for _ in batch {
                    assert_eq!(client.response().await.status, 401, "R10");
                }
            }
        }
    };
    let series = || async {
        let metrics = rig.gateway.metrics().await;
        let lines = metrics.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .collect::<std::collections::BTreeSet<_>>()
    };
    attack(0, 1_000).await;
    let (before, memory) = (series().await, rig.gateway.peak_memory());
    let share = NAMES / 8;
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..8 {
        lanes.spawn(attack(1_000 + lane * share, 1_000 + (lane + 1) * share));
    }
    lanes.join_all().await;
    assert_eq!(series().await, before, "R10: new series");
    let counted = rig.gateway.metric("scopegate_decisions_total", &[r#"reason="key_unknown""#]).await;
    assert!(counted >= NAMES as f64, "R13: {counted} counted");
    let grown = rig.gateway.peak_memory().saturating_sub(memory);
    assert!(grown < 32 << 20, "R10: {grown} bytes more");
    assert_eq!(rig.issuer.jwks_requests(), 2, "R10: one fetch for {NAMES} key ids");
}

#[tokio::test]
async fn r12_no_log_holds_a_secret_at_any_level() {
    let issuer = TestIssuer::start().await;
    let upstream = Upstream::start(|_| ok("hello")).await;
    // One worker: the line of a request comes behind those of all before it.
    let policy = Policy::default()
        .gateway("workers: 1")
        .issuer("key_refresh: { interval: 1s, unknown_kid_cooldown: 1s }");
    let good = policy.render(issuer.url(), &upstream.url());
    let gateway = Gateway::start_in_environment(&good, &[("SCOPEGATE_LOG", "trace")]).await;
    let token = || issuer.token();
    let tokens = [
        token().mint(),
        token().header("kid", "nobody").mint(),
        token().mint_with_signature(&[7; 64]),
        token().times(-700, -100).mint(),
        token().claim("iss", "https://evil.example.com").mint(),
        token().header("alg", "HS256").mint(),
        token().header("typ", "JWT").mint(),
        token().claim("aud", "x").mint(),
        token().scope("x").mint(),
        token().claim("exp", "soon").mint(),
        token().claim("pad", "x".repeat(20_000)).mint(),
        format!("{}.four", token().mint()),
        "opaque-secret-0123456789abcdef".to_owned(),
    ];
    for token in &tokens {
        let get = |target: &str| gateway.get(target);
        let calls = [
            get("/orders/1").token(token),
            get("/orders/1").header("Authorization", &format!("Basic {token}")),
            get("/orders/1").token(token).token(token),
            get("/orders/1").header("Cookie", &format!("session={token}")).token(token),
            get("/orders/1").header("Proxy-Authorization", &format!("Bearer {token}")),
            get(&format!("/orders/1?access_token={token}")).token(token),
            get(&format!("/status?code={token}")),
            get(&format!("/nowhere?x={token}")),
            gateway.call("POST", "/orders/1").token(token).body(format!("access_token={token}")),
            gateway.admin("POST", "/api/v1/reload").token(token).body(""),
        ];
        for call in calls {
            call.try_send().await;
        }
        // What is no HTTP at all, and what breaks off.
        let mut client = Client::connect(gateway.address()).await;
        client
            .send(format!("GET /orders/1 HTTP/1.1\r\nAuthorization: Bearer {token}\r\nbad line\r\n\r\n"))
            .await;
        client.response_to("GET").await;
    }
    assert_eq!(gateway.reload().await.status, 200);
    issuer.behave(Behaviour::Failing);
    gateway.get("/orders/1").token(&token().header("kid", "other").mint()).send().await;
    gateway.replace_config(&good.replace("upstream: orders", "upstream: nobody"));
    gateway.reload().await;
    // The last that is told on either output.
    gateway.get("/last").send().await;
    gateway.wait_for_log(|entry| entry["path"] == "/last").await;
    eventually("the last reload is told", || async {
        gateway.output().contains("policy refused").then_some(())
    })
    .await;
    let told = [gateway.output(), gateway.metrics().await, gateway.status().await.to_string()].join("\n");
    assert!(told.contains("DEBUG") || told.contains("TRACE"), "R12: the level is what it should be");
    for token in &tokens {
        for part in token.split('.').filter(|part| part.len() > 12) {
            // The header of a token is no secret, and many share it.
            let shared = token.starts_with(part) && token.contains('.');
            assert!(shared || !told.contains(part), "R12: a part of {token:.80} was told");
        }
    }
    assert!(!told.contains(ADMIN_TOKEN), "R12: the admin token was told");
}

#[tokio::test]
async fn r04_who_waits_for_a_start_never_finds_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let (ready, policy) = (dir.path().join("ready.json"), dir.path().join("routes.yaml"));
    std::fs::write(&ready, r#"{"listeners":[{"http":"127.0.0.1:1"}],"admin":null}"#).unwrap();
    std::fs::write(&policy, "routes: [").unwrap();
    let args = ["run", "--config", policy.to_str().unwrap(), "--ready-file", ready.to_str().unwrap()];
    assert_eq!(crate::support::process::scopegate(args).await.code, Some(1));
    assert!(!ready.exists(), "R04: the addresses of a process that crashed");
}

#[tokio::test]
async fn r04_a_signal_before_it_is_ready_ends_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = "http://does-not-exist.invalid:80";
    let text = Policy::default().render("https://idp.invalid", upstream);
    std::fs::write(dir.path().join("routes.yaml"), text).unwrap();
    std::fs::write(dir.path().join("admin.token"), ADMIN_TOKEN).unwrap();
    for signal in ["TERM", "INT"] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(["run", "--config"])
            .arg(dir.path().join("routes.yaml"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        crate::support::process::kill(child.id(), signal);
        let status = eventually("R04 it ends", || {
            let status = child.try_wait().unwrap();
            async move { status }
        })
        .await;
        // By its own will, or by the signal if it came before anybody listened.
        assert!(matches!(status.code(), Some(0) | None), "R04 {signal}: {status}");
    }
}
