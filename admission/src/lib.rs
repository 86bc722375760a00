//! The admission webhook that runs the policy: a server for reviews of an API server, and a host for a policy's module.
//!
//! Invariant: closed on failure. A review is admitted by a verdict of the policy and by nothing else.
//!
//! Invariant: no byte of a Secret leaves the process but to the policy's memory: not in answers, logs or metrics.

pub mod capabilities;
pub mod cli;
pub mod digest;
pub mod engine;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod reload;
pub mod review;
mod run;
pub mod self_test;
pub mod server;

pub use run::main;
