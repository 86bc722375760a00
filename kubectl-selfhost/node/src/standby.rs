//! The standby of one component on one node: dormant while the component serves, its stand-in while it does not.
//!
//! It runs in a static Pod, in the component's own image, and knows nothing of Kubernetes: after a power cut of every
//! control-plane node there is nobody else who could start an API server.
//!
//! Invariants: what runs is what the checkpoint's digest was made of, or nothing; connections are diverted to the copy's
//! port only while the lock file `COMPONENT.serving` is held; the copy does not outlive this process, which is the first
//! of its container.

mod state;
mod turn;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::digest::Digest;
use crate::gate::Bridge;
use crate::stop::Stop;
use crate::tls::{self, Credentials};
use crate::{clock, port, sockets};
use state::{Act, Own, Seen, StandIn, Standby, State};
use turn::Turn;

pub(crate) use turn::is_locked;

/// How often the supervisor looks.
const PERIOD: Duration = Duration::from_secs(1);

/// How long the copy may take to end when the supervisor itself was told to: less than a Pod's grace period.
const LAST_DRAIN: Duration = Duration::from_secs(20);

/// How far the minor versions of two API servers may be apart
/// (<https://kubernetes.io/releases/version-skew-policy/#kube-apiserver>).
const API_SERVER_SKEW: u32 = 1;

/// What is watched, and what is started.
#[derive(Debug)]
pub(crate) struct Config {
    /// The component's name: `kube-apiserver`.
    pub(crate) component: String,
    /// The component's own port.
    pub(crate) port: u16,
    /// The copy's port.
    pub(crate) standby_port: u16,
    /// Directory of the locks, on a file system in memory.
    pub(crate) run: PathBuf,
    /// Which checkpoint this is; later ones come first.
    pub(crate) generation: u64,
    /// The digest that the checkpoint was written with, and that of the arguments as they are.
    pub(crate) digest: Digest,
    pub(crate) found: Digest,
    /// How an API server is known; the others are taken to serve when they listen.
    pub(crate) credentials: Option<Credentials>,
    /// The minor version of the copy.
    pub(crate) minor: u32,
    /// API servers on other nodes.
    pub(crate) peers: Vec<SocketAddr>,
    /// The copy's command line.
    pub(crate) command: Vec<OsString>,
}

/// The standby cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "checkpoint {generation} is damaged: its arguments have sha-256 {found}, and were written with {expected}"
    )]
    Damaged { generation: u64, found: Digest, expected: Digest },
    #[error(transparent)]
    Credentials(#[from] tls::Error),
    #[error(transparent)]
    Lock(#[from] turn::Error),
    #[error("look at the node's sockets")]
    Sockets(#[from] sockets::Error),
    #[error("wait for signals")]
    Signals(#[source] io::Error),
    #[error("wait for the copy")]
    Copy(#[source] io::Error),
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "write it anew: kubectl selfhost checkpoint refresh",
            Self::Credentials(_) => "mount the cluster's PKI directory and name its files",
            Self::Lock(_) => "mount the node's /run/selfhost, writable",
            Self::Sockets(_) => "the container needs /proc",
            Self::Signals(_) | Self::Copy(_) => "the container's limits of processes or memory are too low",
        }
    }
}

/// Runs until SIGTERM or SIGINT; logs each transition as one line.
pub(crate) fn run(config: &Config, log: &mut dyn Write) -> Result<(), Error> {
    if config.found != config.digest {
        return Err(Error::Damaged {
            generation: config.generation,
            found: config.found.clone(),
            expected: config.digest.clone(),
        });
    }
    let stop = Stop::on_signals().map_err(Error::Signals)?;
    let server = |port| config.credentials.clone().map(|it| Bridge::load(port, it)).transpose();
    let mut supervisor = Supervisor {
        config,
        own: server(config.port)?,
        other: server(config.standby_port)?,
        turn: Turn::new(&config.run, &config.component, config.generation)?,
        standby: Standby::new(),
        child: None,
        refused: None,
        began: Instant::now(),
        log,
    };
    supervisor.say(&format!("dormant, with checkpoint {}", config.generation));
    let outcome = loop {
        if let Err(error) = supervisor.tick() {
            break Err(error);
        }
        if stop.sleep(PERIOD).is_err() {
            break Ok(());
        }
    };
    supervisor.end();
    outcome
}

struct Supervisor<'a> {
    config: &'a Config,
    own: Option<Bridge>,
    other: Option<Bridge>,
    turn: Turn,
    standby: Standby,
    child: Option<Child>,
    /// Why a copy was not started, as it was logged last.
    refused: Option<String>,
    began: Instant,
    log: &'a mut dyn Write,
}

impl Supervisor<'_> {
    fn tick(&mut self) -> Result<(), Error> {
        self.turn.set_fit(self.standby.is_fit())?;
        let seen = self.look()?;
        let (before, bridged) = (self.standby.state(), self.standby.is_bridged());
        let act = self.standby.next(seen);
        self.turn.set_serving(self.standby.diverts())?;
        self.tell(before);
        self.tell_of_bridge(bridged);
        match act {
            Act::Wait => {}
            Act::Start => self.start(),
            Act::Terminate => self.signal(Signal::TERM),
            Act::Kill => self.signal(Signal::KILL),
        }
        Ok(())
    }

    fn look(&mut self) -> Result<Seen, Error> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait().map_err(Error::Copy)?
        {
            self.child = None;
            self.say(&format!("the copy ended: {status}"));
        }
        let listening = sockets::listening()?;
        let listens = listening.contains(&self.config.standby_port);
        // A component whose readiness nobody can ask for is taken to serve when it listens.
        let is_ready = |server: &mut Option<Bridge>| server.as_mut().is_none_or(Bridge::is_ready);
        let own = if !listening.contains(&self.config.port) {
            Own::Absent
        } else if is_ready(&mut self.own) {
            Own::Ready
        } else {
            Own::Unready
        };
        let copy = if self.child.is_none() {
            StandIn::None
        } else if listens && is_ready(&mut self.other) {
            StandIn::Ready
        } else {
            StandIn::Running
        };
        Ok(Seen {
            now: self.began.elapsed(),
            own,
            copy,
            taken: self.child.is_none() && listens,
            our_turn: self.turn.is_ours()?,
        })
    }

    /// A copy that cannot be started is one that failed: the state machine sees that there is none.
    fn start(&mut self) {
        if let Some(why) = self.too_old() {
            if self.refused.as_ref() != Some(&why) {
                self.say(&format!("not started: {why}"));
            }
            self.refused = Some(why);
            return;
        }
        let Some((program, arguments)) = self.config.command.split_first() else { return };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        match command.spawn() {
            Ok(child) => {
                self.say(&format!("started a copy on port {}", self.config.standby_port));
                self.child = Some(child);
            }
            Err(error) => self.say(&format!("cannot start {}: {error}", program.to_string_lossy())),
        }
    }

    /// Why the copy must not join the API servers that run elsewhere. One that says nothing is no reason.
    fn too_old(&mut self) -> Option<String> {
        let server = self.own.as_ref()?;
        self.config.peers.iter().find_map(|peer| {
            let theirs = server.at(*peer).minor()?;
            (theirs.abs_diff(self.config.minor) > API_SERVER_SKEW).then(|| {
                format!(
                    "the API server at {peer} is of minor version {theirs}, and this checkpoint of {}",
                    self.config.minor
                )
            })
        })
    }

    fn signal(&mut self, signal: Signal) {
        let pid = self.child.as_ref().and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?));
        if let Some(pid) = pid {
            // It may have ended at this moment; the next look will tell.
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends the divert and the copy. Without the locks the gate ends it within a second, and without the gate the kernel
    /// does.
    fn end(&mut self) {
        // Whatever cannot be unlocked here is unlocked by the end of this process.
        let _ = self.turn.set_serving(false);
        let _ = self.turn.set_fit(false);
        self.signal(Signal::TERM);
        let begin = Instant::now();
        while let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(None) if begin.elapsed() < LAST_DRAIN => std::thread::sleep(port::POLL),
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    self.child = None;
                }
                Ok(Some(_)) | Err(_) => self.child = None,
            }
        }
        self.say("ended: asked to stop");
    }

    fn tell(&mut self, before: State) {
        let after = self.standby.state();
        if std::mem::discriminant(&before) == std::mem::discriminant(&after) {
            return;
        }
        let component = &self.config.component;
        let line = match after {
            State::Dormant { .. } => "dormant again".to_owned(),
            State::Starting { .. } => format!("{component} is away"),
            State::Serving { .. } => "the copy serves".to_owned(),
            State::Yielding { .. } => format!("{component} is back: ending the divert"),
            State::Draining { failed: true, .. } => "the copy does not become ready: ending it".to_owned(),
            State::Draining { failed: false, .. } => "ending the copy".to_owned(),
            State::BackingOff { .. } => "the copy failed: leaving the field for a while".to_owned(),
        };
        self.say(&line);
    }

    fn tell_of_bridge(&mut self, before: bool) {
        let Config { component, standby_port: port, .. } = self.config;
        match (before, self.standby.is_bridged()) {
            (false, true) => self.say(&format!("{component} is away, and a bridge serves on port {port}")),
            (true, false) => self.say(&format!("{component} is back, or the bridge on port {port} is gone")),
            _ => {}
        }
    }

    fn say(&mut self, line: &str) {
        // Nothing can be said about a closed log, and the component matters more.
        let _ = writeln!(self.log, "{} {}: {line}", clock::now(), self.config.component);
    }
}

/// The digest of a supervisor's arguments: of the generation, and of everything that decides what runs.
pub(crate) fn digest<'a>(generation: u64, arguments: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut bytes = generation.to_string().into_bytes();
    for argument in arguments {
        bytes.push(0);
        bytes.extend(argument);
    }
    Digest::of(&bytes)
}

/// The options that a checkpoint adds to the arguments that its digest is made of.
pub(crate) const GENERATION: &str = "--generation=";
/// See [`GENERATION`].
pub(crate) const DIGEST: &str = "--digest=";

/// The arguments that a digest is made of.
pub(crate) fn covered<'a>(arguments: impl IntoIterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    arguments
        .into_iter()
        .filter(|it| !it.starts_with(GENERATION.as_bytes()) && !it.starts_with(DIGEST.as_bytes()))
}
