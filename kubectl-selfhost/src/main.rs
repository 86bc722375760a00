//! `kubectl selfhost`: inspect, pivot and upgrade a self-hosted control plane.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubectl_selfhost::command::main(std::env::args_os()).into()
}
