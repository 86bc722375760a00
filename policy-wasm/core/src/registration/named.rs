//! The objects that are guarded by name.
//!
//! Names are those of now: a Secret that a DaemonSet comes to mount later is guarded by name once the guard is installed
//! again. The edit that mounts it is judged, and wants an approval (DS-11).
//!
//! What each condition leaves out, and why:
//!
//! - The DaemonSet controller's writes to a DaemonSet's status and to its revisions. Without its revisions a DaemonSet
//!   makes no Pods at all. Rules DS-2 and CR-1 leave both to it; SEC-11 keeps others from being it.
//! - What the API server and its controllers write themselves: `extension-apiserver-authentication`, `kube-root-ca.crt`,
//!   the `kubernetes` Service and its slices. Without them API servers and Pods do not start.

use super::cel::{
    TARGET, WHOLE, daemonsets, either, is_in, key, labelled, list, named_like_a_part, namespace,
};
use super::{Condition, Registration, cel};
use crate::labels;
use crate::review::settings::Identity;
use crate::rules::cm3;

/// Who writes a DaemonSet's status: the controller, under its own name or that of the controller manager.
const CONTROLLER: [Identity; 2] = [Identity::DaemonSetController, Identity::ControllerManager];

/// The label by which a slice belongs to a Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

pub(super) fn conditions(registration: &Registration<'_>) -> Vec<Condition> {
    let system = namespace([labels::NAMESPACE]);
    let guard = namespace([&registration.guard.namespace]);
    let controller = cel::user(&CONTROLLER);
    let api_server = cel::user(&[Identity::ApiServer]);
    let name = format!("{TARGET}.metadata.name");
    vec![
        Condition::of(
            "daemonsets",
            format!(
                "{system} && {} && !({} && {controller})",
                is_in(&name, daemonsets()),
                cel::sub("status")
            ),
        ),
        Condition::of("controllerrevisions", format!("{system} && !{controller} && {}", either(&revision()))),
        Condition::of("secrets", key(registration.secrets)),
        Condition::of("configmaps", config_maps(registration)),
        Condition::of("namespaces", is_in(&name, [labels::NAMESPACE, &registration.guard.namespace])),
        // Only connections, which have no Pod in them.
        Condition::of("pods", format!("{guard} || ({system} && {})", named_like_a_part())),
        Condition::of("services", format!("{} && !{api_server}", key(["default/kubernetes"]))),
        Condition::of(
            "endpointslices",
            format!(
                "{} && !{api_server} && {WHOLE} && {}",
                namespace(["default"]),
                either(&labelled("o", SERVICE_NAME, ["kubernetes"]))
            ),
        ),
    ]
}

/// Whether `o` is a revision of one of the DaemonSets, by any mark.
fn revision() -> String {
    let names = list(daemonsets());
    format!(
        "{names}.exists(n, o.metadata.name.startsWith(n + \"-\")) || {} || (has(o.metadata.ownerReferences) && \
         o.metadata.ownerReferences.exists(r, r.name in {names}))",
        labelled("o", labels::K8S_APP, daemonsets())
    )
}

fn config_maps(registration: &Registration<'_>) -> String {
    let fixed = cm3::FIXED.iter().map(|(namespace, name)| format!("{namespace}/{name}"));
    let all: Vec<String> = fixed.chain(registration.config_maps.iter().cloned()).collect();
    let own = |object: &str, owner| format!("!({} && {})", key([object]), cel::user(&[owner]));
    format!(
        "{} && {} && {}",
        key(all),
        own("kube-system/extension-apiserver-authentication", Identity::ApiServer),
        own("kube-system/kube-root-ca.crt", Identity::RootCaPublisher)
    )
}
