//! Any bytes on a connection of HTTP/1: read by hyper as in the gateway, decided, and written as the gateway would send
//! them to an upstream. The first octet says where the bytes are split in two.
//!
//! 1. What is written is, to a strict reader, as many requests as were permitted, each with the method, the canonical path,
//!    the query and the body that were decided on; so nothing is smuggled.
//! 2. No field of the client's goes on that speaks for the gateway or for the connection.
//! 3. It makes no difference how the bytes arrive.
//! 4. The same head in HTTP/2 is refused, or is written as strictly.
#![no_main]

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use libfuzzer_sys::fuzz_target;
use scopegate::admit::Head;
use scopegate::decide::{Verdict, decide};
use scopegate::forward::headers::{self, Client, Fields, Outgoing};
use scopegate::forward::http1::request::HeadBytes;
use scopegate::route::path::CanonicalPath;
use scopegate::route::rewrite::Target;
use scopegate_fuzz::wire;
use scopegate_fuzz::world::{KNOWN, NOW, SNAPSHOT};

const REQUEST_ID: HeaderValue = HeaderValue::from_static("01M806S3S9GZ73PAJP9ZT8J9FG");

/// A request that was permitted, and the head that is sent for it.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    method: String,
    path: String,
    query: Option<String>,
    head: Vec<u8>,
    body: Bytes,
}

fuzz_target!(|data: &[u8]| {
    let Some((at, bytes)) = data.split_first() else { return };
    let sent = serve(&[bytes]);
    let (first, second) = bytes.split_at(usize::from(*at) * bytes.len() / 256);
    assert_eq!(sent, serve(&[first, second]), "split at {}", first.len());

    let written: Vec<u8> =
        sent.iter().flat_map(|sent| [sent.head.as_slice(), &framed(sent)].concat()).collect();
    let read = wire::requests(&written);
    assert_eq!(read.len(), sent.len(), "as many requests as were permitted");
    for (sent, read) in sent.iter().zip(&read) {
        assert_eq!(read.method, sent.method);
        let (path, query) =
            read.target.split_once('?').map_or((read.target.as_str(), None), |(p, q)| (p, Some(q)));
        assert_eq!((path, query), (sent.path.as_str(), sent.query.as_deref()));
        assert_eq!(read.body, sent.body);
        check_fields(read);
    }
});

/// The body as the head says that it is framed.
fn framed(sent: &Sent) -> Vec<u8> {
    let chunked =
        sent.head.windows(28).any(|line| line.eq_ignore_ascii_case(b"\r\ntransfer-encoding: chunked"));
    match (chunked, sent.body.is_empty()) {
        (false, _) => sent.body.to_vec(),
        (true, true) => b"0\r\n\r\n".to_vec(),
        (true, false) => {
            [format!("{:x}\r\n", sent.body.len()).as_bytes(), &sent.body, b"\r\n0\r\n\r\n"].concat()
        }
    }
}

fn check_fields(read: &wire::Request) {
    for (name, value) in &read.fields {
        let of_client = !matches!(
            name.as_str(),
            "forwarded" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto"
        );
        let doubtful = matches!(
            name.as_str(),
            "keep-alive"
                | "proxy-connection"
                | "proxy-authorization"
                | "upgrade"
                | "expect"
                | "authorization"
                | "x-user"
                | "x-scopes"
                | "x-real-ip"
                | "x-original-url"
                | "x-http-method-override"
        );
        assert!(!doubtful, "{name} went on");
        assert!(!name.starts_with("x-forwarded-") || !of_client, "{name} went on");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{name} went on");
        if name == "connection" {
            assert_eq!(value, b"te", "the gateway's own");
        }
    }
    for own in ["x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"] {
        assert_eq!(read.values(own).count(), 1, "{own} is the gateway's own");
    }
    assert!(read.values("x-request-id").eq([REQUEST_ID.as_bytes()]));
    assert!(read.values("via").any(|value| value.ends_with(b" scopegate")));
    assert!(read.values("cookie").count() <= 1);
}

/// Serves a connection on which these parts arrive; what was permitted, in its order.
fn serve(parts: &[&[u8]]) -> Vec<Sent> {
    let sent = RefCell::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| answer(request, &sent));
    let limits = SNAPSHOT.gateway.limits;
    let mut builder = http1::Builder::new();
    // As in `server/connection.rs`.
    builder
        .header_read_timeout(None)
        .half_close(false)
        .max_headers(limits.headers)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(256 << 10));
    let wire = Wire { parts: parts.iter().map(|part| part.to_vec()).collect(), patience: 16 };
    let mut connection = pin!(builder.serve_connection(wire, service));
    let mut context = Context::from_waker(Waker::noop());
    // All bytes are there, so each poll brings it forward.
    for _ in 0..100_000 {
        if connection.as_mut().poll(&mut context).is_ready() {
            return sent.take();
        }
    }
    panic!("the connection does not end");
}

async fn answer(
    request: Request<Incoming>,
    all: &RefCell<Vec<Sent>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let head = permitted(&parts, parts.version, !body.is_end_stream());
    wire::requests(&permitted_http2(&parts).unwrap_or_default());
    // Always read, since what follows a body that nobody wants is read or not as it happens to arrive. A body that breaks
    // off is never sent as a whole one.
    if let (Ok(body), Some(head)) = (body.collect().await, head) {
        let path = CanonicalPath::parse(parts.uri.path()).expect("it was permitted");
        all.borrow_mut().push(Sent {
            method: parts.method.to_string(),
            path: path.as_str().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            head,
            body: body.to_bytes(),
        });
    }
    Ok(Response::new(Full::default()))
}

/// The head that is sent if the same fields came without a body in HTTP/2.
fn permitted_http2(parts: &Parts) -> Option<Vec<u8>> {
    let mut parts = parts.clone();
    parts.headers.remove(header::CONTENT_LENGTH);
    permitted(&parts, Version::HTTP_2, false)
}

/// The head that is sent for a request, if it is permitted: `Outbound::http1_request` in `forward/mod.rs`.
fn permitted(parts: &Parts, version: Version, streaming: bool) -> Option<Vec<u8>> {
    let head = Head { method: &parts.method, uri: &parts.uri, version, headers: &parts.headers };
    let Verdict::Permit(_, target) = decide(&SNAPSHOT, &head, &*KNOWN, NOW).verdict else { return None };
    let host = match parts.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok()?,
        None => parts.headers.get(header::HOST)?.clone(),
    };
    let path = match &target {
        Target::Unchanged => parts.uri.path_and_query()?,
        Target::Rewritten(path) => path,
    };
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let client = Client::of(peer, &parts.headers, &[]);
    let mut bytes = HeadBytes::new(&parts.method, path.as_str());
    let outgoing = Outgoing {
        client: &client,
        peer: "127.0.0.1",
        secure: false,
        version,
        host: &host,
        host_field: Some(&host),
        request_id: &REQUEST_ID,
        forward_token: false,
        identity_headers: &SNAPSHOT.identity_headers,
        upgrade: None,
        trailers: &[],
    };
    headers::to_upstream(&parts.headers, &outgoing, &mut bytes);
    if streaming && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        bytes.add(&header::TRANSFER_ENCODING, &HeaderValue::from_static("chunked"));
    }
    Some(bytes.finish())
}

/// A socket on which bytes have arrived, and after a while the end. What is written to it is gone.
struct Wire {
    parts: Vec<Vec<u8>>,
    /// How often there is nothing before the end: a client that is gone is not answered, and its request goes nowhere.
    patience: u32,
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut room: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(part) = self.parts.first_mut() {
            if part.is_empty() {
                self.parts.remove(0);
                continue;
            }
            let count = part.len().min(room.remaining());
            room.put_slice(&part[..count]);
            part.drain(..count);
            return Poll::Ready(Ok(()));
        }
        if self.patience > 0 {
            self.patience -= 1;
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
