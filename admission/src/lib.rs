//! The admission webhook that runs the policy.
//!
//! Not there yet: this crate marks the place.
