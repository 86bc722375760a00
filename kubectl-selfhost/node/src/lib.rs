//! The node part of kubectl selfhost: the divert gate of a bridge Pod, the standby, the one-shot tasks that look at or
//! change files of a node, and what brings an API server back where there is none.
//!
//! Invariants: it speaks to no Kubernetes API; it changes nothing on a node but the files its arguments name and
//! nftables tables whose names start with `selfhost`; whatever it diverts, the kernel stops diverting within
//! seconds when this process is gone.
#![cfg(target_os = "linux")]

mod args;
mod backup;
mod checkpoint;
mod clock;
mod digest;
mod etcd;
mod files;
mod gate;
mod nft;
mod port;
mod processes;
mod recover;
pub mod report;
mod restore;
mod sockets;
mod standby;
mod stop;
mod task;
mod tls;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use args::Command;

/// The exit code of arguments that make no sense, as everywhere in kubectl selfhost.
const EXIT_USAGE: u8 = 2;

/// Runs the program with `args` (the first is the program's own name) and says how it ended:
/// 0 success, 1 failure, 2 usage.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match args::parse(args) {
        Ok(command) => command,
        Err(error) => return usage(&error),
    };
    match command {
        Command::Help => say(args::HELP),
        Command::Version => say(concat!("selfhost-node ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Gate(config) => finish(gate::run(&config, &mut io::stderr()), gate::Error::hint),
        Command::GateCheck => finish(gate::check(), gate::Error::hint),
        Command::Standby(config) => finish(standby::run(&config, &mut io::stderr()), standby::Error::hint),
        Command::Recover(config) => finish(recover::run(&config, &mut io::stdout()), recover::Error::hint),
        Command::Restore(config) => finish(restore::run(&config, &mut io::stdout()), restore::Error::hint),
        Command::Task(task) => finish_task(&task::run(task)),
    }
}

fn usage(error: &args::Error) -> ExitCode {
    complain(error, "run `selfhost-node --help`");
    if error.in_task {
        // The plugin reads the termination message: an image older than the plugin ends up here.
        let failure = report::Failure {
            error: error.to_string(),
            hint: "use the node image that belongs to this version of kubectl selfhost".to_owned(),
        };
        task::emit(&Err(failure), &mut io::stdout());
    }
    ExitCode::from(EXIT_USAGE)
}

fn finish<E: std::error::Error>(result: Result<(), E>, hint: impl Fn(&E) -> &'static str) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error, hint(&error));
            ExitCode::FAILURE
        }
    }
}

fn finish_task(outcome: &Result<report::Report, report::Failure>) -> ExitCode {
    let written = task::emit(outcome, &mut io::stdout());
    if outcome.is_ok() && written { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints an error with its whole chain, once, and what to do about it.
fn complain(error: &dyn std::error::Error, hint: &str) {
    let mut err = io::stderr();
    // Nothing can be said about a closed standard error.
    let _ = writeln!(err, "error: {}", chain(error));
    if !hint.is_empty() {
        let _ = writeln!(err, "hint: {hint}");
    }
}

/// An error and its causes, joined by colons.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
