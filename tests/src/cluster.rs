//! Clusters: up, down, power cut, boot, and ways into them.
//!
//! Invariant: whoever changes a cluster holds the lock of its directory. A record in phase `creating` whose lock is free
//! is a run that was killed, and is cleaned up by the next `up` or `down` of that name.

mod balancer;
mod kubeadm;
mod machine;
mod network;
mod proxy;
mod runtime;
mod spec;
mod state;

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};
use jiff::Timestamp;
use selfhost_core::version::KubeVersion;

use crate::binaries::Binaries;
use crate::cgroup::{Group, Layout};
use crate::images::{self, Image};
use crate::lock::{self, Lock};
use crate::progress::Progress;
use crate::refusal::Refusal;
use crate::{command, host, packages, paths};
use kubeadm::{Overrides, Secrets};
use machine::Machine;
use network::Subnet;
use state::{Phase, State};

pub use spec::{DEFAULT_VERSION, Name, ProxyMode, Spec, UPGRADE_VERSION};
pub use state::{Node, Role};

/// How long nodes may take to become ready after they joined.
const READY: &str = "--timeout=180s";

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
        let cluster = Self {
            state,
            layout,
            owned: true,
        };
        match cluster.create(spec, &overrides, progress) {
            Ok(state) => {
                drop(lock);
                progress.line(format_args!("cluster {} is up", spec.name));
                // The record changed hands; the old value must not take the cluster down.
                let layout = cluster.layout.clone();
                cluster.keep();
                Ok(Self {
                    state,
                    layout,
                    owned: true,
                })
            }
            Err(error) => {
                let error = error.context(format!("cluster {}", spec.name));
                if keep_wanted() {
                    progress.line(format_args!(
                        "kept as it is, because {KEEP} is set: {}",
                        spec.name
                    ));
                    cluster.keep();
                } else {
                    drop(lock);
                }
                Err(error)
            }
        }
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
        Ok(Self {
            state,
            layout: Layout::detect()?,
            owned: false,
        })
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
                        .map(|node| {
                            (
                                node.name.clone(),
                                Machine::new(&state, node, &layout).init().is_some(),
                            )
                        })
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
    pub fn keep(mut self) {
        self.owned = false;
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
        nodes
            .filter(|node| node.role == Role::ControlPlane)
            .map(|node| node.name.as_str())
            .collect()
    }

    /// Address of a node.
    pub fn node_ip(&self, node: &str) -> Result<IpAddr> {
        Ok(Subnet(self.state.subnet)
            .address(self.state.node(node)?.host)
            .into())
    }

    /// The project's node image with tag and digest, as loaded on the nodes.
    pub fn node_image(&self) -> Result<&str> {
        self.state
            .node_image
            .as_deref()
            .with_context(|| format!("cluster {} has no node image", self.state.name))
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
        self.command(node, program)?
            .args(arguments)
            .status()
            .context("run nsenter")
    }

    /// A `kubectl` of the cluster's version with the admin kubeconfig.
    pub fn kubectl_command(&self) -> Result<Command> {
        let mut kubectl = Command::new(self.program("kubectl")?);
        kubectl.env("KUBECONFIG", self.kubeconfig());
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
        Subnet(self.state.subnet).create()?;
        self.machine(node)?.boot()
    }

    /// Names of the nodes that are switched off.
    pub fn switched_off(&self) -> Vec<&str> {
        let is_off = |node: &&Node| Machine::new(&self.state, node, &self.layout).init().is_none();
        self.state
            .nodes
            .iter()
            .filter(is_off)
            .map(|node| node.name.as_str())
            .collect()
    }

    /// Imports an image archive on every node that runs containers.
    pub fn load_image(&self, archive: &Path, progress: &Progress) -> Result<()> {
        for node in self.state.nodes.iter().filter(|node| node.role.has_kubelet()) {
            let machine = Machine::new(&self.state, node, &self.layout);
            runtime::load_file(&machine, archive, progress)?;
        }
        Ok(())
    }

    fn machine(&self, node: &str) -> Result<Machine<'_>> {
        Ok(Machine::new(&self.state, self.state.node(node)?, &self.layout))
    }

    /// Takes the name and a subnet, after removing what a killed run left.
    fn claim(spec: &Spec, layout: &Layout, progress: &Progress) -> Result<(State, Lock)> {
        let all = lock::directory(Path::new(paths::STATE), || {
            progress.line("another bed starts; waiting")
        })?;
        let directory = state::directory(&spec.name);
        if directory.exists() {
            let name = &spec.name;
            let held = lock::try_directory(&directory)?.ok_or_else(|| {
                Refusal::new(
                    format!("another command works on cluster {name}"),
                    "wait for it, or use another name",
                )
            })?;
            if State::read(&directory)?.is_some_and(|state| state.phase == Phase::Ready) {
                let hint =
                    format!("cargo bed down --name {name}, or cargo bed boot --name {name} if it is off");
                return Err(Refusal::new(format!("cluster {name} exists"), hint).into());
            }
            progress.step(
                &format!("removed what a killed run left of cluster {name}"),
                || tear_down(name, layout),
            )?;
            drop(held);
            // The last cluster takes the directory of all clusters with it.
            drop(all);
            return Self::claim(spec, layout, progress);
        }
        let taken: Vec<u8> = state::names()?
            .iter()
            .filter_map(|name| State::read(&state::directory(name)).ok().flatten())
            .map(|state| state.subnet)
            .collect();
        let state = State {
            name: spec.name.clone(),
            version: spec.version.clone(),
            phase: Phase::Creating,
            subnet: Subnet::free(&taken)?.0,
            nodes: state::nodes(spec.control_planes, spec.workers),
            proxy_mode: spec.proxy_mode,
            node_image: None,
            created: Timestamp::now(),
        };
        let lock = lock::directory(&directory, || ())?;
        state.write()?;
        Ok((state, lock))
    }

    fn create(&self, spec: &Spec, overrides: &Overrides, progress: &Progress) -> Result<State> {
        let mut state = self.state.clone();
        packages::ensure(
            spec.control_planes > 1,
            &state.directory().join("apt.log"),
            progress,
        )?;
        host::check_tools()?;
        let (images, node_image) = gather_images(spec, progress)?;
        Subnet(state.subnet).create()?;

        let machines: Vec<Machine> = self
            .state
            .nodes
            .iter()
            .map(|node| Machine::new(&self.state, node, &self.layout))
            .collect();
        progress.step("nodes started", || self.start(&machines))?;
        let kubelets: Vec<&Machine> = machines
            .iter()
            .filter(|it| it.node().role.has_kubelet())
            .collect();
        progress.step("images loaded", || load_images(&kubelets, &images))?;

        let secrets = Secrets::generate()?;
        let split = self.layout.is_split();
        let first = *kubelets
            .first()
            .context("every cluster has a control-plane node")?;
        progress.step("cp1: kubeadm init", || {
            kubeadm::init(first, &self.state, overrides, &secrets, split, progress)
        })?;
        self.write_kubeconfig(first)?;
        for machine in &kubelets[1..] {
            progress.step(&format!("{}: kubeadm join", machine.node().name), || {
                kubeadm::join(machine, &self.state, overrides, &secrets, progress)
            })?;
        }
        let proxy = kubeadm::kubeconfig(first, proxy::USER)?;
        for machine in machines.iter().filter(|it| it.node().role != Role::Balancer) {
            proxy::install(machine, &proxy, spec.proxy_mode)?;
            machine.run("systemctl", &["start", "kube-proxy"])?;
        }
        progress.step("nodes ready", || {
            self.kubectl(&["wait", "--for=condition=Ready", "nodes", "--all", READY])
        })?;

        state.phase = Phase::Ready;
        state.node_image = node_image;
        state.write()?;
        Ok(state)
    }

    fn start(&self, machines: &[Machine]) -> Result<()> {
        for machine in machines {
            machine.install()?;
            match machine.node().role {
                Role::ControlPlane | Role::Worker => {
                    runtime::install(machine)?;
                    machine.service("kubelet", KUBELET)?;
                }
                Role::Balancer => balancer::install(machine, &self.state)?,
                Role::Client => {}
            }
            machine.boot()?;
        }
        Ok(())
    }

    fn write_kubeconfig(&self, first: &Machine) -> Result<()> {
        let path = self.kubeconfig();
        fs::copy(first.disk("/etc/kubernetes/admin.conf"), &path)
            .and_then(|_| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
            .with_context(|| format!("write {}", path.display()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.owned || keep_wanted() {
            return;
        }
        let progress = Progress::stderr();
        if let Err(error) = Self::down(&self.state.name, &progress) {
            progress.line(format_args!(
                "cannot take cluster {} down: {error:#}",
                self.state.name
            ));
        }
    }
}

/// The kubelet as kubeadm's package starts it. Before `kubeadm init` has written its configuration there is none to run.
const KUBELET: &str = "\
[ -f /var/lib/kubelet/config.yaml ] || exec sleep 1
. /var/lib/kubelet/kubeadm-flags.env
exec kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
--kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS";

fn gather_images(spec: &Spec, progress: &Progress) -> Result<(Vec<Image>, Option<String>)> {
    let mut versions = vec![spec.version.clone()];
    if spec.upgrade_images {
        versions.push(
            UPGRADE_VERSION
                .parse()
                .context("parse the version to upgrade to")?,
        );
    }
    versions.dedup();
    let mut images = Vec::new();
    for version in &versions {
        let binaries = Binaries::ensure(version, progress)?;
        images.extend(images::of_version(&binaries, progress)?);
    }
    images.sort_by(|a, b| a.reference.cmp(&b.reference));
    images.dedup();
    let mut node_image = None;
    if spec.own_images {
        let image = images::node::image(progress)?;
        node_image = Some(image.pinned());
        images.push(image);
    }
    Ok((images, node_image))
}

fn load_images(machines: &[&Machine], images: &[Image]) -> Result<()> {
    for machine in machines {
        for image in images {
            runtime::load(machine, image)?;
        }
    }
    Ok(())
}

/// Removes everything of the cluster `name`; its lock must be held.
fn tear_down(name: &Name, layout: &Layout) -> Result<()> {
    let group = Group::of_cluster(layout, name.as_ref());
    group.kill()?;
    group.remove()?;
    let directory = state::directory(name);
    if let Some(state) = State::read(&directory)? {
        Subnet(state.subnet).remove(&state)?;
    }
    // The record goes last: without it nobody would know the rest.
    let nodes = directory.join("nodes");
    if nodes.exists() {
        fs::remove_dir_all(&nodes).with_context(|| format!("remove {}", nodes.display()))?;
    }
    fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
    // These go with the last cluster.
    for around in Path::new(paths::STATE).ancestors().take(2) {
        if fs::remove_dir(around).is_err() {
            break;
        }
    }
    Ok(())
}

fn kubeconfig(state: &State) -> PathBuf {
    state.directory().join("admin.conf")
}

fn keep_wanted() -> bool {
    std::env::var_os(KEEP).is_some_and(|value| value == "1")
}
