//! The addresses and TLS settings of one upstream, kept over reloads while its configuration is equal.
//!
//! Connections are not here: each worker has its own (see [`crate::forward`]), found by [`UpstreamCell::id`].

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connect_health::ConnectHealth;
use crate::observe::metrics::ConnectFault;
use crate::snapshot::{Endpoint, UpstreamPolicy, UpstreamProtocol, UpstreamTls};
use crate::state::tls::{TlsError, client_config};

/// How often names are looked up again. `getaddrinfo` tells no time to live.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(30);
/// How often while a name stands for nothing yet, and most often after connections failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How often a failed look-up of one name is logged.
const TELL_INTERVAL: Duration = Duration::from_secs(30);
/// How long one look-up may take.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// One address that requests can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where to connect.
    pub socket: SocketAddr,
    /// Whom the certificate must name; `None` for plain text.
    pub tls_name: Option<ServerName<'static>>,
}

/// What lives of an upstream as long as its configuration does.
#[derive(Debug)]
pub struct UpstreamCell {
    /// Its number in this process; a changed configuration gets a new one.
    pub id: u64,
    /// Its configuration.
    pub policy: UpstreamPolicy,
    /// TLS settings, if any endpoint needs them.
    pub tls: Option<Arc<ClientConfig>>,
    /// Which of its addresses refuse connections.
    pub health: ConnectHealth,
    addresses: ArcSwap<Vec<Address>>,
    /// What each endpoint's name last stood for.
    found: Mutex<Vec<Found>>,
    /// Asks for a look-up before its time. One is under way at most: the task that waits for this does them all.
    wanted: Arc<Notify>,
}

/// What is known of one endpoint's name.
#[derive(Debug, Default)]
struct Found {
    addresses: Vec<Address>,
    /// When a failed look-up was last logged; none since the last that succeeded.
    told: Option<Instant>,
}

impl UpstreamCell {
    /// A cell that knows the addresses written as numbers; names are looked up by [`UpstreamCell::look_up`].
    ///
    /// # Errors
    ///
    /// TLS files that do not parse or do not fit together.
    pub fn new(policy: UpstreamPolicy) -> Result<Arc<Self>, TlsError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let secure = policy.endpoints.iter().any(|endpoint| endpoint.secure);
        let tls = if secure {
            let multiplexed = policy.protocol == UpstreamProtocol::H2;
            Some(Arc::new(client_config(&policy.tls, multiplexed)?))
        } else {
            None
        };
        let literal = |endpoint: &Endpoint| {
            let ip: IpAddr = endpoint.host.parse().ok()?;
            address(&policy.tls, endpoint, SocketAddr::new(ip, endpoint.port))
        };
        let found: Vec<Found> = policy
            .endpoints
            .iter()
            .map(|endpoint| Found { addresses: literal(endpoint).into_iter().collect(), told: None })
            .collect();
        Ok(Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            addresses: ArcSwap::from_pointee(union(&found)),
            found: Mutex::new(found),
            wanted: Arc::new(Notify::new()),
            health: ConnectHealth::default(),
            tls,
            policy,
        }))
    }

    /// The addresses as last looked up.
    pub fn addresses(&self) -> Arc<Vec<Address>> {
        self.addresses.load_full()
    }

    /// Whether any endpoint is a name.
    pub fn has_names(&self) -> bool {
        self.policy.endpoints.iter().any(|endpoint| endpoint.host.parse::<IpAddr>().is_err())
    }

    /// Notes that no connection to `address` could be opened, and asks for a look-up now: the name may stand for another
    /// address since.
    pub fn connect_failed(&self, address: SocketAddr, fault: ConnectFault, error: &str) {
        // A shortage of this machine says nothing of the address.
        if fault == ConnectFault::Shortage {
            return;
        }
        self.wanted.notify_one();
        // One that the name no longer stands for would never be said to be back.
        if self.has(address) {
            self.health.failed(&self.policy.name, address, fault, error);
        }
    }

    /// Notes that a connection to `address` was opened.
    pub fn connected(&self, address: SocketAddr) {
        self.health.succeeded(&self.policy.name, address);
    }

    fn has(&self, socket: SocketAddr) -> bool {
        self.addresses.load().iter().any(|address| address.socket == socket)
    }

    /// Looks all names up once. Addresses of a name that cannot be looked up at the moment stay as they were.
    /// Returns how long the result may be used.
    pub async fn look_up(&self) -> Duration {
        for (position, endpoint) in self.policy.endpoints.iter().enumerate() {
            if endpoint.host.parse::<IpAddr>().is_ok() {
                continue;
            }
            let query = tokio::net::lookup_host((&*endpoint.host, endpoint.port));
            match tokio::time::timeout(LOOK_UP_TIMEOUT, query).await {
                Ok(Ok(sockets)) => {
                    let found =
                        sockets.filter_map(|socket| address(&self.policy.tls, endpoint, socket)).collect();
                    self.note(position, found);
                }
                Ok(Err(error)) => self.failed(position, endpoint, &error),
                Err(_) => self.failed(position, endpoint, &"timed out"),
            }
        }
        self.lasts()
    }

    /// How long what was found may be used.
    fn lasts(&self) -> Duration {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = found.iter().any(|name| name.addresses.is_empty());
        if unknown { RETRY_INTERVAL } else { LOOK_UP_INTERVAL }
    }

    fn failed(&self, position: usize, endpoint: &Endpoint, error: &dyn std::fmt::Display) {
        let mut names = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(name) = names.get_mut(position) else { return };
        if name.told.is_none_or(|told| told.elapsed() >= TELL_INTERVAL) {
            name.told = Some(Instant::now());
            tracing::warn!(upstream = %self.policy.name, host = %endpoint.host, %error, "name look-up failed");
        }
    }

    /// Notes what the name of an endpoint stands for now.
    fn note(&self, position: usize, found: Vec<Address>) {
        let all = {
            let mut names = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(name) = names.get_mut(position) {
                *name = Found { addresses: found, told: None };
            }
            union(&names)
        };
        // Name servers turn the order with each answer; that is no change.
        let before = self.addresses.load();
        let same = before.len() == all.len() && before.iter().all(|address| all.contains(address));
        if !same && !all.is_empty() {
            tracing::info!(upstream = %self.policy.name, addresses = all.len(), "upstream addresses changed");
            self.addresses.store(Arc::new(all));
            self.health.keep(|address| self.has(address));
        }
    }
}

/// The addresses of all names, each once.
fn union(names: &[Found]) -> Vec<Address> {
    let mut all: Vec<Address> = Vec::new();
    for address in names.iter().flat_map(|name| &name.addresses) {
        if !all.contains(address) {
            all.push(address.clone());
        }
    }
    all
}

fn address(tls: &UpstreamTls, endpoint: &Endpoint, socket: SocketAddr) -> Option<Address> {
    let tls_name = match (endpoint.secure, &tls.server_name) {
        (true, Some(name)) => Some(name.clone()),
        (true, None) => Some(ServerName::try_from(endpoint.host.to_string()).ok()?),
        (false, _) => None,
    };
    Some(Address { socket, tls_name })
}

/// Looks the names of a cell up as they age, and after connections failed, for as long as the cell lives.
pub async fn keep_looking_up(cell: std::sync::Weak<UpstreamCell>) {
    let begin = cell.upgrade().map(|cell| (Arc::clone(&cell.wanted), cell.lasts()));
    let Some((wanted, mut wait)) = begin else { return };
    loop {
        // However many connections fail, there is no more than one look-up in this time.
        tokio::time::sleep(RETRY_INTERVAL).await;
        let _ = tokio::time::timeout(wait.saturating_sub(RETRY_INTERVAL), wanted.notified()).await;
        let Some(cell) = cell.upgrade() else { return };
        wait = cell.look_up().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::HostHeader;
    use crate::types::UpstreamName;

    fn cell(hosts: &[(&str, u16)]) -> Arc<UpstreamCell> {
        let endpoint =
            |(host, port): &(&str, u16)| Endpoint { secure: false, host: (*host).into(), port: *port };
        let policy = UpstreamPolicy {
            name: UpstreamName::new("orders"),
            endpoints: hosts.iter().map(endpoint).collect(),
            protocol: UpstreamProtocol::Http1,
            host: HostHeader::Preserve,
            tls: UpstreamTls::default(),
        };
        UpstreamCell::new(policy).unwrap()
    }

    fn ports(cell: &UpstreamCell) -> std::collections::BTreeSet<u16> {
        cell.addresses().iter().map(|address| address.socket.port()).collect()
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_looked_up_holds_no_other_name_up() {
        let cell = cell(&[("127.0.0.1", 1), ("no name", 2), ("localhost", 3)]);
        assert_eq!(ports(&cell), [1].into());
        cell.look_up().await;
        assert_eq!(ports(&cell), [1, 3].into());
    }

    #[tokio::test]
    async fn an_address_in_numbers_is_there_before_all_names_are() {
        let cell = cell(&[("no name", 1), ("127.0.0.1", 2)]);
        cell.look_up().await;
        assert_eq!(ports(&cell), [2].into());
    }

    #[tokio::test]
    async fn a_name_of_which_nothing_is_known_is_asked_again_soon() {
        let known = cell(&[("127.0.0.1", 1), ("localhost", 2)]);
        assert_eq!(known.look_up().await, LOOK_UP_INTERVAL);
        let unknown = cell(&[("127.0.0.1", 1), ("no name", 2)]);
        assert_eq!(unknown.look_up().await, RETRY_INTERVAL);
    }

    #[tokio::test]
    async fn failed_connections_ask_for_one_look_up_before_its_time() {
        let cell = cell(&[("127.0.0.1", 1), ("localhost", 2)]);
        cell.look_up().await;
        let looking = tokio::spawn(keep_looking_up(Arc::downgrade(&cell)));
        // What it stands for is forgotten here, so that a look-up shows.
        cell.addresses.store(Arc::new(Vec::new()));
        let begun = Instant::now();
        for _ in 0..100 {
            cell.connect_failed(SocketAddr::from(([127, 0, 0, 1], 1)), ConnectFault::Refused, "refused");
        }
        while ports(&cell).is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(begun.elapsed() < LOOK_UP_INTERVAL / 2, "{:?}", begun.elapsed());
        drop(cell);
        looking.abort();
    }
}
