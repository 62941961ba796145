//! Input that no client would send: it may be refused in any way, but nothing panics, hangs, leaks or grows.
#![cfg(test)]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{Alg, Client, Policy, Rig, eventually, process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Numbers that look random and are the same each time (xorshift), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.roll(most)).map(|_| u8::try_from(self.roll(256)).unwrap()).collect()
    }

    /// A few bytes changed, inserted, removed or repeated.
    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.roll(6) {
            if bytes.is_empty() {
                bytes.push(b'x');
            }
            let at = self.roll(bytes.len());
            let odd = [0, b'\r', b'\n', b' ', b':', b'/', b'%', b'.', 0x7f, 0xff, b'\t', b';', b','];
            match self.roll(5) {
                0 => bytes[at] = odd[self.roll(odd.len())],
                1 => bytes.insert(at, odd[self.roll(odd.len())]),
                2 => drop(bytes.remove(at)),
                3 => bytes.truncate(at.max(1)),
                _ => {
                    let part = bytes[at..(at + self.roll(40)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        bytes
    }
}

async fn rig() -> Rig {
    Rig::with(
        Policy::default().gateway("timeouts: { header: 2s, idle: 2s, body_idle: 1s, upstream_response: 2s }"),
    )
    .await
}

/// Sends bytes and waits until the gateway has had its say; the connection must end by itself.
async fn throw(rig: &Rig, bytes: &[u8]) {
    let mut stream = TcpStream::connect(rig.gateway.address()).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "still open after {:?}", String::from_utf8_lossy(bytes));
}

async fn unharmed(rig: &Rig) {
    rig.upstream.answers(|_| support::ok("hello"));
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    assert_eq!(rig.gateway.metric("scopegate_panics_total", &[]).await, 0.0);
    eventually("nothing is left under way", || async {
        (rig.gateway.metric("scopegate_in_flight_requests", &[]).await == 0.0).then_some(())
    })
    .await;
}

/// Requests that are right, to begin with.
fn seeds(rig: &Rig) -> Vec<Vec<u8>> {
    vec![
        rig.get("/orders/1?q=%20").bytes(),
        rig.gateway.call("POST", "/orders/1").token(&rig.token()).body("order").bytes(),
        b"POST /status HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n".to_vec(),
        b"OPTIONS /orders/1 HTTP/1.1\r\nHost: api.example.com\r\nOrigin: https://a\r\nAccess-Control-Request-Method: GET\r\n\r\n".to_vec(),
        b"GET /.well-known/oauth-protected-resource HTTP/1.1\r\nHost: [::1]:80\r\nForwarded: for=\"[::1]\"\r\n\r\n".to_vec(),
        rig.get("/orders/1").upgrade().bytes(),
    ]
}

#[tokio::test]
async fn mutated_requests_harm_nobody() {
    let rig = rig().await;
    let (seeds, mut dice) = (seeds(&rig), Dice(0x5c09_e6a7_e000_0001));
    for n in 0..600 {
        let bytes = dice.mutate(&seeds[n % seeds.len()]);
        throw(&rig, &bytes).await;
    }
    unharmed(&rig).await;
}

#[tokio::test]
async fn random_bytes_harm_nobody() {
    let rig = rig().await;
    let mut dice = Dice(0x5c09_e6a7_e000_0002);
    for _ in 0..200 {
        throw(&rig, &dice.bytes(2000)).await;
    }
    unharmed(&rig).await;
}

#[tokio::test]
async fn random_http2_frames_harm_nobody() {
    let rig = rig().await;
    let mut dice = Dice(0x5c09_e6a7_e000_0003);
    let headers = b"\x82\x86\x84\x41\x0fapi.example.com";
    for n in 0..300 {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        for _ in 0..=dice.roll(8) {
            let mut payload = dice.bytes(64);
            let mut kind = u8::try_from(dice.roll(12)).unwrap();
            if n % 3 == 0 {
                (kind, payload) = (1, dice.mutate(headers));
            }
            let length = u8::try_from(payload.len()).unwrap();
            let flags = [0, 1, 4, 5, 8, 0x20, 0xff][dice.roll(7)];
            let stream = u8::try_from(dice.roll(8)).unwrap();
            bytes.extend([0, 0, length, kind, flags, 0, 0, 0, stream]);
            bytes.extend(payload);
        }
        throw(&rig, &bytes).await;
    }
    unharmed(&rig).await;
}

#[tokio::test]
async fn random_tokens_are_refused_and_never_printed() {
    let rig = rig().await;
    let (good, mut dice) = (rig.issuer.token().alg(Alg::Es256).mint(), Dice(0x5c09_e6a7_e000_0004));
    let mut client = Client::connect(rig.gateway.address()).await;
    for _ in 0..300 {
        let token: String = String::from_utf8_lossy(&dice.mutate(good.as_bytes()))
            .chars()
            .filter(|c| c.is_ascii_graphic() && *c != ',')
            .collect();
        if token == good {
            continue;
        }
        let response = rig.gateway.get("/orders/1").token(&token).on(&mut client).await.unwrap();
        assert!([400, 401].contains(&response.status), "{token}: {response:?}");
    }
    assert_eq!(rig.upstream.requests().len(), 0);
    unharmed(&rig).await;
}

#[tokio::test]
async fn hostile_input_adds_no_series() {
    let rig = rig().await;
    let series = || async {
        let metrics = rig.gateway.metrics().await;
        metrics
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let barrage = |name: String| {
        let rig = &rig;
        async move {
            let kid = rig.issuer.token().header("kid", name.clone());
            let iss = rig.issuer.token().claim("iss", format!("https://{name}.example.com"));
            let client = rig
                .issuer
                .token()
                .claim("client_id", name.clone())
                .claim("sub", name.clone())
                .claim("jti", name.clone());
            for token in [kid, iss, client.clone(), client.scope(&name)] {
                rig.gateway.get(&format!("/orders/{name}")).token(&token.mint()).send().await;
            }
            rig.gateway
                .call(&name.to_uppercase(), &format!("/{name}"))
                .host(&format!("{name}.example.com"))
                .send()
                .await;
            rig.gateway
                .call(&name.to_uppercase(), &format!("/orders/{name}"))
                .header("X-Request-Id", &name)
                .send()
                .await;
            let url = format!("http://{}/{name}", rig.gateway.address());
            process::curl(["--http2-prior-knowledge", "-X", &name, "-H", &format!("host: {name}"), &url])
                .await;
        }
    };
    barrage("first".into()).await;
    throw(&rig, b"nonsense\r\n\r\n").await;
    let before = series().await;
    for n in 0..20 {
        barrage(format!("n{n}")).await;
        throw(&rig, format!("nonsense{n} / HTTP/1.{n}\r\n\r\n").as_bytes()).await;
    }
    let after = series().await;
    // Another combination of the known labels may come late; 160 names of clients may not.
    assert!(after.len() <= before.len() + 6, "new: {:?}", after.difference(&before).collect::<Vec<_>>());
    assert!(!after.iter().any(|name| name.contains("n1")), "a name of a client: {after:?}");
}

#[tokio::test]
async fn the_log_stays_json_and_keeps_secrets_whatever_is_asked_for() {
    let rig = rig().await;
    let token = rig.token();
    let paths = [
        "/orders/\"quoted\"",
        "/orders/%22%0a%00\\x",
        "/orders/{}[]",
        "/orders/%F0%9F%92%A9",
        "/orders/%ff%fe",
        "/orders/1?access_token=secret-query&code=secret-query",
        "/orders/1#secret-query",
        "/orders/'<script>",
    ];
    for path in paths {
        let call = rig
            .gateway
            .get(path)
            .token(&token)
            .header("User-Agent", "\"},{\"status\":200")
            .header("X-Request-Id", "\"}");
        call.header("Cookie", "session=secret-query").try_send().await;
    }
    throw(&rig, b"GET /orders/\xff\xfe\"\\ HTTP/1.1\r\nHost: a\"b\\\r\n\r\n").await;
    throw(&rig, b"GET /orders/1 HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n").await;
    // Those of the two raw requests too.
    let wanted = paths.len() + 2;
    let written = || rig.gateway.output().lines().filter(|line| line.starts_with('{')).count();
    eventually("every line is there", || async { (written() >= wanted).then_some(()) }).await;
    assert!(rig.gateway.log().iter().any(|entry| entry["path"] == "/orders/\"quoted\""));
    let output = rig.gateway.output();
    let signature = token.rsplit('.').next().unwrap();
    assert!(!output.contains("secret-query") && !output.contains(signature), "{output}");
    for line in output.lines().filter(|line| line.starts_with('{')) {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let object = entry.as_object().unwrap();
        for field in ["time", "request_id", "address", "method", "path", "status", "duration_ms"] {
            assert!(object.contains_key(field), "{field} is missing: {line}");
        }
    }
}

#[tokio::test]
async fn http2_requests_that_break_its_rules_are_refused() {
    let rig = rig().await;
    let url = format!("http://{}/status", rig.gateway.address());
    let ask = |fields: &[&'static str]| {
        let own = ["-H:authority: api.example.com", "-v", "--timeout=5"].map(str::to_owned);
        let args: Vec<_> = own
            .into_iter()
            .chain(fields.iter().map(|&field| field.to_owned()))
            .chain([url.clone()])
            .collect();
        async { process::nghttp(args).await.stdout }
    };
    assert!(ask(&[]).await.contains(":status: 200"), "without a fault it is a good request");
    for (what, fields) in [
        ("two hosts", vec!["-Hhost: other.example.com"]),
        ("a field of one connection", vec!["-Hconnection: keep-alive"]),
        ("an upgrade", vec!["-Hupgrade: websocket"]),
        ("a coding of HTTP/1", vec!["-Htransfer-encoding: chunked"]),
        ("another te", vec!["-Hte: gzip"]),
        ("no method", vec!["-H:method: "]),
        ("a target without a slash", vec!["-H:path: status"]),
        ("an empty target", vec!["-H:path: "]),
        ("the method CONNECT", vec!["-H:method: CONNECT"]),
    ] {
        let output = ask(&fields).await;
        let status = output.lines().find_map(|line| line.split(":status: ").nth(1)).unwrap_or("none");
        assert!(!status.starts_with('2'), "{what}: {status}\n{output}");
        assert_eq!(rig.upstream.requests().len(), 1, "{what}");
    }
    unharmed(&rig).await;
}
