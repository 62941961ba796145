//! A set of IP networks.

use std::net::IpAddr;

use ipnet::IpNet;

/// IP networks as sorted ranges that do not overlap: looking an address up takes a binary search, however many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    /// No network.
    pub const NONE: Self = Self { v4: Vec::new(), v6: Vec::new() };

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether the address is in one of them. An IPv4 address that is mapped to IPv6 is an IPv6 address here.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => holds(&self.v4, address.into()),
            IpAddr::V6(address) => holds(&self.v6, address.into()),
        }
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let mut all = Self::NONE;
        for network in networks {
            match network {
                IpNet::V4(network) => all.v4.push((network.network().into(), network.broadcast().into())),
                IpNet::V6(network) => all.v6.push((network.network().into(), network.broadcast().into())),
            }
        }
        merge(&mut all.v4);
        merge(&mut all.v6);
        all
    }
}

/// Sorts ranges and joins those that overlap.
fn merge<T: Copy + Ord>(ranges: &mut Vec<(T, T)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let overlaps = next.0 <= kept.1;
        if overlaps {
            kept.1 = kept.1.max(next.1);
        }
        overlaps
    });
}

fn holds<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let following = ranges.partition_point(|(start, _)| *start <= address);
    let before = following.checked_sub(1).and_then(|position| ranges.get(position));
    before.is_some_and(|(_, end)| address <= *end)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn network() -> impl Strategy<Value = IpNet> {
        let v4 = (0..4096_u32, 20..=32_u8)
            .prop_map(|(address, prefix)| IpNet::new(Ipv4Addr::from(address).into(), prefix).unwrap());
        let v6 = (0..4096_u128, 116..=128_u8)
            .prop_map(|(address, prefix)| IpNet::new(Ipv6Addr::from(address).into(), prefix).unwrap());
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn an_address_is_in_the_set_if_it_is_in_a_network(
            networks in prop::collection::vec(network(), 0..12),
            addresses in prop::collection::vec(0..8192_u32, 32),
        ) {
            let set: Networks = networks.iter().copied().collect();
            prop_assert_eq!(set.is_empty(), networks.is_empty());
            for number in addresses {
                let both: [IpAddr; 2] =
                    [Ipv4Addr::from(number).into(), Ipv6Addr::from(u128::from(number)).into()];
                for address in both {
                    let expected = networks.iter().any(|network| network.contains(&address));
                    prop_assert_eq!(set.contains(address), expected, "{} {:?}", address, networks);
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_address_space_are_held() {
        let set: Networks = ["0.0.0.0/0", "::/0", "255.255.255.255/32"]
            .map(|net| net.parse::<IpNet>().unwrap())
            .into_iter()
            .collect();
        for address in ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            assert!(set.contains(address.parse().unwrap()), "{address}");
            assert!(!Networks::NONE.contains(address.parse().unwrap()));
        }
    }
}
