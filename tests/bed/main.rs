//! Tests of the bed itself: what comes up works, and what goes down is gone.
//!
//! Needs root. `cargo verify` runs them; alone: `cargo test -p selfhost-tests --features bed --test bed`.

mod lifecycle;
mod refusals;
mod several;
mod traces;
