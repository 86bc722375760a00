//! The command line: what can be asked for, and nothing of how it is done.
//!
//! Invariant: parsing touches neither network nor files, so that `--help` answers at once.

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand};

pub mod abort;
pub mod backup;
pub mod checkpoint;
pub mod completion;
pub mod duration;
pub mod global;
pub mod guard;
pub mod operation;
pub mod output;
pub mod pivot;
pub mod probe;
pub mod resume;
pub mod status;
pub mod unpivot;
pub mod upgrade;
pub mod version;

#[cfg(test)]
mod reference;

/// Colours of the help text: those that kubectl's users know from other tools.
const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

/// Inspect, pivot and upgrade a self-hosted Kubernetes control plane
///
/// A self-hosted control plane runs kube-apiserver, kube-controller-manager and kube-scheduler as DaemonSets of the
/// cluster itself. Flags come after `selfhost`: kubectl takes none before a plugin's name.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-selfhost",
    bin_name = "kubectl selfhost",
    version,
    styles = STYLES,
    max_term_width = 100,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "Examples:
  # What hosts each component, in which version, and what needs attention
  kubectl selfhost status

  # The same of another cluster, for a script
  kubectl selfhost status --context prod -o json"
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: global::Global,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "a comment here would take the place of the help text, which is the arguments' own"
)]
pub enum Command {
    Status(status::Args),
    Pivot(pivot::Args),
    Unpivot(unpivot::Args),
    Upgrade(upgrade::Args),
    Resume(resume::Args),
    Abort(abort::Args),
    Checkpoint(checkpoint::Args),
    Backup(backup::Args),
    Guard(guard::Args),
    Probe(probe::Args),
    Completion(completion::Args),
    Version(version::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
