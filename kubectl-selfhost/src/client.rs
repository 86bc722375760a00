//! The connection to the API server: the only place that builds a Kubernetes client, and rustls does its TLS.
//!
//! Invariant: a request is tried again only where that cannot do it twice, and never longer than the caller's patience
//! and kubectl's `--request-timeout` allow. A client outlives the API server that it first spoke to: each attempt may
//! open a new connection.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, Request, Response, Uri};
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::{Client, Config};
use tower::buffer::BufferLayer;
use tower::{BoxError, ServiceBuilder, ServiceExt as _, service_fn};

use crate::cli::global;
use crate::error::Explain;
use crate::exit::Exit;

mod kubeconfig;
mod patience;
mod proxy;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod trouble;

pub use kubeconfig::KubeconfigError;
pub use patience::Patience;
pub use trouble::Trouble;

/// How many requests may wait for the client at a time: many more than any command has in flight.
const QUEUE: usize = 1024;

/// How long one request of an inspection may be tried again: long enough for a load balancer to notice that an API
/// server went away, short enough to tell the user soon that there is none.
pub const PATIENCE_TO_LOOK: Duration = Duration::from_secs(2);

/// A connection to a cluster, as one user.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    config: Config,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig, or what the flags make of it, names no cluster.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),

    /// The client could not be built: certificates, keys, proxy, or the credential plugin.
    #[error("cannot prepare the connection to {server}")]
    Build {
        /// The API server's URL.
        server: Uri,
        /// What is wrong.
        #[source]
        source: Box<kube::Error>,
    },

    /// The credentials for the connection could not be had.
    #[error("cannot get credentials for {server}: {cause}")]
    Credentials {
        /// The API server's URL.
        server: Uri,
        /// What the credential plugin, or the token file, had to say.
        cause: String,
    },

    /// The API server was asked and did not answer, or knows nobody by these credentials.
    #[error("cannot reach the API server at {server}: {cause}")]
    Unreachable {
        /// The API server's URL.
        server: Uri,
        /// What kind of trouble it is.
        trouble: Trouble,
        /// The innermost cause, as text.
        cause: String,
    },
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Kubeconfig(error) => error.hint(),
            Self::Build { source, .. } => Trouble::of(source).hint(),
            Self::Credentials { .. } => Trouble::Credentials.hint(),
            Self::Unreachable { trouble, .. } => trouble.hint(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Kubeconfig(error) => error.exit(),
            Self::Build { .. } | Self::Credentials { .. } | Self::Unreachable { .. } => Exit::Failure,
        }
    }
}

impl Connection {
    /// Reads the kubeconfig as kubectl does, and builds a client. Nothing is sent.
    pub async fn open(flags: &global::Connection, patience: Duration) -> Result<Self, Error> {
        let config = kubeconfig::load(flags, &kubeconfig::Environment::of_process()).await?;
        let patience = Patience { total: patience, timeout: flags.request_timeout.limit() };
        let client = build(config.clone(), patience).map_err(|source| Error::Build {
            server: config.cluster_url.clone(),
            source: Box::new(source),
        })?;
        Ok(Self { client, config })
    }

    /// The same user's connection to another server of the cluster, whose certificate must still have the name that this
    /// one's has.
    pub fn to(&self, address: SocketAddr) -> Result<Self, Error> {
        let mut config = self.config.clone();
        config.tls_server_name = self.tls_server_name().map(ToOwned::to_owned);
        config.cluster_url = format!("https://{address}")
            .parse()
            .map_err(|error| self.build_error(kube::Error::Service(Box::new(error))))?;
        let patience = Patience { total: PATIENCE_TO_LOOK, timeout: None };
        let client = build(config.clone(), patience).map_err(|source| self.build_error(source))?;
        Ok(Self { client, config })
    }

    /// The client. Cheap to clone.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The API server's URL.
    pub const fn server(&self) -> &Uri {
        &self.config.cluster_url
    }

    /// Whether requests go through a proxy, so that a connection of one's own would take another way.
    pub const fn is_proxied(&self) -> bool {
        self.config.proxy_url.is_some()
    }

    /// The name that the server's certificate must have; the URL's host unless it was overridden.
    pub fn tls_server_name(&self) -> Option<&str> {
        self.config.tls_server_name.as_deref().or_else(|| self.config.cluster_url.host())
    }

    /// What the client's own connections use: the cluster's CA, and the client certificate if there is one.
    pub fn tls(&self) -> Result<rustls::ClientConfig, Error> {
        self.config.rustls_client_config().map_err(|source| self.build_error(source))
    }

    /// The headers that make a request ours: the token, if there is one, and whom to impersonate. Secret.
    pub async fn headers(&self) -> Result<HeaderMap, Error> {
        let auth = self.config.auth_layer().map_err(|source| self.build_error(source))?;
        let extra = self.config.extra_headers_layer().map_err(|source| self.build_error(source))?;
        // The layers of the real client, around a service that hands back what they did to a request.
        let echo = ServiceBuilder::new().option_layer(auth).layer(extra).service(service_fn(
            |request: Request<Body>| async move {
                let mut response = Response::new(Body::empty());
                *response.headers_mut() = request.headers().clone();
                Ok::<_, BoxError>(response)
            },
        ));
        echo.oneshot(Request::new(Body::empty())).await.map(|response| response.headers().clone()).map_err(
            |error| Error::Credentials { server: self.server().clone(), cause: trouble::cause(&*error) },
        )
    }

    /// The error that says that `error` came of no usable connection.
    pub fn unreachable(&self, error: &kube::Error) -> Error {
        Error::Unreachable {
            server: self.server().clone(),
            trouble: Trouble::of(error),
            cause: trouble::cause(error),
        }
    }

    fn build_error(&self, source: kube::Error) -> Error {
        Error::Build { server: self.server().clone(), source: Box::new(source) }
    }
}

/// kube's own stack, with our rule for trying again in the place of its retries: those know of no time limit, and
/// not of connections that were refused.
fn build(mut config: Config, patience: Patience) -> kube::Result<Client> {
    config.default_retry = false;
    if let Some(limit) = patience.timeout {
        config.connect_timeout = Some(config.connect_timeout.map_or(limit, |timeout| timeout.min(limit)));
    }
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&BufferLayer::new(QUEUE)).with_layer(&patience).build())
}
