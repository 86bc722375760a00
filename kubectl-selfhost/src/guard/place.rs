//! Where a guard is installed: its namespace says so by a label.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use selfhost_core::labels;
use selfhost_core::review::settings::Guard;

use crate::api::{ApiError, call};

/// The guard's Pods.
pub async fn pods(client: &Client, guard: &Guard) -> Result<Vec<Pod>, ApiError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &guard.namespace);
    let ours = ListParams::default().labels(&format!("{}={}", labels::K8S_APP, guard.name));
    Ok(call("list the guard's Pods", || pods.list(&ours)).await?.items)
}

/// The guard that is installed, in whole or in part; `None` where no namespace is a guard's.
pub async fn find(client: &Client) -> Result<Option<Guard>, ApiError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let ours = ListParams::default().labels(labels::GUARD);
    let found = call("list the guard's namespace", || namespaces.list(&ours)).await?.items;
    Ok(found.into_iter().find_map(|namespace| {
        let name = namespace.labels().get(labels::GUARD)?.clone();
        Some(Guard { namespace: namespace.name_any(), name })
    }))
}
