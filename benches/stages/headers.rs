//! Heads between gateway and upstream: the request's as it is written, the answer's as it is read.

use std::cell::Cell;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use bytes::BytesMut;
use criterion::{BatchSize, Criterion};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use scopegate::forward::headers::{self, Client, Fields, Outgoing};
use scopegate::forward::http1::framing::{Framing, Piece};
use scopegate::forward::http1::looked::Looked;
use scopegate::forward::http1::request::HeadBytes;
use scopegate::forward::http1::response::{self, Expected};
use scopegate::forward::identity;
use scopegate::state::live::Live;
use scopegate::state::token_cache::TokenCache;

use crate::support::{self, HOST, SCOPES, Signer, judge};
use crate::{TARGET, live};

/// What a browser sends beside the fields of a usual request, and what a client may not say.
const MORE: [(&str, &str); 16] = [
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
    ("cache-control", "no-cache"),
    ("connection", "keep-alive, x-hop"),
    ("cookie", "session=5d41402abc4b2a76b9719d911017c592; theme=dark"),
    ("forwarded", "for=192.0.2.60;proto=http;by=203.0.113.43"),
    ("if-none-match", "\"737060cd8c284d8af7ad3082f209582d\""),
    ("origin", "https://shop.example.com"),
    ("referer", "https://shop.example.com/orders"),
    ("sec-fetch-dest", "empty"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-site", "same-site"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("x-forwarded-for", "198.51.100.17"),
    ("x-hop", "1"),
    ("x-user", "mallory"),
];

const ANSWER: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Tue, 04 Aug 2026 09:12:44 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 512\r\nConnection: keep-alive\r\nETag: \"6a7b8c9d-200\"\r\n\
    Cache-Control: private, max-age=0\r\nVary: Accept-Encoding\r\nX-Content-Type-Options: nosniff\r\n\r\n";

/// Fields of the client's removed, the gateway's own and the caller's identity added, into the bytes of an HTTP/1.1 head
/// or the fields of an HTTP/2 one.
pub(crate) fn requests(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let live = live(folder.path(), &signer, 100);
    let usual = support::headers(Some(&signer.token("RS256", SCOPES, 0)));
    let mut many = usual.clone();
    for (name, value) in MORE {
        many.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let target = black_box(TARGET);
    let mut group = criterion.benchmark_group("headers");
    for (size, came) in [("4 fields", &usual), ("20 fields", &many)] {
        let tokens = TokenCache::new(1 << 20);
        group.bench_function(format!("to HTTP/1.1, {size}"), |bencher| {
            rewriting(bencher, &live, &tokens, (came, true), || HeadBytes::new(&Method::GET, target, None));
        });
        group.bench_function(format!("to HTTP/2, {size}"), |bencher| {
            rewriting(bencher, &live, &tokens, (came, false), || HeaderMap::with_capacity(came.len() + 12));
        });
    }
    group.finish();
}

/// Writes the head of a request that was permitted, its host as a field or not.
fn rewriting<F: Fields>(
    bencher: &mut criterion::Bencher<'_>,
    live: &Live,
    tokens: &TokenCache,
    (came, with_host): (&HeaderMap, bool),
    begin: impl Fn() -> F,
) {
    let record = judge(live, tokens, came, &Uri::from_static(TARGET));
    let principal = record.principal().unwrap();
    let snapshot = &live.snapshot;
    let route = record.route.and_then(|route| snapshot.route(route)).unwrap();
    let issuer = snapshot.issuers.get(principal.issuer());
    let (host, id) = (HeaderValue::from_static(HOST), HeaderValue::from_static("0198d3c1f1a27e3cb1a4c2"));
    bencher.iter(|| {
        let client = Client::of(IpAddr::V4(Ipv4Addr::LOCALHOST), came, &snapshot.gateway.trusted_proxies);
        let outgoing = Outgoing {
            client: &client,
            peer: "127.0.0.1",
            secure: true,
            version: Version::HTTP_11,
            host: Some(&host),
            host_field: with_host.then_some(&host),
            request_id: &id,
            token_field: None,
            reserved_headers: &snapshot.reserved_headers,
            max_forwards: None,
            rules: route.fields.as_deref(),
            credential: None,
            removed: &Cell::new(0),
            upgrade: None,
            subprotocols: None,
            trailers: &[],
        };
        let mut fields = begin();
        headers::to_upstream(black_box(came), &outgoing, &mut fields);
        identity::identify(&route.identity_headers, principal, issuer, &mut fields);
        fields
    });
}

/// The head of an answer, and a body of 16 chunks of 1 KiB.
pub(crate) fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("headers");
    let expected = Expected { of_head: false, bytes: 64 << 10, fields: 256 };
    group.bench_function("answer", |bencher| {
        bencher.iter_batched_ref(
            || BytesMut::from(ANSWER),
            |arrived| response::parse(arrived, &mut Looked::default(), expected).unwrap().unwrap(),
            BatchSize::SmallInput,
        );
    });
    let chunk = ["400\r\n", &"x".repeat(1024), "\r\n"].concat();
    let body = [chunk.repeat(16).as_str(), "0\r\n\r\n"].concat();
    group.bench_function("16 chunks", |bencher| {
        bencher.iter_batched_ref(
            || BytesMut::from(body.as_bytes()),
            |arrived| {
                let mut framing = Framing::chunked();
                let mut length = 0;
                while let Piece::Data(data) = framing.next(arrived).unwrap() {
                    length += data.len();
                }
                assert!(framing.is_ended() && length == 16 << 10);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}
