//! Everything that the API server serves of a guarded group: a version or a subresource that comes with a new release is a
//! way that no case has tried.

use anyhow::{Context, Result, ensure};
use selfhost_core::scope;

use super::call::Proxy;

/// The groups with guarded kinds, each in the one version that is served.
const GROUPS: [(&str, &str); 9] = [
    ("", "/api/v1"),
    ("apps", "/apis/apps/v1"),
    ("batch", "/apis/batch/v1"),
    ("certificates.k8s.io", "/apis/certificates.k8s.io/v1"),
    ("discovery.k8s.io", "/apis/discovery.k8s.io/v1"),
    ("networking.k8s.io", "/apis/networking.k8s.io/v1"),
    ("policy", "/apis/policy/v1"),
    ("rbac.authorization.k8s.io", "/apis/rbac.authorization.k8s.io/v1"),
    ("scheduling.k8s.io", "/apis/scheduling.k8s.io/v1"),
];

/// Subresources that are not sent, and why that is no way around.
const LEFT_OUT: [(&str, &str); 19] = [
    ("cronjobs/status", "of a workload only the template is judged"),
    ("deployments/scale", "more Pods of a template that was judged"),
    ("deployments/status", "of a workload only the template is judged"),
    ("ingresses/status", "not guarded"),
    ("jobs/status", "of a workload only the template is judged"),
    ("persistentvolumeclaims/status", "not guarded"),
    ("persistentvolumes/status", "not guarded"),
    // Since v1.37.
    ("podcertificaterequests/status", "for a Pod, as its ServiceAccount: SEC-11 keeps such Pods away"),
    ("poddisruptionbudgets/status", "a budget that is there was judged"),
    ("pods/log", "a read"),
    ("replicasets/scale", "more Pods of a template that was judged"),
    ("replicasets/status", "of a workload only the template is judged"),
    ("replicationcontrollers/scale", "more Pods of a template that was judged"),
    ("replicationcontrollers/status", "of a workload only the template is judged"),
    ("resourcequotas/status", "the spec is what refuses Pods"),
    ("servicecidrs/status", "not guarded"),
    ("services/proxy", "what serves behind it is asked without the API server's credentials"),
    ("statefulsets/scale", "more Pods of a template that was judged"),
    ("statefulsets/status", "of a workload only the template is judged"),
];

fn is_sent(group: &str, name: &str) -> bool {
    let all = name.split_once('/').map(|(resource, _)| format!("{resource}/*")).unwrap_or_default();
    let of_group = scope::ALL.iter().filter(|scope| scope.group == group);
    of_group.flat_map(|scope| scope.resources).any(|pattern| *pattern == name || *pattern == all)
}

pub(crate) fn check(proxy: &Proxy) -> Result<()> {
    for (group, path) in GROUPS {
        if !group.is_empty() {
            let found = proxy.object(&format!("/apis/{group}"))?;
            let versions = found["versions"].as_array().context("versions")?;
            let only = versions.len() == 1 && versions[0]["version"] == "v1";
            ensure!(only, "{group} is served in {versions:?}: each is a case of B8");
        }
        let found = proxy.object(path)?;
        let names = found["resources"].as_array().context("resources")?.iter();
        for name in names.filter_map(|it| it["name"].as_str()).filter(|name| name.contains('/')) {
            let left_out = LEFT_OUT.iter().any(|(it, _)| *it == name);
            ensure!(is_sent(group, name) || left_out, "{name} of {group:?} is sent by nobody: a case of B1");
        }
    }
    Ok(())
}
