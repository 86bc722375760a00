//! What an operation is for, and its name: the one that the journal carries and that users type.

use std::fmt;
use std::str::FromStr;

use selfhost_core::version::KubeVersion;

/// What an operation is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// From static Pods to DaemonSets.
    Pivot,
    /// From DaemonSets back to static Pods.
    Unpivot,
    /// To another version.
    Upgrade(KubeVersion),
    /// To the binaries of another version, which go on behaving like the minor before it.
    Emulate(KubeVersion),
    /// To the newest revision of the DaemonSets that is of this version.
    Rollback(KubeVersion),
    /// What runs now becomes each node's checkpoint.
    Refresh,
    /// Every API server has the certificate by which the guard knows it.
    Arm,
    /// No API server has one.
    Disarm,
    /// Back to where this one began.
    Abort(Box<Goal>),
}

/// A name of no goal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no operation that this release knows")]
pub struct UnknownGoal(pub String);

impl Goal {
    /// Whether it ends with static Pods.
    pub fn ends_static(&self) -> bool {
        match self {
            Self::Unpivot => true,
            Self::Pivot
            | Self::Upgrade(_)
            | Self::Emulate(_)
            | Self::Rollback(_)
            | Self::Refresh
            | Self::Arm
            | Self::Disarm => false,
            Self::Abort(goal) => **goal == Self::Pivot,
        }
    }

    /// Whether components come to an older version, or behave like one: then the version skew policy wants the API
    /// servers last.
    pub fn goes_back(&self) -> bool {
        match self {
            Self::Rollback(_) => true,
            Self::Pivot
            | Self::Unpivot
            | Self::Upgrade(_)
            | Self::Emulate(_)
            | Self::Refresh
            | Self::Arm
            | Self::Disarm => false,
            Self::Abort(goal) => matches!(**goal, Self::Upgrade(_) | Self::Emulate(_)),
        }
    }

    /// Whether DaemonSets that are there get another template.
    pub const fn changes_templates(&self) -> bool {
        matches!(self, Self::Upgrade(_) | Self::Emulate(_) | Self::Rollback(_) | Self::Arm | Self::Disarm)
    }

    /// Whether an operation of this goal may go on with the open one of that name: the same, or its abort.
    pub fn continues(&self, open: &str) -> bool {
        match self {
            Self::Abort(goal) => self.to_string() == open || goal.to_string() == open,
            _ => self.to_string() == open,
        }
    }

    /// The command that begins it, and that goes on with it.
    pub fn command(&self) -> String {
        match self {
            Self::Abort(_) => "kubectl selfhost abort".to_owned(),
            _ => format!("kubectl selfhost {self}"),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pivot => f.write_str("pivot"),
            Self::Unpivot => f.write_str("unpivot"),
            Self::Upgrade(target) => write!(f, "upgrade {target}"),
            Self::Emulate(target) => write!(f, "upgrade {target} --emulate"),
            Self::Rollback(target) => write!(f, "upgrade --rollback {target}"),
            Self::Refresh => f.write_str("checkpoint refresh"),
            Self::Arm => f.write_str("guard install"),
            Self::Disarm => f.write_str("guard uninstall"),
            Self::Abort(goal) => write!(f, "abort {goal}"),
        }
    }
}

impl FromStr for Goal {
    type Err = UnknownGoal;

    fn from_str(text: &str) -> Result<Self, UnknownGoal> {
        let unknown = || UnknownGoal(text.to_owned());
        let version = |version: &str| version.parse().map_err(|_| unknown());
        if let Some(goal) = text.strip_prefix("abort ") {
            return match goal.parse()? {
                Self::Abort(_) => Err(unknown()),
                goal => Ok(Self::Abort(Box::new(goal))),
            };
        }
        match text {
            "pivot" => Ok(Self::Pivot),
            "unpivot" => Ok(Self::Unpivot),
            "checkpoint refresh" => Ok(Self::Refresh),
            "guard install" => Ok(Self::Arm),
            "guard uninstall" => Ok(Self::Disarm),
            _ => match text.strip_prefix("upgrade ").ok_or_else(unknown)? {
                target if target.starts_with("--rollback ") => {
                    Ok(Self::Rollback(version(target.trim_start_matches("--rollback "))?))
                }
                target => match target.strip_suffix(" --emulate") {
                    Some(target) => Ok(Self::Emulate(version(target)?)),
                    None => Ok(Self::Upgrade(version(target)?)),
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goal_is_read_as_it_is_written() {
        let version = || "v1.37.2".parse().unwrap();
        let goals = [
            Goal::Pivot,
            Goal::Unpivot,
            Goal::Refresh,
            Goal::Arm,
            Goal::Disarm,
            Goal::Upgrade(version()),
            Goal::Emulate(version()),
            Goal::Rollback(version()),
        ];
        let aborts = goals.clone().map(|goal| Goal::Abort(Box::new(goal)));
        for goal in goals.into_iter().chain(aborts) {
            assert_eq!(goal.to_string().parse(), Ok(goal));
        }
        for text in [
            "",
            "certs",
            "upgrade",
            "upgrade --rollback",
            "upgrade --emulate",
            "abort",
            "abort abort pivot",
            "unknown",
        ] {
            assert!(text.parse::<Goal>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_the_same_operation_and_its_abort_go_on_with_it() {
        let abort = Goal::Abort(Box::new(Goal::Pivot));
        for (goal, open, expected) in [
            (&Goal::Pivot, "pivot", true),
            (&Goal::Pivot, "unpivot", false),
            (&Goal::Pivot, "abort pivot", false),
            (&abort, "pivot", true),
            (&abort, "abort pivot", true),
            (&abort, "unpivot", false),
            (&Goal::Emulate("v1.37.2".parse().unwrap()), "upgrade v1.37.2 --emulate", true),
            (&Goal::Upgrade("v1.37.2".parse().unwrap()), "upgrade v1.37.2 --emulate", false),
        ] {
            assert_eq!(goal.continues(open), expected, "{goal} {open}");
        }
    }

    #[test]
    fn an_abort_ends_where_its_operation_began() {
        let abort = |goal| Goal::Abort(Box::new(goal));
        assert!(abort(Goal::Pivot).ends_static());
        assert!(!abort(Goal::Unpivot).ends_static());
        assert!(abort(Goal::Upgrade("v1.37.2".parse().unwrap())).goes_back());
        assert!(abort(Goal::Emulate("v1.37.2".parse().unwrap())).goes_back());
        assert!(!abort(Goal::Rollback("v1.36.2".parse().unwrap())).goes_back());
    }
}
