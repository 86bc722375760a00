//! The gate of a bridge Pod: keeps the divert alive while the bridge answers `/readyz`, and only then.
//!
//! Invariants: the divert begins only after a check that said ready, and its lease is renewed only after a check;
//! connections that were diverted stay usable for as long as this process runs, also after the divert was withdrawn.

mod bridge;
mod leftover;
mod readiness;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use self::bridge::Bridge;
use self::leftover::Leftover;
use self::readiness::{Answer, Readiness, Step};
use crate::clock;
use crate::nft::closing;
use crate::nft::divert::{self, Divert};
use crate::tls::{self, Credentials};
use crate::{nft, sockets, standby, stop};

/// How often the bridge is asked, and the lease renewed.
const PERIOD: Duration = Duration::from_secs(1);

/// How often the gate looks whether diverted connections are still open, once it is to end.
const DRAIN_POLL: Duration = Duration::from_millis(200);

/// What the gate watches and what it diverts.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) divert: Divert,
    pub(crate) credentials: Credentials,
    /// The divert is wanted only while somebody holds the lock of this file; `None` for always.
    pub(crate) only_while: Option<PathBuf>,
}

/// The gate cannot run, or does not divert.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Bridge(#[from] tls::Error),
    #[error("start a thread")]
    Thread(#[source] io::Error),
    #[error("remove the divert")]
    Remove(#[source] nft::Error),
    #[error("ask for the divert")]
    Check(#[source] nft::Error),
    #[error("nothing is diverted")]
    NotDiverting,
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Bridge(_) => "mount the cluster's PKI directory and name its files",
            Self::Thread(_) => "the container's limits of processes or memory are too low",
            Self::Remove(error) | Self::Check(error) => error.hint(),
            // One line: the kubelet shows it as the reason of a failed probe; the gate's log has the rest.
            Self::NotDiverting => "",
        }
    }
}

/// What wakes the gate up.
enum Event {
    Answered(Answer),
    Stop,
}

/// Runs until SIGTERM or SIGINT; logs each transition as one line.
pub(crate) fn run(config: &Config, log: &mut dyn Write) -> Result<(), Error> {
    let bridge = Bridge::load(config.divert.bridge().port(), config.credentials.clone())?;
    let public = Bridge::load(config.divert.public().port(), config.credentials.clone())?;
    let mut gate = Gate { divert: &config.divert, installed: false, last: None, trouble: None, log };
    gate.say(&format!("waiting for {bridge}"));
    gate.forget_soon();

    let (events, inbox) = mpsc::sync_channel(0);
    let stopping = events.clone();
    stop::on_signal(move || {
        // The gate is gone when it has ended anyway.
        let _ = stopping.send(Event::Stop);
    })
    .map_err(Error::Thread)?;
    // A check can hang for its whole time limit; on a thread of its own it does not delay the answer to a signal.
    let only_while = config.only_while.clone();
    thread::Builder::new()
        .name("readyz".to_owned())
        .spawn(move || {
            ask_forever(bridge, public, only_while.as_deref(), |answer| {
                events.send(Event::Answered(answer)).is_ok()
            });
        })
        .map_err(Error::Thread)?;

    let mut readiness = Readiness::new();
    let mut leftover = Leftover::default();
    while let Ok(Event::Answered(answer)) = inbox.recv() {
        if answer == Answer::Idle {
            let result = leftover.look(&config.divert);
            gate.note(result);
        }
        let step = readiness.next(&answer);
        if !gate.take(step, answer) {
            readiness = Readiness::new();
        }
    }
    gate.end(&inbox)
}

/// Whether the kernel diverts at this moment: an error when not.
pub(crate) fn check() -> Result<(), Error> {
    match divert::is_alive() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::NotDiverting),
        Err(error) => Err(Error::Check(error)),
    }
}

fn ask_forever(
    mut bridge: Bridge,
    mut public: Bridge,
    only_while: Option<&Path>,
    tell: impl Fn(Answer) -> bool,
) {
    loop {
        let asked = Instant::now();
        let answer = match only_while.map(standby::is_locked) {
            Some(Ok(false)) => Answer::Idle,
            Some(Err(error)) => Answer::Failed(crate::chain(&error)),
            Some(Ok(true)) | None => match bridge.readyz() {
                Answer::Failed(why) if public.readyz() != Answer::Ready => Answer::Alone(why),
                answer => answer,
            },
        };
        if !tell(answer) {
            return;
        }
        thread::sleep(PERIOD.saturating_sub(asked.elapsed()));
    }
}

struct Gate<'a> {
    divert: &'a Divert,
    /// Whether our table is in the kernel, as far as we know.
    installed: bool,
    /// The bridge's last answer.
    last: Option<Answer>,
    /// The trouble with nft that was logged last and is not over.
    trouble: Option<String>,
    log: &'a mut dyn Write,
}

impl Gate<'_> {
    /// Does what the state machine decided; false when the divert could not be begun.
    fn take(&mut self, step: Step, answer: Answer) -> bool {
        if step == Step::Hold && self.last.as_ref() != Some(&answer) {
            self.say(&answer.to_string());
        }
        let done = self.act(step, &answer);
        self.last = Some(answer);
        done
    }

    fn act(&mut self, step: Step, answer: &Answer) -> bool {
        match step {
            // A table left by an earlier gate is replaced at the first answer, not before: if the bridge is ready its
            // divert goes on without a gap.
            Step::Hold if self.installed => true,
            Step::Hold => {
                let result = self.install(false);
                self.note(result);
                true
            }
            Step::Begin => {
                let result = self.lease(true);
                let begun = self.note(result);
                if begun {
                    let line = format!("diverting {} to {}", self.targets(), self.divert.bridge());
                    self.say(&line);
                }
                begun
            }
            Step::Renew => {
                let result = self.lease(true);
                self.note(result);
                true
            }
            Step::Withdraw => {
                let result = self.lease(false);
                self.note(result);
                self.say(&format!("withdrew the divert: {answer}"));
                true
            }
        }
    }

    /// Makes the kernel forget connections soon that were reset: a client may use their ports again.
    fn forget_soon(&mut self) {
        if let Err(error) = closing::install(self.divert) {
            self.say(&format!(
                "connections whose client uses the port of a reset one again go where that one went: {}",
                crate::chain(&error)
            ));
        }
    }

    /// Begins, renews or ends the divert; a table that somebody removed is installed again.
    fn lease(&mut self, diverting: bool) -> Result<(), nft::Error> {
        let change = if diverting { divert::renew(self.divert) } else { divert::withdraw(self.divert) };
        if self.installed && nft::apply(&change).is_ok() {
            return Ok(());
        }
        self.install(diverting)
    }

    fn install(&mut self, diverting: bool) -> Result<(), nft::Error> {
        let table =
            if diverting { divert::install_diverting(self.divert) } else { divert::install(self.divert) };
        nft::apply(&table).inspect(|()| self.installed = true)
    }

    /// Logs the beginning and the end of trouble with nft; true when there is none.
    fn note(&mut self, result: Result<(), nft::Error>) -> bool {
        match result {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    self.say("nft works again");
                }
                true
            }
            Err(error) => {
                let text = crate::chain(&error);
                if self.trouble.as_ref() != Some(&text) {
                    let hint = error.hint();
                    self.say(&format!(
                        "cannot change the divert, which lapses in {} s: {text}",
                        divert::LEASE_SECONDS
                    ));
                    self.say(&format!("hint: {hint}"));
                    self.trouble = Some(text);
                }
                false
            }
        }
    }

    /// Ends the divert at once and removes the table as soon as nobody needs it.
    ///
    /// Where ours is the last NAT table of the node, removing it makes the kernel forget to translate the connections
    /// that were diverted, and they break. So the empty table stays until they have ended: the bridge, which was
    /// asked to stop together with the gate, drains them. A second signal cuts that short; so does the end of the
    /// Pod's grace period, which leaves an empty table behind.
    fn end(&mut self, inbox: &Receiver<Event>) -> Result<(), Error> {
        let withdrawn = self.install_or_withdraw_for_end();
        let port = self.divert.bridge().port();
        if withdrawn && diverted_connections_open(port) {
            self.say(
                "withdrew the divert: asked to stop; keeping open connections to the bridge until they end",
            );
            while diverted_connections_open(port) {
                match next_signal(inbox, DRAIN_POLL) {
                    Waited::Elapsed => {}
                    Waited::Signal => break,
                }
            }
        }
        nft::remove(self.divert.table()).map_err(Error::Remove)?;
        self.say("removed the divert: asked to stop");
        Ok(())
    }

    /// True when the table is there and empty.
    fn install_or_withdraw_for_end(&mut self) -> bool {
        // When this fails, removing the table, which comes next, reports why.
        self.installed && nft::apply(&divert::withdraw(self.divert)).is_ok()
    }

    fn targets(&self) -> String {
        self.divert.targets().iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" and ")
    }

    fn say(&mut self, line: &str) {
        // Nothing can be said about a closed log, and the divert matters more.
        let _ = writeln!(self.log, "{} {line}", clock::now());
    }
}

fn diverted_connections_open(port: u16) -> bool {
    // Where the table cannot be read, the connections' end cannot be awaited.
    sockets::list().is_ok_and(|sockets| sockets::connected(&sockets, port))
}

enum Waited {
    Elapsed,
    Signal,
}

/// Waits for the next signal; answers of the bridge no longer matter.
fn next_signal(inbox: &Receiver<Event>, limit: Duration) -> Waited {
    let deadline = Instant::now() + limit;
    loop {
        match inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Stop) => return Waited::Signal,
            Ok(Event::Answered(_)) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Waited::Elapsed,
        }
    }
}
