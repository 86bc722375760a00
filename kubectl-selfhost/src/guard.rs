//! What the guard's rules say of a change, as the plugin asks them.
//!
//! Invariant: the rules are those of `selfhost-core`, of which the policy's module is made; nothing is decided here.

pub mod change;
pub mod facts;
pub mod report;
