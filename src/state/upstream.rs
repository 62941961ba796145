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

use crate::snapshot::{Endpoint, UpstreamPolicy, UpstreamProtocol};
use crate::state::tls::{TlsError, client_config};

/// How often names are looked up again. `getaddrinfo` tells no time to live.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(30);
/// How often while there is no address at all.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
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
    addresses: ArcSwap<Vec<Address>>,
    /// What each endpoint's name last stood for.
    found: Mutex<Vec<Vec<Address>>>,
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
            address(endpoint, SocketAddr::new(ip, endpoint.port))
        };
        let found: Vec<Vec<Address>> =
            policy.endpoints.iter().map(|endpoint| literal(endpoint).into_iter().collect()).collect();
        Ok(Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            addresses: ArcSwap::from_pointee(found.concat()),
            found: Mutex::new(found),
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

    /// Looks all names up once. Addresses of a name that cannot be looked up at the moment stay as they were.
    /// Returns how long the answer may be used.
    pub async fn look_up(&self) -> Duration {
        let mut failed = false;
        for (position, endpoint) in self.policy.endpoints.iter().enumerate() {
            let query = tokio::net::lookup_host((&*endpoint.host, endpoint.port));
            match tokio::time::timeout(LOOK_UP_TIMEOUT, query).await {
                Ok(Ok(sockets)) => {
                    let found = sockets.filter_map(|socket| address(endpoint, socket)).collect();
                    self.note(position, found);
                }
                Ok(Err(error)) => {
                    failed = true;
                    tracing::warn!(upstream = %self.policy.name, host = %endpoint.host, %error, "name look-up failed");
                }
                Err(_) => {
                    failed = true;
                    tracing::warn!(upstream = %self.policy.name, host = %endpoint.host, "name look-up timed out");
                }
            }
        }
        if failed && self.addresses.load().is_empty() { RETRY_INTERVAL } else { LOOK_UP_INTERVAL }
    }

    /// Notes what the name of an endpoint stands for now.
    fn note(&self, position: usize, found: Vec<Address>) {
        let all = {
            let mut names = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(name) = names.get_mut(position) {
                *name = found;
            }
            let mut all: Vec<Address> = Vec::new();
            for address in names.iter().flatten() {
                if !all.contains(address) {
                    all.push(address.clone());
                }
            }
            all
        };
        // Name servers turn the order with each answer; that is no change.
        let before = self.addresses.load();
        let same = before.len() == all.len() && before.iter().all(|address| all.contains(address));
        if !same && !all.is_empty() {
            tracing::info!(upstream = %self.policy.name, addresses = all.len(), "upstream addresses changed");
            self.addresses.store(Arc::new(all));
        }
    }
}

fn address(endpoint: &Endpoint, socket: SocketAddr) -> Option<Address> {
    let tls_name = match endpoint.secure {
        true => Some(ServerName::try_from(endpoint.host.to_string()).ok()?),
        false => None,
    };
    Some(Address { socket, tls_name })
}

/// Looks the names of a cell up as they age, for as long as the cell lives.
pub async fn keep_looking_up(cell: std::sync::Weak<UpstreamCell>, first: Duration) {
    let mut wait = first;
    loop {
        tokio::time::sleep(wait).await;
        let Some(cell) = cell.upgrade() else { return };
        wait = cell.look_up().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{HostHeader, UpstreamTls};
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
}
