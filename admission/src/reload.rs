//! Files that change while the guard serves: certificates, authorities, the policy and its settings.
//!
//! Invariant: what runs goes on until something better is there. New files are read whole, checked as at the start, and
//! taken in one step; files that cannot be taken are told of, and looked at again when they change again.
//!
//! Invariant: whether files have changed is told by their content. A kubelet updates a volume by pointing a symlink at a new
//! directory, somebody else by writing in place; both are seen, any number of times.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::Digest;
use crate::engine::{Engine, LoadError, Program, Runtime};
use crate::health;
use crate::self_test::{SelfTest, SelfTestError};
use crate::server::Guard;
use crate::server::tls::{Identity, Material, Tls, TlsError};

/// The files of a policy.
#[derive(Debug, Clone)]
pub struct PolicyFiles {
    /// The module.
    pub module: PathBuf,
    /// Its settings, in JSON; the policy's own where there is no file.
    pub settings: Option<PathBuf>,
    /// The directory with modules that were compiled before.
    pub compiled: Option<PathBuf>,
}

/// The files of an identity.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificates, the server's own first.
    pub certificates: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The authorities of clients.
    pub client_ca: PathBuf,
}

/// Why files are not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// One cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// They make no policy.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// They make a policy that judges wrongly.
    #[error("the policy failed its self-test")]
    SelfTest(#[from] SelfTestError),
    /// They make no identity.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The identity that they make would be refused by every client, and the one that is served is not.
    #[error("{0}")]
    Validity(String),
}

/// Loads a policy, and tries it.
pub fn policy(runtime: &Arc<Runtime>, files: &PolicyFiles, test: &SelfTest) -> Result<Engine, ReloadError> {
    let (module, settings) = files.read()?;
    let engine = Engine::load(files.program(runtime, &module)?, &settings)?;
    test.run(&engine)?;
    Ok(engine)
}

/// Loads an identity.
pub fn identity(files: &TlsFiles) -> Result<Identity, ReloadError> {
    Ok(Identity::new(&files.read()?)?)
}

impl PolicyFiles {
    fn read(&self) -> Result<(Vec<u8>, Vec<u8>), ReloadError> {
        Ok((read(&self.module)?, self.settings.as_deref().map_or_else(|| Ok(Vec::new()), read)?))
    }

    fn program(&self, runtime: &Arc<Runtime>, module: &[u8]) -> Result<Program, LoadError> {
        match &self.compiled {
            Some(directory) => Program::load(runtime, module, directory),
            None => Program::compile(runtime, module),
        }
    }

    fn paths(&self) -> Vec<&Path> {
        let settings = self.settings.as_deref();
        std::iter::once(self.module.as_path()).chain(settings).collect()
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Material, ReloadError> {
        Ok(Material {
            certificates: read(&self.certificates)?,
            key: read(&self.key)?,
            client_ca: read(&self.client_ca)?,
        })
    }

    fn paths(&self) -> Vec<&Path> {
        vec![&self.certificates, &self.key, &self.client_ca]
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ReloadError> {
    fs::read(path).map_err(|source| ReloadError::Read { path: path.to_owned(), source })
}

/// Looks at the files again and again.
pub struct Reloader {
    policy: Watched,
    policy_files: PolicyFiles,
    tls: Watched,
    tls_files: TlsFiles,
    runtime: Arc<Runtime>,
    test: SelfTest,
    guard: Arc<Guard>,
    identity: Arc<Tls>,
}

impl Reloader {
    /// Begins with what runs: the files are read again at the first look, and taken if they are others by then.
    pub fn new(
        policy_files: PolicyFiles,
        tls_files: TlsFiles,
        runtime: Arc<Runtime>,
        test: SelfTest,
        guard: Arc<Guard>,
        identity: Arc<Tls>,
    ) -> Self {
        let (policy, tls) = (Watched::default(), Watched::default());
        let reloader = Self { policy, policy_files, tls, tls_files, runtime, test, guard, identity };
        reloader.tell();
        reloader
    }

    /// Takes what has changed since the last look.
    pub fn look(&mut self) {
        if self.tls.changed(&self.tls_files.paths()) {
            let result = self.take_identity();
            self.report("certificate", result);
        }
        if self.policy.changed(&self.policy_files.paths()) {
            let result = self.take_policy();
            self.report("policy", result);
        }
    }

    /// Tries the policy that runs, and looks when the certificate ends.
    pub fn check(&self) {
        self.tell();
        let result = self.test.run(&self.guard.policy.load());
        if let Err(error) = &result {
            tracing::error!(error = chain(error), "the policy that runs failed its self-test");
        }
        self.guard.health.self_test(result.map_err(|error| chain(&error)));
        let validity = self.identity.current().validity;
        match validity.check(health::now()) {
            Err(reason) => tracing::error!(reason, "API servers refuse the certificate"),
            Ok(left) if validity.is_late(health::now()) => {
                tracing::warn!(left, "the certificate should be renewed");
            }
            Ok(_) => {}
        }
    }

    /// Whether it changed, and what it is now.
    fn take_policy(&self) -> Result<Option<String>, ReloadError> {
        let (module, settings) = self.policy_files.read()?;
        let current = self.guard.policy.load();
        // A module takes a second of a processor to compile; settings change more often.
        let program = if Digest::of(&module) == current.program().id() {
            current.program().clone()
        } else {
            self.policy_files.program(&self.runtime, &module)?
        };
        let engine = Engine::load(program, &settings)?;
        if (engine.program().id(), engine.settings()) == (current.program().id(), current.settings()) {
            return Ok(None);
        }
        self.test.run(&engine)?;
        let what = engine.program().id().to_string();
        tell_compiled(engine.program());
        self.guard.policy.store(Arc::new(engine));
        self.guard.health.self_test(Ok(()));
        Ok(Some(what))
    }

    fn take_identity(&self) -> Result<Option<String>, ReloadError> {
        let material = self.tls_files.read()?;
        let (now, current) = (health::now(), self.identity.current());
        let identity = Identity::new(&material)?;
        if identity.id() == current.id() {
            return Ok(None);
        }
        // Where the old one is of no use either, the new one may come right by waiting.
        if let (Err(reason), Ok(_)) = (identity.validity.check(now), current.validity.check(now)) {
            return Err(ReloadError::Validity(reason));
        }
        let what = identity.id().to_string();
        self.identity.replace(identity);
        Ok(Some(what))
    }

    fn report(&self, what: &'static str, result: Result<Option<String>, ReloadError>) {
        match result {
            Ok(None) => {
                self.guard.health.reloaded(what, Ok(()));
                return;
            }
            Ok(Some(id)) => {
                tracing::info!(what, id, "changed files were taken");
                self.guard.metrics.reloaded(what, true);
                self.guard.health.reloaded(what, Ok(()));
            }
            Err(error) => {
                let error = chain(&error);
                tracing::error!(what, error, "changed files were kept out; what ran before goes on");
                self.guard.metrics.reloaded(what, false);
                self.guard.health.reloaded(what, Err(error));
            }
        }
        self.tell();
    }

    /// What runs, for those who ask.
    fn tell(&self) {
        let validity = self.identity.current().validity;
        self.guard.health.certificate(validity);
        self.guard.metrics.expiry(validity.until);
        let policy = self.guard.policy.load();
        self.guard.metrics.policy(policy.program().id().to_string(), policy.settings().to_string());
    }
}

/// Says so where a module was compiled that might have been there already: it took a second, and memory.
pub(crate) fn tell_compiled(program: &Program) {
    if let Some(reason) = program.compiled() {
        tracing::info!(reason, "the policy's module was compiled anew");
    }
}

/// The error and its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What files looked like when they were last read. To read a module each second would be to read it in vain.
#[derive(Debug, Default)]
struct Watched(Option<Vec<Option<Stamp>>>);

#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Watched {
    /// Whether any of these looks different from the last time. Taken before they are read: what changes in between is seen
    /// at the next look.
    fn changed(&mut self, paths: &[&Path]) -> bool {
        let stamps: Vec<_> = paths.iter().map(|path| Stamp::of(path)).collect();
        if self.0.as_ref() == Some(&stamps) {
            return false;
        }
        self.0 = Some(stamps);
        true
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        // Of what a symlink leads to.
        let it = fs::metadata(path).ok()?;
        Some(Self {
            device: it.dev(),
            inode: it.ino(),
            length: it.size(),
            modified: (it.mtime(), it.mtime_nsec()),
            changed: (it.ctime(), it.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_volume_and_a_file_in_place_are_seen_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let swap = |to: &str| {
            symlink(to, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        for version in ["..1", "..2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("tls.crt"), "same").unwrap();
        }
        swap("..1");
        symlink("..data/tls.crt", at("tls.crt")).unwrap();
        let path = at("tls.crt");
        let mut watched = Watched::default();
        assert!(watched.changed(&[&path]), "never seen");
        assert!(!watched.changed(&[&path]));
        for version in ["..2", "..1", "..2"] {
            swap(version);
            assert!(watched.changed(&[&path]), "{version}");
            assert!(!watched.changed(&[&path]));
        }
        fs::write(&path, "longer").unwrap();
        assert!(watched.changed(&[&path]), "in place");
        fs::remove_dir_all(at("..2")).unwrap();
        assert!(watched.changed(&[&path]), "gone");
        assert!(!watched.changed(&[&path]));
    }
}
