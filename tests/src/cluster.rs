//! Clusters: up, down, power cut, boot, and ways into them.
//!
//! Invariant: whoever makes or removes a cluster holds the lock of its directory. A record whose lock is free, and that
//! is unfinished or owned by a process that ended, was left by a killed run; the next `up` of that name removes it.

mod balancer;
mod create;
mod kubeadm;
mod machine;
mod network;
mod proxy;
mod runtime;
mod spec;
mod state;
mod teardown;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};
use jiff::Timestamp;
use selfhost_core::version::KubeVersion;

use crate::binaries::Binaries;
use crate::cgroup::{Group, Layout};
use crate::lock;
use crate::progress::Progress;
use crate::refusal::Refusal;
use crate::{command, host, limits, paths};
use kubeadm::Overrides;
use machine::Machine;
use network::Subnet;
use state::{Phase, State};
use teardown::tear_down;

pub use spec::{DEFAULT_VERSION, MoreImages, Name, ProxyMode, Spec, UPGRADE_VERSION};
pub use state::{Node, Role};

/// The `kubernetes` Service's address in every cluster of the bed (unless kubeadm documents say otherwise).
pub const KUBERNETES_SERVICE: &str = "10.96.0.1:443";

/// Set to keep clusters of the library and of failed runs for a look at them.
const KEEP: &str = "SELFHOST_KEEP";

/// A running cluster.
///
/// One that [`Cluster::up`] made is taken down when dropped, unless `SELFHOST_KEEP=1` is set or it was [kept](Self::keep).
pub struct Cluster {
    state: State,
    layout: Layout,
    /// Whether dropping takes it down.
    owned: bool,
}

/// A line of the list of clusters.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Name of the cluster.
    pub name: Name,
    /// Its record, if one was written.
    pub details: Option<Details>,
}

/// What a list shows of a cluster.
#[derive(Debug, Clone)]
pub struct Details {
    /// Version it was created with.
    pub version: KubeVersion,
    /// Whether `up` finished.
    pub ready: bool,
    /// Names of its nodes, and whether each is switched on.
    pub nodes: Vec<(String, bool)>,
    /// Path of the admin kubeconfig.
    pub kubeconfig: PathBuf,
    /// When `up` began.
    pub created: Timestamp,
}

impl Cluster {
    /// Creates a cluster: about 20 s for one node once binaries are cached.
    ///
    /// Whatever a killed run of the same name left is removed first. If something fails nothing is left behind, unless
    /// `SELFHOST_KEEP=1` is set.
    pub fn up(spec: &Spec, progress: &Progress) -> Result<Self> {
        spec.check()?;
        host::check()?;
        let overrides = match &spec.kubeadm_config {
            Some(file) => Overrides::read(file)?,
            None => Overrides::default(),
        };
        host::check_cluster_room(Path::new(paths::STATE))?;
        let layout = Layout::detect()?;
        let (state, lock) = Self::claim(spec, &layout, progress)?;
        let mut cluster = Self { state, layout, owned: true };
        let result = cluster.create(spec, &overrides, progress);
        // Dropping the cluster takes the lock.
        drop(lock);
        cluster.state = result.with_context(|| {
            if keep_wanted() {
                progress.line(format_args!("kept as it is, because {KEEP} is set: {}", spec.name));
            }
            format!("cluster {}", spec.name)
        })?;
        progress.line(format_args!("cluster {} is up", spec.name));
        Ok(cluster)
    }

    /// A cluster that was created before. Dropping it does nothing.
    pub fn open(name: &Name) -> Result<Self> {
        host::check_root()?;
        let directory = state::directory(name);
        let state = State::read(&directory)?.filter(|state| state.phase == Phase::Ready);
        let state = state.ok_or_else(|| {
            Refusal::new(
                format!("no cluster {name}"),
                format!("cargo bed up --name {name}, or see cargo bed list"),
            )
        })?;
        Ok(Self { state, layout: Layout::detect()?, owned: false })
    }

    /// All clusters on this machine.
    pub fn list() -> Result<Vec<Listed>> {
        let layout = Layout::detect()?;
        state::names()?
            .into_iter()
            .map(|name| {
                let details = State::read(&state::directory(&name))?.map(|state| Details {
                    version: state.version.clone(),
                    ready: state.phase == Phase::Ready,
                    nodes: state
                        .nodes
                        .iter()
                        .map(|node| (node.name.clone(), Machine::new(&state, node, &layout).init().is_some()))
                        .collect(),
                    kubeconfig: kubeconfig(&state),
                    created: state.created,
                });
                Ok(Listed { name, details })
            })
            .collect()
    }

    /// Removes the cluster `name` and everything of it. Nothing happens if there is none.
    pub fn down(name: &Name, progress: &Progress) -> Result<()> {
        host::check_root()?;
        let directory = state::directory(name);
        let layout = Layout::detect()?;
        if !directory.exists() && Group::of_cluster(&layout, name.as_ref()).processes().is_empty() {
            return Ok(());
        }
        let _lock = lock::directory(&directory, || {
            progress.line(format_args!("another command works on cluster {name}; waiting"));
        })?;
        tear_down(name, &layout)
    }

    /// Leaves the cluster running when this value is dropped.
    pub fn keep(mut self) -> Result<()> {
        self.owned = false;
        self.disown()
    }

    /// Removes what killed processes left: clusters whose name begins with `prefix` and that nobody will take down.
    pub fn sweep(prefix: &str, progress: &Progress) -> Result<()> {
        host::check_root()?;
        for name in state::names()?.into_iter().filter(|name| name.as_ref().starts_with(prefix)) {
            let directory = state::directory(&name);
            // Somebody is at work on it if the lock is taken.
            if let Some(_lock) = lock::try_directory(&directory)?
                && State::read(&directory)?.is_none_or(|state| state.is_left_behind())
            {
                progress.step(&format!("removed cluster {name}, left by a killed run"), || {
                    tear_down(&name, &Layout::detect()?)
                })?;
            }
        }
        Ok(())
    }

    /// Name of the cluster.
    pub fn name(&self) -> &Name {
        &self.state.name
    }

    /// Version the cluster was created with.
    pub fn version(&self) -> &KubeVersion {
        &self.state.version
    }

    /// Path of the admin kubeconfig. It works from everywhere on this machine.
    pub fn kubeconfig(&self) -> PathBuf {
        kubeconfig(&self.state)
    }

    /// `host:port` of the API server as the kubeconfig has it: the first node's, or the load balancer's.
    pub fn endpoint(&self) -> String {
        kubeadm::endpoint(&self.state)
    }

    /// The nodes, `client` and `lb` included.
    pub fn nodes(&self) -> &[Node] {
        &self.state.nodes
    }

    /// Names of the control-plane nodes.
    pub fn control_planes(&self) -> Vec<&str> {
        let nodes = self.state.nodes.iter();
        nodes.filter(|node| node.role == Role::ControlPlane).map(|node| node.name.as_str()).collect()
    }

    /// Address of a node.
    pub fn node_ip(&self, node: &str) -> Result<IpAddr> {
        Ok(Subnet(self.state.subnet).address(self.state.node(node)?.host).into())
    }

    /// The project's node image with tag and digest, as loaded on the nodes.
    pub fn node_image(&self) -> Result<&str> {
        self.state
            .node_image
            .as_deref()
            .with_context(|| format!("cluster {} has no node image", self.state.name))
    }

    /// The guard's image with tag and digest, if it was loaded on the nodes.
    pub fn guard_image(&self) -> Option<&str> {
        self.state.guard_image.as_deref()
    }

    /// Where `path` (absolute, below /var, /etc/kubernetes, /etc/cni or /etc/containerd) of a node lies on this machine,
    /// switched on or off.
    pub fn node_dir(&self, node: &str, path: &str) -> Result<PathBuf> {
        Ok(self.machine(node)?.disk(path))
    }

    /// The log of a service (`kubelet`, `containerd`, `kube-proxy`, `haproxy`, `kubeadm`, `boot`) of a node.
    pub fn node_log(&self, node: &str, service: &str) -> Result<PathBuf> {
        Ok(self.machine(node)?.directory().join(format!("log/{service}.log")))
    }

    /// Path on this machine of a Kubernetes or etcd program at the cluster's version.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        Ok(Binaries::cached(&self.state.version)?.path(name))
    }

    /// A command inside a node, as if typed on its console. The child on this machine is `nsenter`, which waits for it.
    pub fn command(&self, node: &str, program: &str) -> Result<Command> {
        self.machine(node)?.command(program)
    }

    /// A command of this machine (its files, its PATH) whose network is that of a node, `client` for instance. The child
    /// is the program itself, so it can be killed; `down` and drop of the cluster end it, a power cut does not.
    pub fn network_command(&self, node: &str, program: &str) -> Result<Command> {
        self.machine(node)?.network_command(program)
    }

    /// Runs a command inside a node and returns its standard output; fails if it fails.
    pub fn exec(&self, node: &str, words: &[&str]) -> Result<String> {
        let (program, arguments) = words.split_first().context("no command")?;
        self.machine(node)?.run(program, arguments)
    }

    /// Runs a command inside a node with this process's standard streams.
    pub fn exec_attached(&self, node: &str, words: &[String]) -> Result<ExitStatus> {
        let (program, arguments) = words.split_first().context("no command")?;
        self.command(node, program)?.args(arguments).status().context("run nsenter")
    }

    /// Kills the processes of a node that have a command line as `wanted`, in containers too, and tells how many those
    /// were. What watches over them sees it as any other end.
    pub fn kill_those(&self, node: &str, wanted: impl Fn(&[&str]) -> bool) -> Result<usize> {
        Ok(self.machine(node)?.kill_those(wanted))
    }

    /// A `kubectl` of the cluster's version with the admin kubeconfig.
    pub fn kubectl_command(&self) -> Result<Command> {
        let mut kubectl = Command::new(self.program("kubectl")?);
        // Its cache, too, has to go when the cluster goes.
        kubectl
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.state.directory().join("kubectl"));
        Ok(kubectl)
    }

    /// Runs `kubectl` and returns its standard output; fails if it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::output(self.kubectl_command()?.args(arguments))
    }

    /// Cuts the power of a node: every process ends at once, memory and network are gone, the disk is kept.
    pub fn power_cut(&self, node: &str) -> Result<()> {
        self.machine(node)?.power_cut()
    }

    /// Switches a node on. Returns when its services are started; they become ready in their own time.
    pub fn boot(&self, node: &str) -> Result<()> {
        // The machine itself may have been switched off and on since.
        let all = Path::new(paths::STATE);
        let lock = lock::directory(all, || ())?;
        limits::raise(&all.join(teardown::LIMITS))?;
        drop(lock);
        Subnet(self.state.subnet).create()?;
        self.machine(node)?.boot()
    }

    /// Names of the nodes that are switched off.
    pub fn switched_off(&self) -> Vec<&str> {
        let is_off = |node: &&Node| Machine::new(&self.state, node, &self.layout).init().is_none();
        self.state.nodes.iter().filter(is_off).map(|node| node.name.as_str()).collect()
    }

    /// Imports an image archive on every node that runs containers.
    pub fn load_image(&self, archive: &Path, progress: &Progress) -> Result<()> {
        for node in self.state.nodes.iter().filter(|node| node.role.has_kubelet()) {
            let machine = Machine::new(&self.state, node, &self.layout);
            runtime::load_file(&machine, archive, progress)?;
        }
        Ok(())
    }

    fn disown(&mut self) -> Result<()> {
        self.state.owner = None;
        self.state.write()
    }

    fn machine(&self, node: &str) -> Result<Machine<'_>> {
        Ok(Machine::new(&self.state, self.state.node(node)?, &self.layout))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        let progress = Progress::stderr();
        let result = if keep_wanted() { self.disown() } else { Self::down(&self.state.name, &progress) };
        if let Err(error) = result {
            progress.line(format_args!("cannot take cluster {} down: {error:#}", self.state.name));
        }
    }
}

fn kubeconfig(state: &State) -> PathBuf {
    state.directory().join("admin.conf")
}

fn keep_wanted() -> bool {
    std::env::var_os(KEEP).is_some_and(|value| value == "1")
}
