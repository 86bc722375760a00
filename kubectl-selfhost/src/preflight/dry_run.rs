//! Dry runs: the API server itself says which of the plan's writes it would refuse, and why: rights, Pod Security,
//! quotas, webhooks.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};
use selfhost_core::component::Component;
use selfhost_core::finding::{Code, Finding};
use selfhost_core::labels;

use crate::api::{self, ApiError, call};
use crate::guard::canary::{self, Answer};
use crate::node_task::{self, Task};
use crate::plan::{Plan, Verb};
use crate::template::bridge;

/// Tries every kind of write that the plan makes. Nothing is stored.
pub async fn check(client: &Client, plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut take = |subject: String, result: Result<(), ApiError>| {
        if let Err(error) = result
            && !is_too_early(&error)
        {
            findings.push(classify(subject, &error));
        }
    };
    let daemonsets: Api<DaemonSet> = Api::namespaced(client.clone(), labels::NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(client.clone(), labels::NAMESPACE);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let has = |verb: Verb, component: Component| {
        plan.steps.iter().any(|step| step.verb == verb && step.component == Some(component))
    };
    for component in Component::ALL.into_iter().filter(|component| has(Verb::Remove, *component)) {
        let name = component.daemonset_name();
        take(format!("daemonset kube-system/{name}"), delete(&daemonsets, name).await);
    }
    let applied = plan.templates.keys().filter(|component| has(Verb::Apply, **component));
    for daemonset in applied.filter_map(|component| plan.daemonset(*component)) {
        let subject = format!("daemonset kube-system/{}", daemonset.name_any());
        take(subject, api::dry_run(&daemonsets, &daemonset).await);
    }
    for (node, at) in &plan.nodes {
        for component in plan.templates.keys() {
            if let Some(pod) = plan.bridge(*component, node) {
                let subject = format!("pod kube-system/{}", pod.name_any());
                take(subject.clone(), create(&pods, &pod, &subject).await);
            }
        }
        let task = Task {
            name: "inspect",
            node,
            image: &plan.around.node_image,
            args: Vec::new(),
            directories: vec!["/var/lib/selfhost".to_owned()],
            limit: std::time::Duration::ZERO,
        };
        let pod = node_task::pod(&task);
        let subject = format!("pod kube-system/{}", pod.name_any());
        take(subject.clone(), create(&pods, &pod, &subject).await);
        if plan.templates.contains_key(&Component::ApiServer) {
            let slice = bridge::endpoint_slice(at.address, plan.port(Component::ApiServer));
            let subject = format!("endpointslice default/{}", labels::BRIDGE_SLICE);
            take(subject, api::dry_run(&slices, &slice).await);
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

async fn delete(api: &Api<DaemonSet>, name: &str) -> Result<(), ApiError> {
    let parameters = DeleteParams::default().dry_run();
    call(format!("delete daemonset {name}"), || async {
        match api.delete(name, &parameters).await {
            Err(error) if api::code(&error) == Some(404) => Ok(()),
            other => other.map(drop),
        }
    })
    .await
}

async fn create(api: &Api<Pod>, pod: &Pod, subject: &str) -> Result<(), ApiError> {
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    call(format!("create {subject}"), || async {
        match api.create(&parameters, pod).await {
            // Left by an interrupted operation: it was admitted once.
            Err(error) if api::code(&error) == Some(409) => Ok(()),
            other => other.map(drop),
        }
    })
    .await
}

/// Which finding a refusal is. The API server has one code, 403, for most of them; the message tells them apart.
fn classify(subject: String, error: &ApiError) -> Finding {
    let ApiError::Call { source, .. } = error else {
        return Finding::new(Code::Unhealthy, subject, error.to_string())
            .hint("the API server must answer before it can be replaced");
    };
    let kube::Error::Api(status) = source.as_ref() else {
        return Finding::new(Code::Unhealthy, subject, source.to_string())
            .hint("the API server must answer before it can be replaced");
    };
    let message = status.message.clone();
    let (code, hint) = kind_of(status.code, &message);
    // The guard's own text has what to do, line by line.
    let message = match message.split_once("denied the request: ") {
        Some((_, said)) if code == Code::GuardDenies => said.replace("\n  hint: ", "; ").replace('\n', "; "),
        _ => message,
    };
    Finding::new(code, subject, message).hint(hint)
}

/// The rule that compares a component with what runs beside it.
const SKEW: &str = "DS-6";

/// Whether the guard objects to the order alone in which dry runs come: all of them before the first change. In the plan,
/// what a controller manager or scheduler must not be newer than comes before it, and the verifier has seen to that.
fn is_too_early(error: &ApiError) -> bool {
    canary::denying(error).is_some_and(|rules| rules == SKEW)
}

fn kind_of(code: u16, message: &str) -> (Code, &'static str) {
    match canary::read(Some(code), message) {
        Answer::Enforces(_) => {
            return (Code::GuardDenies, "where a rule wants an approval: kubectl selfhost guard approve");
        }
        Answer::Fails(_) => return (Code::WebhookBlocks, "kubectl selfhost guard status"),
        Answer::Admits | Answer::DeniedByOther(_) | Answer::Unknown(_) => {}
    }
    if message.contains("violates PodSecurity") {
        (
            Code::PodSecurity,
            "kubectl label namespace kube-system pod-security.kubernetes.io/enforce=privileged",
        )
    } else if message.contains("exceeded quota") || message.contains("failed quota") {
        (Code::Quota, "raise the quota: kubectl -n kube-system get resourcequota")
    } else if message.contains("webhook") {
        (Code::WebhookBlocks, "exclude kube-system from the webhook, or bring it back, before the operation")
    } else if code == 403 {
        (Code::Forbidden, "the rights that each command needs: docs/reference/rbac.md")
    } else {
        (Code::LayoutUnknown, "the API server refuses the object as it stands")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, message: &str) -> ApiError {
        let status =
            kube::core::Status { code, message: message.to_owned(), ..kube::core::Status::default() };
        ApiError::Call { doing: "x".to_owned(), source: Box::new(kube::Error::Api(Box::new(status))) }
    }

    #[test]
    fn what_comes_too_early_is_no_denial() {
        let denied = |rules: &str| {
            refused(
                403,
                &format!(
                    "admission webhook \"named.guard.kubectl-selfhost.dev\" denied the request: {rules}"
                ),
            )
        };
        assert!(is_too_early(&denied("DS-6: a: b\n  hint: c\nDS-6: d: e")));
        assert!(!is_too_early(&denied("DS-6: a: b\n  hint: c\nDS-11: d: e")));
        assert!(!is_too_early(&refused(403, "DS-6: a: b")));
        let finding = classify("x".to_owned(), &denied("DS-11: a: b\n  hint: c\nDS-12: d"));
        assert_eq!((finding.code, finding.message.as_str()), (Code::GuardDenies, "DS-11: a: b; c; DS-12: d"));
    }

    #[test]
    fn refusals_are_told_apart() {
        for (code, message, expected) in [
            (
                403,
                "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces",
                Code::PodSecurity,
            ),
            (
                403,
                "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=9, limited: pods=9",
                Code::Quota,
            ),
            (403, "pods \"x\" is forbidden: failed quota: q: must specify cpu", Code::Quota),
            (
                500,
                "Internal error occurred: failed calling webhook \"v.example.org\": connection refused",
                Code::WebhookBlocks,
            ),
            (
                403,
                "admission webhook \"named.guard.kubectl-selfhost.dev\" denied the request: DS-11: a: b\n  hint: c",
                Code::GuardDenies,
            ),
            (
                500,
                "Internal error occurred: failed calling webhook \"named.guard.kubectl-selfhost.dev\": failed to call webhook: x",
                Code::WebhookBlocks,
            ),
            (400, "admission webhook \"v.example.org\" does not support dry run", Code::WebhookBlocks),
            (403, "pods is forbidden: User \"ann\" cannot create resource \"pods\"", Code::Forbidden),
            (422, "DaemonSet is invalid: spec.selector: field is immutable", Code::LayoutUnknown),
        ] {
            assert_eq!(kind_of(code, message).0, expected, "{message}");
        }
    }
}
