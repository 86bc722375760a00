//! `selfhost-admission`: the webhook that runs the policy.

use std::process::ExitCode;

fn main() -> ExitCode {
    selfhost_admission::main(std::env::args_os())
}
