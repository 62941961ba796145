//! What each stage of a request costs in time: `cargo bench --bench stages`, or only some with `-- token/`.
//!
//! | group | what |
//! |---|---|
//! | `route` | look-up in tables of 10 to 100,000 routes |
//! | `token` | the credential: digest, look-up, all checks of a remembered token, verification by algorithm |
//! | `decide` | the whole decision: remembered, new and missing token; authorization alone |
//! | `headers` | a request's head as it is written to the upstream, an answer's head and chunks as they are read |
//! | `respond` | a refusal's answer, a line of the access log |

#![expect(clippy::unwrap_used, reason = "a benchmark may stop where a gateway may not")]

mod decide;
mod headers;
mod respond;
mod route;
#[path = "../support/mod.rs"]
mod support;
mod token;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use criterion::{criterion_group, criterion_main};
use scopegate::observe::metrics::Metrics;
use scopegate::state::live::Live;
use support::Signer;

/// Where nobody is asked.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// A target of one of 100 routes.
const TARGET: &str = "/v1/r50/acme/orders/4711?expand=lines";

/// A policy whose upstream is never asked.
fn live(folder: &Path, signer: &Signer, routes: usize) -> Live {
    support::live(folder, signer, routes, NOWHERE, &Metrics::new())
}

criterion_group!(
    benches,
    route::routes,
    token::tokens,
    decide::decisions,
    headers::requests,
    headers::answers,
    respond::refusals,
    respond::lines
);
criterion_main!(benches);
