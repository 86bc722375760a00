//! The arguments of `abort`.

/// Go back to where the interrupted operation began.
///
/// A pivot goes back to static Pods, an unpivot to DaemonSets, an upgrade to what ran before, each under a bridge and
/// without losing a request. What was static, or of which version, is in the operation's journal in the cluster.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Exit codes: 0 as before, or nothing to do, 1 failed, 4 refused: a check, or somebody else runs it, 130 interrupted.

Examples:
  # What the way back looks like
  kubectl selfhost abort --dry-run=client

  # Go back
  kubectl selfhost abort"
)]
pub struct Args {
    /// What it shares with `pivot`.
    #[command(flatten)]
    pub operation: super::operation::Operation,
}
