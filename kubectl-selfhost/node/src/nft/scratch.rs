//! A table of the divert's shape that never comes to life: it asks the kernel whether it could.
//!
//! Invariant: added and deleted in one transaction, so no packet ever meets it.

use std::net::{Ipv4Addr, SocketAddr};

use nftables::schema::Nftables;

use super::table::{Direction, Transaction, dnat, matches_set};

/// The table, in the inet family.
const TABLE: &str = "selfhost_scratch";

/// Adds and deletes the table.
pub(crate) fn try_out() -> Nftables<'static> {
    // 192.0.2.0/24 is nobody's (RFC 5737).
    let nobody = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 1));
    let rule = vec![matches_set(Direction::Destination, nobody.ip(), "lease"), dnat(nobody)];
    Transaction::replacing(TABLE)
        .set("lease", nobody.ip(), 1)
        .rule(rule)
        .add("lease", &[nobody])
        .deleting()
        .document()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_deleted_in_the_same_transaction() {
        let document = serde_json::to_value(try_out()).unwrap();
        let commands = document["nftables"].as_array().unwrap();
        let table = json!({"table": {"family": "inet", "name": "selfhost_scratch"}});
        assert_eq!(commands.first(), Some(&json!({"add": table})));
        assert_eq!(commands.last(), Some(&json!({"delete": table})));
        let hooks: Vec<_> = commands.iter().filter_map(|c| c["add"]["chain"]["hook"].as_str()).collect();
        assert_eq!(hooks, ["prerouting", "output"]);
    }
}
