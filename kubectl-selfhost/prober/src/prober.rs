//! Starts a measurement, and the handle to watch and end it.
//!
//! Invariant: the prober runs in a thread of its own with its own runtime. The operation it measures cannot
//! delay it, and it cannot take more than one core from the control plane under test.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::channel::Channel;
use crate::config::{Config, ConfigError};
use crate::record::{Ending, Record, Snapshot};
use crate::report::Report;
use crate::stream::{self, Stream};

/// Starts measurements.
#[derive(Debug)]
pub struct Prober;

/// A measurement that runs. Dropping it ends the measurement at once, without a report.
#[derive(Debug)]
pub struct Handle {
    record: Arc<Record>,
    stop: watch::Sender<bool>,
    done: watch::Receiver<bool>,
}

/// Why a measurement did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be run.
    #[error("cannot probe")]
    Config(#[from] ConfigError),
    /// The thread or its runtime could not be made.
    #[error("cannot start the prober's thread")]
    Thread(#[source] io::Error),
}

impl StartError {
    /// What to do next, for the `hint:` line.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Config(error) => error.hint(),
            Self::Thread(_) => "see the limits on processes and open files (ulimit -u, ulimit -n)",
        }
    }
}

impl Prober {
    /// Name of the prober's thread, as in `/proc/<pid>/task/<tid>/comm` (15 bytes at most).
    pub const THREAD_NAME: &'static str = "selfhost-prober";

    /// Checks the configuration and starts sending.
    pub fn start(config: Config) -> Result<Handle, StartError> {
        config.check()?;
        let record = Arc::new(Record::new(&config));
        let (stop, stopped) = watch::channel(false);
        let (finish, done) = watch::channel(false);
        let (report_start, started) = mpsc::sync_channel(1);
        let record_of_thread = Arc::clone(&record);
        thread::Builder::new()
            .name(Self::THREAD_NAME.to_owned())
            .spawn(move || {
                // Made here: a runtime must not be dropped by an async caller, as a failed spawn would.
                let runtime = match Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(report_start.send(Err(error))),
                };
                drop(report_start.send(Ok(())));
                runtime.block_on(run(&config, &record_of_thread, stopped));
                // Connections and dials that nobody needs any more.
                runtime.shutdown_background();
                // Nobody waits when the handle was dropped.
                let _ = finish.send(true);
            })
            .map_err(StartError::Thread)?;
        let started = started.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")));
        started.map_err(StartError::Thread)?;
        Ok(Handle { record, stop, done })
    }
}

impl Handle {
    /// The state right now.
    pub fn snapshot(&self) -> Snapshot {
        self.record.snapshot()
    }

    /// Says which step of the operation begins; failures and gaps are labelled with it.
    pub fn mark(&self, step: &str) {
        self.record.mark(step);
    }

    /// Waits until sending has ended by itself at a bound of the configuration and the last answers are in.
    pub async fn wait(&mut self) {
        // An error means that the thread is gone, which is an end too.
        let _ = self.done.wait_for(|done| *done).await;
    }

    /// Ends sending, waits for the answers that are out (at most one request timeout) and reports.
    pub async fn stop(mut self) -> Report {
        self.record.end(Ending::Stopped);
        // An error means that sending has ended already.
        let _ = self.stop.send(true);
        self.wait().await;
        Report::new(&self.record)
    }
}

async fn run(config: &Config, record: &Arc<Record>, mut stop: watch::Receiver<bool>) {
    let mut streams = JoinSet::new();
    for stream in streams_of(config, record) {
        streams.spawn(stream::run(stream, Arc::clone(record), stop.clone()));
    }
    let drain = async { while streams.join_next().await.is_some() {} };
    let dropped = async { while stop.changed().await.is_ok() {} };
    tokio::select! {
        () = drain => {}
        () = dropped => {}
    }
}

/// The streams of all loads to all targets, spread evenly over their period.
#[expect(clippy::cast_precision_loss, reason = "numbers of streams and targets are small")]
fn streams_of(config: &Config, record: &Record) -> Vec<Stream> {
    let started = Instant::from_std(record.started());
    let n_groups = config.targets.len() * config.loads.len();
    let mut streams = Vec::new();
    for (target_index, target) in config.targets.iter().enumerate() {
        for (load_index, load) in config.loads.iter().enumerate() {
            let group = target_index * config.loads.len() + load_index;
            let period = stream::period(load);
            for index in 0..load.streams {
                let phase = (index as f64 + group as f64 / n_groups as f64) / load.streams as f64;
                streams.push(Stream {
                    name: format!("stream-{target_index}-{load_index}-{index}"),
                    series: record.series_of(&target.name, load.mode),
                    channel: Channel::new(config, target, load.mode),
                    requests: load.requests.clone(),
                    first: started + period.mul_f64(phase),
                    period,
                    end: started + config.max_duration,
                    timeout: config.timeout,
                });
            }
        }
    }
    streams
}
