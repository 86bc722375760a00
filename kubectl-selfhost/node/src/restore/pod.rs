//! The static Pod that makes a data directory of a snapshot: etcd's own image, and this program in it.
//!
//! Invariant: it needs nothing but this node, as every static Pod.

use std::path::Path;

use serde_json::{Value, json};

use crate::etcd::tool::Membership;

/// The name of the Pod, and the beginning of its manifest's.
pub(super) const NAME: &str = "selfhost-restore";

/// The annotation that makes one attempt another Pod than the last.
const ATTEMPT: &str = "kubectl-selfhost.dev/attempt";

/// What the Pod works on.
pub(super) struct Work<'a> {
    /// etcd's image.
    pub(super) image: &'a str,
    /// This program, on the node.
    pub(super) program: &'a Path,
    pub(super) snapshot: &'a Path,
    /// The directory to make.
    pub(super) data: &'a Path,
    pub(super) membership: &'a Membership,
    pub(super) result: &'a Path,
    /// When this attempt began.
    pub(super) attempt: &'a str,
}

/// The manifest.
pub(super) fn manifest(work: &Work<'_>) -> Vec<u8> {
    let parent = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    let directories = [parent(work.program), parent(work.snapshot), parent(work.data), parent(work.result)];
    // At the paths of the node, but below a directory of their own: an image's own programs are not covered.
    let inside = |path: &Path| format!("/node{}", path.display());
    let mut volumes: Vec<Value> = Vec::new();
    let mut mounts: Vec<Value> = Vec::new();
    let mut known = Vec::new();
    for directory in &directories {
        if known.contains(&directory) {
            continue;
        }
        let name = format!("host-{}", known.len());
        volumes.push(json!({"name": name, "hostPath": {"path": directory, "type": "Directory"}}));
        mounts.push(json!({"name": name, "mountPath": inside(directory)}));
        known.push(directory);
    }
    let membership = serde_json::to_string(work.membership).unwrap_or_default();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": NAME,
            "namespace": "kube-system",
            "annotations": {ATTEMPT: work.attempt}
        },
        "spec": {
            "hostNetwork": true,
            "restartPolicy": "Never",
            "priorityClassName": "system-node-critical",
            "priority": 2_000_001_000,
            "containers": [{
                "name": "restore",
                "image": work.image,
                "imagePullPolicy": "IfNotPresent",
                "command": [inside(work.program)],
                "args": [
                    "task", "restore-data",
                    format!("--snapshot={}", inside(work.snapshot)),
                    format!("--data={}", inside(work.data)),
                    format!("--membership={membership}"),
                    format!("--result={}", inside(work.result)),
                ],
                "securityContext": {"privileged": true, "runAsUser": 0},
                "volumeMounts": mounts
            }],
            "volumes": volumes
        }
    });
    format!("{pod:#}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::Member;

    #[test]
    fn each_directory_is_mounted_once() {
        let membership = Membership {
            name: "cp1".to_owned(),
            members: vec![Member {
                name: "cp1".to_owned(),
                peer_urls: vec!["https://10.0.0.1:2380".to_owned()],
            }],
            token: "t".to_owned(),
        };
        let manifest = manifest(&Work {
            image: "etcd:3.6.8-0",
            program: Path::new("/s/restore/selfhost-node"),
            snapshot: Path::new("/b/x/snapshot.db"),
            data: Path::new("/var/lib/etcd/restored"),
            membership: &membership,
            result: Path::new("/s/restore/result.json"),
            attempt: "now",
        });
        let pod: Value = serde_json::from_slice(&manifest).unwrap();
        let paths: Vec<&str> = pod["spec"]["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|volume| volume["hostPath"]["path"].as_str().unwrap())
            .collect();
        assert_eq!(paths, ["/s/restore", "/b/x", "/var/lib/etcd"]);
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["command"], json!(["/node/s/restore/selfhost-node"]));
        assert_eq!(
            container["args"],
            json!([
                "task",
                "restore-data",
                "--snapshot=/node/b/x/snapshot.db",
                "--data=/node/var/lib/etcd/restored",
                r#"--membership={"name":"cp1","members":[{"name":"cp1","peerUrls":["https://10.0.0.1:2380"]}],"token":"t"}"#,
                "--result=/node/s/restore/result.json",
            ])
        );
    }
}
