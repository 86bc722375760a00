//! What an operation shows while it runs: on a terminal a line that lives, elsewhere a line for each step and a
//! heartbeat every thirty seconds, so that a CI job is not taken for dead.
//!
//! Invariant: everything goes to the standard error stream; results go elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::plan::Step;

/// How often somebody without a terminal hears that it goes on.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How often the line on a terminal is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// The progress of one operation. Clones show the same.
#[derive(Clone)]
pub struct Progress {
    state: Arc<Mutex<State>>,
    /// Draws as long as somebody shows this progress.
    #[expect(dead_code, reason = "it is held for its Drop")]
    ticker: Arc<Ticker>,
}

struct Ticker(JoinHandle<()>);

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct State {
    out: Box<dyn Write + Send>,
    live: bool,
    began: Instant,
    current: Option<Current>,
    last_sign: Instant,
}

struct Current {
    heading: String,
    waiting: String,
    since: Instant,
}

impl Progress {
    /// On the standard error stream.
    pub fn to_stderr() -> Self {
        Self::new(Box::new(anstream::stderr()), std::io::stderr().is_terminal())
    }

    /// To any writer; `live` where it is a terminal.
    pub fn new(out: Box<dyn Write + Send>, live: bool) -> Self {
        let now = Instant::now();
        let state = State { out, live, began: now, current: None, last_sign: now };
        let state = Arc::new(Mutex::new(state));
        let weak = Arc::downgrade(&state);
        let ticker = tokio::spawn(async move {
            while let Some(state) = weak.upgrade() {
                lock(&state).tick();
                drop(state);
                tokio::time::sleep(FRAME).await;
            }
        });
        Self { state, ticker: Arc::new(Ticker(ticker)) }
    }

    /// Step `number` of `total` begins.
    pub fn step(&self, number: usize, total: usize, step: &Step) {
        let width = total.to_string().len();
        self.begin(&format!("[{number:>width$}/{total}] {step}"));
    }

    /// Something that is no numbered step begins: `pre-flight checks`.
    pub fn begin(&self, heading: &str) {
        let mut state = lock(&self.state);
        state.finish_current();
        let now = Instant::now();
        state.current = Some(Current { heading: heading.to_owned(), waiting: String::new(), since: now });
        state.last_sign = now;
        if state.live {
            state.draw();
        } else {
            let clock = state.clock();
            state.line(&format!("{clock} {heading}"));
        }
    }

    /// What the current step waits for.
    pub fn waiting(&self, what: &str) {
        if let Some(current) = &mut lock(&self.state).current {
            what.clone_into(&mut current.waiting);
        }
    }

    /// A remark that stays on the screen.
    pub fn note(&self, text: &str) {
        let mut state = lock(&self.state);
        state.erase();
        let clock = state.clock();
        state.line(&format!("{clock} {text}"));
        state.draw();
    }

    /// The current step is done, and nothing follows.
    pub fn end(&self) {
        lock(&self.state).finish_current();
    }

    /// Time since the operation began.
    pub fn elapsed(&self) -> Duration {
        lock(&self.state).began.elapsed()
    }
}

/// Progress goes on whatever happened to another thread while it wrote a line.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn clock(&self) -> String {
        format!("{:>6.1}s", self.began.elapsed().as_secs_f64())
    }

    fn tick(&mut self) {
        if self.live {
            self.draw();
        } else if self.last_sign.elapsed() >= HEARTBEAT
            && let Some(current) = &self.current
        {
            let text = format!(
                "{} {}: still waiting{} ({} s)",
                self.clock(),
                current.heading,
                if current.waiting.is_empty() { String::new() } else { format!(" for {}", current.waiting) },
                current.since.elapsed().as_secs()
            );
            self.last_sign = Instant::now();
            self.line(&text);
        }
    }

    fn finish_current(&mut self) {
        if let Some(current) = self.current.take()
            && self.live
        {
            self.erase();
            let seconds = current.since.elapsed().as_secs_f64();
            let clock = self.clock();
            self.line(&format!("{clock} {}  {seconds:.1}s", current.heading));
        }
    }

    fn draw(&mut self) {
        if let Some(current) = self.current.as_ref().filter(|_| self.live) {
            let seconds = current.since.elapsed().as_secs_f64();
            let mut text = format!("{} {}  {seconds:.1}s", self.clock(), current.heading);
            if !current.waiting.is_empty() {
                text.push_str("  waiting for ");
                text.push_str(&current.waiting);
            }
            let text: String = text.chars().take(width()).collect();
            self.erase();
            // A terminal that went away is no reason to stop an operation.
            let _ = write!(self.out, "{text}").and_then(|()| self.out.flush());
        }
    }

    fn erase(&mut self) {
        if self.live {
            let _ = write!(self.out, "\r\x1b[2K");
        }
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
    }
}

/// Columns of the terminal, less one: a full line would wrap and could not be erased.
fn width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok()).unwrap_or(80).max(20) - 1
}
