//! Tier 0: what CEL can express, as policies of the API server's own, which need no webhook to be up.
//!
//! A policy sees the object and nothing else: no node, no Secret, no other object, no signature. So these are only the
//! invariants for which that is enough, and each says less than the rule of its name, never more: what the rules admit,
//! this project's own writes among it, is admitted here too.
//!
//! - DS-1 asks the nodes whether a component runs anywhere. What the object itself tells of that is how many Pods its
//!   controller wants, `status.desiredNumberScheduled`: it is 0 before the first node has the label and, a moment after the
//!   last has lost it, again. Until the controller has said so, a deletion is denied here that the rule admits. The status
//!   is the controller's alone to write (DS-2), so that nobody else can make it say so.
//! - DS-1 and CM-3 can be approved. Whether an approval is good, CEL cannot tell; that there is one it can, and one that is
//!   not good the webhook denies.
//! - SEC-1 and CM-1 are about what is mounted now. Here it is what was mounted when the guard was installed.
//! - NS-1: deletion alone. Labels are the webhook's.
//! - What is only here: the guard's own DaemonSet is not deleted. No rule is about it, because a webhook cannot protect
//!   what it runs in.
//!
//! Settings do not reach them: a rule that is off there is still on here.

use serde_json::{Value, json};

use super::cel::{daemonsets, is_in, quote};
use super::{Registration, cel, failure_policy};
use crate::component::Component;
use crate::labels;
use crate::review::approval;
use crate::review::settings::Identity;
use crate::rules::cm3;

/// Whose name stands in `request.userInfo` when the controllers write a DaemonSet's status.
const CONTROLLER: [Identity; 2] = [Identity::DaemonSetController, Identity::ControllerManager];

/// The policies, each before its binding.
pub fn tier0(registration: &Registration<'_>) -> Vec<Value> {
    [daemonset_policy(registration), store_policy(registration), namespace_policy(registration)]
        .into_iter()
        .flat_map(|policy| {
            let binding = json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingAdmissionPolicyBinding",
                "metadata": {"name": policy["metadata"]["name"]},
                "spec": {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]},
            });
            [policy, binding]
        })
        .collect()
}

/// A policy on one group's resources.
fn policy(
    registration: &Registration<'_>,
    name: &str,
    (group, resources, operations): (&str, &[&str], &[&str]),
    guarded: &str,
    validations: &[Value],
) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        // The rule AR-1 knows by the name that it is the guard's.
        "metadata": {"name": format!("{}-{name}", registration.guard.name)},
        "spec": {
            "failurePolicy": failure_policy(registration.fail),
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "namespaceSelector": {},
                "objectSelector": {},
                "resourceRules": [{"apiGroups": [group], "apiVersions": ["*"], "resources": resources,
                    "operations": operations, "scope": "*"}],
            },
            "matchConditions": [{"name": "guarded", "expression": guarded}],
            "validations": validations,
        },
    })
}

/// Denied unless `holds`; `next` tells what to do.
fn validation(rule: &str, what: &str, next: &str, holds: impl Into<String>) -> Value {
    json!({"expression": holds.into(), "message": format!("{rule}: {what}; {next}"), "reason": "Forbidden"})
}

/// Whether an approval of this rule is on the object.
fn approved(rule: &str) -> String {
    let (annotations, name) = ("oldObject.metadata.annotations", quote(approval::ANNOTATION));
    format!(
        "(has({annotations}) && {name} in {annotations} && {annotations}[{name}].contains({}))",
        quote(&format!("\"{rule}\""))
    )
}

fn daemonset_policy(registration: &Registration<'_>) -> Value {
    let guard = &registration.guard;
    let name = format!("{}.metadata.name", cel::TARGET);
    let own = format!("({} && {})", cel::namespace([labels::NAMESPACE]), is_in(&name, daemonsets()));
    let guards = format!("({} && {name} == {})", cel::namespace([&guard.namespace]), quote(&guard.name));
    let deletes = "request.operation == \"DELETE\"";
    let status = cel::sub("status");
    let unless = |exceptions: &[&str], holds: &str| format!("{} || ({holds})", exceptions.join(" || "));
    let untouched = |path: &str| {
        format!(
            "(has(object.{path}) == has(oldObject.{path}) && (!has(object.{path}) || object.{path} == oldObject.{path}))"
        )
    };
    let whole = format!("!{status}");
    let template = "(oldObject == null || object.spec.template != oldObject.spec.template)";
    let selector = "object.spec.selector != oldObject.spec.selector";
    let strategy = "object.spec.updateStrategy != oldObject.spec.updateStrategy";
    let of_template = "object.spec.template.metadata.labels";
    let components = Component::ALL.map(|component| {
        format!(
            "(object.metadata.name == {} && object.spec.selector == {{\"matchLabels\": {{{}: {0}}}}} && has({of_template}) && \
             {of_template}.exists(k, k == {1} && {of_template}[k] == {0}) && \
             {of_template}.exists(k, k == {2} && {of_template}[k] == {3}) && \
             {of_template}.exists(k, k == {4} && {of_template}[k] == {5}))",
            quote(component.daemonset_name()),
            quote(labels::K8S_APP),
            quote(labels::COMPONENT),
            quote(component.name()),
            quote(labels::TIER),
            quote(labels::TIER_CONTROL_PLANE),
        )
    });
    policy(
        registration,
        "daemonsets",
        ("apps", &["daemonsets", "daemonsets/status"], &["CREATE", "UPDATE", "DELETE"]),
        &format!("{own} || {guards}"),
        &[
            validation(
                "DS-1",
                "the DaemonSet runs a part of the control plane",
                "kubectl selfhost unpivot goes back to static Pods without a gap",
                format!(
                    "{deletes} ? ({own} && (oldObject.status.desiredNumberScheduled == 0 || {})) : true",
                    approved("DS-1")
                ),
            ),
            validation(
                "DS-2",
                "a DaemonSet's status is written by its controller, and changes nothing else",
                "edit the DaemonSet itself",
                unless(
                    &[&whole, &guards],
                    &format!(
                        "{} && {}",
                        cel::user(&CONTROLLER),
                        ["labels", "annotations", "ownerReferences", "finalizers"]
                            .map(|field| untouched(&format!("metadata.{field}")))
                            .join(" && ")
                    ),
                ),
            ),
            validation(
                "DS-3",
                "the DaemonSet would be deleted together with an owner, or be held by a finalizer",
                "leave ownerReferences and finalizers empty",
                unless(
                    &[deletes, &guards],
                    "(!has(object.metadata.ownerReferences) || object.metadata.ownerReferences.all(r, oldObject != null && \
                     has(oldObject.metadata.ownerReferences) && r in oldObject.metadata.ownerReferences)) && \
                     (!has(object.metadata.finalizers) || object.metadata.finalizers.all(f, \
                     f in [\"foregroundDeletion\", \"orphan\"] || (oldObject != null && \
                     has(oldObject.metadata.finalizers) && f in oldObject.metadata.finalizers)))",
                ),
            ),
            validation(
                "DS-4",
                "the DaemonSet does not select its own Pods, or others would not find them",
                "keep the labels of the selector and of the template",
                unless(
                    &[deletes, &status, &guards, &format!("!({template} || {selector})")],
                    &components.join(" || "),
                ),
            ),
            validation(
                "DS-5",
                "the DaemonSet would replace its Pods by itself, without a bridge",
                "set updateStrategy to OnDelete, and let kubectl selfhost upgrade replace the Pods",
                unless(
                    &[deletes, &status, &guards, &format!("!({template} || {strategy})")],
                    "has(object.spec.updateStrategy.type) && object.spec.updateStrategy.type == \"OnDelete\"",
                ),
            ),
        ],
    )
}

fn store_policy(registration: &Registration<'_>) -> Value {
    let of = |resource: &str, keys: &[String]| {
        format!("(request.resource.resource == {} && {})", quote(resource), cel::key(keys))
    };
    let secrets: Vec<String> = registration.secrets.iter().cloned().collect();
    let config_maps: Vec<String> = registration.config_maps.iter().cloned().collect();
    // Its publisher writes it again, and ends with it when a namespace ends.
    let fixed: Vec<String> = cm3::FIXED
        .iter()
        .filter(|(_, name)| *name != "kube-root-ca.crt")
        .map(|(namespace, name)| format!("{namespace}/{name}"))
        .filter(|key| !config_maps.contains(key))
        .collect();
    let (secrets, config_maps, fixed) =
        (of("secrets", &secrets), of("configmaps", &config_maps), of("configmaps", &fixed));
    let next = "mount another one first, on every node, and let the old Pods go";
    policy(
        registration,
        "stores",
        ("", &["secrets", "configmaps"], &["DELETE"]),
        &format!("{secrets} || {config_maps} || {fixed}"),
        &[
            validation("SEC-1", "the control plane mounts this Secret", next, format!("!{secrets}")),
            validation("CM-1", "the control plane mounts this ConfigMap", next, format!("!{config_maps}")),
            validation(
                "CM-3",
                "the ConfigMap says what this cluster is",
                "let its owner write it",
                format!("!{fixed} || {}", approved("CM-3")),
            ),
        ],
    )
}

fn namespace_policy(registration: &Registration<'_>) -> Value {
    policy(
        registration,
        "namespaces",
        ("", &["namespaces"], &["DELETE"]),
        &is_in("oldObject.metadata.name", [labels::NAMESPACE, &registration.guard.namespace]),
        &[validation(
            "NS-1",
            "all that is in the namespace would be deleted",
            "delete what you mean by name",
            "false",
        )],
    )
}
