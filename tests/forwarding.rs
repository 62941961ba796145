//! What reaches the upstream and what comes back: nothing the client forged, nothing lost, nothing twice.
#![cfg(test)]

mod support;

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use support::{AUDIENCE, Client, Policy, Reply, Rig, process};
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};

#[tokio::test]
async fn identity_headers_are_set_from_the_token_and_never_from_the_client() {
    let rig = Rig::start().await;
    let token = rig.issuer.token().scope("orders:read x").claim("tenant", "acme").mint();
    let forged = ["X-User", "x-user", "X-Client", "X-CLIENT", "X-Scopes", "X-Tenant", "x-tenant"];
    let mut call = rig.gateway.get("/orders/1").token(&token);
    for name in forged {
        call = call.header(name, "root");
    }
    let response = call.header("Connection", "x-user, X-Tenant").send().await;
    assert_eq!(response.verdict(), "200 -");
    let seen = rig.upstream.request();
    for (name, value) in
        [("x-user", "alice"), ("x-client", "mobile-app"), ("x-scopes", "orders:read x"), ("x-tenant", "acme")]
    {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert!(!seen.fields.has("authorization"));
}

#[tokio::test]
async fn identity_headers_are_stripped_on_public_routes_and_for_claims_the_token_lacks() {
    let rig = Rig::start().await;
    for call in [rig.gateway.get("/status"), rig.get("/orders/1")] {
        let response = call.header("X-Tenant", "acme").send().await;
        assert_eq!(response.verdict(), "200 -");
        let seen = rig.upstream.last();
        assert!(!seen.fields.has("x-tenant"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_name_that_an_upstream_could_take_for_another_is_removed() {
    let rig = Rig::start().await;
    for name in ["X_User", "x_user", "X_Tenant", "X-Sco_pes", "X.User", "Content_Length", "x~y"] {
        for call in [rig.gateway.get("/status"), rig.get("/orders/1")] {
            assert_eq!(call.header(name, "7").send().await.verdict(), "200 -", "{name}");
            let seen = rig.upstream.last();
            assert!(seen.fields.names().all(|seen| !seen.eq_ignore_ascii_case(name)), "{name}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn names_are_capitalised_over_http1() {
    let rig = Rig::start().await;
    let response = rig
        .get("/orders/1")
        .header("soapaction", "a")
        .header("x-foo-bar", "b")
        .header("ACCEPT", "c")
        .send()
        .await;
    assert_eq!(response.verdict(), "200 -");
    let seen = rig.upstream.request();
    for name in
        ["Host", "SOAPAction", "X-Foo-Bar", "Accept", "X-User", "X-Forwarded-For", "X-Request-ID", "Via"]
    {
        assert!(seen.fields.names().any(|seen| seen == name), "{name} in {:?}", seen.fields);
    }
    for name in ["Content-Type", "Content-Length", "X-Request-Id", "Date"] {
        assert!(response.fields.names().any(|seen| seen == name), "{name} in {:?}", response.fields);
    }
}

#[tokio::test]
async fn a_claim_cannot_smuggle_a_header() {
    let rig = Rig::start().await;
    let token = rig.issuer.token().claim("tenant", "acme\r\nX-Admin: 1").mint();
    let response = rig.gateway.get("/orders/1").token(&token).send().await;
    for seen in rig.upstream.requests() {
        assert!(!seen.fields.has("x-admin"), "{seen:?}");
        assert!(!seen.fields.has("x-tenant"), "a value that fits in no header is no tenant: {seen:?}");
    }
    assert_eq!(response.status, 200);
}

#[tokio::test]
async fn a_claim_is_passed_on_as_it_is_or_not_at_all() {
    let route = format!(
        "
- id: orders
  match: {{ host: api.example.com, path: '/orders/{{*rest}}' }}
  require: {{ issuers: [corp], audience: {AUDIENCE}, scopes: [orders:read] }}
  upstream: orders
  forward: {{ identity_headers: {{ X-Groups: claim.groups }} }}
"
    );
    let rig = Rig::routes(&route).await;
    for (claim, wanted) in [
        (serde_json::json!("Doe, John"), Some("Doe, John")),
        (serde_json::json!(["a", "b"]), Some("a,b")),
        (serde_json::json!(["a,b", "c"]), None),
        (serde_json::json!(["a%2Cb", "c"]), Some("a%2Cb,c")),
    ] {
        let token = rig.issuer.token().claim("groups", claim.clone()).mint();
        assert_eq!(rig.gateway.get("/orders/1").token(&token).send().await.status, 200);
        assert_eq!(rig.upstream.last().header("x-groups"), wanted, "{claim}");
    }
}

#[tokio::test]
async fn no_field_that_speaks_for_a_proxy_gets_through() {
    let rig = Rig::start().await;
    for name in
        ["X-Forwarded-Email", "X-Forwarded-Access-Token", "X-Forwarded-By", "X-Original-Forwarded-For"]
    {
        assert_eq!(rig.gateway.get("/status").header(name, "1").send().await.status, 200);
        assert!(!rig.upstream.last().fields.has(name), "{name}");
    }
}

#[tokio::test]
async fn the_token_is_forwarded_only_where_the_route_says_so() {
    let route = format!(
        "
- id: orders
  match: {{ host: api.example.com, path: '/orders/{{*rest}}' }}
  require: {{ issuers: [corp], audience: {AUDIENCE}, scopes: [orders:read] }}
  upstream: orders
  forward: {{ forward_token: true }}
"
    );
    let rig = Rig::routes(&route).await;
    let token = rig.token();
    rig.gateway.get("/orders/1").token(&token).send().await;
    assert_eq!(rig.upstream.request().header("authorization"), Some(format!("Bearer {token}").as_str()));
}

#[tokio::test]
async fn hop_by_hop_fields_end_at_the_gateway_in_both_directions() {
    let rig = Rig::start().await;
    rig.upstream.answers(|_| {
        let fields = "Connection: X-Back\r\nX-Back: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nX-End: 1\r\n";
        Reply::with(200, fields, "hello")
    });
    let response = rig
        .get("/orders/1")
        .header("Connection", "X-Private, keep-alive")
        .header("X-Private", "1")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Authorization", "Basic YTpi")
        .header("Proxy-Connection", "keep-alive")
        .header("TE", "trailers, deflate")
        .header("X-End", "1")
        .send()
        .await;
    let seen = rig.upstream.request();
    for name in ["x-private", "keep-alive", "proxy-authorization", "proxy-connection", "upgrade"] {
        assert!(!seen.fields.has(name), "{name}: {seen:?}");
    }
    assert!(matches!(seen.header("te"), None | Some("trailers")), "{seen:?}");
    assert_eq!(seen.header("x-end"), Some("1"));
    for name in ["x-back", "proxy-authenticate"] {
        assert!(!response.fields.has(name), "{name}: {response:?}");
    }
    assert_eq!((response.status, response.header("x-end")), (200, Some("1")));
}

#[tokio::test]
async fn a_client_cannot_nominate_a_field_that_the_request_needs() {
    let rig = Rig::start().await;
    let response = rig
        .get("/orders/1")
        .header("Connection", "Host, Authorization, Content-Length, X-Forwarded-For")
        .send()
        .await;
    if response.status == 200 {
        let seen = rig.upstream.request();
        assert_eq!(seen.header("host"), Some("api.example.com"));
        assert!(seen.fields.has("x-forwarded-for"));
    } else {
        assert_eq!(response.verdict(), "400 request_invalid");
    }
}

#[tokio::test]
async fn the_upstream_learns_where_a_request_comes_from_and_from_no_forger() {
    let rig = Rig::start().await;
    let response = rig
        .get("/orders/1")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("X-Forwarded-Host", "evil.example.com")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Port", "1")
        .header("X-Real-IP", "6.6.6.6")
        .header("Forwarded", "for=6.6.6.6;host=evil.example.com")
        .send()
        .await;
    let seen = rig.upstream.request();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some("api.example.com"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    let everything = format!("{:?}", seen.fields);
    assert!(!everything.contains("6.6.6.6") && !everything.contains("evil"), "{everything}");
    assert!(seen.header("via").is_some_and(|via| via.starts_with("1.1 ")), "{seen:?}");
    let id = seen.header("x-request-id").expect("a request id").to_owned();
    assert_eq!(response.header("x-request-id"), Some(id.as_str()));
    rig.gateway.wait_for_log(|entry| entry["request_id"] == *id).await;
}

#[tokio::test]
async fn fields_that_override_the_request_are_removed() {
    let rig = Rig::start().await;
    let names = [
        // Another host, scheme, port or prefix.
        "X-Host",
        "X-HTTP-Host-Override",
        "X-Host-Override",
        "X-Original-Host",
        "X-Original-Scheme",
        "X-Forwarded-Server",
        "X-Forwarded-Prefix",
        "X-Url-Scheme",
        "X-ARR-SSL",
        "Front-End-Https",
        // Another path or method.
        "X-Original-URL",
        "X-Override-URL",
        "X-Rewrite-URL",
        "X-Replaced-Path",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        // Another client.
        "True-Client-IP",
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "X-Cluster-Client-IP",
        "X-ProxyUser-Ip",
        // A variable of CGI.
        "Proxy",
        // A caller that another gateway has authenticated.
        "Remote-User",
        "X-Remote-User",
        "X-Remote-Addr",
        "X-WEBAUTH-USER",
        "X-Auth-Request-Email",
        "X-MS-CLIENT-PRINCIPAL-NAME",
        "X-Goog-Authenticated-User-Email",
        "X-Amzn-Oidc-Identity",
        "Cf-Access-Authenticated-User-Email",
        "SSL-Client-Verify",
    ];
    for target in ["/status", "/orders/1"] {
        let call = names.iter().fold(rig.get(target), |call, name| call.header(name, "evil.example"));
        assert_eq!(call.header("X-Custom", "kept").send().await.status, 200, "{target}");
        let seen = rig.upstream.last();
        for name in names {
            assert!(!seen.fields.has(name), "{target}: {name}");
        }
        assert_eq!(seen.header("x-custom"), Some("kept"), "{target}");
    }
}

#[tokio::test]
async fn lines_of_forwarded_for_are_one_list() {
    let rig = Rig::with(Policy::default().gateway("trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]")).await;
    for (lines, client) in [
        // A load balancer adds its line behind that of the client.
        (&["192.0.2.1", "203.0.113.7"][..], "203.0.113.7"),
        (&["192.0.2.1, 203.0.113.8", "10.0.0.1"], "203.0.113.8"),
        (&["192.0.2.1", "unknown"], "127.0.0.1"),
    ] {
        let call = lines.iter().fold(rig.get("/orders/1"), |call, line| call.header("X-Forwarded-For", line));
        let response = call.send().await;
        let id = response.header("x-request-id").unwrap();
        let entry = rig.gateway.wait_for_log(|entry| entry["request_id"] == *id).await;
        assert_eq!(entry["address"], *client, "{lines:?}");
        let chain = format!("{}, 127.0.0.1", lines.join(", "));
        assert_eq!(rig.upstream.last().header("x-forwarded-for"), Some(chain.as_str()), "{lines:?}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_may_speak_for_its_client() {
    let rig = Rig::with(Policy::default().gateway("trusted_proxies: [127.0.0.0/8]")).await;
    rig.get("/orders/1").header("X-Forwarded-For", "203.0.113.9").send().await;
    assert_eq!(rig.upstream.request().header("x-forwarded-for"), Some("203.0.113.9, 127.0.0.1"));
    rig.gateway.wait_for_log(|entry| entry.to_string().contains("203.0.113.9")).await;
}

#[tokio::test]
async fn the_path_is_rewritten_and_the_query_kept() {
    let rig = Rig::routes(
        "
- id: strip
  match: { host: api.example.com, path: '/v1/{*rest}' }
  public: true
  upstream: orders
  forward: { strip_prefix: /v1 }
- id: add
  match: { host: api.example.com, path: '/plain/{*rest}' }
  public: true
  upstream: orders
  forward: { add_prefix: /inner }
",
    )
    .await;
    for (sent, wanted) in [
        ("/v1/orders/1?a=1&b=%2F", "/orders/1?a=1&b=%2F"),
        ("/v1/orders/", "/orders/"),
        ("/v1/a%20b", "/a%20b"),
        ("/v1/%C3%A4?x=../..", "/%C3%A4?x=../.."),
        ("/plain/x?", "/inner/plain/x?"),
    ] {
        assert_eq!(rig.gateway.get(sent).send().await.status, 200, "{sent}");
        assert_eq!(rig.upstream.last().target, wanted, "{sent}");
    }
}

#[tokio::test]
async fn a_body_streams_both_ways_while_it_is_sent() {
    let rig = Rig::start().await;
    rig.upstream.answers(|_| Reply::Echo);
    let mut client = Client::connect(rig.gateway.address()).await;
    let head =
        rig.gateway.call("POST", "/orders/1").token(&rig.token()).header("Transfer-Encoding", "chunked");
    client.send(head.bytes()).await;
    for piece in ["one", "two", "three"] {
        client.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        client.until(piece).await;
    }
    client.send("0\r\n\r\n").await;
    assert!(client.until("0\r\n\r\n").await.ends_with("0\r\n\r\n"));
    assert_eq!(rig.upstream.request().body, b"onetwothree");
}

#[tokio::test]
async fn a_requests_trailers_reach_the_upstream_without_forged_identity() {
    let rig = Rig::start().await;
    let mut client = Client::connect(rig.gateway.address()).await;
    let head = rig.gateway.call("POST", "/orders/1").token(&rig.token());
    let head = head.header("Transfer-Encoding", "chunked").header("Trailer", "X-Sum, X-User");
    client.send(head.bytes()).await;
    client.send("3\r\nabc\r\n0\r\nX-Sum: 6\r\nX-User: root\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    let seen = rig.upstream.request();
    assert!(!seen.trailers.has("x-user"), "an identity header is no trailer: {seen:?}");
    assert_eq!((seen.body.as_slice(), seen.trailers.get("x-sum")), (b"abc".as_slice(), Some("6")));
}

#[tokio::test]
async fn an_answers_trailers_reach_a_client_that_takes_them() {
    let rig = Rig::start().await;
    rig.upstream.answers(|_| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
        Reply::Bytes(format!("{head}3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n").into_bytes())
    });
    let mut client = Client::connect(rig.gateway.address()).await;
    let call = rig.get("/orders/1").header("TE", "trailers").header("Connection", "TE");
    let response = call.on(&mut client).await.unwrap();
    assert_eq!((response.text().as_str(), response.trailers.get("x-sum")), ("abc", Some("6")));
}

#[tokio::test]
async fn server_sent_events_arrive_one_by_one() {
    let rig = Rig::start().await;
    let (events, source) = mpsc::unbounded_channel();
    let source = std::sync::Mutex::new(Some(source));
    rig.upstream.answers(move |_| Reply::Stream(source.lock().unwrap().take().unwrap()));
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(rig.get("/orders/1").bytes()).await;
    events.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n".to_vec()).unwrap();
    for n in 0..3 {
        events.send(format!("data: {n}\n\n").into_bytes()).unwrap();
        client.until(&format!("data: {n}")).await;
    }
    drop(events);
    client.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn a_web_socket_is_opened_after_the_decision_and_carries_both_ways() {
    let rig = Rig::start().await;
    rig.upstream.answers(|_| Reply::Upgrade);
    let request = |token: Option<String>| {
        let mut request = "ws://api.example.com/orders/1".into_client_request().unwrap();
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    };
    let connect = || async { tokio::net::TcpStream::connect(rig.gateway.address()).await.unwrap() };
    let refused = tokio_tungstenite::client_async(request(None), connect().await).await.unwrap_err();
    assert!(matches!(&refused, tungstenite::Error::Http(answer) if answer.status() == 401), "{refused}");
    assert_eq!(rig.upstream.requests().len(), 0);

    // The upstream sends every byte back; it cannot make the accept key, so the handshake is spoken by hand.
    let mut client = rig.tunnel(&rig.token()).await;
    for text in ["ping", "and\0more"] {
        client.send(text).await;
        client.until(text).await;
    }
    client.finish().await;
    assert!(client.closes().await, "the end is passed on");
}

#[tokio::test]
async fn a_real_web_socket_server_and_client_understand_each_other() {
    let issuer = support::TestIssuer::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() || socket.send(message).await.is_err() {
                break;
            }
        }
    });
    let gateway = support::Gateway::start(&Policy::default().render(issuer.url(), &upstream)).await;
    let mut request = "ws://api.example.com/orders/1".into_client_request().unwrap();
    let token = issuer.token().mint();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let stream = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    for text in ["hello", &"x".repeat(100_000)] {
        socket.send(tungstenite::Message::text(text)).await.unwrap();
        let back = support::soon("an echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(back.into_text().unwrap().as_str(), text);
    }
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let rig = Rig::start().await;
    let mut client = Client::connect(rig.gateway.address()).await;
    for _ in 0..20 {
        assert_eq!(rig.get("/orders/1").on(&mut client).await.unwrap().status, 200);
    }
    assert_eq!((rig.upstream.connections(), rig.upstream.requests().len()), (1, 20));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let rig = Rig::start().await;
    rig.upstream.answers(|request| support::ok(&request.target));
    let mut client = Client::connect(rig.gateway.address()).await;
    let both =
        [rig.get("/orders/1").bytes(), rig.gateway.get("/orders/2").bytes(), rig.get("/orders/3").bytes()]
            .concat();
    client.send(both).await;
    assert_eq!(client.response().await.text(), "/orders/1");
    assert_eq!(client.response().await.verdict(), "401 credential_missing");
    assert_eq!(client.response().await.text(), "/orders/3");
}

#[tokio::test]
async fn a_body_that_nobody_reads_does_not_become_the_next_request() {
    let rig = Rig::start().await;
    let mut client = Client::connect(rig.gateway.address()).await;
    let hidden = rig.get("/orders/hidden").bytes();
    client.send(rig.gateway.call("POST", "/orders/1").body(hidden).bytes()).await;
    assert_eq!(client.response().await.verdict(), "401 credential_missing");
    client.send(rig.get("/orders/2").bytes()).await;
    let next = client.response_to("GET").await;
    assert!(next.is_none_or(|response| response.status == 200));
    assert!(
        rig.upstream.requests().iter().all(|request| request.target == "/orders/2"),
        "{:?}",
        rig.upstream.requests()
    );
}

#[tokio::test]
async fn an_idle_connection_that_the_upstream_closed_costs_no_request() {
    let rig = Rig::start().await;
    // Each answer is followed by a close that the gateway has not been told of.
    rig.upstream
        .answers(|_| Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()));
    for n in 0..20 {
        assert_eq!(rig.get(&format!("/orders/{n}")).send().await.verdict(), "200 -", "request {n}");
    }
    assert_eq!(rig.upstream.requests().len(), 20, "none was sent twice");
}

#[tokio::test]
async fn a_request_with_effects_is_never_sent_twice() {
    // One worker: the second request meets the connection of the first.
    let rig = Rig::with(Policy::default().gateway("workers: 1")).await;
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    rig.upstream.forget();
    rig.upstream.answers(|_| Reply::CloseEarly);
    let response = rig.gateway.call("POST", "/orders/1").token(&rig.token()).body("order").send().await;
    assert_eq!(response.verdict(), "502 upstream_invalid");
    assert_eq!(rig.upstream.request().connection, 0, "it was sent on the kept connection, and on no other");
}

#[tokio::test]
async fn an_upstream_that_fails_is_named_by_its_fault() {
    let rig =
        Rig::with(Policy::default().gateway("timeouts: { upstream_response: 1s, upstream_connect: 1s }"))
            .await;
    for (what, bytes) in [
        ("closes", ""),
        ("breaks off in the head", "HTTP/1.1 200 OK\r\nContent-"),
        ("speaks no HTTP", "SSH-2.0-x\r\n"),
        ("says two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk"),
        ("breaks a header", "HTTP/1.1 200 OK\r\nA b: 1\r\n\r\n"),
    ] {
        rig.upstream.answers(move |_| Reply::BytesThenClose(bytes.into()));
        let response = rig.get("/orders/1").send().await;
        assert_eq!(response.verdict(), "502 upstream_invalid", "{what}");
    }
    rig.upstream.answers(|_| Reply::Never);
    let response = rig.get("/orders/1").send().await;
    assert_eq!(response.verdict(), "504 upstream_timeout");
    let problem = response.json();
    assert_eq!((problem["control"].as_str(), response.challenge()), (Some("upstream"), ""));
    let errors = rig.gateway.metric("scopegate_upstream_errors_total", &[r#"upstream="orders""#]).await;
    assert!(errors >= 6.0, "{errors}");
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_unreachable() {
    let issuer = support::TestIssuer::start().await;
    let nobody = format!("http://{}", process::free_address());
    let gateway = support::Gateway::start(&Policy::default().render(issuer.url(), &nobody)).await;
    let response = gateway.get("/orders/1").token(&issuer.token().mint()).send().await;
    assert_eq!(response.verdict(), "502 upstream_unreachable");
    assert!(!response.text().contains("127.0.0.1"), "where the upstream is, is nobody's business");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_passed_on_as_whole() {
    let rig = Rig::start().await;
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
    ] {
        rig.upstream.answers(move |_| Reply::BytesThenClose(bytes.into()));
        let mut client = Client::connect(rig.gateway.address()).await;
        client.send(rig.get("/orders/1").bytes()).await;
        let mut seen = Vec::new();
        loop {
            let more = client.raw().await;
            if more.is_empty() {
                break;
            }
            seen.extend_from_slice(&more);
        }
        let seen = String::from_utf8(seen).unwrap();
        assert!(!seen.ends_with("0\r\n\r\n"), "{seen}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_announced_or_not() {
    let rig = Rig::with(Policy::default().gateway("workers: 1\nlimits: { body: 1KiB }")).await;
    let post = || rig.gateway.call("POST", "/orders/1").token(&rig.token());
    assert_eq!(post().body(vec![b'x'; 1024]).send().await.status, 200, "the limit itself is allowed");
    assert_eq!(post().body(vec![b'x'; 1025]).send().await.verdict(), "413 body_too_large");
    assert_eq!(rig.upstream.requests().len(), 1, "an announced one is refused before it is forwarded");

    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(post().header("Transfer-Encoding", "chunked").bytes()).await;
    let chunk = format!("200\r\n{}\r\n", "x".repeat(0x200));
    client.send(chunk.repeat(2)).await;
    rig.upstream
        .wait("what the limit allows is forwarded", |upstream| {
            upstream.requests().get(1).is_some_and(|request| request.body.len() == 0x400)
        })
        .await;
    client.send(chunk).await;
    assert_eq!(client.response().await.verdict(), "413 body_too_large");
    rig.upstream
        .wait("the upstream is told that the body broke off", |upstream| upstream.open_connections() == 0)
        .await;
    assert_eq!(rig.upstream.requests().len(), 2);
    assert!(!rig.upstream.last().complete);
}

#[tokio::test]
async fn an_upstream_may_answer_before_it_has_read_everything() {
    let rig = Rig::start().await;
    rig.upstream.answers(|_| Reply::Early(Box::new(Reply::with(409, "", "no"))));
    let mut client = Client::connect(rig.gateway.address()).await;
    let head = rig.gateway.call("POST", "/orders/1").token(&rig.token()).header("Content-Length", "1000000");
    client.send(head.bytes()).await;
    client.send("x".repeat(1000)).await;
    assert_eq!(client.response().await.status, 409);
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let rig = Rig::start().await;
    rig.upstream.answers(|_| Reply::Continue(Box::new(support::ok("thanks"))));
    let mut client = Client::connect(rig.gateway.address()).await;
    let head = rig.gateway.call("POST", "/orders/1").token(&rig.token());
    client.send(head.header("Expect", "100-continue").header("Content-Length", "3").bytes()).await;
    client.until("100 Continue\r\n\r\n").await;
    client.send("abc").await;
    assert_eq!(client.response().await.text(), "thanks");
    assert_eq!(rig.upstream.request().body, b"abc");

    let refused =
        rig.gateway.call("POST", "/orders/1").header("Expect", "100-continue").header("Content-Length", "3");
    let response = refused.send().await;
    assert_eq!((response.verdict().as_str(), response.interim.len()), ("401 credential_missing", 0));
    let unknown = rig.get("/orders/1").header("Expect", "wonders").send().await;
    assert_eq!(unknown.verdict(), "417 expectation_failed");
}

#[tokio::test]
async fn answers_without_a_body_stay_without() {
    let rig = Rig::start().await;
    rig.upstream.answers(|_| Reply::Bytes(b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n".to_vec()));
    let mut client = Client::connect(rig.gateway.address()).await;
    assert_eq!(rig.get("/orders/1").on(&mut client).await.unwrap().status, 204);
    rig.upstream
        .answers(|_| Reply::Bytes(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n".to_vec()));
    assert_eq!(rig.get("/orders/1").on(&mut client).await.unwrap().status, 304);
    rig.upstream.answers(|_| Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec()));
    let head = rig.gateway.call("HEAD", "/orders/1").token(&rig.token()).on(&mut client).await.unwrap();
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("9"), 0));
    assert_eq!(rig.upstream.last().method, "HEAD");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_upstreams_work() {
    let rig = Rig::start().await;
    rig.upstream.answers(|_| Reply::Never);
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(rig.get("/orders/1").bytes()).await;
    rig.upstream.wait("the request arrives", |upstream| !upstream.requests().is_empty()).await;
    drop(client);
    rig.upstream.wait("the upstream connection ends", |upstream| upstream.open_connections() == 0).await;
}

#[tokio::test]
async fn a_slow_upstream_delays_nobody_else() {
    let rig = Rig::start().await;
    let sign = Arc::new(Notify::new());
    let slow = Arc::clone(&sign);
    rig.upstream.answers(move |request| match request.target.as_str() {
        "/orders/slow" => Reply::When(Arc::clone(&slow), Box::new(support::ok("at last"))),
        _ => support::ok("at once"),
    });
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(rig.get("/orders/slow").bytes()).await;
    rig.upstream.wait("the slow request arrives", |upstream| upstream.requests().len() == 1).await;
    for _ in 0..10 {
        assert_eq!(rig.get("/orders/1").send().await.text(), "at once");
    }
    sign.notify_one();
    assert_eq!(client.response().await.text(), "at last");
}

#[tokio::test]
async fn http2_without_tls_is_spoken_with_prior_knowledge() {
    let rig = Rig::start().await;
    let url = format!("http://{}/orders/1", rig.gateway.address());
    let authorization = format!("authorization: Bearer {}", rig.token());
    let host = "host: api.example.com";
    let output =
        process::curl(["--http2-prior-knowledge", "-i", "-H", host, "-H", &authorization, &url]).await;
    assert!(output.stdout.starts_with("HTTP/2 200") && output.stdout.ends_with("hello"), "{output:?}");
    assert_eq!(rig.upstream.request().header("host"), Some("api.example.com"), ":authority becomes Host");

    let output =
        process::nghttp(["-v", "-H", ":authority: api.example.com", "-H", &authorization, &url]).await;
    assert!(output.stdout.contains(":status: 200"), "{output:?}");
    let output = process::nghttp(["-v", "-H", ":authority: api.example.com", &url]).await;
    assert!(
        output.stdout.contains(":status: 401") && output.stdout.contains("www-authenticate: Bearer"),
        "{output:?}"
    );
    assert_eq!(rig.upstream.requests().len(), 2);
}

#[tokio::test]
async fn many_http2_streams_at_once_are_all_answered() {
    let rig = Rig::start().await;
    let url = format!("http://{}/orders/1", rig.gateway.address());
    let authorization = format!("authorization: Bearer {}", rig.token());
    let args = [
        "-n",
        "2000",
        "-c",
        "4",
        "-m",
        "50",
        "-H",
        ":authority: api.example.com",
        "-H",
        &authorization,
        &url,
    ];
    let output = process::h2load(args).await;
    assert!(output.stdout.contains("2000 succeeded, 0 failed, 0 errored"), "{output:?}");
    assert!(output.stdout.contains("status codes: 2000 2xx"), "{output:?}");
    assert_eq!(rig.upstream.requests().len(), 2000);
}

#[tokio::test]
async fn unescaped_octets_in_a_query_arrive_as_sent() {
    let rig = Rig::start().await;
    let mut client = Client::connect(rig.gateway.address()).await;
    let json = r#"/status?filter={"status":"<open>"}&a=%22"#;
    // A request with a body stands before each: its bytes must not be taken for a request line.
    let posts = [
        "Content-Length: 30\r\n\r\nGET /status?\"#<> HTTP/1.1\r\n\r\n1",
        "Transfer-Encoding: chunked\r\n\r\n1d\r\nGET /status?\"#<> HTTP/1.1\r\n\r\n\r\n0\r\n\r\n",
    ];
    for post in posts {
        client.send(format!("POST /status HTTP/1.1\r\nHost: api.example.com\r\n{post}")).await;
        assert_eq!(client.response().await.status, 200, "{post:?}");
        assert!(rig.upstream.last().body.starts_with(b"GET /status?\"#<> HTTP/1.1\r\n"), "{post:?}");
        let (first, second) = json.split_at(20);
        client.send(format!("GET {first}")).await;
        client.send(format!("{second} HTTP/1.1\r\nHost: api.example.com\r\n\r\n")).await;
        assert_eq!(client.response().await.status, 200, "after {post:?}");
        assert_eq!(rig.upstream.last().target, json, "after {post:?}");
    }
    let refused = rig.gateway.call("DELETE", "/status#part").send().await;
    assert_eq!(refused.status, 400);
    let entry = rig
        .gateway
        .wait_for_log(|entry| entry["cause"].as_str().is_some_and(|cause| cause.contains('#')))
        .await;
    assert_eq!((&entry["status"], &entry["reason"]), (&400.into(), &"request_invalid".into()));
}

#[tokio::test]
async fn request_without_body_says_so_where_servers_ask() {
    let rig = Rig::start().await;
    for (method, length) in
        [("POST", Some("0")), ("PUT", Some("0")), ("PATCH", Some("0")), ("DELETE", None), ("GET", None)]
    {
        assert_eq!(rig.gateway.call(method, "/status").send().await.status, 200, "{method}");
        assert_eq!(rig.upstream.last().header("content-length"), length, "{method}");
    }
}

#[tokio::test]
async fn names_that_end_in_dots_or_are_not_utf8_pass_by_opt_in() {
    let allowed = "allow_path: [trailing_dot, trailing_space, non_utf8]";
    let policy = |allowed: &str| {
        format!(
            "
- {{ id: any, match: {{ host: api.example.com, path: '/{{*rest}}', {allowed} }}, public: true, upstream: orders }}
- id: admin
  match: {{ host: api.example.com, path: '/admin/{{*rest}}', {allowed} }}
  require: {{ issuers: [corp], audience: https://api.example.com, scopes: [admin] }}
  upstream: orders
- id: cafe
  match: {{ host: api.example.com, path: '/caf%C3%A9', {allowed} }}
  require: {{ issuers: [corp], audience: https://api.example.com, scopes: [admin] }}
  upstream: orders
- id: tenants
  match: {{ host: api.example.com, path: '/tenants/{{tenant}}', {allowed} }}
  require: {{ issuers: [corp], audience: https://api.example.com, scopes: [orders:read], tenant: {{ from: path.tenant }} }}
  upstream: orders
"
        )
    };
    let paths = ["/zones/example.org.", "/customers/Acme%20Inc.", "/files/old%20/a.txt", "/x/%E9t%E9?q=%E9."];
    let strict = Rig::routes(&policy("")).await;
    for path in paths {
        assert_eq!(strict.gateway.get(path).send().await.verdict(), "400 path_ambiguous", "{path}");
    }
    assert!(strict.upstream.requests().is_empty());

    let rig = Rig::routes(&policy(allowed)).await;
    for path in paths {
        assert_eq!(rig.gateway.get(path).send().await.verdict(), "200 -", "{path}");
        assert_eq!(rig.upstream.last().target, path);
    }
    rig.upstream.forget();
    for path in [
        "/admin./x",
        "/admin%20/x",
        "/ADMIN.%20./x",
        "/adm%FFin/x",
        "/caf%E9",
        "/CAF%C9",
        "/caf%C3%A9.",
        "/%FF./x",
        "/%C0%AE%C0%AE/admin/x",
        "/x/...",
        "/x/%20",
    ] {
        assert_eq!(rig.gateway.get(path).send().await.verdict(), "400 path_ambiguous", "{path}");
    }
    let token = rig.issuer.token().claim("tenant", "acm\u{FFFD}").mint();
    let response = rig.gateway.get("/tenants/acm%E9").token(&token).send().await;
    assert_eq!(response.verdict(), "403 tenant_mismatch", "what is not UTF-8 equals nothing");
    assert!(rig.upstream.requests().is_empty(), "{:?}", rig.upstream.requests());
}

#[tokio::test]
async fn fields_with_confusable_names_pass_by_opt_in_and_are_told_of() {
    let routes = "
- id: legacy
  match: { host: api.example.com, path: '/legacy/{*rest}' }
  public: true
  upstream: orders
  forward: { allow_headers: [X_FOO, api_key] }
- { id: status, match: { host: api.example.com, path: /status }, public: true, upstream: orders }
";
    let rig = Rig::routes(routes).await;
    let call = |path: &str| {
        let call = rig.gateway.get(path).header("X_Foo", "1").header("x_foo", "2").header("API_KEY", "k");
        call.header("X_User", "root").header("x.bar", "3").header("X-Foo", "4")
    };
    assert_eq!(call("/legacy/a").send().await.verdict(), "200 -");
    let seen = rig.upstream.last();
    assert_eq!(seen.fields.all("x_foo"), ["1", "2"]);
    assert_eq!((seen.header("api_key"), seen.header("x-foo")), (Some("k"), Some("4")));
    assert!(!seen.fields.has("x_user") && !seen.fields.has("x.bar"), "{seen:?}");
    let line = rig.gateway.wait_for_log(|line| line["path"] == "/legacy/a").await;
    let names = line["removed_headers"].as_str().unwrap();
    assert_eq!(
        {
            let mut names: Vec<_> = names.split(", ").collect();
            names.sort_unstable();
            names
        },
        ["x.bar", "x_user"]
    );

    assert_eq!(call("/status").send().await.verdict(), "200 -");
    assert!(rig.upstream.last().fields.names().all(|name| !name.contains(['_', '.'])));
    for (route, count) in [("legacy", 2.0), ("status", 5.0)] {
        let label = format!("route=\"{route}\"");
        assert_eq!(rig.gateway.metric("scopegate_removed_headers_total", &[&label]).await, count, "{route}");
    }

    let mut many = rig.gateway.get("/status");
    for i in 10..30 {
        many = many.header(&format!("x_{i}"), "1");
    }
    assert_eq!(many.header("X-Last", "1").send().await.verdict(), "200 -");
    assert_eq!(rig.upstream.last().header("x-last"), Some("1"));
    let line = rig
        .gateway
        .wait_for_log(|line| line["removed_headers"].as_str().is_some_and(|names| names.ends_with(", …")))
        .await;
    assert_eq!(line["removed_headers"].as_str().unwrap().split(", ").count(), 9, "{line}");

    let connection = rig.gateway.get("/legacy/b").header("X_FOO", "1").header("Connection", "x_foo");
    assert_eq!(connection.send().await.verdict(), "200 -");
    assert!(!rig.upstream.last().fields.has("x_foo"), "what Connection names does not go on");
    let quiet = rig.gateway.wait_for_log(|line| line["path"] == "/legacy/b").await;
    assert!(quiet.get("removed_headers").is_none(), "{quiet}");
}

#[tokio::test]
async fn a_web_socket_that_does_not_come_about_has_its_cause() {
    let rig = Rig::routes(
        "\n- { id: plain, match: { host: api.example.com, path: /plain }, public: true, upstream: orders }\n\
         - { id: socket, match: { host: api.example.com, path: /socket }, public: true, upstream: orders, forward: { websocket: true } }\n",
    )
    .await;
    let handshake = |path: &str| rig.gateway.get(path).upgrade();
    let gateway = &rig.gateway;
    let cause = |id: String| async move {
        let entry = gateway.wait_for_log(|entry| entry["request_id"] == id.as_str()).await;
        entry["cause"].as_str().map(str::to_owned)
    };
    let sent = |call: support::Call| async move {
        let response = call.send().await;
        assert_eq!(response.status, 200);
        cause(response.header("x-request-id").unwrap().to_owned()).await
    };
    for (call, wanted) in [
        (handshake("/plain"), Some("set `forward.websocket: true`")),
        (handshake("/socket"), Some("the upstream answered the WebSocket handshake with 200 instead of 101")),
        (handshake("/socket").header("Sec-WebSocket-Version", "13"), Some("handshake is not valid")),
        (
            rig.gateway.get("/plain").header("Connection", "upgrade").header("Upgrade", "websocket, h2c"),
            Some("handshake is not valid"),
        ),
        (rig.gateway.get("/plain").header("Connection", "upgrade").header("Upgrade", "h2c"), None),
        (rig.gateway.get("/plain"), None),
    ] {
        let what = format!("{call:?}");
        let found = sent(call).await;
        match wanted {
            Some(wanted) => {
                assert!(found.as_ref().is_some_and(|found| found.contains(wanted)), "{what}: {found:?}")
            }
            None => assert_eq!(found, None, "{what}"),
        }
    }
    rig.upstream.answers(|_| Reply::Upgrade);
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(handshake("/socket").bytes()).await;
    let head = client.until("\r\n\r\n").await.to_ascii_lowercase();
    client.finish().await;
    assert!(client.closes().await);
    let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_ascii_uppercase();
    assert_eq!(cause(id).await, None);
    // A 101 for another protocol is told apart from one that nobody asked for.
    rig.upstream
        .answers(|_| Reply::Bytes("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".into()));
    let response = handshake("/socket").send().await;
    assert_eq!(response.verdict(), "502 upstream_invalid");
    let id = response.header("x-request-id").unwrap().to_owned();
    assert_eq!(cause(id).await.as_deref(), Some("101 without one `Upgrade: websocket`"));
}
