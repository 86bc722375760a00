//! Watches one etcd go and the next one come, and stands in between.
//!
//! The kubelet takes long to replace a static Pod: it looks only every ten to fifteen seconds whether the old one has
//! ended, and before it starts the new one it asks the API server to delete the old one's mirror, which that answers
//! with silence while there is no etcd. So the etcd that is to serve in the end is started here as soon as the old one
//! has ended, on the same data, at the same addresses, and is ended when the kubelet starts its own.
//!
//! Invariant: two etcds never run on one data directory: ours starts when there is no other, and etcd itself locks its
//! data.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use super::Error;
use super::member::{Member, Serves};
use super::process::{Process, Program, Signs, StandIn, with_data};
use crate::sockets;
use crate::stop::Stop;

/// How often everything is looked at. What serves waits for this, so it is short.
const TICK: Duration = Duration::from_millis(25);

/// How long an etcd may take to end that has stopped listening. It waits for watches, which do not end, for seven
/// seconds, and serves nobody meanwhile.
const CLOSING: Duration = Duration::from_millis(500);

/// How long the kubelet may take from the first sign of a container until that runs. If it takes longer, we stand in
/// again, its etcd finds the data locked, and it has to start that once more.
const HANDED: Duration = Duration::from_secs(4);

/// How often the one that stands in may end by itself.
const TRIES: u32 = 2;

/// What is to serve in the end.
#[derive(Debug)]
pub(super) struct Aim {
    /// Its version; none where any will do.
    pub(super) version: Option<String>,
    /// What stands in for it; none where nothing can.
    pub(super) program: Option<Program>,
    /// Whether it is lost when what stands in ends by itself. What served before is waited for even then.
    pub(super) proves: bool,
}

/// Everything that is watched.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    pub(super) member: &'a Member,
    /// The command line of etcd.
    pub(super) command: &'a [OsString],
    pub(super) data_dir: OsString,
    /// Those that are to end.
    pub(super) old: Vec<Process>,
    pub(super) stand_in: StandIn,
    pub(super) signs: Signs,
    /// For how long nobody was healthy, all told.
    pub(super) away: Duration,
    /// What was last said by whoever served last.
    pub(super) last: Option<Serves>,
    pub(super) settle: Duration,
    pub(super) limit: Duration,
}

impl Watch<'_> {
    /// Waits until the kubelet's own etcd serves what is aimed at and has done so for the settling time; or tells why
    /// that will not be.
    pub(super) fn until_serves(&mut self, aim: &Aim, stop: &Stop) -> Result<Result<Serves, String>, Error> {
        let begin = Instant::now();
        let mut healthy_at = begin;
        let mut settled: Option<Instant> = None;
        let mut closed: Option<Instant> = None;
        let mut handed: Option<Instant> = None;
        let mut came = false;
        let mut failures = 0;
        let mut why = "nobody has looked yet".to_owned();
        loop {
            let listens = sockets::listening()?.contains(&self.member.port());
            let own = self.stand_in.pid();
            let others = with_data(&self.data_dir, own)?;
            self.old.retain(|process| process.runs(&others));
            if handed.is_some() {
                // What came and ended is no reason to wait any longer.
                if came && others.is_empty() {
                    handed = None;
                }
                came = !others.is_empty();
            }

            if !self.old.is_empty() {
                closed = if listens { None } else { closed.or_else(|| Some(Instant::now())) };
                if closed.is_some_and(|closed| closed.elapsed() > CLOSING) {
                    self.old.iter().for_each(Process::kill);
                }
            } else if self.signs.appeared() || (own.is_some() && !others.is_empty()) {
                self.stand_in.end();
                handed = Some(Instant::now());
            } else if let Some(status) = self.stand_in.ended() {
                failures += 1;
                why = format!("it ended with {status}");
                if aim.proves && failures == TRIES {
                    return Ok(Err(why));
                }
            } else if own.is_none()
                && others.is_empty()
                && handed.is_none_or(|handed| handed.elapsed() > HANDED)
                && failures < TRIES
                && let Some(program) = &aim.program
            {
                let arguments = self.command.get(1..).unwrap_or_default();
                self.stand_in.start(program, arguments).map_err(Error::Start)?;
            }

            // Who does not listen need not be asked.
            let said = if listens { self.member.serves() } else { Err("it does not listen".to_owned()) };
            let now = Instant::now();
            match said {
                Ok(serves) => {
                    self.last = Some(serves.clone());
                    healthy_at = now;
                    let is_it = aim.version.as_ref().is_none_or(|version| *version == serves.version);
                    if is_it && self.old.is_empty() && self.stand_in.pid().is_none() && !others.is_empty() {
                        if settled.get_or_insert(now).elapsed() >= self.settle {
                            return Ok(Ok(serves));
                        }
                    } else {
                        settled = None;
                        why = format!("the kubelet has not started it, and {} serves", serves.version);
                    }
                }
                Err(said) => {
                    self.away += now.duration_since(healthy_at);
                    healthy_at = now;
                    settled = None;
                    if failures == 0 {
                        why = said;
                    }
                }
            }
            if begin.elapsed() > self.limit {
                return Ok(Err(format!("{why}, {} s after it was to start", self.limit.as_secs())));
            }
            stop.sleep(TICK)?;
        }
    }
}
