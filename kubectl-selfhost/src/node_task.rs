//! Node tasks: short-lived Pods, pinned to a node, that run the node part for one act on the host.
//!
//! Invariant: a task is idempotent, so that a Pod that was left over by an interrupted operation is removed and the
//! task runs again. Its result is the Pod's termination message: no right to read logs, and no connection from the API
//! server to the kubelet, is needed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, HostPathVolumeSource, Pod, PodSpec, SecurityContext, Toleration, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use selfhost_core::labels;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::{self, ApiError, call};
use crate::template::short_hash;

/// Where manifests that a pivot takes away are kept on the node.
pub const KEPT: &str = "/var/lib/selfhost/manifests";

/// Where everything is that this tool keeps on a node.
pub const STATE: &str = "/var/lib/selfhost";

/// How long a task's Pod may take beyond what the task itself was given: pulling the node image included.
const OVERHEAD: Duration = Duration::from_secs(120);

/// How long tasks of an interrupted operation are waited for. The longest that changes a node, but for those of etcd, takes as
/// long as a static Pod may take to stop listening.
const LEFT: Duration = Duration::from_secs(90);

/// What a kubelet says of a Pod that it cannot start yet (`getServiceEnvVarMap` of its `kubelet_pods.go`).
const SERVICES_UNREAD: &str = "services have not yet been read";

/// A node task.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    /// Its name, part of the Pod's: `retire-manifest`.
    pub name: &'a str,
    /// The node it acts on.
    pub node: &'a str,
    /// The node part's image.
    pub image: &'a str,
    /// Arguments after `selfhost-node task NAME`.
    pub args: Vec<String>,
    /// Directories of the host, at the same path inside.
    pub directories: Vec<String>,
    /// How long the task itself may take.
    pub limit: Duration,
}

/// A node task that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The Pod could not be made or watched.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Another one of the same kind runs on the node, and must not be ended.
    #[error("{task} on {node}: another one runs there")]
    Busy {
        /// The task's name.
        task: String,
        /// The node.
        node: String,
    },
    /// The Pod did not run: image, admission by the kubelet, container runtime.
    #[error("{task} on {node} did not start: {message}")]
    NotStarted {
        /// The task's name.
        task: String,
        /// The node.
        node: String,
        /// What the kubelet says.
        message: String,
    },
    /// The task ran and refused or failed.
    #[error("{task} on {node}: {message}")]
    Failed {
        /// The task's name.
        task: String,
        /// The node.
        node: String,
        /// What the task says.
        message: String,
        /// What it advises.
        hint: Option<String>,
    },
}

/// Runs the task and reads its result.
pub async fn run<T: DeserializeOwned>(client: &Client, task: &Task<'_>) -> Result<T, TaskError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), labels::NAMESPACE);
    let pod = start(&pods, &pod(task)).await?;
    conclude(&pods, task, &pod).await
}

/// Runs the task in this Pod of it, unless another one is under way, and reads its result. Init containers are acts of
/// the task: the first that fails is its end.
pub async fn run_alone<T: DeserializeOwned>(
    client: &Client,
    task: &Task<'_>,
    pod: &Pod,
) -> Result<T, TaskError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), labels::NAMESPACE);
    let pod = loop {
        if let Some(created) = api::create(&pods, pod).await? {
            break created;
        }
        let Some(other) = api::get(&pods, &pod.name_any()).await? else { continue };
        if !is_over(&other) {
            return Err(TaskError::Busy { task: task.name.to_owned(), node: task.node.to_owned() });
        }
        remove(&pods, &other).await?;
    };
    conclude(&pods, task, &pod).await
}

async fn conclude<T: DeserializeOwned>(pods: &Api<Pod>, task: &Task<'_>, pod: &Pod) -> Result<T, TaskError> {
    let result = finish(pods, task, pod).await;
    // A Pod that cannot be removed now is removed by the next task of its name.
    let _ = api::delete(pods, pod).await;
    result
}

/// The same for a task that takes the API away while it works: until the task's time is over, no answer is none.
pub async fn run_while_away<T: DeserializeOwned>(
    client: &Client,
    task: &Task<'_>,
    pod: &Pod,
) -> Result<T, TaskError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), labels::NAMESPACE);
    // One that a killed operation left works on, and is not ended in the middle.
    let name = pod.name_any();
    let what = format!("the end of the {} that runs on {}", task.name, task.node);
    api::until::<_, ApiError, _, _>(what, task.limit, || async {
        Ok(api::get(&pods, &name).await?.as_ref().is_none_or(is_over).then_some(()))
    })
    .await?;
    let pod = start(&pods, pod).await?;
    let begin = Instant::now();
    let result = loop {
        match finish(&pods, task, &pod).await {
            Err(TaskError::Api(error)) if error.is_passing() && begin.elapsed() < task.limit => {}
            result => break result,
        }
    };
    let _ = api::delete(&pods, &pod).await;
    result
}

/// Waits until every task has ended that an interrupted operation left on a node, or will not begin: what one still did there
/// would come after everything that was planned. At most for a while: one that hangs is no reason to do nothing.
///
/// `waiting` is called each time that there is one, with its name.
pub async fn all_ended(client: &Client, waiting: impl Fn(&str)) -> Result<(), ApiError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), labels::NAMESPACE);
    let tasks = ListParams::default().labels(labels::TASK);
    let ended = api::until::<_, ApiError, _, _>("the end of node tasks", LEFT, || async {
        let left = call("list the node tasks", || pods.list(&tasks)).await?.items;
        let working = left.iter().find(|pod| !has_ended(pod) && why_not_started(pod).is_none());
        if let Some(pod) = working {
            waiting(&pod.name_any());
        }
        Ok(working.is_none().then_some(()))
    });
    match ended.await {
        Err(ApiError::Timeout { .. }) => Ok(()),
        result => result,
    }
}

/// Whether the Pod's containers have ended.
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether nothing of the Pod will run any more.
fn is_over(pod: &Pod) -> bool {
    has_ended(pod) || pod.metadata.deletion_timestamp.is_some()
}

async fn remove(pods: &Api<Pod>, pod: &Pod) -> Result<(), ApiError> {
    api::delete(pods, pod).await?;
    api::gone(pods, pod, Duration::from_secs(90)).await
}

/// Creates the Pod, after whatever has its name from an interrupted operation is gone.
pub async fn start(pods: &Api<Pod>, pod: &Pod) -> Result<Pod, ApiError> {
    let name = pod.name_any();
    loop {
        if let Some(old) = api::get(pods, &name).await? {
            remove(pods, &old).await?;
        }
        if let Some(created) = api::create(pods, pod).await? {
            return Ok(created);
        }
    }
}

/// Waits for the end of the task's Pod and reads the message that it left.
async fn finish<T: DeserializeOwned>(pods: &Api<Pod>, task: &Task<'_>, pod: &Pod) -> Result<T, TaskError> {
    let name = pod.name_any();
    let what = format!("{} on {}", task.name, task.node);
    api::until(what, task.limit + OVERHEAD, || async {
        let Some(pod) = api::get(pods, &name).await? else {
            return Err(not_started(task, "its Pod was deleted by somebody"));
        };
        if let Some(message) = why_not_started(&pod) {
            return Err(not_started(task, &message));
        }
        let end = failed_before(&pod).or_else(|| ended(&pod, task.name));
        end.map(|end| read_end(task, &end)).transpose()
    })
    .await
}

fn not_started(task: &Task<'_>, message: &str) -> TaskError {
    TaskError::NotStarted {
        task: task.name.to_owned(),
        node: task.node.to_owned(),
        message: message.to_owned(),
    }
}

/// How a container ended: exit code and last words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its exit code.
    pub code: i32,
    /// Its termination message.
    pub message: String,
}

/// How the container of this name ended; `None` while it has not.
pub fn ended(pod: &Pod, container: &str) -> Option<End> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    end_of(statuses.iter().find(|status| status.name == container)?)
}

/// How the init container ended that failed.
fn failed_before(pod: &Pod) -> Option<End> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    statuses.iter().filter_map(end_of).find(|end| end.code != 0)
}

fn end_of(status: &ContainerStatus) -> Option<End> {
    let terminated = status.state.as_ref()?.terminated.as_ref()?;
    Some(End { code: terminated.exit_code, message: terminated.message.clone().unwrap_or_default() })
}

/// Why a Pod does not start and will not by itself: refused by the kubelet, or without its image.
pub fn why_not_started(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() == Some("Failed") && status.container_statuses.is_none() {
        let reason = status.reason.clone().unwrap_or_default();
        return Some(format!("{reason}: {}", status.message.clone().unwrap_or_default()));
    }
    let before = status.init_container_statuses.iter().flatten();
    before.chain(status.container_statuses.iter().flatten()).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        let message = waiting.message.clone().unwrap_or_default();
        // A kubelet that has just started does not know the cluster's Services yet, and soon will.
        if message.contains(SERVICES_UNREAD) {
            return None;
        }
        let hopeless = matches!(
            reason,
            "ImagePullBackOff"
                | "InvalidImageName"
                | "ErrImageNeverPull"
                | "ImageInspectError"
                | "CreateContainerConfigError"
        );
        hopeless.then(|| format!("{}: {reason}: {message}", container.image))
    })
}

/// What a task leaves when it fails.
#[derive(Debug, Deserialize)]
struct Failure {
    error: String,
    hint: Option<String>,
}

fn read_end<T: DeserializeOwned>(task: &Task<'_>, end: &End) -> Result<T, TaskError> {
    let failed = |message: String, hint| TaskError::Failed {
        task: task.name.to_owned(),
        node: task.node.to_owned(),
        message,
        hint,
    };
    if end.code != 0 {
        return Err(match serde_json::from_str::<Failure>(&end.message) {
            Ok(failure) => failed(failure.error, failure.hint),
            Err(_) => failed(format!("exit code {}: {}", end.code, end.message.trim()), None),
        });
    }
    serde_json::from_str(&end.message).map_err(|error| {
        let hint = "the node image and the plugin must be of one version".to_owned();
        failed(format!("cannot read its result: {error}"), Some(hint))
    })
}

/// The task's Pod.
pub fn pod(task: &Task<'_>) -> Pod {
    let mut args = vec!["task".to_owned(), task.name.to_owned()];
    args.extend(task.args.iter().cloned());
    let (volumes, volume_mounts) = host_directories(&task.directories);
    let container = Container {
        name: task.name.to_owned(),
        image: Some(task.image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(args),
        security_context: Some(SecurityContext { privileged: Some(true), ..SecurityContext::default() }),
        volume_mounts: Some(volume_mounts),
        ..Container::default()
    };
    on_node(format!("selfhost-{}-{}", task.name, task.node), task.name, task.node, vec![container], volumes)
}

/// A Pod of ours on a node: it runs once, whatever the node's taints say, in the host's network and process spaces.
pub fn on_node(
    name: String,
    task: &str,
    node: &str,
    containers: Vec<Container>,
    volumes: Vec<Volume>,
) -> Pod {
    let name =
        if name.len() <= 253 { name } else { format!("selfhost-{task}-{}", short_hash(node.as_bytes())) };
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(labels::NAMESPACE.to_owned()),
            labels: Some(BTreeMap::from([(labels::TASK.to_owned(), task.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(node.to_owned()),
            host_network: Some(true),
            host_pid: Some(true),
            restart_policy: Some("Never".to_owned()),
            priority_class_name: Some("system-node-critical".to_owned()),
            automount_service_account_token: Some(false),
            termination_grace_period_seconds: Some(5),
            tolerations: Some(vec![Toleration {
                operator: Some("Exists".to_owned()),
                ..Toleration::default()
            }]),
            containers,
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// Directories of the host, mounted at the same path.
fn host_directories(paths: &[String]) -> (Vec<Volume>, Vec<VolumeMount>) {
    let mount = |(index, path): (usize, &String)| {
        let name = format!("host-{index}");
        let source = HostPathVolumeSource { path: path.clone(), type_: Some("DirectoryOrCreate".to_owned()) };
        (
            Volume { name: name.clone(), host_path: Some(source), ..Volume::default() },
            VolumeMount { name, mount_path: path.clone(), ..VolumeMount::default() },
        )
    };
    paths.iter().enumerate().map(mount).unzip()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::client::testing::{list, mock};

    #[tokio::test]
    async fn a_task_that_works_is_waited_for_and_one_that_does_not_begin_is_not() {
        let pod = |name: &str, phase: &str, state: Value| {
            json!({"metadata": {"name": name}, "status": {"phase": phase, "containerStatuses": [
                {"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}})
        };
        let hopeless = pod("pulls", "Pending", json!({"waiting": {"reason": "ErrImageNeverPull"}}));
        let works = pod("works", "Running", json!({"running": {}}));
        let done = pod("works", "Succeeded", json!({"terminated": {"exitCode": 0}}));
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let (client, _) = mock(move |_| {
            let before = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            list("Pod", &[hopeless.clone(), if before < 2 { works.clone() } else { done.clone() }])
        });
        let waited = std::cell::RefCell::new(Vec::new());
        all_ended(&client, |name| waited.borrow_mut().push(name.to_owned())).await.unwrap();
        assert_eq!(*waited.borrow(), ["works", "works"]);
    }

    fn with(init: &[Value], main: &Value, phase: &str) -> Pod {
        let status = |state: &Value| {
            json!({
                "name": "backup", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": state
            })
        };
        let init: Vec<Value> = init.iter().map(status).collect();
        serde_json::from_value(json!({"status": {
            "phase": phase, "initContainerStatuses": init, "containerStatuses": [status(main)]
        }}))
        .unwrap()
    }

    #[test]
    fn the_first_act_that_fails_is_the_end() {
        let waits = json!({"waiting": {"reason": "PodInitializing"}});
        let done = json!({"terminated": {"exitCode": 0, "message": "{}"}});
        let failed = json!({"terminated": {"exitCode": 1, "message": "{\"error\":\"no room\"}"}});
        let end = |code, message: &str| Some(End { code, message: message.to_owned() });
        for (pod, before, after, over) in [
            (with(&[done.clone(), json!({"running": {}})], &waits, "Pending"), None, None, false),
            (with(&[done.clone(), failed], &waits, "Failed"), end(1, "{\"error\":\"no room\"}"), None, true),
            (with(&[done.clone(), done.clone()], &done, "Succeeded"), None, end(0, "{}"), true),
            (with(&[], &json!({"running": {}}), "Running"), None, None, false),
        ] {
            assert_eq!(failed_before(&pod), before);
            assert_eq!(ended(&pod, "backup"), after);
            assert_eq!(is_over(&pod), over);
        }
    }

    #[test]
    fn an_image_that_an_init_container_lacks_is_told() {
        let waits = json!({"waiting": {"reason": "PodInitializing"}});
        let lacks = json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}});
        assert_eq!(why_not_started(&with(std::slice::from_ref(&waits), &waits, "Pending")), None);
        let why = why_not_started(&with(&[lacks], &waits, "Pending"));
        assert_eq!(why.as_deref(), Some("x: ImagePullBackOff: not found"));
    }
}
