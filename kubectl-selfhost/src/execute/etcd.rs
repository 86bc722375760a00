//! The acts on etcd: a snapshot, and one member's upgrade by a node task that works without any API.
//!
//! Invariant: whether etcd serves is told by etcd, through the node part; the API server is asked only for the task's own
//! Pod, and its silence in the meantime says nothing.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, Pod, SecurityContext, Volume, VolumeMount,
};
use kube::Api;
use selfhost_core::labels;
use serde::Deserialize;

use super::{Context, ExecuteError, State, backup};
use crate::api::{self, ApiError};
use crate::inventory::recognize::image;
use crate::node_task::{self, KEPT, STATE, Task};
use crate::plan::etcd::{Etcd, Member, NAME};
use crate::plan::is_ready;
use crate::preflight::inspect::NodeFacts;

/// The task's name.
const TASK: &str = "upgrade-etcd";

/// Where the container in etcd's image finds the node part, and keeps what it needs.
const SCRATCH: &str = "/selfhost";

/// Where the kubelet keeps the logs of Pods.
const LOGS: &str = "/var/log/pods";

/// How long the new etcd may take, and then as long again the old one, if that is put back.
const SERVES: Duration = Duration::from_secs(180);

/// How long the kubelet may take to show the API server what it runs.
const SHOWN: Duration = Duration::from_secs(120);

/// What the node part reports.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The version that serves.
    pub version: String,
    /// For how long no etcd was healthy on the node, in milliseconds.
    pub away_ms: u64,
    /// Why it was refused, or taken back.
    pub reason: Option<String>,
    /// The last words of the etcd that did not serve.
    pub words: Option<String>,
}

/// How an etcd's upgrade ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The new image serves.
    Upgraded,
    /// It did already.
    Unchanged,
    /// Nothing was to be touched, and everything is as an upgrade needs it.
    Ready,
    /// The new image did not serve, and the old one does again.
    TakenBack,
    /// Nothing was touched.
    Refused,
}

/// Saves what etcd has.
pub async fn snapshot(context: &Context<'_>, node: &str) -> Result<(), ExecuteError> {
    let (facts, _, member) = planned(context, node)?;
    context.progress.waiting("etcd's snapshot, and to see it restored");
    let image = &context.plan.around.node_image;
    let taken = backup::take(&context.client, image, &facts.manifest_dir, &member.backup).await?;
    let (directory, revision) = (&taken.directory, taken.revision);
    context.progress.note(&format!("snapshot of etcd in {directory} on {node}: revision {revision}"));
    Ok(())
}

/// What pre-flight learned of the node, what etcd comes to, and its member there.
fn planned<'a>(
    context: &'a Context<'_>,
    node: &str,
) -> Result<(&'a NodeFacts, &'a Etcd, &'a Member), ExecuteError> {
    let found = context
        .plan
        .etcd
        .as_ref()
        .and_then(|etcd| Some((context.facts.get(node)?, etcd, etcd.members.get(node)?)));
    found.ok_or_else(|| refused(node, "the plan has no member there, or the node was not inspected"))
}

fn refused(node: &str, message: &str) -> ExecuteError {
    ExecuteError::Stale { subject: format!("etcd on {node}"), message: message.to_owned() }
}

/// Brings the node's etcd to the planned image.
pub async fn upgrade(context: &Context<'_>, state: &mut State, node: &str) -> Result<(), ExecuteError> {
    let (facts, etcd, member) = planned(context, node)?;
    let node_image = &context.plan.around.node_image;
    let settle = context.settle.as_secs();
    let (task, pod) =
        task(etcd, member, node, node_image, &facts.manifest_dir, &[format!("--settle={settle}")]);
    context.progress.waiting(&format!("etcd on {node}, while the API may be away"));
    let untouched = state.changed;
    // What becomes of it is not known until it tells.
    state.changed = true;
    let report: Report = node_task::run_while_away(&context.client, &task, &pod).await?;
    match report.outcome {
        Outcome::Upgraded | Outcome::Unchanged | Outcome::Ready => {}
        Outcome::TakenBack | Outcome::Refused => {
            state.changed = untouched;
            let reason = report.reason.unwrap_or_default();
            return Err(match report.outcome {
                Outcome::TakenBack => ExecuteError::TargetFails {
                    subject: format!("pod {}", member.pod),
                    reason: format!(
                        "{reason}; version {} serves again, after {:.1} s without etcd",
                        report.version,
                        seconds(report.away_ms)
                    ),
                    words: report.words,
                },
                _ => refused(node, &reason),
            });
        }
    }
    let (version, away) = (&report.version, seconds(report.away_ms));
    context.progress.note(&format!("etcd {version} serves on {node}; it was away for {away:.1} s"));
    shown(context, etcd, member).await
}

/// Waits until the API server shows what the kubelet runs: whoever plans again from what it shows does not begin anew.
async fn shown(context: &Context<'_>, etcd: &Etcd, member: &Member) -> Result<(), ExecuteError> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    context.progress.waiting(&format!("pod {} to be shown as it runs", member.pod));
    let what = format!("pod {} with its new image", member.pod);
    api::until::<_, ApiError, _, _>(what, SHOWN, || async {
        let pod = api::get(&pods, &member.pod).await?;
        Ok(pod.is_some_and(|pod| is_ready(&pod) && image(&pod, NAME) == Some(&etcd.image)).then_some(()))
    })
    .await?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people, with one decimal")]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

/// The task on a member, and its Pod: one container with the target image, in which the node part runs. So that image is
/// there before anything is touched, and its etcd can stand in for the one that the kubelet is slow to start.
pub fn task<'a>(
    etcd: &Etcd,
    member: &Member,
    node: &'a str,
    node_image: &'a str,
    manifests: &str,
    more: &[String],
) -> (Task<'a>, Pod) {
    let mut args = vec![
        format!("--file={manifests}/{NAME}.yaml"),
        format!("--kept={KEPT}"),
        format!("--from={}", member.from),
        format!("--image={}", etcd.image),
        format!("--version={}", etcd.tag.version()),
        format!("--logs={LOGS}/{}_{}_", labels::NAMESPACE, member.pod),
        format!("--scratch={SCRATCH}"),
        format!("--timeout={}", SERVES.as_secs()),
    ];
    args.extend(more.iter().cloned());
    args.push("--".to_owned());
    args.extend(member.command.iter().cloned());
    let directories = [manifests, STATE, LOGS].map(ToOwned::to_owned).to_vec();
    let task = Task { name: TASK, node, image: node_image, args, directories, limit: SERVES * 2 };
    let mut pod = node_task::pod(&task);
    if let Some(spec) = &mut pod.spec {
        let scratch =
            VolumeMount { name: "scratch".into(), mount_path: SCRATCH.into(), ..VolumeMount::default() };
        let empty = Some(EmptyDirVolumeSource::default());
        let volumes = spec.volumes.get_or_insert_default();
        volumes.push(Volume { name: "scratch".into(), empty_dir: empty, ..Volume::default() });
        volumes.extend(member.volumes.iter().cloned());
        if let Some(container) = spec.containers.first_mut() {
            container.image = Some(etcd.image.clone());
            container.command = Some(vec![format!("{SCRATCH}/selfhost-node")]);
            container.env = Some(member.env.clone());
            let mounts = container.volume_mounts.get_or_insert_default();
            mounts.push(scratch.clone());
            mounts.extend(member.mounts.iter().cloned());
        }
        spec.init_containers = Some(vec![Container {
            name: "lend-program".to_owned(),
            image: Some(node_image.to_owned()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            args: Some(
                ["task", "lend-program", &format!("--to={SCRATCH}/selfhost-node")].map(Into::into).into(),
            ),
            security_context: Some(SecurityContext { privileged: Some(true), ..SecurityContext::default() }),
            volume_mounts: Some(vec![scratch]),
            ..Container::default()
        }]);
    }
    (task, pod)
}
