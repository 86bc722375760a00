//! The minor that a component emulates, as its template says.
//!
//! Invariant: pure. Only what an upgrade wrote is ever taken away: a flag of the operator's own stays, and is told by the
//! missing annotation.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use selfhost_core::component::Component;
use selfhost_core::emulation::Running;
use selfhost_core::version::{self, KubeVersion, MinorVersion};
use selfhost_core::{emulation, flags, labels};

use super::{command_line, image};

/// The minor that an upgrade made `template` emulate; `None` where the flag is the operator's own, or is not there.
pub fn of_upgrade(component: Component, template: &PodTemplateSpec) -> Option<MinorVersion> {
    let written = template.metadata.as_ref()?.annotations.as_ref()?.get(labels::EMULATES)?;
    let flagged = emulation::named(&command_line(component, template), emulation::FLAG)?;
    (written.parse() == Ok(flagged)).then_some(flagged)
}

/// What a Pod made from `template` runs; `None` where its image's tag is no version.
pub fn running(component: Component, template: &PodTemplateSpec) -> Option<Running> {
    let binary = version::of_image(image(component, template)?)?;
    Some(Running::new(binary, &command_line(component, template)))
}

/// The version whose binaries emulate an older minor since the first of two steps; `None` where no second one is due.
pub fn half_way(daemonsets: &BTreeMap<Component, DaemonSet>) -> Option<KubeVersion> {
    let mut templates =
        daemonsets.iter().map(|(component, daemonset)| (*component, &daemonset.spec.template));
    let (component, template) =
        templates.find(|(component, template)| of_upgrade(*component, template).is_some())?;
    Some(running(component, template)?.binary)
}

/// Makes `template` emulate `minor`, or takes away what an upgrade wrote before.
pub(super) fn set(component: Component, template: &mut PodTemplateSpec, minor: Option<MinorVersion>) {
    let takes_away = of_upgrade(component, template).is_some();
    let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
    annotations.remove(labels::EMULATES);
    if let Some(minor) = minor {
        annotations.insert(labels::EMULATES.to_owned(), minor.to_string());
    }
    let containers = template.spec.iter_mut().flat_map(|spec| &mut spec.containers);
    for container in containers.filter(|container| container.name == component.name()) {
        for line in [&mut container.command, &mut container.args].into_iter().flatten() {
            if takes_away {
                flags::remove(line, emulation::FLAG);
            }
        }
        if let Some(minor) = minor {
            // Arguments alone follow the image's own command.
            let line = if container.command.is_some() { &mut container.command } else { &mut container.args };
            flags::set(line.get_or_insert_default(), emulation::FLAG, &minor.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(command: &str, args: Option<&str>) -> PodTemplateSpec {
        let words = |text: &str| text.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
        serde_json::from_value(json!({"spec": {"containers": [{
            "name": "kube-scheduler", "image": "registry.k8s.io/kube-scheduler:v1.37.2",
            "command": (!command.is_empty()).then(|| words(command)), "args": args.map(words)
        }]}}))
        .unwrap()
    }

    fn line(template: &PodTemplateSpec) -> String {
        command_line(Component::Scheduler, template).join(" ")
    }

    #[test]
    fn takes_away_what_it_wrote_and_nothing_else() {
        let minor = "1.36".parse().ok();
        for (command, args) in
            [("kube-scheduler --v=2", None), ("kube-scheduler", Some("--v=2")), ("", Some("--v=2"))]
        {
            let before = template(command, args);
            let mut changed = before.clone();
            set(Component::Scheduler, &mut changed, minor);
            assert!(line(&changed).contains("--emulated-version=1.36"), "{}", line(&changed));
            assert_eq!(of_upgrade(Component::Scheduler, &changed), minor);
            let runs = running(Component::Scheduler, &changed).unwrap();
            assert_eq!(runs.to_string(), "v1.37.2 (as 1.36)");

            let once = changed.clone();
            set(Component::Scheduler, &mut changed, minor);
            assert_eq!(changed, once, "twice is once");

            set(Component::Scheduler, &mut changed, None);
            assert_eq!(changed.spec, before.spec);
            assert_eq!(of_upgrade(Component::Scheduler, &changed), None);
        }
    }

    #[test]
    fn the_operators_own_flag_stays() {
        let own = template("kube-scheduler --emulated-version kube=1.35", None);
        let mut kept = own.clone();
        set(Component::Scheduler, &mut kept, None);
        assert_eq!(kept.spec, own.spec);
        assert_eq!(of_upgrade(Component::Scheduler, &kept), None);

        // One that an upgrade wrote, and that was edited since.
        let mut edited = template("kube-scheduler --v=2", None);
        set(Component::Scheduler, &mut edited, "1.36".parse().ok());
        let command = edited.spec.as_mut().unwrap().containers[0].command.as_mut().unwrap();
        flags::set(command, emulation::FLAG, "1.35");
        assert_eq!(of_upgrade(Component::Scheduler, &edited), None);
        set(Component::Scheduler, &mut edited, None);
        assert_eq!(line(&edited), "kube-scheduler --v=2 --emulated-version=1.35");
    }
}
