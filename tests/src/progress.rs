//! Progress of long work, for people and for logs.
//!
//! Invariant: one line per finished step with its duration, a heartbeat while a step is long, and never anything on
//! standard output.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a step stays silent before it says that it still runs.
pub const HEARTBEAT: Duration = Duration::from_secs(30);

/// Where progress lines go, and since when.
pub struct Progress {
    start: Instant,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Progress {
    /// Progress to `out`; the clock starts now.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self { start: Instant::now(), out: Mutex::new(Box::new(out)) }
    }

    /// Progress to standard error.
    pub fn stderr() -> Self {
        Self::new(anstream::stderr())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Writes one line, preceded by the time since the start.
    pub fn line(&self, text: impl std::fmt::Display) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody can be told about a closed standard error, and the work itself does not depend on it.
        let _ = writeln!(out, "{:6.1}s  {text}", self.start.elapsed().as_secs_f64());
        let _ = out.flush();
    }

    /// Does `work` and writes a line with its duration.
    pub fn step<T>(&self, what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let start = Instant::now();
        let result = work();
        let seconds = start.elapsed().as_secs_f64();
        match &result {
            Ok(_) => self.line(format_args!("{what} ({seconds:.1} s)")),
            Err(_) => self.line(format_args!("{what}: failed after {seconds:.1} s")),
        }
        result
    }
}
