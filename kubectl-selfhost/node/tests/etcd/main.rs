//! `task upgrade-etcd` against an etcd and a kubelet that are played: the built binary, what it says and what it leaves.
//! Needs no root.
//!
//! There is no test harness: under the name of `etcd` this program is one.

#[cfg(target_os = "linux")]
mod play;
#[cfg(target_os = "linux")]
mod tests;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    if name == "etcd" || name.ends_with("/etcd") { play::etcd(&rest) } else { tests::main(&rest) }
}

#[cfg(not(target_os = "linux"))]
fn main() {}
