//! One-shot tasks: what a short-lived Pod on a node looks at or changes there.
//!
//! Invariants: each task may be run again after a kill at any point, with the same end; its result is one JSON
//! object, on standard output and as the container's termination message.

mod backup;
mod checkpoint;
mod clean;
mod files;
mod inspect;
mod manifest;
mod prove_path;
mod restore_data;
mod upgrade_etcd;

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use self::backup::{FinishBackup, SaveBackup, TryBackup};
pub(crate) use self::checkpoint::{Checkpoint, RemoveStandby};
pub(crate) use self::clean::Clean;
pub(crate) use self::files::{PlaceFiles, RemoveFiles};
pub(crate) use self::inspect::Inspect;
pub(crate) use self::manifest::{OtherImage, Restore, Retire};
pub(crate) use self::prove_path::ProvePath;
pub(crate) use self::restore_data::{RestoreData, Restored};
pub(crate) use self::upgrade_etcd::UpgradeEtcd;
use crate::report::{Failure, LendProgram, PortFree, Report};
use crate::stop::Stop;
use crate::{nft, port};

/// Where the kubelet reads a termination message, unless the Pod says otherwise.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Names another file for the termination message.
const TERMINATION_LOG_VARIABLE: &str = "SELFHOST_TERMINATION_LOG";

/// What the kubelet reads of a termination message, in bytes
/// (`MaxContainerTerminationMessageLength` of its container package).
const TERMINATION_LOG_BYTES: usize = 4096;

/// A task with its arguments.
#[derive(Debug)]
pub(crate) enum Task {
    Inspect(Inspect),
    Retire(Retire),
    Restore(Restore),
    ProvePath(ProvePath),
    Checkpoint(Checkpoint),
    RemoveStandby(RemoveStandby),
    Clean(Clean),
    PlaceFiles(PlaceFiles),
    RemoveFiles(RemoveFiles),
    SaveBackup(Box<SaveBackup>),
    TryBackup(TryBackup),
    FinishBackup(FinishBackup),
    RestoreData(RestoreData),
    UpgradeEtcd(UpgradeEtcd),
    LendProgram { to: PathBuf },
    WaitPortFree { port: u16, timeout: Duration },
}

/// Runs a task to its end.
pub(crate) fn run(task: Task) -> Result<Report, Failure> {
    let stop = || Stop::on_signals().map_err(|error| failure(&error, "the container's limits are too low"));
    match task {
        Task::Inspect(task) => task.run().map(Report::Inspect).map_err(|error| failure(&error, error.hint())),
        Task::Retire(task) => {
            task.run(&stop()?).map(Report::Retire).map_err(|error| failure(&error, error.hint()))
        }
        Task::Restore(task) => task.run().map(Report::Restore).map_err(|error| failure(&error, error.hint())),
        Task::ProvePath(task) => {
            task.run().map(Report::ProvePath).map_err(|error| failure(&error, error.hint()))
        }
        Task::Checkpoint(task) => {
            task.run().map(Report::Checkpoint).map_err(|error| failure(&error, error.hint()))
        }
        Task::RemoveStandby(task) => {
            task.run().map(Report::RemoveStandby).map_err(|error| failure(&error, error.hint()))
        }
        Task::Clean(task) => {
            let done = task.run().map_err(|error| failure(&error, error.hint()))?;
            // Of a gate that was killed: one that ends removes its own.
            nft::remove_all().map_err(|error| failure(&error, error.hint()))?;
            Ok(Report::Clean(done))
        }
        Task::PlaceFiles(task) => {
            task.run().map(Report::PlaceFiles).map_err(|error| failure(&error, error.hint()))
        }
        Task::RemoveFiles(task) => {
            task.run().map(Report::RemoveFiles).map_err(|error| failure(&error, error.hint()))
        }
        Task::SaveBackup(task) => {
            task.run().map(Report::SaveBackup).map_err(|error| failure(&error, error.hint()))
        }
        Task::TryBackup(task) => {
            task.run().map(Report::TryBackup).map_err(|error| failure(&error, error.hint()))
        }
        Task::FinishBackup(task) => {
            task.run().map(Report::FinishBackup).map_err(|error| failure(&error, error.hint()))
        }
        Task::RestoreData(task) => {
            task.run().map(Report::RestoreData).map_err(|error| failure(&error, error.hint()))
        }
        Task::UpgradeEtcd(task) => {
            task.run(&stop()?).map(Report::UpgradeEtcd).map_err(|error| failure(&error, error.hint()))
        }
        Task::LendProgram { to } => match lend_program(&to) {
            Ok(()) => Ok(Report::LendProgram(LendProgram { file: to })),
            Err(error) => Err(failure(&error, "the Pod must mount the file's directory writable")),
        },
        Task::WaitPortFree { port, timeout } => match port::wait_free(port, timeout, &stop()?) {
            Ok(waited) => Ok(Report::PortFree(PortFree { port, waited_ms: millis(waited) })),
            Err(error) => Err(failure(&error, error.hint())),
        },
    }
}

/// Copies this program to where the containers of other images find it.
fn lend_program(to: &Path) -> io::Result<()> {
    // The copy keeps the permission to be executed.
    fs::copy("/proc/self/exe", to).map(drop)
}

/// Writes how a task ended to `out` and as the termination message; false when nobody can have read it.
pub(crate) fn emit(outcome: &Result<Report, Failure>, out: &mut dyn Write) -> bool {
    let (document, message) = documents(outcome);
    let written = writeln!(out, "{document}").and_then(|()| out.flush());
    let named = std::env::var_os(TERMINATION_LOG_VARIABLE);
    let logged = write_termination_log(named, &message);
    written.is_ok() && logged.is_ok()
}

/// The JSON document, and what of it fits into a termination message.
fn documents(outcome: &Result<Report, Failure>) -> (String, String) {
    let document = match outcome {
        Ok(report) => serde_json::to_string(report),
        Err(failure) => serde_json::to_string(failure),
    }
    .expect("reports have only strings as keys");
    if document.len() <= TERMINATION_LOG_BYTES {
        return (document.clone(), document);
    }
    // Half a JSON document would be worse than none.
    let failure = Failure {
        error: format!("the result has {} bytes and fits no termination message", document.len()),
        hint: "read the container's log".to_owned(),
    };
    let message = serde_json::to_string(&failure).expect("a failure has only strings");
    (document, message)
}

fn write_termination_log(named: Option<OsString>, message: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).truncate(true);
    let path = match named {
        Some(path) => {
            options.create(true);
            PathBuf::from(path)
        }
        None => PathBuf::from(TERMINATION_LOG),
    };
    match options.open(&path) {
        Ok(mut file) => file.write_all(message.as_bytes()),
        // Run by hand, outside a container: standard output has it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn failure(error: &dyn Error, hint: &str) -> Failure {
    Failure { error: crate::chain(error), hint: hint.to_owned() }
}

/// Whole milliseconds, for a report.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{DivertSupport, Inspect};

    #[test]
    fn a_result_is_one_json_object_in_camel_case() {
        let outcome = Ok(Report::PortFree(PortFree { port: 6443, waited_ms: 7 }));
        let (document, message) = documents(&outcome);
        assert_eq!(document, r#"{"port":6443,"waitedMs":7}"#);
        assert_eq!(message, document);
        let outcome = Err(Failure { error: "a".to_owned(), hint: "b".to_owned() });
        assert_eq!(documents(&outcome).1, r#"{"error":"a","hint":"b"}"#);
    }

    #[test]
    fn a_termination_message_is_never_cut() {
        let manifests = (0..60).map(|n| (format!("m{n}.yaml"), "0".repeat(64))).collect();
        let outcome = Ok(Report::Inspect(Inspect {
            ports: vec![],
            memory_available_bytes: 0,
            processes: vec![],
            kept_free_bytes: 0,
            divert: DivertSupport { supported: true, error: None },
            manifests,
            kept: std::collections::BTreeMap::new(),
        }));
        let (document, message) = documents(&outcome);
        assert!(document.len() > TERMINATION_LOG_BYTES);
        let failure: Failure = serde_json::from_str(&message).unwrap();
        assert!(failure.error.contains(&document.len().to_string()), "{}", failure.error);
    }

    #[test]
    fn the_termination_message_replaces_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for message in ["{\"a\":\"longer\"}", "{}"] {
            write_termination_log(Some(path.clone().into()), message).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), message);
        }
        let nowhere = dir.path().join("no/such/dir");
        write_termination_log(Some(dir.path().into()), "{}").unwrap_err();
        // As outside a container, where there is no such file.
        write_termination_log(Some(nowhere.into()), "{}").unwrap();
    }
}
