//! Puts a backup back on this node, without an API: run by a person, as root, on each control-plane node.
//!
//! What is there is not lost: etcd's data, certificates and manifests are kept under other names, and everything that
//! was done can be undone by hand. The kubelet does all the work that needs containers, as it does for every static Pod.
//!
//! Invariants: nothing is touched before the whole backup was read and is what was saved; nobody uses etcd's data while
//! it is replaced, and no API server that knows the old data outlives that; whoever runs it again after a kill ends
//! where the first run would have ended.

mod error;
mod journal;
mod place;
mod pod;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, FlockOperation, access, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

pub(crate) use self::error::Error;
use self::journal::{Journal, Stage};
use self::place::{CONTROL_PLANE, ETCD, Places};
use crate::backup::{self, Backup, SNAPSHOT};
use crate::digest::Digest;
use crate::etcd::Endpoint;
use crate::etcd::snapshot;
use crate::files::{self, Content};
use crate::processes;
use crate::recover::scan;
use crate::recover::watch::{self, Servers, Waited};
use crate::task::Restored;
use crate::{clock, sockets};

/// etcd's data, in its data directory.
const MEMBER: &str = "member";

/// This program, for the container that has only etcd's own.
const PROGRAM: &str = "selfhost-node";

/// What the Pod says that restored the snapshot.
const RESULT: &str = "result.json";

/// The program of the standby's containers, below the state directory.
const STANDBY_PROGRAM: &str = "bin/selfhost-node";

/// etcd's database, in its member directory.
const DATABASE: &str = "snap/db";

/// How often a wait looks.
const PERIOD: Duration = Duration::from_millis(500);

/// What is to be restored, and how.
#[derive(Debug)]
pub(crate) struct Config {
    /// The backup's directory.
    pub(crate) from: PathBuf,
    /// Another snapshot than the backup's own.
    pub(crate) snapshot: Option<PathBuf>,
    /// Where etcd will be.
    pub(crate) etcd: Endpoint,
    /// The API server's own port, and the one of its standby.
    pub(crate) ports: [u16; 2],
    /// How long each wait may take.
    pub(crate) timeout: Duration,
    pub(crate) dry_run: bool,
}

/// Restores, and says so line by line; the last line is what to do next.
pub(crate) fn run(config: &Config, out: &mut dyn Write) -> Result<(), Error> {
    let backup = Backup::load(&config.from)?;
    let manifests = &backup.directories.manifests;
    // One clear answer for whoever is not root, or on a machine without a kubelet, before anything is said.
    access(manifests, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| match errno {
        Errno::ACCESS => Error::NotAllowed(manifests.clone()),
        source => Error::Manifests { path: manifests.clone(), source },
    })?;
    Restoration::new(config, &backup, out)?.run()
}

struct Restoration<'a> {
    config: &'a Config,
    backup: &'a Backup,
    /// The file that etcd is restored from, and its digest.
    snapshot: PathBuf,
    sha256: Digest,
    journal: Journal,
    out: &'a mut dyn Write,
}

impl<'a> Restoration<'a> {
    /// Reads everything that is to be put back.
    fn new(config: &'a Config, backup: &'a Backup, out: &'a mut dyn Write) -> Result<Self, Error> {
        backup.check_files(&config.from)?;
        let (snapshot, sha256) = match &config.snapshot {
            None => {
                let own = config.from.join(SNAPSHOT);
                backup.check_snapshot(&own)?;
                (own, backup.snapshot.sha256.clone())
            }
            Some(file) => (file.clone(), snapshot::check(file).map_err(|why| damaged(file, &why))?),
        };
        let etcd = backup.file(&backup.directories.manifests.join(ETCD));
        let etcd = etcd.ok_or_else(|| Error::NoEtcd(config.from.clone()))?;
        let text = files::read(&etcd.stored(&config.from))?.map(|file| file.bytes).unwrap_or_default();
        if let Some(wal) = scan::flag(&String::from_utf8_lossy(&text), "--wal-dir") {
            return Err(Error::WalDir(wal.to_owned()));
        }
        let journal = match Journal::open(&backup.directories.state)? {
            Some(open) if !open.is_of(&config.from, &sha256) => {
                return Err(Error::Another { from: open.from, snapshot: open.snapshot });
            }
            Some(open) => open,
            None => Journal::new(&config.from, &snapshot, &sha256),
        };
        Ok(Self { config, backup, snapshot, sha256, journal, out })
    }

    fn run(mut self) -> Result<(), Error> {
        self.introduce();
        if self.config.dry_run {
            return self.rehearse();
        }
        if self.journal.next == Stage::Stop {
            // From here on there is something to go on with.
            self.turn(Stage::Stop)?;
            self.stop()?;
            self.turn(Stage::Keep)?;
        }
        if self.journal.next == Stage::Keep {
            self.keep()?;
            self.turn(Stage::Files)?;
        }
        if self.journal.next == Stage::Files {
            self.put_files()?;
            self.turn(Stage::Data)?;
        }
        if self.journal.next == Stage::Data {
            self.restore()?;
            self.turn(Stage::Start)?;
        }
        self.start()
    }

    fn introduce(&mut self) {
        let Backup { taken, node, kubernetes, etcd, .. } = self.backup;
        let (snapshot, sha256) = (self.snapshot.display().to_string(), self.sha256.clone());
        self.say(format_args!(
            "The backup of {node} of {taken} is whole: Kubernetes {kubernetes}, etcd {} with {} files beside it.",
            etcd.version,
            self.backup.files.len()
        ));
        self.say(format_args!("etcd is restored from {snapshot}, sha-256 {sha256}."));
        if let Some(others) = self.others() {
            self.say(format_args!(
                "etcd has {} members: run this on {others} too, with the same snapshot (--snapshot FILE). It serves \
                 when most of them are restored.",
                etcd.members.len()
            ));
        }
        if self.journal.next > Stage::Stop {
            let began = self.journal.began.clone();
            self.say(format_args!("Going on with what began at {began}."));
        }
    }

    /// The names of the other members.
    fn others(&self) -> Option<String> {
        let others = self.backup.etcd.members.iter().filter(|member| member.name != self.backup.etcd.member);
        let names: Vec<&str> = others.map(|member| member.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Says what would be done.
    fn rehearse(&mut self) -> Result<(), Error> {
        let present = self.present_manifests();
        for path in &present {
            self.say(format_args!("Would move {} to {}.", path.display(), self.aside().display()));
        }
        let (member, kept) = self.member();
        if member.exists() {
            self.say(format_args!("Would rename {} to {}.", member.display(), kept.display()));
        }
        let places = self.places();
        let wanted: Vec<PathBuf> = places.wanted()?.into_iter().map(|entry| entry.path.clone()).collect();
        let manifests: Vec<PathBuf> = places.manifests().map(|entry| entry.path.clone()).collect();
        for path in wanted {
            self.say(format_args!("Would put back {}.", path.display()));
        }
        self.say(format_args!("Would restore etcd with {}.", self.backup.etcd.image));
        for path in manifests {
            self.say(format_args!("Would put back {}.", path.display()));
        }
        self.say(format_args!("Next: the same command without --dry-run"));
        Ok(())
    }

    /// Takes the control plane's static Pods away, and waits until nobody holds etcd's data, or knows it.
    fn stop(&mut self) -> Result<(), Error> {
        for path in self.present_manifests() {
            if self.places().move_aside(&path)? {
                self.say(format_args!("Moved {} to {}.", path.display(), self.aside().display()));
            }
        }
        let start = Instant::now();
        self.say(format_args!("Waiting for etcd to end."));
        loop {
            let listens = sockets::listening()?.contains(&self.config.etcd.port());
            if !listens && !is_held(&self.member().0.join(DATABASE))? {
                break;
            }
            if start.elapsed() >= self.config.timeout {
                return Err(Error::StillRuns { timeout: self.config.timeout });
            }
            thread::sleep(PERIOD);
        }
        self.say(format_args!("etcd has ended, after {} s.", start.elapsed().as_secs()));
        // A self-hosted one goes on without its etcd, and would serve from memory what the restored one does not have.
        // It cannot do anything for anybody any more; the kubelet starts it again, and it begins by reading everything.
        for server in processes::list(Path::new("/proc"), &["kube-apiserver"])? {
            if let Some(pid) = i32::try_from(server.pid).ok().and_then(Pid::from_raw) {
                match kill_process(pid, Signal::KILL) {
                    Ok(()) => self.say(format_args!("Ended the API server with process id {}.", server.pid)),
                    Err(Errno::SRCH) => {}
                    Err(source) => return Err(Error::Kill { pid: server.pid, source }),
                }
            }
        }
        Ok(())
    }

    /// Gives the data that is there another name.
    fn keep(&mut self) -> Result<(), Error> {
        let (member, kept) = self.member();
        if member.exists() {
            files::rename_dir(&member, &kept)?;
        }
        if kept.exists() {
            self.say(format_args!("Kept the data of etcd as {}.", kept.display()));
        }
        Ok(())
    }

    fn put_files(&mut self) -> Result<(), Error> {
        let places = self.places();
        let mut put = Vec::new();
        for entry in places.wanted()? {
            if places.put(entry)? {
                put.push(entry.path.clone());
            }
        }
        for path in &put {
            self.say(format_args!("Put back {}.", path.display()));
        }
        if put.iter().any(|path| path.ends_with("kubelet.conf")) {
            self.say(format_args!("The kubelet has to be started again with it: systemctl restart kubelet."));
        }
        self.install(&self.backup.directories.state.join(STANDBY_PROGRAM), false)
    }

    /// Makes the data directory: the kubelet runs etcd's own tool, and what it made gets its name when it is whole.
    fn restore(&mut self) -> Result<(), Error> {
        let data = &self.backup.etcd.data_dir;
        let (member, _) = self.member();
        let made = data.join(format!("restored-{}", self.journal.began));
        let work = self.backup.directories.state.join(journal::DIRECTORY);
        let result = work.join(RESULT);
        let manifest = self.backup.directories.manifests.join(format!("{}.yaml", pod::NAME));
        // What was there has another name by now: this is what an earlier run restored, before it was killed.
        if member.exists() {
            files::remove_if_there(&manifest)?;
            files::remove_dir_if_there(&made)?;
            return Ok(());
        }
        files::create_private_dir(data)?;
        let mut restored = read_result(&result)?;
        if let Some(Restored::Failed(_)) = restored {
            files::remove_if_there(&manifest)?;
            files::remove_if_there(&result)?;
            restored = None;
        }
        if restored.is_none() && !manifest.exists() {
            let program = work.join(PROGRAM);
            self.install(&program, true)?;
            let text = pod::manifest(&pod::Work {
                image: &self.backup.etcd.image,
                program: &program,
                snapshot: &self.snapshot,
                data: &made,
                membership: &self.backup.membership(&self.sha256),
                result: &result,
                attempt: &clock::now(),
            });
            files::write(&manifest, &Content::new(text, 0o600))?;
        }
        self.say(format_args!("Waiting for {} to restore the snapshot.", self.backup.etcd.image));
        let start = Instant::now();
        let ahead = loop {
            match read_result(&result)? {
                Some(Restored::Done(report)) => break report.ahead,
                Some(Restored::Failed(why)) => {
                    files::remove_if_there(&manifest)?;
                    return Err(Error::Failed(why));
                }
                None if start.elapsed() >= self.config.timeout => {
                    return Err(Error::NoResult { timeout: self.config.timeout });
                }
                None => thread::sleep(PERIOD),
            }
        };
        files::remove_if_there(&manifest)?;
        give_to_owner_of(data, &made)?;
        files::rename_dir(&made.join(MEMBER), &member)?;
        files::remove_dir_if_there(&made)?;
        self.say(format_args!("Restored {}, after {} s.", member.display(), start.elapsed().as_secs()));
        if !ahead {
            self.say(format_args!(
                "This etcd cannot put its revision ahead: whatever watches the cluster has to be started again, every \
                 kubelet first."
            ));
        }
        Ok(())
    }

    /// etcd first, so that an API server finds it; then everybody else.
    fn start(&mut self) -> Result<(), Error> {
        let places = self.places();
        let manifests: Vec<_> = places.manifests().cloned().collect();
        for entry in &manifests {
            if places.put(entry)? {
                self.say(format_args!("Put back {}.", entry.path.display()));
            }
            if entry.path.ends_with(ETCD) {
                self.await_etcd()?;
            }
        }
        let Config { etcd, ports, timeout, .. } = self.config;
        let [own, other] = ports;
        let seconds = timeout.as_secs();
        self.say(format_args!("Waiting up to {seconds} s for an API server on port {own} or {other}."));
        let mut servers = Servers::load(&self.backup.directories.pki, ports)?;
        let out = &mut self.out;
        let mut say = |line: fmt::Arguments<'_>| drop(writeln!(out, "{line}").and_then(|()| out.flush()));
        match watch::wait(&mut servers, etcd, ports, *timeout, &mut say)? {
            Waited::Not(seen) => return Err(Error::NotReady { timeout: *timeout, seen }),
            Waited::Ready { port, after } => {
                let seconds = after.as_secs();
                self.say(format_args!("An API server is ready on 127.0.0.1:{port}, after {seconds} s."));
            }
        }
        let (_, kept) = self.member();
        let aside = self.aside();
        Journal::close(&self.backup.directories.state)?;
        let left: Vec<String> = [aside, kept]
            .iter()
            .filter(|path| path.exists())
            .map(|path| path.display().to_string())
            .collect();
        if !left.is_empty() {
            let left = left.join(" and ");
            self.say(format_args!("What was there is in {left}: remove it when nobody needs it any more."));
        }
        self.say(format_args!(
            "The Pod that took the backup is a part of it, and fails now: kubectl -n kube-system delete pod \
             --ignore-not-found selfhost-backup-{}",
            self.backup.node
        ));
        self.say(format_args!("Next: kubectl selfhost status"));
        Ok(())
    }

    fn await_etcd(&mut self) -> Result<(), Error> {
        let start = Instant::now();
        self.say(format_args!("Waiting for etcd to accept connections."));
        while !self.config.etcd.listens() {
            if start.elapsed() >= self.config.timeout {
                return Err(Error::NoQuorum { timeout: self.config.timeout, others: self.others() });
            }
            thread::sleep(PERIOD);
        }
        self.say(format_args!("etcd accepts connections, after {} s.", start.elapsed().as_secs()));
        Ok(())
    }

    /// The manifests of the control plane that the node has.
    fn present_manifests(&self) -> Vec<PathBuf> {
        let directory = &self.backup.directories.manifests;
        CONTROL_PLANE.iter().map(|name| directory.join(name)).filter(|path| path.exists()).collect()
    }

    /// etcd's data, and the name under which what is there now is kept.
    fn member(&self) -> (PathBuf, PathBuf) {
        let data = &self.backup.etcd.data_dir;
        (data.join(MEMBER), data.join(format!("{MEMBER}.replaced-{}", self.journal.began)))
    }

    /// Where other files are kept that give way.
    fn aside(&self) -> PathBuf {
        self.backup.directories.state.join(format!("replaced-{}", self.journal.began))
    }

    fn places(&self) -> Places<'a> {
        Places { backup: self.backup, from: &self.config.from, aside: self.aside() }
    }

    /// Puts this program at `path`; one that is there stays unless it is to be exactly this one.
    fn install(&self, path: &Path, exactly: bool) -> Result<(), Error> {
        if path.exists() && !exactly {
            return Ok(());
        }
        let own = fs::read("/proc/self/exe").map_err(Error::Program)?;
        files::create_private_dir(path.parent().unwrap_or(&self.backup.directories.state))?;
        Ok(files::write(path, &Content::new(own, 0o755))?)
    }

    fn turn(&mut self, next: Stage) -> Result<(), Error> {
        Ok(self.journal.turn(&self.backup.directories.state, next)?)
    }

    fn say(&mut self, line: fmt::Arguments<'_>) {
        // Nothing can be said about a closed output, and the cluster matters more.
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }
}

/// Whether an etcd has its database open: it holds a lock of the file as long as it lives.
fn is_held(database: &Path) -> Result<bool, Error> {
    let failed = |source| files::error("look at", database, source);
    let file = match File::open(database) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(failed(source).into()),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(failed(errno.into()).into()),
    }
}

/// How the Pod ended; none while it has not.
fn read_result(path: &Path) -> Result<Option<Restored>, Error> {
    let Some(file) = files::read(path)? else { return Ok(None) };
    serde_json::from_slice(&file.bytes).map(Some).map_err(Error::Result)
}

fn damaged(path: &Path, why: &snapshot::Broken) -> Error {
    Error::Backup(backup::Error::Damaged { path: path.to_owned(), why: crate::chain(why) })
}

/// etcd may run as another user than root: what it had belongs to that user, and so must what it gets.
fn give_to_owner_of(data: &Path, made: &Path) -> Result<(), Error> {
    let failed = |source| Error::Owner { path: made.to_owned(), source };
    let owner = fs::metadata(data).map_err(failed)?;
    let mut open = vec![made.to_owned()];
    while let Some(path) = open.pop() {
        chown(&path, Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
        if path.is_dir() {
            for entry in fs::read_dir(&path).map_err(failed)? {
                open.push(entry.map_err(failed)?.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
