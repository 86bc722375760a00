//! The plugin `kubectl selfhost`: observe -> plan -> verify -> execute -> report.
//!
//! Invariant: only [`client`] builds a Kubernetes client, only [`command`] maps a result to an exit code, and nothing
//! but [`terminal`] knows of standard output and standard error.

pub mod cli;
pub mod client;
pub mod command;
pub mod error;
pub mod exit;
pub mod inventory;
pub mod render;
pub mod status;
pub mod terminal;
pub mod theme;
