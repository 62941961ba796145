//! The head of an upstream's response on its way to the client.
#![cfg(test)]

mod support;

use support::{Client, Reply, Rig, ok, soon};

/// The head of the response to a GET of `/status` over HTTP/1.1, as it is on the wire.
async fn raw_head(rig: &Rig) -> String {
    let mut client = Client::connect(rig.gateway.address()).await;
    client.send(rig.gateway.get("/status").bytes()).await;
    client.until("\r\n\r\n").await
}

/// The response to a GET of `/status` over HTTP/2.
async fn over_http2(rig: &Rig) -> http::Response<h2::RecvStream> {
    let socket = tokio::net::TcpStream::connect(rig.gateway.address()).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let request = http::Request::get("http://api.example.com/status").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    soon("a response", response).await.unwrap()
}

#[tokio::test]
async fn status_line_is_that_of_the_upstream() {
    let rig = Rig::start().await;
    for (sent, wanted) in [
        ("HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\n"),
        ("HTTP/1.1 200", "HTTP/1.1 200 OK\r\n"),
        ("HTTP/1.1 403 Licence expired", "HTTP/1.1 403 Licence expired\r\n"),
        ("HTTP/1.0 403 Licence expired", "HTTP/1.1 403 Licence expired\r\n"),
        ("HTTP/1.1 999 Request denied", "HTTP/1.1 999 Request denied\r\n"),
        ("HTTP/1.1 999", "HTTP/1.1 999 \r\n"),
        ("HTTP/1.1 599 ", "HTTP/1.1 599 \r\n"),
    ] {
        let response = format!("{sent}\r\nContent-Length: 2\r\n\r\nhi");
        rig.upstream.answers(move |_| Reply::Bytes(response.clone().into()));
        let head = raw_head(&rig).await;
        assert!(head.starts_with(wanted), "{sent}: {head}");
    }
}

#[tokio::test]
async fn white_space_before_a_colon_is_removed() {
    let rig = Rig::start().await;
    for (fields, body) in [
        ("X-A : 1\r\nContent-Length: 2", "hi"),
        ("X-A\t: 1\r\nContent-Length : 2", "hi"),
        ("X-A : 1\r\nTransfer-Encoding : chunked", "2\r\nhi\r\n0\r\n\r\n"),
    ] {
        let response = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}");
        rig.upstream.answers(move |_| Reply::Bytes(response.clone().into()));
        let response = rig.get("/orders/1").send().await;
        assert_eq!((response.header("x-a"), response.text().as_str()), (Some("1"), "hi"), "{fields}");
    }
}

#[tokio::test]
async fn folded_field_is_named_in_the_log() {
    let rig = Rig::start().await;
    let folded = "HTTP/1.1 200 OK\r\nX-Note: one\r\n two\r\nContent-Length: 0\r\n\r\n";
    rig.upstream.answers(|_| Reply::Bytes(folded.into()));
    assert_eq!(rig.get("/orders/1").send().await.verdict(), "502 upstream_invalid");
    let entry = rig.gateway.wait_for_log(|entry| entry["reason"] == "upstream_invalid").await;
    let cause = entry["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("`x-note`") && cause.contains("folded"), "{cause}");
}

#[tokio::test]
async fn response_without_a_body_has_no_length() {
    let rig = Rig::start().await;
    for (status, length) in [("204 No Content", None), ("304 Not Modified", None), ("200 OK", Some("0"))] {
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        rig.upstream.answers(move |_| Reply::Bytes(response.clone().into()));
        let response = over_http2(&rig).await;
        assert_eq!(response.status().as_str(), &status[..3]);
        let found = response.headers().get("content-length").map(|value| value.to_str().unwrap());
        assert_eq!(found, length, "{status} over HTTP/2");
        assert_eq!(
            raw_head(&rig).await.to_lowercase().contains("content-length"),
            length.is_some(),
            "{status} over HTTP/1.1"
        );
    }
}

#[tokio::test]
async fn location_is_that_of_the_public_origin() {
    let routes = "
- { id: v1, match: { host: api.example.com, path: '/v1/{*rest}' }, public: true, upstream: orders, forward: { strip_prefix: /v1, rewrite_cookies: true } }
- { id: as-is, match: { host: api.example.com, path: '/as-is/{*rest}' }, public: true, upstream: orders, forward: { strip_prefix: /as-is, rewrite_location: false } }
- { id: elsewhere, match: { host: other.example.com, path: '/v1/{*rest}' }, public: true, upstream: orders, forward: { strip_prefix: /v1 } }
";
    // `hosts` names api.example.com only.
    let rig = Rig::routes(routes).await;
    let own = rig.upstream.url();
    rig.upstream.answers(move |request| {
        let location = request.header("x-location").unwrap_or_default();
        let cookie = "Set-Cookie: a=1; Domain=127.0.0.1; Path=/";
        Reply::with(201, &format!("Location: {location}\r\nContent-Location: {location}\r\n{cookie}\r\n"), "")
    });
    for (host, path, location, wanted, cookie) in [
        ("api.example.com", "/v1/x", "/orders/1", "https://api.example.com/v1/orders/1", "a=1; Path=/v1"),
        (
            "api.example.com",
            "/v1/x",
            &format!("{own}/orders/1"),
            "https://api.example.com/v1/orders/1",
            "a=1; Path=/v1",
        ),
        (
            "api.example.com",
            "/v1/x",
            "https://login.example.com/",
            "https://login.example.com/",
            "a=1; Path=/v1",
        ),
        ("api.example.com", "/as-is/x", "/orders/1", "/orders/1", "a=1; Domain=127.0.0.1; Path=/"),
        (
            "other.example.com",
            "/v1/x",
            &format!("{own}/orders/1"),
            "/v1/orders/1",
            "a=1; Domain=127.0.0.1; Path=/",
        ),
    ] {
        let call = rig.gateway.get(path).host(host).header("X-Location", location);
        let response = call.send().await;
        assert_eq!(response.status, 201, "{host}{path}");
        for name in ["location", "content-location"] {
            assert_eq!(response.header(name), Some(wanted), "{host}{path}: {name} {location}");
        }
        assert_eq!(response.header("set-cookie"), Some(cookie), "{host}{path}");
    }
    rig.upstream.answers(|_| ok("hello"));
    assert!(!rig.gateway.get("/v1/x").send().await.fields.has("location"));
}
