//! The plugin `kubectl selfhost`: observe -> plan -> verify -> execute -> report.
//!
//! Invariant: only [`client`] builds a Kubernetes client, only [`command`] maps a result to an exit code, and nothing
//! but [`terminal`] knows of standard output and standard error.

pub mod api;
pub mod availability;
pub mod cli;
pub mod client;
pub mod command;
pub mod error;
pub mod execute;
pub mod exit;
pub mod guard;
pub mod inventory;
pub mod node_task;
pub mod operation;
pub mod plan;
pub mod preflight;
pub mod progress;
pub mod render;
pub mod status;
pub mod template;
pub mod terminal;
pub mod theme;
