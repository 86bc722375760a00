//! Limits of the whole machine that several nodes together run into.
//!
//! A kubelet alone takes some twenty inotify instances, and all nodes are the same user to the kernel, which allows 128.
//!
//! Invariant: a limit is only ever raised; the former values come back with the end of the last cluster.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What enough is for more nodes than a machine can bear.
const LIMITS: [(&str, u64); 2] =
    [("/proc/sys/fs/inotify/max_user_instances", 8192), ("/proc/sys/fs/inotify/max_user_watches", 524_288)];

/// Raises what is too low, and records in the file `record` what it was. The lock of all clusters must be held.
pub(crate) fn raise(record: &Path) -> Result<()> {
    let mut former = read_record(record)?;
    let low = LIMITS.iter().filter_map(|(path, enough)| {
        let value: u64 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
        (value < *enough).then_some((*path, *enough, value))
    });
    for (path, enough, value) in low {
        former.entry(path.to_owned()).or_insert(value);
        // The record first: a kill in between costs nothing.
        fs::write(record, serde_json::to_vec(&former)?)
            .with_context(|| format!("write {}", record.display()))?;
        fs::write(path, enough.to_string()).with_context(|| format!("raise {path}"))?;
    }
    Ok(())
}

/// Brings back what [`raise`] recorded, and removes the record. The lock of all clusters must be held.
pub(crate) fn restore(record: &Path) -> Result<()> {
    for (path, value) in read_record(record)? {
        fs::write(&path, value.to_string()).with_context(|| format!("restore {path}"))?;
    }
    match fs::remove_file(record) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", record.display()))
        }
        _ => Ok(()),
    }
}

fn read_record(record: &Path) -> Result<BTreeMap<String, u64>> {
    match fs::read(record) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("read {}", record.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).with_context(|| format!("read {}", record.display())),
    }
}
