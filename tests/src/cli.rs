//! The command line of the bed.
//!
//! Invariant: results go to standard output and nothing else does; the last line of `up` is the kubeconfig's path.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use selfhost_core::version::KubeVersion;

use crate::binaries::Binaries;
use crate::cluster::{Cluster, DEFAULT_VERSION, Listed, MoreImages, Name, ProxyMode, Spec, UPGRADE_VERSION};
use crate::progress::Progress;
use crate::{images, packages, refusal};

/// Real Kubernetes clusters on this machine, each node in namespaces of its own.
#[derive(Debug, Parser)]
#[command(name = "cargo bed", bin_name = "cargo bed", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a cluster; the last line on standard output is the path of its admin kubeconfig.
    Up(Up),
    /// Remove a cluster and everything of it.
    Down(Which),
    /// List the clusters on this machine.
    List,
    /// Run a command inside a node; its exit code is passed on.
    Exec(Exec),
    /// Cut the power of nodes: every process ends at once, disks are kept.
    PowerCut(PowerCut),
    /// Switch nodes on.
    Boot(Boot),
    /// Import image archives on every node that runs containers.
    LoadImage(LoadImage),
    /// Build binaries and images into the cache, without a cluster.
    Build(Build),
    /// Build the project's node image and print its reference with digest.
    ImageRef,
}

#[derive(Debug, Args)]
struct Which {
    /// Name of the cluster.
    #[arg(long)]
    name: Name,
}

#[derive(Debug, Args)]
struct Up {
    #[command(flatten)]
    which: Which,
    /// Kubernetes version; any that the Go module proxy has.
    #[arg(long, default_value = DEFAULT_VERSION)]
    version: KubeVersion,
    /// Control-plane nodes: 1, or 3 behind a load balancer.
    #[arg(long, default_value_t = 1, value_name = "1|3")]
    control_planes: u8,
    /// Nodes without control plane.
    #[arg(long, default_value_t = 0)]
    workers: u8,
    /// kubeadm documents (YAML or JSON) to merge over the defaults, by kind: maps merged, lists replaced.
    #[arg(long, value_name = "FILE")]
    kubeadm_config: Option<PathBuf>,
    /// Encrypt every object in etcd, with a key on the nodes' disks.
    #[arg(long)]
    encrypt: bool,
    /// How kube-proxy programs the kernel.
    #[arg(long, value_enum, default_value_t)]
    proxy_mode: ProxyMode,
    #[command(flatten)]
    images: ImageFlags,
}

#[derive(Debug, Clone, Copy, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a set of images by itself")]
struct ImageFlags {
    /// Do not load the images of the version that upgrades go to.
    #[arg(long)]
    no_upgrade_images: bool,
    /// Do not build and load the project's own images.
    #[arg(long)]
    no_own_images: bool,
    /// Also build and load the images of the etcd that clusters are upgraded to.
    #[arg(long)]
    etcd_upgrade: bool,
    /// Also build and load the guard's image.
    #[arg(long)]
    guard: bool,
}

#[derive(Debug, Args)]
struct Exec {
    #[command(flatten)]
    which: Which,
    /// Node: cp1, w1, client, lb.
    #[arg(long)]
    node: String,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    words: Vec<String>,
}

#[derive(Debug, Args)]
struct PowerCut {
    #[command(flatten)]
    which: Which,
    /// Node to cut.
    #[arg(long, required_unless_present = "all", conflicts_with = "all")]
    node: Option<String>,
    /// Every node.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct Boot {
    #[command(flatten)]
    which: Which,
    /// Node to switch on; every node that is off by default.
    #[arg(long, conflicts_with = "all")]
    node: Option<String>,
    /// Every node that is off.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct LoadImage {
    #[command(flatten)]
    which: Which,
    /// Archives: OCI layout or docker save.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct Build {
    /// Versions; the two that the project is tested with by default.
    #[arg(long = "version", value_name = "VERSION", default_values = [DEFAULT_VERSION, UPGRADE_VERSION])]
    versions: Vec<KubeVersion>,
}

/// `cargo bed`, from the arguments of this process to its exit code.
pub fn main() -> ExitCode {
    refusal::exit_code(run(Cli::parse()))
}

fn run(cli: Cli) -> Result<ExitCode> {
    let progress = Progress::stderr();
    match cli.command {
        Action::Up(up) => {
            let cluster = Cluster::up(&spec(up), &progress)?;
            let kubeconfig = cluster.kubeconfig();
            cluster.keep()?;
            print(kubeconfig.display())?;
        }
        Action::Down(which) => Cluster::down(&which.name, &progress)?,
        Action::List => list(&Cluster::list()?)?,
        Action::Exec(exec) => return enter(&exec),
        Action::PowerCut(cut) => {
            let cluster = Cluster::open(&cut.which.name)?;
            each(&cluster, cut.node.as_deref(), |node| cluster.power_cut(node))?;
        }
        Action::Boot(boot) => {
            let cluster = Cluster::open(&boot.which.name)?;
            let off = cluster.switched_off();
            match &boot.node {
                Some(node) => cluster.boot(node)?,
                None => off.into_iter().try_for_each(|node| cluster.boot(node))?,
            }
        }
        Action::LoadImage(load) => {
            let cluster = Cluster::open(&load.which.name)?;
            load.files.iter().try_for_each(|file| cluster.load_image(file, &progress))?;
        }
        Action::Build(build) => {
            packages::prepare(&progress)?;
            for version in &build.versions {
                let binaries = Binaries::ensure(version, &progress)?;
                images::of_version(&binaries, &progress)?;
            }
        }
        Action::ImageRef => {
            packages::prepare(&progress)?;
            print(images::node::image(&progress)?.pinned())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn spec(up: Up) -> Spec {
    Spec {
        version: up.version,
        control_planes: up.control_planes,
        workers: up.workers,
        kubeadm_config: up.kubeadm_config,
        encrypt: up.encrypt,
        proxy_mode: up.proxy_mode,
        more: MoreImages {
            upgrade: !up.images.no_upgrade_images,
            own: !up.images.no_own_images,
            etcd_upgrade: up.images.etcd_upgrade,
            guard: up.images.guard,
        },
        ..Spec::new(up.which.name)
    }
}

fn enter(exec: &Exec) -> Result<ExitCode> {
    let status = Cluster::open(&exec.which.name)?.exec_attached(&exec.node, &exec.words)?;
    // A signal has no code; shells say 128 and more.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(128);
    Ok(ExitCode::from(code))
}

/// Does `work` on one node, or on all.
fn each(cluster: &Cluster, node: Option<&str>, mut work: impl FnMut(&str) -> Result<()>) -> Result<()> {
    match node {
        Some(node) => work(node),
        None => cluster.nodes().iter().try_for_each(|node| work(&node.name)),
    }
}

fn list(clusters: &[Listed]) -> Result<()> {
    let mut out = anstream::stdout().lock();
    if clusters.is_empty() {
        writeln!(anstream::stderr().lock(), "no clusters; create one with: cargo bed up --name dev")?;
        return Ok(());
    }
    writeln!(out, "{:<20} {:<9} {:<9} {:<40} KUBECONFIG", "NAME", "VERSION", "STATE", "NODES")?;
    for cluster in clusters {
        let Some(details) = &cluster.details else {
            writeln!(out, "{:<20} {:<9} {:<9}", cluster.name, "-", "unknown")?;
            continue;
        };
        let state = if details.ready { "ready" } else { "half made" };
        let nodes: Vec<String> = details
            .nodes
            .iter()
            .map(|(name, on)| if *on { name.clone() } else { format!("{name}(off)") })
            .collect();
        let (name, version, nodes) = (&cluster.name, &details.version, nodes.join(","));
        writeln!(out, "{name:<20} {version:<9} {state:<9} {nodes:<40} {}", details.kubeconfig.display())?;
    }
    Ok(())
}

fn print(line: impl std::fmt::Display) -> Result<()> {
    Ok(writeln!(anstream::stdout().lock(), "{line}")?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
