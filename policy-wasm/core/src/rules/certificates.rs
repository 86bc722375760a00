//! What the rules of certificates share: which flag names what.

use crate::component::Component;
use crate::review::facts::{Facts, Unknown};
use crate::review::material::{File, Written};
use crate::review::usage::Use;
use crate::x509::{Certificate, certificates};

/// Flags that name a certificate (or chain), with the flag that names its key.
pub(super) const PAIRS: [(&str, &str); 9] = [
    ("tls-cert-file", "tls-private-key-file"),
    ("etcd-certfile", "etcd-keyfile"),
    ("kubelet-client-certificate", "kubelet-client-key"),
    ("proxy-client-cert-file", "proxy-client-key-file"),
    ("cluster-signing-cert-file", "cluster-signing-key-file"),
    ("cluster-signing-kube-apiserver-client-cert-file", "cluster-signing-kube-apiserver-client-key-file"),
    ("cluster-signing-kubelet-client-cert-file", "cluster-signing-kubelet-client-key-file"),
    ("cluster-signing-kubelet-serving-cert-file", "cluster-signing-kubelet-serving-key-file"),
    ("cluster-signing-legacy-unknown-cert-file", "cluster-signing-legacy-unknown-key-file"),
];

/// Flags that name a bundle of authorities.
pub(super) const BUNDLES: [&str; 6] = [
    "client-ca-file",
    "etcd-cafile",
    "kubelet-certificate-authority",
    "oidc-ca-file",
    "requestheader-client-ca-file",
    "root-ca-file",
];

/// Flags that name the certificate with which a component shows who it is.
pub(super) const CLIENTS: [&str; 3] =
    ["etcd-certfile", "kubelet-client-certificate", "proxy-client-cert-file"];

/// Flags that name a kubeconfig.
pub(super) const KUBECONFIGS: [&str; 3] =
    ["authentication-kubeconfig", "authorization-kubeconfig", "kubeconfig"];

/// Whether a flag names an authority that signs.
pub(super) fn signs(flag: &str) -> bool {
    flag.starts_with("cluster-signing-") && flag.ends_with("cert-file")
}

/// Whether the file holds certificates: one, a chain, or a bundle.
pub(super) fn holds_certificates(file: &File) -> bool {
    let named =
        |flag: &str| PAIRS.iter().any(|(certificate, _)| *certificate == flag) || BUNDLES.contains(&flag);
    file.uses.iter().any(|it| named(&it.flag))
}

/// Whether the file is a leaf: what a server or client shows of itself.
pub(super) fn is_leaf(file: &File) -> bool {
    file.is_for(&CLIENTS) || file.is_for(&["tls-cert-file"])
}

/// The certificates that were in the file before, as far as they could be read.
pub(super) fn before(file: &File) -> Vec<Certificate> {
    file.old.as_deref().and_then(|old| certificates(old).ok()).unwrap_or_default()
}

/// Every leaf that the control plane shows, with who shows it: as it will be after this write.
pub(super) fn leaves(written: &Written, facts: &Facts) -> Result<Vec<(Use, Certificate)>, Unknown> {
    let shows = |used: &&Use| {
        let flag = used.flag.as_str();
        flag == "tls-cert-file" || CLIENTS.contains(&flag) || KUBECONFIGS.contains(&flag)
    };
    // All are asked for at once.
    let read: Vec<_> =
        written.all.iter().filter(shows).map(|used| (used, written.read(used, facts))).collect();
    let mut found = Vec::new();
    // Three flags of a component name one kubeconfig.
    let mut known: Vec<(Vec<u8>, Option<Certificate>)> = Vec::new();
    for (used, content) in read {
        let Some(content) = content? else { continue };
        let first = known.iter().find(|(it, _)| *it == content).map(|(_, first)| first.clone());
        let first = first.unwrap_or_else(|| {
            let is_kubeconfig = KUBECONFIGS.contains(&used.flag.as_str());
            let pem =
                if is_kubeconfig { super::sec9::client_certificate(&content) } else { Some(content.clone()) };
            let first = pem.and_then(|pem| certificates(&pem).ok()).and_then(|all| all.into_iter().next());
            known.push((content, first.clone()));
            first
        });
        found.extend(first.map(|certificate| (used.clone(), certificate)));
    }
    Ok(found)
}

/// The bundle by which others know what a flag names; `None` where it is on the nodes' disks.
pub(super) fn trusted_by(component: Component, flag: &str) -> Option<(Component, &'static str)> {
    match (component, flag) {
        (Component::ApiServer, "tls-cert-file") => Some((Component::ControllerManager, "root-ca-file")),
        (_, "proxy-client-cert-file") => Some((Component::ApiServer, "requestheader-client-ca-file")),
        (_, flag) if KUBECONFIGS.contains(&flag) => Some((Component::ApiServer, "client-ca-file")),
        _ => None,
    }
}
