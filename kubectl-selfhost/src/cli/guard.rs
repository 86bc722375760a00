//! The arguments of `guard`.

use std::path::PathBuf;

use super::output::Format;

/// The rules that keep unsafe edits away from a self-hosted control plane.
///
/// They are about the DaemonSets of the control plane, the Secrets and ConfigMaps that these mount, and what could
/// take their place.
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_subcommand = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with the guard.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Action {
    /// Say what the rules think of a change, without making it
    ///
    /// A file holds objects as they would be afterwards, or admission reviews. An object that is in a file of --old, or,
    /// with --live, in the cluster, is updated; any other is created. Fields that the API server would fill in are taken
    /// as they are in the file.
    #[command(after_help = "Exit codes: 0 admitted, 1 failed, 4 denied, 130 interrupted.

Examples:
  # What the guard would say of this edit in the cluster
  kubectl selfhost guard test daemonset.yaml --live

  # Of the deletion of a Secret
  kubectl -n kube-system get secret ca -o yaml | kubectl selfhost guard test - --delete --live

  # Without any cluster: before, after, and what else is there
  kubectl selfhost guard test after.yaml --old before.yaml --with cluster.yaml

  # As the controller manager's service account
  kubectl selfhost guard test pod.yaml --as system:serviceaccount:kube-system:daemon-set-controller")]
    Test(Test),
}

/// The arguments of `guard test`.
#[derive(Debug, Clone, clap::Args)]
pub struct Test {
    /// Files of objects or admission reviews, YAML or JSON; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// The objects are deleted, not written
    #[arg(long)]
    pub delete: bool,

    /// Objects as they are now
    #[arg(long, value_name = "FILE")]
    pub old: Vec<PathBuf>,

    /// What else is in the cluster; what no file has is not there
    #[arg(long, value_name = "FILE")]
    pub with: Vec<PathBuf>,

    /// Ask the cluster what is there
    #[arg(long, conflicts_with_all = ["old", "with"])]
    pub live: bool,

    /// Settings of the policy, YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
}
