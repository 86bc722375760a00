//! SVC-2: no Service takes the control plane's addresses.

use std::net::IpAddr;

use super::svc1::addresses;
use super::{Checked, Reach, Rule};
use crate::review::facts::Lookup;
use crate::review::object::{at, list, text, texts};
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SVC-2",
    title: "no Service has an address of a control-plane node or of the API for an external one",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Wide,
    why: "kube-proxy sends what goes to a Service's external address to that Service's Pods, on every node: the kubelets' \
          requests to the API too (CVE-2020-8554).",
    evasion: "- `externalIPs`, `loadBalancerIP`, and the status of a load balancer through `services/status`: all looked at.\n\
              - Another way to write an address: compared as addresses.",
    blind: "The address of a load balancer in front of the API servers, unless it is a node's. `DenyServiceExternalIPs` is the \
            API server's own, wider, answer.",
    check,
};

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    let is_written = request.is("", "services") && request.writes() || request.is_sub("services", &["status"]);
    if !is_written || (request.name() == "kubernetes" && request.namespace() == "default") {
        return Ok(Vec::new());
    }
    let of = |value: &serde_json::Value| -> Vec<IpAddr> {
        let spec = &value["spec"];
        let ingress = list(at(value, &["status", "loadBalancer"]), "ingress");
        let all = texts(spec, "externalIPs").into_iter().chain([text(spec, "loadBalancerIP")]);
        all.chain(ingress.iter().map(|it| text(it, "ip"))).filter_map(|it| it.trim().parse().ok()).collect()
    };
    let known = of(&request.old_object);
    let new: Vec<IpAddr> = of(&request.object).into_iter().filter(|it| !known.contains(it)).collect();
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let mut ours = addresses(facts)?;
    let service = facts.object(&Lookup::get("v1", "Service", "default", "kubernetes"))?;
    ours.extend(service.and_then(|it| text(&it["spec"], "clusterIP").parse::<IpAddr>().ok()));
    let taken = new.into_iter().filter(|it| ours.contains(it));
    let violations = taken.map(|it| {
        Violation::new("spec", format!("{it} is the control plane's"), "choose another address")
    });
    Ok(violations.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, create, table};

    #[test]
    fn addresses_are_not_taken() {
        let service = |spec: Value| {
            create(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "default"}, "spec": spec}))
        };
        let mut status = service(json!({}));
        status["subResource"] = json!("status");
        status["object"]["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.12"}]}});
        let mut itself = service(json!({"externalIPs": ["10.0.0.11"]}));
        itself["object"]["metadata"]["name"] = json!("kubernetes");
        let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "x", "namespace": "default"}, "status": status["object"]["status"]});
        table(
            &RULE,
            &World::new(),
            [
                ("an external address", service(json!({"externalIPs": ["192.0.2.1"]})), false),
                ("a node's", service(json!({"externalIPs": ["192.0.2.1", "10.0.0.11"]})), true),
                ("the API's", service(json!({"externalIPs": ["10.96.0.1"]})), true),
                ("a load balancer's", service(json!({"loadBalancerIP": "10.0.0.11"})), true),
                ("a load balancer's status", status, true),
                ("none", service(json!({})), false),
                ("the Service of the API", itself, false),
                ("an Ingress at a node's", create(&ingress), false),
            ],
        );
    }
}
