//! The arguments of `resume`.

/// Finish the operation that was interrupted, whichever it was.
///
/// Its journal is in the cluster: it does not matter who began it, and on which machine. Without an open operation
/// there is nothing to do, and that is a success.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Exit codes: 0 finished, or nothing to do, 1 failed, 4 refused: a check, or somebody else runs it, 130 interrupted.

Examples:
  # What is left to do
  kubectl selfhost resume --dry-run=client

  # Do it
  kubectl selfhost resume"
)]
pub struct Args {
    /// Leave an upgrade half-way when what it brings fails, instead of taking it back
    #[arg(long)]
    pub no_rollback: bool,

    /// What it shares with `pivot`.
    #[command(flatten)]
    pub operation: super::operation::Operation,
}
