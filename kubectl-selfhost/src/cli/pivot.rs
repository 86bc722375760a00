//! The arguments of `pivot`.

/// Turn a control plane of static Pods into a self-hosted one, without losing a request.
///
/// Each component is replaced under a bridge: a second copy that serves on another port meanwhile. The static
/// manifests are kept on their nodes. Run again, it finishes what was interrupted, and takes in nodes that joined
/// later.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Exit codes: 0 self-hosted, 1 failed, 4 refused by a pre-flight check, 130 interrupted.

Examples:
  # What would be done, and every object that would be written
  kubectl selfhost pivot --dry-run=client
  kubectl selfhost pivot --dry-run=client -o yaml

  # Check everything with the API server, change nothing
  kubectl selfhost pivot --dry-run=server

  # Do it
  kubectl selfhost pivot"
)]
pub struct Args {
    /// What it shares with `upgrade`.
    #[command(flatten)]
    pub operation: super::operation::Operation,
}
