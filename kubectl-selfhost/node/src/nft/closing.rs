//! How long the kernel remembers connections to the diverted addresses that were reset.
//!
//! A client may use the port of a connection that was reset for its next one, at once. For ten seconds
//! (`nf_conntrack_tcp_timeout_close`) the kernel takes that for the old connection, unless somebody had closed the old
//! one in order, and sends it where the old one went: past a divert that has begun since, or to a bridge that is gone.
//! Here it is one second.
//!
//! Invariant: a table of its own, which decides nothing about any packet. Kernels that cannot do it are none the worse.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::divert::Divert;
use super::{Error, run_script};

/// In seconds; the least that the kernel takes.
const REMEMBERED: u32 = 1;

/// Replaces the table.
pub(crate) fn install(divert: &Divert) -> Result<(), Error> {
    run_script(&script(divert))
}

/// Removes the table that belongs to a divert's, if it is there.
pub(super) fn remove(of: &str) -> Result<(), Error> {
    run_script(&removal(&table(of)))
}

fn table(of: &str) -> String {
    format!("{of}_closing")
}

fn removal(table: &str) -> String {
    // The add makes the delete succeed when there is none.
    format!("add table inet {table}\ndelete table inet {table}\n")
}

fn script(divert: &Divert) -> String {
    let table = table(divert.table());
    let family = match divert.bridge().ip() {
        IpAddr::V4(_) => "ip",
        IpAddr::V6(_) => "ip6",
    };
    let mut rules = String::new();
    for target in divert.targets() {
        let (ip, port) = (target.ip(), target.port());
        // Writing to a String cannot fail.
        let _ = writeln!(rules, "    {family} daddr {ip} tcp dport {port} ct timeout set \"closing\"");
    }
    let mut text = removal(&table);
    let _ = writeln!(text, "table inet {table} {{");
    let _ = writeln!(text, "  ct timeout closing {{\n    protocol tcp\n    l3proto {family}");
    let _ = writeln!(text, "    policy = {{ close : {REMEMBERED} }}\n  }}");
    // Behind connection tracking (-200), which knows the connection then, and before it is confirmed.
    for (chain, hook) in [("incoming", "prerouting"), ("own", "output")] {
        let _ =
            writeln!(text, "  chain {chain} {{\n    type filter hook {hook} priority -150; policy accept;");
        let _ = writeln!(text, "{rules}  }}");
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script() {
        let divert = |node: &str, service: &str| {
            Divert::new(node.parse().unwrap(), Some(service.parse().unwrap()), 6444).unwrap()
        };
        let text = script(&divert("10.0.0.1:6443", "10.96.0.1:443").of_standby());
        assert!(text.starts_with("add table inet selfhost_standby_closing\ndelete table inet"), "{text}");
        for line in [
            "    l3proto ip",
            "    policy = { close : 1 }",
            "    ip daddr 10.0.0.1 tcp dport 6443 ct timeout set \"closing\"",
            "    ip daddr 10.96.0.1 tcp dport 443 ct timeout set \"closing\"",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        let text = script(&divert("[fd00::1]:6443", "[fd00:96::1]:443"));
        assert!(text.contains("ip6 daddr fd00:96::1 tcp dport 443"), "{text}");
    }
}
