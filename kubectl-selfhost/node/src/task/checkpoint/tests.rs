//! Checkpoints on a real file system.

use std::fs;

use serde_json::json;

use super::*;
use crate::checkpoint::{look, path};
use crate::standby;

struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        Self { dir }
    }

    fn checkpoint(&self, version: &str) -> report::Checkpoint {
        self.try_checkpoint(&pod(version)).unwrap()
    }

    fn try_checkpoint(&self, content: &str) -> Result<report::Checkpoint, Error> {
        self.task(content).run()
    }

    fn task(&self, content: &str) -> Checkpoint {
        let (manifests, state) = (self.dir.path().join("manifests"), self.dir.path().join("state"));
        Checkpoint { manifests, state, content: content.to_owned(), both: false }
    }

    fn slot(&self, slot: &str) -> PathBuf {
        self.in_directory("manifests", slot)
    }

    fn copy(&self, slot: &str) -> PathBuf {
        self.in_directory("state/checkpoints", slot)
    }

    fn in_directory(&self, directory: &str, slot: &str) -> PathBuf {
        path(&self.dir.path().join(directory), slot)
    }
}

fn pod(version: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": "kube-system", "annotations": {"other": "kept"}},
        "spec": {"containers": [
            {"name": "kube-scheduler", "image": format!("kube-scheduler:{version}"), "args":
                ["standby", "--component=kube-scheduler", "--", "kube-scheduler", "--v=2"]},
            {"name": "gate", "image": "node", "args": ["gate"]},
        ]},
    })
    .to_string()
}

#[test]
fn both_generations_become_the_same() {
    let node = Node::new();
    node.checkpoint("v1");
    node.checkpoint("v2");
    let both = || Checkpoint { both: true, ..node.task(&pod("v3")) }.run().unwrap();
    let written = both();
    assert_eq!((written.generation, written.changed), (4, true));
    for slot in SLOTS {
        for file in [node.slot(slot), node.copy(slot)] {
            assert!(fs::read_to_string(file).unwrap().contains("kube-scheduler:v3"), "{slot}");
        }
    }
    let again = both();
    assert_eq!((again.generation, again.changed), (4, false));
    // A kill between the two.
    node.checkpoint("v4");
    let other = Checkpoint { both: true, ..node.task(&pod("v4")) }.run().unwrap();
    assert_eq!((other.generation, other.changed), (6, true));
}

#[test]
fn two_generations_take_turns() {
    let node = Node::new();
    let first = node.checkpoint("v1");
    assert_eq!((first.generation, first.changed, first.file), (1, true, node.slot("a")));
    let again = node.checkpoint("v1");
    assert_eq!((again.generation, again.changed), (1, false));
    let second = node.checkpoint("v2");
    assert_eq!((second.generation, second.file), (2, node.slot("b")));
    let third = node.checkpoint("v3");
    assert_eq!((third.generation, third.file, third.damaged), (3, node.slot("a"), vec![]));
    assert!(
        fs::read_to_string(node.slot("b")).unwrap().contains("kube-scheduler:v2"),
        "the one before is there"
    );
    let program = node.dir.path().join("state").join(PROGRAM);
    assert_eq!(fs::read(program).unwrap(), fs::read("/proc/self/exe").unwrap());
}

#[test]
fn a_checkpoint_says_what_it_was_written_as() {
    let node = Node::new();
    let file = node.checkpoint("v1").file;
    let written: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(written["metadata"]["name"], "control-plane-standby-a");
    assert_eq!(written["metadata"]["annotations"]["kubectl-selfhost.dev/generation"], "1");
    assert_eq!(written["metadata"]["annotations"]["other"], "kept");
    let args: Vec<&str> = written["spec"]["containers"][0]["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    assert_eq!(args[..2], ["standby", "--generation=1"]);
    let digest = standby::digest(1, standby::covered(args[1..].iter().map(|it| it.as_bytes())));
    assert_eq!(args[2], format!("--digest={digest}"), "the supervisor finds the same digest");
    assert_eq!(written["spec"]["containers"][1]["args"], json!(["gate"]));
}

#[test]
fn whatever_is_damaged_is_replaced_and_never_the_good_one() {
    type Damage = fn(&[u8]) -> Vec<u8>;
    let damages: [(&str, Damage); 6] = [
        ("empty", |_| Vec::new()),
        ("cut", |text| text[..text.len() - 2].to_vec()),
        ("zeroed", |text| vec![0; text.len()]),
        ("an argument", |text| String::from_utf8_lossy(text).replace("--v=2", "--v=3").into_bytes()),
        ("an image", |text| String::from_utf8_lossy(text).replace(":v2", ":v1").into_bytes()),
        ("a generation", |text| String::from_utf8_lossy(text).replace("\"2\"", "\"9\"").into_bytes()),
    ];
    for (name, damage) in damages {
        let node = Node::new();
        node.checkpoint("v1");
        let latest = node.checkpoint("v2").file;
        fs::write(&latest, damage(&fs::read(&latest).unwrap())).unwrap();
        assert!(matches!(look(&latest).unwrap(), Slot::Damaged(_)), "{name}");
        let mended = node.checkpoint("v2");
        assert_eq!((mended.changed, mended.file), (true, latest), "{name}");
        assert_eq!(mended.damaged.len(), 1, "{name}");
        assert!(matches!(look(&node.slot("a")).unwrap(), Slot::Good { generation: 1, .. }), "{name}");
    }
}

#[test]
fn there_are_two_good_ones_again_after_one_was_lost() {
    for lose in [|file: &Path| fs::write(file, ""), |file: &Path| fs::remove_file(file)] {
        let node = Node::new();
        let first = node.checkpoint("v1").file;
        node.checkpoint("v2");
        lose(&first).unwrap();
        let mended = node.checkpoint("v2");
        assert_eq!((mended.changed, mended.generation, mended.file), (true, 3, first));
        assert!(matches!(look(&node.slot("b")).unwrap(), Slot::Good { generation: 2, .. }));
        assert!(!node.checkpoint("v2").changed, "again");
    }
}

#[test]
fn each_good_manifest_has_a_copy() {
    let node = Node::new();
    let same = |slot: &str| fs::read(node.slot(slot)).unwrap() == fs::read(node.copy(slot)).unwrap();
    node.checkpoint("v1");
    node.checkpoint("v2");
    assert!(same("a") && same("b"));
    // An earlier version of this program kept none, and a kill comes between the two writes.
    fs::remove_file(node.copy("b")).unwrap();
    fs::write(node.copy("a"), "damaged").unwrap();
    assert!(!node.checkpoint("v2").changed);
    assert!(same("a") && same("b"));
    fs::write(node.slot("a"), "damaged").unwrap();
    node.task(&pod("v2")).keep_copies().unwrap();
    assert!(
        matches!(look(&node.copy("a")).unwrap(), Slot::Good { generation: 1, .. }),
        "damage is not copied"
    );
}

#[test]
fn a_new_generation_is_later_than_every_copy() {
    let node = Node::new();
    node.checkpoint("v1");
    node.checkpoint("v2");
    fs::remove_file(node.slot("a")).unwrap();
    fs::remove_file(node.slot("b")).unwrap();
    assert_eq!(node.checkpoint("v3").generation, 3);
}

#[test]
fn what_is_no_standby_is_refused() {
    let node = Node::new();
    for content in ["", "{}", r#"{"kind":"Pod","metadata":{"name":"etcd"}}"#] {
        assert!(node.try_checkpoint(content).is_err(), "{content:?}");
    }
    assert!(!node.slot("a").exists());
}

#[test]
fn removing_leaves_nothing_and_may_be_repeated() {
    let node = Node::new();
    node.checkpoint("v1");
    node.checkpoint("v2");
    let kept = node.dir.path().join("state/manifests");
    fs::create_dir(&kept).unwrap();
    let task =
        RemoveStandby { manifests: node.dir.path().join("manifests"), state: node.dir.path().join("state") };
    assert_eq!(task.run().unwrap().removed.len(), 5, "two manifests, their copies, and the program");
    assert_eq!(task.run().unwrap().removed, Vec::<PathBuf>::new());
    assert!(kept.exists(), "kept manifests are not its business");
    for directory in ["state/bin", "state/checkpoints"] {
        assert!(!node.dir.path().join(directory).exists(), "{directory}");
    }
}
