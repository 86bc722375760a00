//! SEC-12: nobody else mounts the control plane's Secrets.

use super::{Checked, Reach, Rule};
use crate::labels;
use crate::review::pod::{component_of, pods_of};
use crate::review::settings::Identity;
use crate::review::usage::{Store, guarded, references};
use crate::review::{Facts, Object, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SEC-12",
    title: "no other workload refers to a Secret of the control plane",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Wide,
    why: "Reading a Secret is not admitted, but mounting one is: whoever may create Pods in `kube-system` may read every \
          Secret there. A reference from anywhere but the control plane's own DaemonSets is how that looks.",
    evasion: "- Volumes, projected volumes, CSI and older volumes, `env`, `envFrom`, `imagePullSecrets`, in any container: \
              each seen.\n\
              - Deployments, StatefulSets, DaemonSets, ReplicaSets, ReplicationControllers, Jobs, CronJobs, PodTemplates: \
              judged when they are written, and their Pods again.\n\
              - A Pod of one of the DaemonSets, made by somebody else: PO-4. A bridge is judged by PO-5, whole: keep both rules on.",
    blind: "Reads through the API, and a CSI driver or operator that reads Secrets on its own.",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let Some((pod, old)) = pods_of(request).filter(|_| request.writes()) else { return Ok(Vec::new()) };
    if component_of(request).is_some() || is_ours(request, settings) {
        return Ok(Vec::new());
    }
    let known = references(old);
    let named = references(pod).into_iter().filter(|it| it.store == Store::Secret && !known.contains(it));
    let named: Vec<_> = named.collect();
    // Most Pods refer to none: they are through without a look at anything.
    if named.is_empty() || !might_be_guarded(request, settings) {
        return Ok(Vec::new());
    }
    let secrets = guarded(Store::Secret, settings, facts)?;
    let namespace = request.namespace();
    let theirs = named.into_iter().filter(|it| secrets.contains(&format!("{namespace}/{}", it.name)));
    let violations = theirs.map(|it| {
        let message = format!("Secret {} is the control plane's", it.name);
        Violation::new(format!("spec.{}", it.path), message, "use a Secret of its own")
    });
    Ok(violations.collect())
}

fn might_be_guarded(request: &Request, settings: &Settings) -> bool {
    let prefix = format!("{}/", request.namespace());
    request.namespace() == labels::NAMESPACE || settings.secrets.iter().any(|it| it.starts_with(&prefix))
}

/// A Pod that the DaemonSet controller makes of a template that was admitted, or a bridge.
fn is_ours(request: &Request, settings: &Settings) -> bool {
    let Some(object) = request.new_object().filter(|_| request.is("", "pods")) else { return false };
    let pod = crate::review::pod::Pod(object.0);
    let by_controller = settings.is(&request.user, Identity::DaemonSetController) && pod.component().is_some();
    by_controller || (pod.bridge_of().is_some() && Object(object.0).namespace_of() == labels::NAMESPACE)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::component::Component;
    use crate::rules::testing::{CONTROLLER, create, secrets, table};

    /// There are many Pods, and few that could name one of those.
    #[test]
    fn most_are_through_without_a_look() {
        let volumes = json!([{"name": "v", "secret": {"secretName": "ca"}}]);
        for (namespace, volumes, expected) in
            [("kube-system", json!([]), false), ("default", volumes.clone(), false), ("kube-system", volumes, true)]
        {
            let pod = create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": namespace},
                "spec": {"containers": [], "volumes": volumes}}));
            let request = Request::parse(pod.to_string().as_bytes()).unwrap();
            let facts = Facts::default();
            let _ = check(&request, &Settings::default(), &facts);
            assert_eq!(!facts.take_asked().is_empty(), expected, "{pod}");
        }
    }

    #[test]
    fn nobody_else_mounts_them() {
        let mut world = secrets();
        let volume = |name: &str| json!({"containers": [], "volumes": [{"name": "v", "secret": {"secretName": name}}]});
        let pod = |namespace: &str, spec: Value| {
            create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": namespace}, "spec": spec}))
        };
        let workload = |api: &str, kind: &str, spec: Value| {
            create(&json!({"apiVersion": api, "kind": kind, "metadata": {"name": "x", "namespace": "kube-system"},
                "spec": spec}))
        };
        let template = || json!({"template": {"spec": volume("ca")}});
        world.objects.push(json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "old", "namespace": "kube-system"}, "spec": template()}));
        let env = json!({"containers": [{"name": "c", "env": [{"name": "K",
            "valueFrom": {"secretKeyRef": {"name": "sa", "key": "sa.key"}}}]}]});
        let init = json!({"containers": [], "initContainers": [{"name": "c", "envFrom": [{"secretRef": {"name": "sa"}}]}]});
        world.add_bridge(Component::ApiServer, "cp1", true);
        let mut bridge = world.object("Pod", "kube-system/kube-apiserver-bridge-cp1").clone();
        bridge["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "ca"}}]);
        let mut own = world.object("Pod", "kube-system/self-hosted-kube-apiserver-abcd1").clone();
        own["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "ca"}}]);
        let mut made = create(&own);
        made["userInfo"]["username"] = json!(CONTROLLER);
        table(
            &RULE,
            &world,
            [
                ("a Pod", pod("kube-system", volume("ca")), true),
                ("another Secret", pod("kube-system", volume("other")), false),
                ("another namespace", pod("default", volume("ca")), false),
                ("a variable", pod("kube-system", env), true),
                ("an init container", pod("kube-system", init), true),
                ("a Deployment", workload("apps/v1", "Deployment", template()), true),
                ("a Job", workload("batch/v1", "Job", template()), true),
                ("a CronJob", workload("batch/v1", "CronJob", json!({"jobTemplate": {"spec": template()}})), true),
                ("one of its own, by its controller", made, false),
                ("one of its own, by somebody", create(&own), true),
                ("a bridge", create(&bridge), false),
                ("a ConfigMap of a Secret's name", pod("kube-system", json!({"volumes": [{"name": "v", "configMap": {"name": "ca"}}]})), false),
                ("what it had before", world.update("Deployment", "kube-system/old", |it| it["spec"]["template"]["spec"]["x"] = json!("y")), false),
            ],
        );
    }
}
