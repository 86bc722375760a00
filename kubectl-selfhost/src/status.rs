//! The status of a control plane: from an inventory to a report, and from a report to text.
//!
//! Invariant: pure and synchronous; whatever is observed is observed before.

pub mod changes;
pub mod document;
pub mod findings;
pub mod next;
pub mod report;
pub mod table;

pub use report::Report;

#[cfg(test)]
mod tests;
