//! Where a component's credentials come from: files on the node's disk, or Secrets.
//!
//! Invariant: pure. A credential whose path no volume covers makes the source unknown, not fine.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::core::v1::{Pod, Volume, VolumeMount};
use selfhost_core::flags;
use serde::Serialize;

use super::recognize;

/// The flags, of the components and of etcd, that name a file with a key, a certificate, or a kubeconfig with both.
const FLAGS: [&str; 28] = [
    "authentication-kubeconfig",
    "authorization-kubeconfig",
    "cert-file",
    "client-ca-file",
    "cluster-signing-cert-file",
    "cluster-signing-key-file",
    "encryption-provider-config",
    "etcd-cafile",
    "etcd-certfile",
    "etcd-keyfile",
    "key-file",
    "kubeconfig",
    "kubelet-certificate-authority",
    "kubelet-client-certificate",
    "kubelet-client-key",
    "peer-cert-file",
    "peer-key-file",
    "peer-trusted-ca-file",
    "proxy-client-cert-file",
    "proxy-client-key-file",
    "requestheader-client-ca-file",
    "root-ca-file",
    "service-account-key-file",
    "service-account-private-key-file",
    "service-account-signing-key-file",
    "tls-cert-file",
    "tls-private-key-file",
    "trusted-ca-file",
];

/// The flags that name a file with other settings.
const SETTINGS: [&str; 14] = [
    "admission-control-config-file",
    "audit-policy-file",
    "audit-webhook-config-file",
    "authentication-config",
    "authentication-token-webhook-config-file",
    "authorization-config",
    "authorization-policy-file",
    "authorization-webhook-config-file",
    "cloud-config",
    "config",
    "egress-selector-config-file",
    "oidc-ca-file",
    "token-auth-file",
    "tracing-config-file",
];

/// Where credentials come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Source {
    /// Files on the node's disk.
    #[serde(rename = "hostPath")]
    HostPath,
    /// Secrets.
    #[serde(rename = "secret")]
    Secret,
    /// Both.
    #[serde(rename = "mixed")]
    Mixed,
    /// It cannot be told from the Pod.
    #[serde(rename = "unknown")]
    Unknown,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HostPath => "hostPath",
            Self::Secret => "secret",
            Self::Mixed => "mixed",
            Self::Unknown => "unknown",
        })
    }
}

/// Where the credentials of the component (or of etcd) in `pod` come from.
pub fn source(pod: &Pod, component: &str) -> Source {
    let kinds: BTreeSet<Source> = paths(pod, component)
        .iter()
        .map(|path| match volume_of(pod, component, path) {
            Some(volume) if volume.host_path.is_some() => Source::HostPath,
            Some(volume) if !secrets_of(volume).is_empty() => Source::Secret,
            _ => Source::Unknown,
        })
        .collect();
    match kinds.iter().copied().collect::<Vec<_>>().as_slice() {
        [only] => *only,
        [] => Source::Unknown,
        _ if kinds.contains(&Source::Unknown) => Source::Unknown,
        _ => Source::Mixed,
    }
}

/// The names of the Secrets that hold the component's credentials. Others that its Pod mounts, such as its service
/// account's token, are not among them.
pub fn secret_names(pod: &Pod, component: &str) -> BTreeSet<String> {
    let paths = paths(pod, component);
    let volumes = paths.iter().filter_map(|path| volume_of(pod, component, path));
    volumes.flat_map(secrets_of).collect()
}

/// The files that the component's flags name.
fn paths(pod: &Pod, component: &str) -> Vec<String> {
    let command = recognize::command(pod, component);
    FLAGS.iter().filter_map(|flag| flags::value(&command, flag)).map(ToOwned::to_owned).collect()
}

/// The files on the node's disk that the component's flags name: credentials and settings.
pub fn host_files(pod: &Pod, component: &str) -> BTreeSet<String> {
    let command = recognize::command(pod, component);
    let named = FLAGS.iter().chain(&SETTINGS).filter_map(|flag| flags::value(&command, flag));
    named.filter_map(|path| on_host(pod, component, path)).collect()
}

/// Where the node has the file that the component finds at `path`; none where it is not on the node's disk.
pub fn on_host(pod: &Pod, component: &str, path: &str) -> Option<String> {
    let mount = mount_of(pod, component, path)?;
    let volume = volumes(pod).iter().find(|volume| volume.name == mount.name)?;
    let host = volume.host_path.as_ref()?.path.trim_end_matches('/');
    let inside = path.strip_prefix(mount.mount_path.trim_end_matches('/'))?;
    let below = mount.sub_path.as_deref().map(|sub| format!("/{sub}")).unwrap_or_default();
    Some(format!("{host}{below}{inside}"))
}

fn secrets_of(volume: &Volume) -> Vec<String> {
    let plain = volume.secret.iter().filter_map(|secret| secret.secret_name.clone());
    let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    plain.chain(projected.filter_map(|source| Some(source.secret.as_ref()?.name.clone()))).collect()
}

/// The volume that has the file at `path`.
fn volume_of<'a>(pod: &'a Pod, component: &str, path: &str) -> Option<&'a Volume> {
    let mount = mount_of(pod, component, path)?;
    volumes(pod).iter().find(|volume| volume.name == mount.name)
}

/// The mount that has the file at `path`.
fn mount_of<'a>(pod: &'a Pod, component: &str, path: &str) -> Option<&'a VolumeMount> {
    let covers = |mount: &str| {
        let rest = path.strip_prefix(mount.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let container = recognize::main_container(pod, component)?;
    let mounts = container.volume_mounts.iter().flatten();
    // Mounts may lie inside each other: the innermost one has the file.
    mounts.filter(|mount| covers(&mount.mount_path)).max_by_key(|mount| mount.mount_path.len())
}

fn volumes(pod: &Pod) -> &[Volume] {
    pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(command: &[&str], volumes: &Value, mounts: &Value) -> Pod {
        serde_json::from_value(json!({"spec": {
            "containers": [{"name": "kube-apiserver", "command": command, "volumeMounts": mounts}],
            "volumes": volumes
        }}))
        .unwrap()
    }

    fn mount(name: &str, path: &str) -> Value {
        json!({"name": name, "mountPath": path})
    }

    #[test]
    fn the_innermost_mount_decides() {
        let volumes = json!([
            {"name": "pki", "hostPath": {"path": "/etc/kubernetes/pki"}},
            {"name": "etcd", "secret": {"secretName": "etcd-client"}},
            {"name": "all", "projected": {"sources": [{"secret": {"name": "ca"}}, {"secret": {"name": "apiserver"}}]}},
            {"name": "tmp", "emptyDir": {}}
        ]);
        let pki = mount("pki", "/etc/kubernetes/pki");
        let cert = "--tls-cert-file=/etc/kubernetes/pki/apiserver.crt";
        let etcd = "--etcd-certfile=/etc/kubernetes/pki/etcd/client.crt";
        for (command, mounts, expected) in [
            (vec![cert], json!([pki]), Source::HostPath),
            (vec![cert, etcd], json!([pki, mount("etcd", "/etc/kubernetes/pki/etcd/")]), Source::Mixed),
            (vec![etcd], json!([pki, mount("etcd", "/etc/kubernetes/pki/etcd")]), Source::Secret),
            (vec![cert], json!([mount("all", "/etc/kubernetes/pki")]), Source::Secret),
            (vec![cert], json!([mount("tmp", "/etc/kubernetes/pki")]), Source::Unknown),
            // `/etc/kubernetes/pk` is not a directory above.
            (vec![cert], json!([mount("pki", "/etc/kubernetes/pk")]), Source::Unknown),
            (vec!["--v=2"], json!([pki]), Source::Unknown),
            (vec![cert, "--client-ca-file=/elsewhere/ca.crt"], json!([pki]), Source::Unknown),
        ] {
            let pod = pod(&command, &volumes, &mounts);
            assert_eq!(source(&pod, "kube-apiserver"), expected, "{command:?}");
        }
    }

    #[test]
    fn secrets_are_those_with_credentials() {
        let pod = pod(
            &["--tls-cert-file=/a/x.crt", "--etcd-certfile=/b/x.crt"],
            &json!([
                {"name": "all", "projected": {"sources": [{"secret": {"name": "ca"}}, {"configMap": {"name": "x"}}]}},
                {"name": "one", "secret": {"secretName": "apiserver"}},
                {"name": "token", "secret": {"secretName": "default-token"}}
            ]),
            &json!([mount("all", "/a"), mount("one", "/b"), mount("token", "/var/run/secrets")]),
        );
        let names: Vec<String> = secret_names(&pod, "kube-apiserver").into_iter().collect();
        assert_eq!(names, ["apiserver", "ca"]);
    }

    #[test]
    fn files_on_the_host_of_what_flags_name() {
        let pod = pod(
            &[
                "--tls-cert-file=/pki/x.crt",
                "--audit-policy-file=/audit/policy.yaml",
                "--oidc-ca-file=/one",
                "--v=2",
                "--audit-log-path=/audit/log",
                "--client-ca-file=/secret/ca.crt",
                "--etcd-cafile=/elsewhere/ca.crt",
            ],
            &json!([
                {"name": "pki", "hostPath": {"path": "/etc/kubernetes/pki/"}},
                {"name": "audit", "hostPath": {"path": "/srv/audit"}},
                {"name": "one", "hostPath": {"path": "/srv/oidc.crt", "type": "File"}},
                {"name": "secret", "secret": {"secretName": "ca"}}
            ]),
            &json!([
                mount("pki", "/pki"),
                mount("audit", "/audit/"),
                mount("one", "/one"),
                mount("secret", "/secret")
            ]),
        );
        let files: Vec<String> = host_files(&pod, "kube-apiserver").into_iter().collect();
        assert_eq!(files, ["/etc/kubernetes/pki/x.crt", "/srv/audit/policy.yaml", "/srv/oidc.crt"]);
    }
}
