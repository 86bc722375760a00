//! G-1 once more: a table of what has which type, instead of code that asks for each.

use serde_json::Value;

use super::judge::{Case, get, name_of, namespace_of, text};

/// What may stand somewhere, beside nothing at all.
#[derive(Clone, Copy)]
enum Type {
    Text,
    Truth,
    Object,
    List,
    ListOfTexts,
    MapOfTexts,
}

use Type::{List, ListOfTexts, MapOfTexts, Object, Text, Truth};

const METADATA: &[(&str, Type)] = &[
    ("name", Text),
    ("namespace", Text),
    ("generateName", Text),
    ("uid", Text),
    ("resourceVersion", Text),
    ("deletionTimestamp", Text),
    ("labels", MapOfTexts),
    ("annotations", MapOfTexts),
    ("ownerReferences", List),
    ("ownerReferences[]", Object),
    ("finalizers", ListOfTexts),
];

const SPEC: &[(&str, Type)] = &[
    ("nodeSelector", MapOfTexts),
    ("nodeName", Text),
    ("serviceAccountName", Text),
    ("priorityClassName", Text),
    ("dnsPolicy", Text),
    ("schedulerName", Text),
    ("runtimeClassName", Text),
    ("hostNetwork", Truth),
    ("hostPID", Truth),
    ("hostIPC", Truth),
    ("shareProcessNamespace", Truth),
    ("affinity", Object),
    ("securityContext", Object),
    ("volumes", List),
    ("volumes[]", Object),
    ("volumes[].name", Text),
    ("tolerations", List),
    ("tolerations[]", Object),
    ("tolerations[].name", Text),
    ("initContainers", List),
    ("initContainers[]", Object),
    ("containers", List),
    ("containers[]", Object),
    ("ephemeralContainers", List),
    ("ephemeralContainers[]", Object),
];

const CONTAINER: &[(&str, Type)] = &[
    ("name", Text),
    ("image", Text),
    ("command", ListOfTexts),
    ("args", ListOfTexts),
    ("lifecycle", Object),
    ("livenessProbe", Object),
    ("readinessProbe", Object),
    ("startupProbe", Object),
    ("resources", Object),
    ("securityContext", Object),
    ("env", List),
    ("env[]", Object),
    ("env[].name", Text),
    ("env[].value", Text),
    ("env[].valueFrom", Object),
    ("envFrom", List),
    ("envFrom[]", Object),
    ("ports", List),
    ("ports[]", Object),
    ("volumeMounts", List),
    ("volumeMounts[]", Object),
    ("volumeMounts[].name", Text),
    ("volumeMounts[].mountPath", Text),
    ("volumeMounts[].subPath", Text),
];

fn is(value: &Value, kind: Type) -> bool {
    if value.is_null() {
        return true;
    }
    match kind {
        Text => value.is_string(),
        Truth => value.is_boolean(),
        Object => value.is_object(),
        List => value.is_array(),
        ListOfTexts => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
        MapOfTexts => value.as_object().is_some_and(|fields| fields.values().all(Value::is_string)),
    }
}

/// Whether all that the table names has its type. In a list of objects null is none.
fn fits(value: &Value, table: &[(&str, Type)]) -> bool {
    table.iter().all(|(path, kind)| match path.split_once("[]") {
        None => is(&value[*path], *kind),
        Some((list, rest)) => value[list].as_array().into_iter().flatten().all(|item| match rest {
            "" => !item.is_null() && is(item, *kind),
            field => is(&item[&field[1..]], *kind),
        }),
    })
}

/// Where the Pod's template is in an object of this resource.
pub(super) fn template_path(case: &Case) -> Option<Vec<&'static str>> {
    if !case.sub().is_empty() {
        return None;
    }
    Some(match case.resource().as_str() {
        "/pods" => vec![],
        "/podtemplates" => vec!["template"],
        "batch/cronjobs" => vec!["spec", "jobTemplate", "spec", "template"],
        "/replicationcontrollers"
        | "apps/daemonsets"
        | "apps/deployments"
        | "apps/replicasets"
        | "apps/statefulsets"
        | "batch/jobs"
        | "extensions/daemonsets"
        | "extensions/deployments" => vec!["spec", "template"],
        _ => return None,
    })
}

fn pod_fits(pod: &Value) -> bool {
    let spec = &pod["spec"];
    let metadata = &pod["metadata"];
    spec.is_object()
        && spec["containers"].is_array()
        && (metadata.is_null() || (metadata.is_object() && fits(metadata, METADATA)))
        && fits(spec, SPEC)
        && super::judge::containers(pod).into_iter().all(|it| fits(it, CONTAINER))
        // Whatever fills a volume is an object, whatever its kind.
        && super::judge::list(spec, "volumes").iter().all(|volume| {
            volume.as_object().is_some_and(|fields| {
                fields.iter().all(|(name, source)| name == "name" || is(source, Object))
            })
        })
}

/// Whether the request cannot be read.
pub(super) fn g1(case: &Case) -> bool {
    let resource = case.resource();
    if ["coordination.k8s.io/leases", "/events", "events.k8s.io/events", "/endpoints"]
        .contains(&resource.as_str())
    {
        return false;
    }
    let (new, old) = (case.object(), case.old());
    if (case.creates() || case.updates()) && !new.is_object() {
        return true;
    }
    if (case.updates() || case.deletes()) && !old.is_object() {
        return true;
    }
    for object in [new, old] {
        if object.is_null() {
            continue;
        }
        if case.sub().is_empty() {
            let metadata = &object["metadata"];
            let kind = &object["kind"];
            let asked = text(&case.request["kind"], "kind");
            let own_kind = kind.is_null() || *kind == "" || *kind == asked;
            if !metadata.is_object() || !fits(metadata, METADATA) || !own_kind {
                return true;
            }
        }
        if template_path(case).is_some_and(|path| !pod_fits(get(object, &path))) {
            return true;
        }
        let maps: &[&str] = match resource.as_str() {
            "/secrets" => &["data", "stringData"],
            "/configmaps" => &["data", "binaryData"],
            _ => &[],
        };
        if maps.iter().any(|name| !is(&object[*name], MapOfTexts)) {
            return true;
        }
    }
    if case.operation() == "CONNECT" || !case.sub().is_empty() {
        return false;
    }
    // The request and its object name one object.
    let differ = |one: &str, other: &str| !one.is_empty() && !other.is_empty() && one != other;
    let target = if new.is_object() { new } else { old };
    differ(text(case.request, "name"), name_of(target))
        || (resource != "/namespaces" && differ(text(case.request, "namespace"), namespace_of(target)))
        || (new.is_object() && old.is_object() && differ(name_of(new), name_of(old)))
        || (case.name().is_empty() && !case.creates())
}
