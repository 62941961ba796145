//! Towards the upstreams: which address a request goes to, how it is spoken to, and how its failures are told.
#![cfg(test)]

mod support;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use support::tls::Authority;
use support::{Client, Gateway, Policy, Reply, Rig, TestIssuer, Upstream, eventually, ok, process};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// A gateway of one worker before these endpoints.
async fn before(endpoints: &[String], more: &str) -> (TestIssuer, Gateway) {
    let issuer = TestIssuer::start().await;
    let policy = Policy::default().gateway("workers: 1").gateway(more);
    let text =
        policy.render(issuer.url(), "X").replace("url: X", &format!("endpoints: [{}]", endpoints.join(", ")));
    let gateway = Gateway::start(&text).await;
    (issuer, gateway)
}

async fn several(count: usize) -> Vec<Upstream> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(Upstream::start(|_| ok("hello")).await);
    }
    all
}

#[tokio::test]
async fn all_endpoints_are_used_and_a_busy_one_is_spared() {
    let upstreams = several(3).await;
    let (issuer, gateway) = before(&upstreams.iter().map(Upstream::url).collect::<Vec<_>>(), "").await;
    let call = gateway.get("/orders/1").token(&issuer.token().mint());
    for _ in 0..30 {
        assert_eq!(call.send().await.status, 200);
    }
    let counts: Vec<_> = upstreams.iter().map(|upstream| upstream.requests().len()).collect();
    assert!(counts.iter().all(|count| *count >= 8), "{counts:?}");

    let sign = Arc::new(Notify::new());
    let held = Arc::clone(&sign);
    upstreams[0].answers(move |_| Reply::When(Arc::clone(&held), Box::new(ok("at last"))));
    upstreams.iter().for_each(Upstream::forget);
    let mut waiting = Vec::new();
    // One after the other, until one meets the slow upstream and waits there.
    while upstreams[0].requests().is_empty() {
        let mut client = Client::connect(gateway.address()).await;
        client.send(call.bytes()).await;
        tokio::select! {
            response = client.response() => assert_eq!(response.status, 200),
            () = upstreams[0].wait("it is held", |upstream| upstream.requests().len() == 1) => {}
        }
        waiting.push(client);
    }
    for _ in 0..20 {
        assert_eq!(call.send().await.text(), "hello");
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_passed_over_until_it_is_back() {
    let alive = several(1).await;
    let dead = process::free_address();
    let (issuer, gateway) = before(&[format!("http://{dead}"), alive[0].url()], "").await;
    let get = gateway.get("/orders/1").token(&issuer.token().mint());
    let post = gateway.call("POST", "/orders/1").token(&issuer.token().mint()).body("order");
    for _ in 0..20 {
        assert_eq!(
            (get.send().await.status, post.send().await.status),
            (200, 200),
            "nothing was sent to the dead one"
        );
    }
    assert_eq!(alive[0].requests().len(), 40);
    let back = std::net::TcpListener::bind(dead).unwrap();
    back.set_nonblocking(true).unwrap();
    eventually("it is tried again", || async {
        // It never answers.
        let call = get.clone();
        tokio::spawn(async move { call.try_send().await });
        back.accept().ok()
    })
    .await;
}

#[tokio::test]
async fn when_every_endpoint_refuses_the_upstream_is_unreachable() {
    let dead: Vec<_> = (0..3).map(|_| format!("http://{}", process::free_address())).collect();
    let (issuer, gateway) = before(&dead, "").await;
    let response = gateway.get("/orders/1").token(&issuer.token().mint()).send().await;
    assert_eq!(response.verdict(), "502 upstream_unreachable");
    let entry = gateway.wait_for_log(|entry| entry["status"] == 502).await;
    assert_eq!(
        (&entry["reason"], &entry["upstream"]),
        (&"upstream_unreachable".into(), &"orders".into()),
        "{entry}"
    );
    assert!(entry["cause"].as_str().is_some_and(|cause| cause.contains("refused")), "{entry}");
    let errors = [r#"upstream="orders""#, r#"reason="upstream_unreachable""#];
    assert_eq!(gateway.metric("scopegate_upstream_errors_total", &errors).await, 1.0);
}

#[tokio::test]
async fn a_name_is_resolved_and_its_dead_addresses_are_passed_over() {
    let (issuer, upstream) = (TestIssuer::start().await, Upstream::start(|_| ok("hello")).await);
    // `localhost` is also ::1 on most machines, where nobody listens.
    let url = format!("http://localhost:{}", upstream.address().port());
    let gateway = Gateway::start(&Policy::default().render(issuer.url(), &url)).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/orders/1").token(&issuer.token().mint()).send().await.status, 200);
    }
    let status = gateway.status().await;
    assert!(status["upstreams"][0]["addresses"].to_string().contains("127.0.0.1"), "{status}");
    let unknown = Policy::default().render(issuer.url(), "http://nobody.invalid:80");
    let gateway = Gateway::start(&unknown).await;
    let response = gateway.get("/orders/1").token(&issuer.token().mint()).send().await;
    assert_eq!(response.verdict(), "502 upstream_unreachable");
}

#[tokio::test]
async fn the_host_is_kept_or_replaced_as_configured() {
    for (more, wanted) in [
        ("", "api.example.com"),
        ("host: preserve", "api.example.com"),
        ("host: legacy.internal", "legacy.internal"),
    ] {
        let rig = Rig::with(Policy::default().upstream(more)).await;
        assert_eq!(rig.get("/orders/1").send().await.status, 200);
        assert_eq!(rig.upstream.request().header("host"), Some(wanted), "{more:?}");
        assert_eq!(rig.upstream.request().header("x-forwarded-host"), Some("api.example.com"), "{more:?}");
    }
}

#[tokio::test]
async fn nginx_is_spoken_to_in_every_protocol_it_has() {
    let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
    let issuer = TestIssuer::start().await;
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let (leaf, own) = (authority.server(&["localhost"]), clients.client("gateway"));
    let ca = authority.pem();
    let content = [("s.crt", &leaf.cert), ("s.key", &leaf.key), ("c.pem", &clients.pem()), ("ca.crt", &ca)];
    content.iter().for_each(|(name, text)| std::fs::write(path(name), text).unwrap());
    let (secure, plain, strict) = (process::free_address(), process::free_address(), process::free_address());
    let tls = format!("ssl_certificate {}; ssl_certificate_key {};", path("s.crt"), path("s.key"));
    let answer =
        r#"location / { default_type text/plain; return 200 "$server_protocol $ssl_client_verify"; }"#;
    let nginx = process::nginx(&format!(
        "{answer} }} server {{ listen {secure} ssl http2; {tls} {answer} }} server {{ listen {plain} http2; {answer} }}
        server {{ listen {strict} ssl; {tls} ssl_client_certificate {}; ssl_verify_client on; {answer}",
        path("c.pem")
    ))
    .await;
    let https = |address: std::net::SocketAddr| format!("https://localhost:{}", address.port());
    let trust = "host: localhost\ntls: { ca: ca.crt }";
    let shown = "host: localhost\ntls: { ca: ca.crt, client_cert: own.crt, client_key: own.key }";
    for (url, more, wanted) in [
        (nginx.url(), "protocol: http1", "200 HTTP/1.1 "),
        (format!("http://{plain}"), "protocol: h2c", "200 HTTP/2.0 "),
        (https(secure), trust, "200 HTTP/1.1 NONE"),
        (https(secure), &format!("protocol: h2\n{trust}"), "200 HTTP/2.0 NONE"),
        (https(strict), shown, "200 HTTP/1.1 SUCCESS"),
        (https(strict), trust, "400"),
        (https(strict), &format!("protocol: h2\n{shown}"), "502 upstream_unreachable"),
    ] {
        let files = [("ca.crt", ca.as_str()), ("own.crt", &own.cert), ("own.key", &own.key)];
        let gateway =
            Gateway::start_with(&Policy::default().upstream(more).render(issuer.url(), &url), &files).await;
        let response = gateway.get("/orders/1").token(&issuer.token().mint()).send().await;
        let seen = format!("{} {} {}", response.status, response.text(), response.verdict());
        let held = seen.starts_with(wanted) || seen.ends_with(wanted);
        assert!(held, "{url} {more}: {seen}\n{}", gateway.output());
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused_and_the_log_says_so() {
    let authority = Authority::new("servers");
    let (issuer, leaf) = (TestIssuer::start().await, authority.server(&["other.internal"]));
    let listen = "- https: 127.0.0.1:0\n  certificates: [{ cert: a.crt, key: a.key }]";
    let files = [("a.crt", leaf.cert.as_str()), ("a.key", &leaf.key)];
    let inner = Gateway::start_with(
        &Policy::default().listen(listen).render(issuer.url(), "http://127.0.0.1:1"),
        &files,
    )
    .await;
    let url = format!("https://localhost:{}", inner.https().port());
    let text = Policy::default().upstream("tls: { ca: ca.crt }").render(issuer.url(), &url);
    let gateway = Gateway::start_with(&text, &[("ca.crt", &authority.pem())]).await;
    let response = gateway.get("/orders/1").token(&issuer.token().mint()).send().await;
    assert_eq!(response.verdict(), "502 upstream_unreachable");
    assert!(!response.text().contains("certificate"), "{}", response.text());
    let entry = gateway.wait_for_log(|entry| entry["status"] == 502).await;
    assert!(entry["cause"].as_str().is_some_and(|cause| cause.contains("certificate")), "{entry}");
}

/// Answers the first request of each connection, and closes when the next one comes.
fn forgetful() -> impl Fn(&support::Recorded) -> Reply + Send + Sync + 'static {
    let served = Mutex::new(HashSet::new());
    move |request| match served.lock().unwrap().insert(request.connection) {
        true => ok("hello"),
        false => Reply::CloseEarly,
    }
}

#[tokio::test]
async fn a_kept_connection_that_dies_under_a_get_costs_no_request() {
    let rig = Rig::with(Policy::default().gateway("workers: 1")).await;
    rig.upstream.answers(forgetful());
    let mut client = Client::connect(rig.gateway.address()).await;
    for n in 0..200 {
        let method = ["GET", "HEAD", "GET", "DELETE"][n % 4];
        let call = rig.gateway.call(method, "/orders/1").token(&rig.token());
        assert_eq!(call.on(&mut client).await.unwrap().status, 200, "{method} {n}");
    }
    let died = rig.upstream.requests().len() - 200;
    assert!(died >= 50, "only {died} connections died under a request: this shows nothing");
}

#[tokio::test]
async fn a_post_on_a_connection_that_dies_is_sent_once() {
    let rig = Rig::with(Policy::default().gateway("workers: 1")).await;
    rig.upstream.answers(forgetful());
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    let post = rig.gateway.call("POST", "/orders/1").token(&rig.token()).body("order").send().await;
    assert_eq!((post.verdict().as_str(), rig.upstream.requests().len()), ("502 upstream_invalid", 2));
    let posts: Vec<_> =
        rig.upstream.requests().into_iter().filter(|request| request.method == "POST").collect();
    assert_eq!(posts.len(), 1);
}

#[tokio::test]
async fn an_address_that_takes_no_connection_is_a_timeout() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // A full queue: the kernel drops further attempts to connect.
    let mut queue = Vec::new();
    let wait = std::time::Duration::from_millis(300);
    while let Ok(Ok(stream)) = tokio::time::timeout(wait, tokio::net::TcpStream::connect(address)).await {
        queue.push(stream);
        assert!(queue.len() < 100, "the queue never fills");
    }
    let issuer = TestIssuer::start().await;
    let policy = Policy::default().gateway("timeouts: { upstream_connect: 300ms, upstream_response: 1h }");
    let gateway = Gateway::start(&policy.render(issuer.url(), &format!("http://{address}"))).await;
    let response = gateway.get("/orders/1").token(&issuer.token().mint()).send().await;
    assert_eq!(response.verdict(), "504 upstream_timeout");
}

#[tokio::test]
async fn an_upstream_that_is_killed_in_the_middle_of_a_body_breaks_only_that_answer() {
    let address = process::free_address();
    let script = format!(
        "import socket,time
s=socket.create_server(('127.0.0.1',{}))
while True:
    c,_=s.accept()
    if c.recv(65536):
        c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 1000000\\r\\n\\r\\nbegun')
        time.sleep(600)",
        address.port()
    );
    let dir = tempfile::tempdir().unwrap();
    // The first connection is the one that looks whether it listens.
    let server = process::Background::start("python3", ["-c", &script], address, dir).await;
    let issuer = TestIssuer::start().await;
    let gateway = Gateway::start(&Policy::default().render(issuer.url(), &server.url())).await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(gateway.get("/orders/1").token(&issuer.token().mint()).bytes()).await;
    client.until("begun").await;
    process::kill(server.pid(), "KILL");
    assert!(client.closes().await, "an answer that cannot be finished ends with its connection");
    let entry = gateway.wait_for_log(|entry| entry["path"] == "/orders/1").await;
    assert_eq!((&entry["reason"], &entry["status"]), (&"upstream_invalid".into(), &200.into()), "{entry}");
    let next = gateway.get("/orders/2").token(&issuer.token().mint()).send().await;
    assert_eq!(next.verdict(), "502 upstream_unreachable");
    assert_eq!(gateway.metric("scopegate_in_flight_requests", &[]).await, 0.0);
}

#[tokio::test]
async fn a_dead_endpoint_is_told_though_requests_succeed_elsewhere() {
    let alive = several(1).await;
    let dead = process::free_address();
    let (issuer, gateway) = before(&[format!("http://{dead}"), alive[0].url()], "").await;
    let get = gateway.get("/orders/1").token(&issuer.token().mint());
    let refused = || async {
        let labels = [r#"upstream="orders""#, r#"cause="refused""#];
        gateway.metric("scopegate_upstream_connect_errors_total", &labels).await
    };
    let failing = || gateway.metric("scopegate_upstream_failing_addresses", &[r#"upstream="orders""#]);
    assert_eq!(failing().await, 0.0);
    assert_eq!(gateway.status().await["upstreams"][0]["failing"], serde_json::json!([]));
    eventually("it is tried more than once", || async {
        assert_eq!(get.send().await.status, 200);
        (refused().await >= 2.0).then_some(())
    })
    .await;
    assert_eq!(failing().await, 1.0);
    let told = gateway.status().await["upstreams"][0]["failing"].clone();
    assert_eq!(told.as_array().unwrap().len(), 1, "{told}");
    assert_eq!((&told[0]["address"], &told[0]["cause"]), (&dead.to_string().into(), &"refused".into()));
    assert!(told[0]["failures"].as_u64() >= Some(2), "{told}");
    for time in ["since", "last"] {
        assert!(told[0][time].as_str().is_some_and(|time| time.ends_with('Z')), "{told}");
    }
    assert!(told[0]["error"].as_str().is_some_and(|error| error.contains("refused")), "{told}");
    let lines = |text: &str| {
        let output = gateway.output();
        let of = |line: &&str| line.contains(text) && line.contains(&dead.to_string());
        output.lines().filter(of).count()
    };
    assert_eq!((lines("upstream address fails"), lines("upstream address is back")), (1, 0));
    let back = Upstream::on(TcpListener::bind(dead).await.unwrap(), |_| ok("back"));
    eventually("it is used again", || async {
        get.send().await;
        (failing().await == 0.0).then_some(())
    })
    .await;
    assert_eq!(gateway.status().await["upstreams"][0]["failing"], serde_json::json!([]));
    eventually("the log says so", || async { (lines("upstream address is back") == 1).then_some(()) }).await;
    assert_eq!(lines("upstream address fails"), 1);
    drop(back);
}

#[tokio::test]
async fn connect_errors_have_their_cause() {
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let not_tls = format!("https://{}", plain.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            tokio::spawn(async move { stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await });
        }
    });
    for (urls, more, cause, error) in [
        (format!("https://127.0.0.1:{port}"), "", "timeout", "no connection within"),
        (not_tls, "", "tls", "corrupt message"),
        ("http://255.255.255.255:9".to_owned(), "", "other|unreachable", ""),
    ] {
        let (issuer, gateway) = before(&[urls], more).await;
        let response = gateway.get("/orders/1").token(&issuer.token().mint()).send().await;
        assert!(matches!(response.status, 502 | 504), "{cause}");
        let told = gateway.status().await["upstreams"][0]["failing"][0].clone();
        assert!(cause.split('|').any(|cause| told["cause"] == cause), "{told}");
        assert!(told["error"].as_str().is_some_and(|text| text.contains(error)), "{told}");
    }
}
