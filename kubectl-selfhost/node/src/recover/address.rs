//! The address that an API server on this node advertises, where nobody says it.
//!
//! Invariant: an address that is not beyond doubt is none.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

/// The kernel's tables of IPv4 routes, which list every address of the machine.
const TABLES: &str = "/proc/net/fib_trie";

/// The only IPv4 address of this machine that others can reach.
///
/// A machine with more than one (another network card, a bridge of the Pod network) has none, and neither has one of
/// IPv6 alone, on which several are the rule.
pub(super) fn only() -> Option<IpAddr> {
    only_in(&fs::read_to_string(TABLES).ok()?)
}

fn only_in(tables: &str) -> Option<IpAddr> {
    let mut last: Option<Ipv4Addr> = None;
    let mut found: Vec<Ipv4Addr> = Vec::new();
    for line in tables.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last
            && !address.is_loopback()
            && !address.is_link_local()
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    match found[..] {
        [only] => Some(only.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `/proc/net/fib_trie` shows it, in which every address is twice.
    fn tables(addresses: &[&str]) -> String {
        let leaf = |address: &&str| {
            format!(
                "     |-- {address}\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n"
            )
        };
        let local: String = ["127.0.0.1"].iter().chain(addresses).map(leaf).collect();
        format!(
            "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n{local}Local:\n{local}"
        )
    }

    #[test]
    fn an_address_that_is_not_beyond_doubt_is_none() {
        for (addresses, expected) in [
            (&[][..], None),
            (&["10.0.0.11"], Some("10.0.0.11")),
            (&["10.0.0.11", "169.254.0.1"], Some("10.0.0.11")),
            (&["10.0.0.11", "10.244.0.1"], None),
        ] {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(only_in(&tables(addresses)), expected, "{addresses:?}");
        }
    }
}
