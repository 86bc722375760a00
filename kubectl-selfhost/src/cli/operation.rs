//! The arguments that all commands share which change a control plane: how an operation asks, shows, waits and measures.

use clap::ValueEnum;

use super::duration::Timeout;
use super::output::Format;

/// How an operation asks, shows, waits and measures.
#[derive(Debug, Clone, clap::Args)]
pub struct Operation {
    /// Only show what would be done; with "server", the API server checks every object, too
    #[arg(
        long,
        value_name = "STRATEGY",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_value_t,
        default_missing_value = "client"
    )]
    pub dry_run: DryRun,

    /// Output format of the plan and of the report; with "json" or "yaml" a dry run prints the exact objects
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,

    /// Go ahead without asking; required where no terminal can be asked
    #[arg(short, long)]
    pub yes: bool,

    /// Image of the node part, best pinned by digest
    #[arg(long, value_name = "IMAGE", env = "SELFHOST_NODE_IMAGE", default_value_t = default_node_image())]
    pub node_image: String,

    /// How long a new Pod must stay ready before its bridge is released
    #[arg(long, value_name = "DURATION", default_value = "3s")]
    pub settle: Timeout,

    /// Stop the operation when more requests of its own prober than this have failed
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub max_failed_requests: u64,

    /// Stop the operation when nobody was served for longer than this
    #[arg(long, value_name = "DURATION", default_value = "15s")]
    pub max_gap: Timeout,

    /// Requests per second that the prober sends to each API server, on new and on reused connections each
    #[arg(long, value_name = "RATE", default_value_t = 5.0)]
    pub probe_rate: f64,
}

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Everything is done
    #[default]
    None,
    /// Nothing is sent that writes
    Client,
    /// Writes are sent, and the API server stores none
    Server,
}

/// The image of the guard of this release, as [`default_node_image`].
pub(super) fn default_guard_image() -> String {
    option_env!("SELFHOST_RELEASE_GUARD_IMAGE").map_or_else(
        || format!("ghcr.io/kubectl-selfhost/selfhost-guard:v{}", env!("CARGO_PKG_VERSION")),
        ToOwned::to_owned,
    )
}

/// The node image of this release. A released plugin carries its digest; one built by hand has the tag only.
pub(super) fn default_node_image() -> String {
    option_env!("SELFHOST_RELEASE_NODE_IMAGE").map_or_else(
        || format!("ghcr.io/kubectl-selfhost/selfhost-node:v{}", env!("CARGO_PKG_VERSION")),
        ToOwned::to_owned,
    )
}
