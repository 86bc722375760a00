//! A cluster's own subnet: one bridge on this machine, one cable (veth) to each node.
//!
//! Invariant: every link of a cluster has its subnet's number in its name, and no two clusters share a number.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::state::{Node, State};
use crate::command;
use crate::refusal::Refusal;

/// Addresses of a cluster: 10.250.`n`.0/24.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet(pub(crate) u8);

impl Subnet {
    /// A number that neither `taken` nor any link on this machine uses.
    pub(crate) fn free(taken: &[u8]) -> Result<Self> {
        (1..=254).map(Self).find(|subnet| !taken.contains(&subnet.0) && !exists(&subnet.bridge())).ok_or_else(
            || {
                Refusal::new("all 254 subnets of the bed are in use", "take clusters down: cargo bed list")
                    .into()
            },
        )
    }

    /// Address of the node with last byte `host`.
    pub(crate) fn address(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 250, self.0, host)
    }

    /// This machine's address in the subnet.
    pub(crate) fn gateway(self) -> Ipv4Addr {
        self.address(1)
    }

    /// Name of the bridge.
    pub(crate) fn bridge(self) -> String {
        format!("shb{}", self.0)
    }

    /// Name of this machine's end of a node's cable: at most 12 of 15 characters.
    pub(crate) fn cable(self, node: &Node) -> String {
        format!("shb{}{}", self.0, node.name)
    }

    /// Creates the bridge unless it is there.
    pub(crate) fn create(self) -> Result<()> {
        let bridge = self.bridge();
        if !exists(&bridge) {
            ip(&["link", "add", &bridge, "type", "bridge"])?;
        }
        ip(&["address", "replace", &format!("{}/24", self.gateway()), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])
    }

    /// Connects the network namespace of process `pid` to the bridge, as its `eth0`.
    pub(crate) fn plug(self, node: &Node, pid: u32) -> Result<()> {
        let cable = self.cable(node);
        // Of a node whose namespace is just about to vanish.
        if exists(&cable) {
            ip(&["link", "delete", &cable])?;
        }
        let (pid, hardware) = (pid.to_string(), hardware_address(self.address(node.host)));
        // A machine keeps its network card through a power cut. With another one its neighbours would go on sending to the
        // card that they remember, for up to a minute.
        let eth0 = ["peer", "name", "eth0", "address", &hardware, "netns", &pid];
        ip(&[&["link", "add", &cable, "type", "veth"], &eth0[..]].concat())?;
        ip(&["link", "set", &cable, "master", &self.bridge(), "up"])
    }

    /// Removes the bridge and every cable that is left.
    pub(crate) fn remove(self, state: &State) -> Result<()> {
        for link in state.nodes.iter().map(|node| self.cable(node)).chain([self.bridge()]) {
            // The kernel removes a cable by itself, a moment after the last process of its namespace.
            if exists(&link)
                && let Err(error) = ip(&["link", "delete", &link])
                && exists(&link)
            {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// A hardware address of the range that everybody may give out, made from the node's own address.
fn hardware_address(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Pods of the node with last byte `host`. The same in every cluster: nobody outside a cluster can reach them.
pub(crate) fn pod_subnet(host: u8) -> String {
    format!("10.244.{host}.0/24")
}

fn exists(link: &str) -> bool {
    fs::symlink_metadata(Path::new("/sys/class/net").join(link)).is_ok()
}

fn ip(arguments: &[&str]) -> Result<()> {
    command::output(Command::new("ip").args(arguments)).map(drop).context("set up the network")
}

#[cfg(test)]
mod tests {
    use super::super::state::nodes;
    use super::*;

    #[test]
    fn link_names_fit_and_differ_between_clusters() {
        let nodes = nodes(3, 79);
        for node in &nodes {
            assert!(Subnet(254).cable(node).len() < 16);
        }
        // Not a prefix trap: shb1 + "2..." must not be shb12 + "...".
        assert!(nodes.iter().all(|node| node.name.starts_with(|c: char| c.is_ascii_alphabetic())));
    }
}
