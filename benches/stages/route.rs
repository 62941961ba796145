//! The route look-up by the size of its table.

use std::hint::black_box;

use criterion::Criterion;
use http::Method;
use scopegate::route::path::CanonicalPath;

use crate::live;
use crate::support::{HOST, Signer};

/// A path is made canonical and found among so many.
pub(crate) fn routes(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let mut group = criterion.benchmark_group("route");
    for size in [10, 1_000, 100_000] {
        let live = live(folder.path(), &signer, size);
        let raw = format!("/v1/r{}/acme/orders/4711", size / 2);
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter(|| {
                let path = CanonicalPath::parse(black_box(&raw)).unwrap();
                let found = live.snapshot.table.find(HOST, &path, &Method::GET);
                assert!(found.is_ok());
            });
        });
    }
    group.finish();
}
