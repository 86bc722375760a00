//! Observations of an API server in memory.

use http::StatusCode;
use selfhost_core::component::{Component, Hosting};
use selfhost_core::emulation::Running;
use selfhost_core::finding::Code;
use selfhost_core::version::KubeVersion;
use serde_json::{Value, json};

use super::*;
use crate::client::testing::{Answer, fixture, list, mock, refuse};
use crate::inventory::testing::{self, now};
use crate::inventory::{Place, certificates, credentials};
use crate::status::Report;

const PODS: &str = "/api/v1/namespaces/kube-system/pods";
const NODES: &str = "/api/v1/nodes";
const DAEMONSETS: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets";

fn json_of(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}

/// A self-hosted cluster of one control-plane node and many workers.
fn large(n_workers: usize) -> impl Fn(&str) -> Answer + Send + 'static {
    move |path| {
        let inventory = testing::self_hosted_cluster(&["cp-1"], "v1.37.2");
        match path {
            "/version" => version("v1.37.2"),
            NODES => {
                let mut nodes = vec![json_of(&testing::node("cp-1", "v1.37.2"))];
                nodes.extend((0..n_workers).map(|n| {
                    let mut node = json_of(&testing::node(&format!("worker-{n}"), "v1.37.2"));
                    node["metadata"]["labels"] = json!({});
                    node
                }));
                list("NodeList", &nodes)
            }
            PODS => {
                let mut pods: Vec<Value> = inventory.instances.iter().map(|it| json_of(&it.pod)).collect();
                pods.extend((0..n_workers).map(|n| {
                    json!({"metadata": {"name": format!("kube-proxy-{n}")}, "spec": {"containers": [{"name": "kube-proxy"}]}})
                }));
                list("PodList", &pods)
            }
            DAEMONSETS => {
                list("DaemonSetList", &inventory.daemonsets.values().map(json_of).collect::<Vec<_>>())
            }
            _ => refuse(StatusCode::NOT_FOUND, "NotFound", "not found"),
        }
    }
}

fn version(git: &str) -> Answer {
    let body = json!({
        "major": "1", "minor": "37", "gitVersion": git, "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": ""
    });
    (StatusCode::OK, body.to_string())
}

fn forbidden(what: &str) -> Answer {
    refuse(
        StatusCode::FORBIDDEN,
        "Forbidden",
        &format!("{what} is forbidden: User \"ann\" cannot list resource \"{what}\" in API group \"\""),
    )
}

fn messages(inventory: &Inventory) -> Vec<String> {
    inventory.findings.iter().map(|it| format!("{} {}: {}", it.code, it.subject, it.message)).collect()
}

#[tokio::test]
async fn the_number_of_calls_does_not_depend_on_the_size() {
    let mut seen = Vec::new();
    for n_workers in [0, 1_000] {
        let (client, log) = mock(large(n_workers));
        let inventory = observe(&client, now()).await.unwrap();
        assert_eq!(inventory.kubelets.len(), n_workers + 1);
        assert_eq!(inventory.instances.len(), 3);
        seen.push(log.sorted());
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(
        seen[0],
        [
            "GET /api/v1/namespaces/default/services/kubernetes",
            "GET /api/v1/namespaces/kube-system/configmaps/kubeadm-config",
            "GET /api/v1/namespaces/kube-system/configmaps/selfhost-operation",
            "GET /api/v1/namespaces/kube-system/pods?",
            "GET /api/v1/nodes?",
            "GET /apis/apps/v1/namespaces/kube-system/daemonsets?",
            "GET /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/selfhost-operation",
            "GET /version",
        ]
    );
}

#[tokio::test]
async fn what_emulates_is_seen_as_what_it_behaves_like() {
    let plain = large(0);
    let (client, _) = mock(move |path| {
        let cluster = testing::self_hosted_cluster(&["cp-1"], "v1.37.2");
        let inventory = testing::emulating(cluster, "v1.37.2", "1.36");
        match path {
            PODS => {
                list("PodList", &inventory.instances.iter().map(|it| json_of(&it.pod)).collect::<Vec<_>>())
            }
            DAEMONSETS => {
                list("DaemonSetList", &inventory.daemonsets.values().map(json_of).collect::<Vec<_>>())
            }
            _ => plain(path),
        }
    });
    let report = Report::new(&observe(&client, now()).await.unwrap(), "https://host");
    assert_eq!(report.versions.iter().map(ToString::to_string).collect::<Vec<_>>(), ["v1.37.2 (as 1.36)"]);
    // The node's kubelet is of v1.37.2.
    let skew = report.findings.iter().find(|it| it.code == Code::KubeletSkew).unwrap();
    assert_eq!(skew.message, "v1.37.2 is newer than kube-apiserver v1.37.2 (as 1.36)");
}

#[tokio::test]
async fn a_missing_right_is_a_finding_that_names_it() {
    let whole = large(2);
    let (client, _) = mock(move |path| if path == NODES { forbidden("nodes") } else { whole(path) });
    let inventory = observe(&client, now()).await.unwrap();
    assert_eq!(
        messages(&inventory),
        [
            "SH0001 nodes: cannot be listed: forbidden for user \"ann\"",
            "SH0001 service default/kubernetes: cannot be read: not found"
        ]
    );
    assert!(inventory.findings[0].hint.as_ref().unwrap().contains("docs/reference/rbac.md"));
    assert!(inventory.unread.contains(&Part::Nodes));
    // The rest is there: Pods tell on which nodes the control plane is.
    assert_eq!(inventory.control_plane.keys().collect::<Vec<_>>(), ["cp-1"]);
    let report = Report::new(&inventory, "https://host");
    assert_eq!((report.hosting, report.nodes), (Hosting::SelfHosted, None));
}

#[tokio::test]
async fn without_any_right_nothing_is_known_and_nothing_is_missing() {
    let (client, _) =
        mock(|path| if path == "/version" { version("v1.37.2") } else { forbidden("everything") });
    let inventory = observe(&client, now()).await.unwrap();
    assert_eq!(inventory.findings.len(), 7);
    assert!(inventory.findings.iter().all(|finding| finding.code == Code::Unreadable));
    let report = Report::new(&inventory, "https://host");
    assert_eq!(report.hosting, Hosting::Unknown);
    assert_eq!(report.findings.len(), 7);
    assert!(report.rows.iter().all(|row| row.hosting == Hosting::Unknown));
}

#[tokio::test]
async fn one_object_that_does_not_parse_spoils_itself_alone() {
    let whole = large(0);
    let (client, _) = mock(move |path| {
        let (status, body) = whole(path);
        if path != PODS {
            return (status, body);
        }
        let mut pods: Value = serde_json::from_str(&body).unwrap();
        let bad =
            json!({"metadata": {"name": "bad", "namespace": "kube-system"}, "spec": {"containers": "none"}});
        pods["items"].as_array_mut().unwrap().push(bad);
        (status, pods.to_string())
    });
    let inventory = observe(&client, now()).await.unwrap();
    assert_eq!(inventory.instances.len(), 3);
    let bad = &messages(&inventory)[0];
    assert!(bad.starts_with("SH0001 pod kube-system/bad: is not understood: "), "{bad}");
}

#[tokio::test]
async fn an_answer_that_is_no_kubernetes_is_a_finding() {
    let whole = large(0);
    let (client, _) =
        mock(
            move |path| {
                if path == DAEMONSETS { (StatusCode::OK, "<html>proxy</html>".into()) } else { whole(path) }
            },
        );
    let inventory = observe(&client, now()).await.unwrap();
    assert!(inventory.unread.contains(&Part::DaemonSets));
    assert_eq!(inventory.instances.len(), 3);
}

#[tokio::test]
async fn a_user_whom_nobody_knows_sees_nothing() {
    let (client, _) = mock(|_| refuse(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized"));
    let error = observe(&client, now()).await.unwrap_err();
    assert_eq!(Trouble::of(&error), Trouble::Unauthorized);
}

#[tokio::test]
async fn a_managed_cluster_is_no_fault() {
    let (client, _) = mock(|path| match path {
        "/version" => version("v1.37.2-gke.100"),
        NODES => {
            let mut node = json_of(&testing::node("worker-1", "v1.37.2"));
            node["metadata"]["labels"] = json!({});
            list("NodeList", &[node])
        }
        PODS => list(
            "PodList",
            &[json!({"metadata": {"name": "kube-dns"}, "spec": {"containers": [{"name": "dns"}]}})],
        ),
        DAEMONSETS => list("DaemonSetList", &[]),
        "/api/v1/namespaces/default/services/kubernetes" => {
            (StatusCode::OK, json!({"metadata": {}, "spec": {"clusterIP": "10.96.0.1"}}).to_string())
        }
        _ => refuse(StatusCode::NOT_FOUND, "NotFound", "not found"),
    });
    let inventory = observe(&client, now()).await.unwrap();
    let report = Report::new(&inventory, "https://host");
    assert_eq!(report.hosting, Hosting::External);
    assert_eq!(report.findings.iter().map(|it| it.code).collect::<Vec<_>>(), [Code::NoControlPlane]);
    assert_eq!(inventory.service_ip, Some("10.96.0.1".parse().unwrap()));
}

#[tokio::test]
async fn kubeadm_of_the_v1_11_era() {
    for (name, source) in
        [("v1.11/hostpath", credentials::Source::HostPath), ("v1.11/secrets", credentials::Source::Secret)]
    {
        let (client, _) = mock(fixture(name));
        let mut inventory = observe(&client, now()).await.unwrap();
        // Groups and objects that did not exist then are absent, not unreadable.
        assert_eq!(messages(&inventory), Vec::<String>::new(), "{name}");
        assert_eq!(inventory.operation, None);
        assert_eq!(inventory.daemonsets.keys().copied().collect::<Vec<_>>(), Component::ALL);
        let seen: Vec<_> =
            inventory.instances.iter().map(|it| (it.component, it.node.as_str(), it.hosting)).collect();
        assert_eq!(seen, Component::ALL.map(|component| (component, "kube-master-1", Hosting::SelfHosted)));
        assert!(
            inventory.instances.iter().all(|it| credentials::source(&it.pod, it.component.name()) == source)
        );
        assert_eq!(inventory.control_plane.keys().collect::<Vec<_>>(), ["kube-master-1"]);
        assert_eq!(inventory.etcd.keys().collect::<Vec<_>>(), ["kube-master-1"]);

        inventory.taken_at = "2018-08-01T00:00:00Z".parse().unwrap();
        inventory.certificates = certificates::in_secrets(&inventory, &client).await;
        let report = Report::new(&inventory, "https://host");
        assert_eq!(report.versions, [Running::from("v1.10.13".parse::<KubeVersion>().unwrap())]);
        let codes: Vec<Code> = report.findings.iter().map(|it| it.code).collect();
        let expected = [
            Code::RollsByItself,
            Code::RollsByItself,
            Code::RollsByItself,
            Code::NoStandby,
            Code::KubeadmSelfHosted,
        ];
        assert_eq!(codes, expected, "{name}");
        assert_eq!(report.next.unwrap().command, "kubectl selfhost upgrade");
    }
}

#[tokio::test]
async fn certificates_in_secrets_are_found_and_judged() {
    let (client, log) = mock(fixture("v1.11/secrets"));
    let mut inventory = observe(&client, now()).await.unwrap();
    let before = log.sorted().len();
    inventory.certificates = certificates::in_secrets(&inventory, &client).await;
    let seen: Vec<String> = inventory
        .certificates
        .iter()
        .map(|it| format!("{} {} {}", it.component, it.place, it.not_after))
        .collect();
    assert_eq!(
        seen,
        [
            "kube-apiserver in secret kube-system/apiserver 2019-07-02T08:00:00Z",
            "kube-apiserver in secret kube-system/apiserver-kubelet-client 2019-07-02T08:00:00Z",
            "kube-apiserver in secret kube-system/ca 2028-06-29T08:00:00Z",
            "kube-apiserver in secret kube-system/front-proxy-ca 2028-06-29T08:00:00Z",
            "kube-apiserver in secret kube-system/front-proxy-client 2019-07-02T08:00:00Z",
            "kube-controller-manager in secret kube-system/ca 2028-06-29T08:00:00Z",
            "kube-controller-manager in secret kube-system/controller-manager.conf 2019-07-02T08:00:00Z",
            "kube-scheduler in secret kube-system/scheduler.conf 2019-07-02T08:00:00Z",
        ]
    );
    assert!(inventory.certificates.iter().all(|it| matches!(it.place, Place::Secret(_))));
    // By name, one call for each: never a list of Secrets.
    let calls = log.sorted();
    assert!(calls.iter().all(|call| !call.contains("/secrets?")), "{calls:?}");
    assert_eq!(calls.len() - before, 8, "each Secret with credentials, and no service account's token");

    inventory.taken_at = "2019-06-20T00:00:00Z".parse().unwrap();
    let soon = Report::new(&inventory, "");
    assert_eq!(soon.findings.iter().filter(|it| it.code == Code::CertificateExpires).count(), 5);
    inventory.taken_at = "2019-08-01T00:00:00Z".parse().unwrap();
    let late = Report::new(&inventory, "");
    assert_eq!(late.findings.iter().filter(|it| it.code == Code::CertificateExpired).count(), 5);
}

/// One right, as a role grants it and as a request takes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    namespace: String,
    group: String,
    resource: String,
    name: String,
    verb: String,
}

/// The right that a GET takes, by the rules of Kubernetes' request info.
fn taken_by(call: &str) -> Right {
    let path = call.trim_start_matches("GET ");
    let is_list = path.ends_with('?');
    let path = path.trim_end_matches('?');
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => {
            let [namespace, group, name] = [(); 3].map(|()| String::new());
            return Right { namespace, group, resource: path.to_owned(), name, verb: "get".into() };
        }
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] => (*namespace, rest),
        rest => ("", rest),
    };
    Right {
        namespace: namespace.into(),
        group: group.into(),
        resource: rest[0].into(),
        name: rest.get(1).copied().unwrap_or_default().into(),
        verb: if is_list { "list" } else { "get" }.into(),
    }
}

/// The rights that the roles for `status` in the documentation grant.
fn documented() -> Vec<Right> {
    let docs = include_str!("../../../../docs/reference/rbac.md");
    let docs = docs.split("\n## Roles for operations").next().unwrap();
    let mut rights = Vec::new();
    for block in docs.split("```yaml\n").skip(1) {
        for document in block.split("```").next().unwrap().split("---\n") {
            let role: Value = serde_saphyr::from_str(document).unwrap();
            let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
            for rule in role["rules"].as_array().into_iter().flatten() {
                let words = |key: &str, none: &[&str]| -> Vec<String> {
                    match rule[key].as_array() {
                        Some(words) => words.iter().map(|word| word.as_str().unwrap().to_owned()).collect(),
                        None => none.iter().map(|word| (*word).to_owned()).collect(),
                    }
                };
                let mut resources = words("resources", &[]);
                resources.extend(words("nonResourceURLs", &[]));
                for resource in &resources {
                    for name in words("resourceNames", &[""]) {
                        for verb in words("verbs", &[]) {
                            rights.push(Right {
                                namespace: namespace.to_owned(),
                                group: words("apiGroups", &[""]).remove(0),
                                resource: resource.clone(),
                                name: name.clone(),
                                verb,
                            });
                        }
                    }
                }
            }
        }
    }
    rights.sort();
    rights
}

#[tokio::test]
async fn the_documented_rights_are_those_that_are_taken() {
    let (client, log) = mock(fixture("v1.11/secrets"));
    let inventory = observe(&client, now()).await.unwrap();
    certificates::in_secrets(&inventory, &client).await;
    let mut taken: Vec<Right> = log.sorted().iter().map(|call| taken_by(call)).collect();
    taken.sort();
    assert_eq!(documented(), taken, "each call has its right, and each right its call");
}
