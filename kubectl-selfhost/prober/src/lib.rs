//! Measures how available a Kubernetes API server is while somebody works on it.
//!
//! The prober sends requests by the clock (open loop), on new and on reused connections, and counts
//! every one of them: answered, asked to come back (`Retry-After`), replayed as Go's transport does,
//! or failed and how. The plugin runs it during operations and the benches use it as load.
//!
//! Invariants:
//! - A request that was due is counted, whatever becomes of it: after [`Handle::stop`],
//!   `requests == ok + retry_after + failed` for every series.
//! - Sends never wait for earlier answers, and memory does not grow with the duration.
//! - Nothing here knows Kubernetes clients or writes to a terminal; the caller hands in the TLS
//!   configuration and prints the [`Report`].
//!
//! ```no_run
//! # async fn demo(tls: std::sync::Arc<rustls::ClientConfig>) -> Result<(), Box<dyn std::error::Error>> {
//! use selfhost_prober::{Config, Load, Mode, Prober, Target};
//!
//! let target = Target::new("10.250.0.11:6443", "10.250.0.11:6443".parse()?, "10.250.0.11")?;
//! let config = Config::new(tls, vec![target])
//!     .load(Load::reads(Mode::New, 5, 10.0))
//!     .load(Load::reads(Mode::Reused, 5, 10.0));
//! let prober = Prober::start(config)?;
//! prober.mark("replace kube-apiserver");
//! let report = prober.stop().await;
//! # Ok(()) }
//! ```

mod budget;
mod channel;
mod config;
mod dial;
mod failure;
mod histogram;
mod prober;
mod record;
mod report;
mod request;
mod stream;
mod tally;

pub use budget::{Budget, BudgetExceeded};
pub use config::{Config, ConfigError, Load, Mode, Target};
pub use failure::FailureKind;
pub use prober::{Handle, Prober, StartError};
pub use record::{SeriesSnapshot, Snapshot};
pub use report::{Counts, FailureSample, Gap, Latency, Report, SeriesReport, StepReport, Summary};
pub use request::RequestSpec;
