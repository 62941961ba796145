//! What the gateway itself writes: the answer to a refused request, and a line of the access log.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use criterion::Criterion;
use http::{Method, StatusCode};
use scopegate::observe::access_log::{Disposition, Entry};
use scopegate::reject::{Reason, Reject};
use scopegate::respond::Refused;
use scopegate::types::RouteIndex;

use crate::live;
use crate::support::{HOST, Signer};

const REQUEST_ID: &str = "0198d3c1f1a27e3cb1a4c2";

/// Status, challenge and problem body.
pub(crate) fn refusals(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let live = live(folder.path(), &Signer::new(), 100);
    let mut group = criterion.benchmark_group("respond");
    for (name, reason, authenticated, status) in [
        ("401", Reason::CredentialMissing, false, StatusCode::UNAUTHORIZED),
        ("403", Reason::ScopeMissing, true, StatusCode::FORBIDDEN),
    ] {
        let reject = Reject::new(reason);
        let refused = Refused {
            snapshot: &live.snapshot,
            reject: &reject,
            route: Some(RouteIndex(50)),
            authenticated,
            issuer: None,
            request_id: REQUEST_ID,
            allow: None,
            grpc: false,
        };
        assert_eq!(refused.response().status(), status);
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&refused).response()));
    }
    group.finish();
}

/// A line into a buffer that has room for it.
pub(crate) fn lines(criterion: &mut Criterion) {
    let entry = Entry {
        address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host: Some(HOST.as_bytes()),
        path: b"/v1/r50/acme/orders/4711",
        tls: true,
        route: Some("r50"),
        status: 200,
        decision: Some(Disposition::Permit),
        issuer: Some("https://idp.example.com/"),
        client: Some("mobile-app"),
        subject: Some("alice"),
        tenant: Some("acme"),
        upstream: Some("api"),
        duration: Duration::from_micros(1_234),
        decision_duration: Some(Duration::from_micros(12)),
        upstream_duration: Some(Duration::from_micros(1_100)),
        response_bytes: 512,
        ..Entry::new(1_785_834_764_123, REQUEST_ID, &Method::GET)
    };
    let mut line = Vec::with_capacity(4 << 10);
    criterion.bench_function("respond/access log line", |bencher| {
        bencher.iter(|| {
            line.clear();
            black_box(&entry).write_line(&mut line);
            assert!(line.ends_with(b"\n"));
        });
    });
}
