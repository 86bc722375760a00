//! What the prober costs: its thread's processor time at 200 requests per second, half on new TLS connections.
//!
//! `cargo run --release -p selfhost-prober --example cost [-- KEY.pem]` (Linux). The server runs in the same process,
//! in another thread that is not counted. `KEY.pem` is a PKCS#8 private key for both certificates; without it they are
//! ECDSA P-256. A kubeadm cluster uses RSA 2048 (`openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`),
//! and a client that signs with it pays more.

use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, io, thread};

use http::Response;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use selfhost_prober::{Config, Load, Mode, Prober, RequestSpec, Target};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Error = Box<dyn std::error::Error + Send + Sync>;

const DURATION: Duration = Duration::from_secs(20);
/// `USER_HZ`: the unit of /proc is fixed at 1/100 s.
const TICKS_PER_SECOND: f64 = 100.0;
/// As large as a namespace's JSON.
const BODY: &[u8] = &[b' '; 900];

fn main() -> Result<(), Error> {
    let key_pem = env::args().nth(1).map(fs::read_to_string).transpose()?;
    let (client, server) = configs(key_pem.as_deref())?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    thread::spawn(move || serve(listener, server));

    let write = RequestSpec::write(
        http::Method::PATCH,
        "/api/v1/namespaces/default/configmaps/{stream}",
        "application/merge-patch+json",
        r#"{"data":{"counter":"{counter}"}}"#,
    );
    let target = Target::new("server", address, "localhost")?;
    let config = Config::new(client, vec![target])
        .load(Load::reads(Mode::New, 10, 10.0))
        .load(Load::new(Mode::Reused, 10, 10.0, vec![write]))
        .max_duration(DURATION);
    let rate = config.total_rate();
    let mut prober = Prober::start(config)?;
    // The thread's times are gone with it: read them just before the end.
    thread::sleep(DURATION.mul_f64(0.99));
    let (seconds, elapsed) = (thread_seconds(Prober::THREAD_NAME)?, prober.snapshot().elapsed);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let report = runtime.block_on(async {
        prober.wait().await;
        prober.stop().await
    });

    let mut out = io::stdout().lock();
    write!(out, "{report}")?;
    let share = 100.0 * seconds / elapsed.as_secs_f64();
    let each = 1e6 * seconds / (rate * elapsed.as_secs_f64());
    writeln!(out, "cost: {share:.1} % of one core at {rate} requests/s, {each:.0} us each")?;
    Ok(())
}

fn configs(key_pem: Option<&str>) -> Result<(Arc<ClientConfig>, Arc<ServerConfig>), Error> {
    let provider = Arc::new(default_provider());
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = key_pem.map_or_else(KeyPair::generate, KeyPair::from_pem)?;
    let leaf = || -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let params = CertificateParams::new(vec!["localhost".to_owned()])?;
        let certificate = params.signed_by(&key, &authority)?;
        Ok((vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der())?))
    };
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let roots = Arc::new(roots);

    let (chain, private_key) = leaf()?;
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(Arc::clone(&roots))
        .with_client_auth_cert(chain, private_key)?;
    let (chain, private_key) = leaf()?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, private_key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(client), Arc::new(server)))
}

fn serve(listener: std::net::TcpListener, config: Arc<ServerConfig>) -> Result<(), io::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let acceptor = TlsAcceptor::from(config);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let accept = acceptor.accept(stream);
            tokio::spawn(async move {
                let Ok(stream) = accept.await else { return };
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = service_fn(|_| async {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(BODY))))
                });
                let io = TokioIo::new(stream);
                // A client that hangs up is no concern of this server.
                let _ = if is_http2 {
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(io, service)
                        .await
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                };
            });
        }
    })
}

/// User and system time of this process's thread of that name, in seconds (proc(5), `/proc/pid/stat`).
fn thread_seconds(name: &str) -> Result<f64, Error> {
    for task in fs::read_dir("/proc/self/task")? {
        let stat = fs::read_to_string(task?.path().join("stat"))?;
        let (before, after) = stat.rsplit_once(')').ok_or("no thread name in stat")?;
        if before.ends_with(&format!("({name}")) {
            // After the name: state is field 3, utime 14 and stime 15.
            let fields: Vec<&str> = after.split_whitespace().collect();
            let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
            return Ok(ticks / TICKS_PER_SECOND);
        }
    }
    Err(format!("no thread {name}").into())
}
