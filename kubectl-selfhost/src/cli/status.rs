//! The arguments of `status`.

use clap::ValueEnum;
use selfhost_core::finding::Severity;

use super::output::Format;

/// Show what hosts the control plane, in which versions, and what needs attention.
///
/// Read-only, and works on any cluster: with static Pods, self-hosted, in between, or managed by someone else.
/// Rights that are missing are findings; the rest is shown.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing is the matter, 1 no cluster was reached, 4 findings at or above --fail-on.

Examples:
  # What hosts each component, in which version, and what needs attention
  kubectl selfhost status

  # With node addresses, Pods, images, credentials and their expiry
  kubectl selfhost status -o wide

  # Follow a pivot or an upgrade
  kubectl selfhost status --watch

  # In a script: the findings' codes
  kubectl selfhost status -o json | jq -r '.findings[].code'"
)]
pub struct Args {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,

    /// Keep watching: redraw on a terminal, else one line for each change
    #[arg(short, long)]
    pub watch: bool,

    /// Lowest severity of a finding that makes the exit code 4
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t)]
    pub fail_on: FailOn,
}

/// From which severity on findings make the exit code 4.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Errors
    #[default]
    Error,
    /// Errors and warnings
    Warning,
    /// Nothing does
    Never,
}

impl FailOn {
    /// Whether a finding of `severity` makes the exit code 4.
    pub fn is_reached_by(self, severity: Severity) -> bool {
        match self {
            Self::Error => Severity::Error <= severity,
            Self::Warning => Severity::Warning <= severity,
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        use Severity::{Error, Info, Warning};
        for (fail_on, severity, reached) in [
            (FailOn::Error, Error, true),
            (FailOn::Error, Warning, false),
            (FailOn::Warning, Error, true),
            (FailOn::Warning, Warning, true),
            (FailOn::Warning, Info, false),
            (FailOn::Never, Error, false),
        ] {
            assert_eq!(fail_on.is_reached_by(severity), reached, "{fail_on:?} {severity}");
        }
    }
}
