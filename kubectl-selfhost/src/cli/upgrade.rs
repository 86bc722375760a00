//! The arguments of `upgrade`.

use selfhost_core::etcd::EtcdTag;
use selfhost_core::version::VersionRequest;

/// Bring a self-hosted control plane to another version, without losing a request.
///
/// Without a version it shows which versions are known and what each component runs. A version without its patch,
/// v1.37, means the newest patch that is known from images on the nodes or from the release URL. etcd comes
/// along with --etcd, and stays as it is without.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Exit codes: 0 upgraded, 1 failed, 4 refused by a pre-flight check, 130 interrupted.

Examples:
  # What runs, and what it could be upgraded to
  kubectl selfhost upgrade

  # What would be done
  kubectl selfhost upgrade v1.37 --dry-run=server

  # Do it
  kubectl selfhost upgrade v1.37.2

  # In two steps: first the new binaries, which emulate the old minor, then the switch
  kubectl selfhost upgrade v1.37.2 --emulate
  kubectl selfhost upgrade v1.37.2

  # The same, and etcd to the version that kubeadm gives it
  kubectl selfhost upgrade v1.37.2 --etcd

  # etcd alone
  kubectl selfhost upgrade --etcd=3.6.16-0

  # Back to the version before
  kubectl selfhost upgrade --rollback")]
pub struct Args {
    /// The version to upgrade to: v1.37.2, or v1.37 for its newest patch
    #[arg(value_name = "VERSION")]
    pub version: Option<VersionRequest>,

    /// Make a minor upgrade in two steps. This is the first: the new binaries go on behaving like the minor that runs
    /// now, so that there is a way back. The second is the same command without it
    #[arg(long, requires = "version", conflicts_with_all = ["rollback", "etcd"])]
    pub emulate: bool,

    /// Repository of the target's images, instead of the one that the components come from now
    #[arg(long, value_name = "REPOSITORY")]
    pub image_repository: Option<String>,

    /// Take etcd along, one member at a time, after a snapshot: to the image with this tag, or to the one that kubeadm gives
    /// it. Without VERSION, etcd alone
    #[arg(long, value_name = "TAG", num_args = 0..=1, require_equals = true)]
    pub etcd: Option<Option<EtcdTag>>,

    /// Where the newest patch of a minor is looked up; empty to ask nobody
    #[arg(long, value_name = "URL", default_value = "https://dl.k8s.io/release")]
    pub release_url: String,

    /// Go back to the previous revision of the DaemonSets, or to the newest one of VERSION; one minor at most
    #[arg(long, conflicts_with_all = ["image_repository", "etcd"])]
    pub rollback: bool,

    /// Leave the upgrade half-way when what it brings fails, instead of taking it back
    #[arg(long)]
    pub no_rollback: bool,

    /// What it shares with `pivot`.
    #[command(flatten)]
    pub operation: super::operation::Operation,
}
