//! DS-1 to DS-16 (the flags apart) and CR-1 once more.

use serde_json::{Value, json};

use super::flags::Line;
use super::judge::{
    COMPONENTS, Case, NOW, SERVER, Said, annotation, bridges, container, containers, empty, ending, get,
    keys, label, list, mirror, name_of, node_of, ready, repository, runs, text, texts, yes,
};
use super::shape::template_path;

/// An edit of a component's DaemonSet.
pub(super) struct Edit {
    pub(super) component: usize,
    /// The template that it gets.
    pub(super) new: Value,
    /// What that is compared with: the template before, or what serves.
    pub(super) old: Option<Value>,
    /// Whether the template changes.
    pub(super) changed: bool,
}

pub(super) fn edit(case: &Case) -> Option<Edit> {
    let component = case.component().filter(|_| case.writes())?;
    let of = |object: &Value| object["spec"]["template"].clone();
    let new = of(case.object());
    if case.updates() {
        let old = of(case.old());
        return Some(Edit { component, changed: new != old, new, old: Some(old) });
    }
    Some(Edit { component, new, old: serves(case, component), changed: true })
}

/// What serves as a component: its Pods, of which a ready one tells most, and else what a standby stands in for.
pub(super) fn serves(case: &Case, component: usize) -> Option<Value> {
    let mut pods = case.control_plane_pods();
    let mut own: Vec<&Value> = pods.iter().copied().filter(|it| runs(it) == Some(component)).collect();
    if own.iter().any(|it| ready(it)) {
        own.retain(|it| ready(it));
    }
    if let Some(pod) = own.last() {
        return Some((*pod).clone());
    }
    pods.retain(|it| standby(it));
    pods.into_iter().find_map(|pod| {
        let templates: Value =
            serde_json::from_str(annotation(pod, "kubectl-selfhost.dev/templates")?).ok()?;
        let template = &templates[COMPONENTS[component].name];
        template.is_object().then(|| template.clone())
    })
}

fn standby(pod: &Value) -> bool {
    mirror(pod) && label(pod, "component") == Some("control-plane-standby")
}

pub(super) fn ds1(case: &Case) -> Said {
    let component = case.component().filter(|_| case.deletes() && case.sub().is_empty())?;
    Some(case.all("Node").into_iter().any(|node| label(node, COMPONENTS[component].label) == Some("true")))
}

pub(super) fn ds2(case: &Case) -> Said {
    case.component().filter(|_| !case.sub().is_empty())?;
    let without = |object: &Value| {
        let mut metadata = object["metadata"].as_object().cloned().unwrap_or_default();
        for every_write in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(every_write);
        }
        metadata
    };
    let by_controller = case.sub() == "status" && case.by("daemon-set-controller");
    Some(!by_controller || case.changes(&["spec"]) || without(case.object()) != without(case.old()))
}

pub(super) fn ds3(case: &Case) -> Said {
    let guarded = case.component().is_some() || super::credentials::guarded(case).is_some();
    if !guarded || !case.writes() {
        return None;
    }
    let (new, old) = (case.object(), case.old());
    let mut bad = false;
    for owner in list(&new["metadata"], "ownerReferences") {
        bad |= !list(&old["metadata"], "ownerReferences").contains(owner);
    }
    for finalizer in texts(&new["metadata"], "finalizers") {
        let known = texts(&old["metadata"], "finalizers").contains(&finalizer);
        bad |= !known && finalizer != "foregroundDeletion" && finalizer != "orphan";
    }
    if case.updates() {
        for field in ["labels", "annotations"] {
            let (before, after) = (keys(&old["metadata"], field), keys(&new["metadata"], field));
            bad |= before.iter().any(|name| {
                name.starts_with("kubectl-selfhost.dev")
                    && *name != "kubectl-selfhost.dev/approval"
                    && !after.contains(name)
            });
        }
    }
    if let Some(component) = case.component() {
        let app = label(new, "k8s-app");
        bad |= app != Some(COMPONENTS[component].daemonset)
            && (!old.is_object() || app != label(old, "k8s-app"));
    }
    Some(bad)
}

/// The labels that a component's Pods have.
fn own_labels(component: usize) -> [(&'static str, &'static str); 3] {
    let it = &COMPONENTS[component];
    [("k8s-app", it.daemonset), ("component", it.name), ("tier", "control-plane")]
}

/// Whether a map of labels selects a component's Pods; one without any selects nothing here.
pub(super) fn selects(map: &Value, component: usize) -> bool {
    let fields = map.as_object().cloned().unwrap_or_default();
    let texts: Vec<_> = fields.iter().filter(|(_, value)| value.is_string()).collect();
    !texts.is_empty()
        && texts
            .iter()
            .all(|(name, value)| own_labels(component).iter().any(|it| it.0 == *name && it.1 == **value))
}

/// Whether a selector of any form fits a component's Pods.
fn fits(selector: &Value, component: usize) -> bool {
    if selector["matchLabels"].is_null() && selector["matchExpressions"].is_null() {
        return selects(selector, component);
    }
    let labels = &selector["matchLabels"];
    // Whatever is no text is none.
    let unlabelled = !labels.as_object().is_some_and(|it| it.values().any(Value::is_string));
    let by_labels = unlabelled || selects(labels, component);
    let by_expressions = list(selector, "matchExpressions").iter().all(|it| {
        let own = own_labels(component).iter().find(|own| own.0 == text(it, "key")).map(|own| own.1);
        let values = texts(it, "values");
        match text(it, "operator") {
            "In" => own.is_some_and(|own| values.contains(&own)),
            "NotIn" => !own.is_some_and(|own| values.contains(&own)),
            "Exists" => own.is_some(),
            "DoesNotExist" => own.is_none(),
            _ => true,
        }
    });
    let says_nothing = unlabelled && list(selector, "matchExpressions").is_empty();
    by_labels && by_expressions && !says_nothing
}

pub(super) fn ds4(case: &Case) -> Said {
    let path = template_path(case).filter(|_| case.writes())?;
    let template = get(case.object(), &path);
    let selector = &case.object()["spec"]["selector"];
    let changed = case.changes(&path) || case.changes(&["spec", "selector"]);
    if let Some(component) = case.component() {
        let app = json!({"k8s-app": COMPONENTS[component].daemonset});
        let mut own = selector["matchLabels"].clone();
        if let Some(fields) = own.as_object_mut() {
            fields.retain(|_, value| value.is_string());
        }
        let selects_own = own == app && selector["matchExpressions"].is_null();
        let marked = own_labels(component).iter().all(|(name, value)| label(template, name) == Some(value));
        return Some(changed && !(selects_own && marked));
    }
    if path.is_empty() || case.namespace() != "kube-system" {
        return None;
    }
    let looks_alike = runs(template).is_some() || bridges(template).is_some();
    Some(changed && (looks_alike || (0..3).any(|it| fits(selector, it))))
}

pub(super) fn ds5(case: &Case) -> Said {
    case.component().filter(|_| case.writes())?;
    let edited = case.changes(&["spec", "template"]);
    let rolls = case.object()["spec"]["updateStrategy"]["type"] != "OnDelete";
    let touched = edited || case.changes(&["spec", "updateStrategy"]);
    let reserves =
        containers(&case.object()["spec"]["template"]).iter().any(|it| !list(it, "ports").is_empty());
    Some((rolls && touched) || (reserves && edited))
}

/// The version in an image's tag: major, minor, patch, pre-release.
pub(super) fn version(image: &str) -> Option<(u32, u32, u32, Option<String>)> {
    let name = image.split('@').next()?.split('/').next_back()?;
    let tag = name.split_once(':')?.1.split('_').next()?.trim();
    let tag = tag.strip_prefix('v').unwrap_or(tag).split('+').next()?;
    let (numbers, pre) =
        tag.split_once('-').map_or((tag, None), |(numbers, pre)| (numbers, Some(pre.to_owned())));
    if pre.as_deref() == Some("") {
        return None;
    }
    let digits = |it: &str| !it.is_empty() && it.chars().all(|it| it.is_ascii_digit());
    let numbers: Vec<&str> = numbers.split('.').collect();
    let [major, minor, patch] = numbers.as_slice() else { return None };
    if ![major, minor, patch].into_iter().all(|it| digits(it)) {
        return None;
    }
    Some((major.parse().ok()?, minor.parse().ok()?, patch.parse().ok()?, pre))
}

pub(super) fn ds6(case: &Case) -> Said {
    let edit = case.edit().filter(|it| it.changed)?;
    let component = edit.component;
    let image = |pod: &Value| text(container(pod, component), "image").to_owned();
    let new = image(&edit.new);
    let old = edit.old.as_ref().map(image).unwrap_or_default();
    if new == old {
        return Some(false);
    }
    let own = COMPONENTS[component].name;
    let repository = repository(&new);
    let name = repository.split('/').next_back().unwrap_or("");
    let Some((major, minor, ..)) =
        version(&new).filter(|_| name == own || name.starts_with(&format!("{own}-")))
    else {
        return Some(true);
    };
    let mut bad = version(&old).is_some_and(|old| old.0 != major || old.1.abs_diff(minor) > 1);
    for pod in case.control_plane_pods().into_iter().filter(|it| !ending(it)) {
        let Some(other) = runs(pod) else { continue };
        let Some((other_major, other_minor, ..)) = version(text(container(pod, other), "image")) else {
            continue;
        };
        // An API server, and one that asks it: the same minor, or one less.
        let (server, client) = match (component, other) {
            (SERVER, SERVER) => continue,
            (SERVER, _) => ((major, minor), (other_major, other_minor)),
            (_, SERVER) => ((other_major, other_minor), (major, minor)),
            _ => continue,
        };
        bad |= server.0 != client.0 || !(server.1 == client.1 || server.1 == client.1 + 1);
    }
    Some(bad)
}

pub(super) fn ds7(case: &Case) -> Said {
    let edit = case.edit().filter(|it| it.changed)?;
    let spec = &edit.new["spec"];
    let selected = spec["nodeSelector"] == json!({COMPONENTS[edit.component].label: "true"});
    let kept_away = ["affinity", "nodeName", "runtimeClassName", "topologySpreadConstraints"];
    let kept_away = kept_away.iter().any(|it| !empty(&spec[*it]));
    let scheduled = ["", "default-scheduler"].contains(&text(spec, "schedulerName"));
    let tolerant = list(spec, "tolerations").iter().any(|it| {
        let unlimited = ["key", "effect"].iter().all(|field| text(it, field).is_empty());
        text(it, "operator") == "Exists" && unlimited && it["tolerationSeconds"].is_null()
    });
    Some(!selected || kept_away || !scheduled || !tolerant)
}

/// What a Pod refers to: the place, whether it is a Secret, its name, a key, whether it may be missing, and keys that are
/// picked out of it.
#[derive(PartialEq)]
pub(super) struct Reference {
    place: String,
    pub(super) is_secret: bool,
    pub(super) name: String,
    key: Option<String>,
    optional: bool,
    items: Vec<String>,
}

pub(super) fn references(pod: &Value) -> Vec<Reference> {
    let spec = &pod["spec"];
    let mut found: Vec<(String, bool, &str, &Value)> = Vec::new();
    for (at, volume) in list(spec, "volumes").iter().enumerate() {
        of_volume(&format!("volume {at}"), volume, &mut found);
        for (nth, source) in list(&volume["projected"], "sources").iter().enumerate() {
            of_volume(&format!("volume {at} source {nth}"), source, &mut found);
        }
    }
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        for (at, container) in list(spec, kind).iter().enumerate() {
            for (nth, variable) in list(container, "env").iter().enumerate() {
                let (place, from) = (format!("{kind} {at} env {nth}"), &variable["valueFrom"]);
                found.push((place.clone(), true, "name", &from["secretKeyRef"]));
                found.push((place, false, "name", &from["configMapKeyRef"]));
            }
            for (nth, from) in list(container, "envFrom").iter().enumerate() {
                let place = format!("{kind} {at} envFrom {nth}");
                found.push((place.clone(), true, "name", &from["secretRef"]));
                found.push((place, false, "name", &from["configMapRef"]));
            }
        }
    }
    for (at, secret) in list(spec, "imagePullSecrets").iter().enumerate() {
        found.push((format!("pull {at}"), true, "name", secret));
    }
    let named = found.into_iter().filter(|(_, _, field, source)| !text(source, field).is_empty());
    named
        .map(|(place, is_secret, field, source)| Reference {
            place,
            is_secret,
            name: text(source, field).to_owned(),
            key: source["key"].as_str().map(ToOwned::to_owned),
            optional: yes(source, "optional"),
            items: list(source, "items").iter().map(|it| text(it, "key").to_owned()).collect(),
        })
        .collect()
}

fn of_volume<'a>(place: &str, volume: &'a Value, found: &mut Vec<(String, bool, &'static str, &'a Value)>) {
    let secret = &volume["secret"];
    // A volume calls it `secretName`, a projected source `name`.
    let field = if secret["secretName"].is_null() { "name" } else { "secretName" };
    found.push((format!("{place} secret"), true, field, secret));
    found.push((format!("{place} config"), false, "name", &volume["configMap"]));
    found.push((format!("{place} azure"), true, "secretName", &volume["azureFile"]));
    found.push((format!("{place} csi"), true, "name", &volume["csi"]["nodePublishSecretRef"]));
    for kind in ["cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos", "cinder"] {
        found.push((format!("{place} {kind}"), true, "name", &volume[kind]["secretRef"]));
    }
}

/// The volume of this name; null where there is none.
fn volume<'a>(pod: &'a Value, name: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    list(&pod["spec"], "volumes").iter().rfind(|it| text(it, "name") == name).unwrap_or(&NONE)
}

/// The volume that a path in a container is on, and where in that volume.
pub(super) fn volume_at<'a>(pod: &'a Value, container: &Value, path: &str) -> Option<(&'a Value, String)> {
    let mut best: Option<(&Value, String)> = None;
    for mount in list(container, "volumeMounts") {
        let directory = text(mount, "mountPath").trim_end_matches('/');
        let below = path == directory || path.starts_with(&format!("{directory}/"));
        let longer = |it: &(&Value, String)| text(it.0, "mountPath").len() <= text(mount, "mountPath").len();
        if below && best.as_ref().is_none_or(longer) {
            best = Some((mount, format!("{}{}", text(mount, "subPath"), &path[directory.len()..])));
        }
    }
    let (mount, inside) = best?;
    let volume = volume(pod, text(mount, "name"));
    volume.is_object().then(|| (volume, inside.trim_matches('/').to_owned()))
}

pub(super) fn ds10(case: &Case) -> Said {
    let edit = case.edit().filter(|it| it.changed)?;
    let (pod, container) = (&edit.new, container(&edit.new, edit.component));
    if container.is_null() {
        return None;
    }
    let line = Line::of(edit.component, container);
    let ends = [
        "-file",
        "cafile",
        "certfile",
        "keyfile",
        "kubeconfig",
        "-config",
        "client-certificate",
        "client-key",
        "certificate-authority",
    ];
    let mut bad = false;
    for flag in line.names() {
        if flag == "config" || ends.iter().any(|end| flag.ends_with(end)) {
            for path in line.values(flag).into_iter().filter(|it| it.starts_with('/')) {
                bad |= path.contains("/../") || volume_at(pod, container, path).is_none();
            }
        }
    }
    for mount in list(container, "volumeMounts") {
        let volume = volume(pod, text(mount, "name"));
        let follows = ["secret", "configMap", "projected"].iter().any(|it| volume[*it].is_object());
        bad |= follows && ["subPath", "subPathExpr"].iter().any(|it| !text(mount, it).is_empty());
    }
    for reference in references(pod) {
        let kind = if reference.is_secret { "Secret" } else { "ConfigMap" };
        let object = case.find(kind, "kube-system", &reference.name);
        let mut there = keys(object, "data");
        if !reference.is_secret {
            there.extend(keys(object, "binaryData"));
        }
        bad |= reference.optional || object.is_null();
        bad |= reference.key.iter().chain(&reference.items).any(|it| !there.contains(&it.as_str()));
    }
    Some(bad)
}

/// Fields of a Pod's spec that must stay what they are, with what the API takes for missing.
const SPEC: &str = "dnsConfig dnsPolicy=ClusterFirst hostAliases hostIPC hostPID hostUsers hostname imagePullSecrets \
     priorityClassName restartPolicy=Always securityContext serviceAccountName=default shareProcessNamespace subdomain";

/// The same of a container.
const CONTAINER: &str = "envFrom lifecycle restartPolicy securityContext stdin tty volumeDevices workingDir";

pub(super) fn ds11(case: &Case) -> Said {
    let edit = case.edit().filter(|it| it.changed)?;
    let old = edit.old.as_ref()?;
    Some(adds(edit.component, &edit.new, old) || edit.new["spec"]["hostNetwork"] != true)
}

/// Whether a Pod has anything beside its component that another one has not.
pub(super) fn adds(component: usize, new: &Value, old: &Value) -> bool {
    let mut bad = false;
    for field in SPEC.split_whitespace() {
        let (field, usual) = field.split_once('=').unwrap_or((field, ""));
        let plain = |value: &Value| if empty(value) || *value == usual { Value::Null } else { value.clone() };
        bad |= plain(&new["spec"][field]) != plain(&old["spec"][field]);
    }
    let token = |pod: &Value| pod["spec"]["automountServiceAccountToken"].clone();
    bad |= token(new) != false && token(new) != token(old);
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list(&new["spec"], kind) {
            let same =
                list(&old["spec"], kind).iter().rfind(|it| text(it, "name") == text(container, "name"));
            bad |= same.is_none_or(|old| differs(component, container, old));
        }
    }
    for added in list(&new["spec"], "volumes") {
        let before = volume(old, text(added, "name"));
        bad |= before.is_null() || filled(before) != filled(added);
    }
    bad
}

fn differs(component: usize, new: &Value, old: &Value) -> bool {
    let mut bad = false;
    for field in CONTAINER.split_whitespace() {
        bad |= new[field] != old[field] && !(empty(&new[field]) && empty(&old[field]));
    }
    let (image, before) = (text(new, "image"), text(old, "image"));
    bad |= if text(new, "name") == COMPONENTS[component].name {
        repository(image) != repository(before)
    } else {
        image != before || new["command"] != old["command"] || new["args"] != old["args"]
    };
    for variable in list(new, "env") {
        let address = text(variable, "name") == "HOST_IP"
            && variable["valueFrom"]["fieldRef"]["fieldPath"] == "status.hostIP";
        bad |= !address && !list(old, "env").contains(variable);
    }
    for mount in list(new, "volumeMounts") {
        let same = |before: &Value| {
            let fields = ["name", "mountPath", "subPath", "subPathExpr", "mountPropagation"];
            fields.iter().all(|it| text(mount, it) == text(before, it))
                && (mount["readOnly"] == true || mount["readOnly"] == before["readOnly"])
        };
        bad |= !list(old, "volumeMounts").iter().any(same);
    }
    bad
}

/// What fills a volume, without what the API adds.
fn filled(volume: &Value) -> Value {
    let mut filled = json!({});
    for (kind, source) in volume.as_object().into_iter().flatten() {
        let mut source = source.clone();
        if ["secret", "configMap", "projected"].contains(&kind.as_str())
            && let Some(fields) = source.as_object_mut()
        {
            fields.remove("defaultMode");
        }
        if kind == "hostPath" && !source.is_null() && text(&source, "type").is_empty() {
            source = json!({"path": source["path"]});
        }
        if !source.is_null() {
            filled[kind] = source;
        }
    }
    filled
}

pub(super) fn ds12(case: &Case) -> Said {
    let edit = case.edit().filter(|it| it.changed)?;
    let new = container(&edit.new, edit.component);
    if new.is_null() {
        return None;
    }
    let nothing = Value::Null;
    let before = edit.old.as_ref().unwrap_or(&nothing);
    let old = container(before, edit.component);
    let line = Line::of(edit.component, new);
    let port = match line.value("secure-port") {
        "" => COMPONENTS[edit.component].port.to_string(),
        port => port.to_owned(),
    };
    let mut bad = false;
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        bad |= new[probe] != old[probe] && !asks(probe, &new[probe], &port);
    }
    let grace = |pod: &Value| pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    let seconds = grace(&edit.new).unwrap_or(30);
    bad |= !(10..=600).contains(&seconds) && grace(before) != Some(seconds);
    let limit = |it: &Value| it["resources"]["limits"]["memory"].clone();
    if !empty(&limit(new)) && limit(new) != limit(old) {
        // One that is not lower than before kills no sooner.
        let raised = match (bytes(&limit(new)), bytes(&limit(old))) {
            (Some(after), Some(before)) => after >= before,
            _ => false,
        };
        bad |= !raised;
    }
    Some(bad)
}

/// Whether a probe asks the component, and gives it time.
fn asks(name: &str, probe: &Value, port: &str) -> bool {
    let get = &probe["httpGet"];
    let path = text(get, "path");
    let by_another_way = ["exec", "tcpSocket", "grpc"].iter().any(|it| !empty(&probe[*it]));
    let number = |field: &str, usual: u64| u128::from(probe[field].as_u64().unwrap_or(usual));
    let patience = number("periodSeconds", 10) * number("failureThreshold", 3);
    let patient = match name {
        "livenessProbe" => patience >= 20,
        "startupProbe" => patience + number("initialDelaySeconds", 0) >= 60,
        _ => true,
    };
    get.is_object()
        && !by_another_way
        && (path == "/healthz" || path == if name == "readinessProbe" { "/readyz" } else { "/livez" })
        && text(get, "scheme") == "HTTPS"
        && ["127.0.0.1", "::1", "localhost"].contains(&text(get, "host"))
        && get["port"].as_u64().is_some_and(|it| it.to_string() == port)
        && patient
}

/// A quantity of memory, as the generator writes them: with one of the binary units, or none.
fn bytes(quantity: &Value) -> Option<u64> {
    let quantity = quantity.as_str()?;
    for (unit, factor) in [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)] {
        if let Some(number) = quantity.strip_suffix(unit) {
            return Some(number.parse::<u64>().ok()? * factor);
        }
    }
    quantity.parse().ok()
}

pub(super) fn ds13(case: &Case) -> Said {
    let edit = case.edit().filter(|it| it.changed)?;
    let mut bad = false;
    for other in (0..3).filter(|it| *it != edit.component) {
        let daemonset = case.daemonset(other);
        if daemonset.is_null() {
            continue;
        }
        let status = &daemonset["status"];
        let number = |field: &str| status[field].as_i64().unwrap_or(0);
        bad |= status["observedGeneration"] != daemonset["metadata"]["generation"]
            || number("updatedNumberScheduled") != number("desiredNumberScheduled")
            || number("numberReady") != number("desiredNumberScheduled");
    }
    Some(bad || case.control_plane_nodes().into_iter().any(|node| !ready(node)))
}

pub(super) fn ds14(case: &Case) -> Said {
    case.edit().filter(|it| it.changed && it.component == SERVER && case.updates())?;
    let mut nodes = case.all("Node");
    nodes.retain(|it| label(it, COMPONENTS[SERVER].label) == Some("true"));
    let pods = case.control_plane_pods();
    let covered = |node: &Value| pods.iter().any(|it| standby(it) && node_of(it) == name_of(node));
    Some(!nodes.into_iter().all(covered))
}

pub(super) fn ds15(case: &Case) -> Said {
    case.edit().filter(|_| case.creates()).map(|it| it.old.is_none())
}

pub(super) fn ds16(case: &Case) -> Said {
    let pause = case.settings["pause"].as_i64().unwrap_or(0);
    let freezes = list(case.settings, "freeze");
    if (freezes.is_empty() && pause == 0) || !case.edit()?.changed {
        return None;
    }
    let mut bad = false;
    for freeze in freezes {
        let (from, until) = (freeze["from"].as_i64()?, freeze["until"].as_i64()?);
        bad |= from <= NOW && NOW < until;
    }
    if pause > 0 && case.updates() {
        let mut last = None;
        for entry in list(&case.old()["metadata"], "managedFields") {
            if text(entry, "subresource").is_empty() {
                last = last.max(seconds(text(entry, "time")));
            }
        }
        bad |= last.is_none_or(|last| NOW - last < pause);
    }
    Some(bad)
}

/// A time of the form `2027-01-15T08:00:00Z`, in seconds since 1970, day by day.
fn seconds(time: &str) -> Option<i64> {
    let numbers: Vec<&str> = time.strip_suffix('Z')?.split(['-', 'T', ':']).collect();
    let numbers: Vec<i64> = numbers.iter().filter_map(|it| it.parse().ok()).collect();
    let [year, month, day, hour, minute, second] = numbers.as_slice() else { return None };
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut days: i64 = (1970..*year).map(|it| if leap(it) { 366 } else { 365 }).sum();
    for before in 1..*month {
        days += match before {
            4 | 6 | 9 | 11 => 30,
            2 => 28 + i64::from(leap(*year)),
            _ => 31,
        };
    }
    Some((days + day - 1) * 86_400 + hour * 3_600 + minute * 60 + second)
}

pub(super) fn cr1(case: &Case) -> Said {
    if case.resource() != "apps/controllerrevisions" || case.namespace() != "kube-system" {
        return None;
    }
    let of = |object: &Value| {
        let owners = list(&object["metadata"], "ownerReferences");
        let by_owner = owners
            .iter()
            .find_map(|owner| COMPONENTS.iter().position(|it| it.daemonset == text(owner, "name")));
        let by_label = COMPONENTS.iter().position(|it| label(object, "k8s-app") == Some(it.daemonset));
        let by_name =
            COMPONENTS.iter().position(|it| name_of(object).starts_with(&format!("{}-", it.daemonset)));
        by_owner.or(by_label).or(by_name)
    };
    let Some(component) = of(case.object()).or(of(case.old())) else { return Some(false) };
    let daemonset = case.daemonset(component);
    let collected =
        case.deletes() && case.by("garbage-collector") && (daemonset.is_null() || ending(daemonset));
    Some(!collected && !case.by("daemon-set-controller"))
}
