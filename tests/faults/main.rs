//! Faults of upstreams: what they do wrong becomes a 502 or 504 of their own routes, reaches no other request, costs bounded
//! memory, and is over when they recover.
//!
//! The upstreams are raw sockets that follow a script ([`script`]): bytes as written, pauses until told, resets, half-closes.
//! What a well-behaved reader can show is in `tests/upstreams.rs`, `tests/forwarding.rs` and `tests/backpressure.rs`.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod clients;
mod connect;
mod credentials;
mod heads;
mod http2;
mod http2_unprocessed;
mod leftovers;
mod load;
mod races;
mod script;
mod streams;
mod tls;
mod tls_pins;

use script::Scripted;
use support::{Call, Client, Gateway, Policy, Response, TestIssuer, Upstream, ok};

/// Public routes: `/good/…` leads to an upstream that does its part, everything else to the one under test.
const ROUTES: &str = "
- id: any
  match: { host: api.example.com, path: '/{*rest}' }
  public: true
  upstream: orders
- id: good
  match: { host: api.example.com, path: '/good/{*rest}' }
  public: true
  upstream: good
  timeouts: { upstream_response: 15s, upstream_idle: 15s }
";

/// A gateway of one worker between clients, a faulty upstream and a good one.
struct Rig {
    gateway: Gateway,
    _good: Upstream,
    _issuer: TestIssuer,
}

impl Rig {
    /// Before this upstream.
    async fn before(upstream: &Scripted) -> Self {
        Self::with(&upstream.url(), Policy::default()).await
    }

    /// Before the upstream with this URL, with this policy; its routes are [`ROUTES`].
    async fn with(url: &str, policy: Policy) -> Self {
        Self::with_routes(url, policy.routes(ROUTES)).await
    }

    /// Before the upstream with this URL, with this policy as it is.
    async fn with_routes(url: &str, policy: Policy) -> Self {
        let issuer = TestIssuer::start().await;
        let good = Upstream::start(|_| ok("good")).await;
        let policy = policy.gateway("workers: 1").upstreams(&format!("good: {{ url: '{}' }}", good.url()));
        let gateway = Gateway::start(&policy.render(issuer.url(), url)).await;
        Self { gateway, _good: good, _issuer: issuer }
    }

    fn call(&self, method: &str, target: &str) -> Call {
        self.gateway.call(method, target)
    }

    async fn get(&self, target: &str) -> Response {
        self.call("GET", target).send().await
    }

    async fn verdict(&self, method: &str, target: &str) -> String {
        self.call(method, target).send().await.verdict()
    }

    /// The other upstream is served as ever.
    async fn assert_good(&self) {
        assert_eq!(self.get("/good/1").await.text(), "good", "another upstream suffers");
    }

    /// Waits until no request is under way and no more than these connections to the upstream under test are open.
    async fn settles(&self, connections: f64) {
        support::eventually("requests and connections are given back", || async {
            let in_flight = self.gateway.metric("scopegate_in_flight_requests", &[]).await;
            let open = self.gateway.metric("scopegate_upstream_connections", &[r#"upstream="orders""#]).await;
            (in_flight == 0.0 && open <= connections).then_some(())
        })
        .await;
    }

    /// How often the upstream under test was counted for this reason.
    async fn errors(&self, reason: &str) -> f64 {
        let labels = [r#"upstream="orders""#, &format!("reason=\"{reason}\"")];
        self.gateway.metric("scopegate_upstream_errors_total", &labels).await
    }
}

/// Everything that comes until the gateway closes.
async fn to_the_end(client: &mut Client) -> String {
    let mut seen = Vec::new();
    loop {
        let more = client.raw().await;
        if more.is_empty() {
            return String::from_utf8_lossy(&seen).into_owned();
        }
        seen.extend_from_slice(&more);
    }
}
