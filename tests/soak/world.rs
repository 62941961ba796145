//! What all parts of the soak share: the gateway, what stands around it, and the score.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::RwLock;

use crate::api::Api;
use crate::support::tls::Authority;
use crate::support::{Gateway, Policy, TestIssuer, TokenBuilder};

/// Most faults whose text is kept.
const KEPT_FAULTS: usize = 50;
/// How long after an outage a request that began in it, or met its last effects, is excused.
const AFTERMATH: Duration = Duration::from_millis(500);

/// Everything.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) issuer: TestIssuer,
    pub(crate) api: Api,
    pub(crate) authority: Authority,
    /// Makes tokens whose key the issuer publishes. A request holds the lock for as long as its token has to be good.
    pub(crate) tokens: RwLock<TokenBuilder>,
    generation: AtomicU64,
    pub(crate) ends: Instant,
    pub(crate) length: Duration,
    outages: Mutex<Vec<(Instant, Option<Instant>)>>,
    counts: Mutex<BTreeMap<String, u64>>,
    faults: Mutex<Vec<String>>,
}

const LISTEN: &str = "
- http: 127.0.0.1:0
- https: 127.0.0.1:0
  certificates: [{ cert: server.crt, key: server.key }]
";

/// Short times, so that each of them is met often.
const GATEWAY: &str =
    "timeouts: { header: 2s, body_idle: 2s, idle: 5s, upstream_connect: 1s, upstream_response: 10s }
token_cache: { bytes: 1MiB }
limits: { body: 1MiB }";

/// The routes; `flip` is what `/flip` needs.
pub(crate) fn routes(flip: &str) -> String {
    format!(
        "
- id: orders
  match: {{ host: api.example.com, path: '/orders/{{*rest}}', methods: [GET, POST] }}
  require: {{ issuers: [corp], audience: 'https://api.example.com', scopes: [orders:read] }}
  upstream: orders
  forward: {{ websocket: true, identity_headers: {{ X-User: sub, X-Scopes: scope }} }}
- id: admin
  match: {{ host: api.example.com, path: '/orders/admin/{{*rest}}' }}
  require: {{ issuers: [corp], audience: 'https://api.example.com', scopes: [orders:admin] }}
  upstream: orders
- id: flip
  match: {{ host: api.example.com, path: /flip }}
  require: {{ issuers: [corp], audience: 'https://api.example.com', scopes: [{flip}] }}
  upstream: orders
- id: status
  match: {{ host: api.example.com, path: /status }}
  public: true
  upstream: orders
"
    )
}

impl World {
    /// Starts all of it.
    pub(crate) async fn start(length: Duration) -> Arc<Self> {
        let issuer = TestIssuer::start().await;
        let api = Api::start().await;
        let authority = Authority::new("soak");
        let leaf = authority.server(&["api.example.com"]);
        let policy = Self::policy("orders:read").render(issuer.url(), &api.url());
        let files = [("server.crt", leaf.cert.as_str()), ("server.key", leaf.key.as_str())];
        let gateway = Gateway::start_with(&policy, &files).await;
        let tokens = RwLock::new(issuer.token());
        Arc::new(Self {
            gateway,
            issuer,
            api,
            authority,
            tokens,
            generation: AtomicU64::new(1),
            ends: Instant::now() + length,
            length,
            outages: Mutex::default(),
            counts: Mutex::default(),
            faults: Mutex::default(),
        })
    }

    /// The policy in which `/flip` needs this scope.
    pub(crate) fn policy(flip: &str) -> Policy {
        let issuer = "key_refresh: { interval: 1s, unknown_kid_cooldown: 1s }";
        Policy::default().listen(LISTEN).gateway(GATEWAY).issuer(issuer).routes(&routes(flip))
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.ends
    }

    /// Sleeps, but not beyond the end. Whether there is more to do.
    pub(crate) async fn pause(&self, length: Duration) -> bool {
        let left = self.ends.saturating_duration_since(Instant::now());
        tokio::time::sleep(length.min(left)).await;
        !self.is_over()
    }

    /// Which keys the tokens are made with.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Makes tokens with these keys from now on, once no request holds one of the old, which are given back.
    pub(crate) async fn publish(&self, new: TokenBuilder) -> TokenBuilder {
        let mut tokens = self.tokens.write().await;
        self.generation.fetch_add(1, Ordering::SeqCst);
        std::mem::replace(&mut tokens, new)
    }

    pub(crate) fn outage_begins(&self) {
        self.outages.lock().unwrap().push((Instant::now(), None));
    }

    pub(crate) fn outage_ends(&self) {
        if let Some(outage) = self.outages.lock().unwrap().last_mut() {
            outage.1 = Some(Instant::now());
        }
    }

    /// Whether the upstream was down at some time since.
    pub(crate) fn excuses(&self, since: Instant) -> bool {
        let outages = self.outages.lock().unwrap();
        outages.iter().rev().take(2).any(|(_, end)| end.is_none_or(|end| since < end + AFTERMATH))
    }

    pub(crate) fn count(&self, what: &str) {
        let mut counts = self.counts.lock().unwrap();
        match counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(counts.insert(what.to_owned(), 1)),
        }
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap().clone()
    }

    /// Notes what is wrong.
    pub(crate) fn fault(&self, what: String) {
        self.count("wrong");
        let mut faults = self.faults.lock().unwrap();
        if faults.len() < KEPT_FAULTS {
            eprintln!("wrong: {what}");
            faults.push(what);
        }
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }
}
