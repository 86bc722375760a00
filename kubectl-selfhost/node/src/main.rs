//! `selfhost-node`: parses nothing and decides nothing, it hands its arguments to the library.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    selfhost_node::run(std::env::args_os())
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    use std::io::Write;
    // Nothing can be said about a closed standard error.
    let _ = writeln!(std::io::stderr(), "error: selfhost-node runs on Linux nodes only");
    ExitCode::FAILURE
}
