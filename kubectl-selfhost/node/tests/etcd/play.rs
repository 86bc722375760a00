//! An etcd and a kubelet, as far as `task upgrade-etcd` sees them.
//!
//! The etcd is this test's own program under another name: so it is a process of its own, which can be ended, copied and
//! started again. What it answers is in files of its data directory.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// Names the version that a played etcd is of.
const VERSION: &str = "PLAYED_VERSION";

/// Names what a played etcd does instead of serving: `ends`, or `agrees-and-ends`.
const INSTEAD: &str = "PLAYED_INSTEAD";

/// How long the kubelet takes from the end of an old Pod to the container of a new one.
pub(crate) const KUBELET_TAKES: Duration = Duration::from_secs(5);

/// Writes a CA and a certificate for 127.0.0.1 that is good for servers and clients.
pub(crate) fn write_pki(directory: &Path) -> Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut ca_params = CertificateParams::new(Vec::new())?;
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = ca_params.self_signed(&ca_key)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?
        .signed_by(&key, &Issuer::from_params(&ca_params, &ca_key))?;
    fs::write(directory.join("ca.crt"), ca.pem())?;
    fs::write(directory.join("server.crt"), certificate.pem())?;
    fs::write(directory.join("server.key"), key.serialize_pem())?;
    Ok(())
}

/// Plays an etcd with these arguments.
pub(crate) fn etcd(arguments: &[String]) -> ExitCode {
    if arguments.iter().any(|argument| argument == "--version") {
        let mut out = std::io::stdout();
        let _ = writeln!(out, "etcd Version: {}\nGit SHA: none", version());
        return ExitCode::SUCCESS;
    }
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn version() -> String {
    std::env::var(VERSION).unwrap_or_default()
}

fn serve(arguments: &[String]) -> Result<()> {
    let value = |name: &str| {
        let prefix = format!("--{name}=");
        let value = arguments.iter().find_map(|argument| argument.strip_prefix(&prefix));
        value.with_context(|| format!("no {prefix}"))
    };
    let data = PathBuf::from(value("data-dir")?);
    let lock = File::create(data.join("lock"))?;
    ensure!(lock.try_lock().is_ok(), "another etcd has the data");
    let mut starts = OpenOptions::new().create(true).append(true).open(data.join("starts"))?;
    writeln!(starts, "{}", version())?;
    let instead = std::env::var(INSTEAD).unwrap_or_default();
    ensure!(instead != "ends", "this etcd does not start");
    let address = value("listen-client-urls")?.trim_start_matches("https://").to_owned();
    let listener = TcpListener::bind(&address).with_context(|| address.clone())?;
    let tls = server_config(value("trusted-ca-file")?, value("cert-file")?, value("key-file")?)?;
    let ends = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&ends))?;
    if instead == "agrees-and-ends" {
        fs::write(data.join("cluster"), "3.7.0")?;
        let ends = Arc::clone(&ends);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(800));
            ends.store(true, Ordering::Relaxed);
        });
    }
    listener.set_nonblocking(true)?;
    while !ends.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                // A connection that breaks is the client's business.
                let _ = answer(stream, &tls, &data);
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
    drop(listener);
    ensure!(instead.is_empty(), "this etcd served, and does not any more");
    // As etcd does while there are watches.
    thread::sleep(Duration::from_secs(7));
    Ok(())
}

fn server_config(ca: &str, certificate: &str, key: &str) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_client_cert_verifier(clients);
    let certificates = vec![CertificateDer::from_pem_file(certificate)?];
    Ok(Arc::new(builder.with_single_cert(certificates, PrivateKeyDer::from_pem_file(key)?)?))
}

fn answer(stream: TcpStream, tls: &Arc<ServerConfig>, data: &Path) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(Arc::clone(tls))?, stream));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(stream.read_line(&mut head)? > 0, "the connection ended");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0");
    let mut body = vec![0; length.trim().parse()?];
    std::io::Read::read_exact(&mut stream, &mut body)?;
    let file = |name: &str, default: &str| {
        fs::read_to_string(data.join(name)).unwrap_or_else(|_| default.to_owned())
    };
    let answer = match head.split_whitespace().nth(1).unwrap_or_default() {
        "/health" => file("health", r#"{"health":"true","reason":""}"#),
        "/version" => {
            format!(r#"{{"etcdserver":"{}","etcdcluster":"{}"}}"#, version(), file("cluster", "3.6.0"))
        }
        "/v3/cluster/member/list" => {
            file("members", r#"{"members":[{"ID":"1","name":"cp1","clientURLs":["x"]}]}"#)
        }
        "/v3/maintenance/status" => {
            format!(r#"{{"header":{{"member_id":"1"}},"leader":"{}"}}"#, file("leader", "1"))
        }
        "/v3/maintenance/transfer-leadership" => {
            let text = String::from_utf8(body)?;
            let target = text.trim_start_matches(r#"{"targetID":""#).trim_end_matches(r#""}"#);
            fs::write(data.join("leader"), target)?;
            "{}".to_owned()
        }
        path => bail!("nobody asks for {path}"),
    };
    let stream = stream.get_mut();
    write!(stream, "HTTP/1.0 200 OK\r\n\r\n{answer}")?;
    stream.conn.send_close_notify();
    Ok(stream.flush()?)
}

/// An image of etcd: its tag, and what it does.
#[derive(Clone, Copy)]
pub(crate) struct Image {
    pub(crate) tag: &'static str,
    pub(crate) version: &'static str,
    pub(crate) instead: &'static str,
}

impl Image {
    /// The environment in which this image's programs run.
    pub(crate) fn environment(&self, command: &mut Command) {
        command.env(VERSION, self.version).env(INSTEAD, self.instead);
    }
}

/// Runs what a manifest names, as slowly as a kubelet does.
pub(crate) struct Kubelet {
    ends: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Kubelet {
    pub(crate) fn start(manifest: PathBuf, logs: PathBuf, images: Vec<Image>, command: Vec<String>) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let thread = {
            let ends = Arc::clone(&ends);
            thread::spawn(move || run(&manifest, &logs, &images, &command, &ends))
        };
        Self { ends, thread: Some(thread) }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(manifest: &Path, logs: &Path, images: &[Image], command: &[String], ends: &AtomicBool) {
    let mut pod: Option<(&'static str, Option<Child>)> = None;
    let mut count = 0;
    while !ends.load(Ordering::Relaxed) {
        let text = fs::read_to_string(manifest).unwrap_or_default();
        let named = images.iter().find(|image| text.contains(&format!(":{}\n", image.tag)));
        let Some(image) = named else { continue };
        match &mut pod {
            Some((tag, child)) if *tag != image.tag => {
                if let Some(child) = child {
                    terminate(child);
                }
                pod = None;
                thread::sleep(KUBELET_TAKES);
            }
            Some((_, child)) => {
                if child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|end| end.is_some())) {
                    // It is started again a while later.
                    thread::sleep(Duration::from_millis(500));
                    pod = None;
                }
            }
            None => {
                count += 1;
                let directory = logs.join(format!("kube-system_etcd-cp1_{count}/etcd"));
                let _ = fs::create_dir_all(directory);
                thread::sleep(Duration::from_millis(100));
                let mut start = Command::new(&command[0]);
                start.arg0("etcd").args(&command[1..]).stdin(Stdio::null()).stderr(Stdio::null());
                image.environment(&mut start);
                pod = Some((image.tag, start.spawn().ok()));
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    if let Some((_, Some(mut child))) = pod {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// SIGTERM, and patience.
fn terminate(child: &mut Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let _ = child.wait();
}
