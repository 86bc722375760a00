//! What the errors of an operation advise, and which exit codes they lead to.

use crate::api::ApiError;
use crate::error::Explain;
use crate::execute::ExecuteError;
use crate::exit::Exit;
use crate::node_task::TaskError;
use crate::operation::LockError;

impl Explain for ApiError {
    fn exit(&self) -> Exit {
        match self {
            Self::Timeout { .. } => Exit::TimedOut,
            Self::Call { .. } | Self::Silence { .. } => Exit::Failure,
        }
    }
}

impl Explain for LockError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Held { .. } => Some(
                "wait for it; once it is dead: kubectl selfhost resume, or kubectl selfhost abort".to_owned(),
            ),
            Self::Api(error) => error.hint(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Held { .. } => Exit::Findings,
            Self::Api(error) => error.exit(),
        }
    }
}

impl Explain for TaskError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Failed { hint, .. } => hint.clone(),
            Self::Busy { task, node } => {
                Some(format!("wait for it: kubectl -n kube-system get pod selfhost-{task}-{node}"))
            }
            Self::Api(error) => error.hint(),
            Self::NotStarted { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Api(error) => error.exit(),
            Self::Busy { .. } => Exit::Findings,
            Self::NotStarted { .. } | Self::Failed { .. } => Exit::Failure,
        }
    }
}

impl Explain for ExecuteError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Api(error) => error.hint(),
            Self::Task(error) => error.hint(),
            Self::TargetFails { subject, .. } => Some(format!("kubectl -n kube-system describe {subject}")),
            Self::LockLost(_) | Self::Budget(_) | Self::Stale { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Api(error) => error.exit(),
            Self::Task(error) => error.exit(),
            _ => Exit::Failure,
        }
    }
}
