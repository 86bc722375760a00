//! Backups that are whole, and backups that are not.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A node's files below a directory of the test's.
pub(crate) fn node(root: &Path) -> Directories {
    for (path, text, mode) in [
        ("etc/kubernetes/manifests/etcd.yaml", "etcd", 0o600),
        ("etc/kubernetes/manifests/.etcd.yaml.tmp", "half", 0o600),
        ("etc/kubernetes/admin.conf", "admin", 0o600),
        ("etc/kubernetes/notes.txt", "notes", 0o644),
        ("etc/kubernetes/pki/ca.crt", "ca", 0o644),
        ("etc/kubernetes/pki/ca.key", "ca key", 0o600),
        ("etc/kubernetes/pki/etcd/ca.crt", "etcd ca", 0o644),
        ("var/lib/selfhost/manifests/kube-apiserver.yaml", "kept", 0o600),
        ("var/lib/selfhost/checkpoints/control-plane-standby-a.yaml", "copy", 0o600),
        ("var/lib/selfhost/backups/old/backup.json", "{}", 0o600),
        ("srv/audit.yaml", "policy", 0o640),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    Directories {
        manifests: root.join("etc/kubernetes/manifests"),
        pki: root.join("etc/kubernetes/pki"),
        state: root.join("var/lib/selfhost"),
    }
}

/// A backup of that node, in a directory of its own.
pub(crate) fn take(root: &Path, directory: &Path) -> Backup {
    let directories = node(root);
    fs::create_dir_all(directory).unwrap();
    let paths = collect::find(&directories, &[root.join("srv/audit.yaml")]).unwrap();
    let files = collect::copy(&paths, directory).unwrap();
    fs::write(directory.join(SNAPSHOT), "snapshot").unwrap();
    let backup = Backup {
        format: FORMAT,
        taken: "2026-11-25T01:46:45.000Z".to_owned(),
        node: "cp1".to_owned(),
        kubernetes: "v1.37.2".to_owned(),
        etcd: Etcd {
            version: "3.6.8".to_owned(),
            image: "registry.k8s.io/etcd:3.6.8-0".to_owned(),
            cluster_id: "1".to_owned(),
            member: "cp1".to_owned(),
            members: vec![Member {
                name: "cp1".to_owned(),
                peer_urls: vec!["https://10.0.0.1:2380".to_owned()],
            }],
            data_dir: root.join("var/lib/etcd"),
        },
        snapshot: Snapshot {
            size: 8,
            sha256: Digest::of(b"snapshot"),
            revision: 540,
            keys: 300,
            checked_by: "etcdutl".to_owned(),
        },
        directories,
        files,
    };
    fs::write(directory.join(RECORD), serde_json::to_vec_pretty(&backup).unwrap()).unwrap();
    backup
}

#[test]
fn a_backup_has_the_control_plane_of_its_node() {
    let dir = tempfile::tempdir().unwrap();
    let directories = node(dir.path());
    let at = |path: &str| dir.path().join(path);
    symlink("ca.crt", at("etc/kubernetes/pki/link.crt")).unwrap();
    symlink("nothing", at("etc/kubernetes/pki/broken.crt")).unwrap();
    symlink("..", at("etc/kubernetes/pki/up")).unwrap();
    let others = [at("srv/audit.yaml"), at("srv/none.yaml"), at("srv"), at("etc/kubernetes/pki/ca.crt")];
    let found = collect::find(&directories, &others).unwrap();
    let names: Vec<String> =
        found.iter().map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string()).collect();
    assert_eq!(
        names,
        [
            "etc/kubernetes/admin.conf",
            "etc/kubernetes/manifests/etcd.yaml",
            "etc/kubernetes/pki/ca.crt",
            "etc/kubernetes/pki/ca.key",
            "etc/kubernetes/pki/etcd/ca.crt",
            "etc/kubernetes/pki/link.crt",
            "srv/audit.yaml",
            "var/lib/selfhost/checkpoints/control-plane-standby-a.yaml",
            "var/lib/selfhost/manifests/kube-apiserver.yaml",
        ]
    );
    let link = BTreeSet::from([at("etc/kubernetes/pki/link.crt"), at("etc/kubernetes/pki/ca.key")]);
    let copied = collect::copy(&link, &at("backup")).unwrap();
    assert_eq!(
        (copied[0].mode.as_str(), copied[0].size, &copied[0].sha256),
        ("0600", 6, &Digest::of(b"ca key"))
    );
    assert_eq!((copied[1].mode.as_str(), copied[1].size, &copied[1].sha256), ("0644", 2, &Digest::of(b"ca")));
    let stored = fs::symlink_metadata(copied[0].stored(&at("backup"))).unwrap();
    assert!(stored.is_file() && stored.permissions().mode() & 0o7777 == 0o600, "{stored:?}");
}

#[test]
fn whatever_is_damaged_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let backup_dir = dir.path().join("backup");
    let backup = take(dir.path(), &backup_dir);
    assert_eq!(Backup::load(&backup_dir).unwrap(), backup);
    let snapshot = backup_dir.join(SNAPSHOT);
    let check = || backup.check_files(&backup_dir).and_then(|()| backup.check_snapshot(&snapshot));
    check().unwrap();
    let key = backup.file(&dir.path().join("etc/kubernetes/pki/ca.key")).unwrap().stored(&backup_dir);
    for (path, good) in [(&key, "ca key"), (&snapshot, "snapshot")] {
        for bad in
            ["", "shorter"[..good.len() - 1].trim_end(), &"x".repeat(good.len()), "much longer than it was"]
        {
            fs::write(path, bad).unwrap();
            let error = check().unwrap_err();
            assert!(matches!(&error, Error::Damaged { path: named, .. } if named == path), "{error}");
        }
        fs::remove_file(path).unwrap();
        assert_eq!(
            check().unwrap_err().to_string(),
            format!("{} is damaged: it is not there", path.display())
        );
        fs::write(path, good).unwrap();
    }
    check().unwrap();
}

#[test]
fn what_is_no_backup_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = serde_json::to_value(take(dir.path(), dir.path())).unwrap();
    let load = |record: &serde_json::Value| {
        fs::write(dir.path().join(RECORD), record.to_string()).unwrap();
        Backup::load(dir.path())
    };
    load(&good).unwrap();
    let mut later = good.clone();
    later["format"] = 2.into();
    later["files"] = "in another way".into();
    assert!(matches!(load(&later), Err(Error::Format { found: 2, .. })));
    for path in ["etc/passwd", "/etc/../root/.ssh/authorized_keys", ""] {
        let mut escaping = good.clone();
        escaping["files"][0]["path"] = path.into();
        assert!(matches!(load(&escaping), Err(Error::Path { .. })), "{path}");
    }
    fs::write(dir.path().join(RECORD), &good.to_string()[..100]).unwrap();
    assert!(matches!(Backup::load(dir.path()), Err(Error::Record { .. })));
    assert!(matches!(Backup::load(&dir.path().join("none")), Err(Error::None(_))));
}
