//! SVC-1: the `kubernetes` Service leads to API servers.

use std::net::IpAddr;

use super::{Checked, Reach, Rule};
use crate::labels;
use crate::review::facts::{Lookup, Unknown};
use crate::review::object::{at, list, text, texts};
use crate::review::settings::Identity;
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SVC-1",
    title: "the kubernetes Service and its endpoints are the API servers' own",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "Every Pod asks `kubernetes.default`. Whoever adds an endpoint gets a share of all tokens; whoever removes one takes \
          the API away from the Pods. The one slice that is not the API servers' own is `kubernetes-bridge`, during a \
          swap: it may name a control-plane node, with the port at which its API server is reached.",
    evasion: "- A slice of another name with the Service's label: denied.\n\
              - A slice that gets the label later: denied.\n\
              - `endpoints`, the older kind, are copied into slices by a controller: their writes never get to a rule (G-1), \
              the slices do.",
    blind: "",
    check,
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    if request.namespace() != "default" {
        return Ok(Vec::new());
    }
    let is_service = request.is_any("", "services") && request.name() == "kubernetes";
    let names = |object: Object<'_>| object.labels().get(SERVICE_NAME) == Some(&"kubernetes");
    let is_slice = request.is_any("discovery.k8s.io", "endpointslices")
        && [request.new_object(), request.old()].into_iter().flatten().any(names);
    if !(is_service || is_slice) || settings.is(&request.user, Identity::ApiServer) {
        return Ok(Vec::new());
    }
    if is_slice && request.name() == labels::BRIDGE_SLICE {
        return bridge(request, facts);
    }
    Ok(vec![Violation::new("", "it is where every Pod looks for the API", "leave it to the API servers")])
}

/// The slice of a swap: nodes of the control plane, and a port at which an API server is reached.
fn bridge(request: &Request, facts: &Facts) -> Checked {
    if request.operation == Operation::Delete {
        return Ok(Vec::new());
    }
    let nodes = addresses(facts)?;
    let mut violations = Vec::new();
    for endpoint in list(&request.object, "endpoints") {
        for address in texts(endpoint, "addresses") {
            if !address.parse::<IpAddr>().is_ok_and(|address| nodes.contains(&address)) {
                violations.push(Violation::new(
                    "endpoints",
                    format!("{address} is no control-plane node's"),
                    "name the node whose API server is replaced",
                ));
            }
        }
    }
    let own = facts.object(&Lookup::get("discovery.k8s.io/v1", "EndpointSlice", "default", "kubernetes"))?;
    let known: Vec<&serde_json::Value> = own.map(|it| list(it, "ports")).unwrap_or_default().iter().collect();
    for port in list(&request.object, "ports") {
        let same = |it: &&serde_json::Value| it["port"] == port["port"];
        if !known.is_empty() && !known.iter().any(same) {
            let message = format!("no API server is reached at port {}", port["port"]);
            violations.push(Violation::new("ports", message, "name the port of the API server itself"));
        }
    }
    Ok(violations)
}

/// The addresses of the control-plane nodes.
pub(super) fn addresses(facts: &Facts) -> Result<Vec<IpAddr>, Unknown> {
    let nodes = facts.items(&Lookup::control_plane())?.iter();
    let all = nodes.flat_map(|node| list(at(node, &["status"]), "addresses"));
    Ok(all.filter_map(|it| text(it, "address").parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, create, table};

    #[test]
    fn it_leads_to_api_servers() {
        let mut world = World::new();
        let slice = |name: &str, service: &str, address: &str, port: u16| {
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": name, "namespace": "default", "labels": {SERVICE_NAME: service}},
                "endpoints": [{"addresses": [address]}], "ports": [{"name": "https", "port": port}]})
        };
        world.objects.push(slice("kubernetes", "kubernetes", "10.0.0.11", 6443));
        world.objects.push(slice("mine", "mine", "10.0.0.99", 80));
        let by = |mut request: Value, user: &str| {
            request["userInfo"]["username"] = json!(user);
            request
        };
        let edit = || world.update("EndpointSlice", "default/kubernetes", |it| it["endpoints"] = json!([]));
        let mut elsewhere = slice("x", "kubernetes", "10.0.0.99", 6443);
        elsewhere["metadata"]["namespace"] = json!("other");
        table(
            &RULE,
            &world,
            [
                ("a swap's", create(&slice("kubernetes-bridge", "kubernetes", "10.0.0.12", 6443)), false),
                ("a swap's of another address", create(&slice("kubernetes-bridge", "kubernetes", "10.0.0.99", 6443)), true),
                ("a swap's of another port", create(&slice("kubernetes-bridge", "kubernetes", "10.0.0.12", 22)), true),
                ("a swap's of a name", create(&slice("kubernetes-bridge", "kubernetes", "evil.org", 6443)), true),
                ("another slice", create(&slice("x", "kubernetes", "10.0.0.12", 6443)), true),
                ("of another Service", create(&slice("x", "mine", "10.0.0.99", 80)), false),
                ("of another namespace", create(&elsewhere), false),
                ("another Service", create(&json!({"apiVersion": "v1", "kind": "Service",
                    "metadata": {"name": "mine", "namespace": "default"}, "spec": {}})), false),
                ("a ConfigMap of its name", create(&json!({"apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": "kubernetes", "namespace": "default"}})), false),
                ("its own, by the API server", by(edit(), "system:apiserver"), false),
                ("its own, by somebody", edit(), true),
                ("its own deleted", world.delete("discovery.k8s.io/v1", "EndpointSlice", "default/kubernetes"), true),
                ("one that gets the label", world.update("EndpointSlice", "default/mine", |it| {
                    it["metadata"]["labels"][SERVICE_NAME] = json!("kubernetes");
                }), true),
                ("the Service", world.update("Service", "default/kubernetes", |it| it["spec"]["externalName"] = json!("x")), true),
                ("the Service deleted", world.delete("v1", "Service", "default/kubernetes"), true),
            ],
        );
    }
}
