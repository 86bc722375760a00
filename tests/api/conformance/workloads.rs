//! DaemonSets of the control plane: every way to edit one.

use anyhow::Result;
use serde_json::{Value, json};

use super::call::{Call, Proxy};
use super::case::{Cases, NOBODY, label, object};
use super::seed::{DAEMONSETS, MANAGER, SCHEDULER, SERVER, SYSTEM, TEAM};

const CONTROLLER: &str = "system:serviceaccount:kube-system:daemon-set-controller";
const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
const REVISIONS: &str = "/apis/apps/v1/namespaces/kube-system/controllerrevisions";
const LABEL: &str = "a label more";

/// An API server's DaemonSet, and edits of it.
struct Server(Value);

impl Server {
    fn container(&self) -> &Value {
        &self.0["spec"]["template"]["spec"]["containers"][0]
    }

    fn command(&self) -> Vec<String> {
        let all = self.container()["command"].as_array().into_iter().flatten();
        all.filter_map(|it| it.as_str().map(ToOwned::to_owned)).collect()
    }

    /// With a command line that `change` made of what there is.
    fn with(&self, change: impl FnOnce(&mut Vec<String>)) -> Call {
        let mut command = self.command();
        change(&mut command);
        container(&json!({"command": command}))
    }

    /// With an argument in the place of the one that begins like it.
    fn instead(&self, begin: &str, arguments: &[&str]) -> Call {
        self.with(|command| {
            let at = command.iter().position(|it| it.starts_with(begin)).unwrap_or(command.len());
            command.splice(at..=at, arguments.iter().map(|it| (*it).to_owned()));
        })
    }

    fn changed(&self, change: impl FnOnce(&mut Value)) -> Value {
        let mut object = self.0.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata
                .retain(|name, _| ["name", "namespace", "labels", "annotations"].contains(&name.as_str()));
        }
        change(&mut object);
        object
    }
}

/// A change of the API server's container.
fn container(change: &Value) -> Call {
    let mut container = change.clone();
    container["name"] = json!("kube-apiserver");
    pod(&json!({"containers": [container]}))
}

/// A change of the template's Pod.
fn pod(spec: &Value) -> Call {
    Call::strategic(SERVER, &json!({"spec": {"template": {"spec": spec}}}))
}

pub(crate) fn cases(proxy: &Proxy, cases: &mut Cases) -> Result<()> {
    let server = Server(proxy.object(SERVER)?);
    anyhow::ensure!(server.command().len() > 10, "the API server's DaemonSet has no command: {}", server.0);
    subresources(proxy, cases)?;
    deletion(&server, cases);
    metadata(cases);
    kinds_of_edit(&server, cases);
    revisions(cases);
    labels(cases);
    flags(&server, cases);
    injected(&server, cases);
    Ok(())
}

fn subresources(proxy: &Proxy, cases: &mut Cases) -> Result<()> {
    let status = format!("{SERVER}/status");
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "mine", "uid": "1"}]);
    let ready = Call::merge(&status, &json!({"status": {"numberReady": 2}})).by(CONTROLLER);
    let mut whole = proxy.object(SERVER)?;
    whole["metadata"]["labels"]["k8s-app"] = json!("mine");
    if let Some(metadata) = whole["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    cases
        .of(1)
        .add(
            "`daemonsets/status`: a label by merge patch",
            "DS-2",
            Call::merge(&status, &json!({"metadata": {"labels": {"k8s-app": "mine"}}})),
            "its controller's count",
            ready.clone(),
        )
        .add(
            "`daemonsets/status`: a label by PUT",
            "DS-2",
            Call::put(&status, &whole),
            "its controller's count",
            ready.clone(),
        )
        .add(
            "`daemonsets/status`: an owner by JSON patch",
            "DS-2",
            Call::json(&status, &json!([{"op": "add", "path": "/metadata/ownerReferences", "value": owner}])),
            "its controller's count",
            ready.clone(),
        )
        .add(
            "`daemonsets/status`: a count by somebody else",
            "DS-2",
            Call::merge(&status, &json!({"status": {"desiredNumberScheduled": 0}})),
            "its controller's count",
            ready.clone(),
        )
        .add(
            "`daemonsets/status`: an owner, as its controller",
            "DS-2",
            Call::merge(&status, &json!({"metadata": {"ownerReferences": owner}})).by(CONTROLLER),
            "its controller's count",
            ready,
        )
        .but(super::case::Case::by_policy);
    for (name, method) in [("exec", "POST"), ("attach", "POST"), ("portforward", "POST"), ("proxy", "GET")] {
        let connect = |path: &str| {
            let query = match name {
                "exec" => "?command=sh&stdout=true",
                "attach" => "?stdout=true",
                "portforward" => "?ports=80",
                _ => "/",
            };
            let mut call = Call::get(&format!("{path}/{name}{query}"));
            call.method = method;
            call
        };
        cases
            .add(
                &format!("`pods/{name}` of an API server"),
                "PO-1",
                connect(&format!("{SYSTEM}/pods/self-hosted-kube-apiserver-abcd1")),
                "of another Pod",
                connect(&format!("{TEAM}/pods/web")),
            )
            .but(|it| it.after(NOBODY));
        if name == "exec" {
            for pod in ["etcd-cp1", "control-plane-standby-a-cp1"] {
                cases
                    .add(
                        &format!("`pods/exec` of {pod}"),
                        "PO-1",
                        connect(&format!("{SYSTEM}/pods/{pod}")),
                        "of another Pod",
                        connect(&format!("{TEAM}/pods/web")),
                    )
                    .but(|it| it.after(NOBODY));
            }
            cases
                .add(
                    "`pods/exec` of the guard",
                    "PO-1",
                    connect("/api/v1/namespaces/selfhost-guard/pods/selfhost-guard-x1"),
                    "of another Pod",
                    connect(&format!("{TEAM}/pods/web")),
                )
                .but(|it| it.after(NOBODY));
        }
    }
    Ok(())
}

fn deletion(server: &Server, cases: &mut Cases) {
    let nowhere = "of one that runs nowhere";
    let collection = |app: &str| Call::delete(&format!("{DAEMONSETS}?labelSelector=k8s-app%3D{app}"));
    cases
        .of(2)
        .add(
            "`deletecollection` of DaemonSets",
            "DS-1",
            collection("self-hosted-kube-apiserver"),
            "of others",
            collection("other"),
        )
        .of(3)
        .add("DELETE of a DaemonSet", "DS-1", Call::delete(SERVER), nowhere, Call::delete(SCHEDULER))
        .add(
            "DELETE of a DaemonSet, its Pods kept",
            "DS-1",
            Call::delete(&format!("{SERVER}?propagationPolicy=Orphan")),
            nowhere,
            Call::delete(&format!("{SCHEDULER}?propagationPolicy=Orphan")),
        );
    let mut other = server.changed(|it| {
        it["spec"]["template"]["spec"]["containers"][0]["image"] =
            json!("example.org/kube-apiserver:v1.36.3");
    });
    let same = server.changed(|_| {});
    cases
        .add(
            "CREATE of one with another image",
            "DS-11",
            Call::post(DAEMONSETS, &other),
            "of what runs",
            Call::post(DAEMONSETS, &same),
        )
        .but(|it| it.after(&[409]));
    other = server.changed(|it| {
        if let Some(command) = it["spec"]["template"]["spec"]["containers"][0]["command"].as_array_mut() {
            command.retain(|it| !it.as_str().is_some_and(|it| it.starts_with("--authorization-mode")));
        }
    });
    cases
        .add(
            "CREATE of one with a flag less",
            "DS-8",
            Call::post(DAEMONSETS, &other),
            "of what runs",
            Call::post(DAEMONSETS, &same),
        )
        .but(|it| it.after(&[409]))
        .of(4)
        .add(
            "DELETE of a DaemonSet by the garbage collector",
            "DS-1",
            Call::delete(SERVER).by(COLLECTOR),
            nowhere,
            Call::delete(SCHEDULER).by(COLLECTOR),
        )
        .of(19)
        .add(
            "DELETE of a DaemonSet as the API server",
            "DS-1",
            Call::delete(SERVER).by("system:apiserver"),
            nowhere,
            Call::delete(SCHEDULER).by("system:apiserver"),
        )
        .add(
            "an edit of a DaemonSet as its controller",
            "DS-5",
            Call::merge(SERVER, &json!({"spec": {"updateStrategy": {"type": "RollingUpdate"}}}))
                .by(CONTROLLER),
            LABEL,
            label(SERVER).by(CONTROLLER),
        );
}

fn metadata(cases: &mut Cases) {
    let owners = |path: &str| {
        let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "mine", "uid": "1"}]);
        Call::merge(path, &json!({"metadata": {"ownerReferences": owner}}))
    };
    let holds = |path: &str| Call::merge(path, &json!({"metadata": {"finalizers": ["example.org/mine"]}}));
    let (secret, map, pod) = (
        format!("{SYSTEM}/secrets/ca"),
        format!("{SYSTEM}/configmaps/apiserver-config"),
        format!("{SYSTEM}/pods/self-hosted-kube-apiserver-abcd1"),
    );
    cases.of(4);
    for (what, path, rule) in [
        ("a DaemonSet", SERVER, "DS-3"),
        ("a Secret", &secret, "DS-3"),
        ("a ConfigMap", &map, "DS-3"),
        ("a Pod", &pod, "PO-2"),
    ] {
        let beside = if what == "a Pod" { "an annotation more" } else { LABEL };
        let good = if what == "a Pod" {
            Call::merge(path, &json!({"metadata": {"annotations": {"example.org/team": "a"}}}))
        } else {
            label(path)
        };
        cases.add(&format!("an owner of {what}"), rule, owners(path), beside, good);
    }
    cases
        .of(5)
        .add("a finalizer of a DaemonSet", "DS-3", holds(SERVER), LABEL, label(SERVER))
        .add("a finalizer of a Secret", "DS-3", holds(&secret), LABEL, label(&secret))
        .of(6)
        .add(
            "an edit of a DaemonSet that is being deleted",
            "DS-5",
            Call::merge(SCHEDULER, &json!({"spec": {"updateStrategy": {"type": "RollingUpdate"}}})),
            LABEL,
            label(SCHEDULER),
        );
}

fn kinds_of_edit(server: &Server, cases: &mut Cases) {
    let flag = "--authorization-mode=AlwaysAllow";
    let at =
        server.command().iter().position(|it| it.starts_with("--authorization-mode=")).unwrap_or_default();
    let path = format!("/spec/template/spec/containers/0/command/{at}");
    let mut command = server.command();
    flag.clone_into(&mut command[at]);
    let whole =
        server.changed(|it| it["spec"]["template"]["spec"]["containers"][0]["command"] = json!(command));
    let mut bare = whole.clone();
    bare["metadata"]["managedFields"] = json!([{}]);
    let mut containers = server.container().clone();
    containers["command"] = json!(command);
    let good = server.changed(|it| it["metadata"]["labels"]["example.org/team"] = json!("a"));
    let applied = |content: &Value| {
        let mut object = content.clone();
        object["apiVersion"] = json!("apps/v1");
        object["kind"] = json!("DaemonSet");
        object
    };
    let apply = json!({"metadata": {"name": "self-hosted-kube-apiserver"},
        "spec": {"template": {"spec": {"containers": [{"name": "kube-apiserver", "command": command}]}}}});
    let apply_good =
        json!({"metadata": {"name": "self-hosted-kube-apiserver", "labels": {"example.org/team": "a"}}});
    cases
        .of(8)
        .add(
            "a request in YAML",
            "DS-8",
            Call::put(SERVER, &whole).text("application/yaml", &whole.to_string()),
            LABEL,
            Call::put(SERVER, &good).text("application/yaml", &good.to_string()),
        )
        .of(9)
        .add(
            "JSON patch",
            "DS-8",
            Call::json(SERVER, &json!([{"op": "replace", "path": path, "value": flag}])),
            LABEL,
            Call::json(SERVER, &json!([{"op": "add", "path": "/metadata/labels/example.org~1team", "value": "a"}])),
        )
        .add(
            "merge patch",
            "DS-8",
            Call::merge(SERVER, &json!({"spec": {"template": {"spec": {"containers": [containers]}}}})),
            LABEL,
            label(SERVER),
        )
        .add(
            "strategic merge patch",
            "DS-8",
            container(&json!({"command": command})),
            LABEL,
            Call::strategic(SERVER, &json!({"metadata": {"labels": {"example.org/team": "a"}}})),
        )
        .add(
            "server-side apply, by force",
            "DS-8",
            Call::apply(SERVER, &applied(&apply)),
            LABEL,
            Call::apply(SERVER, &applied(&apply_good)),
        )
        .add("PUT", "DS-8", Call::put(SERVER, &whole), LABEL, Call::put(SERVER, &good))
        .add("PUT without managed fields", "DS-8", Call::put(SERVER, &bare), LABEL, Call::put(SERVER, &good))
        .add(
            "a merge patch with a field twice",
            "DS-5",
            Call::merge(SERVER, &Value::Null).text(
                "application/merge-patch+json",
                r#"{"spec": {"updateStrategy": {"type": "OnDelete"}, "updateStrategy": {"type": "RollingUpdate"}}}"#,
            ),
            "a field once",
            Call::merge(SERVER, &json!({"spec": {"updateStrategy": {"type": "OnDelete"}}})),
        )
        .add(
            "no update strategy at all",
            "DS-5",
            Call::json(SERVER, &json!([{"op": "remove", "path": "/spec/updateStrategy"}])),
            LABEL,
            label(SERVER),
        );
}

fn revisions(cases: &mut Cases) {
    let own = format!("{REVISIONS}/self-hosted-kube-apiserver-5d8c");
    let revision = |name: &str, labels: &Value| {
        let content =
            json!({"revision": 9, "metadata": {"labels": labels}, "data": {"spec": {"template": {}}}});
        object("apps/v1/ControllerRevision", "kube-system", name, &content)
    };
    let by_name = revision("self-hosted-kube-apiserver-1", &json!({}));
    let by_label = revision("mine", &json!({"k8s-app": "self-hosted-kube-apiserver"}));
    let others = Call::post(REVISIONS, &revision("mine", &json!({})));
    cases
        .of(10)
        .add(
            "CREATE of a revision, by its name",
            "CR-1",
            Call::post(REVISIONS, &by_name),
            "of another",
            others.clone(),
        )
        .add(
            "CREATE of a revision, by its label",
            "CR-1",
            Call::post(REVISIONS, &by_label),
            "of another",
            others.clone(),
        )
        .add(
            "CREATE of a revision with a generated name",
            "CR-1",
            Call::post(REVISIONS, &{
                let mut object = by_name.clone();
                object["metadata"] = json!({"generateName": "self-hosted-kube-apiserver-"});
                object
            }),
            "of another",
            others,
        )
        .add(
            "an edit of a revision",
            "CR-1",
            Call::merge(&own, &json!({"revision": 7})),
            "by its controller",
            Call::merge(&own, &json!({"revision": 7})).by(CONTROLLER),
        )
        .add(
            "DELETE of a revision",
            "CR-1",
            Call::delete(&own),
            "by its controller",
            Call::delete(&own).by(CONTROLLER),
        );
}

fn labels(cases: &mut Cases) {
    let template = |labels: &Value| json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "example.org/a:v1"}]}});
    let workload = |labels: &Value| {
        let content = json!({"spec": {"selector": {"matchLabels": labels}, "template": template(labels)}});
        Call::post(
            "/apis/apps/v1/namespaces/kube-system/deployments",
            &object("apps/v1/Deployment", "kube-system", "mine", &content),
        )
    };
    let own = json!({"metadata": {"labels": {"k8s-app": "self-hosted-kube-apiserver"}}});
    let mut pod = object("v1/Pod", "kube-system", "mine", &own);
    pod["spec"] = json!({"nodeName": "w1", "containers": [{"name": "a", "image": "example.org/a:v1"}]});
    let mut generated = pod.clone();
    generated["metadata"] =
        json!({"generateName": "self-hosted-kube-apiserver-", "labels": own["metadata"]["labels"]});
    let mut other = pod.clone();
    other["metadata"] = json!({"generateName": "mine-"});
    let running = format!("{SYSTEM}/pods/self-hosted-kube-apiserver-abcd1");
    let pods = format!("{SYSTEM}/pods");
    cases
        .of(2)
        .add(
            "a Pod with a generated name",
            "PO-4",
            Call::post(&pods, &generated),
            "another Pod",
            Call::post(&pods, &other),
        )
        .of(11)
        .add(
            "a Pod with a DaemonSet's label",
            "PO-4",
            Call::post(&pods, &pod),
            "another Pod",
            Call::post(&pods, &other),
        )
        .add(
            "a Deployment with a DaemonSet's labels",
            "DS-4",
            workload(&json!({"k8s-app": "self-hosted-kube-apiserver"})),
            "with its own",
            workload(&json!({"app": "mine"})),
        )
        .add(
            "a Deployment that selects by tier",
            "DS-4",
            workload(&json!({"tier": "control-plane"})),
            "with its own",
            workload(&json!({"app": "mine"})),
        )
        .add(
            "a template without the component's label",
            "DS-4",
            Call::merge(
                SERVER,
                &json!({"spec": {"template": {"metadata": {"labels": {"component": null}}}}}),
            ),
            LABEL,
            label(SERVER),
        )
        .add(
            "a DaemonSet without its label",
            "DS-3",
            Call::merge(SERVER, &json!({"metadata": {"labels": {"k8s-app": null}}})),
            LABEL,
            label(SERVER),
        )
        .add(
            "a Pod without its label",
            "PO-2",
            Call::merge(&running, &json!({"metadata": {"labels": {"k8s-app": null}}})),
            "an annotation more",
            Call::merge(&running, &json!({"metadata": {"annotations": {"example.org/team": "a"}}})),
        )
        .add(
            "an opt-out label beside the edit",
            "DS-5",
            Call::merge(
                SERVER,
                &json!({"metadata": {"labels": {"admission.example.org/ignore": "true"}},
                "spec": {"updateStrategy": {"type": "RollingUpdate"}}}),
            ),
            "the label alone",
            Call::merge(SERVER, &json!({"metadata": {"labels": {"admission.example.org/ignore": "true"}}})),
        );
}

fn flags(server: &Server, cases: &mut Cases) {
    let mode = "--authorization-mode=";
    let patch = container(&json!({"image": "registry.k8s.io/kube-apiserver:v1.36.4"}));
    let good = "a patch version more";
    let added = |flag: &str| server.with(|command| command.push(flag.to_owned()));
    let mut all: Vec<(&str, &'static str, Call)> = vec![
        ("a flag that is repeated", "DS-8", added("--authorization-mode=AlwaysAllow")),
        (
            "a flag apart from its value",
            "DS-8",
            server.instead(mode, &["--authorization-mode", "AlwaysAllow"]),
        ),
        ("a flag with an underscore", "DS-8", server.instead(mode, &["--authorization_mode=AlwaysAllow"])),
        (
            "a flag that swallows the next one",
            "DS-8",
            server.instead(mode, &["--audit-log-path", "--authorization-mode=Node,RBAC"]),
        ),
        ("a space after a flag's value", "DS-8", server.instead(mode, &["--authorization-mode=Node,RBAC "])),
        (
            "a flag in another alphabet",
            "DS-8",
            server.instead(mode, &["--\u{430}uthorization-mode=Node,RBAC"]),
        ),
        (
            "a file in the place of a flag",
            "CM-2",
            server.instead(mode, &["--authorization-config=/etc/config/weak.yaml"]),
        ),
        (
            "a file that is not there",
            "CM-2",
            server.instead("--audit-policy-file=", &["--audit-policy-file=/etc/config/missing.yaml"]),
        ),
        (
            "another authority under a flag",
            "SEC-6",
            server.instead("--client-ca-file=", &["--client-ca-file=/etc/kubernetes/pki/mine.crt"]),
        ),
        ("admission turned off", "DS-8", added("--disable-admission-plugins=ValidatingAdmissionWebhook")),
        (
            "its configuration left out",
            "DS-8",
            server.with(|it| it.retain(|it| !it.starts_with("--admission-control-config-file"))),
        ),
        ("a shell", "DS-8", container(&json!({"command": ["sh", "-c", server.command().join(" ")]}))),
        ("the command as arguments", "DS-8", container(&json!({"command": null, "args": server.command()}))),
        (
            "a variable of a Secret in a flag",
            "DS-8",
            container(&json!({
                "command": server.command().into_iter().map(|it| if it.starts_with(mode) { "--authorization-mode=$(MODE)".to_owned() } else { it }).collect::<Vec<_>>(),
                "env": [{"name": "MODE", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "a"}}}]})),
        ),
        (
            "an image without a version",
            "DS-6",
            container(&json!({"image": "registry.k8s.io/kube-apiserver:latest"})),
        ),
        (
            "an image by digest alone",
            "DS-6",
            container(&json!({"image": format!("registry.k8s.io/kube-apiserver@sha256:{}", "0".repeat(64))})),
        ),
        (
            "two minor versions at once",
            "DS-6",
            container(&json!({"image": "registry.k8s.io/kube-apiserver:v1.38.0"})),
        ),
        (
            "another program's image",
            "DS-6",
            container(&json!({"image": "registry.k8s.io/kube-proxy:v1.36.3"})),
        ),
        ("another registry", "DS-11", container(&json!({"image": "example.org/kube-apiserver:v1.36.3"}))),
    ];
    cases.of(14);
    for (form, rule, attack) in all.drain(..) {
        cases.add(form, rule, attack, good, patch.clone());
    }
    let runs_less = json!({"spec": {"template": {"spec": {"nodeSelector": {"disk": "fast"}}}}});
    cases
        .of(26)
        .add("a DaemonSet's node selector", "DS-7", Call::merge(SERVER, &runs_less), LABEL, label(SERVER))
        .add(
            "a DaemonSet's tolerations",
            "DS-7",
            Call::merge(MANAGER, &json!({"spec": {"template": {"spec": {"tolerations": null}}}})),
            LABEL,
            label(MANAGER),
        );
}

fn injected(server: &Server, cases: &mut Cases) {
    let other = json!({"name": "mine", "image": "example.org/a:v1"});
    let volume = |source: &Value| {
        let mut volume = source.clone();
        volume["name"] = json!("k8s-certs");
        json!({"volumes": [volume]})
    };
    let mut sources = server.0["spec"]["template"]["spec"]["volumes"][0]["projected"]["sources"].clone();
    sources[0]["secret"]["optional"] = json!(true);
    cases
        .of(14)
        .add("a container beside the component", "DS-11", pod(&json!({"containers": [other]})), LABEL, label(SERVER))
        .add("an init container", "DS-11", pod(&json!({"initContainers": [other]})), LABEL, label(SERVER))
        .add(
            "a hook",
            "DS-11",
            container(&json!({"lifecycle": {"postStart": {"exec": {"command": ["sh"]}}}})),
            LABEL,
            label(SERVER),
        )
        .add(
            "a variable of the Go runtime",
            "DS-11",
            container(&json!({"env": [{"name": "GODEBUG", "value": "x509negativeserial=1"}]})),
            LABEL,
            label(SERVER),
        )
        .of(23)
        .add(
            "the whole disk in an API server's Pod",
            "DS-11",
            pod(&json!({"volumes": [{"name": "mine", "hostPath": {"path": "/"}}]})),
            LABEL,
            label(SERVER),
        )
        .of(31)
        .add("a runtime class", "DS-7", pod(&json!({"runtimeClassName": "mine"})), LABEL, label(SERVER))
        .add("a priority class", "DS-11", pod(&json!({"priorityClassName": "spare"})), LABEL, label(SERVER))
        .of(32)
        .add("a file that nothing mounts", "DS-10", server.with(|it| it.push("--egress-selector-config-file=/etc/egress.yaml".to_owned())), LABEL, label(SERVER))
        .add(
            "a Secret that may be missing",
            "DS-10",
            pod(&volume(&json!({"projected": {"sources": sources}}))),
            LABEL,
            label(SERVER),
        )
        .add(
            "a mount that never follows a rotation",
            "DS-10",
            container(&json!({"volumeMounts": [{"name": "config", "mountPath": "/etc/config", "subPath": "audit.yaml"}]})),
            LABEL,
            label(SERVER),
        )
        .of(12)
        .add(
            "an edit with 200 KiB of annotations",
            "DS-5",
            Call::merge(SERVER, &json!({"metadata": {"annotations": {"example.org/padding": "x".repeat(200 * 1024)}},
                "spec": {"updateStrategy": {"type": "RollingUpdate"}}})),
            "the annotations alone",
            Call::merge(SERVER, &json!({"metadata": {"annotations": {"example.org/padding": "x".repeat(200 * 1024)}}})),
        );
}
