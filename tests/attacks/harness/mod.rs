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
use crate::support::{Gateway, Policy, Recorded, Reply, TestIssuer, Upstream, eventually, has_keys};
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

/// How many rows of a sweep share a canary.
const BATCH: usize = 12;

/// How many deliveries are under way at a time.
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
        // No refresh of the keys is due before the rows have been sent.
        let policy = policy.gateway("workers: 1\naccess_log: off").issuer("key_refresh: { interval: 1h }");
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
        has_keys(&stage.gateway).await;
        stage.run([ready]).await;
        stage.asked_issuer = stage.issuer.jwks_requests() + stage.issuer.metadata_requests();
        stage
    }

    /// Sends each row in all its ways, and asks the oracles after each.
    pub(crate) async fn run(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            // Boxed: a test's own stack is small, and many rows make a large future.
            Box::pin(self.run_batch(vec![row])).await;
        }
    }

    /// Sends many rows that are alike, and asks the oracles after each few. A row that may cut a request off goes alone: what
    /// it may do, its neighbours may not.
    pub(crate) async fn sweep(&mut self, rows: impl IntoIterator<Item = Row>) {
        let (cutting, others): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.aborts);
        self.run(cutting).await;
        let mut rows = others.into_iter().peekable();
        while rows.peek().is_some() {
            let batch: Vec<Row> = rows.by_ref().take(BATCH).collect();
            Box::pin(self.run_batch(batch)).await;
        }
    }

    async fn run_batch(&mut self, mut rows: Vec<Row>) {
        for row in &mut rows {
            self.tokens.iter().for_each(|(name, token)| row.fill_in(name, token));
        }
        let address = self.gateway.address();
        let deliveries: Vec<(usize, Delivery)> = rows
            .iter()
            .enumerate()
            .flat_map(|(of, row)| row.deliveries().into_iter().map(move |delivery| (of, delivery)))
            .collect();
        self.deliveries += deliveries.len();
        self.rows += rows.len();
        let outcomes: Vec<(usize, String, Outcome)> = futures_util::stream::iter(deliveries)
            .map(|(of, delivery)| async move { (of, delivery.name(), deliver(address, &delivery).await) })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let before = self.faults.len();
        let mut ids = BTreeMap::new();
        for (of, way, outcome) in &outcomes {
            let row = &rows[*of];
            match self.judge(row, outcome) {
                Ok(told) => ids.extend(told.into_iter().map(|id| (id, *of))),
                Err(fault) => self.faults.push(format!("{}, {way}: {fault}", row.name())),
            }
        }
        self.judge_upstream(&rows, &ids).await;
        self.canary(&rows).await;
        // A few faults tell enough.
        self.faults.truncate(before + 2 * rows.len());
    }

    /// Compares the answers with what the row expects, and gives the ids of those that are the upstream's.
    fn judge(&self, row: &Row, outcome: &Outcome) -> Result<Vec<String>, String> {
        let told =
            outcome.answers.as_ref().map_err(|error| format!("{error}; it sent {:?}", outcome.text()))?;
        let mut ids = Vec::new();
        for answer in told {
            let Some(id) = answer.header("x-told-id") else { continue };
            if answer.header("x-request-id") != Some(id) {
                return Err(format!("an answer to another request: {answer:?}"));
            }
            ids.push(id.to_owned());
        }
        if outcome.hangs {
            return Err(format!("the connection stays open; it sent {:?}", outcome.text()));
        }
        row.check(told, outcome).map(|()| ids)
    }

    /// Oracles 1, 2 and 4, and what the rows themselves want to know of the upstream. `ids` holds the upstream's answers with
    /// their rows.
    async fn judge_upstream(&mut self, rows: &[Row], ids: &BTreeMap<String, usize>) {
        let aborts = rows.iter().any(|row| row.aborts);
        if aborts {
            // Nobody waits for the end of a request that is cut off.
            self.idle().await;
        }
        let requests = self.upstream.requests();
        self.upstream.forget();
        let mut faults = Vec::new();
        let complete: Vec<&Recorded> = requests.iter().filter(|request| request.complete).collect();
        if !aborts && complete.len() != requests.len() {
            faults.push("a request reached the upstream in part".to_owned());
        }
        let seen: BTreeSet<&str> = complete.iter().filter_map(|r| r.header("x-request-id")).collect();
        if !ids.keys().map(String::as_str).eq(seen.iter().copied()) {
            faults.push(format!("{} requests at the upstream, {} expected answers", seen.len(), ids.len()));
        }
        for request in &requests {
            faults.extend(stricter_reading(request));
            // One that was cut off has no answer that tells its row.
            let of = request.header("x-request-id").and_then(|id| ids.get(id));
            if request.target != NEXT_TARGET
                && let Some(row) = of.map(|of| &rows[*of])
                && let Some(fault) = row.check_upstream(request)
            {
                faults.push(format!("{fault} ({}): {request:?}", row.name()));
            }
        }
        faults.extend(self.strict.judge(self.upstream.take_bytes(), &complete).await);
        self.faults.extend(faults.into_iter().map(|fault| format!("{}: {fault}", names(rows))));
    }

    /// A client that has nothing to do with the attack gets its own answer (oracle 3).
    async fn canary(&mut self, rows: &[Row]) {
        self.canaries += 1;
        let target = format!("/public/canary-{}", self.canaries);
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").into_bytes();
        let outcome = deliver(self.gateway.address(), &Delivery::whole(bytes)).await;
        let canary = Row::new("canary", "", "", "").answers([forwarded(&target)]).closes();
        let mut faults: Vec<String> = self.judge(&canary, &outcome).err().into_iter().collect();
        let requests = self.upstream.requests();
        self.upstream.forget();
        let complete: Vec<&Recorded> = requests.iter().collect();
        if complete.len() != 1 {
            faults.push(format!("the upstream got {complete:?}"));
        }
        faults.extend(self.strict.judge(self.upstream.take_bytes(), &complete).await);
        self.faults.extend(faults.into_iter().map(|fault| format!("{}: the canary: {fault}", names(rows))));
    }

    /// Waits until no request is under way.
    async fn idle(&self) {
        eventually("nothing is under way", || async {
            (self.gateway.metric("scopegate_in_flight_requests", &[]).await == 0.0).then_some(())
        })
        .await;
    }

    /// Oracles 5 and 6, and the faults of all rows.
    pub(crate) async fn finish(self) {
        self.idle().await;
        assert_eq!(self.gateway.metric("scopegate_panics_total", &[]).await, 0.0);
        let asked = self.issuer.jwks_requests() + self.issuer.metadata_requests();
        assert_eq!(asked, self.asked_issuer, "the issuer was asked");
        println!("{} rows in {} deliveries", self.rows, self.deliveries);
        assert!(self.faults.is_empty(), "{} faults:\n{}", self.faults.len(), self.faults.join("\n"));
    }
}

/// What a fault of several rows is told by.
fn names(rows: &[Row]) -> String {
    match rows {
        [only] => only.name(),
        [first, .., last] => format!("{} … {}", first.name(), last.name()),
        [] => String::new(),
    }
}

/// The upstream's answer: which request it is an answer to.
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
