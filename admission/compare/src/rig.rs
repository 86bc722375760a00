//! The guard's server in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use arc_swap::ArcSwap;
use rustls::ClientConfig;
use selfhost_admission::capabilities::Nothing;
use selfhost_admission::engine::{Engine, Limits, Program, Runtime};
use selfhost_admission::health::Health;
use selfhost_admission::metrics::Metrics;
use selfhost_admission::reload::{PolicyFiles, Reloader};
use selfhost_admission::self_test::SelfTest;
use selfhost_admission::server::tls::{ClientNames, Identity, Material, Tls};
use selfhost_admission::server::{self, Guard, Workers};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::module;
use crate::pki::{Authority, CLIENT};
use crate::traffic::Client;
use crate::volume::Volume;

/// How many instances there is room for.
const SLOTS: u32 = 16;

/// How many reviews may wait: the server's default.
const QUEUE: usize = 256;

/// What runs policies, with the limits of the server.
pub fn runtime() -> Result<Arc<Runtime>> {
    Ok(Arc::new(Runtime::new(Limits::default(), SLOTS)?))
}

/// A server with a policy. It ends when this is dropped.
pub struct Server {
    guard: Arc<Guard>,
    tls: Arc<Tls>,
    authority: Authority,
    material: Material,
    address: SocketAddr,
    config: ClientConfig,
    _stop: watch::Sender<bool>,
}

impl Server {
    /// Serves reviews, with as many workers as there are processors.
    pub async fn start(policy: Engine) -> Result<Self> {
        let authority = Authority::new();
        let material = authority.material();
        let names = ClientNames::new(vec![CLIENT.to_owned()]);
        let tls = Arc::new(Tls::new(Identity::new(&material)?, names));
        let guard = Arc::new(Guard {
            policy: ArcSwap::from_pointee(policy),
            source: Arc::new(Nothing),
            metrics: Metrics::new(),
            health: Health::default(),
        });
        let workers = std::thread::available_parallelism()?.get();
        let workers = Arc::new(Workers::start(&guard, workers, QUEUE)?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (stop, stopping) = watch::channel(false);
        let (of_server, of_guard) = (Arc::clone(&tls), Arc::clone(&guard));
        tokio::spawn(server::serve(listener, of_server, of_guard, workers, stopping, Duration::ZERO));
        let config = authority.client_config(CLIENT);
        Ok(Self { guard, tls, authority, material, address, config, _stop: stop })
    }

    /// Somebody who asks it about a request.
    pub fn client(&self, request: &serde_json::Value) -> Client {
        Client::new(self.address, self.config.clone(), request)
    }

    /// Somebody who asks it about a label.
    pub fn client_of_label(&self) -> Result<Client> {
        Client::of_label(self.address, self.config.clone())
    }
}

/// A server with the policy, and the files that its certificates come from.
pub struct Rig {
    server: Server,
    other: Authority,
    volume: Volume,
    /// It stays what it is.
    _policy: Volume,
    reloader: Reloader,
}

impl Rig {
    /// Serves reviews.
    pub async fn start() -> Result<Self> {
        let runtime = runtime()?;
        let module = module()?;
        let engine = Engine::load(Program::compile(&runtime, &module)?, b"")?;
        let server = Server::start(engine).await?;
        let material = &server.material;
        let volume = Volume::new(&[
            ("tls.crt", &material.certificates),
            ("tls.key", &material.key),
            ("ca.crt", &material.client_ca),
        ]);
        let policy = Volume::new(&[("policy.wasm", &module)]);
        let reloader = Reloader::new(
            PolicyFiles { module: policy.path("policy.wasm"), settings: None, compiled: None },
            volume.tls_files(),
            runtime,
            SelfTest::embedded(),
            Arc::clone(&server.guard),
            Arc::clone(&server.tls),
        );
        Ok(Self { server, other: Authority::new(), volume, _policy: policy, reloader })
    }

    /// Somebody who asks it about a label.
    pub fn client(&self) -> Result<Client> {
        self.server.client_of_label()
    }

    /// Gives it another certificate, and at each tenth time other authorities.
    pub fn rotate(&mut self, rotation: u32) {
        let own = &self.server.authority;
        let (certificate, key) = own.server(30);
        let authorities =
            if (rotation / 10).is_multiple_of(2) { own.pem() } else { own.pem() + &self.other.pem() };
        let files = [("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", &authorities)];
        self.volume.write(&files.map(|(name, text)| (name, text.as_bytes())));
        self.reloader.look();
    }
}
