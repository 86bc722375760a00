//! Everything by which a cluster can be noticed on this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use selfhost_tests::{Cluster, paths};

/// Directories that Kubernetes makes on a machine; a bed has to keep them inside its nodes.
const OF_KUBERNETES: [&str; 8] = [
    "/etc/kubernetes",
    "/etc/cni/net.d",
    "/var/lib/kubelet",
    "/var/lib/etcd",
    "/var/lib/cni",
    "/var/log/pods",
    "/usr/libexec/kubernetes",
    "/opt/cni",
];

/// Settings of the whole machine that the kubelet and kube-proxy like to change.
const SETTINGS: [&str; 5] = [
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops",
    "/proc/sys/net/netfilter/nf_conntrack_max",
    "/proc/sys/net/ipv4/ip_forward",
];

/// What to look for.
pub(crate) struct Marks {
    name: String,
    subnet: u8,
    /// `net:[...]` of each node.
    networks: BTreeSet<PathBuf>,
}

impl Marks {
    /// The marks of a running cluster.
    pub(crate) fn of(cluster: &Cluster) -> Result<Self> {
        let subnet = match cluster.node_ip("cp1")? {
            std::net::IpAddr::V4(address) => address.octets()[2],
            std::net::IpAddr::V6(_) => anyhow::bail!("nodes have IPv4 addresses"),
        };
        let mut marks = Self { name: cluster.name().to_string(), subnet, networks: BTreeSet::new() };
        let mine = fs::read_link("/proc/self/ns/net")?;
        marks.networks = marks
            .processes()
            .iter()
            .filter_map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok())
            .filter(|network| *network != mine)
            .collect();
        Ok(marks)
    }

    /// Kinds of traces there are now.
    pub(crate) fn kinds(&self) -> BTreeSet<&'static str> {
        self.found().into_iter().map(|(kind, _)| kind).collect()
    }

    /// All traces there are now, each with its kind.
    pub(crate) fn found(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        found.extend(self.processes().into_iter().map(|pid| ("process", describe(pid))));
        found.extend(self.links().into_iter().map(|link| ("link", link)));
        found.extend(self.groups().into_iter().map(|path| ("cgroup", path.display().to_string())));
        found.extend(self.mounts().into_iter().map(|line| ("mount", line)));
        found.extend(self.namespaces().into_iter().map(|line| ("namespace", line)));
        let directory = Path::new(paths::STATE).join(&self.name);
        if directory.exists() {
            found.push(("file", directory.display().to_string()));
        }
        found
    }

    /// In a group of the cluster, or with its directory in sight, or on its command line.
    fn processes(&self) -> Vec<u32> {
        let group = format!("/kubectl-selfhost-bed/{}", self.name);
        all_processes()
            .into_iter()
            .filter(|pid| *pid != std::process::id())
            .filter(|pid| {
                let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
                let in_group = read("cgroup").lines().any(|line| {
                    let path = line.splitn(3, ':').nth(2).unwrap_or_default();
                    path == group || path.starts_with(&format!("{group}/"))
                });
                in_group
                    || read("cmdline").contains(&self.directory())
                    || read("mountinfo").contains(&self.directory())
            })
            .collect()
    }

    fn links(&self) -> Vec<String> {
        let prefix = format!("shb{}", self.subnet);
        names("/sys/class/net")
            .into_iter()
            .filter(|link| {
                link.strip_prefix(&prefix).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
            })
            .collect()
    }

    fn groups(&self) -> Vec<PathBuf> {
        let roots = names("/sys/fs/cgroup").into_iter().map(|name| Path::new("/sys/fs/cgroup").join(name));
        roots
            .chain([PathBuf::from("/sys/fs/cgroup")])
            .map(|root| root.join("kubectl-selfhost-bed").join(&self.name))
            .filter(|path| path.exists())
            .collect()
    }

    /// Mounts that this process sees. Those of the nodes live in namespaces of their own.
    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        mounts.lines().filter(|line| line.contains(&self.directory())).map(ToOwned::to_owned).collect()
    }

    /// Network namespaces of the nodes that a process is in or a mount keeps.
    fn namespaces(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let held =
            all_processes().into_iter().filter_map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok());
        let held: BTreeSet<PathBuf> = held.collect();
        self.networks
            .iter()
            .filter(|network| held.contains(*network) || mounts.contains(&*network.to_string_lossy()))
            .map(|network| network.display().to_string())
            .collect()
    }

    fn directory(&self) -> String {
        format!("/kubectl-selfhost/bed/{}/", self.name)
    }
}

/// What a machine looks like apart from clusters: directories of Kubernetes and their entries, and kernel settings.
pub(crate) fn machine() -> Vec<(&'static str, String)> {
    let directories = OF_KUBERNETES.map(|path| {
        let entries = Path::new(path).exists().then(|| names(path));
        (path, format!("{entries:?}"))
    });
    let settings = SETTINGS.map(|path| (path, fs::read_to_string(path).unwrap_or_default()));
    directories.into_iter().chain(settings).collect()
}

fn describe(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} {}", String::from_utf8_lossy(&words).replace('\0', " "))
}

fn all_processes() -> Vec<u32> {
    names("/proc").iter().filter_map(|name| name.parse().ok()).collect()
}

fn names(directory: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}
