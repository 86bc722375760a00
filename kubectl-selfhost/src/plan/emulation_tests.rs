//! Golden plans of both steps, the way back from between, and the table of refusals.

use super::super::tests::{IMAGE, checkpointed, codes, interrupted, listing, self_hosted, swapped, v};
use super::super::{Goal, Plan, Verb, upgrade};
use super::*;
use crate::plan::back::Destination;

const TARGET: &str = "v1.37.2";

fn emulate(inventory: &Inventory, target: &str) -> Result<Plan, Vec<Finding>> {
    upgrade::emulate(inventory, &v(target), IMAGE, None)
}

fn switch(inventory: &Inventory, target: &str) -> Result<Plan, Vec<Finding>> {
    upgrade::plan(inventory, &v(target), IMAGE, None, None)
}

/// What the plan leaves once it is carried out.
fn carried_out(inventory: &Inventory, plan: &Plan) -> Inventory {
    let mut after = inventory.clone();
    for component in Component::ALL {
        for node in plan.nodes.keys() {
            swapped(&mut after, component, node, &plan.templates[&component]);
        }
    }
    checkpointed(&mut after, plan);
    if let (Some(record), Some(configuration)) = (&plan.record, &inventory.kubeadm) {
        after.kubeadm = Some(upgrade::record_version(configuration, record));
    }
    after
}

/// Between the two steps: v1.37.2, which emulates 1.36.
fn half_way() -> Inventory {
    let before = self_hosted(1, "v1.36.3");
    carried_out(&before, &emulate(&before, TARGET).unwrap())
}

/// Adds a flag to each of `components`, in its DaemonSet and in its Pods.
fn with_flag(mut inventory: Inventory, components: &[Component], flag: &str) -> Inventory {
    let container = |spec: &mut k8s_openapi::api::core::v1::PodSpec| {
        spec.containers[0].command.as_mut().unwrap().push(flag.to_owned());
    };
    for component in components {
        let template = &mut inventory.daemonsets.get_mut(component).unwrap().spec.template;
        container(template.spec.as_mut().unwrap());
        *template = template::seal(template.clone());
        let sealed = template.clone();
        for instance in inventory.instances.iter_mut().filter(|it| it.component == *component) {
            container(instance.pod.spec.as_mut().unwrap());
            instance.pod.metadata.annotations = sealed.metadata.as_ref().unwrap().annotations.clone();
        }
    }
    inventory
}

fn runs(inventory: &Inventory) -> Vec<String> {
    let of = |instance| preconditions::running(inventory, instance).unwrap().to_string();
    inventory.instances.iter().map(of).collect()
}

#[test]
fn the_first_step_changes_the_binaries_and_what_kubeadm_makes_stays() {
    let before = self_hosted(1, "v1.36.3");
    let plan = emulate(&before, TARGET).unwrap();
    insta::assert_snapshot!(listing(&plan));
    assert!(plan.steps.iter().all(|step| step.verb != Verb::Record));
    for (component, template) in &plan.templates {
        let command = template::command_line(*component, template);
        assert_eq!(flags::value(&command, emulation::FLAG), Some("1.36"), "{component}");
        let bridge = plan.bridge(*component, "cp1").unwrap().spec.unwrap();
        let command = bridge.containers[0].command.clone().unwrap();
        assert_eq!(flags::value(&command, emulation::FLAG), Some("1.36"), "the bridge of {component}");
    }
    assert!(plan.standby("cp1").unwrap().contains("--emulated-version=1.36"));
    assert_ne!(plan.id(), switch(&before, TARGET).unwrap().id());
    assert_eq!(runs(&carried_out(&before, &plan)), ["v1.37.2 (as 1.36)"; 3]);
}

#[test]
fn the_second_step_takes_the_flag_away_with_a_swap_of_each() {
    let between = half_way();
    let plan = switch(&between, TARGET).unwrap();
    insta::assert_snapshot!(listing(&plan));
    assert_eq!(plan.steps.last().unwrap().verb, Verb::Record);
    let plainly = switch(&self_hosted(1, "v1.36.3"), TARGET).unwrap();
    assert_eq!(plan.templates, plainly.templates, "two steps end where one does");
    assert_eq!(runs(&carried_out(&between, &plan)), ["v1.37.2"; 3]);
}

#[test]
fn what_is_done_is_not_done_again_and_what_was_interrupted_goes_on() {
    let between = half_way();
    assert!(emulate(&between, TARGET).unwrap().is_empty());
    let after = carried_out(&between, &switch(&between, TARGET).unwrap());
    assert!(switch(&after, TARGET).unwrap().is_empty());

    // Killed in the first step, and in the second.
    let mut inventory = self_hosted(1, "v1.36.3");
    let whole = emulate(&inventory, TARGET).unwrap();
    swapped(&mut inventory, Component::ApiServer, "cp1", &whole.templates[&Component::ApiServer]);
    inventory.operation = Some(interrupted("upgrade v1.37.2 --emulate"));
    let rest = emulate(&inventory, TARGET).unwrap();
    assert!(rest.ends_as(&whole));
    assert_eq!(rest.steps, whole.steps[whole.steps.len() - rest.steps.len()..], "{}", listing(&rest));
    assert_eq!(codes(switch(&inventory, TARGET)), ["SH0202"], "the switch is another operation");

    let mut inventory = between;
    let whole = switch(&inventory, TARGET).unwrap();
    swapped(&mut inventory, Component::ApiServer, "cp1", &whole.templates[&Component::ApiServer]);
    inventory.operation = Some(interrupted("upgrade v1.37.2"));
    assert!(switch(&inventory, TARGET).unwrap().ends_as(&whole));
}

/// On both ways back the API server comes last: nobody may behave like something newer than it does.
#[test]
fn the_way_back_takes_the_api_server_last() {
    let before = self_hosted(1, "v1.36.3");
    let between = half_way();
    let templates = |inventory: &Inventory| {
        inventory.daemonsets.iter().map(|(c, d)| (*c, d.spec.template.clone())).collect()
    };
    let to_before = Destination { templates: templates(&before), recorded: Some(v("v1.36.3")) };
    let rollback = back::plan(&between, Goal::Rollback(v("v1.36.3")), &to_before, IMAGE).unwrap();
    insta::assert_snapshot!(listing(&rollback));
    assert_eq!(rollback.templates, to_before.templates);
    assert_eq!(back::skew(&between, &to_before.api_server(&v("v1.36.3"))), []);

    let mut switched = carried_out(&between, &switch(&between, TARGET).unwrap());
    switched.operation = Some(interrupted("upgrade v1.37.2"));
    let to_between = Destination { templates: templates(&between), recorded: Some(v("v1.36.3")) };
    assert_eq!(to_between.api_server(&v(TARGET)).to_string(), "v1.37.2 (as 1.36)");
    let abort = Goal::Abort(Box::new(Goal::Upgrade(v(TARGET))));
    let abort = back::plan(&switched, abort, &to_between, IMAGE).unwrap();
    listing(&abort);
    assert_eq!(abort.steps[0].component, Some(Component::Scheduler));
    assert_eq!(abort.templates, to_between.templates);
}

#[test]
fn the_same_minor_goes_on_emulating_or_switches_as_it_is_asked() {
    let between = half_way();
    let patch = emulate(&between, "v1.37.3").unwrap();
    assert_eq!(runs(&carried_out(&between, &patch)), ["v1.37.3 (as 1.36)"; 3]);
    let patch = switch(&between, "v1.37.3").unwrap();
    assert_eq!(runs(&carried_out(&between, &patch)), ["v1.37.3"; 3]);
}

#[test]
fn an_operators_own_flag_is_kept() {
    let mut own = with_flag(self_hosted(1, "v1.36.3"), &Component::ALL, "--emulated-version=kube=1.35");
    assert_eq!(codes(switch(&own, TARGET)), ["SH0107"], "the kubelets are newer than that");
    own.kubelets.clear();
    let plan = switch(&own, TARGET).unwrap();
    assert_eq!(runs(&carried_out(&own, &plan)), ["v1.37.2 (as 1.35)"; 3]);
    assert_eq!(
        template::emulation::half_way(&carried_out(&own, &plan).daemonsets),
        None,
        "no second step is due"
    );
    assert_eq!(template::emulation::half_way(&half_way().daemonsets), Some(v(TARGET)));
}

#[test]
fn refusals() {
    type Case = (&'static str, Result<Plan, Vec<Finding>>, &'static [Code]);
    let newer = |mut inventory: Inventory, kubelet: &str| {
        inventory.kubelets.insert("w1".into(), kubelet.parse().ok());
        inventory
    };
    let old = || self_hosted(1, "v1.36.3");
    let all = Component::ALL;
    let server = [Component::ApiServer];
    let cases: [Case; 16] = [
        ("before the flag", emulate(&self_hosted(1, "v1.30.2"), "v1.31.1"), &[Code::NotEmulable]),
        ("the first with it", emulate(&self_hosted(1, "v1.31.2"), "v1.32.1"), &[]),
        ("the same minor", emulate(&old(), "v1.36.4"), &[Code::NotEmulable]),
        ("what has switched", emulate(&self_hosted(1, TARGET), TARGET), &[Code::NotEmulable]),
        ("two minors", emulate(&old(), "v1.38.0"), &[Code::MinorSkipped]),
        ("a downgrade", emulate(&half_way(), "v1.36.3"), &[Code::Downgrade, Code::NotEmulable]),
        (
            "alpha APIs",
            emulate(&with_flag(old(), &server, "--runtime-config=api/alpha=true"), TARGET),
            &[Code::StorageUnreadable],
        ),
        (
            "a flag of the operator's own",
            emulate(&with_flag(old(), &server, "--emulated-version=1.36"), TARGET),
            &[Code::EmulationMisfit],
        ),
        ("the next minor", switch(&half_way(), "v1.38.0"), &[Code::EmulationOpen]),
        ("the next minor, emulating", emulate(&half_way(), "v1.38.0"), &[Code::EmulationOpen]),
        (
            "out of reach",
            switch(&with_flag(old(), &all, "--emulated-version=1.33"), TARGET),
            &[Code::KubeletSkew, Code::EmulationMisfit],
        ),
        (
            "storage out of reach",
            switch(&with_flag(old(), &server, "--min-compatibility-version=1.33"), TARGET),
            &[Code::EmulationMisfit],
        ),
        (
            "only while emulating",
            switch(&with_flag(half_way(), &server, "--emulation-forward-compatible=true"), TARGET),
            &[Code::EmulationMisfit],
        ),
        (
            "which goes on emulating",
            emulate(&with_flag(half_way(), &server, "--emulation-forward-compatible=true"), "v1.37.3"),
            &[],
        ),
        // The KEP: no kubelet is newer than what its API server emulates.
        ("a newer kubelet", emulate(&newer(half_way(), "v1.37.0"), "v1.37.3"), &[Code::KubeletSkew]),
        ("the switch admits it", switch(&newer(half_way(), "v1.37.0"), TARGET), &[]),
    ];
    for (name, result, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes(result), expected, "{name}");
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    let first = |result: Result<Plan, Vec<Finding>>| {
        let finding = result.unwrap_err().remove(0);
        format!("{}: {} | {}", finding.subject, finding.message, finding.hint.unwrap_or_default())
    };
    assert_eq!(
        first(emulate(&self_hosted(1, "v1.36.3"), "v1.36.4")),
        "kube-apiserver on cp1: runs v1.36.3, which is no minor behind v1.36.4: there is nothing to emulate | \
         in one step: kubectl selfhost upgrade v1.36.4"
    );
    assert_eq!(
        first(switch(&half_way(), "v1.38.0")),
        "daemonset kube-system/self-hosted-kube-apiserver: emulates 1.36 since `upgrade v1.37.2 --emulate`, which \
         is to be finished first | kubectl selfhost upgrade v1.37.2"
    );
}
