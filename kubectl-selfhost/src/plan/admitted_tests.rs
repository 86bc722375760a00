//! Every write of every plan is admitted by the guard's rules, in the state of the cluster in which it is made.
//!
//! A plan is carried out on objects in memory: what each step writes is judged before it happens, by the rules that the
//! guard runs, with whatever they ask for answered from those objects.

use std::time::Duration;

use proptest::prelude::*;
use selfhost_core::review::{Facts, Request, Settings};
use selfhost_core::rules;
use serde_json::{Value, json};

use super::*;
use crate::guard::change::{self, Asker, Identity};
use crate::node_task::{self, Task};
use crate::plan::tests::{IMAGE, checkpointed, kubeadm, swapped, v};

/// kubeadm's command lines, as far as rules want to see them kept.
const FLAGS: [(Component, &[&str]); 3] = [
    (
        Component::ApiServer,
        &[
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--client-ca-file=/etc/kubernetes/pki/ca.crt",
            "--etcd-servers=https://127.0.0.1:2379",
            "--secure-port=6443",
            "--service-cluster-ip-range=10.96.0.0/12",
        ],
    ),
    (
        Component::ControllerManager,
        &["--use-service-account-credentials=true", "--root-ca-file=/etc/kubernetes/pki/ca.crt"],
    ),
    (Component::Scheduler, &["--kubeconfig=/etc/kubernetes/scheduler.conf"]),
];

/// kubeadm's cluster with kubeadm's flags and volumes.
fn whole(n_nodes: usize, version: &str) -> Inventory {
    let mut inventory = kubeadm(n_nodes, version);
    for node in inventory.control_plane.values_mut() {
        let role = labels::CONTROL_PLANE_ROLES[0].to_owned();
        node.metadata.labels.get_or_insert_default().insert(role, String::new());
    }
    for instance in &mut inventory.instances {
        let more = FLAGS.iter().find(|(component, _)| *component == instance.component).unwrap().1;
        let spec = instance.pod.spec.as_mut().unwrap();
        let command = spec.containers[0].command.as_mut().unwrap();
        command.extend(more.iter().map(|flag| (*flag).to_owned()));
        spec.volumes = serde_json::from_value(json!([
            {"name": "k8s", "hostPath": {"path": "/etc/kubernetes", "type": "DirectoryOrCreate"}},
        ]))
        .unwrap();
        spec.containers[0].volume_mounts = serde_json::from_value(
            json!([{"name": "k8s", "mountPath": "/etc/kubernetes", "readOnly": true}]),
        )
        .unwrap();
        spec.priority_class_name = Some("system-node-critical".to_owned());
    }
    inventory
}

/// The same, of which the first `moved` swaps of a pivot are done.
fn partly(n_nodes: usize, moved: usize) -> Inventory {
    let mut inventory = whole(n_nodes, "v1.36.3");
    let plan = pivot::plan(&inventory, IMAGE, None).unwrap();
    let swaps =
        Component::ALL.iter().flat_map(|component| plan.nodes.keys().map(move |node| (*component, node)));
    for (component, node) in swaps.take(moved) {
        swapped(&mut inventory, component, node, &plan.templates[&component]);
        labelled(inventory.control_plane.get_mut(node).unwrap(), component);
    }
    if moved > 0 {
        checkpointed(&mut inventory, &plan);
    }
    inventory
}

/// Every API server has a credential for the guard. That plan is carried out while no guard is registered: what it adds
/// to an API server, the rules want an approval for.
fn arm(inventory: &mut Inventory) {
    let plan = guard::plan(inventory, Some("0a1b"), IMAGE).unwrap();
    for node in plan.nodes.keys() {
        swapped(inventory, Component::ApiServer, node, &plan.templates[&Component::ApiServer]);
    }
    checkpointed(inventory, &plan);
}

fn labelled(node: &mut k8s_openapi::api::core::v1::Node, component: Component) {
    let labels = node.metadata.labels.get_or_insert_default();
    labels.insert(labels::node_label(component).to_owned(), "true".to_owned());
}

/// The objects of a cluster, and who judges what is done to them.
struct World {
    objects: Vec<Value>,
    settings: Settings,
    /// Steps and writes so far, for whoever reads a failure.
    log: Vec<String>,
}

impl World {
    fn of(inventory: &Inventory) -> Self {
        let mut world = Self { objects: Vec::new(), settings: Settings::default(), log: Vec::new() };
        world.settings.node_images.insert(IMAGE.to_owned());
        for node in inventory.control_plane.values() {
            world.put(value("v1", "Node", node));
        }
        for daemonset in inventory.daemonsets.values() {
            world.put(value("apps/v1", "DaemonSet", daemonset));
        }
        for (index, instance) in inventory.instances.iter().enumerate() {
            let mut pod = value("v1", "Pod", &instance.pod);
            if instance.hosting == Hosting::SelfHosted {
                pod["metadata"]["name"] = format!("{}-{index}", instance.component.daemonset_name()).into();
                pod["metadata"]["namespace"] = labels::NAMESPACE.into();
            }
            world.put(pod);
        }
        world
    }

    fn find(&self, id: &Identity) -> Option<&Value> {
        self.objects.iter().find(|it| Identity::of(it) == *id)
    }

    fn put(&mut self, mut object: Value) {
        let id = Identity::of(&object);
        object["metadata"]["uid"] = id.to_string().into();
        self.objects.retain(|it| Identity::of(it) != id);
        self.objects.push(object);
    }

    /// A write, which must be admitted, and takes place.
    fn write(&mut self, mut object: Value) {
        let old = self.find(&Identity::of(&object)).cloned();
        if let Some(old) = &old {
            // A write of some fields keeps the others.
            for field in ["uid", "labels", "annotations"] {
                if object["metadata"][field].is_null() && !old["metadata"][field].is_null() {
                    object["metadata"][field] = old["metadata"][field].clone();
                }
            }
        }
        self.judge(&object, old.as_ref(), false);
        self.put(object);
    }

    fn delete(&mut self, id: &Identity) {
        let old = self.find(id).cloned().unwrap_or_else(|| panic!("there is no {id}: {:#?}", self.log));
        self.judge(&old, Some(&old), true);
        self.objects.retain(|it| Identity::of(it) != *id);
    }

    fn judge(&mut self, object: &Value, old: Option<&Value>, delete: bool) {
        let request = change::request(object, old, delete, &Asker::named(None, &[]));
        let what = format!("  {} {}", request["operation"].as_str().unwrap(), Identity::of(object));
        self.log.push(what);
        let request = Request::parse(request.to_string().as_bytes()).unwrap();
        let verdict =
            rules::conclude(&request, &self.settings, Facts::at(0), |lookup| lookup.among(&self.objects));
        assert!(verdict.allowed, "{}\nafter {:#?}", verdict.message(), self.log);
    }

    fn pods(&self, component: Component, node: &str) -> Vec<Identity> {
        let of = |pod: &&Value| {
            pod["kind"] == "Pod"
                && pod["spec"]["nodeName"] == node
                && pod["metadata"]["labels"][labels::COMPONENT] == component.name()
        };
        self.objects.iter().filter(of).map(Identity::of).collect()
    }

    /// What the kubelet or a controller does, which is not ours to be judged.
    fn forget(&mut self, component: Component, node: &str) {
        let gone = self.pods(component, node);
        self.objects.retain(|it| !gone.contains(&Identity::of(it)));
    }

    fn edit_node(&mut self, node: &str, edit: impl FnOnce(&mut Value)) {
        let id = Identity {
            api_version: "v1".into(),
            kind: "Node".into(),
            namespace: String::new(),
            name: node.into(),
        };
        let mut node = self.find(&id).cloned().unwrap();
        edit(&mut node);
        self.write(node);
    }

    /// The DaemonSet controller's Pod.
    fn start(&mut self, plan: &Plan, component: Component, node: &str) {
        let template = &plan.templates[&component];
        let mut pod = json!({"metadata": template.metadata, "spec": template.spec});
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"]["name"] = format!("{}-new-{node}", component.daemonset_name()).into();
        pod["metadata"]["namespace"] = labels::NAMESPACE.into();
        pod["spec"]["nodeName"] = node.into();
        pod["status"] = ready(plan, node);
        self.put(pod);
    }

    /// A node task's Pod: made and removed.
    fn task(&mut self, name: &str, node: &str) {
        let task = Task {
            name,
            node,
            image: IMAGE,
            args: Vec::new(),
            directories: vec!["/var/lib/selfhost".to_owned()],
            limit: Duration::ZERO,
        };
        let pod = value("v1", "Pod", &node_task::pod(&task));
        let id = Identity::of(&pod);
        self.write(pod);
        self.delete(&id);
    }

    fn carry_out(&mut self, plan: &Plan) {
        for step in &plan.steps {
            self.log.push(step.to_string());
            match (step.component, step.node.as_deref()) {
                (Some(component), Some(node)) => self.swap(plan, step.verb, component, node),
                (Some(component), None) => self.daemonset(plan, step.verb, component),
                (None, Some(node)) => match step.verb {
                    Verb::Checkpoint | Verb::Renew => self.task("checkpoint", node),
                    Verb::Clean => {
                        self.release(plan, Component::ApiServer, node);
                        self.task("clean", node);
                        self.edit_node(node, |it| it["metadata"]["annotations"] = json!({}));
                    }
                    other => panic!("{other:?} of a node"),
                },
                // kubeadm's ConfigMap is read by kubeadm alone.
                (None, None) => assert_eq!(step.verb, Verb::Record),
            }
        }
    }

    fn daemonset(&mut self, plan: &Plan, verb: Verb, component: Component) {
        let daemonset = value(
            "apps/v1",
            "DaemonSet",
            &template::daemonset(component, plan.templates[&component].clone()),
        );
        match verb {
            Verb::Apply => self.write(daemonset),
            Verb::Remove => {
                if self.find(&Identity::of(&daemonset)).is_some() {
                    self.delete(&Identity::of(&daemonset));
                }
            }
            other => panic!("{other:?} of a DaemonSet"),
        }
    }

    /// Removes the bridge and its announcement, where they are.
    fn release(&mut self, plan: &Plan, component: Component, node: &str) {
        let bridge = plan.bridge(component, node).map(|it| Identity::of(&value("v1", "Pod", &it)));
        let slice = bridge::endpoint_slice(plan.nodes[node].address, plan.port(component));
        let slice = Identity::of(&value("discovery.k8s.io/v1", "EndpointSlice", &slice));
        for id in bridge.into_iter().chain([slice]) {
            if self.find(&id).is_some() {
                self.delete(&id);
            }
        }
    }

    fn swap(&mut self, plan: &Plan, verb: Verb, component: Component, node: &str) {
        let label = labels::node_label(component);
        match verb {
            Verb::Bridge => {
                let mut pod = value("v1", "Pod", &plan.bridge(component, node).unwrap());
                let id = Identity::of(&pod);
                self.write(pod.clone());
                pod["status"] = ready(plan, node);
                self.put(pod);
                assert!(self.find(&id).is_some());
            }
            Verb::Announce => self.write(value(
                "discovery.k8s.io/v1",
                "EndpointSlice",
                &bridge::endpoint_slice(plan.nodes[node].address, plan.port(component)),
            )),
            Verb::Apply => self.daemonset(plan, verb, component),
            Verb::Retire => {
                self.task("retire-manifest", node);
                self.forget(component, node);
                self.edit_node(node, |it| it["metadata"]["labels"][label] = "true".into());
                self.start(plan, component, node);
            }
            Verb::Start => {
                self.edit_node(node, |it| it["metadata"]["labels"][label] = "true".into());
                self.start(plan, component, node);
            }
            Verb::Delete => {
                for pod in self.pods(component, node) {
                    self.delete(&pod);
                }
                self.start(plan, component, node);
            }
            Verb::Withdraw => {
                for pod in self.pods(component, node) {
                    self.delete(&pod);
                }
                self.edit_node(node, |it| {
                    drop(it["metadata"]["labels"].as_object_mut().unwrap().remove(label));
                });
                // What the DaemonSet controller made before it saw that, and nobody can place.
                self.start(plan, component, node);
                for id in self.pods(component, node) {
                    let mut stray = self.find(&id).cloned().unwrap();
                    drop(stray["spec"].as_object_mut().unwrap().remove("nodeName"));
                    stray["status"] = json!({"phase": "Pending"});
                    self.put(stray);
                    self.delete(&id);
                }
            }
            Verb::Restore => {
                self.task("restore-manifest", node);
                // The kubelet shows its static Pod.
                self.start(plan, component, node);
                for id in self.pods(component, node) {
                    let mut pod = self.find(&id).cloned().unwrap();
                    pod["metadata"]["annotations"] = json!({labels::MIRROR: "x"});
                    self.put(pod);
                }
            }
            Verb::Await if component == Component::ApiServer => {
                // kubeadm's annotation, on the new Pod.
                for id in self.pods(component, node) {
                    let mut pod = self.find(&id).cloned().unwrap();
                    pod["metadata"]["annotations"][labels::ADVERTISE_ADDRESS] =
                        plan.nodes[node].endpoint(plan.port(component)).into();
                    self.write(pod);
                }
            }
            Verb::Release => self.release(plan, component, node),
            Verb::Checkpoint => self.task("checkpoint", node),
            // Leases, which no rule looks at, and waiting.
            Verb::HandOver | Verb::Await => {}
            other => panic!("{other:?} of a component on a node"),
        }
    }
}

fn ready(plan: &Plan, node: &str) -> Value {
    json!({"hostIP": plan.nodes[node].address, "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
}

fn value(api_version: &str, kind: &str, object: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    value
}

/// Everything that is planned for a self-hosted control plane, and for one that is on its way.
fn plans(inventory: &Inventory, is_hosted: bool) -> Vec<Plan> {
    let mut plans = vec![pivot::plan(inventory, IMAGE, None).unwrap()];
    if is_hosted {
        let target = v("v1.37.2");
        plans.push(upgrade::plan(inventory, &target, IMAGE, None, None).unwrap());
        plans.push(upgrade::plan(inventory, &v("v1.36.9"), IMAGE, None, None).unwrap());
        plans.push(upgrade::emulate(inventory, &target, IMAGE, None).unwrap());
        plans.push(refresh::plan(inventory, Goal::Refresh, IMAGE).unwrap());
        let discard = unpivot::Options { discard_changes: true, undo: None };
        plans.extend(unpivot::plan(inventory, IMAGE, discard));
        plans.push(back_from(inventory, "v1.37.2"));
    }
    plans
}

/// The way back to what runs, from what an upgrade that was interrupted has written.
fn back_from(inventory: &Inventory, version: &str) -> Plan {
    let templates = inventory.daemonsets.iter().map(|(c, d)| (*c, d.spec.template.clone())).collect();
    let mut upgraded = inventory.clone();
    let plan = upgrade::plan(inventory, &v(version), IMAGE, None, None).unwrap();
    for component in Component::ALL {
        for node in plan.nodes.keys() {
            swapped(&mut upgraded, component, node, &plan.templates[&component]);
        }
    }
    let destination = back::Destination { templates, recorded: None };
    back::plan(&upgraded, Goal::Rollback(v("v1.36.3")), &destination, IMAGE).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// From wherever a pivot was interrupted, to wherever a plan leads.
    #[test]
    fn every_write_of_every_plan_is_admitted(n_nodes in 1_usize..=3, moved in 0_usize..=9, is_guarded: bool) {
        let all = 3 * n_nodes;
        let moved = moved.min(all);
        let mut inventory = partly(n_nodes, moved);
        if is_guarded && moved == all {
            arm(&mut inventory);
        }
        for plan in plans(&inventory, moved == all) {
            verify::verify(&plan).unwrap();
            let mut world = if matches!(plan.goal, Goal::Rollback(_)) {
                let mut upgraded = World::of(&inventory);
                upgraded.carry_out(&upgrade::plan(&inventory, &v("v1.37.2"), IMAGE, None, None).unwrap());
                upgraded
            } else {
                World::of(&inventory)
            };
            world.carry_out(&plan);
        }
    }
}
