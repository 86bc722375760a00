//! Each API server, asked for itself: a load balancer would tell of one of them.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::canary::{self, Answer};
use crate::availability::reachable;
use crate::client::{self, Connection};

/// An API server, and what it does with the edit that no guard admits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// The node; empty for whatever answers at the kubeconfig's address.
    pub node: String,
    /// `10.0.0.11:6443`
    pub address: String,
    /// What it said.
    pub canary: Answer,
}

/// The API servers that can be reached from here, with a connection to each; the kubeconfig's own address where none
/// of them can.
pub async fn reach(
    connection: &Connection,
    nodes: impl IntoIterator<Item = (String, IpAddr)>,
    port: u16,
) -> Result<Vec<(String, String, Connection)>, client::Error> {
    let nodes = nodes.into_iter().map(|(node, ip)| (node, SocketAddr::new(ip, port)));
    // Behind a proxy, a connection of one's own would tell of another way.
    let found = if connection.is_proxied() { Vec::new() } else { reachable(nodes).await };
    let mut servers = Vec::new();
    for (node, address) in found {
        servers.push((node, address.to_string(), connection.to(address)?));
    }
    if servers.is_empty() {
        let server = connection.server().authority().map(ToString::to_string).unwrap_or_default();
        servers.push((String::new(), server, connection.clone()));
    }
    Ok(servers)
}

/// Asks each of them at the same time.
pub async fn ask(servers: &[(String, String, Connection)]) -> Vec<Server> {
    let asked = servers.iter().map(|(node, address, connection)| async move {
        let canary = canary::ask(connection.client()).await;
        Server { node: node.clone(), address: address.clone(), canary }
    });
    futures::future::join_all(asked).await
}
