//! Each API server, asked for itself: a load balancer would tell of one of them.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use serde_json::Value;

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
    /// What it said to the deletion of the registration; absent where nothing is to keep that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<Answer>,
}

impl Server {
    /// What it said to each question that it was asked.
    pub fn answers(&self) -> impl Iterator<Item = &Answer> {
        [Some(&self.canary), self.registration.as_ref()].into_iter().flatten()
    }

    /// Whether it enforces the rules, and keeps the registration where it should.
    pub fn enforces(&self) -> bool {
        self.answers().all(|answer| matches!(answer, Answer::Enforces(_)))
    }
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

/// Asks each of them at the same time; about the deletion of `kept`, too, if static manifests are to keep that.
pub async fn ask(servers: &[(String, String, Connection)], kept: Option<&Value>) -> Vec<Server> {
    let asked = servers.iter().map(|(node, address, connection)| async move {
        let canary = canary::ask(connection.client()).await;
        let registration = match kept {
            Some(kept) => Some(canary::ask_to_delete(connection.client(), kept).await),
            None => None,
        };
        Server { node: node.clone(), address: address.clone(), canary, registration }
    });
    futures::future::join_all(asked).await
}
