//! The guard's process and what it needs: certificates both ways, the policy's module, an address.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use selfhost_tests::process::{self, Process};
use selfhost_tests::{ApiServer, Progress, drive, wasm};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The name in the API server's client certificate.
const CLIENT: &str = "kube-apiserver";

/// How long the guard may take to compile the policy, on a machine with much to do.
const READY: Duration = Duration::from_secs(120);

/// Everything of a guard that is there before its API server is.
pub(crate) struct Place {
    directory: TempDir,
    port: u16,
    status_port: u16,
    /// The authority of its certificates, as a registration has it.
    pub(crate) ca_bundle: String,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("selfhost-guard-").tempdir()?;
        let [port, status_port] = process::free_ports()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let issue = |names: Vec<String>, name: &str| -> Result<(String, String)> {
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.push(DnType::CommonName, name);
            let now = time::OffsetDateTime::from(std::time::SystemTime::now());
            (params.not_before, params.not_after) =
                (now - time::Duration::days(1), now + time::Duration::days(30));
            let key = KeyPair::generate()?;
            Ok((params.signed_by(&key, &authority)?.pem(), key.serialize_pem()))
        };
        let (server, server_key) = issue(vec!["127.0.0.1".to_owned()], "selfhost-guard")?;
        let (client, client_key) = issue(Vec::new(), CLIENT)?;
        let place = Self { directory, port, status_port, ca_bundle: STANDARD.encode(authority.pem()) };
        let webhook = json!({
            "apiVersion": "v1", "kind": "Config",
            "users": [{"name": "*", "user": {
                "client-certificate-data": STANDARD.encode(client),
                "client-key-data": STANDARD.encode(client_key)}}],
        });
        for (name, content) in [
            ("ca.crt", authority.pem()),
            ("tls.crt", server),
            ("tls.key", server_key),
            ("webhook.conf", webhook.to_string()),
        ] {
            fs::write(place.path(name), content)?;
        }
        fs::create_dir(place.path("manifests"))?;
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where API servers ask.
    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}/validate", self.port)
    }

    /// Puts a static manifest into its directory.
    pub(crate) fn write_manifest(&self, name: &str, object: &Value) -> Result<()> {
        fs::write(self.path("manifests").join(name), object.to_string()).context("write a manifest")
    }

    /// Takes a static manifest away.
    pub(crate) fn remove_manifest(&self, name: &str) -> Result<()> {
        fs::remove_file(self.path("manifests").join(name)).context("remove a manifest")
    }

    /// The flag by which an API server shows the guard its certificate, and reads static manifests where it should.
    pub(crate) fn admission_config(&self, is_static: bool) -> Result<(&'static str, String)> {
        let mut webhook = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration",
            "kubeConfigFile": self.path("webhook.conf")});
        if is_static {
            webhook["staticManifestsDir"] = json!(self.path("manifests"));
        }
        let config = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
            "plugins": [{"name": "ValidatingAdmissionWebhook", "configuration": webhook}]});
        fs::write(self.path("admission.json"), config.to_string())?;
        Ok(("admission-control-config-file", self.path("admission.json").display().to_string()))
    }

    /// Starts the guard and waits until it is ready.
    pub(crate) fn start(&self, server: &ApiServer) -> Result<Process> {
        let module = match std::env::var_os("SELFHOST_POLICY") {
            Some(path) => PathBuf::from(path),
            None => wasm::build(&Progress::stderr())?.path,
        };
        let mut command = process::tied(&drive::admission()?);
        command.arg("--policy").arg(module).arg("--kubeconfig").arg(server.kubeconfig());
        for (flag, name) in [
            ("--tls-cert-file", "tls.crt"),
            ("--tls-private-key-file", "tls.key"),
            ("--client-ca-file", "ca.crt"),
        ] {
            command.arg(flag).arg(self.path(name));
        }
        command.args(["--client-name", CLIENT]);
        command.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        command.args(["--status-listen", &format!("127.0.0.1:{}", self.status_port)]);
        let mut guard = Process::start(command, self.path("guard.log"))?;
        let begin = Instant::now();
        while !guard.log()?.contains(r#""message":"serving""#) {
            guard.check().context("start the guard")?;
            ensure!(begin.elapsed() < READY, "the guard does not begin: {}", guard.log()?);
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(guard)
    }
}
