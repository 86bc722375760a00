//! `kubectl selfhost`: inspect, pivot and upgrade a self-hosted Kubernetes control plane.
//!
//! Everything follows one line: observe ([`inventory`]) -> plan ([`plan`]) -> verify -> execute -> report.

pub mod api;
pub mod execute;
pub mod inventory;
pub mod node_task;
pub mod operation;
pub mod plan;
pub mod preflight;
pub mod progress;
pub mod template;
