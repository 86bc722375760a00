//! CM-1: the ConfigMaps that the control plane mounts stay there.

use super::{Checked, Reach, Rule};
use crate::review::usage::Store;
use crate::review::{Facts, Request, Settings, Severity};

/// The rule.
pub const RULE: Rule = Rule {
    id: "CM-1",
    title: "a ConfigMap that the control plane mounts is not deleted, emptied or frozen",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "An audit policy, an admission configuration or a scheduler's configuration that is gone keeps the next Pod from \
          starting. See SEC-1.",
    evasion: "As for SEC-1; `binaryData` counts like `data`.",
    blind: "",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    super::sec1::lost(Store::ConfigMap, request, settings, facts)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{configured, table};

    #[test]
    fn what_is_mounted_stays() {
        let world = configured();
        let edit = |change: fn(&mut Value)| world.update("ConfigMap", "kube-system/apiserver-config", change);
        let delete = world.delete("v1", "ConfigMap", "kube-system/apiserver-config");
        let other = world.delete("v1", "ConfigMap", "kube-system/other");
        table(
            &RULE,
            &world,
            [
                ("deleted", delete, true),
                ("another one deleted", other, false),
                ("a key less", edit(|it| drop(it["data"].as_object_mut().unwrap().remove("audit.yaml"))), true),
                ("a key moved to binaryData", edit(|it| {
                    it["data"].as_object_mut().unwrap().remove("audit.yaml");
                    it["binaryData"] = json!({"audit.yaml": ""});
                }), false),
                ("frozen", edit(|it| it["immutable"] = json!(true)), true),
                ("relabelled", edit(|it| it["metadata"]["labels"] = json!({"x": "y"})), false),
            ],
        );
    }
}
