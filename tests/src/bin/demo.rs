//! `cargo demo`: the tour.

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
use elsewhere::main as run;
#[cfg(target_os = "linux")]
use selfhost_tests::demo::main as run;

fn main() -> ExitCode {
    run()
}
