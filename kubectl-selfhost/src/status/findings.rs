//! What of an inventory needs attention: one pure function for each question.
//!
//! Invariant: a finding says what was seen. What could not be read leads to no finding but the one that says so.

use selfhost_core::finding::Finding;

use crate::inventory::Inventory;

pub mod certificates;
pub mod health;
pub mod hosting;
pub mod operation;
pub mod standby;
pub mod versions;

#[cfg(test)]
mod tests;

/// Every finding but those of the observation itself.
pub fn all(inventory: &Inventory) -> Vec<Finding> {
    let questions: [fn(&Inventory) -> Vec<Finding>; 17] = [
        health::node_not_ready,
        health::missing,
        health::not_ready,
        health::restarts,
        hosting::mixed,
        hosting::rolls_by_itself,
        hosting::drift,
        hosting::made_by_kubeadm,
        standby::missing,
        standby::damaged,
        standby::stale,
        versions::differ,
        versions::component_skew,
        versions::kubelet_skew,
        certificates::expiry,
        operation::open,
        operation::bridge_left,
    ];
    questions.iter().flat_map(|question| question(inventory)).collect()
}

/// `cp-1`, `cp-1 and cp-2`, `cp-1, cp-2 and 40 more`.
fn some_of(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [first, second] => format!("{first} and {second}"),
        [first, second, third] => format!("{first}, {second} and {third}"),
        [first, second, rest @ ..] => format!("{first}, {second} and {} more", rest.len()),
    }
}
