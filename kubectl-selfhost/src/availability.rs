//! The prober, aimed at this cluster with this user's credentials.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use selfhost_prober::{Config, ConfigError, Target};
use tokio::net::TcpStream;

use crate::client::{self, Connection};

/// How long a control-plane node may take to accept a connection; one that takes longer is not reached from here.
const REACH: Duration = Duration::from_secs(2);

/// The prober cannot be aimed.
#[derive(Debug, thiserror::Error)]
pub enum AimError {
    /// The connection has no usable credentials.
    #[error(transparent)]
    Connection(#[from] client::Error),
    /// The cluster's address has no IP address.
    #[error("cannot look up {host}")]
    LookUp {
        /// The host in the server's URL.
        host: String,
        /// What the resolver says.
        #[source]
        source: std::io::Error,
    },
    /// The prober refuses what it is asked for.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl crate::error::Explain for AimError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Connection(error) => error.hint(),
            Self::LookUp { .. } => Some("give the address itself with --target".to_owned()),
            Self::Config(error) => Some(error.hint().to_owned()),
        }
    }
}

/// A configuration for these addresses, with the connection's credentials and without a load.
pub async fn aim(connection: &Connection, addresses: &[(String, SocketAddr)]) -> Result<Config, AimError> {
    let server_name = connection.tls_server_name().unwrap_or("kubernetes").to_owned();
    let targets = addresses
        .iter()
        .map(|(name, address)| Target::new(name.clone(), *address, &server_name))
        .collect::<Result<Vec<_>, _>>()?;
    let mut config = Config::new(Arc::new(connection.tls()?), targets);
    for (name, value) in &connection.headers().await? {
        config = config.header(name.clone(), value.clone());
    }
    Ok(config)
}

/// The address in the kubeconfig: what this user's own requests go to.
pub async fn server_address(connection: &Connection) -> Result<(String, SocketAddr), AimError> {
    let server = connection.server();
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = server.port_u16().unwrap_or(443);
    let look_up = |source| AimError::LookUp { host: host.clone(), source };
    let mut found = tokio::net::lookup_host((host.as_str(), port)).await.map_err(look_up)?;
    let address = found.next().ok_or_else(|| look_up(std::io::Error::other("it has no address")))?;
    Ok((format!("{host}:{port}"), address))
}

/// Those of the addresses that accept a connection from here.
pub async fn reachable(
    addresses: impl IntoIterator<Item = (String, SocketAddr)>,
) -> Vec<(String, SocketAddr)> {
    let attempts = addresses.into_iter().map(|(name, address)| async move {
        let connected = tokio::time::timeout(REACH, TcpStream::connect(address)).await;
        matches!(connected, Ok(Ok(_))).then_some((name, address))
    });
    futures::future::join_all(attempts).await.into_iter().flatten().collect()
}
