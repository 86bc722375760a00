//! The arguments of `checkpoint`.

/// What each node's standby would bring back after a power cut.
///
/// Operations write it down by themselves. It has to be done by hand only after somebody has edited a DaemonSet and
/// replaced its Pods without this tool, and when a checkpoint is damaged; `status` shows both.
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_subcommand = true)]
pub struct Args {
    /// What to do with it.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with checkpoints.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Action {
    /// Write what runs now into each node's standby, unless it holds that already
    #[command(
        after_help = "Exit codes: 0 written, or nothing to do, 1 failed, 4 refused by a check, 130 interrupted.

Examples:
  # Which nodes would get a new checkpoint
  kubectl selfhost checkpoint refresh --dry-run=client

  # Write it
  kubectl selfhost checkpoint refresh"
    )]
    Refresh(Refresh),
}

/// The arguments of `checkpoint refresh`.
#[derive(Debug, Clone, clap::Args)]
pub struct Refresh {
    /// What it shares with `pivot`.
    #[command(flatten)]
    pub operation: super::operation::Operation,
}
