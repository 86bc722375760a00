//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::logs::Level;

/// Judge writes to a self-hosted control plane, as an admission webhook
///
/// An API server asks by HTTPS, with a certificate of its own, whether a write may go on; the policy, a Wasm module, says
/// so. Certificates, authorities, policy and settings are read again when they change.
#[derive(Debug, Clone, Parser)]
#[command(name = "selfhost-admission", version, max_term_width = 100, arg_required_else_help = true)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    /// What it serves with, where it is to serve.
    #[command(flatten)]
    pub serve: Option<Serve>,

    /// What it is to do instead.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What is done and ends.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Compile a policy's module, for --compiled
    Compile {
        /// The module
        module: PathBuf,
        /// Where the outcome goes; whoever can write there later can run anything in the guard
        directory: PathBuf,
    },
}

/// How it serves.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// The policy's module
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,

    /// Where modules are that were compiled before, by `selfhost-admission compile`
    ///
    /// Others are compiled at the start, which takes a second. What is there is machine code: a directory of the image.
    #[arg(long, value_name = "DIRECTORY")]
    pub compiled: Option<PathBuf>,

    /// The policy's settings, in JSON; its own by default
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,

    /// The certificate to serve with, and its chain, in PEM
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: PathBuf,

    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE")]
    pub tls_private_key_file: PathBuf,

    /// The authorities of the API servers' certificates, in PEM
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: PathBuf,

    /// A common name or DNS name of those certificates; may be repeated
    #[arg(long, value_name = "NAME", required = true)]
    pub client_name: Vec<String>,

    /// Where reviews are sent: HTTPS, POST /validate
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9443")]
    pub listen: SocketAddr,

    /// Where /livez, /readyz and /metrics are: HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9444")]
    pub status_listen: SocketAddr,

    /// How to reach the API server that the policy looks things up in; as a Pod of the cluster by default
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// How many reviews are evaluated at the same time; by default as many as there are processors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: Option<u16>,

    /// How many more may wait; the next one is denied at once
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u16).range(1..))]
    pub queue: u16,

    /// How long to answer what has begun, after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub drain: Duration,

    /// How much is logged
    #[arg(long, value_name = "LEVEL", value_enum, default_value = "info")]
    pub log_level: Level,

    /// Load everything, try the policy, and end
    #[arg(long)]
    pub check: bool,
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_documented() {
        let docs = include_str!("../../docs/reference/admission.md");
        let command = Cli::command();
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(docs.contains(&format!("`--{flag}")), "--{flag}");
        }
    }

    #[test]
    fn somebody_has_to_be_served() {
        let flags =
            "selfhost-admission --policy p --tls-cert-file c --tls-private-key-file k --client-ca-file a";
        assert!(Cli::try_parse_from(flags.split(' ')).is_err());
        let cli = Cli::try_parse_from(format!("{flags} --client-name b").split(' ')).unwrap();
        assert_eq!(cli.serve.unwrap().drain, Duration::from_secs(10));
    }
}
