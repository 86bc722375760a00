//! Each stage, done once, done twice, and done after a kill in its middle. What needs a kubelet is tried on the bed.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method is of one lifetime, and what a restoration is given is of any"
)]

use std::fs;

use super::*;
use crate::backup::tests::take;
use crate::report::RestoreData;

struct Node {
    dir: tempfile::TempDir,
    config: Config,
    backup: Backup,
}

fn node() -> Node {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("backup");
    let backup = take(dir.path(), &from);
    fs::create_dir_all(backup.etcd.data_dir.join("member/snap")).unwrap();
    fs::write(backup.etcd.data_dir.join("member/snap/db"), "old").unwrap();
    let config = Config {
        from,
        snapshot: None,
        etcd: "https://127.0.0.1:1".parse().unwrap(),
        ports: [1, 2],
        timeout: Duration::ZERO,
        dry_run: false,
    };
    Node { dir, config, backup }
}

impl Node {
    /// Runs `act` on a restoration; what was said.
    fn with<T>(&self, act: impl FnOnce(&mut Restoration<'_>) -> T) -> (T, String) {
        let mut out = Vec::new();
        let mut restoration = Restoration::new(&self.config, &self.backup, &mut out).unwrap();
        let result = act(&mut restoration);
        (result, String::from_utf8(out).unwrap())
    }

    fn refusal(&self) -> Error {
        let mut out = Vec::new();
        Restoration::new(&self.config, &self.backup, &mut out).err().unwrap()
    }

    fn data(&self, path: &str) -> PathBuf {
        self.backup.etcd.data_dir.join(path)
    }
}

#[test]
fn a_damaged_backup_is_refused_before_anything_is_touched() {
    let node = node();
    let snapshot = node.config.from.join(SNAPSHOT);
    fs::write(&snapshot, "snapsho").unwrap();
    let error = node.refusal();
    assert!(error.to_string().starts_with(&format!("{} is damaged", snapshot.display())), "{error}");
    fs::write(&snapshot, "snapshot").unwrap();
    let key = node.backup.directories.pki.join("ca.key");
    let stored = node.backup.file(&key).unwrap().stored(&node.config.from);
    fs::remove_file(&stored).unwrap();
    assert_eq!(node.refusal().to_string(), format!("{} is damaged: it is not there", stored.display()));
    assert!(!node.backup.directories.state.join(journal::DIRECTORY).exists());
}

#[test]
fn another_snapshot_is_proved_by_its_own_checksum() {
    let mut node = node();
    let other = node.dir.path().join("other.db");
    let database = vec![7_u8; 1000];
    let sum = Digest::of(&database).to_string();
    let sum: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&sum[2 * n..2 * n + 2], 16).unwrap()).collect();
    node.config.snapshot = Some(other.clone());
    for (content, whole) in [
        ([&database[..], &sum].concat(), true),
        ([&database[1..], &sum].concat(), false),
        (database.clone(), false),
        (vec![], false),
    ] {
        fs::write(&other, &content).unwrap();
        let mut out = Vec::new();
        let found = Restoration::new(&node.config, &node.backup, &mut out).map(|it| it.sha256);
        assert_eq!(found.ok(), whole.then(|| Digest::of(&content)));
    }
    let own = node.backup.membership(&node.backup.snapshot.sha256);
    assert_ne!(own.token, node.backup.membership(&Digest::of(b"other")).token);
    assert_ne!(own.token, "etcd-cluster", "it must be no member of the cluster that was backed up");
}

#[test]
fn a_restore_is_finished_before_another_begins() {
    let mut node = node();
    node.with(|it| it.turn(Stage::Keep)).0.unwrap();
    let (began, said) = node.with(|it| {
        it.introduce();
        it.journal.began.clone()
    });
    assert!(said.contains(&format!("Going on with what began at {began}.")), "{said}");
    let copy = node.dir.path().join("copy");
    take(node.dir.path(), &copy);
    node.config.from = copy;
    assert!(matches!(node.refusal(), Error::Another { .. }));
}

#[test]
fn a_database_that_is_open_is_waited_for() {
    let node = node();
    let database = node.data("member").join(DATABASE);
    assert!(!is_held(&database).unwrap());
    // As etcd's own store does it (bbolt, `flock` in its bolt_unix.go).
    let etcd = File::open(&database).unwrap();
    flock(&etcd, FlockOperation::LockExclusive).unwrap();
    assert!(is_held(&database).unwrap());
    let stopped = node.with(|it| it.stop()).0;
    assert!(matches!(stopped, Err(Error::StillRuns { .. })), "{stopped:?}");
    drop(etcd);
    assert!(!is_held(&database).unwrap());
    assert!(!is_held(&node.data("none")).unwrap());
}

#[test]
fn data_is_kept_once() {
    let node = node();
    node.with(|it| it.turn(Stage::Keep)).0.unwrap();
    for _ in 0..2 {
        node.with(|it| it.keep()).0.unwrap();
        let (_, kept) = node.with(|it| it.member()).0;
        assert_eq!(fs::read_to_string(kept.join("snap/db")).unwrap(), "old");
        assert!(!node.data("member").exists());
    }
    // Data that somebody else put there meanwhile is neither lost nor taken for what was restored.
    fs::create_dir(node.data("member")).unwrap();
    assert!(matches!(node.with(|it| it.keep()).0, Err(Error::File(_))));
}

/// The stage of the data, killed at each of its points: before the Pod, while it runs, when it has failed, when it is
/// done, and after the data has its name.
#[test]
fn the_pod_is_started_once_and_its_work_is_used_when_it_is_whole() {
    let node = node();
    node.with(|it| it.turn(Stage::Data)).0.unwrap();
    node.with(|it| it.keep()).0.unwrap();
    let manifest = node.backup.directories.manifests.join("selfhost-restore.yaml");
    let result = node.backup.directories.state.join("restore/result.json");
    let restore = || node.with(|it| it.restore()).0;
    let write = |restored: &Restored| fs::write(&result, serde_json::to_vec(restored).unwrap()).unwrap();

    assert!(matches!(restore(), Err(Error::NoResult { .. })));
    let first = fs::read_to_string(&manifest).unwrap();
    assert!(matches!(restore(), Err(Error::NoResult { .. })));
    assert_eq!(fs::read_to_string(&manifest).unwrap(), first, "the Pod that runs goes on");

    write(&Restored::Failed("no room".to_owned()));
    // What is left of an earlier failure does not count.
    assert!(matches!(restore(), Err(Error::NoResult { .. })));
    assert_ne!(fs::read_to_string(&manifest).unwrap(), first, "the next attempt is another Pod");

    let made = node.data(&format!("restored-{}", node.with(|it| it.journal.began.clone()).0));
    fs::create_dir_all(made.join("member/snap")).unwrap();
    fs::write(made.join("member/snap/db"), "new").unwrap();
    write(&Restored::Done(RestoreData { data: made.clone(), tool: "etcdutl".to_owned(), ahead: false }));
    let (restored, said) = node.with(|it| it.restore());
    restored.unwrap();
    assert!(said.contains("cannot put its revision ahead"), "{said}");
    assert!(!manifest.exists() && !made.exists());
    // Killed after the data had its name.
    fs::create_dir(&made).unwrap();
    restore().unwrap();
    assert!(!made.exists());
    assert_eq!(fs::read_to_string(node.data("member/snap/db")).unwrap(), "new");
}

#[test]
fn a_rehearsal_changes_nothing() {
    let mut node = node();
    node.config.dry_run = true;
    fs::remove_file(node.backup.directories.pki.join("ca.crt")).unwrap();
    let mut out = Vec::new();
    Restoration::new(&node.config, &node.backup, &mut out).unwrap().run().unwrap();
    let said = String::from_utf8(out).unwrap();
    for line in [
        "Would move ",
        "Would rename ",
        "pki/ca.crt.",
        "Would restore etcd with registry.k8s.io/etcd:3.6.8-0.",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.ends_with("Next: the same command without --dry-run\n"));
    assert!(!node.backup.directories.state.join(journal::DIRECTORY).exists());
    assert!(node.data("member").exists() && !node.backup.directories.pki.join("ca.crt").exists());
}

#[test]
fn what_restore_cannot_do_is_refused() {
    let node = node();
    let etcd = node.backup.file(&node.backup.directories.manifests.join(ETCD)).unwrap().clone();
    let mut other = node.backup.clone();
    other.files.retain(|entry| entry.path != etcd.path);
    let refusal = |backup: &Backup| {
        let mut out = Vec::new();
        Restoration::new(&node.config, backup, &mut out).err().unwrap()
    };
    assert!(matches!(refusal(&other), Error::NoEtcd(_)));
    let text = "command:\n- etcd\n- --wal-dir=/fast/wal\n";
    fs::write(etcd.stored(&node.config.from), text).unwrap();
    let mut other = node.backup.clone();
    let entry = other.files.iter_mut().find(|entry| entry.path == etcd.path).unwrap();
    (entry.size, entry.sha256) = (text.len() as u64, Digest::of(text.as_bytes()));
    assert!(matches!(refusal(&other), Error::WalDir(wal) if wal == "/fast/wal"));
}
