//! Until when certificates are valid, as far as the API and handshakes show it.
//!
//! Invariant: best effort and bounded in time. Nothing but a TLS greeting is sent to an address, and never a
//! credential; what a server shows is looked at, not trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use selfhost_core::component::Component;
use selfhost_core::{flags, labels};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::pem::Pem;

use super::{Certificate, Inventory, Place, credentials, recognize};

/// How long to wait for a server to show its certificate. Node addresses are often out of reach for the user's
/// machine; a greeting inside a data center takes a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which Secrets a component mounts is up to whoever wrote its template; kubeadm mounts at most six.
const MOST_SECRETS: usize = 24;

/// Where a server can be greeted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The node, where it is one node's own address.
    pub node: Option<String>,
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// The certificates of the control plane that can be seen: in the Secrets that its Pods mount, by `client`, and in
/// the greetings of its API servers and of the server at `connected`.
pub async fn observe(inventory: &Inventory, client: &Client, connected: Option<Address>) -> Vec<Certificate> {
    let mut addresses = api_servers(inventory);
    // Often it is one of them.
    let known = |it: &Address| addresses.iter().any(|known| (&known.host, known.port) == (&it.host, it.port));
    if let Some(connected) = connected.filter(|it| !known(it)) {
        addresses.push(connected);
    }
    let (stored, served) =
        tokio::join!(in_secrets(inventory, client), join_all(addresses.iter().map(served)));
    let mut all: Vec<Certificate> = stored.into_iter().chain(served.into_iter().flatten()).collect();
    all.sort_by(order);
    all
}

/// Each node's own API server.
fn api_servers(inventory: &Inventory) -> Vec<Address> {
    let of_instances =
        inventory.instances.iter().filter(|instance| instance.component == Component::ApiServer);
    let mut addresses: Vec<Address> = of_instances
        .filter_map(|instance| {
            let command = recognize::command(&instance.pod, instance.component.name());
            let port = flags::value(&command, "secure-port").and_then(|port| port.parse().ok());
            // With hostNetwork the Pod's address is the node's, and it is there also where nodes cannot be read.
            let host = instance.pod.status.as_ref()?.host_ip.clone();
            let of_node = || inventory.control_plane.get(&instance.node).and_then(recognize::node_address);
            Some(Address {
                node: Some(instance.node.clone()),
                host: host.or_else(|| of_node().map(ToOwned::to_owned))?,
                port: port.unwrap_or_else(|| Component::ApiServer.default_port()),
            })
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// The certificates in the Secrets that components mount; of each Secret the one that ends first. A Secret that
/// cannot be read leaves its certificates unknown.
pub async fn in_secrets(inventory: &Inventory, client: &Client) -> Vec<Certificate> {
    let mut users: BTreeMap<String, BTreeSet<Component>> = BTreeMap::new();
    for instance in &inventory.instances {
        for name in credentials::secret_names(&instance.pod, instance.component.name()) {
            users.entry(name).or_default().insert(instance.component);
        }
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), labels::NAMESPACE);
    let reads = users.into_iter().take(MOST_SECRETS).map(|(name, components)| {
        let secrets = secrets.clone();
        async move {
            let not_after = earliest(&secrets.get(&name).await.ok()?)?;
            Some((name, components, not_after))
        }
    });
    let found = join_all(reads).await.into_iter().flatten();
    let mut all: Vec<Certificate> = found
        .flat_map(|(name, components, not_after)| {
            components.into_iter().map(move |component| Certificate {
                component,
                node: None,
                place: Place::Secret(name.clone()),
                not_after,
            })
        })
        .collect();
    all.sort_by(order);
    all
}

fn order(a: &Certificate, b: &Certificate) -> std::cmp::Ordering {
    (a.component, &a.node, &a.place).cmp(&(b.component, &b.node, &b.place))
}

/// The earliest end among all certificates in a Secret: as PEM, or inside of a kubeconfig.
pub fn earliest(secret: &Secret) -> Option<Timestamp> {
    let values = secret.data.iter().flatten().map(|(_, value)| value.0.as_slice());
    values.flat_map(|value| ends_of_pem(value).into_iter().chain(ends_of_kubeconfig(value))).min()
}

fn ends_of_pem(text: &[u8]) -> Vec<Timestamp> {
    Pem::iter_from_buffer(text)
        .filter_map(Result::ok)
        .filter(|pem| pem.label == "CERTIFICATE")
        .filter_map(|pem| not_after(&pem.contents))
        .collect()
}

/// kubeadm's Secrets mode keeps whole kubeconfigs, with their client certificates inside, in Secrets.
fn ends_of_kubeconfig(text: &[u8]) -> Vec<Timestamp> {
    let Some(kubeconfig) =
        std::str::from_utf8(text).ok().and_then(|text| kube::config::Kubeconfig::from_yaml(text).ok())
    else {
        return Vec::new();
    };
    let users = kubeconfig.auth_infos.into_iter().filter_map(|user| user.auth_info?.client_certificate_data);
    users
        .filter_map(|data| serde_json::from_value::<k8s_openapi::ByteString>(data.into()).ok())
        .flat_map(|pem| ends_of_pem(&pem.0))
        .collect()
}

/// The end of validity of a DER certificate.
pub fn not_after(der: &[u8]) -> Option<Timestamp> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

/// The certificate that the server at `address` shows; `None` where it shows none soon.
pub async fn served(address: &Address) -> Option<Certificate> {
    let not_after = tokio::time::timeout(PATIENCE, greet(address)).await.ok().flatten()?;
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
    Some(Certificate {
        component: Component::ApiServer,
        node: address.node.clone(),
        place: Place::Served(format!("{host}:{}", address.port)),
        not_after,
    })
}

async fn greet(address: &Address) -> Option<Timestamp> {
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await.ok()?;
    let name = match address.host.parse::<IpAddr>() {
        Ok(ip) => ServerName::IpAddress(ip.into()),
        Err(_) => ServerName::try_from(address.host.clone()).ok()?,
    };
    let tls = TlsConnector::from(Arc::new(onlooker()?)).connect(name, tcp).await.ok()?;
    let (_, connection) = tls.get_ref();
    // The first one is the server's own.
    not_after(connection.peer_certificates()?.first()?)
}

/// A client that shows no credential and takes any certificate: one that has expired is what we are after.
fn onlooker() -> Option<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Onlooker(provider.signature_verification_algorithms));
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

#[derive(Debug)]
struct Onlooker(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
