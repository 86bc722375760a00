//! What is around the control plane: nodes, namespaces, rights, certificates, the API's own registrations.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

use super::call::{Call, Proxy};
use super::case::{Cases, NOBODY, label, object};
use super::seed::{SYSTEM, TEAM};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const GUARD: &str = "/api/v1/namespaces/selfhost-guard";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

pub(crate) fn cases(cases: &mut Cases) -> Result<()> {
    namespaces(cases);
    nodes(cases);
    accounts(cases);
    certificates(cases)?;
    services(cases);
    groups(cases);
    starvation(cases);
    Ok(())
}

fn namespaces(cases: &mut Cases) {
    let finalize = |name: &str| {
        let content = object("v1/Namespace", "", name, &json!({"spec": {"finalizers": []}}));
        Call::put(&format!("/api/v1/namespaces/{name}/finalize"), &content)
    };
    let enforce = |name: &str, level: &str| {
        let labels = json!({"pod-security.kubernetes.io/enforce": level});
        Call::merge(&format!("/api/v1/namespaces/{name}"), &json!({"metadata": {"labels": labels}}))
    };
    cases
        .of(1)
        .add(
            "`namespaces/finalize` of the guard's",
            "NS-1",
            finalize("selfhost-guard"),
            "of another",
            finalize("spare"),
        )
        .of(7)
        .add(
            "DELETE of the guard's namespace",
            "NS-1",
            Call::delete(GUARD),
            "of another",
            Call::delete("/api/v1/namespaces/spare"),
        )
        .of(31)
        .add(
            "Pod security that refuses the control plane's Pods",
            "NS-1",
            enforce("kube-system", "restricted"),
            "that does not",
            enforce("kube-system", "privileged"),
        )
        .add(
            "a namespace without the label that others select on",
            "NS-1",
            Call::merge(GUARD, &json!({"metadata": {"labels": {"example.org/watched": null}}})),
            "a label more",
            label(GUARD),
        )
        .add(
            "DELETE of a priority class that a DaemonSet has",
            "NS-3",
            Call::delete("/apis/scheduling.k8s.io/v1/priorityclasses/cluster-services"),
            "of another",
            Call::delete("/apis/scheduling.k8s.io/v1/priorityclasses/spare"),
        );
}

fn nodes(cases: &mut Cases) {
    let (node, worker) = ("/api/v1/nodes/cp1", "/api/v1/nodes/w1");
    let labels = |path: &str, labels: &Value| Call::merge(path, &json!({"metadata": {"labels": labels}}));
    let run = |node: &str| {
        let mut call = Call::get(&format!("/api/v1/nodes/{node}/proxy/run/kube-system/a/b"));
        call.method = "POST";
        call
    };
    let cordon = Call::merge(node, &json!({"spec": {"unschedulable": true}}));
    let key = "kubectl-selfhost.dev/kube-apiserver";
    cases
        .of(1)
        .add("`nodes/proxy` of a control-plane node", "NODE-3", run("cp1"), "of another", run("w1"))
        .but(|it| it.after(NOBODY))
        .add(
            "`nodes/proxy` with a port in the name",
            "NODE-3",
            run("cp1:10250"),
            "of another",
            run("w1:10250"),
        )
        .but(|it| it.after(NOBODY))
        .add(
            "`nodes/status`: a component's label taken",
            "NODE-1",
            labels(&format!("{node}/status"), &json!({key: null})),
            "a heartbeat",
            Call::merge(&format!("{node}/status"), &json!({"status": {"phase": "Running"}}))
                .by_kubelet("cp1"),
        )
        .of(25)
        .add(
            "a kubelet that labels its node for the control plane",
            "NODE-2",
            labels(worker, &json!({key: "true"})).by_kubelet("w1"),
            "with another label",
            labels(worker, &json!({"example.org/team": "a"})).by_kubelet("w1"),
        )
        .of(26)
        .add(
            "a component's label taken from a node",
            "NODE-1",
            labels(node, &json!({key: null})),
            "cordoning it",
            cordon.clone(),
        )
        .add(
            "a component's label with another value",
            "NODE-1",
            labels(node, &json!({key: "false"})),
            "cordoning it",
            cordon.clone(),
        )
        .add(
            "the role's label taken from a node",
            "NODE-1",
            labels(node, &json!({"node-role.kubernetes.io/control-plane": null})),
            "cordoning it",
            cordon.clone(),
        )
        .add("all labels of a node", "NODE-1", labels(node, &Value::Null), "cordoning it", cordon)
        .add(
            "a component's label given to a worker",
            "NODE-1",
            labels(worker, &json!({key: "true"})),
            "another label",
            labels(worker, &json!({"example.org/team": "a"})),
        )
        .add(
            "DELETE of a control-plane node",
            "NODE-4",
            Call::delete(node),
            "of another",
            Call::delete(worker),
        )
        .add(
            "`deletecollection` of nodes",
            "NODE-4",
            Call::delete("/api/v1/nodes?labelSelector=kubernetes.io%2Fhostname%3Dcp1"),
            "of others",
            Call::delete("/api/v1/nodes?labelSelector=kubernetes.io%2Fhostname%3Dw1"),
        );
}

fn accounts(cases: &mut Cases) {
    let token = |namespace: &str, name: &str| {
        let content = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["a"]}});
        Call::post(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"), &content)
    };
    let secret = |name: &str| {
        let content = json!({"type": "kubernetes.io/service-account-token",
            "metadata": {"annotations": {"kubernetes.io/service-account.name": name}}});
        Call::post(&format!("{SYSTEM}/secrets"), &object("v1/Secret", "kube-system", "token", &content))
    };
    let runs_as = |name: &str| {
        let content = json!({"spec": {"serviceAccountName": name, "containers": [{"name": "a", "image": "example.org/a:v1"}]}});
        Call::post(&format!("{SYSTEM}/pods"), &object("v1/Pod", "kube-system", "mine", &content))
    };
    cases
        .of(20)
        .add(
            "a token of the DaemonSet controller",
            "SEC-11",
            token("kube-system", "daemon-set-controller"),
            "of another",
            token("team", "default"),
        )
        .add(
            "a Secret that becomes its token",
            "SEC-11",
            secret("daemon-set-controller"),
            "of another",
            secret("mine"),
        )
        .add(
            "a Pod that runs as it",
            "SEC-11",
            runs_as("daemon-set-controller"),
            "as another",
            runs_as("mine"),
        )
        .add(
            "DELETE of its ServiceAccount",
            "RB-4",
            Call::delete(&format!("{SYSTEM}/serviceaccounts/daemon-set-controller")),
            "of another",
            Call::delete(&format!("{SYSTEM}/serviceaccounts/mine")),
        );
}

/// A request for a certificate.
pub(crate) fn request(
    name: &str,
    signer: &str,
    common_name: &str,
    organization: Option<&str>,
) -> Result<Value> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    let pem = params.serialize_request(&KeyPair::generate()?)?.pem()?;
    let content = json!({"spec": {"request": STANDARD.encode(pem), "signerName": signer,
        "usages": ["client auth", "digital signature"]}});
    Ok(object("certificates.k8s.io/v1/CertificateSigningRequest", "", name, &content))
}

/// The requests that are there to be approved.
pub(crate) fn seed(proxy: &Proxy) -> Result<()> {
    let kubelets = "kubernetes.io/kube-apiserver-client-kubelet";
    let clients = "kubernetes.io/kube-apiserver-client";
    for content in [
        request("of-a-node", kubelets, "system:node:cp1", Some("system:nodes"))?,
        request("of-a-controller", clients, "system:kube-controller-manager", None)?,
        request("of-a-user", clients, "jane", None)?,
    ] {
        proxy.send(&Call::post(REQUESTS, &content))?.object()?;
    }
    Ok(())
}

fn certificates(cases: &mut Cases) -> Result<()> {
    let approve = |name: &str| {
        let condition = json!([{"type": "Approved", "status": "True", "reason": "mine", "message": "mine"}]);
        Call::merge(&format!("{REQUESTS}/{name}/approval"), &json!({"status": {"conditions": condition}}))
    };
    let ask = |organization| -> Result<Call> {
        Ok(Call::post(REQUESTS, &request("mine", "example.org/mine", "jane", organization)?))
    };
    let condition = json!([{"type": "Failed", "status": "True", "reason": "mine", "message": "mine"}]);
    let users = "of a user's";
    cases
        .of(21)
        .add("a request for `system:masters`", "RB-5", ask(Some("system:masters"))?, "for a user", ask(None)?)
        .add(
            "the approval of a node's certificate",
            "RB-5",
            approve("of-a-node"),
            users,
            approve("of-a-user"),
        )
        .add(
            "the approval of a controller's",
            "RB-5",
            approve("of-a-controller"),
            users,
            approve("of-a-user"),
        )
        .add(
            "a certificate put into a request",
            "RB-5",
            Call::merge(
                &format!("{REQUESTS}/of-a-node/status"),
                &json!({"status": {"certificate": STANDARD.encode(super::seed::authority("mine")?.pem())}}),
            ),
            "a failure noted",
            Call::merge(
                &format!("{REQUESTS}/of-a-node/status"),
                &json!({"status": {"conditions": condition}}),
            ),
        );
    Ok(())
}

fn services(cases: &mut Cases) {
    let slice = |name: &str, service: &str, address: &str, port: u16| {
        let content = json!({"addressType": "IPv4", "metadata": {"labels": {"kubernetes.io/service-name": service}},
            "endpoints": [{"addresses": [address]}], "ports": [{"name": "https", "port": port}]});
        Call::post(SLICES, &object("discovery.k8s.io/v1/EndpointSlice", "default", name, &content))
    };
    let web = format!("{TEAM}/services/web");
    let external = |address: &str| Call::merge(&web, &json!({"spec": {"externalIPs": [address]}}));
    let ingress = |address: &str| {
        Call::merge(
            &format!("{web}/status"),
            &json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}),
        )
    };
    let own = format!("{SLICES}/kubernetes");
    let bridge = slice("kubernetes-bridge", "kubernetes", "10.0.0.12", 6443);
    let as_server = |call: Call| call.by("system:apiserver");
    let endpoints = Call::merge(&own, &json!({"endpoints": [{"addresses": ["192.0.2.9"]}]}));
    cases
        .of(1)
        .add(
            "`services/status`: a node's address",
            "SVC-2",
            ingress("10.0.0.11"),
            "another",
            ingress("192.0.2.9"),
        )
        .of(29)
        .add(
            "an endpoint of the API's Service",
            "SVC-1",
            endpoints.clone(),
            "by the API server",
            as_server(endpoints),
        )
        .add(
            "DELETE of its slice",
            "SVC-1",
            Call::delete(&own),
            "by the API server",
            as_server(Call::delete(&own)),
        )
        .add(
            "a slice of another name with its label",
            "SVC-1",
            slice("mine", "kubernetes", "192.0.2.9", 6443),
            "the slice of a swap",
            bridge.clone(),
        )
        .add(
            "the slice of a swap with another address",
            "SVC-1",
            slice("kubernetes-bridge", "kubernetes", "192.0.2.9", 6443),
            "with a control-plane node's",
            bridge.clone(),
        )
        .add(
            "the slice of a swap with another port",
            "SVC-1",
            slice("kubernetes-bridge", "kubernetes", "10.0.0.12", 8443),
            "with the API server's",
            bridge,
        )
        .add(
            "the API's Service itself",
            "SVC-1",
            Call::merge(
                "/api/v1/namespaces/default/services/kubernetes",
                &json!({"spec": {"selector": {"app": "mine"}}}),
            ),
            "another",
            Call::merge(&web, &json!({"spec": {"selector": {"app": "mine"}}})),
        )
        .add(
            "a node's address for a Service",
            "SVC-2",
            external("10.0.0.11"),
            "another",
            external("192.0.2.9"),
        )
        .add(
            "the API's address for a Service",
            "SVC-2",
            external("10.96.0.1"),
            "another",
            external("192.0.2.9"),
        );
}

fn groups(cases: &mut Cases) {
    let path = "/apis/apiregistration.k8s.io/v1/apiservices";
    let service = |group: &str, version: &str, insecure: bool| {
        let mut content = json!({"spec": {"group": group, "version": version, "groupPriorityMinimum": 1000,
            "versionPriority": 10, "service": {"namespace": "team", "name": "web"}}});
        if insecure {
            content["spec"]["insecureSkipTLSVerify"] = json!(true);
        }
        Call::post(
            path,
            &object("apiregistration.k8s.io/v1/APIService", "", &format!("{version}.{group}"), &content),
        )
    };
    let definition = |group: &str, annotation: &str| {
        let schema = json!({"openAPIV3Schema": {"type": "object"}});
        let content = json!({"metadata": {"annotations": {"api-approved.kubernetes.io": annotation}},
            "spec": {"group": group, "scope": "Cluster",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
        let name = format!("things.{group}");
        Call::post(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            &object("apiextensions.k8s.io/v1/CustomResourceDefinition", "", &name, &content),
        )
    };
    let other = service("example.org", "v1", false);
    cases
        .of(17)
        .add(
            "another server for a group of the API's",
            "AR-4",
            Call::merge(
                &format!("{path}/v1.apps"),
                &json!({"spec": {"service": {"namespace": "team", "name": "web"}}}),
            ),
            "for a group of one's own",
            other.clone(),
        )
        .add(
            "a version more of a group of the API's",
            "AR-4",
            service("apps", "v9", false),
            "of a group of one's own",
            other.clone(),
        )
        .add(
            "DELETE of a group of the API's",
            "AR-4",
            Call::delete(&format!("{path}/v1.apps")),
            "a group of one's own",
            other.clone(),
        )
        .add("a group without TLS", "AR-4", service("example.org", "v1", true), "with it", other)
        .add(
            "a custom resource in a group of the API's",
            "AR-5",
            definition("mine.k8s.io", "unapproved, mine"),
            "one that Kubernetes has approved",
            definition("mine.k8s.io", "https://github.com/kubernetes/enhancements/pull/1"),
        );
}

fn starvation(cases: &mut Cases) {
    let quota = |namespace: &str| {
        let content =
            object("v1/ResourceQuota", namespace, "mine", &json!({"spec": {"hard": {"pods": "1"}}}));
        Call::post(&format!("/api/v1/namespaces/{namespace}/resourcequotas"), &content)
    };
    let range = |namespace: &str| {
        let spec = json!({"spec": {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]}});
        Call::post(
            &format!("/api/v1/namespaces/{namespace}/limitranges"),
            &object("v1/LimitRange", namespace, "mine", &spec),
        )
    };
    let policy = |namespace: &str| {
        let spec = json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
        let content = object("networking.k8s.io/v1/NetworkPolicy", namespace, "mine", &spec);
        Call::post(&format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"), &content)
    };
    let budget = |namespace: &str| {
        let spec =
            json!({"spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"tier": "control-plane"}}}});
        let content = object("policy/v1/PodDisruptionBudget", namespace, "mine", &spec);
        Call::post(&format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"), &content)
    };
    let elsewhere = "in another namespace";
    let flow = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let schema = |precedence: u32| {
        let content = json!({"spec": {"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": "exempt"},
            "rules": [{"subjects": [{"kind": "User", "user": {"name": "jane"}}],
                "resourceRules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"], "clusterScope": true, "namespaces": ["*"]}]}]}});
        Call::post(
            &format!("{flow}/flowschemas"),
            &object("flowcontrol.apiserver.k8s.io/v1/FlowSchema", "", "mine", &content),
        )
    };
    cases
        .of(30)
        .add(
            "DELETE of the guard's DaemonSet",
            "DS-1",
            Call::delete("/apis/apps/v1/namespaces/selfhost-guard/daemonsets/selfhost-guard"),
            "of another",
            Call::delete("/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy"),
        )
        .but(super::case::Case::by_policy)
        .add("a quota in `kube-system`", "NS-2", quota("kube-system"), elsewhere, quota("team"))
        .add("limits in `kube-system`", "NS-2", range("kube-system"), elsewhere, range("team"))
        .add(
            "a network policy in the guard's namespace",
            "NS-2",
            policy("selfhost-guard"),
            elsewhere,
            policy("team"),
        )
        .add(
            "a disruption budget for the control plane",
            "NS-2",
            budget("kube-system"),
            elsewhere,
            budget("team"),
        )
        .add("a flow schema before the system's", "AR-6", schema(10), "behind them", schema(5000))
        .add(
            "DELETE of the system's level",
            "AR-6",
            Call::delete(&format!("{flow}/prioritylevelconfigurations/leader-election")),
            "a schema behind the system's",
            schema(5000),
        );
}
