//! CM-3: ConfigMaps by which the cluster is known.

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::labels;
use crate::review::facts::Lookup;
use crate::review::object::{at, names};
use crate::review::pod::Pod;
use crate::review::settings::Identity;
use crate::review::{Facts, Operation, Request, Settings, Severity, Violation};
use crate::version::KubeVersion;

/// The rule.
pub const RULE: Rule = Rule {
    id: "CM-3",
    title: "ConfigMaps by which clients and nodes know the cluster are written by their owners",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Named,
    why: "`extension-apiserver-authentication` tells every extension server whom to believe, `kube-root-ca.crt` every Pod, \
          `cluster-info` every node that joins, and `kubeadm-config` what the next control-plane node is made of.",
    evasion: "- `kube-root-ca.crt` in any namespace: denied, where the registration sends it.\n\
              - In `kubeadm-config` one line may change, `kubernetesVersion`, and to the version that the API servers' \
              DaemonSet has: what an upgrade does.",
    blind: "",
    check,
};

/// The ConfigMaps that every cluster has, by namespace and name.
pub(crate) const FIXED: [(&str, &str); 7] = [
    (labels::NAMESPACE, "coredns"),
    (labels::NAMESPACE, "extension-apiserver-authentication"),
    (labels::NAMESPACE, "kube-proxy"),
    (labels::NAMESPACE, "kube-root-ca.crt"),
    (labels::NAMESPACE, "kubeadm-config"),
    (labels::NAMESPACE, "kubelet-config"),
    ("kube-public", "cluster-info"),
];

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    if !request.is("", "configmaps") {
        return Ok(Vec::new());
    }
    let changed = request.operation == Operation::Delete
        || request.changes(&["data"])
        || request.changes(&["binaryData"])
        || request.changes(&["immutable"]);
    let owners: &[Identity] = match (request.namespace(), request.name()) {
        (labels::NAMESPACE, "extension-apiserver-authentication") => &[Identity::ApiServer],
        (_, "kube-root-ca.crt") => {
            &[Identity::RootCaPublisher, Identity::NamespaceController]
        }
        ("kube-public", "cluster-info") => {
            if signs_only(request) {
                &[Identity::BootstrapSigner]
            } else {
                &[]
            }
        }
        key if FIXED.contains(&key) => &[],
        _ => return Ok(Vec::new()),
    };
    if !changed || settings.is_any(&request.user, owners) {
        return Ok(Vec::new());
    }
    if request.name() == "kubeadm-config" && records_version(request, facts)? {
        return Ok(Vec::new());
    }
    let message = format!("{} says what this cluster is", request.key());
    Ok(vec![Violation::new("data", message, "let its owner write it")])
}

/// Whether only signatures change.
fn signs_only(request: &Request) -> bool {
    let (new, old) = (&request.object["data"], &request.old_object["data"]);
    let keys = names(&request.object, "data").into_iter().chain(names(&request.old_object, "data"));
    request.operation == Operation::Update
        && keys.filter(|key| new[*key] != old[*key]).all(|key| key.starts_with("jws-kubeconfig-"))
}

/// Whether the one thing that changes is the version, and it becomes that of the API servers.
fn records_version(request: &Request, facts: &Facts) -> Result<bool, crate::review::Unknown> {
    if request.operation != Operation::Update {
        return Ok(false);
    }
    let (mut new, mut old) = (request.object["data"].clone(), request.old_object["data"].clone());
    let (Some(after), Some(before)) = (new["ClusterConfiguration"].as_str(), old["ClusterConfiguration"].as_str()) else {
        return Ok(false);
    };
    let (after, before): (Vec<String>, Vec<String>) =
        (after.lines().map(ToOwned::to_owned).collect(), before.lines().map(ToOwned::to_owned).collect());
    let mut changed = after.iter().zip(&before).filter(|(after, before)| after != before);
    let line = match (changed.next(), changed.next()) {
        (Some((line, was)), None) if after.len() == before.len() && was.starts_with("kubernetesVersion: ") => line,
        _ => return Ok(false),
    };
    let Some(version) = line.strip_prefix("kubernetesVersion: ") else { return Ok(false) };
    let Ok(version) = version.trim_matches('"').parse::<KubeVersion>() else { return Ok(false) };
    for data in [&mut new, &mut old] {
        if let Some(fields) = data.as_object_mut() {
            fields.remove("ClusterConfiguration");
        }
    }
    if new != old || request.changes(&["binaryData"]) || request.changes(&["immutable"]) {
        return Ok(false);
    }
    let daemonset = facts.object(&Lookup::daemonset(Component::ApiServer))?;
    let runs = daemonset.and_then(|it| Pod(at(it, &["spec", "template"])).version(Component::ApiServer));
    Ok(runs == Some(version))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, table};

    #[test]
    fn owners_write_them() {
        let mut world = World::new();
        let configuration = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.35.9\n";
        for (namespace, name, data) in [
            ("kube-system", "kubeadm-config", json!({"ClusterConfiguration": configuration})),
            ("kube-system", "extension-apiserver-authentication", json!({"client-ca-file": "x"})),
            ("default", "kube-root-ca.crt", json!({"ca.crt": "x"})),
            ("kube-public", "cluster-info", json!({"kubeconfig": "x", "jws-kubeconfig-a": "x"})),
            ("kube-system", "mine", json!({"a": "b"})),
        ] {
            world.objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
                "metadata": {"name": name, "namespace": namespace}}));
        }
        let edit = |key: &str, user: &str, change: fn(&mut Value)| {
            let mut request = world.update("ConfigMap", key, change);
            request["userInfo"]["username"] = json!(user);
            request
        };
        let kubeadm = |text: &str| {
            let text = text.to_owned();
            world.update("ConfigMap", "kube-system/kubeadm-config", move |it| it["data"]["ClusterConfiguration"] = json!(text))
        };
        let with = |change: fn(&mut Value)| {
            let mut request = kubeadm(&configuration.replace("v1.35.9", "v1.36.3"));
            change(&mut request["object"]);
            request
        };
        let publisher = "system:serviceaccount:kube-system:root-ca-cert-publisher";
        let signer = "system:serviceaccount:kube-system:bootstrap-signer";
        table(
            &RULE,
            &world,
            [
                ("the version", kubeadm(&configuration.replace("v1.35.9", "v1.36.3")), false),
                ("another version", kubeadm(&configuration.replace("v1.35.9", "v1.37.2")), true),
                ("the version and more", kubeadm(&format!("{}x: y\n", configuration.replace("v1.35.9", "v1.36.3"))), true),
                ("the version and another key", with(|it| it["data"]["x"] = json!("y")), true),
                ("the version and bytes", with(|it| it["binaryData"] = json!({"x": "eQ=="})), true),
                ("the version, for ever", with(|it| it["immutable"] = json!(true)), true),
                ("another line", kubeadm(&configuration.replace("ClusterConfiguration", "Other")), true),
                ("its label", edit("kube-system/kubeadm-config", "ann", |it| it["metadata"]["labels"] = json!({"x": "y"})), false),
                ("deleted", world.delete("v1", "ConfigMap", "kube-system/kubeadm-config"), true),
                ("made immutable", edit("kube-system/kubeadm-config", "ann", |it| it["immutable"] = json!(true)), true),
                ("whom to believe, by the API server", edit("kube-system/extension-apiserver-authentication",
                    "system:apiserver", |it| it["data"]["client-ca-file"] = json!("y")), false),
                ("whom to believe, by somebody", edit("kube-system/extension-apiserver-authentication",
                    "ann", |it| it["data"]["client-ca-file"] = json!("y")), true),
                ("the root, by its publisher", edit("default/kube-root-ca.crt", publisher, |it| it["data"]["ca.crt"] = json!("y")), false),
                ("the root, by somebody", edit("default/kube-root-ca.crt", "ann", |it| it["data"]["ca.crt"] = json!("y")), true),
                ("a signature, by the signer", edit("kube-public/cluster-info", signer, |it| it["data"]["jws-kubeconfig-b"] = json!("y")), false),
                ("the address, by the signer", edit("kube-public/cluster-info", signer, |it| it["data"]["kubeconfig"] = json!("y")), true),
                ("a signature, by somebody", edit("kube-public/cluster-info", "ann", |it| it["data"]["jws-kubeconfig-b"] = json!("y")), true),
                ("any other", edit("kube-system/mine", "ann", |it| it["data"]["a"] = json!("y")), false),
            ],
        );
    }
}
