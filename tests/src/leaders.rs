//! How long controller manager and scheduler were without a leader.
//!
//! Invariant: told by the leases' own times, which the leaders write; a watch that breaks off in between, because its API
//! server is replaced, makes the figure greater at most.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::cluster::Cluster;

/// Who holds a lease, and when it was renewed last.
const COLUMNS: &str = "jsonpath={.spec.holderIdentity}{\" \"}{.spec.renewTime}{\"\\n\"}";

/// A watch on both leases.
#[derive(Debug)]
pub struct Leaders {
    watches: Vec<Watch>,
}

#[derive(Debug)]
struct Watch {
    lease: &'static str,
    ended: Arc<AtomicBool>,
    child: Arc<Mutex<Option<Child>>>,
    reader: Option<JoinHandle<Vec<Timestamp>>>,
}

impl Leaders {
    /// Begins to watch.
    pub fn watch(cluster: &Cluster) -> Result<Self> {
        let watches = ["kube-controller-manager", "kube-scheduler"]
            .into_iter()
            .map(|lease| Watch::begin(cluster, lease))
            .collect::<Result<_>>()?;
        Ok(Self { watches })
    }

    /// Ends it: for each lease the longest time between two renewals by a leader.
    pub fn stop(mut self) -> Result<Vec<(&'static str, Duration)>> {
        self.watches
            .iter_mut()
            .map(|watch| {
                let renewals = watch.end().context("the watch on a lease panicked")?;
                ensure!(renewals.len() > 1, "lease {} was not seen", watch.lease);
                Ok((watch.lease, longest_gap(&renewals)))
            })
            .collect()
    }
}

impl Watch {
    fn begin(cluster: &Cluster, lease: &'static str) -> Result<Self> {
        let mut kubectl = cluster.kubectl_command()?;
        kubectl
            .args(["-n", "kube-system", "get", "lease", lease, "--watch", "-o", COLUMNS])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let ended = Arc::new(AtomicBool::new(false));
        let child = Arc::new(Mutex::new(None));
        let (stop, slot) = (Arc::clone(&ended), Arc::clone(&child));
        let reader = thread::spawn(move || {
            let mut renewals = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                read(&mut kubectl, &slot, &mut renewals);
                // The API server that it asked is on its way out.
                thread::sleep(Duration::from_millis(200));
            }
            renewals
        });
        Ok(Self { lease, ended, child, reader: Some(reader) })
    }

    fn end(&mut self) -> Option<Vec<Timestamp>> {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = child.kill();
        }
        self.reader.take()?.join().ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs one watch until it breaks off.
fn read(kubectl: &mut Command, slot: &Mutex<Option<Child>>, renewals: &mut Vec<Timestamp>) {
    let Ok(mut child) = kubectl.spawn() else { return };
    let Some(out) = child.stdout.take() else { return };
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    renewals.extend(BufReader::new(out).lines().map_while(Result::ok).filter_map(|line| renewal(&line)));
    if let Some(mut child) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// When a leader renewed, or gave the lease back: it led until then. Whoever clears the lease of another leaves the time.
fn renewal(line: &str) -> Option<Timestamp> {
    line.split_once(' ')?.1.parse().ok()
}

fn longest_gap(renewals: &[Timestamp]) -> Duration {
    let mut sorted = renewals.to_vec();
    sorted.sort();
    let gaps = sorted.windows(2).filter_map(|pair| Duration::try_from(pair[1].duration_since(pair[0])).ok());
    gaps.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_between_two_leaders() {
        let lines = [
            "cp1_a 2026-01-01T00:00:00.000000Z",
            "cp1_a 2026-01-01T00:00:02.000000Z",
            // Cleared by somebody else, who leaves the time.
            " 2026-01-01T00:00:02.000000Z",
            "cp1_b 2026-01-01T00:00:05.500000Z",
            // The watch began anew.
            "cp1_b 2026-01-01T00:00:05.500000Z",
            "cp1_b 2026-01-01T00:00:07.500000Z",
            // Given back by the leader.
            " 2026-01-01T00:00:09.000000Z",
            "cp1_c 2026-01-01T00:00:12.000000Z",
        ];
        let renewals: Vec<Timestamp> = lines.iter().filter_map(|line| renewal(line)).collect();
        assert_eq!(renewals.len(), lines.len());
        assert_eq!(longest_gap(&renewals), Duration::from_millis(3500));
        assert_eq!(longest_gap(&[]), Duration::ZERO);
    }
}
