//! The gate: what is diverted, while what, and what happens to whom when it ends.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::namespace::{Namespace, ip, output};
use crate::node_part::{NodePart, gate_check};
use crate::server::{Client, Pki, Readyz, Server, loopback, refused, who};
use crate::{eventually, throughout};

const NODE: &str = "10.0.0.1:6443";
const SERVICE: &str = "10.96.0.1:443";

/// A check each second, and the time it takes on a busy machine.
const SOON: Duration = Duration::from_secs(4);

/// How long the kernel keeps diverting without a gate, with some room.
const LEASE: Duration = Duration::from_secs(6);

/// A node: its namespace, the public server, and the bridge.
struct Node {
    _namespace: Namespace,
    pki: Pki,
    public: Server,
    _service: Server,
    bridge: Server,
}

impl Node {
    /// Moves the test into a node whose bridge runs and whose gate does not.
    fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        namespace.enter()?;
        for address in ["10.0.0.1/32", "10.96.0.1/32", "fd00::1/128", "fd00:96::1/128"] {
            ip(&format!("addr add {address} dev lo"))?;
        }
        let pki = Pki::new()?;
        Ok(Self {
            public: Server::start("public", 6443, &pki)?,
            // Stands for kube-proxy, which would send the Service's connections to the public server.
            _service: Server::start("public", 443, &pki)?,
            bridge: Server::start("bridge", 6444, &pki)?,
            pki,
            _namespace: namespace,
        })
    }

    fn gate(&self) -> Result<NodePart> {
        NodePart::gate(&self.pki)
    }

    /// A gate that diverts already.
    fn diverting(&self) -> Result<NodePart> {
        let gate = self.gate()?;
        gate.logs("diverting", SOON)?;
        self.is("bridge")?;
        Ok(gate)
    }

    /// Demands that new connections to both addresses reach this server, and loopback the public one.
    fn is(&self, name: &str) -> Result<()> {
        for address in [NODE, SERVICE] {
            let who = who(address, &self.pki)?;
            ensure!(who == name, "{address} is {who}, not {name}");
        }
        let who = Client::connect(loopback(6443), &self.pki)?.who()?;
        ensure!(who == "public", "127.0.0.1:6443 is {who}");
        Ok(())
    }

    fn becomes(&self, name: &str, limit: Duration) -> Result<Duration> {
        eventually(limit, &format!("new connections reach {name}"), || self.is(name).map(|()| true))
    }
}

fn our_table() -> Result<bool> {
    Ok(output("nft", &["list", "tables"])?.contains("table inet selfhost"))
}

#[test]
fn diverts_only_while_the_bridge_is_ready() -> Result<()> {
    let node = Node::new()?;
    node.bridge.set(Readyz::NotReady);
    let gate = node.gate()?;
    gate.logs("the bridge is not ready: 500 Internal Server Error", SOON)?;
    throughout(Duration::from_secs(2), || node.is("public"))?;
    ensure!(!gate_check()?, "nothing is diverted");

    node.bridge.set(Readyz::Ready);
    node.becomes("bridge", SOON)?;
    ensure!(gate_check()?, "it diverts");
    // Longer than a lease lasts.
    throughout(LEASE, || node.is("bridge"))?;

    node.bridge.set(Readyz::NotReady);
    node.becomes("public", SOON)?;
    ensure!(!gate_check()?, "nothing is diverted any more");
    node.bridge.set(Readyz::Ready);
    node.becomes("bridge", SOON)?;
    let expected = [
        "waiting for https://127.0.0.1:6444/readyz",
        "the bridge is not ready: 500 Internal Server Error",
        "diverting 10.0.0.1:6443 and 10.96.0.1:443 to 10.0.0.1:6444",
        "the bridge is not ready: 500 Internal Server Error",
        "withdrew the divert: the bridge is not ready: 500 Internal Server Error",
        "diverting 10.0.0.1:6443 and 10.96.0.1:443 to 10.0.0.1:6444",
    ];
    // Connections are diverted a moment before the log says so.
    gate.log_becomes(&expected, SOON)
}

#[test]
fn connections_of_other_machines_are_diverted() -> Result<()> {
    let node = Node::new()?;
    let other = Namespace::new()?;
    other.connect("192.0.2.1/24", "192.0.2.2/24")?;
    other.run(|| ip("route add default via 192.0.2.1"))?;
    let ask = || other.run(|| Ok((who(NODE, &node.pki)?, who(SERVICE, &node.pki)?)));
    ensure!(ask()? == ("public".to_owned(), "public".to_owned()));
    let _gate = node.diverting()?;
    ensure!(ask()? == ("bridge".to_owned(), "bridge".to_owned()));
    Ok(())
}

/// A client whose connection was reset uses its port again. For ten seconds the kernel would take the next connection
/// for the old one, and send it past the divert.
#[test]
fn a_port_that_is_used_again_is_diverted() -> Result<()> {
    let node = Node::new()?;
    node.bridge.set(Readyz::NotReady);
    let gate = node.gate()?;
    gate.logs("the bridge is not ready", SOON)?;
    let source = "10.0.0.1:40000".parse()?;
    let mut first = Client::connect_from(source, NODE.parse()?, &node.pki)?;
    ensure!(first.who()? == "public");
    first.reset()?;
    node.bridge.set(Readyz::Ready);
    gate.logs("diverting", SOON)?;
    thread::sleep(Duration::from_millis(1500));
    let who = Client::connect_from(source, NODE.parse()?, &node.pki)?.who()?;
    ensure!(who == "bridge", "it is {who}");
    Ok(())
}

#[test]
fn ipv6_addresses_are_diverted() -> Result<()> {
    let node = Node::new()?;
    let gate = NodePart::gate_of(crate::node_part::BINARY.as_ref(), &node.pki, "fd00::1", "fd00:96::1")?;
    gate.logs("diverting [fd00::1]:6443 and [fd00:96::1]:443 to [fd00::1]:6444", SOON)?;
    for address in ["[fd00::1]:6443", "[fd00:96::1]:443"] {
        ensure!(who(address, &node.pki)? == "bridge", "{address}");
    }
    ensure!(who("[::1]:6443", &node.pki)? == "public");
    ensure!(who(NODE, &node.pki)? == "public", "the other family is not diverted");
    Ok(())
}

#[test]
fn a_refused_connection_ends_the_divert_at_once() -> Result<()> {
    let node = Node::new()?;
    let gate = node.diverting()?;
    let mut open = Client::connect(NODE.parse()?, &node.pki)?;
    ensure!(open.who()? == "bridge");
    let Node { bridge, pki, public: _public, _service, _namespace } = node;
    bridge.stop_listening();
    // A failure that is forgiven would have a line of its own.
    let expected = [
        "waiting for https://127.0.0.1:6444/readyz",
        "diverting 10.0.0.1:6443 and 10.96.0.1:443 to 10.0.0.1:6444",
        "withdrew the divert: the bridge refuses connections",
    ];
    gate.log_becomes(&expected, SOON)?;
    ensure!(who(NODE, &pki)? == "public");
    ensure!(open.who()? == "bridge", "an established connection stays");
    Ok(())
}

#[test]
fn one_failure_is_forgiven_and_two_are_not() -> Result<()> {
    let node = Node::new()?;
    let gate = node.diverting()?;
    node.bridge.set(Readyz::FailNext(1));
    eventually(SOON, "the failure happened", || Ok(node.bridge.readyz() == Readyz::Ready))?;
    throughout(Duration::from_secs(3), || node.is("bridge"))?;

    node.bridge.set(Readyz::FailNext(2));
    gate.logs("withdrew the divert", SOON)?;
    node.becomes("bridge", SOON)?;
    Ok(())
}

#[test]
fn a_bridge_that_hangs_is_left_before_the_lease_ends() -> Result<()> {
    let node = Node::new()?;
    let gate = node.diverting()?;
    node.bridge.set(Readyz::Hang);
    let took = gate
        .logs("withdrew the divert: the bridge is not ready: no answer within 1 s", Duration::from_secs(5))?;
    ensure!(took > Duration::from_secs(1), "one slow answer is not enough: {took:?}");
    node.is("public")
}

/// A busy machine makes both servers slow. Turning away from the bridge then would turn to one that has not started.
#[test]
fn a_bridge_is_kept_while_nobody_else_is_ready() -> Result<()> {
    let node = Node::new()?;
    let gate = node.diverting()?;
    node.public.set(Readyz::NotReady);
    for trouble in [Readyz::Hang, Readyz::NotReady] {
        node.bridge.set(trouble);
        throughout(Duration::from_secs(7), || node.is("bridge"))?;
    }
    node.public.set(Readyz::Ready);
    gate.logs("withdrew the divert", SOON)?;
    node.becomes("public", SOON)?;
    Ok(())
}

#[test]
fn only_the_clusters_own_certificate_is_believed() -> Result<()> {
    let node = Node::new()?;
    let other = Pki::new()?;
    let gate = NodePart::gate(&other)?;
    gate.logs("the bridge is not ready: invalid peer certificate", SOON)?;
    throughout(Duration::from_secs(2), || node.is("public"))
}

#[test]
fn renewed_credentials_are_read_again() -> Result<()> {
    let node = Node::new()?;
    let other = Pki::new()?;
    let gate = NodePart::gate(&other)?;
    gate.logs("invalid peer certificate", SOON)?;
    std::fs::copy(node.pki.ca(), other.ca())?;
    node.becomes("bridge", SOON)?;
    Ok(())
}

#[test]
fn the_kernel_ends_the_divert_of_a_killed_gate() -> Result<()> {
    let node = Node::new()?;
    let mut gate = node.diverting()?;
    let mut open = Client::connect(NODE.parse()?, &node.pki)?;
    gate.kill()?;
    node.is("bridge")?;
    let took = node.becomes("public", LEASE)?;
    writeln!(std::io::stdout(), "divert gone {took:?} after SIGKILL of the gate")?;
    ensure!(!gate_check()?);
    ensure!(open.who()? == "bridge", "an established connection stays");
    throughout(Duration::from_secs(1), || node.is("public"))
}

/// Nobody starts a gate again whose bridge is on its way out.
#[test]
fn the_standby_removes_what_a_killed_gate_left() -> Result<()> {
    let node = Node::new()?;
    let mut gate = node.diverting()?;
    gate.kill()?;
    let left = || Ok::<_, anyhow::Error>(output("nft", &["list", "tables"])?.contains("inet selfhost\n"));
    let _standby = NodePart::dormant_gate(&node.pki)?;
    throughout(Duration::from_secs(25), || {
        ensure!(left()?, "the bridge is there still");
        Ok(())
    })?;
    node.bridge.stop_listening();
    eventually(Duration::from_secs(30), "the tables are removed", || {
        let tables = output("nft", &["list", "tables"])?;
        let own = ["table inet selfhost_standby", "table inet selfhost_standby_closing"];
        let all: Vec<&str> = tables.lines().filter(|line| line.contains("selfhost")).collect();
        Ok(all.iter().all(|line| own.contains(line)))
    })
    .map(drop)
}

#[test]
fn where_nothing_is_to_be_left_no_table_of_a_killed_gate_is() -> Result<()> {
    let node = Node::new()?;
    node.diverting()?.kill()?;
    let standby = NodePart::dormant_gate(&node.pki)?;
    eventually(SOON, "both have tables", || {
        Ok(output("nft", &["list", "tables"])?.matches("selfhost").count() == 4)
    })?;
    drop(standby);
    let directory = tempfile::tempdir()?;
    let at = |name: &str| format!("--{name}={}", directory.path().join(name).display());
    for _ in 0..2 {
        let args = ["clean", &at("manifests"), &at("state"), &at("run")];
        NodePart::task(&args, &directory.path().join("result"))?.ends(SOON)?;
        ensure!(!our_table()?, "{}", output("nft", &["list", "tables"])?);
    }
    Ok(())
}

#[test]
fn a_gate_takes_over_from_a_killed_one_without_a_gap() -> Result<()> {
    let node = Node::new()?;
    let mut first = node.diverting()?;
    first.kill()?;
    let second = node.gate()?;
    throughout(LEASE + Duration::from_secs(1), || node.is("bridge"))?;
    second.logs("diverting", Duration::ZERO)?;

    let tables = output("nft", &["list", "tables"])?;
    let mut ours: Vec<&str> = tables.lines().filter(|line| line.contains("selfhost")).collect();
    ours.sort_unstable();
    ensure!(ours == ["table inet selfhost", "table inet selfhost_closing"], "{tables}");
    let rules = output("nft", &["list", "table", "inet", "selfhost"])?;
    ensure!(rules.matches("dnat").count() == 1, "{rules}");
    Ok(())
}

#[test]
fn sigterm_ends_everything_at_once() -> Result<()> {
    for signal in [Signal::TERM, Signal::INT] {
        let node = Node::new()?;
        let mut gate = node.diverting()?;
        // The checks' own connections over loopback do not count as diverted ones.
        node.bridge.set(Readyz::Hang);
        thread::sleep(Duration::from_millis(1200));
        // A check began 0.2 s ago, and waits for its answer 0.8 s more.
        let asked = Instant::now();
        gate.signal(signal)?;
        let status = gate.ends(SOON)?;
        let took = asked.elapsed();
        ensure!(status.success(), "{status}");
        ensure!(took < Duration::from_millis(700), "{took:?}");
        ensure!(!our_table()?, "the table is gone");
        node.is("public")?;
    }
    Ok(())
}

#[test]
fn sigterm_keeps_diverted_connections_usable_until_they_end() -> Result<()> {
    let node = Node::new()?;
    let mut gate = node.diverting()?;
    let mut open = Client::connect(NODE.parse()?, &node.pki)?;
    ensure!(open.who()? == "bridge");
    gate.signal(Signal::TERM)?;
    node.becomes("public", SOON)?;
    throughout(Duration::from_secs(2), || {
        let who = open.who()?;
        ensure!(who == "bridge", "{who}");
        node.is("public")
    })?;
    ensure!(gate.is_running()?, "it waits for the open connection");
    drop(open);
    ensure!(gate.ends(SOON)?.success());
    ensure!(!our_table()?, "the table is gone");
    let expected =
        "withdrew the divert: asked to stop; keeping open connections to the bridge until they end";
    gate.logs(expected, SOON)?;
    Ok(())
}

#[test]
fn a_second_signal_does_not_wait() -> Result<()> {
    let node = Node::new()?;
    let mut gate = node.diverting()?;
    let _open = Client::connect(NODE.parse()?, &node.pki)?;
    gate.signal(Signal::TERM)?;
    gate.logs("keeping open connections", SOON)?;
    gate.signal(Signal::TERM)?;
    ensure!(gate.ends(SOON)?.success());
    ensure!(!our_table()?, "the table is gone");
    Ok(())
}

#[test]
fn a_table_that_somebody_removed_comes_back() -> Result<()> {
    let node = Node::new()?;
    let _gate = node.diverting()?;
    output("nft", &["flush", "ruleset"])?;
    node.is("public")?;
    node.becomes("bridge", SOON)?;
    Ok(())
}

#[test]
fn kube_proxys_rules_come_later() -> Result<()> {
    let node = Node::new()?;
    // What kube-proxy does with the Service's address while the bridge's EndpointSlice lists the public port.
    output(
        "nft",
        &["add table ip proxy; add chain ip proxy out { type nat hook output priority -100; };\
         add rule ip proxy out ip daddr 10.96.0.1 tcp dport 443 dnat to 10.0.0.1:6443"],
    )?;
    ensure!(who(SERVICE, &node.pki)? == "public");
    let _gate = node.diverting()?;
    ensure!(!refused(SERVICE)?);
    node.is("bridge")
}
