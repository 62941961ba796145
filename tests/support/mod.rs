//! What the black-box tests share: the built binary on free ports, and what stands around it.
//!
//! - [`Rig`]: an issuer, a recording upstream and a gateway between them; most tests start here.
//! - [`Gateway`]: the process; its addresses, logs, signals, configuration file and admin API.
//! - [`Upstream`]: a raw server that records exact bytes and answers as scripted.
//! - [`TestIssuer`]: signs any token, serves its keys, and can be down, slow, or rotate.
//! - [`Tap`]: a relay that keeps what it passes on.
//! - [`Client`] and [`Call`]: byte-exact HTTP/1.1, and a short way to say a common request.
//! - [`http2`]: HTTP/2 frame by frame, right or wrong.
//! - [`process`], [`tls`], [`oidc`]: real programs, certificates, a real OpenID provider.
#![cfg(test)]
#![expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file is a crate of its own and uses its own part of the support"
)]

mod client;
mod gateway;
mod http1;
pub mod http2;
mod issuer;
pub mod oidc;
mod policy;
pub mod process;
mod tap;
pub mod tls;
mod upstream;

pub use client::{Call, Client};
pub use gateway::{ADMIN_TOKEN, Gateway};
pub use http1::{Fields, Framing, Reader, Response};
pub use issuer::{Alg, Behaviour, TestIssuer, TokenBuilder, b64, now};
pub use policy::Policy;
pub use tap::{Passed, Tap};
pub use upstream::{Recorded, Reply, Upstream, ok};

use std::future::Future;
use std::time::Duration;

/// What every token of [`TestIssuer`] is meant for unless told otherwise.
pub const AUDIENCE: &str = "https://api.example.com";

/// The longest any wait in a test may take: far above what a loaded machine needs, so that it only ends broken tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for the future, and names what did not happen.
#[track_caller]
pub fn soon<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{caller}: {what} did not happen within {PATIENCE:?}"),
        }
    }
}

/// Asks again until the probe answers, for things that give no sign when they are done.
#[track_caller]
pub fn eventually<T, P, F>(what: &str, mut probe: P) -> impl Future<Output = T>
where
    P: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    soon(what, async move {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if let Some(found) = probe().await {
                return found;
            }
        }
    })
}

/// Waits until this gateway has the keys of every issuer that its routes name. A request that finds none waits two seconds
/// for them, and on a loaded machine their fetch takes longer.
pub async fn has_keys(gateway: &Gateway) {
    // Boxed: it is a part of every test, and the stack of a long one is full.
    Box::pin(eventually("the keys are there", || async {
        (gateway.admin("GET", "/readyz").send().await.status == 200).then_some(())
    }))
    .await;
}

/// An issuer, a recording upstream, and a gateway between clients and them.
pub struct Rig {
    /// Signs tokens.
    pub issuer: TestIssuer,
    /// Sees what is forwarded.
    pub upstream: Upstream,
    /// The gateway under test.
    pub gateway: Gateway,
}

impl Rig {
    /// With the routes of [`Policy::default`]: `/orders/{*rest}` needs `orders:read`, `/status` is public.
    pub async fn start() -> Self {
        Self::with(Policy::default()).await
    }

    /// With these routes (YAML list items), each of which may name the upstream `orders` and the issuer `corp`.
    pub async fn routes(routes: &str) -> Self {
        Self::with(Policy::default().routes(routes)).await
    }

    /// With this policy. The keys are there when this returns.
    pub async fn with(policy: Policy) -> Self {
        let issuer = TestIssuer::start().await;
        let upstream = Upstream::start(|_| ok("hello")).await;
        let gateway = Gateway::start(&policy.render(issuer.url(), &upstream.url())).await;
        has_keys(&gateway).await;
        Self { issuer, upstream, gateway }
    }

    /// A token that the default routes accept.
    pub fn token(&self) -> String {
        self.issuer.token().mint()
    }

    /// A GET with a token that the default routes accept.
    pub fn get(&self, path: &str) -> Call {
        self.gateway.get(path).token(&self.token())
    }

    /// A tunnel that this token opens; the upstream sends back what comes.
    pub async fn tunnel(&self, token: &str) -> Client {
        self.upstream.answers(|_| Reply::Upgrade);
        let mut client = Client::connect(self.gateway.address()).await;
        client.send(self.gateway.get("/orders/1").token(token).upgrade().bytes()).await;
        assert_eq!(client.status().await, 101);
        client
    }
}
