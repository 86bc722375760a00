//! What `-v` turns on: our own notes, and kube's, on standard error.
//!
//! Invariant: silent by default. Requests that are tried again are no news to a user who did not ask.

use std::io;

use tracing::Level;
use tracing::level_filters::LevelFilter;

/// Starts writing the log at kubectl's `level`. Without a level nothing is set up, and logging costs nothing.
pub(super) fn start(level: u8) {
    let Some(level) = of(level) else { return };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::from_level(level))
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .finish();
    // Fails only if the process has a subscriber already, and then that one is as good.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// kubectl shows requests from 6 on, and bodies and headers from 8 on.
fn of(level: u8) -> Option<Level> {
    match level {
        0 => None,
        1 => Some(Level::WARN),
        2..=5 => Some(Level::INFO),
        6..=7 => Some(Level::DEBUG),
        _ => Some(Level::TRACE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_kubectl() {
        assert_eq!(of(0), None);
        assert_eq!(of(2), Some(Level::INFO));
        assert_eq!(of(6), Some(Level::DEBUG));
        assert_eq!(of(9), Some(Level::TRACE));
    }
}
