//! The command that makes sense next.
//!
//! Invariant: only commands that change nothing, or that ask before they do; and what was begun comes first.

use selfhost_core::component::Hosting;
use selfhost_core::version::KubeVersion;

use crate::inventory::OpenOperation;

/// A command, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// What it is for, as words before a colon.
    pub purpose: &'static str,
    /// The command.
    pub command: String,
}

/// The next command after a status of this kind. `half_way` is the version whose second step of two is due.
pub fn next(
    hosting: Hosting,
    operation: Option<&OpenOperation>,
    errors: bool,
    half_way: Option<&KubeVersion>,
) -> Option<Next> {
    let next =
        |purpose, command: &str| Some(Next { purpose, command: format!("kubectl selfhost {command}") });
    if let Some(operation) = operation {
        if operation.running {
            return next("To follow it", "status --watch");
        }
        if let Some(command) = operation.command.clone() {
            return Some(Next { purpose: "To finish what was begun", command });
        }
    }
    match hosting {
        Hosting::External | Hosting::Unknown => None,
        // What an operation would refuse is not proposed.
        _ if errors => next("To see when it is solved", "status --watch"),
        Hosting::Missing => None,
        Hosting::StaticPod => next("To see what a pivot would do", "pivot --dry-run=client"),
        Hosting::Mixed => next("To pivot the rest", "pivot --dry-run=client"),
        Hosting::SelfHosted if let Some(version) = half_way => {
            next("To make the switch, the second step of two", &format!("upgrade {version}"))
        }
        Hosting::SelfHosted => next("To see what an upgrade would do", "upgrade"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(running: bool) -> OpenOperation {
        OpenOperation {
            holder: "ann@desk".to_owned(),
            what: "upgrade v1.37.2".to_owned(),
            command: Some("kubectl selfhost upgrade v1.37.2".to_owned()),
            step: None,
            since: None,
            renewed: None,
            running,
            record: None,
        }
    }

    #[test]
    fn what_was_begun_comes_first() {
        let command = |hosting, operation: Option<&OpenOperation>, errors| {
            next(hosting, operation, errors, None).map(|next| next.command)
        };
        let version = "v1.37.2".parse().unwrap();
        let half_way = |errors| next(Hosting::SelfHosted, None, errors, Some(&version)).unwrap().command;
        assert_eq!(half_way(false), "kubectl selfhost upgrade v1.37.2");
        assert_eq!(half_way(true), "kubectl selfhost status --watch");
        for (hosting, operation, errors, expected) in [
            (Hosting::StaticPod, None, false, Some("kubectl selfhost pivot --dry-run=client")),
            (Hosting::Mixed, None, false, Some("kubectl selfhost pivot --dry-run=client")),
            (Hosting::SelfHosted, None, false, Some("kubectl selfhost upgrade")),
            (Hosting::SelfHosted, None, true, Some("kubectl selfhost status --watch")),
            (Hosting::SelfHosted, Some(&operation(true)), true, Some("kubectl selfhost status --watch")),
            (Hosting::Mixed, Some(&operation(false)), true, Some("kubectl selfhost upgrade v1.37.2")),
            (Hosting::External, None, false, None),
            (Hosting::Unknown, None, true, None),
        ] {
            assert_eq!(command(hosting, operation, errors).as_deref(), expected, "{hosting} {errors}");
        }
    }
}
