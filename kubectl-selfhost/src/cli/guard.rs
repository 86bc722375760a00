//! The arguments of `guard`.

use std::path::PathBuf;

use super::duration::Timeout;
use super::operation::{Operation, default_guard_image};
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
    /// Put a guard before the API servers of a self-hosted control plane
    ///
    /// A server on each control-plane node judges what is done to the control plane's objects. Each API server asks the
    /// one of its own node, with a certificate of its own, which takes a swap of every API server. The guard is
    /// registered when it is ready, first so that what it does not answer goes through, and only when every API server
    /// has been seen to ask it, so that what it does not answer is denied.
    #[command(after_help = "Exit codes: 0 installed, 1 failed, 2 usage, 4 refused, 130 interrupted.

Examples:
  # What would be written and swapped
  kubectl selfhost guard install --dry-run

  # With settings of one's own, and looking at Pods, nodes and rights, too
  kubectl selfhost guard install --settings settings.yaml --wide

  # So that the registration cannot be deleted by mistake
  kubectl selfhost guard install --wide --static")]
    Install(Install),

    /// Say whether each API server enforces the rules
    ///
    /// A registration says what an API server should do. This asks each API server to accept an edit that no guard
    /// admits, as a dry run.
    #[command(
        after_help = "Exit codes: 0 every API server enforces, 1 failed, 4 one does not, 130 interrupted."
    )]
    Status(Status),

    /// Say which requests can reach the guard
    #[command(after_help = "Exit codes: 0 success, 1 failed, 130 interrupted.")]
    Scope(Scope),

    /// Approve one change that a rule would stop
    ///
    /// A file holds one object as it is to be, edited from what kubectl get -o yaml printed. It is written to standard
    /// output with the approval in an annotation, which counts for just this change, once, until it lapses.
    #[command(after_help = "Exit codes: 0 success, 1 failed, 2 usage, 130 interrupted.

Examples:
  # A container beside the scheduler, for ten minutes
  kubectl selfhost guard approve scheduler.yaml --rule DS-11 --reason 'tracing, CHG-42' --for 10m | kubectl replace -f -

  # The deletion of a Secret: the approval is written to it, and then it may be deleted
  kubectl -n kube-system get secret old -o yaml |
    kubectl selfhost guard approve - --delete --rule SEC-1 --reason 'not used any more' | kubectl replace -f -

  # Signed with a key that the settings name
  kubectl selfhost guard approve scheduler.yaml --rule DS-11 --reason CHG-42 --key ann.pem --key-name ann")]
    Approve(Approve),

    /// Take the guard away: first its registration, then everything else
    ///
    /// Nothing is guarded from the first moment on. What follows is a swap of every API server, which then has no
    /// certificate for the guard any more.
    #[command(after_help = "Exit codes: 0 gone, 1 failed, 2 usage, 4 refused, 130 interrupted.")]
    Uninstall(Uninstall),

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

/// The arguments of `guard install`.
#[derive(Debug, Clone, clap::Args)]
pub struct Install {
    /// Image of the guard: the server and the policy, best pinned by digest
    #[arg(long, value_name = "IMAGE", env = "SELFHOST_GUARD_IMAGE", default_value_t = default_guard_image())]
    pub guard_image: String,

    /// Settings of the policy, YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,

    /// Send the guard more than what is guarded by name: Pods, nodes, rights, and what else could reach the control plane
    #[arg(long)]
    pub wide: bool,

    /// Keep the registration itself by a static manifest of each API server, so that nobody takes it away in passing;
    /// from v1.36 on, where it turns a feature on that is off by default
    #[arg(long = "static")]
    pub static_manifests: bool,

    /// Port on which each API server asks the guard of its node, on loopback; the next one has health and metrics
    #[arg(long, value_name = "PORT", default_value_t = 9443, value_parser = clap::value_parser!(u16).range(1..65535))]
    pub port: u16,

    /// How the API servers are swapped
    #[command(flatten)]
    pub operation: Operation,
}

/// The arguments of `guard status`.
#[derive(Debug, Clone, clap::Args)]
pub struct Status {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
}

/// The arguments of `guard scope`.
#[derive(Debug, Clone, clap::Args)]
pub struct Scope {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
}

/// The arguments of `guard approve`.
#[derive(Debug, Clone, clap::Args)]
pub struct Approve {
    /// A file with the object as it is to be; `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The object is to be deleted
    #[arg(long)]
    pub delete: bool,

    /// The rules that it may break
    #[arg(long, value_name = "RULE", required = true)]
    pub rule: Vec<String>,

    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,

    /// For how long it counts
    #[arg(long = "for", value_name = "DURATION", default_value = "10m")]
    pub lasts: Timeout,

    /// A private key that signs it: ECDSA P-256, in PEM (PKCS#8)
    #[arg(long, value_name = "FILE", requires = "key_name")]
    pub key: Option<PathBuf>,

    /// The name that the settings give that key
    #[arg(long, value_name = "NAME", requires = "key")]
    pub key_name: Option<String>,
}

/// The arguments of `guard uninstall`.
#[derive(Debug, Clone, clap::Args)]
pub struct Uninstall {
    /// How the API servers are swapped
    #[command(flatten)]
    pub operation: Operation,
}
