//! The arguments of `backup`.

use super::operation::default_node_image;
use super::output::Format;

/// Back up the control plane: etcd, static manifests, certificates and keys.
///
/// Each control-plane node gets a directory with a snapshot of its etcd member, which etcd's own tool has restored once,
/// and with the files of its control plane. Nothing that serves is touched. A backup holds every secret of the cluster.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Exit codes: 0 every node has its backup, 1 failed, 4 refused, 5 timed out, 130 interrupted.

Examples:
  # Each control-plane node, below /var/lib/selfhost/backups
  kubectl selfhost backup

  # One node, to a directory that is mounted there
  kubectl selfhost backup --node cp1 --to /mnt/backups

  # Which nodes, and which files beside those of kubeadm
  kubectl selfhost backup --dry-run -o yaml"
)]
pub struct Args {
    /// Control-plane node to back up; can be given several times; all of them if not given
    #[arg(long = "node", value_name = "NODE")]
    pub nodes: Vec<String>,

    /// Directory on each node in which the backup gets a directory of its own; it is made if it is not there
    #[arg(long, value_name = "DIR", default_value = "/var/lib/selfhost/backups")]
    pub to: String,

    /// Only show what would be backed up
    #[arg(long)]
    pub dry_run: bool,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,

    /// Image of the node part, best pinned by digest
    #[arg(long, value_name = "IMAGE", env = "SELFHOST_NODE_IMAGE", default_value_t = default_node_image())]
    pub node_image: String,
}
