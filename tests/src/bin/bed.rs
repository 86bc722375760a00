//! `cargo bed`: real clusters on this machine.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    selfhost_tests::cli::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    use std::io::Write;
    // Nothing can be said about a closed standard error.
    let _ = writeln!(
        std::io::stderr(),
        "error: the bed runs on Linux\nhint: use a Linux machine or virtual machine"
    );
    ExitCode::FAILURE
}
