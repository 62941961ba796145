//! Any bytes on a connection of HTTP/1: read by hyper as in the gateway, decided, and written by the gateway's own code as it
//! would send them to an upstream. The first octet says where the bytes are split in two.
//!
//! 1. What is written is, to a strict reader, as many requests as were permitted, each with the method, the canonical path,
//!    the query and the body that were decided on; so nothing is smuggled.
//! 2. No field of the client's goes on that speaks for the gateway or for the connection; who calls is told from the token.
//! 3. It makes no difference how the bytes arrive.
//! 4. The same head in HTTP/2 is refused, or is written as strictly.
#![no_main]

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock};
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
use scopegate::authorize::Permit;
use scopegate::decide::{Verdict, decide};
use scopegate::forward::headers::Client;
use scopegate::forward::pool::{Meter, Pool};
use scopegate::forward::{Way, write_http1};
use scopegate::observe::metrics::{ConnectFault, Counted};
use scopegate::route::path::CanonicalPath;
use scopegate::route::rewrite::Target;
use scopegate::state::upstream::UpstreamCell;
use scopegate::types::Networks;
use scopegate_fuzz::wire;
use scopegate_fuzz::world::{KNOWN, NOW, SNAPSHOT};
use tokio::runtime::{self, Runtime};
use tokio::time::Instant;

const REQUEST_ID: HeaderValue = HeaderValue::from_static("01M806S3S9GZ73PAJP9ZT8J9FG");

/// Where the timers of bodies are kept. Nobody turns it, so no time passes.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));

static UPSTREAM: LazyLock<Arc<UpstreamCell>> =
    LazyLock::new(|| UpstreamCell::new(SNAPSHOT.upstreams[0].clone()).expect("it has no files"));

/// A request that was permitted.
#[derive(Debug, PartialEq, Eq)]
struct Permitted {
    method: String,
    path: String,
    query: Option<String>,
    body: Bytes,
}

impl Permitted {
    fn new(parts: &Parts, body: Bytes) -> Self {
        let path = CanonicalPath::parse(parts.uri.path()).expect("it was permitted");
        Self {
            method: parts.method.to_string(),
            path: path.as_str().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            body,
        }
    }

    /// Whether this is what a strict reader read.
    fn check(&self, read: &wire::Request) {
        assert_eq!(read.method, self.method);
        let (path, query) =
            read.target.split_once('?').map_or((read.target.as_str(), None), |(p, q)| (p, Some(q)));
        assert_eq!((path, query), (self.path.as_str(), self.query.as_deref()));
        assert_eq!(read.body, self.body);
        check_fields(read);
    }
}

/// What came of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Served {
    /// What was permitted, in its order: filled if bodies are read here, not by the gateway.
    permitted: Vec<Permitted>,
    /// What was written of it: filled if not.
    written: Vec<u8>,
}

fuzz_target!(|data: &[u8]| {
    let Some((at, bytes)) = data.split_first() else { return };
    let _timers = RUNTIME.enter();
    let Served { permitted, .. } = serve(&[bytes], false);
    let Served { written, .. } = serve(&[bytes], true);
    let (first, second) = bytes.split_at(usize::from(*at) * bytes.len() / 256);
    let parts = serve(&[first, second], false);
    assert_eq!(permitted, parts.permitted, "split at {}", first.len());

    let read = wire::requests(&written);
    assert_eq!(read.len(), permitted.len(), "as many requests as were permitted");
    permitted.iter().zip(&read).for_each(|(permitted, read)| permitted.check(read));
    // In parts, the chunks may be others.
    let parts = wire::requests(&serve(&[first, second], true).written);
    assert_eq!(read, parts, "split at {}", first.len());
});

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
    // All good tokens for this API are of one caller, and of one scope.
    let caller = usize::from(read.target.starts_with("/api/"));
    assert!(read.values("x-user").eq([b"alice".as_slice()].into_iter().take(caller)), "{read:?}");
    assert!(read.values("x-scopes").eq([b"read".as_slice()].into_iter().take(caller)), "{read:?}");
    assert!(read.values("x-request-id").eq([REQUEST_ID.as_bytes()]));
    assert!(read.values("via").any(|value| value.ends_with(b" scopegate")));
    assert!(read.values("cookie").count() <= 1);
}

/// Serves a connection on which these parts arrive.
fn serve(parts: &[&[u8]], write: bool) -> Served {
    let served = RefCell::new(Served::default());
    let service = service_fn(|request: Request<Incoming>| answer(request, &served, write));
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
            return served.take();
        }
    }
    panic!("the connection does not end");
}

async fn answer(
    request: Request<Incoming>,
    served: &RefCell<Served>,
    write: bool,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let mut response = Response::new(Full::default());
    match permit(&parts) {
        Some((permit, target)) if write => {
            let body = (!body.is_end_stream()).then_some(body);
            match written(&permit, &target, &parts, body).await {
                Some(bytes) => served.borrow_mut().written.extend(bytes),
                // It may not have been read to its end, so nothing may follow.
                None => {
                    drop(response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close")))
                }
            }
        }
        permit => {
            check_http2(&parts).await;
            // Always read, since what follows a body that nobody wants is read or not as it happens to arrive. A body that
            // breaks off is never sent as a whole one.
            if let (Ok(body), Some(_)) = (body.collect().await, permit) {
                served.borrow_mut().permitted.push(Permitted::new(&parts, body.to_bytes()));
            }
        }
    }
    Ok(response)
}

/// The same head in HTTP/2, without a body.
async fn check_http2(parts: &Parts) {
    let mut parts = parts.clone();
    parts.version = Version::HTTP_2;
    parts.headers.remove(header::CONTENT_LENGTH);
    let Some((permit, target)) = permit(&parts) else { return };
    let written = written(&permit, &target, &parts, None).await.expect("nothing is missing");
    let read = wire::requests(&written);
    let [read] = read.as_slice() else { panic!("{} requests of one", read.len()) };
    Permitted::new(&parts, Bytes::new()).check(read);
}

fn permit(parts: &Parts) -> Option<(Permit, Target)> {
    let head =
        Head { method: &parts.method, uri: &parts.uri, version: parts.version, headers: &parts.headers };
    match decide(&SNAPSHOT, &head, &*KNOWN, NOW).verdict {
        Verdict::Permit(permit, target) => Some((permit, target)),
        _ => None,
    }
}

/// Counts connections, of which there are none.
struct Unused;

impl Meter for Unused {
    fn opened(&self) -> Counted {
        panic!("nothing is connected to")
    }

    fn failed(&self, _: ConnectFault) {
        panic!("nothing is connected to")
    }
}

/// What the gateway writes for a permitted request, if it can be told to its end.
async fn written(permit: &Permit, target: &Target, parts: &Parts, body: Option<Incoming>) -> Option<Vec<u8>> {
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let way = Way {
        snapshot: &SNAPSHOT,
        route: SNAPSHOT.route(permit.route()).expect("it was permitted"),
        pool: &Pool::new(Arc::clone(&UPSTREAM), Unused),
        client: &Client::of(peer, &parts.headers, &Networks::NONE),
        peer: "127.0.0.1",
        secure: false,
        request_id: &REQUEST_ID,
        now: Instant::now(),
        expires: None,
        removed_fields: &Cell::new(0),
    };
    let mut bytes = Vec::new();
    write_http1(permit, target, way, parts, body, &mut bytes).await.ok()?;
    Some(bytes)
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
