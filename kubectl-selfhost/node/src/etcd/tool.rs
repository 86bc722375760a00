//! etcd's own tool for its files, `etcdutl`, or `etcdctl` where an image has no other.
//!
//! The images of etcd have no shell: this program runs in a container of etcd's image, and starts the tool itself.
//!
//! Invariant: the tool of exactly that etcd which is to read the files makes them.

use std::io;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Member;

/// The programs, in the order in which they are looked for. `registry.k8s.io/etcd` has `etcdutl` since its images became
/// etcd's own, late in 3.5; `etcdctl` lost `snapshot restore` with 3.6.
const PROGRAMS: [&str; 4] = ["etcdutl", "/usr/local/bin/etcdutl", "etcdctl", "/usr/local/bin/etcdctl"];

/// By how much a restored etcd is ahead of its snapshot: more than was ever written in between. etcd's own documentation
/// of disaster recovery has this number.
const BUMP: &str = "1000000000";

/// As much of a tool's words as an error repeats.
const WORDS: usize = 600;

/// A tool that is there.
#[derive(Debug)]
pub(crate) struct Tool(&'static str);

/// The tool did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("this image has neither etcdutl nor etcdctl")]
    None,
    #[error("run {program}")]
    Run { program: &'static str, source: io::Error },
    #[error("{program} {what} failed: {words}")]
    Failed { program: &'static str, what: &'static str, words: String },
    #[error("read what {program} says of a snapshot")]
    Status { program: &'static str, source: serde_json::Error },
}

/// What is in a database of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) revision: u64,
    #[serde(rename = "totalKey")]
    pub(crate) keys: u64,
}

/// Who is to be the member that is restored, and of which cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Membership {
    /// The name of the member.
    pub(crate) name: String,
    /// Every member of the cluster, this one among them.
    pub(crate) members: Vec<Member>,
    /// What tells this cluster from others with the same members.
    pub(crate) token: String,
}

impl FromStr for Membership {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl Membership {
    /// `cp1=https://10.0.0.1:2380,cp2=https://10.0.0.2:2380`.
    fn initial_cluster(&self) -> String {
        let all = self.members.iter().flat_map(|member| {
            member.peer_urls.iter().map(|url| format!("{}={url}", member.name)).collect::<Vec<_>>()
        });
        all.collect::<Vec<_>>().join(",")
    }

    fn peer_urls(&self) -> String {
        let own = self.members.iter().filter(|member| member.name == self.name);
        own.flat_map(|member| member.peer_urls.clone()).collect::<Vec<_>>().join(",")
    }
}

impl Tool {
    /// The tool of the image that this runs in.
    pub(crate) fn find() -> Result<Self, Error> {
        Self::among(&PROGRAMS)
    }

    fn among(programs: &[&'static str]) -> Result<Self, Error> {
        for &program in programs {
            match Command::new(program).arg("version").output() {
                Ok(_) => return Ok(Self(program)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Run { program, source }),
            }
        }
        Err(Error::None)
    }

    /// The name of the program.
    pub(crate) fn name(&self) -> &'static str {
        self.0.rsplit('/').next().unwrap_or(self.0)
    }

    /// Looks through all of a database.
    pub(crate) fn status(&self, database: &Path) -> Result<Status, Error> {
        let words = self.run(
            "snapshot status",
            Command::new(self.0).args(["snapshot", "status", "-w", "json"]).arg(database),
        )?;
        serde_json::from_slice(&words).map_err(|source| Error::Status { program: self.0, source })
    }

    /// Makes a data directory, which must not be there, of a snapshot. With `ahead` its revision is far ahead of the
    /// snapshot's, and whoever watches has to look at everything anew; false when the tool cannot do that.
    pub(crate) fn restore(
        &self,
        snapshot: &Path,
        data: &Path,
        member: &Membership,
        ahead: bool,
    ) -> Result<bool, Error> {
        let ahead = ahead && self.knows_bumps()?;
        let mut command = Command::new(self.0);
        command.args(["snapshot", "restore"]).arg(snapshot).arg("--data-dir").arg(data);
        command.args(["--name", &member.name, "--initial-cluster-token", &member.token]);
        command.args(["--initial-cluster", &member.initial_cluster()]);
        command.args(["--initial-advertise-peer-urls", &member.peer_urls()]);
        if ahead {
            command.args(["--bump-revision", BUMP, "--mark-compacted"]);
        }
        self.run("snapshot restore", &mut command)?;
        Ok(ahead)
    }

    /// Whether it can put a revision ahead: since 3.6, and later patches of 3.5.
    fn knows_bumps(&self) -> Result<bool, Error> {
        let help = self.run("help", Command::new(self.0).args(["snapshot", "restore", "--help"]))?;
        Ok(String::from_utf8_lossy(&help).contains("--bump-revision"))
    }

    fn run(&self, what: &'static str, command: &mut Command) -> Result<Vec<u8>, Error> {
        // The API that etcdctl speaks by default is this one since 3.4; before, it was another.
        let output = command.env("ETCDCTL_API", "3").output();
        let output = output.map_err(|source| Error::Run { program: self.0, source })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.trim();
        let cut = words.len().saturating_sub(WORDS);
        let at = (cut..=words.len()).find(|&at| words.is_char_boundary(at)).unwrap_or_default();
        Err(Error::Failed { program: self.0, what, words: words[at..].to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, urls: &[&str]) -> Member {
        Member { name: name.to_owned(), peer_urls: urls.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn a_member_among_others() {
        let members = vec![
            member("cp1", &["https://10.0.0.1:2380", "https://[fd00::1]:2380"]),
            member("cp2", &["https://10.0.0.2:2380"]),
        ];
        let of = |name: &str| Membership {
            name: name.to_owned(),
            members: members.clone(),
            token: "t".to_owned(),
        };
        let all = "cp1=https://10.0.0.1:2380,cp1=https://[fd00::1]:2380,cp2=https://10.0.0.2:2380";
        assert_eq!(of("cp1").initial_cluster(), all);
        assert_eq!(of("cp1").peer_urls(), "https://10.0.0.1:2380,https://[fd00::1]:2380");
        assert_eq!(of("cp2").peer_urls(), "https://10.0.0.2:2380");
    }

    #[test]
    fn a_tool_that_fails_is_heard() {
        // Programs that are on every machine stand in for the tool.
        let failed = Tool("false").status(Path::new("/none")).unwrap_err();
        assert_eq!(failed.to_string(), "false snapshot status failed: ");
        let failed =
            Tool("sh").run("x", Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert_eq!(failed.to_string(), "sh x failed: why");
        assert!(matches!(Tool("echo").status(Path::new("/none")), Err(Error::Status { .. })));
        assert_eq!(Tool::among(&["no-such-program", "true", "false"]).unwrap().name(), "true");
        assert!(matches!(Tool::among(&["no-such-program"]), Err(Error::None)));
    }
}
