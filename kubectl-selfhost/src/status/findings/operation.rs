//! The open operation, and what earlier ones left.

use kube::ResourceExt as _;
use selfhost_core::finding::{Code, Finding, Severity};

use crate::inventory::{Inventory, Part, recognize};
use crate::render::age;

/// SH0114: an operation runs, or was interrupted.
pub fn open(inventory: &Inventory) -> Vec<Finding> {
    let Some(operation) = &inventory.operation else {
        return Vec::new();
    };
    let step = operation.step.as_ref().map_or_else(String::new, |step| format!(" at \"{step}\""));
    let holder = if operation.holder.is_empty() { "somebody" } else { &operation.holder };
    let subject = format!("operation {}", operation.what);
    let finding = if operation.running {
        let since = operation
            .since
            .map_or_else(String::new, |since| format!(" for {}", age::age(Some(since), inventory.taken_at)));
        // That somebody works on it is no fault of the cluster.
        let mut finding = Finding::new(Code::OperationOpen, subject, format!("run by {holder}{since}{step}"));
        finding.severity = Severity::Info;
        finding.hint("kubectl selfhost status --watch follows it")
    } else {
        let last = operation.renewed.map_or_else(String::new, |renewed| {
            format!(", last seen {} ago", age::age(Some(renewed), inventory.taken_at))
        });
        let finding =
            Finding::new(Code::OperationOpen, subject, format!("interrupted{step}; run by {holder}{last}"));
        match &operation.command {
            Some(_) => finding
                .hint("kubectl selfhost resume goes on where it stopped, kubectl selfhost abort goes back"),
            None => finding.hint("kubectl -n kube-system get configmap selfhost-operation -o yaml"),
        }
    };
    vec![finding]
}

/// SH0115: a bridge Pod is there, and no operation that it would belong to.
pub fn bridge_left(inventory: &Inventory) -> Vec<Finding> {
    let untold = [Part::Lease, Part::Operation].iter().any(|part| inventory.unread.contains(part));
    if inventory.operation.is_some() || untold {
        return Vec::new();
    }
    inventory
        .bridges
        .iter()
        .map(|bridge| {
            let name = bridge.name_any();
            let node = recognize::node_name(bridge).unwrap_or("no node");
            let message = format!("is on {node}, and no operation accounts for it");
            Finding::new(Code::BridgeLeft, format!("pod kube-system/{name}"), message)
                .hint(format!("kubectl -n kube-system delete pod {name}, once the component itself is ready"))
        })
        .collect()
}
