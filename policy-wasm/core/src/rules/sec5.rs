//! SEC-5: the API server's certificate is good for every name that it was good for.

use std::net::IpAddr;

use super::certificates::before;
use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::review::material::Written;
use crate::review::usage::server_template;
use crate::review::{Facts, Request, Settings, Severity};
use crate::x509::certificates;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SEC-5",
    title: "an API server's certificate is good for every name that the one before was, and for its Service",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "A name less is a client less: kubelets, load balancers and Pods each ask by another one, and find out \
          when they connect next.",
    evasion: "- A common name in the place of a name: clients have not looked at that for years; denied.\n\
              - A wildcard is one name and stands for no other.",
    blind: "Names by which a load balancer outside asks, unless the certificate before had them; on a first \
            certificate only `kubernetes.default.svc` and its short forms, and the Service's address, are asked for.",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let Some(written) = Written::of(request, settings, facts)? else { return Ok(Vec::new()) };
    let mut violations = Vec::new();
    for file in &written.files {
        let is_server = |component: Component| {
            file.uses.iter().any(|it| it.component == component && it.flag == "tls-cert-file")
        };
        let of_server = is_server(Component::ApiServer);
        if !Component::ALL.into_iter().any(is_server) {
            continue;
        }
        let Some(new) = certificates(&file.new).ok().and_then(|all| all.into_iter().next()) else { continue };
        let mut wanted = before(file).first().map(crate::x509::Certificate::names).unwrap_or_default();
        if of_server {
            wanted.extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(ToOwned::to_owned));
            wanted.extend(service_address(request, facts)?.map(|address| address.to_string()));
        }
        wanted.sort();
        wanted.dedup();
        let names = new.names();
        let missing: Vec<String> = wanted.into_iter().filter(|name| !names.contains(name)).collect();
        if !missing.is_empty() {
            let message = format!("{} is not good for {}", new.subject(), missing.join(", "));
            violations.push(file.violation(message, "issue it with those names too"));
        }
    }
    Ok(violations)
}

/// The address of the `kubernetes` Service: the first of the range.
fn service_address(request: &Request, facts: &Facts) -> Result<Option<IpAddr>, crate::review::Unknown> {
    let command = server_template(request, facts)?.and_then(|it| it.command(Component::ApiServer)).unwrap_or_default();
    Ok(command.list("service-cluster-ip-range").first().and_then(|range| first(range)))
}

fn first(range: &str) -> Option<IpAddr> {
    let (network, length) = range.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    match network.parse().ok()? {
        IpAddr::V4(network) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(length)?).unwrap_or(0);
            Some(IpAddr::V4((u32::from(network) & mask).checked_add(1)?.into()))
        }
        IpAddr::V6(network) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(length)?).unwrap_or(0);
            Some(IpAddr::V6((u128::from(network) & mask).checked_add(1)?.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::{pki, put, secrets, table};
    use crate::x509::testing::Leaf;

    #[test]
    fn first_addresses() {
        for (range, expected) in [
            ("10.96.0.0/12", Some("10.96.0.1")),
            ("10.96.0.7/12", Some("10.96.0.1")),
            ("fd00:1::/108", Some("fd00:1::1")),
            ("10.0.0.0/0", Some("0.0.0.1")),
            ("10.0.0.0/33", None),
            ("10.0.0.0", None),
            ("x/8", None),
        ] {
            assert_eq!(first(range).map(|it| it.to_string()).as_deref(), expected, "{range}");
        }
    }

    #[test]
    fn another_components_names_are_its_own() {
        let mut world = secrets();
        let manager = world.object_mut("DaemonSet", "kube-system/self-hosted-kube-controller-manager");
        manager["spec"]["template"]["spec"]["containers"][0]["command"]
            .as_array_mut()
            .unwrap()
            .push(serde_json::json!("--tls-cert-file=/etc/kubernetes/pki/apiserver-etcd-client.crt"));
        let with = |names: Vec<&'static str>| pki().cluster.issue(&Leaf { names, ..Leaf::new("manager") }).0;
        put(world.object_mut("Secret", "kube-system/apiserver-etcd-client"), "tls.crt", &with(vec!["cm1"]));
        let write = |names: Vec<&'static str>| {
            world.update("Secret", "kube-system/apiserver-etcd-client", |it| put(it, "tls.crt", &with(names)))
        };
        table(&RULE, &world, [("the same", write(vec!["cm1"]), false), ("none", write(vec![]), true)]);
    }

    #[test]
    fn every_name_stays() {
        let mut world = secrets();
        let again = pki().cluster.issue(&Leaf::server()).0;
        put(world.object_mut("Secret", "kube-system/sa"), "again.crt", &again);
        let named = |flags: &[(&str, &str)]| world.edit_flags(Component::ApiServer, flags);
        let again = ("tls-cert-file", "/etc/kubernetes/pki/again.crt");
        let write = |change: fn(&mut Vec<&'static str>)| {
            let mut leaf = Leaf::server();
            change(&mut leaf.names);
            let (certificate, key) = pki().cluster.issue(&leaf);
            world.update("Secret", "kube-system/apiserver", |it| {
                put(it, "tls.crt", &certificate);
                put(it, "tls.key", &key);
            })
        };
        table(
            &RULE,
            &world,
            [
                ("all", write(|_| {}), false),
                ("one more", write(|it| it.push("10.0.0.12")), false),
                ("in another order", write(|it| it.reverse()), false),
                ("in capitals", write(|it| it[0] = "CP1"), false),
                ("the Service's address less", write(|it| it.retain(|name| *name != "10.96.0.1")), true),
                ("a node less", write(|it| it.retain(|name| *name != "cp1")), true),
                ("a wildcard for it", write(|it| it[0] = "*.example.org"), true),
                ("none", write(Vec::clear), true),
                ("another file", named(&[again]), false),
                ("a client's for it", named(&[("tls-cert-file", "/etc/kubernetes/pki/apiserver-etcd-client.crt")]), true),
                ("another file, for another range", named(&[again, ("service-cluster-ip-range", "10.97.0.0/16")]), true),
            ],
        );
    }
}
