//! The admission policy's guest: the rules of [`selfhost_core`] behind a Wasm interface.
//!
//! Not there yet: this crate marks the place. The rules that exist so far, the facts and findings of
//! [`selfhost_core`], are used by the plugin alone.
