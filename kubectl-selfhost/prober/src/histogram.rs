//! A latency histogram of fixed size: 32 buckets for each power of two of microseconds.
//!
//! Invariant: a quantile is never below the true one, and at most 1/32 (3.2 %) or 1 µs above it; beyond
//! 2^36 µs (19 hours) values fall into the last bucket.

use std::time::Duration;

const SUB_BITS: u32 = 5;
const SUB_BUCKETS: usize = 1 << SUB_BITS;
const TOP_BIT: u32 = 36;
const BUCKETS: usize = (TOP_BIT - SUB_BITS + 1) as usize * SUB_BUCKETS;

/// Counts durations in buckets whose width grows with the value.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: Box<[u32; BUCKETS]>,
    count: u64,
    max: Duration,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), count: 0, max: Duration::ZERO }
    }

    pub(crate) fn record(&mut self, value: Duration) {
        let bucket = &mut self.buckets[bucket_of(micros(value))];
        *bucket = bucket.saturating_add(1);
        self.count += 1;
        self.max = self.max.max(value);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *bucket = bucket.saturating_add(*more);
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    pub(crate) fn max(&self) -> Option<Duration> {
        (self.count > 0).then_some(self.max)
    }

    /// The upper edge of the bucket that holds the value at `percent` (1 to 100), or nothing if empty.
    pub(crate) fn percentile(&self, percent: u8) -> Option<Duration> {
        let rank = (self.count * u64::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += u64::from(*bucket);
            if seen >= rank {
                return Some(Duration::from_micros(upper_edge(index)).min(self.max));
            }
        }
        None
    }
}

/// Rounded up: a bucket's upper edge must not be below the value.
fn micros(value: Duration) -> u64 {
    u64::try_from(value.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX)
}

fn bucket_of(micros: u64) -> usize {
    let micros = micros.min((1 << TOP_BIT) - 1);
    // Below 64 a bucket holds one value; above, the leading 6 bits name it.
    let shift = (u64::BITS - micros.leading_zeros()).saturating_sub(SUB_BITS + 1);
    let within = usize::try_from(micros >> shift).expect("six bits fit");
    shift as usize * SUB_BUCKETS + within
}

fn upper_edge(index: usize) -> u64 {
    let shift = (index / SUB_BUCKETS).saturating_sub(1);
    let within = index - shift * SUB_BUCKETS;
    ((within as u64 + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_within_the_bound() {
        let mut value = 0_u64;
        let mut last = 0;
        while value < 1 << TOP_BIT {
            let index = bucket_of(value);
            assert!(index < BUCKETS && index >= last, "{value} in {index}");
            let edge = upper_edge(index);
            assert!(edge >= value && edge - value <= value / 32, "{value} has edge {edge}");
            last = index;
            value += 1 + value / 97;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_of_a_known_set() {
        let mut histogram = Histogram::new();
        assert_eq!((histogram.percentile(99), histogram.max()), (None, None));
        for millis in 1..=100 {
            histogram.record(Duration::from_millis(millis));
        }
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        for histogram in [histogram, twice] {
            for (percent, millis) in [(1, 1), (50, 50), (99, 99), (100, 100)] {
                let exact = Duration::from_millis(millis);
                let got = histogram.percentile(percent).unwrap();
                assert!(got >= exact && got <= exact.mul_f64(1.032), "p{percent} is {got:?}");
            }
            assert_eq!(histogram.max(), Some(Duration::from_millis(100)));
        }
    }
}
