//! Which files of a backup go back, and where what they replace is kept.
//!
//! Invariant: nothing is lost. Whatever gives way is moved below one directory, at its own path.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::backup::{Backup, Entry};
use crate::digest::Digest;
use crate::files::{self, Content};

/// The static Pods of the control plane, as kubeadm and the plugin name their manifests. Others, such as a load
/// balancer's, are nobody's but the operator's.
pub(super) const CONTROL_PLANE: [&str; 6] = [
    ETCD,
    "control-plane-standby-a.yaml",
    "control-plane-standby-b.yaml",
    "kube-apiserver.yaml",
    "kube-controller-manager.yaml",
    "kube-scheduler.yaml",
];

/// The first to come back.
pub(super) const ETCD: &str = "etcd.yaml";

/// What everything else among certificates, keys and kubeconfigs was made from.
const ROOTS: [&str; 8] = [
    "ca.crt",
    "ca.key",
    "etcd/ca.crt",
    "etcd/ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "sa.key",
    "sa.pub",
];

/// The files of the node that a backup is put back to.
#[derive(Debug)]
pub(super) struct Places<'a> {
    pub(super) backup: &'a Backup,
    /// The backup's directory.
    pub(super) from: &'a Path,
    /// Where that is kept which gives way.
    pub(super) aside: PathBuf,
}

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Leave,
    PutBack,
}

impl Places<'_> {
    /// The files that go back, but for the manifests of the control plane.
    pub(super) fn wanted(&self) -> Result<Vec<&Entry>, files::Error> {
        let same_roots = self.has_same_roots()?;
        let mut wanted = Vec::new();
        for entry in &self.backup.files {
            if self.act(entry, present(&entry.path)?.as_ref(), same_roots) == Act::PutBack {
                wanted.push(entry);
            }
        }
        Ok(wanted)
    }

    /// The manifests of the control plane that the backup has, etcd's first.
    pub(super) fn manifests(&self) -> impl Iterator<Item = &Entry> {
        let directory = &self.backup.directories.manifests;
        CONTROL_PLANE.iter().filter_map(|name| self.backup.file(&directory.join(name)))
    }

    /// Puts a file back, as it was saved, unless it is there; what is in its place is moved aside first.
    pub(super) fn put(&self, entry: &Entry) -> Result<bool, files::Error> {
        let path = &entry.path;
        if present(path)?.is_some_and(|digest| digest == entry.sha256) {
            return Ok(false);
        }
        self.move_aside(path)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| files::error("create directory", parent, source))?;
        }
        let stored = entry.stored(self.from);
        let bytes = fs::read(&stored).map_err(|source| files::error("read", &stored, source))?;
        files::write_as(path, &Content::new(bytes, entry.mode()), Some((entry.uid, entry.gid)))?;
        Ok(true)
    }

    /// Moves whatever is at `path` aside; false when nothing is there.
    pub(super) fn move_aside(&self, path: &Path) -> Result<bool, files::Error> {
        if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(false);
        }
        let mut kept = self.aside.join(path.strip_prefix("/").unwrap_or(path));
        // A run that was killed may have kept one already: the first is what was there in the beginning.
        while kept.exists() {
            kept.as_mut_os_string().push(".again");
        }
        let parent = kept.parent().unwrap_or(&self.aside);
        files::create_private_dir(parent)?;
        match fs::rename(path, &kept) {
            Ok(()) => {}
            // On another file system.
            Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
                files::copy_new(path, &kept)?;
                files::sync_tree(parent)?;
                return files::remove(path).map(|()| true);
            }
            Err(source) => return Err(files::error("move away", path, source)),
        }
        files::sync_parent(&kept)?;
        files::sync_parent(path)?;
        Ok(true)
    }

    fn act(&self, entry: &Entry, present: Option<&Digest>, same_roots: bool) -> Act {
        let (path, directories) = (&entry.path, &self.backup.directories);
        let Some(present) = present else {
            return if self.is_control_plane(path) { Act::Leave } else { Act::PutBack };
        };
        let renewed =
            same_roots && (path.starts_with(&directories.pki) || path.parent() == directories.pki.parent());
        // What was made anew from the same roots is as good, and lasts longer.
        if *present == entry.sha256 || renewed || path.starts_with(&directories.manifests) {
            Act::Leave
        } else {
            Act::PutBack
        }
    }

    fn is_control_plane(&self, path: &Path) -> bool {
        path.parent() == Some(&self.backup.directories.manifests)
            && CONTROL_PLANE.iter().any(|name| path.ends_with(name))
    }

    /// Whether the node has every root that was saved.
    fn has_same_roots(&self) -> Result<bool, files::Error> {
        let roots = ROOTS.map(|name| self.backup.directories.pki.join(name));
        for saved in roots.iter().filter_map(|path| self.backup.file(path)) {
            if present(&saved.path)?.as_ref() != Some(&saved.sha256) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The digest of the file at `path`, through a link; none where there is no file.
fn present(path: &Path) -> Result<Option<Digest>, files::Error> {
    match File::open(path).and_then(Digest::of_all) {
        Ok((digest, _)) => Ok(Some(digest)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(files::error("read", path, source)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::backup::tests::take;

    struct Node {
        dir: tempfile::TempDir,
        from: PathBuf,
        backup: Backup,
    }

    fn node() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("backup");
        let backup = take(dir.path(), &from);
        Node { dir, from, backup }
    }

    impl Node {
        fn at(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn places(&self) -> Places<'_> {
            Places { backup: &self.backup, from: &self.from, aside: self.at("aside") }
        }

        fn wanted(&self) -> Vec<String> {
            let places = self.places();
            let wanted = places.wanted().unwrap();
            let relative =
                |entry: &&Entry| entry.path.strip_prefix(self.dir.path()).unwrap().display().to_string();
            wanted.iter().map(relative).collect()
        }
    }

    #[test]
    fn what_is_missing_or_differs_goes_back() {
        let node = node();
        assert_eq!(node.wanted(), [""; 0]);
        for (path, text) in [
            ("etc/kubernetes/admin.conf", "renewed"),
            ("etc/kubernetes/manifests/etcd.yaml", "later"),
            ("srv/audit.yaml", "edited"),
            ("var/lib/selfhost/manifests/kube-apiserver.yaml", "of another pivot"),
        ] {
            fs::write(node.at(path), text).unwrap();
        }
        // With the same roots, what was renewed stays.
        assert_eq!(node.wanted(), ["srv/audit.yaml", "var/lib/selfhost/manifests/kube-apiserver.yaml"]);
        fs::remove_file(node.at("etc/kubernetes/admin.conf")).unwrap();
        assert_eq!(node.wanted()[0], "etc/kubernetes/admin.conf");
        // With another root, nothing that was made of it is of use.
        fs::write(node.at("etc/kubernetes/admin.conf"), "of another cluster").unwrap();
        fs::write(node.at("etc/kubernetes/pki/ca.key"), "another").unwrap();
        assert_eq!(node.wanted()[..2], ["etc/kubernetes/admin.conf", "etc/kubernetes/pki/ca.key"]);
    }

    #[test]
    fn what_gives_way_is_kept_and_the_first_of_it_under_its_own_name() {
        let node = node();
        let places = node.places();
        let path = node.at("srv/audit.yaml");
        let kept = node.at("aside").join(path.strip_prefix("/").unwrap());
        let entry = node.backup.file(&path).unwrap();
        fs::write(&path, "edited").unwrap();
        assert!(places.put(entry).unwrap());
        assert!(!places.put(entry).unwrap(), "once more");
        assert_eq!(fs::read_to_string(&path).unwrap(), "policy");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_to_string(&kept).unwrap(), "edited");
        fs::write(&path, "once more").unwrap();
        places.put(entry).unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "edited");
        assert_eq!(fs::read_to_string(kept.with_extension("yaml.again")).unwrap(), "once more");
        fs::remove_file(&path).unwrap();
        assert!(!places.move_aside(&path).unwrap());
        // A machine that has nothing yet.
        fs::remove_dir_all(node.at("etc/kubernetes/pki")).unwrap();
        for entry in places.wanted().unwrap() {
            places.put(entry).unwrap();
        }
        assert_eq!(node.wanted(), [""; 0]);
        let key = fs::metadata(node.at("etc/kubernetes/pki/ca.key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o7777, 0o600);
    }
}
