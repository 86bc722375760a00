//! The status of a control plane: from an inventory to a report, and from a report to text.
//!
//! Invariant: pure and synchronous; whatever is observed is observed before.
