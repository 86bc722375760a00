//! DS-6: the image is the component's own, in a version that the others get along with.

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::review::facts::Lookup;
use crate::review::pod::Pod;
use crate::review::record::Edit;
use crate::review::settings::repository;
use crate::review::{Facts, Object, Request, Settings, Severity, Violation};
use crate::version::KubeVersion;

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-6",
    title: "the image is the component's own, in a version inside of the version skew policy",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "A controller manager or scheduler must not be newer than any API server, and at most one minor older; an API \
          server moves by one minor at a time, because each minor only reads what the one before it has stored. \
          One minor back is admitted: that is what a rollback does.",
    evasion: "- An image by digest alone, `latest`, no tag: the version is unknown; denied. A digest beside a tag is fine, \
              and it is the tag that is believed.\n\
              - Another repository, or a name that only begins alike: denied, except for another registry's \
              `kube-apiserver`, which has to be approved through DS-11.\n\
              - A tag like `v1.37.2_evil` is compared by its version.",
    blind: "What an image holds under its tag. A registry that gives another content for the same tag, and a mutable \
            tag, are for image signatures.",
    check,
};

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    let Some(edit) = Edit::of_template(request, facts)? else { return Ok(Vec::new()) };
    let component = edit.component;
    let image = edit.new.image(component);
    let before = edit.old.as_ref().map(|old| old.pod().image(component).to_owned()).unwrap_or_default();
    if image == before {
        return Ok(Vec::new());
    }
    let path = "spec.template.spec.containers[].image";
    let mut violations = Vec::new();
    let name = repository(image).rsplit('/').next().unwrap_or_default();
    // Old images had the architecture in their name.
    if name != component.name() && !name.starts_with(&format!("{component}-")) {
        violations.push(Violation::new(
            path,
            format!("{image:?} is not an image of {component}"),
            format!("use {component} of the version that you want"),
        ));
    }
    let Some(target) = edit.new.version(component) else {
        violations.push(Violation::new(
            path,
            format!("the version of {image:?} cannot be told"),
            "name the version in the tag: v1.37.2, with a digest behind it if you like",
        ));
        return Ok(violations);
    };
    let old = edit.old.as_ref().and_then(|old| old.pod().version(component));
    if let Some(old) = old.filter(|old| old.major != target.major || old.minor.abs_diff(target.minor) > 1) {
        violations.push(Violation::new(
            path,
            format!("{component} would go from {old} to {target}"),
            "go one minor version at a time: kubectl selfhost upgrade",
        ));
    }
    let pods = facts.items(&Lookup::control_plane_pods())?;
    let running = pods.iter().map(Pod).filter(|pod| !Object(pod.0).is_ending());
    for pod in running {
        let Some((other, version)) = pod.component().and_then(|it| Some((it, pod.version(it)?))) else { continue };
        if let Some(message) = skew(component, &target, other, &version) {
            violations.push(Violation::new(
                path,
                format!("{message} in pod {}", Object(pod.0).name_of()),
                "upgrade the API servers first, and go back last: kubectl selfhost upgrade keeps the order",
            ));
        }
    }
    Ok(violations)
}

/// Why `component` at `target` does not get along with what runs.
fn skew(component: Component, target: &KubeVersion, other: Component, runs: &KubeVersion) -> Option<String> {
    let fits = match (component, other) {
        (Component::ApiServer, Component::ApiServer) => return None,
        (Component::ApiServer, _) => target.admits_controller(runs),
        (_, Component::ApiServer) => runs.admits_controller(target),
        _ => return None,
    };
    (!fits).then(|| format!("{component} {target} does not get along with {other} {runs}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, create, daemonset, table};

    #[test]
    fn versions_get_along() {
        let world = World::new();
        let to = |component: Component, image: &str| {
            world.edit_container(component, |it| it["image"] = json!(image))
        };
        let api = |tag: &str| to(Component::ApiServer, &format!("registry.k8s.io/kube-apiserver{tag}"));
        let scheduler = |tag: &str| to(Component::Scheduler, &format!("registry.k8s.io/kube-scheduler{tag}"));
        let mut halfway = World::new();
        for index in 1..=3 {
            let key = format!("kube-system/self-hosted-kube-apiserver-abcd{index}");
            halfway.object_mut("Pod", &key)["spec"]["containers"][0]["image"] =
                json!("registry.k8s.io/kube-apiserver:v1.37.2");
        }
        let mut made = daemonset(Component::Scheduler);
        made["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.k8s.io/kube-scheduler:v1.38.0");
        table(
            &RULE,
            &world,
            [
                ("a minor more", api(":v1.37.2"), false),
                ("a patch more", api(":v1.36.9"), false),
                ("a patch less", api(":v1.36.1"), false),
                ("two minors more", api(":v1.38.0"), true),
                ("a minor less than the others", api(":v1.35.0"), true),
                ("another major", api(":v2.36.3"), true),
                ("with a digest", api(":v1.37.2@sha256:00"), false),
                ("a digest alone", api("@sha256:00"), true),
                ("latest", api(":latest"), true),
                ("no tag", api(""), true),
                ("an image that begins alike", to(Component::ApiServer, "registry.k8s.io/kube-apiserverx:v1.37.2"), true),
                ("another image", to(Component::ApiServer, "evil.org/kube-apiserver/x:v1.37.2"), true),
                ("of an architecture", to(Component::ApiServer, "k8s.gcr.io/kube-apiserver-amd64:v1.36.4"), false),
                ("a scheduler before its API servers", scheduler(":v1.37.2"), true),
                ("a scheduler a minor behind", scheduler(":v1.35.9"), false),
                ("a scheduler a patch ahead", scheduler(":v1.36.9"), false),
                ("made two minors ahead", create(&made), true),
            ],
        );
        let later = halfway.edit_container(Component::Scheduler, |it: &mut Value| {
            it["image"] = json!("registry.k8s.io/kube-scheduler:v1.37.2");
        });
        table(&RULE, &halfway, [("a scheduler after its API servers", later, false)]);
        let mut back = World::new();
        let mut alone = World::new();
        for component in [Component::ControllerManager, Component::Scheduler] {
            for index in 1..=3 {
                let key = format!("kube-system/{}-abcd{index}", component.daemonset_name());
                back.object_mut("Pod", &key)["spec"]["containers"][0]["image"] =
                    json!(format!("registry.k8s.io/{component}:v1.35.9"));
                alone.remove("Pod", &key);
            }
        }
        table(&RULE, &back, [("the last to go back", api(":v1.35.9"), false)]);
        table(
            &RULE,
            &alone,
            [
                ("a minor more, while nothing else runs", api(":v1.37.2"), false),
                ("two minors more, while nothing else runs", api(":v1.38.0"), true),
                ("another major, while nothing else runs", api(":v2.36.3"), true),
            ],
        );
    }
}
