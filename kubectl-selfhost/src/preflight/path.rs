//! Proves that a diverted connection arrives: a host firewall may admit the public port and not the bridge's, and it
//! sees the diverted port.
//!
//! One real connection, from one source address and port of ours, is diverted to a listener on the node that answers
//! with a token. Nobody else's connections are touched.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Api, Client, ResourceExt};
use selfhost_core::component::Component;
use selfhost_core::finding::{Code, Finding};
use selfhost_core::labels;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, UdpSocket};

use crate::api::{self, ApiError};
use crate::node_task::{self, Task};
use crate::plan::{Plan, is_ready};
use crate::template::short_hash;

/// How long the listener waits for the connection.
const LISTEN: Duration = Duration::from_secs(15);

/// How long a connection through the divert may take. A firewall that drops answers never.
const CONNECT: Duration = Duration::from_secs(3);

/// Proves the path to `node`; a finding where it is blocked, or where it cannot be proved from here.
pub async fn prove(client: &Client, plan: &Plan, node: &str) -> Option<Finding> {
    let at = plan.nodes.get(node)?;
    let public = SocketAddr::new(at.address, plan.port(Component::ApiServer));
    let unproven = |why: String| {
        Finding::new(Code::PathUnproven, format!("node {node}"), why).hint(format!(
            "make sure that a firewall on {node} admits port {} as it admits {}",
            Component::ApiServer.bridge_port(),
            public.port()
        ))
    };
    // A node that is not reached directly from here (a load balancer, a private network) proves nothing.
    match tokio::time::timeout(CONNECT, TcpSocket::connect(socket(public.ip()).ok()?, public)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Some(unproven(format!("{public} is not reached from here: {error}"))),
        Err(_) => return Some(unproven(format!("{public} is not reached from here"))),
    }
    match attempt(client, plan, node, public).await {
        Ok(Proof::Proved) => None,
        Ok(Proof::NotDiverted) => {
            Some(unproven("the address that this connection comes from is changed on the way".to_owned()))
        }
        Ok(Proof::Blocked(error)) => Some(
            Finding::new(
                Code::FirewallBlocks,
                format!("node {node}"),
                format!(
                    "a connection to {public} that was diverted to port {} did not arrive: {error}",
                    Component::ApiServer.bridge_port()
                ),
            )
            .hint(format!(
                "open port {} on {node} to everybody whom port {} is open to",
                Component::ApiServer.bridge_port(),
                public.port()
            )),
        ),
        Err(error) => Some(unproven(error.to_string())),
    }
}

/// What became of the connection.
#[derive(Debug, PartialEq, Eq)]
enum Proof {
    Proved,
    NotDiverted,
    Blocked(String),
}

async fn attempt(client: &Client, plan: &Plan, node: &str, public: SocketAddr) -> Result<Proof, ApiError> {
    let failed = |error: std::io::Error| ApiError::Call {
        doing: "open a socket".to_owned(),
        source: Box::new(kube::Error::Service(Box::new(error))),
    };
    let socket = socket(public.ip()).map_err(failed)?;
    let own = own_address(public).await.map_err(failed)?;
    socket.bind(SocketAddr::new(own, 0)).map_err(failed)?;
    let source = socket.local_addr().map_err(failed)?;
    let token = short_hash(format!("{source} {node} {:?}", std::time::SystemTime::now()).as_bytes());

    let task = Task {
        name: "prove-path",
        node,
        image: &plan.around.node_image,
        args: vec![
            format!("--from={source}"),
            format!("--node-ip={}", public.ip()),
            format!("--port={}", public.port()),
            format!("--bridge-port={}", Component::ApiServer.bridge_port()),
            format!("--token={token}"),
            format!("--timeout={}", LISTEN.as_secs()),
        ],
        directories: Vec::new(),
        limit: LISTEN,
    };
    let mut pod = node_task::pod(&task);
    // Ready means that it listens, and the rule is written before it listens.
    for container in &mut pod.spec.get_or_insert_default().containers {
        container.readiness_probe = Some(Probe {
            tcp_socket: Some(TCPSocketAction {
                host: Some("127.0.0.1".to_owned()),
                port: IntOrString::Int(i32::from(Component::ApiServer.bridge_port())),
            }),
            period_seconds: Some(1),
            ..Probe::default()
        });
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), labels::NAMESPACE);
    let pod = node_task::start(&pods, &pod).await?;
    let name = pod.name_any();
    let ready = api::until::<_, ApiError, _, _>(format!("pod {name}"), LISTEN, || async {
        Ok(api::get(&pods, &name).await?.filter(is_ready).map(drop))
    })
    .await;
    let proof = match ready {
        Ok(()) => Ok(connect(socket, public, &token).await),
        Err(error) => Err(error),
    };
    api::delete(&pods, &pod).await?;
    // Until it has ended, it has the bridge's port; what the kubelet does after that is of no account.
    api::gone_or(&pods, &pod, Duration::from_secs(60), node_task::has_ended).await?;
    proof
}

/// A connection that is dropped was diverted and blocked. One that is accepted, but not with the token, was accepted by
/// the API server, which waits for us to speak: it was not diverted.
async fn connect(socket: TcpSocket, public: SocketAddr, token: &str) -> Proof {
    let mut stream = match tokio::time::timeout(CONNECT, socket.connect(public)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Proof::Blocked(error.to_string()),
        Err(_) => return Proof::Blocked(format!("no answer within {} s", CONNECT.as_secs())),
    };
    let mut answer = vec![0; token.len()];
    match tokio::time::timeout(CONNECT, stream.read_exact(&mut answer)).await {
        Ok(Ok(_)) if answer == token.as_bytes() => Proof::Proved,
        _ => Proof::NotDiverted,
    }
}

fn socket(to: IpAddr) -> std::io::Result<TcpSocket> {
    if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

/// The address from which this machine reaches `to`. Nothing is sent.
async fn own_address(to: SocketAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    Ok(socket.local_addr()?.ip())
}
