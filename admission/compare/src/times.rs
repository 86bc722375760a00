//! How long things took.

use std::time::{Duration, Instant};

use rustix::time::clock_gettime;

pub use rustix::time::ClockId;

/// Times, from the shortest to the longest.
#[derive(Debug, Clone)]
pub struct Times(Vec<Duration>);

impl Times {
    /// These.
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that so many of a thousand do not exceed; zero where there are none.
    pub fn per_mille(&self, per_mille: usize) -> Duration {
        let index = self.0.len().saturating_sub(1) * per_mille / 1000;
        self.0.get(index).copied().unwrap_or_default()
    }

    /// The one in the middle.
    pub fn median(&self) -> Duration {
        self.per_mille(500)
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        self.per_mille(1000)
    }
}

/// What something took.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// By the clock.
    pub wall: Duration,
    /// Of processors' time, which is the same on a busy machine.
    pub processor: Duration,
}

/// Measures both.
#[derive(Debug)]
pub struct Stopwatch {
    begun: Instant,
    clock: ClockId,
    processor: Duration,
}

impl Stopwatch {
    /// Begins; `clock` is of the processors' time of the thread, or of the process.
    pub fn start(clock: ClockId) -> Self {
        Self { begun: Instant::now(), clock, processor: read(clock) }
    }

    /// What it took.
    pub fn stop(&self) -> Taken {
        Taken { wall: self.begun.elapsed(), processor: read(self.clock).saturating_sub(self.processor) }
    }
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// As a figure.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = Times::new((1..=101).rev().map(Duration::from_millis).collect());
        assert_eq!(times.median(), Duration::from_millis(51));
        assert_eq!(times.per_mille(990), Duration::from_millis(100));
        assert_eq!(times.longest(), Duration::from_millis(101));
        assert_eq!(Times::new(Vec::new()).longest(), Duration::ZERO);
    }
}
