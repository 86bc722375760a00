//! A load balancer before several API servers, of the plain kind that people put there: TCP, `/readyz` each second.

use std::fmt::Write;

use anyhow::Result;

use super::machine::Machine;
use super::network::Subnet;
use super::state::{Role, State};

/// Puts `HAProxy` on the balancer's node.
pub(super) fn install(machine: &Machine, state: &State) -> Result<()> {
    machine.write("/etc/haproxy/haproxy.cfg", &config(state))?;
    machine.service("haproxy", "exec haproxy -db -f /etc/haproxy/haproxy.cfg")
}

fn config(state: &State) -> String {
    let mut text = "\
global
  maxconn 4000
defaults
  mode tcp
  timeout connect 2s
  timeout client 1h
  timeout server 1h
  # A connection that meets a server which has just gone is tried on another.
  retries 3
  option redispatch
frontend api
  bind :6443
  default_backend control-planes
backend control-planes
  balance roundrobin
  option httpchk GET /readyz
  http-check expect status 200
  default-server check check-ssl verify none inter 1s fall 2 rise 1
"
    .to_owned();
    for node in state.nodes.iter().filter(|node| node.role == Role::ControlPlane) {
        let _ = writeln!(text, "  server {} {}:6443", node.name, Subnet(state.subnet).address(node.host));
    }
    text
}
