//! Facts and rules of a self-hosted control plane that the plugin, the node part, the admission policy and the
//! tests share.
//!
//! Invariant: no IO, no clock, no randomness, no environment. Whatever depends on those is passed in, so that the
//! same code gives the same answer in the plugin, in the webhook and inside Wasm.

pub mod component;
pub mod emulation;
pub mod etcd;
pub mod finding;
pub mod flags;
pub mod labels;
pub mod registration;
pub mod review;
pub mod rules;
pub mod scope;
pub mod version;
pub mod x509;
