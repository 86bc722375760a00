//! One Pod on each node that asks everything at once: the node part about the host, and each target image about its
//! flags. That the Pod starts at all shows that the images are there, or can be pulled: it is the pre-pull, too.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Request;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::{Api, Client, ResourceExt};
use selfhost_core::component::Component;
use selfhost_core::finding::{Code, Finding};
use selfhost_core::labels;
use serde::Deserialize;

use crate::api::{self, ApiError, call};
use crate::node_task::{self, KEPT, Task};
use crate::plan::Plan;

/// What is known of a node.
#[derive(Debug, Clone, Default)]
pub struct NodeFacts {
    /// The kubelet's `staticPodPath`.
    pub manifest_dir: String,
    /// What the node part reports.
    pub report: Report,
}

/// What `selfhost-node task inspect` reports: the part of it that is used here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The bridges' ports.
    pub ports: Vec<Port>,
    /// Memory that can be had without swapping, in bytes.
    pub memory_available_bytes: u64,
    /// The control-plane processes that run on the node.
    pub processes: Vec<Process>,
    /// Free room where manifests are kept, in bytes.
    pub kept_free_bytes: u64,
    /// Whether the kernel can divert.
    pub divert: Divert,
    /// SHA-256 of each manifest in the kubelet's directory, by file name.
    pub manifests: BTreeMap<String, String>,
    /// SHA-256 of each kept manifest, by file name.
    pub kept: BTreeMap<String, String>,
}

/// A TCP port of the node.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// Whether it can be listened on.
    pub free: bool,
}

/// A control-plane process.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// The component's name.
    pub name: String,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
}

/// Whether the kernel accepts a table of the divert's shape.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Divert {
    /// It does.
    pub supported: bool,
    /// What `nft` says where it does not.
    pub error: Option<String>,
}

impl NodeFacts {
    /// Where the kubelet finds the component's static manifest.
    pub fn manifest_path(&self, component: Component) -> String {
        format!("{}/{component}.yaml", self.manifest_dir)
    }

    /// Whether the kubelet's directory still has the component's static manifest.
    pub fn has_manifest(&self, component: Component) -> bool {
        self.report.manifests.contains_key(&format!("{component}.yaml"))
    }

    /// Whether there is something to put back: the kept copy, or the manifest itself, put back already.
    pub fn can_restore(&self, component: Component) -> bool {
        self.manifest_hash(component).is_some()
    }

    /// The SHA-256 of the component's static manifest: of the file, or of the one that was taken away already.
    pub fn manifest_hash(&self, component: Component) -> Option<&str> {
        let name = format!("{component}.yaml");
        self.report.manifests.get(&name).or_else(|| self.report.kept.get(&name)).map(String::as_str)
    }
}

/// How long the node part may take.
const LIMIT: Duration = Duration::from_secs(30);

/// How long pulling three images may take.
const PULL: Duration = Duration::from_secs(600);

/// Asks the node and the images. An error is a finding that forbids to go on.
pub async fn inspect(client: &Client, plan: &Plan, node: &str) -> Result<(NodeFacts, Vec<Finding>), Finding> {
    let manifest_dir = manifest_dir(client, node).await?;
    let directory = std::path::Path::new(KEPT);
    let parent = directory.parent().map_or_else(String::new, |parent| parent.display().to_string());
    let ports: Vec<String> = Component::ALL.iter().map(|c| c.bridge_port().to_string()).collect();
    let task = Task {
        name: "inspect",
        node,
        image: &plan.around.node_image,
        args: vec![
            format!("--manifests={manifest_dir}"),
            format!("--kept={KEPT}"),
            format!("--ports={}", ports.join(",")),
        ],
        directories: vec![manifest_dir.clone(), parent],
        limit: LIMIT,
    };
    let mut pod = node_task::pod(&task);
    let spec = pod.spec.get_or_insert_default();
    spec.containers.extend(Component::ALL.iter().filter_map(|component| asks_flags(plan, *component)));

    let pods: Api<Pod> = Api::namespaced(client.clone(), labels::NAMESPACE);
    let failed = |error: ApiError| refused(node, &error.to_string());
    let pod = node_task::start(&pods, &pod).await.map_err(failed)?;
    let ended = wait(&pods, plan, &pod, node).await;
    let _ = api::delete(&pods, &pod).await;
    let (report, findings) = ended?;
    Ok((NodeFacts { manifest_dir, report }, findings))
}

fn refused(node: &str, message: &str) -> Finding {
    Finding::new(Code::Unhealthy, format!("node {node}"), format!("could not be inspected: {message}"))
        .hint(format!("kubectl -n kube-system describe pod selfhost-inspect-{node}"))
}

/// A container that runs the target's binary with the target's whole command line and `--help`: the binary reads every
/// flag before it prints its help, and says which one it does not know.
fn asks_flags(plan: &Plan, component: Component) -> Option<Container> {
    let spec = plan.templates.get(&component)?.spec.as_ref()?;
    let container = spec.containers.iter().find(|container| container.name == component.name())?;
    let mut asking = container.clone();
    let line = if asking.args.as_ref().is_some_and(|args| !args.is_empty()) {
        &mut asking.args
    } else {
        &mut asking.command
    };
    line.get_or_insert_default().push("--help".to_owned());
    Some(Container {
        name: container.name.clone(),
        image: asking.image,
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: asking.command,
        args: asking.args,
        env: asking.env,
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    })
}

async fn wait(
    pods: &Api<Pod>,
    plan: &Plan,
    pod: &Pod,
    node: &str,
) -> Result<(Report, Vec<Finding>), Finding> {
    let name = pod.name_any();
    let containers: Vec<String> =
        pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| container.name.clone()).collect();
    let ended = api::until::<_, ApiError, _, _>("the images", PULL, || async {
        let Some(now) = api::get(pods, &name).await? else { return Ok(Some(None)) };
        let hopeless = node_task::why_not_started(&now).is_some();
        let done = containers.iter().all(|name| node_task::ended(&now, name).is_some());
        Ok((hopeless || done).then_some(Some(now)))
    })
    .await
    .map_err(|error| refused(node, &error.to_string()))?;
    let Some(pod) = ended else { return Err(refused(node, "its Pod was deleted by somebody")) };
    if let Some(message) = node_task::why_not_started(&pod) {
        return Err(Finding::new(Code::ImagePull, format!("node {node}"), message)
            .hint("check the version and the repository, or load the image on the node"));
    }
    read(plan, &pod, node)
}

fn read(plan: &Plan, pod: &Pod, node: &str) -> Result<(Report, Vec<Finding>), Finding> {
    let mut findings = Vec::new();
    for component in Component::ALL {
        if let Some(end) = node_task::ended(pod, component.name()).filter(|end| end.code != 0) {
            let image = plan.templates.get(&component).and_then(|t| crate::template::image(component, t));
            let last = end.message.trim().lines().last().unwrap_or("it said nothing").to_owned();
            findings.push(
                Finding::new(
                    Code::FlagRemoved,
                    format!("{component} on {node}"),
                    format!("{} refuses its command line: {last}", image.unwrap_or_default()),
                )
                .hint(format!(
                    "change the flag first: kubectl -n kube-system edit daemonset {}",
                    component.daemonset_name()
                )),
            );
        }
    }
    let end = node_task::ended(pod, "inspect").unwrap_or(node_task::End { code: -1, message: String::new() });
    if end.code != 0 {
        return Err(refused(node, end.message.trim()));
    }
    let report = serde_json::from_str(&end.message).map_err(|error| {
        refused(node, &format!("the node image is of another version than this plugin: {error}"))
    })?;
    Ok((report, findings))
}

/// The kubelet's effective configuration, as it tells itself.
#[derive(Debug, Deserialize)]
struct ConfigZ {
    kubeletconfig: KubeletConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KubeletConfig {
    static_pod_path: Option<String>,
}

/// The directory from which the kubelet runs static Pods.
pub async fn manifest_dir(client: &Client, node: &str) -> Result<String, Finding> {
    let uri = format!("/api/v1/nodes/{node}/proxy/configz");
    let answer: Result<ConfigZ, ApiError> =
        call(format!("read the kubelet's configuration on {node}"), || async {
            let request = Request::get(&uri).body(Vec::new()).map_err(kube::Error::HttpError)?;
            client.request(request).await
        })
        .await;
    match answer {
        Ok(configuration) => match configuration.kubeletconfig.static_pod_path {
            Some(path) if !path.is_empty() => Ok(path.trim_end_matches('/').to_owned()),
            // Then the kubelet runs no static Pod, and nothing will be looked for there.
            _ => Ok("/etc/kubernetes/manifests".to_owned()),
        },
        Err(ApiError::Call { source, .. }) if api::code(&source) == Some(403) => {
            Err(Finding::new(Code::Forbidden, format!("node {node}"), "get nodes/proxy is forbidden")
                .hint("the rights that each command needs: docs/reference/rbac.md"))
        }
        Err(error) => Err(refused(node, &error.to_string())),
    }
}
