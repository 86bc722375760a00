//! Retire and restore in temporary directories, with kills between any two steps.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const OLD: &str = "kind: Pod # old\n";
const NEW: &str = "kind: Pod # new\n";

/// A node's two directories. The port is one that nobody listens on, so that no test waits.
struct Node {
    dir: TempDir,
}

impl Node {
    fn with(manifest: &str) -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(node.dir.path().join("manifests")).unwrap();
        fs::write(node.file(), manifest).unwrap();
        fs::set_permissions(node.file(), fs::Permissions::from_mode(0o600)).unwrap();
        node
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("manifests/kube-apiserver.yaml")
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.dir.path().join("selfhost/kept").join(name)
    }

    fn retire(&self, planned: &str) -> Retire {
        Retire {
            file: self.file(),
            kept: self.kept(""),
            planned: Digest::of(planned.as_bytes()),
            port: 0,
            timeout: Duration::ZERO,
        }
    }

    fn restore(&self) -> Restore {
        Restore { file: self.file(), kept: self.kept(""), image: None }
    }

    /// All files, with their content, by path below the node's root.
    fn tree(&self) -> Vec<(String, String)> {
        fn walk(dir: &Path, root: &Path, found: &mut Vec<(String, String)>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, found);
                } else {
                    let name = path.strip_prefix(root).unwrap().display().to_string();
                    found.push((name, fs::read_to_string(&path).unwrap()));
                }
            }
        }
        let mut found = Vec::new();
        walk(self.dir.path(), self.dir.path(), &mut found);
        found.sort();
        found
    }
}

fn tree(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|&(name, content)| (name.to_owned(), content.to_owned())).collect()
}

const IN_PLACE: &str = "manifests/kube-apiserver.yaml";
const KEPT: &str = "selfhost/kept/kube-apiserver.yaml";

#[test]
fn a_manifest_is_kept_and_removed() {
    let node = Node::with(OLD);
    let report = node.retire(OLD).run(&Stop::never()).unwrap();
    assert!(report.removed);
    assert_eq!(report.kept, node.kept("kube-apiserver.yaml"));
    assert_eq!(report.sha256, Digest::of(OLD.as_bytes()).to_string());
    assert_eq!(node.tree(), tree(&[(KEPT, OLD)]));
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(node.kept("kube-apiserver.yaml")), 0o600);
    assert_eq!(mode(node.kept("")), 0o700);
}

#[test]
fn retiring_again_changes_nothing() {
    let node = Node::with(OLD);
    node.retire(OLD).run(&Stop::never()).unwrap();
    let report = node.retire(OLD).run(&Stop::never()).unwrap();
    assert!(!report.removed);
    assert_eq!(node.tree(), tree(&[(KEPT, OLD)]));
}

#[test]
fn a_manifest_that_the_plan_did_not_see_is_left_alone() {
    let node = Node::with(NEW);
    let error = node.retire(OLD).run(&Stop::never()).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    assert_eq!(node.tree(), tree(&[(IN_PLACE, NEW)]));
}

#[test]
fn an_edit_while_copying_is_noticed() {
    let node = Node::with(OLD);
    let retire = node.retire(OLD);
    let manifest = files::read(&retire.file).unwrap().unwrap();
    retire.keep(&manifest, &node.kept("kube-apiserver.yaml")).unwrap();
    fs::write(node.file(), NEW).unwrap();
    let error = retire.remove().unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    assert_eq!(node.tree(), tree(&[(IN_PLACE, NEW), (KEPT, OLD)]));
}

#[test]
fn a_run_killed_after_the_copy_is_finished_by_the_next() {
    let node = Node::with(OLD);
    let retire = node.retire(OLD);
    let manifest = files::read(&retire.file).unwrap().unwrap();
    retire.keep(&manifest, &node.kept("kube-apiserver.yaml")).unwrap();
    assert_eq!(node.tree(), tree(&[(IN_PLACE, OLD), (KEPT, OLD)]));

    assert!(retire.run(&Stop::never()).unwrap().removed);
    assert_eq!(node.tree(), tree(&[(KEPT, OLD)]));
}

#[test]
fn a_run_killed_while_copying_is_finished_by_the_next() {
    let node = Node::with(OLD);
    fs::create_dir_all(node.kept("")).unwrap();
    fs::write(node.kept(".kube-apiserver.yaml.tmp"), "kin").unwrap();
    node.retire(OLD).run(&Stop::never()).unwrap();
    assert_eq!(node.tree(), tree(&[(KEPT, OLD)]));
}

#[test]
fn a_different_kept_copy_is_set_aside() {
    let node = Node::with(NEW);
    fs::create_dir_all(node.kept("")).unwrap();
    fs::write(node.kept("kube-apiserver.yaml"), OLD).unwrap();
    let aside = format!("{KEPT}.{}", Digest::of(OLD.as_bytes()).short());

    // Killed after the old copy got its second name, before the new one took the first.
    let retire = node.retire(NEW);
    set_aside(
        &node.kept("kube-apiserver.yaml"),
        &files::read(&node.kept("kube-apiserver.yaml")).unwrap().unwrap(),
    )
    .unwrap();
    assert_eq!(node.tree(), tree(&[(IN_PLACE, NEW), (KEPT, OLD), (&aside, OLD)]));

    retire.run(&Stop::never()).unwrap();
    assert_eq!(node.tree(), tree(&[(KEPT, NEW), (&aside, OLD)]));
}

/// A manifest that `recover` made, cut to its mark.
const RECOVERED: &str =
    r#"{"kind": "Pod", "metadata": {"annotations": {"kubectl-selfhost.dev/recovered": "true"}}}"#;

#[test]
fn what_recover_made_takes_nobodys_place() {
    let node = Node::with(RECOVERED);
    fs::create_dir_all(node.kept("")).unwrap();
    fs::write(node.kept("kube-apiserver.yaml"), OLD).unwrap();
    let aside = format!("{KEPT}.{}", Digest::of(RECOVERED.as_bytes()).short());
    let report = node.retire(RECOVERED).run(&Stop::never()).unwrap();
    assert!(report.aside && report.removed && report.kept.ends_with(aside.rsplit('/').next().unwrap()));
    assert_eq!(node.tree(), tree(&[(KEPT, OLD), (&aside, RECOVERED)]));
    let again = node.retire(RECOVERED).run(&Stop::never()).unwrap();
    assert_eq!(again, report::Retire { removed: false, waited_ms: again.waited_ms, ..report });

    assert!(node.restore().run().unwrap().restored);
    assert_eq!(fs::read_to_string(node.file()).unwrap(), OLD, "the other one is put back");
}

#[test]
fn what_recover_made_is_kept_like_any_other_where_there_is_no_other() {
    let node = Node::with(RECOVERED);
    assert!(!node.retire(RECOVERED).run(&Stop::never()).unwrap().aside);
    assert_eq!(node.tree(), tree(&[(KEPT, RECOVERED)]));
    // Later somebody writes a manifest.
    fs::write(node.file(), NEW).unwrap();
    assert!(!node.retire(NEW).run(&Stop::never()).unwrap().aside);
    let aside = format!("{KEPT}.{}", Digest::of(RECOVERED.as_bytes()).short());
    assert_eq!(node.tree(), tree(&[(KEPT, NEW), (&aside, RECOVERED)]));
}

#[test]
fn what_is_beside_is_never_lost() {
    let node = Node::with(RECOVERED);
    fs::create_dir_all(node.kept("")).unwrap();
    fs::write(node.kept("kube-apiserver.yaml"), OLD).unwrap();
    let aside = format!("{KEPT}.{}", Digest::of(RECOVERED.as_bytes()).short());
    fs::write(node.dir.path().join(&aside), NEW).unwrap();
    node.retire(RECOVERED).run(&Stop::never()).unwrap();
    let further = format!("{aside}.{}", Digest::of(NEW.as_bytes()).short());
    assert_eq!(node.tree(), tree(&[(KEPT, OLD), (&aside, RECOVERED), (&further, NEW)]));
}

#[test]
fn what_was_set_aside_is_never_overwritten() {
    let node = Node::with(NEW);
    fs::create_dir_all(node.kept("")).unwrap();
    fs::write(node.kept("kube-apiserver.yaml"), OLD).unwrap();
    let aside = node.kept(&format!("kube-apiserver.yaml.{}", Digest::of(OLD.as_bytes()).short()));
    fs::write(&aside, "something else").unwrap();
    let before = node.tree();
    let error = node.retire(NEW).run(&Stop::never()).unwrap_err();
    assert!(matches!(error, Error::Occupied(_)), "{error}");
    assert_eq!(node.tree(), before);
}

#[test]
fn a_missing_manifest_without_its_copy_is_an_error() {
    let node = Node::with(OLD);
    fs::remove_file(node.file()).unwrap();
    assert!(matches!(node.retire(OLD).run(&Stop::never()).unwrap_err(), Error::Gone { .. }));
    fs::create_dir_all(node.kept("")).unwrap();
    fs::write(node.kept("kube-apiserver.yaml"), NEW).unwrap();
    assert!(matches!(node.retire(OLD).run(&Stop::never()).unwrap_err(), Error::Gone { .. }));
}

#[test]
fn a_link_is_not_a_manifest() {
    let node = Node::with(OLD);
    let target = node.dir.path().join("elsewhere.yaml");
    fs::rename(node.file(), &target).unwrap();
    std::os::unix::fs::symlink(&target, node.file()).unwrap();
    node.retire(OLD).run(&Stop::never()).unwrap_err();
    assert!(node.file().is_symlink() && target.exists());
}

#[test]
fn the_server_must_leave_its_port() {
    let node = Node::with(OLD);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let retire = Retire {
        port: listener.local_addr().unwrap().port(),
        timeout: Duration::from_millis(20),
        ..node.retire(OLD)
    };
    assert!(matches!(retire.run(&Stop::never()).unwrap_err(), Error::Port(port::Error::Busy { .. })));
    drop(listener);
    assert!(!retire.run(&Stop::never()).unwrap().removed, "the first run removed it");
}

#[test]
fn a_kept_manifest_comes_back_as_it_was() {
    let node = Node::with(OLD);
    node.retire(OLD).run(&Stop::never()).unwrap();
    let report = node.restore().run().unwrap();
    assert!(report.restored);
    assert_eq!(node.tree(), tree(&[(IN_PLACE, OLD), (KEPT, OLD)]));
    assert_eq!(fs::metadata(node.file()).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!node.restore().run().unwrap().restored, "again");
}

#[test]
fn a_kept_manifest_comes_back_with_another_image_and_every_other_byte() {
    for (line, expected) in [
        ("    image: r.io/kube-apiserver:v1.36.3\n", "    image: r.io/kube-apiserver:v1.37.2\n"),
        ("  - image: \"r.io/kube-apiserver:v1.36.3\" \n", "  - image: \"r.io/kube-apiserver:v1.37.2\" \n"),
    ] {
        let around = |line: &str| format!("# image: r.io/kube-apiserver:v1.36.3\r\nspec:\n{line}    name: x");
        let node = Node::with(&around(line));
        node.retire(&around(line)).run(&Stop::never()).unwrap();
        let image = |kept: &str| Restore {
            image: Some(OtherImage { kept: kept.to_owned(), runs: "r.io/kube-apiserver:v1.37.2".to_owned() }),
            ..node.restore()
        };
        let error = image("r.io/kube-apiserver:v1.35.0").run().unwrap_err();
        assert!(matches!(error, Error::Image { found: 0, .. }), "{error}");
        assert!(image("r.io/kube-apiserver:v1.36.3").run().unwrap().restored);
        assert_eq!(node.tree(), tree(&[(IN_PLACE, &around(expected)), (KEPT, &around(line))]));
        assert!(!image("r.io/kube-apiserver:v1.36.3").run().unwrap().restored, "again");
    }
}

#[test]
fn restoring_after_a_kill_while_copying() {
    let node = Node::with(OLD);
    node.retire(OLD).run(&Stop::never()).unwrap();
    // The name has a leading dot: the kubelet does not see it.
    fs::write(node.file().with_file_name(".kube-apiserver.yaml.tmp"), "ki").unwrap();
    assert!(node.restore().run().unwrap().restored);
    assert_eq!(node.tree(), tree(&[(IN_PLACE, OLD), (KEPT, OLD)]));
}

#[test]
fn restoring_never_overwrites() {
    let node = Node::with(OLD);
    assert!(matches!(node.restore().run().unwrap_err(), Error::NotKept(_)));
    node.retire(OLD).run(&Stop::never()).unwrap();
    fs::write(node.file(), NEW).unwrap();
    assert!(matches!(node.restore().run().unwrap_err(), Error::Different { .. }));
    assert_eq!(node.tree(), tree(&[(IN_PLACE, NEW), (KEPT, OLD)]));
}

#[test]
fn a_file_that_appears_while_restoring_is_not_overwritten() {
    let node = Node::with(OLD);
    let content = files::read(&node.file()).unwrap().unwrap();
    fs::write(node.file(), NEW).unwrap();
    files::write_new(&node.file(), &content).unwrap_err();
    assert_eq!(fs::read_to_string(node.file()).unwrap(), NEW);
}
