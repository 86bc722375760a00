//! End-to-end tests on the bed: real kubeadm clusters, the released plugin, real load.
//!
//! Needs root. `cargo verify` runs them; alone: `cargo test -p selfhost-tests --features bed --test e2e`.

#![expect(clippy::print_stdout, reason = "what was measured is the test's output")]

mod common;
mod load;
mod recovery;
