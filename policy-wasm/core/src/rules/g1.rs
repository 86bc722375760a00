//! G-1: what cannot be read is not admitted.

use serde_json::Value;

use super::{Checked, Reach, Rule};
use crate::review::object::{at, list};
use crate::review::pod::{CONTAINERS, template_path};
use crate::review::{Facts, Operation, Request, Settings, Severity, Verdict, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "G-1",
    title: "what cannot be read is not admitted",
    severity: Severity::Deny,
    fixed: true,
    reach: Reach::Named,
    why: "Every other rule takes a value that is missing for one that is empty. That is safe only while nothing \
          that a rule looks at is of another type than the API's own. A review without operation, kind, resource or \
          user is denied for the same reason.",
    evasion: "- A value of another type (`containers: {}`), a name that the request and the object tell differently, \
              an object of another kind than the resource: denied.\n\
              - The same key twice in the request: denied. Within an object the last one counts, and the API server \
              sends each key once.\n\
              - More than 128 levels: denied.",
    blind: "",
    check,
};

/// The verdict on what is no review.
pub(super) fn unreadable(reason: &str) -> Verdict {
    let violation = trouble("", reason);
    Verdict {
        violations: vec![Violation { rule: RULE.id, severity: RULE.severity, ..violation }],
        ..Verdict::default()
    }
}

fn trouble(path: impl Into<String>, message: impl Into<String>) -> Violation {
    let next = "send the object as the API documents it; if the API server itself sent this, the guard is too old for it";
    Violation::new(path, message, next)
}

/// Kinds whose content no rule looks at. Among them is what leader election and heartbeats write: a rule that met a
/// Lease could take the cluster down (k/k#90217).
const NEVER: [(&str, &str); 4] =
    [("coordination.k8s.io", "leases"), ("", "events"), ("events.k8s.io", "events"), ("", "endpoints")];

fn check(request: &Request, _: &Settings, _: &Facts) -> Checked {
    if NEVER.contains(&(request.resource.group.as_str(), request.resource.resource.as_str())) {
        return Ok(Vec::new());
    }
    Ok(find(request).into_iter().collect())
}

fn find(request: &Request) -> Option<Violation> {
    let wants_new = matches!(request.operation, Operation::Create | Operation::Update);
    let wants_old = matches!(request.operation, Operation::Update | Operation::Delete);
    if wants_new && !request.object.is_object() {
        return Some(trouble("object", "there is no object"));
    }
    if wants_old && !request.old_object.is_object() {
        return Some(trouble("oldObject", "there is no object"));
    }
    if request.resource.resource.is_empty() || request.kind.kind.is_empty() {
        return Some(trouble("resource", "it has no name"));
    }
    if request.sub_resource().is_empty() {
        for (side, object) in [("object", &request.object), ("oldObject", &request.old_object)] {
            if let Some(path) = metadata(object).or_else(|| kind(request, object)) {
                return Some(trouble(format!("{side}.{path}"), "it is not of the type that the API gives it"));
            }
        }
    }
    let (namespace, name) = request.named();
    let of_object = request.target().filter(|_| request.sub_resource().is_empty());
    if let Some(object) = of_object.filter(|_| request.operation != Operation::Connect) {
        let same = |asked: &str, own: &str| asked.is_empty() || own.is_empty() || asked == own;
        if !same(name, object.name_of()) {
            return Some(trouble("metadata.name", "the request and the object name different objects"));
        }
        let is_namespace = request.is_any("", "namespaces");
        if !is_namespace && !same(namespace, object.namespace_of()) {
            return Some(trouble("metadata.namespace", "the request and the object name different namespaces"));
        }
        if let (Some(new), Some(old)) = (request.new_object(), request.old())
            && !same(new.name_of(), old.name_of())
        {
            return Some(trouble("metadata.name", "the object before has another name"));
        }
        let is_generated = request.operation == Operation::Create;
        if request.name().is_empty() && !is_generated {
            return Some(trouble("metadata.name", "the object has no name"));
        }
    }
    content(request)
}

/// The first thing in the metadata that has another type than the API's.
fn metadata(object: &Value) -> Option<&'static str> {
    if object.is_null() {
        return None;
    }
    let metadata = &object["metadata"];
    let texts = |name: &str| metadata[name].is_null() || is_map_of_texts(&metadata[name]);
    let text = |name: &str| metadata[name].is_null() || metadata[name].is_string();
    let list_of = |name: &str, of: fn(&Value) -> bool| match &metadata[name] {
        Value::Null => true,
        Value::Array(items) => items.iter().all(of),
        _ => false,
    };
    [
        (metadata.is_object(), "metadata"),
        (text("name"), "metadata.name"),
        (text("namespace"), "metadata.namespace"),
        (text("generateName"), "metadata.generateName"),
        (text("uid"), "metadata.uid"),
        (text("resourceVersion"), "metadata.resourceVersion"),
        (text("deletionTimestamp"), "metadata.deletionTimestamp"),
        (texts("labels"), "metadata.labels"),
        (texts("annotations"), "metadata.annotations"),
        (list_of("ownerReferences", Value::is_object), "metadata.ownerReferences"),
        (list_of("finalizers", Value::is_string), "metadata.finalizers"),
    ]
    .into_iter()
    .find(|(holds, _)| !holds)
    .map(|(_, path)| path)
}

fn is_map_of_texts(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| fields.values().all(Value::is_string))
}

/// An object that says itself that it is of another kind.
fn kind(request: &Request, object: &Value) -> Option<&'static str> {
    let own = &object["kind"];
    let same = own.is_null() || own.as_str().is_some_and(|own| own.is_empty() || own == request.kind.kind);
    (!same).then_some("kind")
}

/// The same for what rules look at beyond the metadata.
fn content(request: &Request) -> Option<Violation> {
    for (side, object) in [("object", &request.object), ("oldObject", &request.old_object)] {
        if object.is_null() {
            continue;
        }
        if let Some(path) = template_path(request) {
            let prefix = path.iter().fold(side.to_owned(), |prefix, name| format!("{prefix}.{name}"));
            if let Some(found) = pod(at(object, path)) {
                return Some(trouble(format!("{prefix}.{found}"), "it is not of the type that the API gives it"));
            }
        }
        let maps: &[&str] = match (request.resource.group.as_str(), request.resource.resource.as_str()) {
            ("", "secrets") => &["data", "stringData"],
            ("", "configmaps") => &["data", "binaryData"],
            _ => &[],
        };
        for name in maps {
            if !object[*name].is_null() && !is_map_of_texts(&object[*name]) {
                return Some(trouble(format!("{side}.{name}"), "it is not of the type that the API gives it"));
            }
        }
    }
    None
}

/// The first thing in a Pod (or template) that has another type than the API's, of what a rule looks at.
fn pod(pod: &Value) -> Option<String> {
    let spec = &pod["spec"];
    if !spec.is_object() {
        return Some("spec".to_owned());
    }
    if let Some(path) = (!pod["metadata"].is_null()).then(|| metadata(pod)).flatten() {
        return Some(path.to_owned());
    }
    if !spec["containers"].is_array() {
        return Some("spec.containers".to_owned());
    }
    if !spec["nodeSelector"].is_null() && !is_map_of_texts(&spec["nodeSelector"]) {
        return Some("spec.nodeSelector".to_owned());
    }
    for name in ["nodeName", "serviceAccountName", "priorityClassName", "dnsPolicy", "schedulerName", "runtimeClassName"] {
        if !(spec[name].is_null() || spec[name].is_string()) {
            return Some(format!("spec.{name}"));
        }
    }
    for name in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
        if !(spec[name].is_null() || spec[name].is_boolean()) {
            return Some(format!("spec.{name}"));
        }
    }
    let parts = ["affinity", "securityContext"];
    if let Some(name) = parts.into_iter().find(|name| !is_object_or_none(&spec[*name])) {
        return Some(format!("spec.{name}"));
    }
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let sources = volume.as_object().into_iter().flatten().filter(|(name, _)| *name != "name");
        if sources.into_iter().any(|(_, source)| !is_object_or_none(source)) {
            return Some(format!("spec.volumes[{index}]"));
        }
    }
    for name in ["volumes", "tolerations"] {
        if let Some(path) = objects(spec, name, &["name"], &[]) {
            return Some(format!("spec.{path}"));
        }
    }
    CONTAINERS.into_iter().find_map(|kind| {
        let found = objects(spec, kind, &["name", "image"], &["command", "args"]).or_else(|| {
            list(spec, kind).iter().enumerate().find_map(|(index, container)| {
                let found = CONTAINER_PARTS
                    .into_iter()
                    .find(|name| !is_object_or_none(&container[*name]))
                    .map(ToOwned::to_owned)
                    .or_else(|| objects(container, "env", &["name", "value"], &[]))
                    .or_else(|| {
                        let mut env = list(container, "env").iter();
                        env.position(|it| !is_object_or_none(&it["valueFrom"])).map(|at| format!("env[{at}].valueFrom"))
                    })
                    .or_else(|| objects(container, "envFrom", &[], &[]))
                    .or_else(|| objects(container, "ports", &[], &[]))
                    .or_else(|| objects(container, "volumeMounts", &["name", "mountPath", "subPath"], &[]));
                Some(format!("{kind}[{index}].{}", found?))
            })
        })?;
        Some(format!("spec.{found}"))
    })
}

/// What in a container is an object.
const CONTAINER_PARTS: [&str; 6] =
    ["lifecycle", "livenessProbe", "readinessProbe", "resources", "securityContext", "startupProbe"];

fn is_object_or_none(value: &Value) -> bool {
    value.is_null() || value.is_object()
}

/// Where the list under a name is not one of objects with these texts and lists of texts.
fn objects(value: &Value, name: &str, texts: &[&str], lists: &[&str]) -> Option<String> {
    let found = &value[name];
    if found.is_null() {
        return None;
    }
    let Some(items) = found.as_array() else { return Some(name.to_owned()) };
    items.iter().enumerate().find_map(|(index, item)| {
        if !item.is_object() {
            return Some(format!("{name}[{index}]"));
        }
        let bad_text = texts.iter().find(|field| !(item[**field].is_null() || item[**field].is_string()));
        let bad_list = lists.iter().find(|field| match &item[**field] {
            Value::Null => false,
            Value::Array(items) => !items.iter().all(Value::is_string),
            _ => true,
        });
        bad_text.or(bad_list).map(|field| format!("{name}[{index}].{field}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::component::Component;
    use crate::rules::testing::{World, create, table};

    #[test]
    fn what_has_another_type_is_denied() {
        type Change = fn(&mut Value);
        let world = World::new();
        let cases: [(&str, Change, bool); 28] = [
            ("nothing", |_| {}, false),
            ("no resource's name", |it| it["resource"]["resource"] = json!(""), true),
            ("no kind's name", |it| {
                it["kind"]["kind"] = json!("");
                it["object"]["kind"] = json!("");
                it["oldObject"]["kind"] = json!("");
            }, true),
            ("no object", |it| it["object"] = Value::Null, true),
            ("no object before", |it| it["oldObject"] = Value::Null, true),
            ("a list for an object", |it| it["object"] = json!([]), true),
            ("no metadata", |it| it["object"]["metadata"] = Value::Null, true),
            ("labels", |it| it["object"]["metadata"]["labels"] = json!({"a": 1}), true),
            ("owners", |it| it["object"]["metadata"]["ownerReferences"] = json!({}), true),
            ("an owner", |it| it["object"]["metadata"]["ownerReferences"] = json!([{"kind": "Node", "name": "x"}]), false),
            ("an owner by its name", |it| it["object"]["metadata"]["ownerReferences"] = json!(["x"]), true),
            ("a finalizer", |it| it["object"]["metadata"]["finalizers"] = json!(["example.org/x"]), false),
            ("labels of a template", |it| it["object"]["spec"]["template"]["metadata"]["labels"] = json!({"a": 1}), true),
            ("a selector of nodes", |it| it["object"]["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": 1}), true),
            ("no selector of nodes", |it| it["object"]["spec"]["template"]["spec"]["nodeSelector"] = Value::Null, false),
            ("the name of a node", |it| it["object"]["spec"]["template"]["spec"]["nodeName"] = json!(1), true),
            ("a switch", |it| it["object"]["spec"]["template"]["spec"]["hostPID"] = json!("true"), true),
            ("a source of a volume", |it| it["object"]["spec"]["template"]["spec"]["volumes"][0]["hostPath"] = json!("/"), true),
            ("another name", |it| it["name"] = json!("other"), true),
            ("another namespace", |it| it["namespace"] = json!("other"), true),
            ("no name in the request", |it| it["name"] = Value::Null, false),
            ("no name at all", |it| {
                it["name"] = Value::Null;
                it["object"]["metadata"]["name"] = Value::Null;
                it["oldObject"]["metadata"]["name"] = Value::Null;
            }, true),
            ("another kind", |it| it["object"]["kind"] = json!("Deployment"), true),
            ("no template", |it| it["object"]["spec"]["template"] = Value::Null, true),
            ("containers", |it| it["object"]["spec"]["template"]["spec"]["containers"] = json!({}), true),
            (
                "a number in a command",
                |it| it["object"]["spec"]["template"]["spec"]["containers"][0]["command"][1] = json!(1),
                true,
            ),
            (
                "initContainers",
                |it| it["object"]["spec"]["template"]["spec"]["initContainers"] = json!("none"),
                true,
            ),
            (
                "env",
                |it| it["object"]["spec"]["template"]["spec"]["containers"][0]["env"] = json!([["HOST_IP"]]),
                true,
            ),
        ];
        table(&RULE, &world, cases.map(|(name, change, expected)| {
            let mut request = world.edit(Component::ApiServer, |_| {});
            change(&mut request);
            (name, request, expected)
        }));
    }

    #[test]
    fn what_is_made_and_deleted_has_one_side() {
        let mut world = World::new();
        let of = |kind: &str, content: Value| {
            let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x", "namespace": "kube-system"}});
            object.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
            object
        };
        let generated = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": []},
            "metadata": {"generateName": "x-", "namespace": "kube-system"}});
        world.objects.push(of("Secret", json!({"data": {"a": "eQ=="}})));
        table(
            &RULE,
            &world,
            [
                ("deleted", world.delete("v1", "Secret", "kube-system/x"), false),
                ("made", create(&of("Secret", json!({"data": {"a": "eQ=="}, "stringData": {"b": "c"}}))), false),
                ("made, with a generated name", create(&generated), false),
                ("a Secret of numbers", create(&of("Secret", json!({"data": {"a": 1}}))), true),
                ("a Secret of a text", create(&of("Secret", json!({"stringData": "a"}))), true),
                ("an empty Secret", create(&of("Secret", json!({}))), false),
                ("a ConfigMap", create(&of("ConfigMap", json!({"data": {"a": "b"}}))), false),
                ("a ConfigMap of numbers", create(&of("ConfigMap", json!({"binaryData": {"a": 1}}))), true),
            ],
        );
    }

    #[test]
    fn what_no_rule_looks_at_goes_through() {
        let world = World::new();
        let lease = json!({"operation": "UPDATE", "userInfo": {"username": "system:kube-scheduler"},
            "kind": {"group": "coordination.k8s.io", "version": "v1", "kind": "Lease"},
            "resource": {"group": "coordination.k8s.io", "version": "v1", "resource": "leases"},
            "namespace": "kube-system", "name": "kube-scheduler", "object": 1});
        assert!(world.verdict(&lease).allowed);
    }

    #[test]
    fn what_is_no_review_is_denied() {
        for json in ["", "null", "[]", "{}", "{\"operation\": \"UPDATE\"}", "\u{0}"] {
            let verdict = crate::rules::decide(json.as_bytes(), &Settings::default(), 0, |_| unreachable!());
            assert!(!verdict.allowed, "{json}");
            assert_eq!(verdict.violations[0].rule, "G-1");
        }
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        assert!(!crate::rules::decide(deep.as_bytes(), &Settings::default(), 0, |_| unreachable!()).allowed);
    }
}
