//! SIGTERM and SIGINT as an event.
//!
//! Invariant: once a handler is installed neither signal ends the process by itself; whoever installed it reacts.
//! (In a container the process is pid 1, for which the kernel ignores signals without a handler.)

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The watching thread only forwards: a small stack is enough.
const STACK_BYTES: usize = 64 * 1024;

/// Calls `notify` for each SIGTERM and SIGINT, on a thread of its own.
pub(crate) fn on_signal(mut notify: impl FnMut() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new().name("signals".to_owned()).stack_size(STACK_BYTES).spawn(move || {
        for _ in signals.forever() {
            notify();
        }
    })?;
    Ok(())
}

/// Whether the process has been asked to stop.
#[derive(Debug)]
pub(crate) struct Stop(Receiver<()>);

/// The process was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted by a signal")]
pub(crate) struct Stopped;

impl Stop {
    /// Is asked to stop by SIGTERM and SIGINT.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        on_signal(move || {
            // The receiver is gone when the process is ending anyway.
            let _ = sender.send(());
        })?;
        Ok(Self(receiver))
    }

    /// Is never asked to stop.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        let (sender, receiver) = mpsc::channel();
        std::mem::forget(sender);
        Self(receiver)
    }

    /// Sleeps, unless the process is asked to stop.
    pub(crate) fn sleep(&self, duration: Duration) -> Result<(), Stopped> {
        match self.0.recv_timeout(duration) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(Stopped),
        }
    }
}
