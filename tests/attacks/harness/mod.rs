//! What every row of the suite goes through.
//!
//! A [`Row`] is bytes for one connection with the outcome they must have. [`Stage::run`] sends them whole, byte by byte, and
//! split at each boundary, each time on a connection of its own and with a good request behind them: it must be answered
//! where the connection goes on, and must not be where it ends. Then it asks the oracles:
//!
//! 1. A parser of others (h11) takes every byte that reached the upstream, and [`strict`] looks at what h11 tolerates.
//! 2. As many requests reached the upstream as clients got answers of it, each answer is that of its own request (the
//!    gateway gives each request an id, and the upstream repeats it), and each is one that the row expects.
//! 3. A new client gets the answer to its own request, over the same connection to the upstream.
//! 4. No way to read a forwarded path leads to a route that asks for more (the readings of [`crate::normalise`]).
//! 5. At the end of the group: no panic, nothing under way.
//! 6. At the end of the group: the issuer was asked for nothing.
//!
//! Faults are gathered, and named all at once.

mod deliver;
mod row;
mod strict;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;

use crate::normalise::READINGS;
use crate::support::{Gateway, Policy, Recorded, Reply, TestIssuer, Upstream, eventually};
pub(crate) use deliver::Outcome;
use deliver::{Delivery, deliver};
pub(crate) use row::{Answer, Row, bytes, forwarded, refused};
use strict::Strict;

/// The route table that the rows are about: what a path asks for is also written in [`needs`].
pub(crate) const ROUTES: &str = "
- { id: public-root, match: { host: h, path: /public }, public: true, upstream: orders }
- { id: public, match: { host: h, path: '/public/{*rest}' }, public: true, upstream: orders }
- id: api-root
  match: { host: h, path: /api }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [read] }
  upstream: orders
  forward: { identity_headers: { X-User: sub, X-Scopes: scope, X-Tenant: tenant } }
- id: api
  match: { host: h, path: '/api/{*rest}' }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [read] }
  upstream: orders
  forward: { identity_headers: { X-User: sub, X-Scopes: scope, X-Tenant: tenant } }
- id: admin-root
  match: { host: h, path: /api/admin }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [admin] }
  upstream: orders
  forward: { identity_headers: { X-User: sub, X-Scopes: scope } }
- id: admin
  match: { host: h, path: '/api/admin/{*rest}' }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [admin] }
  upstream: orders
  forward: { identity_headers: { X-User: sub, X-Scopes: scope } }
- id: ws
  match: { host: h, path: /ws }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [ws] }
  upstream: orders
  forward: { websocket: true, identity_headers: { X-User: sub, X-Scopes: scope } }
";

/// The scope that a path asks for, as the routes above have it; `None` where it is public, or nothing at all.
fn needs(path: &[u8]) -> Option<&'static str> {
    let is_below =
        |root: &[u8]| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with(b"/"));
    match path {
        b"/ws" => Some("ws"),
        _ if is_below(b"/api/admin") => Some("admin"),
        _ if is_below(b"/api") => Some("read"),
        _ => None,
    }
}

/// The good request that follows every row, and closes the connection.
const NEXT: &str = "GET /public/next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const NEXT_TARGET: &str = "/public/next";

/// How many deliveries of a row are under way at a time.
const AT_ONCE: usize = 32;

/// A gateway with one worker between attackers and a recording upstream.
pub(crate) struct Stage {
    pub(crate) issuer: TestIssuer,
    pub(crate) upstream: Upstream,
    pub(crate) gateway: Gateway,
    strict: Strict,
    tokens: Vec<(&'static str, String)>,
    asked_issuer: usize,
    canaries: usize,
    deliveries: usize,
    rows: usize,
    faults: Vec<String>,
}

impl Stage {
    /// With [`ROUTES`].
    pub(crate) async fn start() -> Self {
        Self::with(Policy::default().routes(ROUTES)).await
    }

    /// With this policy, which must have the route `/public/{*rest}`.
    pub(crate) async fn with(policy: Policy) -> Self {
        let issuer = TestIssuer::start().await;
        let upstream = Upstream::start(tell).await;
        let policy = policy.gateway("workers: 1\naccess_log: off");
        let gateway = Gateway::start(&policy.render(issuer.url(), &upstream.url())).await;
        let token = |scope: &str| issuer.token().scope(scope).mint();
        let tokens = vec![
            ("$READ", token("read")),
            ("$ADMIN", token("admin")),
            ("$WS", token("ws")),
            ("$NONE", token("none")),
        ];
        let mut stage = Self {
            strict: Strict::start(),
            asked_issuer: 0,
            canaries: 0,
            deliveries: 0,
            rows: 0,
            faults: Vec::new(),
            issuer,
            upstream,
            gateway,
            tokens,
        };
        // Keys are there from here on, so that no attack is a reason to ask for them.
        let ready = b"GET /api/ready HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer $READ\r\n\r\n";
        let ready = Row::new("ready", "a good request", "", ready).answers([forwarded("/api/ready")]).stays();
        eventually("the keys are there", || async {
            stage.gateway.status().await["issuers"][0]["usable"].as_bool().filter(|u| *u)
        })
        .await;
        stage.run([ready]).await;
        stage.asked_issuer = stage.issuer.jwks_requests() + stage.issuer.metadata_requests();
        stage
    }

    /// Sends each row in all its ways, and asks the oracles after each.
    pub(crate) async fn run(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            // Boxed: a test's own stack is small, and many rows make a large future.
            Box::pin(self.run_one(row)).await;
        }
    }

    async fn run_one(&mut self, mut row: Row) {
        for (name, token) in &self.tokens {
            row.fill_in(name, token);
        }
        let before = self.faults.len();
        let address = self.gateway.address();
        let deliveries: Vec<Delivery> = row.deliveries();
        let total = deliveries.len();
        let outcomes: Vec<(String, Outcome)> = futures_util::stream::iter(deliveries)
            .map(|delivery| async move { (delivery.name(), deliver(address, &delivery).await) })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut ids = BTreeMap::new();
        for (way, outcome) in &outcomes {
            if let Err(fault) = self.judge(&row, outcome, &mut ids) {
                self.faults.push(format!("{}, {way}: {fault}", row.name()));
            }
        }
        self.judge_upstream(&row, &ids).await;
        self.canary(&row).await;
        self.deliveries += total;
        self.rows += 1;
        // One fault of a row tells enough of it.
        self.faults.truncate(before + 2);
    }

    /// Compares the answers with what the row expects, and gathers the ids of those that are the upstream's.
    fn judge(&self, row: &Row, outcome: &Outcome, ids: &mut BTreeMap<String, String>) -> Result<(), String> {
        let told =
            outcome.answers.as_ref().map_err(|error| format!("{error}; it sent {:?}", outcome.text()))?;
        for answer in told {
            let Some(id) = answer.header("x-told-id") else { continue };
            if answer.header("x-request-id") != Some(id) {
                return Err(format!("an answer to another request: {answer:?}"));
            }
            ids.insert(id.to_owned(), answer.header("x-told-target").unwrap_or_default().to_owned());
        }
        if outcome.hangs {
            return Err(format!("the connection stays open; it sent {:?}", outcome.text()));
        }
        row.check(told, outcome)
    }

    /// Oracles 1, 2 and 4, and what the row itself wants to know of the upstream.
    async fn judge_upstream(&mut self, row: &Row, ids: &BTreeMap<String, String>) {
        if row.aborts {
            // Nobody waits for the end of a request that is cut off.
            eventually("aborted requests have ended", || async {
                (self.gateway.metric("scopegate_in_flight_requests", &[]).await == 0.0).then_some(())
            })
            .await;
        }
        let requests = self.upstream.requests();
        self.upstream.forget();
        let mut faults = Vec::new();
        let complete: Vec<&Recorded> = requests.iter().filter(|request| request.complete).collect();
        if !row.aborts && complete.len() != requests.len() {
            faults.push("a request reached the upstream in part".to_owned());
        }
        let told: BTreeSet<&str> = ids.keys().map(String::as_str).collect();
        let seen: BTreeSet<&str> = complete.iter().filter_map(|r| r.header("x-request-id")).collect();
        if told != seen {
            faults.push(format!("{} requests at the upstream, {} answers of it", seen.len(), told.len()));
        }
        for request in &requests {
            faults.extend(stricter_reading(request));
            if request.target != NEXT_TARGET
                && let Some(fault) = row.check_upstream(request)
            {
                faults.push(format!("{fault}: {request:?}"));
            }
        }
        faults.extend(self.strict.judge(self.upstream.take_bytes(), &complete).await);
        self.faults.extend(faults.into_iter().map(|fault| format!("{}: {fault}", row.name())));
    }

    /// A client that has nothing to do with the attack gets its own answer.
    async fn canary(&mut self, row: &Row) {
        self.canaries += 1;
        let target = format!("/public/canary-{}", self.canaries);
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").into_bytes();
        let outcome = deliver(self.gateway.address(), &Delivery::whole(bytes)).await;
        let mut ids = BTreeMap::new();
        let canary = Row::new("canary", "", "", "").answers([forwarded(&target)]).closes();
        let fault = self.judge(&canary, &outcome, &mut ids).err();
        self.faults
            .extend(fault.map(|fault| format!("{}: the canary got another answer: {fault}", row.name())));
        let requests = self.upstream.requests();
        self.upstream.forget();
        let complete: Vec<&Recorded> = requests.iter().collect();
        if complete.len() != 1 {
            self.faults.push(format!("{}: beside the canary came {complete:?}", row.name()));
        }
        let faults = self.strict.judge(self.upstream.take_bytes(), &complete).await;
        self.faults.extend(faults.into_iter().map(|fault| format!("{}: canary: {fault}", row.name())));
    }

    /// Oracles 5 and 6, and the faults of all rows.
    pub(crate) async fn finish(self) {
        eventually("nothing is under way", || async {
            (self.gateway.metric("scopegate_in_flight_requests", &[]).await == 0.0).then_some(())
        })
        .await;
        assert_eq!(self.gateway.metric("scopegate_panics_total", &[]).await, 0.0);
        let asked = self.issuer.jwks_requests() + self.issuer.metadata_requests();
        assert_eq!(asked, self.asked_issuer, "the issuer was asked");
        println!("{} rows in {} deliveries", self.rows, self.deliveries);
        assert!(self.faults.is_empty(), "{} faults:\n{}", self.faults.len(), self.faults.join("\n"));
    }
}

/// The upstream's answer: which request it is about, and the body it got. Each field that the request has comes back with
/// `Told-` before its name only in the recording, so a client learns nothing it did not send.
fn tell(request: &Recorded) -> Reply {
    let id = request.header("x-request-id").unwrap_or("none");
    let fields = format!("X-Told-Id: {id}\r\nX-Told-Target: {}\r\n", request.target);
    let length = request.target.len();
    let body = if request.method == "HEAD" { "" } else { &request.target };
    Reply::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{fields}\r\n{body}").into_bytes())
}

/// Whether some server would take the forwarded path for one of a route that asks for more (oracle 4).
pub(crate) fn stricter_reading(request: &Recorded) -> Option<String> {
    // The gateway alone says this, and only on routes that ask for a scope.
    let had = request.header("x-scopes");
    READINGS.iter().find_map(|reading| {
        let path = reading.path(request.target.as_bytes());
        let needs = needs(&path)?;
        (had != Some(needs)).then(|| {
            let path = String::from_utf8_lossy(&path).into_owned();
            format!(
                "{} is {path} to a server that reads `{}`, but was let through for {had:?}",
                request.target, reading.name
            )
        })
    })
}
