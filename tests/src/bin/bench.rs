//! `cargo bench-repeat`, `cargo bench-upgrade`, `cargo bench-footprint`: the published figures.

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
use elsewhere::main as run;
#[cfg(target_os = "linux")]
use selfhost_tests::bench::main as run;

fn main() -> ExitCode {
    run()
}
