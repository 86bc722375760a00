//! `cargo verify`: everything that CI checks, in one command.

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
use elsewhere::main as run;
#[cfg(target_os = "linux")]
use selfhost_tests::verify::main as run;

fn main() -> ExitCode {
    run()
}
