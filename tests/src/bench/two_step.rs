//! `cargo bench-two-step`: a minor upgrade in two steps, taken back in between, and made after all.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Row, fresh, say, selfhost};
use crate::cluster::{Cluster, UPGRADE_VERSION};
use crate::drive::{self, components, whole};
use crate::left;
use crate::progress::Progress;

pub(super) fn run(progress: &Progress) -> Result<()> {
    let cluster = fresh("bench-two-step", 1, progress)?;
    let old = State::of(&cluster)?;
    say(Row::HEADER)?;
    let emulates = ["upgrade", UPGRADE_VERSION, "--emulate", "--yes"];
    let operations: [(&str, &[&str], Option<&str>); 5] = [
        ("pivot", &["pivot", "--yes"], None),
        ("first step", &emulates, Some(UPGRADE_VERSION)),
        ("and back", &["upgrade", "--rollback", "--yes"], None),
        ("first step again", &emulates, Some(UPGRADE_VERSION)),
        ("switch", &["upgrade", UPGRADE_VERSION, "--yes"], Some(UPGRADE_VERSION)),
    ];
    let mut failed = 0;
    for (what, arguments, binary) in operations {
        let row = Row::measure(what, &cluster, || selfhost(&cluster, arguments))?;
        say(&row.line())?;
        for failure in row.failures() {
            say(&format!("  {failure}"))?;
        }
        failed += row.availability.totals().1;
        whole(&cluster)?;
        left::nothing_of_an_operation(&cluster)?;
        let state = State::of(&cluster)?;
        say(&format!("  {state}"))?;
        ensure!(state.binary == binary.unwrap_or(&old.binary), "{what}: {state}");
        let is_switched = what == "switch";
        ensure!((state.behaviour == old.behaviour) != is_switched, "{what}: {state}");
        ensure!(
            (state.apis == old.apis) != is_switched,
            "{what}: other APIs than before: {}",
            state.new_apis(&old)
        );
        if is_switched {
            say(&format!("  and serves besides: {}", state.new_apis(&old)))?;
        }
    }
    ensure!(failed == 0, "{failed} requests failed");
    Ok(())
}

/// What the API server says of itself, and what it serves.
struct State {
    binary: String,
    /// What it emulates.
    behaviour: String,
    /// What `status` shows of each component.
    shown: Vec<String>,
    apis: Vec<String>,
}

impl State {
    fn of(cluster: &Cluster) -> Result<Self> {
        let version: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", "/version"])?)?;
        let text = |field: &str| {
            version[field].as_str().with_context(|| format!("no {field} in {version}")).map(ToOwned::to_owned)
        };
        let behaviour = format!("{}.{}", text("emulationMajor")?, text("emulationMinor")?);
        let status = drive::run(cluster, &["status", "-o", "json", "--fail-on", "never"])?.json()?;
        let shown =
            components(&status).into_iter().map(|row| row["emulates"].as_str().unwrap_or("-").to_owned());
        let mut apis: Vec<String> = cluster
            .kubectl(&["api-resources", "--no-headers", "-o", "name"])?
            .split_whitespace()
            .chain(cluster.kubectl(&["api-versions"])?.split_whitespace())
            .map(ToOwned::to_owned)
            .collect();
        apis.sort();
        Ok(Self { binary: text("gitVersion")?, behaviour, shown: shown.collect(), apis })
    }

    fn new_apis(&self, old: &Self) -> String {
        let new: Vec<&str> =
            self.apis.iter().filter(|api| !old.apis.contains(api)).map(String::as_str).collect();
        new.join(", ")
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} behaves like {}; status says of the components: {}; {} APIs",
            self.binary,
            self.behaviour,
            self.shown.join(" "),
            self.apis.len()
        )
    }
}
