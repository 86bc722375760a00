//! What is logged: JSON, one object on a line.
//!
//! Invariant: this crate alone logs, whatever the level. HTTP and Kubernetes libraries log what they send and receive when
//! something goes wrong with it, and that is what Secrets are made of.

use clap::ValueEnum;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// What has failed.
    Error,
    /// What will.
    Warn,
    /// What was denied, and what has changed.
    Info,
    /// Every review.
    Debug,
    /// Every connection.
    Trace,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// Logs to `writer`.
pub fn subscriber<W>(level: Level, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let own = Targets::new().with_target(env!("CARGO_CRATE_NAME"), LevelFilter::from(level));
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false);
    tracing_subscriber::registry().with(own).with(json.with_writer(writer))
}
