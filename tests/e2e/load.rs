//! Under load, and no request may fail: one at a time, so that the machine is theirs.

mod bad_target;
mod bypasses;
mod guard;
mod kill;
mod operations;
