//! Making a cluster, step by step.
//!
//! Invariant: the record and the lock exist before the first step, so a run that is killed at any of them is found.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::kubeadm::{self, Overrides, Secrets};
use super::machine::Machine;
use super::network::Subnet;
use super::spec::{Spec, UPGRADE_VERSION};
use super::state::{self, Owner, Phase, Role, State};
use super::teardown::{LIMITS, tear_down};
use super::{Cluster, balancer, proxy, runtime};
use crate::binaries::Binaries;
use crate::cgroup::Layout;
use crate::images::store::Store;
use crate::images::{self, Image};
use crate::lock::{self, Lock};
use crate::progress::Progress;
use crate::refusal::Refusal;
use crate::{host, limits, packages, paths};

/// How long nodes may take to become ready after they joined.
const READY: &str = "--timeout=180s";

/// The kubelet as kubeadm's package starts it. Before `kubeadm init` has written its configuration there is none to run.
const KUBELET: &str = "\
[ -f /var/lib/kubelet/config.yaml ] || exec sleep 1
. /var/lib/kubelet/kubeadm-flags.env
exec kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
--kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS";

impl Cluster {
    /// Takes the name and a subnet, after removing what a killed run left.
    pub(super) fn claim(spec: &Spec, layout: &Layout, progress: &Progress) -> Result<(State, Lock)> {
        let all = lock::directory(Path::new(paths::STATE), || {
            progress.line("another bed starts; waiting");
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
            if State::read(&directory)?.is_some_and(|state| !state.is_left_behind()) {
                let hint =
                    format!("cargo bed down --name {name}, or cargo bed boot --name {name} if it is off");
                return Err(Refusal::new(format!("cluster {name} exists"), hint).into());
            }
            progress.step(&format!("removed what a killed run left of cluster {name}"), || {
                tear_down(name, layout)
            })?;
            drop(held);
            // The last cluster takes the directory of all clusters with it.
            drop(all);
            return Self::claim(spec, layout, progress);
        }
        limits::raise(&Path::new(paths::STATE).join(LIMITS))?;
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
            guard_image: None,
            created: Timestamp::now(),
            owner: Owner::current(),
        };
        let lock = lock::directory(&directory, || ())?;
        state.write()?;
        Ok((state, lock))
    }

    pub(super) fn create(&self, spec: &Spec, overrides: &Overrides, progress: &Progress) -> Result<State> {
        let mut state = self.state.clone();
        packages::ensure(spec.control_planes > 1, &state.directory().join("apt.log"), progress)?;
        host::check_tools()?;
        let images = Images::gather(spec, progress)?;
        Subnet(state.subnet).create()?;

        let machines: Vec<Machine> =
            self.state.nodes.iter().map(|node| Machine::new(&self.state, node, &self.layout)).collect();
        progress.step("nodes started", || self.start(&machines, &images))?;
        let kubelets: Vec<&Machine> = machines.iter().filter(|it| it.node().role.has_kubelet()).collect();
        let more: Vec<&Image> = images.node.iter().chain(&images.guard).chain(&images.etcd_upgrade).collect();
        if !more.is_empty() {
            let all = || kubelets.iter().flat_map(|machine| more.iter().map(move |image| (machine, image)));
            progress.step("further images loaded", || {
                all().try_for_each(|(machine, image)| runtime::load(machine, image))
            })?;
        }

        let secrets = Secrets::generate(spec.encrypt)?;
        let split = self.layout.is_split();
        let first = *kubelets.first().context("every cluster has a control-plane node")?;
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
        state.node_image = images.node.as_ref().map(Image::pinned);
        state.guard_image = images.guard.as_ref().map(Image::pinned);
        state.write()?;
        Ok(state)
    }

    fn start(&self, machines: &[Machine], images: &Images) -> Result<()> {
        for machine in machines {
            machine.install()?;
            match machine.node().role {
                Role::ControlPlane | Role::Worker => {
                    runtime::install(machine)?;
                    images.store.clone_to(&machine.disk(runtime::STORE))?;
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

/// What nodes have in their container runtime from the start.
struct Images {
    /// Kubernetes and etcd.
    store: Store,
    /// The project's own. It changes with every edit, so it is not part of the store.
    node: Option<Image>,
    /// The guard's, too.
    guard: Option<Image>,
    /// Another etcd. Few clusters want it, so it is not part of the store either.
    etcd_upgrade: Vec<Image>,
}

impl Images {
    fn gather(spec: &Spec, progress: &Progress) -> Result<Self> {
        let mut versions = vec![spec.version.clone()];
        if spec.more.upgrade {
            versions.push(UPGRADE_VERSION.parse().context("parse the version to upgrade to")?);
        }
        versions.dedup();
        let mut images = Vec::new();
        for version in &versions {
            let binaries = Binaries::ensure(version, progress)?;
            images.extend(images::of_version(&binaries, progress)?);
        }
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        images.dedup();
        let node = if spec.more.own { Some(images::node::image(progress)?) } else { None };
        let guard = if spec.more.guard { Some(images::guard::image(progress)?) } else { None };
        let etcd_upgrade =
            if spec.more.etcd_upgrade { images::of_etcd_upgrade(progress)? } else { Vec::new() };
        let name: Vec<String> = versions.iter().map(ToString::to_string).collect();
        let store = Store::ensure(&paths::cache()?, &name.join("+"), &images, progress)?;
        Ok(Self { store, node, guard, etcd_upgrade })
    }
}
