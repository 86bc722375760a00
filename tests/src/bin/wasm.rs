//! `cargo wasm`: the admission policy as a Wasm module.

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
use elsewhere::main as run;
#[cfg(target_os = "linux")]
use selfhost_tests::wasm::main as run;

fn main() -> ExitCode {
    run()
}
