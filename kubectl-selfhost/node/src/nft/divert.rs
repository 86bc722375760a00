//! The divert: new connections to the node's public API address, and to the `kubernetes` Service, go to the bridge
//! while the lease is alive.
//!
//! Invariants: a connection is diverted only while its destination is in a set whose elements the kernel drops by
//! itself after [`LEASE_SECONDS`]; 127.0.0.1 is never in that set; established connections are not touched.

use std::net::{IpAddr, SocketAddr};

use nftables::schema::Nftables;
use serde::Deserialize;

use super::Error;
use super::table::{Direction, Transaction, dnat, matches_set};

/// How long the divert outlives its last renewal.
pub(crate) const LEASE_SECONDS: u32 = 5;

/// The table of a bridge's gate, in the inet family.
pub(crate) const TABLE: &str = "selfhost";

/// The table of the standby's gate. Both may be there at a time: they divert the same connections to the same port, on
/// which only one of their servers can listen.
pub(super) const STANDBY_TABLE: &str = "selfhost_standby";

/// The set of diverted destinations.
const LEASE: &str = "lease";

/// What is diverted, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Divert {
    table: &'static str,
    bridge: SocketAddr,
    targets: Vec<SocketAddr>,
}

/// Addresses that no divert can be made of.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("node IP {node} and service IP {service} are not of one family")]
    Families { node: IpAddr, service: IpAddr },
    #[error("{0} is not an address of this node that others can reach")]
    Address(IpAddr),
    #[error("the bridge port {0} is the diverted port itself")]
    Port(u16),
}

impl Divert {
    /// A divert of `node` (the public API address) and the `kubernetes` Service's address to `bridge_port` on the
    /// node's own address.
    pub(crate) fn new(
        node: SocketAddr,
        service: Option<SocketAddr>,
        bridge_port: u16,
    ) -> Result<Self, Invalid> {
        if let Some(service) = service
            && service.is_ipv4() != node.is_ipv4()
        {
            return Err(Invalid::Families { node: node.ip(), service: service.ip() });
        }
        if bridge_port == node.port() {
            return Err(Invalid::Port(bridge_port));
        }
        let targets: Vec<_> = [node].into_iter().chain(service).collect();
        for target in &targets {
            let ip = target.ip();
            if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
                return Err(Invalid::Address(ip));
            }
        }
        Ok(Self { table: TABLE, bridge: SocketAddr::new(node.ip(), bridge_port), targets })
    }

    /// The same, in the standby's table.
    pub(crate) fn of_standby(self) -> Self {
        Self { table: STANDBY_TABLE, ..self }
    }

    /// The table's name.
    pub(crate) fn table(&self) -> &'static str {
        self.table
    }

    /// The diverted destinations: the node's address, then the Service's.
    pub(crate) fn targets(&self) -> &[SocketAddr] {
        &self.targets
    }

    /// Where the server that is diverted from listens.
    pub(crate) fn public(&self) -> SocketAddr {
        self.targets[0]
    }

    /// Where connections are diverted to.
    pub(crate) fn bridge(&self) -> SocketAddr {
        self.bridge
    }
}

/// Replaces the table, with nothing diverted yet.
pub(crate) fn install(divert: &Divert) -> Nftables<'static> {
    installing(divert).document()
}

/// Replaces the table and diverts at once.
pub(crate) fn install_diverting(divert: &Divert) -> Nftables<'static> {
    installing(divert).add(LEASE, divert.targets()).document()
}

/// Starts the lease's time anew, or begins the divert, in an installed table.
pub(crate) fn renew(divert: &Divert) -> Nftables<'static> {
    // Adding what is there does not restart its time, and deleting what is not there fails.
    let targets = divert.targets();
    Transaction::on(divert.table).add(LEASE, targets).delete(LEASE, targets).add(LEASE, targets).document()
}

/// Ends the divert of an installed table.
pub(crate) fn withdraw(divert: &Divert) -> Nftables<'static> {
    let targets = divert.targets();
    Transaction::on(divert.table).add(LEASE, targets).delete(LEASE, targets).document()
}

/// Removes the table of this name.
pub(super) fn remove(table: &'static str) -> Nftables<'static> {
    Transaction::removing(table).document()
}

/// Whether the kernel diverts to a bridge at this moment.
pub(crate) fn is_alive() -> Result<bool, Error> {
    match super::list_set(TABLE, LEASE) {
        Ok(listing) => parse_alive(&listing),
        // ENOENT, in nft's words: there is no such table.
        Err(Error::Refused(text)) if text.contains("No such file or directory") => Ok(false),
        Err(error) => Err(error),
    }
}

fn installing(divert: &Divert) -> Transaction {
    let family = divert.bridge.ip();
    let rule = vec![matches_set(Direction::Destination, family, LEASE), dnat(divert.bridge)];
    Transaction::replacing(divert.table).set(LEASE, family, LEASE_SECONDS).rule(rule)
}

/// Reads nft's listing of the set; the kernel lists only elements whose time has not run out.
fn parse_alive(listing: &[u8]) -> Result<bool, Error> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Object>,
    }
    #[derive(Deserialize)]
    struct Object {
        set: Option<Set>,
    }
    #[derive(Deserialize)]
    struct Set {
        #[serde(default)]
        elem: Vec<serde::de::IgnoredAny>,
    }
    let listing: Listing = serde_json::from_slice(listing).map_err(Error::Output)?;
    Ok(listing.nftables.iter().filter_map(|object| object.set.as_ref()).any(|set| !set.elem.is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn divert(node: &str, service: &str) -> Divert {
        Divert::new(node.parse().unwrap(), Some(service.parse().unwrap()), 6444).unwrap()
    }

    fn commands(document: &Nftables<'_>) -> Vec<Value> {
        let Value::Array(commands) = serde_json::to_value(document).unwrap()["nftables"].take() else {
            panic!("a document is a list of commands");
        };
        commands
    }

    #[test]
    fn the_installed_table() {
        let installed = commands(&install_diverting(&divert("10.0.0.1:6443", "10.96.0.1:443")));
        let table = json!({"family": "inet", "name": "selfhost"});
        let expected = json!([
            {"add": {"table": table}},
            {"delete": {"table": table}},
            {"add": {"table": table}},
            {"add": {"set": {"family": "inet", "table": "selfhost", "name": "lease",
                "type": ["ipv4_addr", "inet_service"], "flags": ["timeout"], "timeout": 5}}},
            {"add": {"chain": {"family": "inet", "table": "selfhost", "name": "divert"}}},
            {"add": {"rule": {"family": "inet", "table": "selfhost", "chain": "divert", "expr": [
                {"match": {"op": "==", "right": "@lease", "left": {"concat": [
                    {"payload": {"protocol": "ip", "field": "daddr"}},
                    {"payload": {"protocol": "tcp", "field": "dport"}}]}}},
                {"dnat": {"family": "ip", "addr": "10.0.0.1", "port": 6444}}]}}},
            {"add": {"chain": {"family": "inet", "table": "selfhost", "name": "incoming",
                "type": "nat", "hook": "prerouting", "prio": -101, "policy": "accept"}}},
            {"add": {"rule": {"family": "inet", "table": "selfhost", "chain": "incoming",
                "expr": [{"jump": {"target": "divert"}}]}}},
            {"add": {"chain": {"family": "inet", "table": "selfhost", "name": "own",
                "type": "nat", "hook": "output", "prio": -101, "policy": "accept"}}},
            {"add": {"rule": {"family": "inet", "table": "selfhost", "chain": "own",
                "expr": [{"jump": {"target": "divert"}}]}}},
            {"add": {"element": {"family": "inet", "table": "selfhost", "name": "lease", "elem": [
                {"concat": ["10.0.0.1", 6443]}, {"concat": ["10.96.0.1", 443]}]}}},
        ]);
        assert_eq!(Value::Array(installed), expected);
    }

    #[test]
    fn without_lease_the_same_table_has_no_element() {
        let divert = divert("10.0.0.1:6443", "10.96.0.1:443");
        let mut diverting = commands(&install_diverting(&divert));
        assert!(diverting.pop().unwrap()["add"]["element"].is_object());
        assert_eq!(commands(&install(&divert)), diverting);
    }

    #[test]
    fn ipv6_addresses_make_an_ipv6_table() {
        let installed = commands(&install_diverting(&divert("[fd00::1]:6443", "[fd00:96::1]:443")));
        assert_eq!(installed[3]["add"]["set"]["type"], json!(["ipv6_addr", "inet_service"]));
        let rule = &installed[5]["add"]["rule"]["expr"];
        assert_eq!(
            rule[0]["match"]["left"]["concat"][0],
            json!({"payload": {"protocol": "ip6", "field": "daddr"}})
        );
        assert_eq!(rule[1], json!({"dnat": {"family": "ip6", "addr": "fd00::1", "port": 6444}}));
        let elements = &installed[10]["add"]["element"]["elem"];
        assert_eq!(*elements, json!([{"concat": ["fd00::1", 6443]}, {"concat": ["fd00:96::1", 443]}]));
    }

    #[test]
    fn changes_of_the_lease() {
        let divert = divert("10.0.0.1:6443", "10.96.0.1:443");
        let element = json!({"element": {"family": "inet", "table": "selfhost", "name": "lease", "elem": [
            {"concat": ["10.0.0.1", 6443]}, {"concat": ["10.96.0.1", 443]}]}});
        let table = json!({"table": {"family": "inet", "name": "selfhost"}});
        assert_eq!(
            commands(&renew(&divert)),
            [json!({"add": element}), json!({"delete": element}), json!({"add": element})]
        );
        assert_eq!(commands(&withdraw(&divert)), [json!({"add": element}), json!({"delete": element})]);
        assert_eq!(commands(&remove(divert.table())), [json!({"add": table}), json!({"delete": table})]);
        let of_standby = json!({"table": {"family": "inet", "name": "selfhost_standby"}});
        assert_eq!(commands(&remove(divert.of_standby().table()))[1], json!({"delete": of_standby}));
    }

    #[test]
    fn impossible_diverts_are_refused() {
        let new = |node: &str, service: Option<&str>, port| {
            Divert::new(node.parse().unwrap(), service.map(|service| service.parse().unwrap()), port)
                .map(drop)
        };
        assert_eq!(new("10.0.0.1:6443", None, 6444), Ok(()));
        assert_eq!(new("127.0.0.1:6443", None, 6444), Err(Invalid::Address([127, 0, 0, 1].into())));
        assert_eq!(new("0.0.0.0:6443", None, 6444), Err(Invalid::Address([0, 0, 0, 0].into())));
        assert_eq!(new("10.0.0.1:6443", None, 6443), Err(Invalid::Port(6443)));
        assert!(matches!(new("10.0.0.1:6443", Some("[fd00::1]:443"), 6444), Err(Invalid::Families { .. })));
        assert!(matches!(new("10.0.0.1:6443", Some("127.0.0.1:443"), 6444), Err(Invalid::Address(_))));
    }

    #[test]
    fn the_listing_of_a_live_and_of_a_lapsed_lease() {
        // As nft 1.0.6 prints them.
        let live = br#"{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}}, {"set": {"family": "inet",
            "name": "lease", "table": "selfhost", "type": ["ipv4_addr", "inet_service"], "handle": 1, "flags": ["timeout"],
            "elem": [{"elem": {"val": {"concat": ["10.0.0.1", 6443]}, "timeout": 5, "expires": 4}}]}}]}"#;
        let lapsed = br#"{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}}, {"set": {"family": "inet",
            "name": "lease", "table": "selfhost", "type": ["ipv4_addr", "inet_service"], "handle": 1, "flags": ["timeout"]}}]}"#;
        assert!(parse_alive(live).unwrap());
        assert!(!parse_alive(lapsed).unwrap());
        assert!(parse_alive(b"").is_err());
    }
}
