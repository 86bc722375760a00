//! What is registered, as whole objects: a condition that changes is read before it is taken over.

use std::collections::BTreeSet;

use super::*;
use crate::review::object::{list, texts};

fn registration<R>(wide: bool, then: impl FnOnce(&Registration<'_>) -> R) -> R {
    let set = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>();
    then(&Registration {
        url: "https://127.0.0.1:9443/validate",
        ca_bundle: "Q0E=",
        fail: true,
        wide,
        secrets: &set(&["kube-system/ca", "kube-system/sa", "vault/root"]),
        config_maps: &set(&["kube-system/apiserver-config"]),
        guard: &Guard::default(),
    })
}

#[test]
fn the_whole_of_it() {
    insta::assert_json_snapshot!("webhook", registration(true, webhook));
    insta::assert_json_snapshot!("static", registration(true, static_manifest));
}

#[test]
fn the_policies() {
    insta::assert_json_snapshot!("tier0", registration(false, tier0));
}

/// Everything that is registered, from the least to all of it.
fn configurations() -> [(&'static [Reach], Vec<Value>); 3] {
    let wide = || registration(true, webhook);
    [
        (&[Reach::Named], vec![registration(false, webhook)]),
        (&[Reach::Named, Reach::Wide], vec![wide()]),
        (&[Reach::Named, Reach::Wide, Reach::Static], vec![wide(), registration(true, static_manifest)]),
    ]
}

fn rules(configurations: &[Value]) -> Vec<&Value> {
    let webhooks = configurations.iter().flat_map(|it| list(it, "webhooks"));
    webhooks.flat_map(|it| list(it, "rules")).collect()
}

/// Every request that a rule may object to is sent by the registration of its reach, and by each wider one.
#[test]
fn every_scope_is_registered() {
    for (reaches, configurations) in configurations() {
        let rules = rules(&configurations);
        let mut count = 0;
        for scope in scope::ALL.iter().filter(|scope| reaches.contains(&scope.reach)) {
            count += 1;
            let sent = |rule: &&&Value| {
                texts(rule, "apiGroups") == [scope.group]
                    && texts(rule, "resources") == scope.resources
                    && texts(rule, "operations")
                        == scope.operations.iter().map(|it| it.as_str()).collect::<Vec<_>>()
            };
            assert!(rules.iter().any(|rule| sent(&rule)), "{reaches:?}: {scope:?}");
        }
        assert_eq!(rules.len(), count, "{reaches:?} sends more than the rules ask for");
    }
}

/// A resource without a condition would be sent whole.
#[test]
fn every_resource_has_a_condition_in_its_webhook() {
    let configuration = registration(true, webhook);
    for webhook in list(&configuration, "webhooks") {
        let conditions = list(webhook, "matchConditions");
        assert!(conditions.len() <= 64, "the API takes no more");
        let names: Vec<&str> = conditions.iter().filter_map(|it| it["name"].as_str()).collect();
        let resources: BTreeSet<&str> = list(webhook, "rules")
            .iter()
            .flat_map(|rule| texts(rule, "resources"))
            .map(|it| it.split_once('/').map_or(it, |(name, _)| name))
            .collect();
        assert_eq!(names.iter().copied().collect::<BTreeSet<_>>(), resources);
        assert_eq!(names.len(), resources.len(), "a name that is there twice is refused");
    }
}

/// A dead guard is asked for nothing that a cold start needs.
#[test]
fn what_brings_a_cluster_up_is_never_sent() {
    let [.., (_, everything)] = configurations();
    let rules = rules(&everything);
    for (group, resource) in [
        ("coordination.k8s.io", "leases"),
        ("", "events"),
        ("events.k8s.io", "events"),
        ("", "endpoints"),
        ("storage.k8s.io", "csinodes"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
    ] {
        let sent = rules.iter().find(|rule| {
            let groups = texts(rule, "apiGroups");
            let all = format!("{}/*", resource.split_once('/').map_or(resource, |(name, _)| name));
            let named = texts(rule, "resources");
            (groups.contains(&group) || groups.contains(&"*"))
                && (named.contains(&resource)
                    || named.contains(&"*/*")
                    || (resource.contains('/') && named.contains(&all.as_str())))
        });
        assert!(sent.is_none(), "{group}/{resource}: {sent:?}");
    }
}

#[test]
fn what_fails_is_denied_or_let_through_as_told() {
    for (fail, expected) in [(true, "Fail"), (false, "Ignore")] {
        registration(true, |it| {
            let registration = Registration { fail, ..*it };
            for webhook in list(&webhook(&registration), "webhooks") {
                assert_eq!(webhook["failurePolicy"], expected);
            }
            for policy in tier0(&registration).iter().filter(|it| it["kind"] == "ValidatingAdmissionPolicy") {
                assert_eq!(policy["spec"]["failurePolicy"], expected);
            }
            // Or a dead guard could not be taken away.
            let fixed = static_manifest(&registration);
            assert_eq!(list(&fixed, "webhooks")[0]["failurePolicy"], "Ignore");
        });
    }
}

#[test]
fn names_are_quoted() {
    let guard = Guard { namespace: "a\"b".to_owned(), name: "c\\d".to_owned() };
    let text = registration(true, |it| {
        let registration = Registration { guard: &guard, ..*it };
        format!("{}{}", webhook(&registration), static_manifest(&registration))
    });
    for quoted in [r#"\"a\\\"b\""#, r#"\"c\\\\d\""#] {
        assert!(text.contains(quoted), "{quoted}");
    }
}
