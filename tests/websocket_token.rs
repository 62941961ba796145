//! A browser's WebSocket on a protected route: its token stands among the subprotocols, and reaches no API.
#![cfg(test)]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use support::{Call, Client, Gateway, Policy, Reply, Rig, TestIssuer, eventually, has_keys, soon};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, ClientRequestBuilder, Message};

const ROUTES: &str = "
- id: socket
  match: { host: api.example.com, path: '/socket/{*rest}' }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
  forward: { websocket: { token_subprotocol: bearer }, identity_headers: { X-User: sub } }
- id: handed-on
  match: { host: api.example.com, path: '/handed-on/{*rest}' }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
  forward: { websocket: { token_subprotocol: bearer }, forward_token: true }
- id: plain
  match: { host: api.example.com, path: '/plain/{*rest}' }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
  forward: { websocket: true }
";

/// A handshake with these lines of subprotocols.
fn handshake(gateway: &Gateway, path: &str, lines: &[&str]) -> Call {
    lines.iter().fold(gateway.get(path).upgrade(), |call, line| call.header("Sec-WebSocket-Protocol", line))
}

/// Sends it, and reads the head of the response.
async fn answer(call: &Call) -> (u16, String) {
    let mut client = Client::connect(call.address()).await;
    client.send(call.bytes()).await;
    let head = client.until("\r\n\r\n").await;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    (status, head.to_ascii_lowercase())
}

/// The subprotocol in the head of a response.
fn chosen(head: &str) -> Option<&str> {
    head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "))
}

#[tokio::test]
async fn announced_tokens_are_taken_out_of_the_list() {
    let rig = Rig::routes(ROUTES).await;
    let token = rig.token();
    rig.upstream.answers(|_| Reply::Upgrade);
    let lines =
        |lines: &[&str]| -> Vec<String> { lines.iter().map(|line| line.replace("TOKEN", &token)).collect() };
    for (offered, forwarded, answered) in [
        (lines(&["bearer, TOKEN"]), None, Some("bearer")),
        (lines(&["bearer,TOKEN,chat"]), Some("chat"), None),
        (lines(&["chat, bearer, TOKEN, superchat"]), Some("chat, superchat"), None),
        (lines(&["\tbearer , TOKEN\t,chat "]), Some("chat"), None),
        (lines(&["chat", "bearer, TOKEN"]), Some("chat"), None),
        (lines(&["bearer", "TOKEN"]), None, Some("bearer")),
        (lines(&["v2.chat.example, bearer, TOKEN"]), Some("v2.chat.example"), None),
    ] {
        let offered: Vec<_> = offered.iter().map(String::as_str).collect();
        let (status, head) = answer(&handshake(&rig.gateway, "/socket/1", &offered)).await;
        assert_eq!((status, chosen(&head)), (101, answered), "{offered:?}: {head}");
        let request = rig.upstream.last();
        assert_eq!(request.fields.all("sec-websocket-protocol"), Vec::from_iter(forwarded), "{offered:?}");
        assert_eq!(request.header("x-user"), Some("alice"));
        assert_eq!(request.header("authorization"), None);
    }
    // A list without a token is the application's own.
    let call = handshake(&rig.gateway, "/socket/1", &["chat,  superchat", "x"]).token(&token);
    assert_eq!(answer(&call).await.0, 101);
    assert_eq!(rig.upstream.last().fields.all("sec-websocket-protocol"), ["chat,  superchat", "x"]);
    assert_hidden(&rig, &token).await;
}

/// Neither the upstream nor the log has the token.
async fn assert_hidden(rig: &Rig, token: &str) {
    let bytes = rig.upstream.bytes().concat();
    assert!(!String::from_utf8_lossy(&bytes).contains(token), "the token reached the API");
    let last = rig.gateway.get("/nowhere").send().await;
    let id = last.header("x-request-id").unwrap().to_owned();
    rig.gateway.wait_for_log(|line| line["request_id"] == *id).await;
    let signature = token.rsplit('.').next().unwrap();
    assert!(!rig.gateway.output().contains(signature), "a part of the token is in the log");
}

#[tokio::test]
async fn doubtful_lists_reach_no_api() {
    let rig = Rig::routes(ROUTES).await;
    rig.upstream.answers(|_| Reply::Upgrade);
    let token = rig.token();
    let other = rig.issuer.token().claim("sub", "bob").mint();
    let (bearer, long) = (format!("bearer, {token}"), "a".repeat(17 << 10));
    for (lines, verdict) in [
        (&[][..], "401 credential_missing"),
        (&["chat"], "401 credential_missing"),
        (&["bearer"], "401 token_malformed"),
        (&["bearer,"], "401 token_malformed"),
        (&["bearer, "], "401 token_malformed"),
        (&["bearer, x"], "401 token_opaque"),
        (&[&token], "401 token_malformed"),
        (&[&format!("{token}, bearer")], "401 token_malformed"),
        (&[&format!("chat, {token}")], "401 token_malformed"),
        (&[&format!("Bearer, {token}")], "401 token_malformed"),
        (&[&format!("bearer {token}")], "401 token_malformed"),
        (&[&format!("token={token}")], "401 token_malformed"),
        (&[&format!("bearer; {token}, {token}")], "401 token_malformed"),
        (&[&format!("bearer,, {token}")], "401 token_malformed"),
        (&[&format!("{bearer},")], "401 token_malformed"),
        (&[&bearer, ""], "401 token_malformed"),
        (&["", &bearer], "401 token_malformed"),
        (&[&format!("{bearer}, a b")], "401 token_malformed"),
        (&[&format!("bearer, \"{token}\"")], "401 token_malformed"),
        (&[&format!("{bearer}\u{e9}")], "401 token_malformed"),
        (&[&format!("{bearer}=")], "401 token_malformed"),
        (&[&format!("{bearer}x")], "401 token_malformed"),
        (&[&format!("bearer, {long}")], "401 token_malformed"),
        (&[&format!("{bearer}, {token}")], "400 credential_ambiguous"),
        (&[&format!("{bearer}, {other}")], "400 credential_ambiguous"),
        (&[&format!("{other}, {bearer}")], "400 credential_ambiguous"),
        (&[&format!("{bearer}, {bearer}")], "400 credential_ambiguous"),
        (&[&bearer, &bearer], "400 credential_ambiguous"),
        (&[&bearer, &format!("bearer, {other}")], "400 credential_ambiguous"),
        (&[&format!("bearer, {bearer}")], "400 credential_ambiguous"),
    ] as [(&[&str], &str); 30]
    {
        let call = handshake(&rig.gateway, "/socket/1", lines);
        assert_eq!(call.send().await.verdict(), verdict, "{lines:?}");
    }
    for (what, call, verdict) in [
        (
            "Authorization beside it",
            handshake(&rig.gateway, "/socket/1", &[&bearer]).token(&token),
            "400 credential_ambiguous",
        ),
        (
            "Authorization of another scheme",
            handshake(&rig.gateway, "/socket/1", &[&bearer]).header("Authorization", "Basic YTpi"),
            "400 credential_ambiguous",
        ),
        (
            "Authorization beside a list that hides a token",
            handshake(&rig.gateway, "/socket/1", &[&format!("bearer {token}")]).token(&token),
            "400 credential_ambiguous",
        ),
        ("a route without it", handshake(&rig.gateway, "/plain/1", &[&bearer]), "401 credential_missing"),
        (
            "no handshake",
            rig.gateway.get("/socket/1").header("Sec-WebSocket-Protocol", &bearer),
            "401 credential_missing",
        ),
        (
            "another method",
            rig.gateway.call("POST", "/socket/1").upgrade().header("Sec-WebSocket-Protocol", &bearer),
            "401 credential_missing",
        ),
        (
            "another protocol",
            rig.gateway
                .get("/socket/1")
                .header("Connection", "upgrade")
                .header("Upgrade", "h2c")
                .header("Sec-WebSocket-Protocol", &bearer),
            "401 credential_missing",
        ),
        (
            "the query",
            handshake(&rig.gateway, &format!("/socket/1?access_token={token}&bearer={token}"), &[]),
            "401 credential_missing",
        ),
        (
            "`_` for `-`",
            rig.gateway.get("/socket/1").upgrade().header("Sec_WebSocket_Protocol", &bearer),
            "401 credential_missing",
        ),
        (
            "a token without the scope",
            handshake(
                &rig.gateway,
                "/socket/1",
                &[&format!("bearer, {}", rig.issuer.token().scope("x").mint())],
            ),
            "403 scope_missing",
        ),
    ] {
        assert_eq!(call.send().await.verdict(), verdict, "{what}");
    }
    assert_eq!(rig.upstream.requests().len(), 0, "nothing may reach the upstream");
    assert_hidden(&rig, &token).await;
}

#[tokio::test]
async fn other_requests_keep_nothing_of_the_list() {
    let rig = Rig::routes(ROUTES).await;
    let token = rig.token();
    let bearer = format!("bearer, {token}, chat");
    let good = || rig.gateway.get("/socket/1").token(&token);
    for (what, call) in [
        ("no handshake", good().header("Sec-WebSocket-Protocol", &bearer)),
        ("no handshake, and a list of its own", good().header("Sec-WebSocket-Protocol", "chat")),
        (
            "no version",
            good()
                .header("Connection", "upgrade")
                .header("Upgrade", "websocket")
                .header("Sec-WebSocket-Protocol", &bearer),
        ),
    ] {
        assert_eq!(call.send().await.verdict(), "200 -", "{what}");
        assert_eq!(rig.upstream.last().header("sec-websocket-protocol"), None, "{what}");
    }
    // Nor is anything of it a trailer.
    let mut client = Client::connect(rig.gateway.address()).await;
    client
        .send(format!(
            "POST /socket/1 HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {token}\r\n\
            Transfer-Encoding: chunked\r\nTrailer: Sec-WebSocket-Protocol, X-Sum\r\n\r\n\
            0\r\nSec-WebSocket-Protocol: {bearer}\r\nX-Sum: 1\r\n\r\n"
        ))
        .await;
    assert_eq!(client.response_to("POST").await.unwrap().status, 200);
    rig.upstream.wait("the trailers", |upstream| upstream.last().complete).await;
    assert_eq!(rig.upstream.last().trailers.names().collect::<Vec<_>>(), ["X-Sum"]);
    // `Connection` takes the field away as a whole.
    rig.upstream.answers(|_| Reply::Upgrade);
    let call =
        handshake(&rig.gateway, "/socket/1", &[&bearer]).header("Connection", "sec-websocket-protocol");
    assert_eq!(answer(&call).await.0, 101);
    assert_eq!(rig.upstream.last().header("sec-websocket-protocol"), None);
    rig.upstream.answers(|_| Reply::with(200, "", "hello"));
    // HTTP/1.0 knows no upgrade.
    let call = handshake(&rig.gateway, "/socket/1", &[&bearer]).bytes();
    let call = String::from_utf8(call).unwrap().replace("HTTP/1.1", "HTTP/1.0");
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(call).await;
    assert!(client.until("\r\n").await.starts_with("HTTP/1.0 401 "));
    let url = format!("http://{}/socket/1", rig.gateway.address());
    let field = format!("-Hsec-websocket-protocol: {bearer}");
    for (more, status) in [(None, "401"), (Some(format!("-Hauthorization: Bearer {token}")), "200")] {
        let mut args = vec!["-v", "-H:authority: api.example.com", &field];
        args.extend(more.as_deref());
        args.push(&url);
        let output = support::process::nghttp(args).await.stdout;
        assert!(output.contains(&format!(":status: {status}")), "{output}");
    }
    assert_eq!(rig.upstream.last().header("sec-websocket-protocol"), None);
    assert!(!String::from_utf8_lossy(&rig.upstream.bytes().concat()).contains(&token));
}

#[tokio::test]
async fn the_upstreams_choice_is_answered() {
    let rig = Rig::routes(ROUTES).await;
    let token = rig.token();
    let switch = |fields: &str| {
        let head = format!("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{fields}\r\n");
        rig.upstream.answers(move |_| Reply::Bytes(head.clone().into_bytes()));
    };
    for (offered, of_upstream, answered) in [
        ("bearer, TOKEN", "", Some("bearer")),
        ("bearer, TOKEN", "Sec-WebSocket-Protocol: bearer\r\n", Some("bearer")),
        ("bearer, TOKEN", "Sec-WebSocket-Protocol: unasked\r\nSec-WebSocket-Protocol: x\r\n", Some("bearer")),
        ("bearer, TOKEN, chat", "Sec-WebSocket-Protocol: chat\r\n", Some("chat")),
        ("bearer, TOKEN, chat", "", None),
    ] {
        switch(of_upstream);
        let offered = offered.replace("TOKEN", &token);
        let (status, head) = answer(&handshake(&rig.gateway, "/socket/1", &[&offered])).await;
        assert_eq!((status, chosen(&head)), (101, answered), "{offered} {of_upstream:?}");
        assert_eq!(head.matches("sec-websocket-protocol").count(), answered.iter().len(), "{head}");
        assert!(!head.contains("cache-control"), "{head}");
    }
    // A response that is no 101 is not for shared caches, which know nothing of this credential.
    rig.upstream.answers(|_| Reply::with(200, "Cache-Control: max-age=9\r\n", "no socket"));
    let response = handshake(&rig.gateway, "/socket/1", &[&format!("bearer, {token}")]).send().await;
    assert_eq!(response.fields.all("cache-control"), ["max-age=9", "private"]);
    assert_eq!(response.header("sec-websocket-protocol"), None);
    let response = rig.gateway.get("/socket/1").token(&token).send().await;
    assert_eq!(response.fields.all("cache-control"), ["max-age=9"]);
}

#[tokio::test]
async fn forward_token_hands_it_on_as_a_bearer_token() {
    let rig = Rig::routes(ROUTES).await;
    rig.upstream.answers(|_| Reply::Upgrade);
    let token = rig.token();
    let call = handshake(&rig.gateway, "/handed-on/1", &[&format!("bearer, {token}, chat")]);
    assert_eq!(answer(&call).await.0, 101);
    let request = rig.upstream.last();
    assert_eq!(request.fields.all("authorization"), [format!("Bearer {token}")]);
    assert_eq!(request.fields.all("sec-websocket-protocol"), ["chat"]);
}

#[tokio::test]
async fn the_socket_ends_with_its_token() {
    let policy = Policy::default().routes(ROUTES).issuer("leeway: 0s");
    let rig = Rig::with(policy).await;
    rig.upstream.answers(|_| Reply::Upgrade);
    let token = rig.issuer.token().times(-10, 3).mint();
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(handshake(&rig.gateway, "/socket/1", &[&format!("bearer, {token}")]).bytes()).await;
    client.until("\r\n\r\n").await;
    client.send("ping").await;
    assert_eq!(client.until("ping").await, "ping");
    assert!(client.closes().await);
}

/// A WebSocket server that speaks `chat` and sends messages back; it notes what clients offer.
async fn chat_server() -> (SocketAddr, Arc<Mutex<Vec<Option<String>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let offers = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&offers);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(chat(stream, Arc::clone(&noted)));
        }
    });
    (address, offers)
}

async fn chat(stream: TcpStream, offers: Arc<Mutex<Vec<Option<String>>>>) {
    #[expect(clippy::result_large_err, reason = "the library's own type")]
    let choose = |request: &Request, mut response: Response| {
        let offered = request.headers().get("sec-websocket-protocol");
        let offered = offered.map(|offered| offered.to_str().unwrap().to_owned());
        if offered.as_ref().is_some_and(|offered| offered.split(", ").any(|one| one == "chat")) {
            response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
        }
        offers.lock().unwrap().push(offered);
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, choose).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() && socket.send(message).await.is_err() {
            break;
        }
    }
}

/// A gateway in front of a WebSocket server.
async fn in_front_of(server: SocketAddr) -> (Gateway, TestIssuer) {
    let issuer = TestIssuer::start().await;
    let routes = ROUTES.replace("host: api.example.com, ", "");
    let policy = Policy::default().routes(&routes).render(issuer.url(), &format!("http://{server}"));
    let gateway = Gateway::start(&policy).await;
    has_keys(&gateway).await;
    (gateway, issuer)
}

#[tokio::test]
async fn a_websocket_library_agrees() {
    let (server, offers) = chat_server().await;
    let (gateway, issuer) = in_front_of(server).await;
    let token = issuer.token().mint();
    let open =
        async |protocols: &[&str]| -> tungstenite::Result<(WebSocketStream<TcpStream>, Option<String>)> {
            let uri = format!("ws://{}/socket/1", gateway.address()).parse().unwrap();
            let request = protocols
                .iter()
                .fold(ClientRequestBuilder::new(uri), |request, one| request.with_sub_protocol(*one));
            let stream = TcpStream::connect(gateway.address()).await?;
            let (socket, response) = tokio_tungstenite::client_async(request, stream).await?;
            let chosen = response.headers().get("sec-websocket-protocol");
            Ok((socket, chosen.map(|chosen| chosen.to_str().unwrap().to_owned())))
        };
    for (protocols, expected) in [
        (&["bearer", &token][..], "bearer"),
        (&["bearer", &token, "chat"], "chat"),
        (&["chat", "bearer", &token], "chat"),
    ] {
        let (mut socket, chosen) = soon("a WebSocket", open(protocols)).await.unwrap();
        assert_eq!(chosen.as_deref(), Some(expected));
        socket.send(Message::text("hello")).await.unwrap();
        let echoed = soon("an echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(echoed.into_text().unwrap(), "hello");
    }
    assert_eq!(*offers.lock().unwrap(), [None, Some("chat".to_owned()), Some("chat".to_owned())]);
    let Err(tungstenite::Error::Http(refused)) = open(&["bearer", "x.y.z"]).await else {
        panic!("a bad token opened a socket");
    };
    assert_eq!(refused.status(), 401);
}

#[tokio::test]
async fn a_browsers_websocket_agrees() {
    // Node.js has the WebSocket of browsers: it demands one of the subprotocols that it offered.
    const SCRIPT: &str = "
        const [url, ...protocols] = process.argv.slice(1);
        const socket = new WebSocket(url, protocols);
        socket.onopen = () => socket.send('hello');
        socket.onmessage = ({ data }) => { console.log(`${socket.protocol} ${data}`); socket.close(); };
        socket.onerror = () => { console.log('refused'); process.exit(0); };
    ";
    let (server, offers) = chat_server().await;
    let (gateway, issuer) = in_front_of(server).await;
    let token = issuer.token().mint();
    let url = format!("ws://{}/socket/1", gateway.address());
    for (protocols, printed) in [
        (&["bearer", &token][..], "bearer hello"),
        (&["bearer", &token, "chat"], "chat hello"),
        (&["bearer", "x.y.z"], "refused"),
        (&["chat"], "refused"),
    ] {
        let args = ["--experimental-websocket", "--no-warnings", "-e", SCRIPT, "--", &url];
        let output = support::process::run("node", args.iter().chain(protocols)).await;
        assert_eq!(output.stdout.trim(), printed, "{protocols:?}: {}", output.stderr);
    }
    assert_eq!(*offers.lock().unwrap(), [None, Some("chat".to_owned())]);
    let refused = |line: &serde_json::Value| line["reason"] == "credential_missing";
    eventually("the refusal is logged", || async { gateway.log().iter().any(refused).then_some(()) }).await;
}
