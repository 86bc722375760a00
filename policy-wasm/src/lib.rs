//! The admission policy's guest: the rules of [`selfhost_core`] behind Kubewarden's protocol.
//!
//! A host calls one of three operations with JSON and gets JSON; while one runs, the guest may ask the host for objects
//! of the cluster. `docs/reference/policy.md` has the whole interface. [`call`] is the same guest without Wasm around it.
//!
//! Invariant: closed on failure. What cannot be read, looked up or understood is a request that is not accepted. No text
//! that leaves quotes a value of a Secret, and none quotes what could not be read.
//!
//! Invariant: no state between calls, no clock, no randomness: the same bytes and the same answers are the same response.

pub mod lookup;
pub mod metadata;
mod protocol;
#[cfg(target_arch = "wasm32")]
mod wapc;

pub use lookup::Host;
pub use protocol::call;
