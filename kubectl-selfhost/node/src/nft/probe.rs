//! The table that diverts one connection, to prove that diverted packets get through.
//!
//! Invariant: it diverts only packets from exactly one address and port, and only while the kernel's timer runs.

use std::net::SocketAddr;

use nftables::schema::Nftables;

use super::table::{Direction, Transaction, dnat, matches_destination, matches_set};

/// The table, in the inet family.
const TABLE: &str = "selfhost_prove";

/// The set with the one source.
const SOURCE: &str = "source";

/// Replaces the table with one that diverts connections from `source` to `target` to the bridge port, for
/// `seconds`. All addresses are of one family.
pub(crate) fn install(
    source: SocketAddr,
    target: SocketAddr,
    bridge_port: u16,
    seconds: u32,
) -> Nftables<'static> {
    let family = source.ip();
    let mut rule = vec![matches_set(Direction::Source, family, SOURCE)];
    rule.extend(matches_destination(target));
    rule.push(dnat(SocketAddr::new(target.ip(), bridge_port)));
    Transaction::replacing(TABLE).set(SOURCE, family, seconds).rule(rule).add(SOURCE, &[source]).document()
}

/// Removes the table.
pub(crate) fn remove() -> Nftables<'static> {
    Transaction::removing(TABLE).document()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_source_is_diverted() {
        let installed =
            install("10.9.8.7:50000".parse().unwrap(), "10.0.0.1:6443".parse().unwrap(), 6444, 15);
        let commands = &serde_json::to_value(installed).unwrap()["nftables"];
        assert_eq!(
            commands[3]["add"]["set"],
            json!({"family": "inet", "table": "selfhost_prove", "name": "source",
                "type": ["ipv4_addr", "inet_service"], "flags": ["timeout"], "timeout": 15})
        );
        assert_eq!(
            commands[5]["add"]["rule"]["expr"],
            json!([
                {"match": {"op": "==", "right": "@source", "left": {"concat": [
                    {"payload": {"protocol": "ip", "field": "saddr"}},
                    {"payload": {"protocol": "tcp", "field": "sport"}}]}}},
                {"match": {"op": "==", "right": "10.0.0.1",
                    "left": {"payload": {"protocol": "ip", "field": "daddr"}}}},
                {"match": {"op": "==", "right": 6443, "left": {"payload": {"protocol": "tcp", "field": "dport"}}}},
                {"dnat": {"family": "ip", "addr": "10.0.0.1", "port": 6444}}])
        );
        assert_eq!(
            commands[10]["add"]["element"],
            json!({"family": "inet", "table": "selfhost_prove", "name": "source",
                "elem": [{"concat": ["10.9.8.7", 50000]}]})
        );
        assert!(commands[11].is_null(), "nothing else");
    }
}
