//! What an edge owes to load balancers and browsers: PROXY protocol, redirects to https, Strict-Transport-Security.
#![cfg(test)]

mod support;

use serde_json::Value;
use support::tls::{Authority, Connect, Leaf};
use support::{Client, Gateway, Policy, Reply, Rig, TestIssuer, Upstream, process};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A listener that wants PROXY headers, and believes this machine.
const PROXIED: &str = "- { http: 127.0.0.1:0, proxy_protocol: true }";
const TRUSTED: &str = "trusted_proxies: [127.0.0.0/8, 198.51.100.0/24]";

/// The first twelve bytes of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// From 192.0.2.7:4711 to 10.0.0.1:443 over IPv4.
const FOUR: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 0xbb];

const GET: &[u8] = b"GET /status HTTP/1.1\r\nHost: api.example.com\r\n\r\n";

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &u16::try_from(rest.len()).unwrap().to_be_bytes(), rest].concat()
}

async fn proxied() -> Rig {
    Rig::with(Policy::default().listen(PROXIED).gateway(TRUSTED)).await
}

/// Sends this in front of a request for `/status`, all in one write.
async fn introduced(rig: &Rig, header: &[u8], fields: &str) -> Option<u16> {
    let mut client = Client::connect(rig.gateway.address()).await;
    let request = String::from_utf8(GET.to_vec()).unwrap().replace("\r\n\r\n", &format!("\r\n{fields}\r\n"));
    client.send([header, request.as_bytes()].concat()).await;
    client.response_to("GET").await.map(|response| response.status)
}

#[tokio::test]
async fn the_address_of_a_proxy_header_is_the_clients() {
    let rig = proxied().await;
    let mut six = [0; 36];
    six[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    six[15] = 7;
    let long = [&FOUR[..], &[4, 0x0f, 0x00], &vec![0xAA; 0x0f00]].concat();
    let forwarded = "X-Forwarded-For: 203.0.113.9\r\n";
    for (what, header, fields, address, chain) in [
        ("v1", b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec(), "", "192.0.2.7", "192.0.2.7"),
        ("v1, IPv6", b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n".to_vec(), "", "2001:db8::7", "2001:db8::7"),
        ("v2", v2(0x21, 0x11, &FOUR), "", "192.0.2.7", "192.0.2.7"),
        ("v2, IPv6", v2(0x21, 0x21, &six), "", "2001:db8::7", "2001:db8::7"),
        ("v2 with a long extension", v2(0x21, 0x11, &long), "", "192.0.2.7", "192.0.2.7"),
        ("X-Forwarded-For of that client", v2(0x21, 0x11, &FOUR), forwarded, "192.0.2.7", "192.0.2.7"),
        (
            "X-Forwarded-For of a trusted network",
            b"PROXY TCP4 198.51.100.4 10.0.0.1 4711 443\r\n".to_vec(),
            forwarded,
            "203.0.113.9",
            "203.0.113.9, 198.51.100.4",
        ),
        ("LOCAL", v2(0x20, 0x00, &[]), "", "127.0.0.1", "127.0.0.1"),
        ("UNKNOWN", b"PROXY UNKNOWN\r\n".to_vec(), "", "127.0.0.1", "127.0.0.1"),
        (
            "X-Forwarded-For of an unknown client",
            b"PROXY UNKNOWN\r\n".to_vec(),
            forwarded,
            "127.0.0.1",
            "127.0.0.1",
        ),
        ("X-Forwarded-For of LOCAL", v2(0x20, 0x11, &FOUR), forwarded, "127.0.0.1", "127.0.0.1"),
    ] {
        let seen = rig.gateway.log().len();
        assert_eq!(introduced(&rig, &header, fields).await, Some(200), "{what}");
        let forwarded = rig.upstream.last().header("x-forwarded-for").map(str::to_owned);
        assert_eq!(forwarded.as_deref(), Some(chain), "{what}");
        let line =
            support::eventually("a line of the log", || async { rig.gateway.log().get(seen).cloned() }).await;
        assert_eq!(line["address"], address, "{what}");
    }
}

#[tokio::test]
async fn a_proxy_header_may_come_in_any_pieces() {
    let rig = proxied().await;
    for header in [b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec(), v2(0x21, 0x11, &FOUR)] {
        let whole = [&header[..], GET].concat();
        for at in 1..whole.len() {
            let mut socket = TcpStream::connect(rig.gateway.address()).await.unwrap();
            socket.set_nodelay(true).unwrap();
            let (first, rest) = whole.split_at(at);
            socket.write_all(first).await.unwrap();
            tokio::task::yield_now().await;
            socket.write_all(rest).await.unwrap();
            assert_eq!(Client::over(socket).response().await.status, 200, "split at {at}");
        }
        let mut socket = TcpStream::connect(rig.gateway.address()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        for byte in &whole {
            socket.write_all(std::slice::from_ref(byte)).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(Client::over(socket).response().await.status, 200, "byte by byte");
        assert_eq!(rig.upstream.last().header("x-forwarded-for"), Some("192.0.2.7"));
    }
}

#[tokio::test]
async fn a_real_client_with_a_proxy_header_speaks_both_versions_of_http() {
    let rig = proxied().await;
    let url = format!("http://{}/status", rig.gateway.address());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let args =
            ["--haproxy-protocol", version, "-H", "Host: api.example.com", "-w", " %{http_code}", &url];
        let output = process::curl(args).await;
        assert_eq!(output.stdout, "hello 200", "{version}: {output:?}");
        assert_eq!(rig.upstream.last().header("x-forwarded-for"), Some("127.0.0.1"));
    }
}

#[tokio::test]
async fn a_proxy_header_stands_before_tls() {
    let tls = Tls::start("proxy_protocol: true", TRUSTED, "").await;
    let mut socket = TcpStream::connect(tls.gateway.https()).await.unwrap();
    socket.write_all(&v2(0x21, 0x11, &FOUR)).await.unwrap();
    let mut client = Client::over(tls.connect().over(socket).await.unwrap());
    client.send(GET).await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(tls.upstream.last().header("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(tls.upstream.last().header("x-forwarded-proto"), Some("https"));
    assert!(tls.connect().to(tls.gateway.https()).await.is_err(), "TLS without the header");
}

#[tokio::test]
async fn what_is_no_proxy_header_ends_the_connection() {
    let rig = proxied().await;
    let filled = |length: usize| v2(0x21, 0x11, &[&FOUR[..], &vec![0; length - FOUR.len()]].concat());
    let two = b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\nPROXY TCP4 192.0.2.8 10.0.0.1 1 2\r\n";
    for (what, header) in [
        ("none", Vec::new()),
        ("version 1 without end", [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat()),
        ("a bare line feed", b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\n".to_vec()),
        ("lower case", b"proxy TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec()),
        ("a name", b"PROXY TCP4 localhost 10.0.0.1 4711 443\r\n".to_vec()),
        ("UDP", v2(0x21, 0x12, &FOUR)),
        ("a unix socket", v2(0x21, 0x31, &[0; 216])),
        ("an unknown command", v2(0x22, 0x11, &FOUR)),
        ("version 3", v2(0x31, 0x11, &FOUR)),
        ("too short for its addresses", v2(0x21, 0x11, &FOUR[..11])),
        ("64 KiB of extensions", filled(0xffff)),
        ("one byte more than 4 KiB", filled(4081)),
    ] {
        assert_eq!(introduced(&rig, &header, "").await, None, "{what}");
    }
    // What follows a header is the request, so a second header is a malformed one.
    assert_eq!(introduced(&rig, two, "").await, Some(400));
    assert_eq!(rig.upstream.requests().len(), 0);
    assert_eq!(introduced(&rig, &filled(4080), "").await, Some(200), "4 KiB, and the next one is served");
    support::eventually("each is counted", || async {
        let refused = rig.gateway.metric("scopegate_decisions_total", &[r#"reason="request_invalid""#]).await;
        (refused == 13.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn only_a_trusted_peer_may_introduce_a_client() {
    let policy = Policy::default().listen(PROXIED).gateway("trusted_proxies: [10.0.0.0/8]");
    let rig = Rig::with(policy).await;
    assert_eq!(introduced(&rig, b"PROXY TCP4 10.0.0.7 10.0.0.1 4711 443\r\n", "").await, None);
    assert_eq!(introduced(&rig, b"", "").await, None);
    let mut silent = Client::connect(rig.gateway.address()).await;
    assert!(silent.closes().await, "nothing is waited for");
    assert_eq!(rig.upstream.connections(), 0);
    rig.gateway
        .wait_for_log(|line| line["address"] == "127.0.0.1" && line["reason"] == "request_invalid")
        .await;
}

#[tokio::test]
async fn a_proxy_header_must_arrive_in_time() {
    let policy = Policy::default().listen(PROXIED).gateway(TRUSTED).gateway("timeouts: { header: 1s }");
    let rig = Rig::with(policy).await;
    let mut clients = Vec::new();
    for part in
        [&b""[..], b"PROXY", b"PROXY TCP4 192.0.2.7 10.0.0.1", &SIGNATURE[..11], &v2(0x21, 0x11, &FOUR)[..20]]
    {
        let mut client = Client::connect(rig.gateway.address()).await;
        client.send(part).await;
        clients.push((format!("{part:?}"), client));
    }
    for (part, mut client) in clients {
        assert!(client.closes().await, "{part}");
    }
    assert_eq!(introduced(&rig, &v2(0x21, 0x11, &FOUR), "").await, Some(200));
}

#[tokio::test]
async fn a_client_behind_a_load_balancer_has_no_more_than_its_share_of_the_connections() {
    let policy = Policy::default().listen(PROXIED).gateway(TRUSTED);
    let rig = Rig::with(policy.gateway("limits: { connections_per_client: 2 }")).await;
    let connect = async |header: &str| {
        let mut client = Client::connect(rig.gateway.address()).await;
        client.send([header.as_bytes(), GET].concat()).await;
        client.response_to("GET").await.map(|response| (client, response.status))
    };
    let one = "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n";
    let mut held = Vec::new();
    for (what, header, times) in [
        ("its share", one, 2),
        ("another client", "PROXY TCP4 192.0.2.8 10.0.0.1 4711 443\r\n", 2),
        ("a trusted proxy, which speaks for many", "PROXY TCP4 198.51.100.4 10.0.0.1 4711 443\r\n", 3),
        ("the load balancer itself", "PROXY UNKNOWN\r\n", 3),
    ] {
        for _ in 0..times {
            let (client, status) = connect(header).await.unwrap_or_else(|| panic!("{what}"));
            assert_eq!(status, 200, "{what}");
            held.push(client);
        }
    }
    assert!(connect(one).await.is_none(), "one more than its share");
    let labels = [r#"cause="client_limit""#];
    support::eventually("it is counted", || async {
        (rig.gateway.metric("scopegate_connections_closed_total", &labels).await == 1.0).then_some(())
    })
    .await;
    rig.gateway.wait_for_log(|line| line["address"] == "192.0.2.7" && line["reason"] == "overloaded").await;
    drop(held.swap_remove(0));
    support::eventually("its place is free", || connect(one)).await;
}

#[tokio::test]
async fn a_proxy_header_where_none_belongs_is_a_malformed_request() {
    let rig = Rig::with(Policy::default().gateway(TRUSTED)).await;
    assert_eq!(introduced(&rig, b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n", "").await, Some(400));
    assert!(matches!(introduced(&rig, &v2(0x21, 0x11, &FOUR), "").await, Some(400) | None));
    assert_eq!(rig.upstream.requests().len(), 0);
}

// Redirects.

/// A redirecting listener, routes of named and of any hosts.
const ROUTES: &str = "
- id: named
  match: { host: [api.example.com, shop.example.com, '*.wild.example.com'], path: '/{*rest}' }
  public: true
  upstream: orders
- id: any
  match: { path: '/{*rest}' }
  public: true
  upstream: orders
";

async fn redirecting() -> Rig {
    let policy = Policy::default().listen("- { http: 127.0.0.1:0, redirect: https }").routes(ROUTES);
    Rig::with(policy).await
}

#[tokio::test]
async fn a_redirecting_listener_sends_known_hosts_to_https_and_nobody_elsewhere() {
    let rig = redirecting().await;
    let known = |method, host, target, status, location| (method, host, target, status, Some(location));
    let unknown = |method, host, target, status| (method, host, target, status, None);
    for (method, host, target, status, location) in [
        known("GET", "api.example.com", "/", 301, "https://api.example.com/"),
        known("HEAD", "api.example.com", "/a?b=c&d=%20", 301, "https://api.example.com/a?b=c&d=%20"),
        known("POST", "api.example.com", "/a", 308, "https://api.example.com/a"),
        known("OPTIONS", "api.example.com", "/a", 308, "https://api.example.com/a"),
        known("GET", "API.Example.Com.:80", "/a", 301, "https://api.example.com/a"),
        known("GET", "shop.example.com", "/a", 301, "https://shop.example.com/a"),
        known("GET", "a.wild.example.com", "/a", 301, "https://a.wild.example.com/a"),
        known("GET", "api.example.com", "//evil.example/a", 301, "https://api.example.com//evil.example/a"),
        known("GET", "api.example.com", "/.evil.example", 301, "https://api.example.com/.evil.example"),
        known("GET", "api.example.com", "http://api.example.com/a?b", 301, "https://api.example.com/a?b"),
        unknown("GET", "evil.example", "/a", 404),
        unknown("GET", "wild.example.com", "/a", 404),
        unknown("GET", "api.example.com.evil.example", "/a", 404),
        unknown("GET", "127.0.0.1", "/a", 404),
        unknown("GET", "api.example.com", "http://evil.example/a", 400),
        unknown("GET", "api.example.com@evil.example", "/a", 400),
        unknown("GET", "api.example.com", "/a/../b", 400),
        unknown("GET", "api.example.com", "/a%0d%0aSet-Cookie:x", 400),
        unknown("TRACE", "api.example.com", "/a", 405),
        unknown("GET", "", "/a", 400),
    ] {
        let response = rig.gateway.call(method, target).host(host).token("t").send().await;
        let found = (response.status, response.header("location"));
        assert_eq!(found, (status, location), "{method} {target} at {host}");
        if location.is_some() {
            assert!(response.body.is_empty() && response.header("strict-transport-security").is_none());
        }
    }
    assert_eq!(rig.upstream.connections(), 0, "nothing is forwarded");
    support::eventually("both redirects of POST and OPTIONS are counted", || async {
        let labels = [r#"route="none""#, r#"status="308""#];
        (rig.gateway.metric("scopegate_requests_total", &labels).await == 2.0).then_some(())
    })
    .await;
    rig.gateway.wait_for_log(|line| line["decision"] == "redirect" && line["status"] == 308).await;
    // Another row asks for the same host in its target; which line comes first depends on the workers.
    let unknown = |line: &Value| line["host"] == "evil.example" && line["reason"] == "route_unknown";
    assert_eq!(rig.gateway.wait_for_log(unknown).await["decision"], "deny");
}

#[tokio::test]
async fn a_redirect_goes_where_the_host_says_and_over_http2_too() {
    let issuer = TestIssuer::start().await;
    let policy = Policy::default().listen("- { http: 127.0.0.1:0, redirect: https }").routes(ROUTES);
    let config = policy.render(issuer.url(), "http://127.0.0.1:9").replace(
        "external_url: https://api.example.com }",
        "external_url: 'https://api.example.com:8443' }\n  localhost: { external_url: 'http://localhost:8080' }",
    );
    let gateway = Gateway::start(&config).await;
    let response = gateway.get("/a").send().await;
    assert_eq!(response.header("location"), Some("https://api.example.com:8443/a"));
    assert_eq!(gateway.get("/a").host("localhost").send().await.verdict(), "404 route_unknown");
    let url = format!("http://{}/b?c", gateway.address());
    let args = [
        "--http2-prior-knowledge",
        "-H",
        "Host: api.example.com",
        "-w",
        "%{http_code} %{redirect_url}",
        &url,
    ];
    let output = process::curl(args).await;
    assert_eq!(output.stdout, "301 https://api.example.com:8443/b?c", "{output:?}");
}

#[tokio::test]
async fn the_body_of_a_redirected_request_goes_nowhere() {
    let rig = redirecting().await;
    let mut client = Client::connect(rig.gateway.address()).await;
    let call = rig.gateway.call("POST", "/a").body(vec![b'x'; 100_000]);
    assert_eq!(call.on(&mut client).await.unwrap().status, 308);
    assert_eq!(rig.gateway.get("/a").send().await.status, 301);
    assert_eq!(rig.upstream.connections(), 0);
}

// Strict-Transport-Security.

const STS: &str = "strict-transport-security";

struct Tls {
    authority: Authority,
    issuer: TestIssuer,
    upstream: Upstream,
    gateway: Gateway,
}

impl Tls {
    /// A TLS and a plain listener with these members; `api.example.com` has this said in `hosts`.
    async fn start(listener: &str, gateway: &str, host: &str) -> Self {
        let authority = Authority::new("servers");
        let issuer = TestIssuer::start().await;
        let upstream =
            Upstream::start(|_| Reply::with(200, "Strict-Transport-Security: max-age=5\r\n", "hello")).await;
        let listen = format!(
            "- https: 127.0.0.1:0\n  certificates: [{{ cert: a.crt, key: a.key }}]\n  {listener}\n- http: 127.0.0.1:0"
        );
        let policy = Policy::default().listen(&listen).gateway(gateway);
        let config = policy.render(issuer.url(), &upstream.url()).replace(
            "external_url: https://api.example.com }",
            &format!("external_url: https://api.example.com, {host} }}\n  other.example.com: {{ external_url: https://other.example.com }}"),
        );
        let Leaf { cert, key } = authority.server(&["api.example.com", "other.example.com"]);
        let gateway = Gateway::start_with(&config, &[("a.crt", &cert), ("a.key", &key)]).await;
        Self { authority, issuer, upstream, gateway }
    }

    fn connect(&self) -> Connect<'_> {
        Connect { authority: &self.authority, name: "api.example.com", alpn: &["http/1.1"], client: None }
    }

    async fn client(&self) -> Client {
        Client::over(self.connect().to(self.gateway.https()).await.unwrap())
    }
}

#[tokio::test]
async fn every_answer_over_tls_says_that_the_host_is_for_tls_only() {
    let hsts = "hsts: { max_age: 365d, include_subdomains: true }";
    let tls = Tls::start("", "trusted_proxies: [127.0.0.2/32]", hsts).await;
    let wanted = Some("max-age=31536000; includeSubDomains");
    let good = tls.gateway.get("/orders/1").token(&tls.issuer.token().mint());
    for (what, call, status) in [
        ("permitted, in place of the upstream's own", good.clone(), 200),
        ("without token", tls.gateway.get("/orders/1"), 401),
        ("without route", tls.gateway.get("/nothing"), 404),
        ("another method", tls.gateway.call("TRACE", "/orders/1"), 405),
        ("a doubtful path", tls.gateway.get("/orders/../status"), 400),
        ("metadata", tls.gateway.get("/.well-known/oauth-protected-resource"), 200),
        ("another spelling of the host", good.clone().host("API.example.com.:443"), 200),
    ] {
        let response = call.on(&mut tls.client().await).await.unwrap();
        assert_eq!((response.status, response.header(STS)), (status, wanted), "{what}");
        let plain = call.send().await;
        assert_eq!((plain.status, plain.header(STS)), (status, None), "{what}, in plain text");
    }
    let other =
        tls.gateway.get("/nothing").host("other.example.com").on(&mut tls.client().await).await.unwrap();
    assert_eq!((other.status, other.header(STS)), (404, None), "a host without");
}

#[tokio::test]
async fn without_hsts_the_upstreams_own_passes_over_tls_only() {
    let tls = Tls::start("", "trusted_proxies: [127.0.0.0/8]", "").await;
    let status = tls.gateway.get("/status");
    assert_eq!(status.on(&mut tls.client().await).await.unwrap().header(STS), Some("max-age=5"));
    assert_eq!(status.send().await.header(STS), None);
    let told = status.header("X-Forwarded-Proto", "https").send().await;
    assert_eq!(told.header(STS), Some("max-age=5"), "TLS at a trusted proxy");
}

/// Sends this head as HTTP/1.0 and gives all that comes until the end of the connection.
async fn old(address: std::net::SocketAddr, target: &str, fields: &str) -> String {
    let mut client = Client::connect(address).await;
    client.send(format!("GET {target} HTTP/1.0\r\n{fields}\r\n")).await;
    let mut all = Vec::new();
    loop {
        match client.raw().await {
            part if part.is_empty() => return String::from_utf8(all).unwrap(),
            part => all.extend(part),
        }
    }
}

/// Routes with `host`, with a wildcard, and without either.
const HOSTLESS: &str = "
- { id: named, match: { host: api.example.com, path: '/{*rest}' }, public: true, upstream: orders }
- { id: below, match: { host: '*.example.com', path: '/{*rest}' }, public: true, upstream: orders }
- { id: any, match: { path: /health }, public: true, upstream: orders }
- id: any-protected
  match: { path: /orders }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
";

#[tokio::test]
async fn http_1_0_without_host_is_for_routes_without_host() {
    let rig = Rig::routes(HOSTLESS).await;
    let response = old(rig.gateway.address(), "/health", "").await;
    assert!(response.contains(" 200 "), "{response}");
    let seen = rig.upstream.request();
    assert_eq!(seen.header("host"), Some(rig.upstream.url().trim_start_matches("http://")), "{seen:?}");
    assert!(!seen.fields.has("x-forwarded-host"), "{seen:?}");
    assert_eq!(seen.header("forwarded"), Some("for=127.0.0.1;proto=http"));
    let token = format!("Authorization: Bearer {}\r\n", rig.token());
    assert!(old(rig.gateway.address(), "/orders", &token).await.contains(" 200 "));
    assert!(old(rig.gateway.address(), "/orders", "").await.contains(" 401 "));
}

#[tokio::test]
async fn http_1_0_without_host_never_reaches_a_route_with_host() {
    let rig = Rig::routes(HOSTLESS).await;
    for target in ["/", "/x", "/health/", "/HEALTH", "/.well-known/oauth-protected-resource"] {
        let response = old(rig.gateway.address(), target, "").await;
        assert!(response.contains(" 40"), "{target}: {response}");
    }
    let response = old(rig.gateway.address(), "/x", "").await;
    assert!(response.contains(" 400 ") && response.contains("request_invalid"), "{response}");
    for fields in
        ["Host: \r\n", "Host:\r\n", "Host: h\r\nHost: h\r\n", "X-Forwarded-Host: api.example.com\r\n"]
    {
        let response = old(rig.gateway.address(), "/x", fields).await;
        assert!(response.contains(" 400 "), "{fields}: {response}");
    }
    let raw = "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n";
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(raw).await;
    assert_eq!(client.response().await.status, 400, "HTTP/1.1 needs Host");
    assert_eq!(rig.upstream.requests().len(), 0);
    let cause = rig.gateway.wait_for_log(|line| line["path"] == "/x").await["cause"].clone();
    assert_eq!(cause, "no Host, and no route without `host` matches the path");
}

#[tokio::test]
async fn probes_of_the_admin_listener_answer_http_1_0_without_host() {
    let rig = Rig::start().await;
    let admin = rig.gateway.admin_address();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let response = old(admin, path, "").await;
        assert!(response.contains(" 200 OK\r\n"), "{path}: {response}");
        for fields in ["Host: evil.example.com\r\n", "Host: \r\n"] {
            assert!(old(admin, path, fields).await.contains(" 421 "), "{path} {fields:?}");
        }
        for origin in ["https://evil.example.com", "http://", "null"] {
            let response = old(admin, path, &format!("Origin: {origin}\r\n")).await;
            assert!(response.contains(" 403 "), "{path} {origin}: {response}");
        }
        let response = old(admin, &format!("http://evil.example.com{path}"), "").await;
        assert!(response.contains(" 421 "), "{path}: {response}");
    }
    assert!(old(admin, "/api/v1/status", "").await.contains(" 421 "), "only probes");
    let mut client = Client::connect(admin).await;
    client.send("GET /healthz HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.response().await.status, 421, "HTTP/1.1 needs Host");
}

#[tokio::test]
async fn max_forwards_of_options_is_counted_down() {
    let rig = Rig::start().await;
    let options = |hops: &str| {
        rig.gateway.call("OPTIONS", "/orders/1").token(&rig.token()).header("Max-Forwards", hops)
    };
    for (sent, seen) in [("1", "0"), ("70", "69"), ("4294967295", "4294967294")] {
        assert_eq!(options(sent).send().await.verdict(), "200 -", "{sent}");
        assert_eq!(rig.upstream.last().fields.all("max-forwards"), [seen]);
    }
    assert_eq!(rig.get("/orders/1").header("Max-Forwards", "0").send().await.verdict(), "200 -");
    assert_eq!(rig.upstream.last().fields.all("max-forwards"), ["0"], "in GET it means nothing");
    rig.upstream.forget();

    let response = options("0").send().await;
    assert_eq!(response.status, 204);
    assert!(
        response.header("allow").is_some_and(|allow| allow.contains("GET") && allow.contains("OPTIONS")),
        "{response:?}"
    );
    let line = rig.gateway.wait_for_log(|line| line["decision"] == "options").await;
    assert_eq!((&line["route"], line.get("upstream")), (&Value::from("orders"), None), "{line}");
    for hops in ["-1", "+1", "x", "", "1, 1", "4294967296", "1.0"] {
        assert_eq!(options(hops).send().await.verdict(), "400 request_invalid", "{hops:?}");
    }
    assert_eq!(options("1").header("Max-Forwards", "1").send().await.verdict(), "400 request_invalid");
    let without_token = rig.gateway.call("OPTIONS", "/orders/1").header("Max-Forwards", "0").send().await;
    assert_eq!(without_token.verdict(), "401 credential_missing");
    let trace = rig.gateway.call("TRACE", "/orders/1").header("Max-Forwards", "0").send().await;
    assert_eq!(trace.verdict(), "405 method_not_allowed");
    assert!(rig.upstream.requests().is_empty(), "{:?}", rig.upstream.requests());
}
