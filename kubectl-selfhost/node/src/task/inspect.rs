//! Looks at a node for pre-flight.
//!
//! Invariant: it creates the directory for kept manifests and changes nothing else; what it cannot see is an error,
//! never a good answer.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::files;
use crate::nft;
use crate::processes;
use crate::report;

/// The programs whose memory is of interest.
const PROGRAMS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// Collects facts of the node.
#[derive(Debug)]
pub(crate) struct Inspect {
    /// The directory of static manifests.
    pub(crate) manifests: PathBuf,
    /// The directory for kept manifests.
    pub(crate) kept: PathBuf,
    /// Ports that the bridges will need.
    pub(crate) ports: Vec<u16>,
}

/// The node cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} has no line {field}", path.display())]
    Field { path: PathBuf, field: &'static str },
    #[error("try port {port}")]
    Port { port: u16, source: io::Error },
    #[error("ask for the room on the file system of {}", path.display())]
    Room { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Processes(#[from] processes::Error),
    #[error(transparent)]
    File(#[from] files::Error),
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::Field { .. } | Self::Processes(_) => {
                "the Pod needs hostPID, root and the node's manifests directory"
            }
            Self::Port { .. } => "the Pod needs hostNetwork and root",
            Self::Room { .. } | Self::File(_) => "check that the Pod mounts the directory writable",
        }
    }
}

impl Inspect {
    pub(crate) fn run(&self) -> Result<report::Inspect, Error> {
        files::create_private_dir(&self.kept)?;
        let proc = Path::new("/proc");
        Ok(report::Inspect {
            ports: self.ports.iter().map(|&port| look_at_port(port)).collect::<Result<_, _>>()?,
            memory_available_bytes: field_bytes(&proc.join("meminfo"), "MemAvailable:")?,
            processes: processes(proc)?,
            kept_free_bytes: free_bytes(&self.kept)?,
            divert: divert_support(),
            manifests: hashes(&self.manifests)?,
            kept: hashes(&self.kept)?,
        })
    }
}

fn look_at_port(port: u16) -> Result<report::Port, Error> {
    // An IPv6 listener takes IPv4 connections too, but some sockets are of IPv4 alone.
    let free = can_listen((Ipv4Addr::UNSPECIFIED, port).into())
        .and_then(|ipv4| Ok(ipv4 && can_listen((Ipv6Addr::UNSPECIFIED, port).into())?))
        .map_err(|source| Error::Port { port, source })?;
    Ok(report::Port { port, free })
}

fn can_listen(address: SocketAddr) -> io::Result<bool> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
        // A node without IPv6: nobody can hold its ports.
        Err(error) if address.is_ipv6() && no_such_family(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

fn no_such_family(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// Control-plane processes of this node, and the memory that they use.
fn processes(proc: &Path) -> Result<Vec<report::Process>, Error> {
    let mut found = Vec::new();
    for process in processes::list(proc, &PROGRAMS)? {
        let path = proc.join(process.pid.to_string()).join("status");
        match field_bytes(&path, "VmRSS:") {
            Ok(rss_bytes) => {
                found.push(report::Process { name: process.name.to_owned(), pid: process.pid, rss_bytes });
            }
            // A process that has ended and was not yet waited for has no memory.
            Err(Error::Field { .. }) => {}
            // It ended while we looked.
            Err(Error::Read { source, .. }) if processes::is_gone(&source) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort();
    Ok(found)
}

/// A field such as `VmRSS:    1234 kB`, in bytes.
fn field_bytes(path: &Path, field: &'static str) -> Result<u64, Error> {
    let text = fs::read_to_string(path).map_err(|source| read_error(path, source))?;
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| Error::Field { path: path.to_owned(), field })
}

fn free_bytes(directory: &Path) -> Result<u64, Error> {
    let room = rustix::fs::statvfs(directory)
        .map_err(|errno| Error::Room { path: directory.to_owned(), source: errno.into() })?;
    Ok(room.f_bfree.saturating_mul(room.f_frsize))
}

fn divert_support() -> report::DivertSupport {
    match nft::apply(&nft::scratch::try_out()) {
        Ok(()) => report::DivertSupport { supported: true, error: None },
        Err(error) => report::DivertSupport { supported: false, error: Some(crate::chain(&error)) },
    }
}

/// Hashes of the manifests in a directory: what the kubelet would read, so no names with a leading dot.
fn hashes(directory: &Path) -> Result<BTreeMap<String, String>, Error> {
    let mut hashes = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(|source| read_error(directory, source))? {
        let path = entry.map_err(|source| read_error(directory, source))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.starts_with('.') || path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        if let Some(content) = files::read(&path)? {
            hashes.insert(name.to_owned(), content.digest.to_string());
        }
    }
    Ok(hashes)
}

fn read_error(path: &Path, source: io::Error) -> Error {
    Error::Read { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::digest::Digest;

    #[test]
    fn ports() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            assert_eq!(look_at_port(port).unwrap(), report::Port { port, free: false }, "{address}");
            drop(listener);
            assert_eq!(look_at_port(port).unwrap(), report::Port { port, free: true }, "{address}");
        }
    }

    /// A `/proc` with one process of each kind.
    fn proc_with(processes: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir_all(proc.path().join("self/ns")).unwrap();
        symlink("net:[1]", proc.path().join("self/ns/net")).unwrap();
        fs::write(proc.path().join("uptime"), "1 1").unwrap();
        for (pid, cmdline, net) in processes {
            let directory = proc.path().join(pid);
            fs::create_dir_all(directory.join("ns")).unwrap();
            fs::write(directory.join("cmdline"), cmdline).unwrap();
            symlink(net, directory.join("ns/net")).unwrap();
            fs::write(directory.join("status"), "Name:\tx\nVmPeak:\t   900 kB\nVmRSS:\t   250 kB\n").unwrap();
        }
        proc
    }

    #[test]
    fn control_plane_processes_of_this_node() {
        let proc = proc_with(&[
            ("10", "/usr/local/bin/kube-apiserver\0--etcd-servers=x\0", "net:[1]"),
            ("9", "kube-controller-manager\0", "net:[1]"),
            ("11", "kube-apiserver\0", "net:[2]"),
            ("12", "etcd\0--name=kube-apiserver\0", "net:[1]"),
            ("13", "", "net:[1]"),
        ]);
        let process = |name: &str, pid| report::Process { name: name.to_owned(), pid, rss_bytes: 250 * 1024 };
        let expected = [process("kube-apiserver", 10), process("kube-controller-manager", 9)];
        assert_eq!(processes(proc.path()).unwrap(), expected);
    }

    #[test]
    fn a_process_that_ends_meanwhile_is_none() {
        let proc = proc_with(&[("10", "kube-scheduler\0", "net:[1]"), ("11", "kube-scheduler\0", "net:[1]")]);
        fs::remove_file(proc.path().join("10/status")).unwrap();
        fs::write(proc.path().join("11/status"), "Name:\tx\nState:\tZ (zombie)\n").unwrap();
        assert_eq!(processes(proc.path()).unwrap(), []);
    }

    #[test]
    fn memory_is_read_from_the_kernel() {
        assert!(field_bytes(Path::new("/proc/meminfo"), "MemAvailable:").unwrap() > 1024 * 1024);
        assert!(field_bytes(Path::new("/proc/meminfo"), "MemImagined:").is_err());
    }

    #[test]
    fn hashes_of_what_the_kubelet_reads() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["etcd.yaml", ".etcd.yaml.tmp", ".hidden.yaml", "notes.txt"] {
            fs::write(dir.path().join(name), "abc").unwrap();
        }
        let expected = BTreeMap::from([("etcd.yaml".to_owned(), Digest::of(b"abc").to_string())]);
        assert_eq!(hashes(dir.path()).unwrap(), expected);
        assert!(hashes(&dir.path().join("none")).is_err());
        assert!(free_bytes(dir.path()).unwrap() > 0);
    }
}
