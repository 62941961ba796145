//! How many connections each client has, so that one of them cannot have all.
//!
//! 1. A connection is counted for the peer of its socket; one that a trusted proxy introduces (`proxy_protocol`), for the
//!    client that the header names.
//! 2. A client is an IPv4 address, or an IPv6 network of 64 bits: whoever has one such address has all of that network
//!    (RFC 6177).
//! 3. Only clients with an open connection are remembered, so that memory is bounded by the connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who a connection is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    V4(u32),
    V6(u64),
}

impl Client {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The connections of each client, of all workers together.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares(Arc<Mutex<HashMap<Client, usize>>>);

/// One connection of a client; it is counted until this is dropped.
#[derive(Debug)]
#[must_use = "what is not held is not counted"]
pub(super) struct Share(Option<(Shares, Client)>);

impl Shares {
    /// Counts one more connection of a client that may have `most`; `None` if it has them already. Who has no limit is not
    /// counted.
    pub(super) fn take(&self, address: IpAddr, most: Option<usize>) -> Option<Share> {
        let Some(most) = most else { return Some(Share(None)) };
        let client = Client::of(address);
        let mut counts = self.lock();
        let count = counts.entry(client).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Share(Some((self.clone(), client))))
    }

    /// Held for a look into the table, by whoever opens or closes a connection. The table is whole between two statements.
    fn lock(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some((shares, client)) = &self.0 else { return };
        let mut counts = shares.lock();
        if let Some(count) = counts.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_network_and_is_forgotten_with_its_last_connection() {
        let shares = Shares::default();
        let take = |address: &str, most| shares.take(address.parse().unwrap(), most);
        let first = take("192.0.2.1", Some(1)).unwrap();
        assert!(take("192.0.2.1", Some(1)).is_none());
        assert!(take("::ffff:192.0.2.1", Some(1)).is_none(), "the same client");
        let another = take("192.0.2.2", Some(1)).unwrap();
        let network = take("2001:db8:0:1::1", Some(1)).unwrap();
        assert!(take("2001:db8:0:1:ffff::2", Some(1)).is_none(), "the same network");
        let next_network = take("2001:db8:0:2::1", Some(1)).unwrap();
        assert!(take("192.0.2.1", None).is_some(), "a proxy");
        assert!(take("192.0.2.1", Some(2)).is_some());
        drop(first);
        let again = take("192.0.2.1", Some(1)).unwrap();
        drop((again, another, network, next_network));
        assert!(shares.lock().is_empty());
    }
}
