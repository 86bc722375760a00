//! Files in a directory as a kubelet keeps them in a volume: new content comes with one step of a symlink.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use selfhost_admission::reload::TlsFiles;
use tempfile::TempDir;

/// A volume.
pub(crate) struct Volume {
    directory: TempDir,
    version: u32,
}

impl Volume {
    pub(crate) fn new(files: &[(&str, &[u8])]) -> Self {
        let mut volume = Self { directory: tempfile::tempdir().unwrap(), version: 0 };
        volume.write(files);
        for (name, _) in files {
            symlink(format!("..data/{name}"), volume.path(name)).unwrap();
        }
        volume
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces all files at once, and removes the old ones, as the kubelet does.
    pub(crate) fn write(&mut self, files: &[(&str, &[u8])]) {
        let old = self.path(&format!("..{}", self.version));
        self.version += 1;
        let name = format!("..{}", self.version);
        fs::create_dir(self.path(&name)).unwrap();
        for (file, content) in files {
            fs::write(self.path(&name).join(file), content).unwrap();
        }
        symlink(&name, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        if old.exists() {
            fs::remove_dir_all(old).unwrap();
        }
    }

    /// The files of an identity in it.
    pub(crate) fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            certificates: self.path("tls.crt"),
            key: self.path("tls.key"),
            client_ca: self.path("ca.crt"),
        }
    }
}
