//! Makes a data directory of a snapshot, in etcd's own image: `restore` runs it as a static Pod, and reads the result
//! from a file, because there is no API that could tell it.
//!
//! Invariant: the result is there only when the directory is whole, or is not going to be.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::etcd::tool::{self, Membership, Tool};
use crate::files::{self, Content};
use crate::report::RestoreData as Report;

/// Restores a snapshot.
#[derive(Debug)]
pub(crate) struct RestoreData {
    pub(crate) snapshot: PathBuf,
    /// The directory that is to be made; whatever is there is of an earlier attempt.
    pub(crate) data: PathBuf,
    pub(crate) membership: Membership,
    /// The file for the result.
    pub(crate) result: PathBuf,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Restored {
    Done(Report),
    Failed(String),
}

/// There is no data directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("restore the snapshot")]
    Tool(#[from] tool::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("write the result")]
    Result(#[source] serde_json::Error),
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Tool(_) => "check that the snapshot is whole, and that the disk has room",
            Self::File(_) | Self::Result(_) => {
                "check that the Pod mounts the directories writable, and that the disk has room"
            }
        }
    }
}

impl RestoreData {
    pub(crate) fn run(&self) -> Result<Report, Error> {
        let made = self.make();
        let restored = match &made {
            Ok(report) => Restored::Done(report.clone()),
            Err(error) => Restored::Failed(crate::chain(error)),
        };
        let text = serde_json::to_vec(&restored).map_err(Error::Result)?;
        files::write(&self.result, &Content::new(text, 0o600))?;
        made
    }

    fn make(&self) -> Result<Report, Error> {
        files::remove_dir_if_there(&self.data)?;
        let tool = Tool::find()?;
        let ahead = tool.restore(&self.snapshot, &self.data, &self.membership, true)?;
        files::sync_tree(&self.data)?;
        Ok(Report { data: self.data.clone(), tool: tool.name().to_owned(), ahead })
    }
}
