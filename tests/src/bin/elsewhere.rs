//! What the binaries of this package do on any other system than Linux.

use std::io::Write;
use std::process::ExitCode;

/// Says that this is no Linux.
pub fn main() -> ExitCode {
    // Nothing can be said about a closed standard error.
    let _ = writeln!(
        std::io::stderr(),
        "error: the bed runs on Linux\nhint: use a Linux machine or virtual machine"
    );
    ExitCode::FAILURE
}
