//! The published matrix: `docs/reference/conformance.md`.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use selfhost_tests::cluster::{DEFAULT_VERSION, UPGRADE_VERSION};
use selfhost_tests::paths;

use super::case::Case;

/// What a case came to.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) case: Case,
    /// The webhook that denied, by the first part of its name; empty where it was not asked.
    pub(crate) webhook: String,
    /// Whether the policies deny it without a webhook.
    pub(crate) by_policy: bool,
}

/// The catalogue of bypasses, and what admission cannot see of each.
const CATALOGUE: [(&str, &str); 33] = [
    (
        "subresources",
        "Every subresource that these API servers have in a guarded group is tried, or is left out with a reason: `tests/api/conformance/served.rs`.",
    ),
    ("requests without a name", ""),
    ("delete and create", ""),
    ("owner references and the garbage collector", ""),
    ("finalizers", ""),
    ("objects that are being deleted", ""),
    ("a namespace deleted", "That of `kube-system` the API server itself refuses."),
    (
        "other versions of the API",
        "Each guarded kind has one version in these API servers, and one more fails the test; the registration names all versions and groups by `*`, with `matchPolicy: Equivalent`.",
    ),
    ("kinds of patch", ""),
    (
        "rolled back to a poisoned revision",
        "The undo itself is an edit of the DaemonSet, and judged like one.",
    ),
    (
        "labels and adoption",
        "The registration has no `objectSelector`, so that there is no label to opt out by.",
    ),
    ("padding", ""),
    ("slow paths", "Where a review takes too long, it is denied: `admission/tests/host/limits.rs`."),
    ("the same thing in another spelling", ""),
    (
        "the guard's registration",
        "Only a webhook of a static manifest is asked (`guard install --static`). Those of AR-1 run against an API server with `ManifestBasedAdmissionControlConfig`, which has started and taken all that a cold start writes while no guard answered (`tests/api/conformance/cold_start.rs`).",
    ),
    ("other webhooks", "As B15. An object that another one has changed is judged as it would be stored."),
    ("groups of the API served by somebody else", ""),
    ("rights", ""),
    (
        "impersonation",
        "A review names the impersonated user alone: who may impersonate a controller may do what the rules leave to it, and no more. RB-2 guards the right.",
    ),
    ("tokens of controllers", "Those that were made before."),
    ("certificate requests", ""),
    (
        "reading Secrets",
        "Reads are not admitted. RBAC decides, and the audit log tells; what is seen is a Pod that mounts one.",
    ),
    ("Pods beside the control plane", ""),
    (
        "static Pods",
        "A kubelet runs what lies in its directory. Only the mirror is admitted; files on nodes are for `kubectl selfhost status`.",
    ),
    (
        "kubelets",
        "A control-plane node's kubelet has the keys of what it runs. What NodeRestriction denies, it denies before.",
    ),
    ("nodes leave and join", ""),
    (
        "dry runs",
        "Each edit of this page is made twice, for real and as a dry run, and both have the same verdict.",
    ),
    (
        "etcd, and API servers that are set up otherwise",
        "A write to etcd asks nobody, and an API server without the registration admits. `kubectl selfhost guard status` asks each of them.",
    ),
    (
        "a false guard",
        "The registration names an address on the node and an authority, no Service; the guard serves API servers with a certificate alone (`admission/tests/host/serving.rs`).",
    ),
    (
        "starvation",
        "A single Pod of the guard may be deleted: its DaemonSet makes another one, and another node's guard serves the API server there.",
    ),
    ("classes and namespaces that Pods depend on", ""),
    ("what the control plane mounts", ""),
    (
        "keys in messages and logs",
        "The test looks for a canary in the answers of the API server and in the guard's log; `admission/tests/host/taint.rs` at every level.",
    ),
];

/// Compares the page with what a run came to, or writes it.
pub(crate) fn check(rows: &[Row]) -> Result<()> {
    let path = paths::checkout().join("docs/reference/conformance.md");
    let wanted = page(rows)?;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted)?;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    ensure!(
        wanted == found,
        "docs/reference/conformance.md is stale: \
         UPDATE_DOCS=1 cargo test -p selfhost-tests --features bed --test api conformance"
    );
    Ok(())
}

fn page(rows: &[Row]) -> Result<String> {
    let mut page = format!(
        "# Conformance\n\n\
         Made by a run: `UPDATE_DOCS=1 cargo test -p selfhost-tests --features bed --test api conformance`.\n\n\
         Ways around an admission guard, each tried on a real kube-apiserver ({DEFAULT_VERSION}; with static manifests \
         {UPGRADE_VERSION}) and etcd, with the guard's own process, its \
         policy's module, and the registration that `selfhost_core::registration` makes of the widest reach.\n\
         Every edit is tried as a cluster administrator (`system:masters`), for real and as a dry run.\n\
         It has to be denied, by the rule that is meant for it; the edit beside it has to be admitted.\n\
         On a self-hosted control plane one of each that kubectl can express is tried, and the harmless edit beside it: \
         `tests/e2e/load/bypasses.rs`, in `cargo verify`.\n\n\
         | column | |\n|---|---|\n\
         | rule | what denies it: [rules](rules.md) |\n\
         | sent by | the webhook of the registration that is asked: `named` for what is guarded by name, `wide`, or `static` |\n\
         | CEL | whether the API server's own policies (tier 0) deny it too, while no guard answers |\n\
         | admitted | what is admitted beside it |\n",
    );
    for (number, (title, note)) in (1u8..).zip(CATALOGUE) {
        write!(page, "\n## B{number}: {title}\n")?;
        if !note.is_empty() {
            write!(page, "\n{note}\n")?;
        }
        let mut own = rows.iter().filter(|row| row.case.bypass == number).peekable();
        if own.peek().is_none() {
            ensure!(!note.is_empty(), "B{number} has neither a case nor a reason");
            continue;
        }
        page += "\n| tried | rule | sent by | CEL | admitted |\n|---|---|---|---|---|\n";
        for Row { case, webhook, by_policy } in own {
            let (webhook, by_policy) =
                (if webhook.is_empty() { "–" } else { webhook }, if *by_policy { "yes" } else { "" });
            let rule = format!("{}{}", case.rule, if case.or_late { ", or no verdict in time" } else { "" });
            writeln!(page, "| {} | {rule} | {webhook} | {by_policy} | {} |", case.form, case.beside)?;
        }
    }
    Ok(page)
}
