//! What of a control plane can be seen from its node, without an API.
//!
//! Invariant: only an API server with a certificate of the cluster's CA is ready; everything else here is an
//! observation for a person.

use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;

use crate::etcd::Endpoint;
use crate::gate::Bridge;
use crate::sockets;
use crate::tls::{Credentials, Error};

/// How often the API servers are asked.
const PERIOD: Duration = Duration::from_secs(1);

/// How long nothing is said while nothing changes.
const SILENCE: Duration = Duration::from_secs(30);

/// The API servers of this node: by its port, and with the credentials that they may ask for.
#[derive(Debug)]
pub(crate) struct Servers(Vec<(u16, Bridge)>);

/// How a wait for an API server ended.
#[derive(Debug)]
pub(crate) enum Waited {
    /// One is ready, on this port.
    Ready { port: u16, after: Duration },
    /// None is, and this is what can be seen.
    Not(Seen),
}

/// Waits for an API server to be ready, and says whenever something changes.
pub(crate) fn wait(
    servers: &mut Servers,
    etcd: &Endpoint,
    ports: &[u16],
    timeout: Duration,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<Waited, sockets::Error> {
    let start = Instant::now();
    let (mut last, mut told) = (None, start);
    loop {
        if let Some(port) = servers.ready() {
            return Ok(Waited::Ready { port, after: start.elapsed() });
        }
        let seen = Seen::now(etcd, ports)?;
        if start.elapsed() >= timeout {
            return Ok(Waited::Not(seen));
        }
        if last.as_ref() != Some(&seen) || told.elapsed() >= SILENCE {
            say(format_args!("After {} s: {seen}.", start.elapsed().as_secs()));
            (last, told) = (Some(seen), Instant::now());
        }
        thread::sleep(PERIOD);
    }
}

/// What runs on this node, while no API server is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    kubelet: bool,
    etcd: bool,
    /// Those of the API servers' ports that somebody listens on.
    listening: Vec<u16>,
}

impl Servers {
    pub(crate) fn load(pki: &Path, ports: &[u16]) -> Result<Self, Error> {
        let anonymous = Credentials {
            ca: pki.join("ca.crt"),
            server_name: ServerName::try_from("kubernetes").expect("a name in the form of DNS"),
            client: None,
        };
        let file = |name: &str| pki.join(name);
        let client = (file("apiserver-kubelet-client.crt"), file("apiserver-kubelet-client.key"));
        let mut servers = Vec::new();
        for &port in ports {
            servers.push((port, Bridge::load(port, anonymous.clone())?));
            // A hardened cluster lets nobody anonymous read /readyz. Where there is no such certificate, or one that
            // has expired, the question without one is all that can be asked.
            let known = Credentials { client: Some(client.clone()), ..anonymous.clone() };
            servers.extend(Bridge::load(port, known).map(|server| (port, server)));
        }
        Ok(Self(servers))
    }

    /// The port of one that is ready.
    pub(crate) fn ready(&mut self) -> Option<u16> {
        self.0.iter_mut().find_map(|(port, server)| server.is_ready().then_some(*port))
    }
}

impl Seen {
    pub(crate) fn now(etcd: &Endpoint, ports: &[u16]) -> Result<Self, sockets::Error> {
        let listening = sockets::listening()?;
        Ok(Self {
            kubelet: runs(Path::new("/proc"), "kubelet"),
            etcd: etcd.listens(),
            listening: ports.iter().copied().filter(|port| listening.contains(port)).collect(),
        })
    }

    /// What to look at next: whatever comes first of what an API server needs.
    pub(crate) fn hint(&self) -> &'static str {
        if !self.kubelet {
            "start the kubelet, which runs static Pods: systemctl status kubelet; journalctl -u kubelet"
        } else if !self.etcd {
            "without etcd there is no API server: crictl ps -a --name etcd, then crictl logs ID"
        } else if self.listening.is_empty() {
            "journalctl -u kubelet says what it makes of the manifest; crictl ps -a --name kube-apiserver, then \
             crictl logs ID, why it ended"
        } else {
            "see what it waits for: crictl ps -a --name kube-apiserver, then crictl logs ID"
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kubelet = if self.kubelet { "a kubelet runs" } else { "no kubelet runs" };
        let etcd = if self.etcd { "etcd accepts connections" } else { "etcd accepts no connections" };
        write!(f, "{kubelet}, {etcd}, ")?;
        match self.listening[..] {
            [] => f.write_str("nobody listens where an API server would"),
            [port] => write!(f, "somebody listens on port {port} and is not ready"),
            [..] => f.write_str("somebody listens on both ports and is not ready"),
        }
    }
}

/// Whether a program of this name runs.
fn runs(proc: &Path, name: &str) -> bool {
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    processes
        .filter_map(|process| fs::read_to_string(process.path().join("comm")).ok())
        .any(|program| program.trim_end() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_run() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, program) in [("1", "systemd"), ("20", "kubelet"), ("21", "kubelet-helper")] {
            fs::create_dir(proc.path().join(pid)).unwrap();
            fs::write(proc.path().join(pid).join("comm"), format!("{program}\n")).unwrap();
        }
        fs::write(proc.path().join("uptime"), "1 1").unwrap();
        assert!(runs(proc.path(), "kubelet"));
        assert!(!runs(proc.path(), "kube"));
        assert!(!runs(&proc.path().join("none"), "kubelet"));
    }

    #[test]
    fn what_comes_first_is_looked_at_first() {
        for (kubelet, etcd, listening, text, hint) in [
            (
                false,
                false,
                vec![],
                "no kubelet runs, etcd accepts no connections, nobody listens where an API server would",
                "start the kubelet",
            ),
            (
                true,
                false,
                vec![6443],
                "a kubelet runs, etcd accepts no connections, somebody listens on port 6443 and is not ready",
                "without etcd",
            ),
            (
                true,
                true,
                vec![],
                "a kubelet runs, etcd accepts connections, nobody listens where an API server would",
                "journalctl",
            ),
            (
                true,
                true,
                vec![6443, 6444],
                "a kubelet runs, etcd accepts connections, somebody listens on both ports and is not ready",
                "see what it waits for",
            ),
        ] {
            let seen = Seen { kubelet, etcd, listening };
            assert_eq!(seen.to_string(), text);
            assert!(seen.hint().starts_with(hint), "{text}");
        }
    }
}
