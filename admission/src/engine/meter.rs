//! The time that a guest takes.
//!
//! Invariant: what counts is the processor's time of the thread, spent in the guest. A review on a machine that has no
//! time for it, or one that waits for the API server, ends when nobody waits for it any more, and not before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{EngineWeak, UpdateDeadline};

use super::verdict::EvaluateError;

/// How often a guest is looked at.
const TICK: Duration = Duration::from_millis(1);

/// What a review has spent, and when it is over.
#[derive(Debug)]
pub(super) struct Meter {
    limit: Duration,
    deadline: Instant,
    spent: Duration,
    /// The thread's time when the guest last began or went on.
    since: Duration,
}

impl Meter {
    pub(super) fn start(limit: Duration, deadline: Instant) -> Self {
        Self { limit, deadline, spent: Duration::ZERO, since: thread_time() }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The guest waits for the host.
    pub(super) fn pause(&mut self) {
        self.spent += thread_time().saturating_sub(self.since);
    }

    /// The guest goes on.
    pub(super) fn resume(&mut self) -> Result<(), EvaluateError> {
        self.since = thread_time();
        self.check(self.spent)
    }

    /// What is done at each tick.
    pub(super) fn tick(&self) -> wasmtime::Result<UpdateDeadline> {
        self.check(self.spent + thread_time().saturating_sub(self.since))?;
        Ok(UpdateDeadline::Continue(1))
    }

    fn check(&self, spent: Duration) -> Result<(), EvaluateError> {
        if spent >= self.limit || Instant::now() >= self.deadline {
            return Err(EvaluateError::Timeout);
        }
        Ok(())
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The thread that makes the ticks, while anything runs. A guard that nobody asks wakes nobody.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    stop: AtomicBool,
}

impl Ticker {
    pub(super) fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("ticker".to_owned()).spawn(move || {
            while !of_thread.stop.load(Ordering::Acquire) {
                if of_thread.running.load(Ordering::Acquire) == 0 {
                    // Whoever begins leaves a token, so that a review that began just now is not missed.
                    thread::park();
                    continue;
                }
                thread::sleep(TICK);
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Ticks until the result is dropped.
    pub(super) fn tick(&self) -> Ticking<'_> {
        if self.shared.running.fetch_add(1, Ordering::AcqRel) == 0 {
            self.wake();
        }
        Ticking(&self.shared)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It ends by itself, and has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// Something runs.
#[derive(Debug)]
pub(super) struct Ticking<'a>(&'a Shared);

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}
