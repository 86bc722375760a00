//! Durations as seconds with a fraction, the unit of Prometheus and of our JSON.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    // Microseconds are what is measured; more digits would be noise of the binary fraction.
    let micros = value.as_secs_f64() * 1e6;
    serializer.serialize_f64(micros.round() / 1e6)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
}
