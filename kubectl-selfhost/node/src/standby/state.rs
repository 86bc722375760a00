//! When the standby acts: a pure state machine over what is seen once a second.
//!
//! Invariants: the copy is started only when the component has been away for a while and nobody else holds the other
//! port; it is told to end only after the component has served for a while and nothing is diverted any more. While it is
//! somebody else who stands in on that port, a bridge, connections are diverted there, whatever became of its own gate.

use std::time::Duration;

/// How long nobody may listen on the component's own port: as long as a container takes to be started again. A copy that
/// was started for nothing costs a few seconds of a core; one that is started late costs an outage.
const ABSENT: Duration = Duration::from_secs(4);

/// How long the component may be there without being ready: kubeadm's liveness probe has restarted it by then
/// (8 failures, 10 s apart), and it did not help.
const UNREADY: Duration = Duration::from_secs(100);

/// How long the component must be ready before the copy goes.
const SETTLED: Duration = Duration::from_secs(10);

/// How long the copy may take to become ready.
const START: Duration = Duration::from_secs(90);

/// From the end of the divert's being wanted to the copy's end: by then the kernel has dropped it, whatever became of
/// the gate.
const LAPSE: Duration = Duration::from_secs(crate::nft::divert::LEASE_SECONDS as u64 + 1);

/// How long the copy may drain.
const DRAIN: Duration = Duration::from_secs(60);

/// How long the component must not have been ready before connections are diverted to somebody else's stand-in: more
/// than one late answer of a busy machine, and less than what the divert of a gate that was killed lives on.
const UNREADY_BESIDE_BRIDGE: Duration = Duration::from_secs(2);

/// The first pause after a copy that failed; it doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(10);

/// The longest pause after copies that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(80);

/// What is seen of the component itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// Nobody listens on its port.
    Absent,
    /// Somebody listens, and is not ready.
    Unready,
    /// It serves.
    Ready,
}

/// What is seen of our copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StandIn {
    /// It does not run.
    None,
    /// It runs, and is not ready yet.
    Running,
    /// It serves.
    Ready,
}

/// What is seen at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Since the supervisor began.
    pub(super) now: Duration,
    /// The component itself.
    pub(super) own: Own,
    /// Our copy.
    pub(super) copy: StandIn,
    /// Whether somebody who is not our copy listens on the copy's port: a bridge, or the copy of another generation.
    pub(super) taken: bool,
    /// Whether it is for this generation to act.
    pub(super) our_turn: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing.
    Wait,
    /// Start the copy.
    Start,
    /// Ask the copy to end.
    Terminate,
    /// End it.
    Kill,
}

/// Where the standby is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It watches. When the component was last seen there, and last seen ready.
    Dormant { there: Duration, ready: Duration },
    /// The copy is starting.
    Starting { since: Duration },
    /// The copy serves. Since when the component is ready again.
    Serving { settling: Option<Duration> },
    /// Nothing is diverted any more, or will be soon.
    Yielding { since: Duration },
    /// The copy was asked to end.
    Draining { since: Duration, failed: bool },
    /// The copy failed, and another generation may try.
    BackingOff { until: Duration },
}

/// The standby of one component.
#[derive(Debug)]
pub(super) struct Standby {
    state: State,
    /// Copies that failed in a row.
    failures: u32,
    /// When the component was last seen ready.
    ready: Duration,
    /// Whether somebody else stands in for it.
    bridged: bool,
}

impl Standby {
    /// Begins to watch.
    pub(super) fn new() -> Self {
        Self { state: dormant(Duration::ZERO), failures: 0, ready: Duration::ZERO, bridged: false }
    }

    /// Where it is.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether somebody else stands in for the component: an operation's bridge.
    pub(super) fn is_bridged(&self) -> bool {
        self.bridged
    }

    /// Whether connections are to be diverted to the copy's port, on which either the copy or a bridge is.
    pub(super) fn diverts(&self) -> bool {
        self.bridged || matches!(self.state, State::Serving { .. })
    }

    /// Whether this generation could act; otherwise an earlier one may.
    pub(super) fn is_fit(&self) -> bool {
        !matches!(self.state, State::BackingOff { .. })
    }

    /// Takes what is seen into account.
    pub(super) fn next(&mut self, seen: Seen) -> Act {
        let now = seen.now;
        if seen.own == Own::Ready {
            self.ready = now;
        }
        self.bridged = seen.taken && now.saturating_sub(self.ready) >= UNREADY_BESIDE_BRIDGE;
        let (state, act) = match self.state {
            State::Dormant { there, ready } => Self::watch(seen, there, ready),
            State::Starting { since } => match seen.copy {
                StandIn::None => (self.failed(now), Act::Wait),
                StandIn::Running | StandIn::Ready if seen.own == Own::Ready => {
                    (State::Draining { since: now, failed: false }, Act::Terminate)
                }
                StandIn::Ready => (State::Serving { settling: None }, Act::Wait),
                StandIn::Running if now.saturating_sub(since) >= START => {
                    (State::Draining { since: now, failed: true }, Act::Terminate)
                }
                StandIn::Running => (self.state, Act::Wait),
            },
            State::Serving { settling } => match (seen.copy, seen.own, settling) {
                (StandIn::None, ..) => (self.failed(now), Act::Wait),
                (_, Own::Ready, Some(since)) if now.saturating_sub(since) >= SETTLED => {
                    self.failures = 0;
                    (State::Yielding { since: now }, Act::Wait)
                }
                (_, Own::Ready, _) => (State::Serving { settling: settling.or(Some(now)) }, Act::Wait),
                _ => (State::Serving { settling: None }, Act::Wait),
            },
            State::Yielding { since } => match (seen.copy, seen.own) {
                (StandIn::None, _) => (dormant(now), Act::Wait),
                (_, Own::Ready) if now.saturating_sub(since) >= LAPSE => {
                    (State::Draining { since: now, failed: false }, Act::Terminate)
                }
                (_, Own::Ready) => (self.state, Act::Wait),
                (_, Own::Absent | Own::Unready) => (State::Serving { settling: None }, Act::Wait),
            },
            State::Draining { since, failed } => match seen.copy {
                StandIn::None if failed => (self.failed(now), Act::Wait),
                StandIn::None => (dormant(now), Act::Wait),
                StandIn::Running | StandIn::Ready if now.saturating_sub(since) >= DRAIN => {
                    (self.state, Act::Kill)
                }
                StandIn::Running | StandIn::Ready => (self.state, Act::Wait),
            },
            State::BackingOff { until } => {
                if seen.own == Own::Ready {
                    self.failures = 0;
                    (dormant(now), Act::Wait)
                } else if now >= until {
                    (dormant(now), Act::Wait)
                } else {
                    (self.state, Act::Wait)
                }
            }
        };
        self.state = state;
        act
    }

    fn watch(seen: Seen, there: Duration, ready: Duration) -> (State, Act) {
        let now = seen.now;
        if seen.own == Own::Ready || seen.taken {
            return (dormant(now), Act::Wait);
        }
        let there = if seen.own == Own::Absent { there } else { now };
        let missed = now.saturating_sub(there) >= ABSENT || now.saturating_sub(ready) >= UNREADY;
        if missed && seen.our_turn {
            (State::Starting { since: now }, Act::Start)
        } else {
            (State::Dormant { there, ready }, Act::Wait)
        }
    }

    fn failed(&mut self, now: Duration) -> State {
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        State::BackingOff { until: now + pause }
    }
}

fn dormant(now: Duration) -> State {
    State::Dormant { there: now, ready: now }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a test looks for.
    #[derive(Debug, PartialEq, Eq)]
    enum Event {
        Did(Act),
        Diverts,
        Withdraws,
    }
    use Event::{Did, Diverts, Withdraws};

    /// Plays `script`: for each part, what is seen and for how many seconds; returns every event with its second.
    fn play(script: &[(Own, StandIn, bool, bool, u64)]) -> (Vec<(u64, Event)>, State) {
        let mut standby = Standby::new();
        let mut second = 0;
        let mut events = Vec::new();
        for (own, copy, taken, our_turn, seconds) in script.iter().copied() {
            for _ in 0..seconds {
                let now = Duration::from_secs(second);
                let served = standby.diverts();
                match standby.next(Seen { now, own, copy, taken, our_turn }) {
                    Act::Wait => {}
                    act => events.push((second, Did(act))),
                }
                match (served, standby.diverts()) {
                    (false, true) => events.push((second, Diverts)),
                    (true, false) => events.push((second, Withdraws)),
                    _ => {}
                }
                second += 1;
            }
        }
        (events, standby.state())
    }

    use Own::{Absent, Ready, Unready};
    use StandIn::{None as NoCopy, Ready as CopyReady, Running};

    #[test]
    fn a_component_that_is_away_is_replaced_and_comes_back() {
        let (acts, state) = play(&[
            (Ready, NoCopy, false, true, 20),
            (Absent, NoCopy, false, true, 4),
            (Absent, Running, false, true, 5),
            (Absent, CopyReady, false, true, 10),
            (Unready, CopyReady, false, true, 5),
            (Ready, CopyReady, false, true, 18),
            (Ready, NoCopy, false, true, 2),
        ]);
        let expected = [(23, Did(Act::Start)), (29, Diverts), (54, Withdraws), (60, Did(Act::Terminate))];
        assert_eq!(acts, expected);
        assert!(matches!(state, State::Dormant { .. }), "{state:?}");
    }

    #[test]
    fn nothing_is_started_needlessly() {
        for script in [
            // Away for less than it takes, again and again.
            vec![
                (Absent, NoCopy, false, true, 3),
                (Ready, NoCopy, false, true, 1),
                (Absent, NoCopy, false, true, 3),
            ],
            // A newer generation is there.
            vec![(Absent, NoCopy, false, false, 300)],
            // It is slow to become ready.
            vec![(Unready, NoCopy, false, true, 99)],
        ] {
            assert_eq!(play(&script).0, [], "{script:?}");
        }
    }

    #[test]
    fn a_bridge_is_diverted_to_while_it_is_all_that_serves() {
        let (acts, state) = play(&[
            (Ready, NoCopy, false, true, 20),
            (Ready, NoCopy, true, true, 20),
            // It answers late, once.
            (Unready, NoCopy, true, true, 1),
            (Ready, NoCopy, true, true, 1),
            // It drains, it is away, it is back, and the bridge goes.
            (Unready, NoCopy, true, true, 5),
            (Absent, NoCopy, true, true, 300),
            (Ready, NoCopy, true, true, 20),
            (Ready, NoCopy, false, true, 20),
        ]);
        assert_eq!(acts, [(43, Diverts), (347, Withdraws)]);
        assert!(matches!(state, State::Dormant { .. }), "{state:?}");
        // The bridge is killed as well: the copy takes its port.
        let (acts, _) = play(&[
            (Ready, NoCopy, true, true, 5),
            (Absent, NoCopy, true, true, 5),
            (Absent, NoCopy, false, true, 4),
            (Absent, Running, false, true, 5),
            (Absent, CopyReady, false, true, 1),
        ]);
        assert_eq!(acts, [(6, Diverts), (10, Withdraws), (13, Did(Act::Start)), (19, Diverts)]);
    }

    #[test]
    fn a_component_that_never_becomes_ready_is_replaced() {
        assert_eq!(play(&[(Unready, NoCopy, false, true, 101)]).0, [(100, Did(Act::Start))]);
        // One that crashes again and again is seen now there, now away.
        let mut crashing = Vec::new();
        for _ in 0..30 {
            crashing.extend([(Unready, NoCopy, false, true, 3), (Absent, NoCopy, false, true, 2)]);
        }
        assert_eq!(play(&crashing).0.first(), Some(&(100, Did(Act::Start))));
    }

    #[test]
    fn a_copy_that_fails_makes_room_and_tries_again_later() {
        let (acts, state) = play(&[
            (Absent, NoCopy, false, true, 5),
            // It ended at once.
            (Absent, NoCopy, false, true, 1),
        ]);
        assert_eq!(acts, [(4, Did(Act::Start))]);
        assert_eq!(state, State::BackingOff { until: Duration::from_secs(15) });
        let (acts, _) = play(&[
            (Absent, NoCopy, false, true, 5),
            (Absent, Running, false, true, 91),
            (Absent, Running, false, true, 61),
            (Absent, NoCopy, false, true, 30),
        ]);
        assert_eq!(
            acts,
            [
                (4, Did(Act::Start)),
                (94, Did(Act::Terminate)),
                (154, Did(Act::Kill)),
                (155, Did(Act::Kill)),
                (156, Did(Act::Kill)),
                (171, Did(Act::Start))
            ]
        );
    }

    #[test]
    fn a_copy_that_ends_while_it_serves_ends_its_divert() {
        let (acts, state) = play(&[
            (Absent, NoCopy, false, true, 5),
            (Absent, CopyReady, false, true, 3),
            (Absent, NoCopy, false, true, 1),
        ]);
        assert_eq!(acts, [(4, Did(Act::Start)), (5, Diverts), (8, Withdraws)]);
        assert!(matches!(state, State::BackingOff { .. }), "{state:?}");
    }

    #[test]
    fn a_component_that_fails_again_is_replaced_again_at_once() {
        let (acts, _) = play(&[
            (Absent, NoCopy, false, true, 5),
            (Absent, CopyReady, false, true, 1),
            (Ready, CopyReady, false, true, 13),
            (Absent, CopyReady, false, true, 1),
        ]);
        assert_eq!(acts, [(4, Did(Act::Start)), (5, Diverts), (16, Withdraws), (19, Diverts)]);
    }

    #[test]
    fn a_copy_is_ended_when_the_component_is_faster() {
        let (acts, state) = play(&[
            (Absent, NoCopy, false, true, 5),
            (Ready, Running, false, true, 2),
            (Ready, NoCopy, false, true, 1),
        ]);
        assert_eq!(acts, [(4, Did(Act::Start)), (5, Did(Act::Terminate))]);
        assert!(matches!(state, State::Dormant { .. }), "{state:?}");
    }
}
