//! The arguments of `unpivot`.

/// Turn a self-hosted control plane back into one of static Pods, without losing a request.
///
/// Each component is replaced under a bridge, as in a pivot. The static manifests are those that the pivot took away;
/// where a component was upgraded since, with the image that runs. In the end nothing of this tool is left in the
/// cluster. Run again, it finishes what was interrupted.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Exit codes: 0 static Pods, 1 failed, 4 refused by a pre-flight check, 130 interrupted.

Examples:
  # What would be done
  kubectl selfhost unpivot --dry-run=server

  # Do it
  kubectl selfhost unpivot

  # Do it, although a flag of a DaemonSet was changed since the pivot
  kubectl selfhost unpivot --discard-changes"
)]
pub struct Args {
    /// Lose what was changed in a DaemonSet since the pivot, except its version
    #[arg(long)]
    pub discard_changes: bool,

    /// What it shares with `pivot`.
    #[command(flatten)]
    pub operation: super::operation::Operation,
}
