//! Waiting for a TCP port of the node to be nobody's.
//!
//! Invariant: "free" means that the kernel shows no listener on any address, not that a connection was refused.

use std::time::{Duration, Instant};

use crate::sockets;
use crate::stop::{Stop, Stopped};

/// How often the kernel is asked; a swap waits for this, so it is short.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// The port did not become free.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("port {port} is still listened on after {} s", timeout.as_secs())]
    Busy { port: u16, timeout: Duration },
    #[error("wait for port {port}")]
    Stopped { port: u16, source: Stopped },
    #[error(transparent)]
    Sockets(#[from] sockets::Error),
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Busy { .. } => {
                "see on the node which process holds the port (`ss -ltnp`); the task can be run again"
            }
            Self::Stopped { .. } => "the task can be run again",
            Self::Sockets(_) => "the task needs /proc of a Linux node",
        }
    }
}

/// Waits until nobody listens on `port` in this network namespace; returns how long that took.
pub(crate) fn wait_free(port: u16, timeout: Duration, stop: &Stop) -> Result<Duration, Error> {
    let start = Instant::now();
    loop {
        if !sockets::listening()?.contains(&port) {
            return Ok(start.elapsed());
        }
        if start.elapsed() >= timeout {
            return Err(Error::Busy { port, timeout });
        }
        stop.sleep(POLL).map_err(|source| Error::Stopped { port, source })?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn waits_for_the_listener_to_go() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let busy = wait_free(port, Duration::from_millis(60), &Stop::never()).unwrap_err();
        assert!(matches!(busy, Error::Busy { .. }), "{busy}");

        let closer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(120));
            drop(listener);
        });
        let waited = wait_free(port, Duration::from_secs(10), &Stop::never()).unwrap();
        closer.join().unwrap();
        assert!(waited >= Duration::from_millis(50), "{waited:?}");
    }
}
