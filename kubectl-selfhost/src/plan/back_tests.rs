//! Golden plans of the way back to an earlier template, and when there is none.

use serde_json::json;

use super::*;
use crate::plan::tests::{IMAGE, codes, interrupted, listing, self_hosted, swapped, v};
use crate::plan::upgrade;

/// A revision as the DaemonSet controller keeps it.
fn revision(component: Component, number: i64, template: &PodTemplateSpec) -> ControllerRevision {
    let mut template = serde_json::to_value(template).unwrap();
    template["$patch"] = "replace".into();
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("{}-hash{number}", component.daemonset_name()),
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "uid": "u",
                "name": component.daemonset_name(), "controller": true}]
        },
        "revision": number,
        "data": {"spec": {"template": template}}
    }))
    .unwrap()
}

/// A cluster that runs v1.36.3, and the templates with which an upgrade to v1.37.2 ends.
fn cluster() -> (Inventory, BTreeMap<Component, PodTemplateSpec>, Plan) {
    let inventory = self_hosted(1, "v1.36.3");
    let templates = inventory.daemonsets.iter().map(|(c, d)| (*c, d.spec.template.clone())).collect();
    let upgrade = upgrade::plan(&inventory, &v("v1.37.2"), IMAGE, None, None).unwrap();
    (inventory, templates, upgrade)
}

/// The API server and the controller manager are upgraded, the scheduler is not.
fn half_way() -> (Inventory, Destination) {
    let (mut inventory, templates, upgrade) = cluster();
    for component in [Component::ApiServer, Component::ControllerManager] {
        swapped(&mut inventory, component, "cp1", &upgrade.templates[&component]);
    }
    inventory.operation = Some(interrupted("upgrade v1.37.2"));
    (inventory, Destination { templates, recorded: Some(v("v1.36.3")) })
}

fn abort() -> Goal {
    Goal::Abort(Box::new(Goal::Upgrade(v("v1.37.2"))))
}

#[test]
fn abort_of_an_upgrade_takes_the_api_server_last() {
    let (inventory, destination) = half_way();
    insta::assert_snapshot!(listing(&plan(&inventory, abort(), &destination, IMAGE).unwrap()));
}

#[test]
fn a_bridge_that_an_upgrade_left_is_released() {
    let (mut inventory, templates, upgrade) = cluster();
    inventory.operation = Some(interrupted("upgrade v1.37.2"));
    inventory.bridges.push(upgrade.bridge(Component::ApiServer, "cp1").unwrap());
    let destination = Destination { templates, recorded: None };
    let plan = plan(&inventory, abort(), &destination, IMAGE).unwrap();
    let verbs: Vec<Verb> = plan.steps.iter().map(|step| step.verb).collect();
    assert_eq!(verbs, [Verb::Await, Verb::Release], "{}", listing(&plan));
}

#[test]
fn a_daemonset_that_was_only_written_is_written_back() {
    let (mut inventory, templates, upgrade) = cluster();
    inventory.operation = Some(interrupted("upgrade v1.37.2"));
    let written = upgrade.daemonset(Component::Scheduler).unwrap();
    inventory.daemonsets.insert(Component::Scheduler, written);
    let destination = Destination { templates, recorded: None };
    let plan = plan(&inventory, abort(), &destination, IMAGE).unwrap();
    assert_eq!(plan.steps, [Step { verb: Verb::Apply, component: Some(Component::Scheduler), node: None }]);
    listing(&plan);
}

#[test]
fn kubeadms_record_goes_back_with_the_control_plane() {
    let (mut inventory, destination) = half_way();
    inventory.kubeadm = Some("kubernetesVersion: v1.37.2\n".into());
    let plan = plan(&inventory, abort(), &destination, IMAGE).unwrap();
    assert_eq!(plan.steps.last().unwrap().verb, Verb::Record);
    assert_eq!(plan.record, Some(v("v1.36.3")));
}

#[test]
fn without_the_templates_there_is_no_way_back() {
    let (inventory, _) = half_way();
    assert_eq!(codes(plan(&inventory, abort(), &Destination::default(), IMAGE)), ["SH0226"]);
}

#[test]
fn what_the_pods_run_is_found_among_the_revisions() {
    let (mut inventory, templates, upgrade) = cluster();
    let revisions: Vec<_> = templates.iter().map(|(c, t)| revision(*c, 1, t)).collect();
    for instance in &mut inventory.instances {
        let name = format!("hash{}", 1);
        instance.pod.labels_mut().insert("controller-revision-hash".into(), name);
    }
    // Edited, and not rolled.
    for (component, template) in &upgrade.templates {
        inventory.daemonsets.get_mut(component).unwrap().spec.template = template.clone();
    }
    assert_eq!(running(&inventory, &revisions), templates);
    assert_eq!(running(&inventory, &[]), upgrade.templates, "what cannot be read is the DaemonSet's own");
}

#[test]
fn a_rollback_leads_to_the_newest_revision_of_another_version() {
    let (mut inventory, templates, upgrade) = cluster();
    let mut revisions = Vec::new();
    for component in Component::ALL {
        let old = &templates[&component];
        let edited = || {
            let mut edited = old.clone();
            edited.spec.as_mut().unwrap().containers[0].command.as_mut().unwrap().push("--v=4".into());
            template::seal(edited)
        };
        revisions.push(revision(component, 3, &upgrade.templates[&component]));
        revisions.push(revision(component, 1, old));
        revisions.push(revision(component, 2, &edited()));
        inventory.daemonsets.get_mut(&component).unwrap().spec.template =
            upgrade.templates[&component].clone();
    }
    let target = previous_version(&inventory, &revisions).unwrap();
    assert_eq!(target, v("v1.36.3"));
    let destination = revisions_of(&target, &revisions).unwrap();
    let command = template::command_line(Component::Scheduler, &destination.templates[&Component::Scheduler]);
    assert!(command.contains(&"--v=4".to_owned()), "revision 2 is newer than 1: {command:?}");

    revisions.retain(|revision| !revision.name_any().starts_with("self-hosted-kube-scheduler"));
    assert_eq!(revisions_of(&target, &revisions).unwrap_err()[0].code, Code::NoRevision);
    assert_eq!(previous_version(&inventory, &[]).unwrap_err().code, Code::NoRevision);
}

#[test]
fn what_kubernetes_does_not_allow_is_refused() {
    let runs_alpha = |config: &str| {
        let (mut inventory, ..) = cluster();
        let template = &mut inventory.daemonsets.get_mut(&Component::ApiServer).unwrap().spec.template;
        let command = template.spec.as_mut().unwrap().containers[0].command.as_mut().unwrap();
        command.push(format!("--runtime-config={config}"));
        inventory
    };
    let newer_kubelet = || {
        let (mut inventory, ..) = cluster();
        inventory.kubelets.insert("w1".into(), "v1.36.3".parse().ok());
        inventory
    };
    let cases: [(&str, Inventory, &str, &[Code]); 6] = [
        (
            "one minor",
            {
                let mut i = cluster().0;
                i.kubelets.clear();
                i
            },
            "v1.35.1",
            &[],
        ),
        (
            "two minors",
            {
                let mut i = cluster().0;
                i.kubelets.clear();
                i
            },
            "v1.34.1",
            &[Code::MinorSkipped; 3],
        ),
        ("a newer kubelet", newer_kubelet(), "v1.35.1", &[Code::KubeletSkew; 2]),
        ("alpha", runs_alpha("api/beta=true,batch/v2alpha1=true"), "v1.36.1", &[Code::StorageUnreadable]),
        ("everything", runs_alpha("api/all=true"), "v1.36.1", &[Code::StorageUnreadable]),
        ("alpha, switched off", runs_alpha("batch/v2alpha1=false"), "v1.36.1", &[]),
    ];
    for (name, inventory, target, expected) in cases {
        let found: Vec<Code> =
            skew(&inventory, &v(target).into()).iter().map(|finding| finding.code).collect();
        assert_eq!(found, expected, "{name}");
    }
}
