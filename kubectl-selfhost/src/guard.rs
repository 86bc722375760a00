//! The guard: what its rules say of a change, and what it takes to put it before the API servers.
//!
//! Invariant: the rules are those of `selfhost-core`, of which the policy's module is made; nothing is decided here.
//!
//! Invariant: the registration is the last that comes and the first that goes. What is written while it is there is
//! judged by it.

pub mod address;
pub mod approval;
pub mod canary;
pub mod change;
pub mod credentials;
pub mod facts;
pub mod objects;
pub mod place;
pub mod register;
pub mod report;
pub mod scope;
pub mod servers;
pub mod write;
