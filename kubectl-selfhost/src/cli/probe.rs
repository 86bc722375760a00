//! The arguments of `probe`.

use super::duration::Timeout;
use super::output::Format;

/// Measure how available the API server is.
///
/// Sends reads (and, if asked, writes) by the clock, whatever becomes of earlier ones, on new and on reused
/// connections, and counts every one. Ends after --duration, or when interrupted, and prints the report.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Exit codes: 0 no request failed, 1 could not measure, 4 requests failed.

Examples:
  # The cluster's own address, for a minute
  kubectl selfhost probe --duration 1m

  # Two addresses at 200 requests per second each, for a script
  kubectl selfhost probe --target 10.0.0.11:6443 --target 10.96.0.1:443 --rate 200 -o json")]
pub struct Args {
    /// Address and port to probe; can be given several times; the cluster's own address if not given
    #[arg(long = "target", value_name = "ADDRESS")]
    pub targets: Vec<std::net::SocketAddr>,

    /// Requests per second to each target, half on new connections and half on reused ones
    #[arg(long, value_name = "RATE", default_value_t = 20.0)]
    pub rate: f64,

    /// How long
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub duration: Timeout,

    /// How long one request may take
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub timeout: Timeout,

    /// Path that is read
    #[arg(long, value_name = "PATH", default_value = "/api/v1/namespaces/default")]
    pub path: String,

    /// Write `ConfigMaps` NAMESPACE/PREFIX-..., one for each client, on every second request of a reused connection
    #[arg(long, value_name = "NAMESPACE/PREFIX")]
    pub write: Option<String>,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
}
