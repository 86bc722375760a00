//! The arguments of `version`.

use super::output::DataFormat;

/// Print the version of this plugin and of the API server.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  # Without asking the API server
  kubectl selfhost version --client")]
pub struct Args {
    /// Only the version of this plugin; no server is asked
    #[arg(long)]
    pub client: bool,

    /// Output format; text without it
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    pub output: Option<DataFormat>,
}
