//! One request to the API server, as it goes over the wire: kubectl would choose verb, path and kind of patch itself.
//!
//! `kubectl proxy` is what authenticates; a test has no TLS and no client of its own for it.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use selfhost_tests::ApiServer;
use selfhost_tests::process::Process;
use serde_json::Value;
use tempfile::TempDir;

/// How long one answer may take; the API server gives up on a webhook after two seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    content: &'static str,
    body: String,
    user: Option<(String, Vec<String>)>,
}

impl Call {
    fn new(method: &'static str, path: &str, content: &'static str, body: String) -> Self {
        Self { method, path: path.to_owned(), content, body, user: None }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path, "", String::new())
    }

    pub(crate) fn delete(path: &str) -> Self {
        Self::new("DELETE", path, "", String::new())
    }

    pub(crate) fn post(path: &str, object: &Value) -> Self {
        Self::new("POST", path, "application/json", object.to_string())
    }

    pub(crate) fn put(path: &str, object: &Value) -> Self {
        Self::new("PUT", path, "application/json", object.to_string())
    }

    pub(crate) fn merge(path: &str, change: &Value) -> Self {
        Self::new("PATCH", path, "application/merge-patch+json", change.to_string())
    }

    pub(crate) fn strategic(path: &str, change: &Value) -> Self {
        Self::new("PATCH", path, "application/strategic-merge-patch+json", change.to_string())
    }

    pub(crate) fn json(path: &str, change: &Value) -> Self {
        Self::new("PATCH", path, "application/json-patch+json", change.to_string())
    }

    /// Server-side apply, by force.
    pub(crate) fn apply(path: &str, object: &Value) -> Self {
        let path = format!("{path}?fieldManager=somebody&force=true");
        Self::new("PATCH", &path, "application/apply-patch+yaml", object.to_string())
    }

    /// The same with another body, as it is written.
    pub(crate) fn text(mut self, content: &'static str, body: &str) -> Self {
        (self.content, self.body) = (content, body.to_owned());
        self
    }

    /// As this user. All are in `system:masters`, so that what denies is admission.
    pub(crate) fn by(mut self, user: &str) -> Self {
        self.user = Some((user.to_owned(), vec!["system:masters".to_owned()]));
        self
    }

    /// As the kubelet of this node.
    pub(crate) fn by_kubelet(self, node: &str) -> Self {
        let mut call = self.by(&format!("system:node:{node}"));
        if let Some((_, groups)) = &mut call.user {
            groups.push("system:nodes".to_owned());
        }
        call
    }

    /// Whether nothing can be stored by it, so that there is no dry run of it.
    fn connects(&self) -> bool {
        ["/exec", "/attach", "/portforward", "/proxy"].iter().any(|it| self.path.contains(it))
    }
}

/// What the API server says.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn object(&self) -> Result<Value> {
        ensure!(self.is_good(), "{} {}", self.status, self.body);
        serde_json::from_str(&self.body).context("read the answer")
    }

    /// The message of a failure.
    pub(crate) fn message(&self) -> String {
        let status: Option<Value> = serde_json::from_str(&self.body).ok();
        status.and_then(|it| Some(it["message"].as_str()?.to_owned())).unwrap_or_default()
    }
}

/// A way to an API server, as its administrator.
pub(crate) struct Proxy {
    port: u16,
    // Dropped in this order.
    _process: Process,
    _directory: TempDir,
}

impl Proxy {
    pub(crate) fn start(server: &ApiServer) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let plain = server.kubectl_command();
        let mut command = selfhost_tests::process::tied(plain.get_program().as_ref());
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        // What it refuses by itself is what has to get to the API server.
        command.args(["proxy", "--port=0", "--reject-paths=^$", "--accept-paths=.*"]);
        let mut process = Process::start(command, directory.path().join("proxy.log"))?;
        let begin = Instant::now();
        let port = loop {
            process.check()?;
            let log = process.log()?;
            let port = log.lines().find_map(|line| line.strip_prefix("Starting to serve on 127.0.0.1:"));
            if let Some(port) = port {
                break port.trim().parse().context("read the port of kubectl proxy")?;
            }
            ensure!(begin.elapsed() < LIMIT, "kubectl proxy does not begin: {log}");
            std::thread::sleep(Duration::from_millis(20));
        };
        Ok(Self { port, _process: process, _directory: directory })
    }

    /// Sends a request, for real.
    pub(crate) fn send(&self, call: &Call) -> Result<Answer> {
        self.exchange(call, &call.path)
    }

    /// Sends a request whose outcome is not stored.
    pub(crate) fn try_out(&self, call: &Call) -> Result<Answer> {
        if call.connects() {
            return self.send(call);
        }
        let separator = if call.path.contains('?') { '&' } else { '?' };
        self.exchange(call, &format!("{}{separator}dryRun=All", call.path))
    }

    /// The object at a path.
    pub(crate) fn object(&self, path: &str) -> Result<Value> {
        self.send(&Call::get(path))?.object().with_context(|| format!("get {path}"))
    }

    fn exchange(&self, call: &Call, path: &str) -> Result<Answer> {
        let what = || format!("{} {path}", call.method);
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).with_context(what)?;
        stream.set_read_timeout(Some(LIMIT))?;
        // Writing into a text does not fail.
        // 1.0: the answer is not in chunks, and ends with the connection.
        let mut head =
            format!("{} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n", call.method);
        if let Some((user, groups)) = &call.user {
            let _ = write!(head, "Impersonate-User: {user}\r\n");
            for group in groups {
                let _ = write!(head, "Impersonate-Group: {group}\r\n");
            }
        }
        if !call.content.is_empty() {
            let _ = write!(head, "Content-Type: {}\r\n", call.content);
        }
        let _ = write!(head, "Content-Length: {}\r\n\r\n", call.body.len());
        stream.write_all(head.as_bytes()).with_context(what)?;
        stream.write_all(call.body.as_bytes()).with_context(what)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).with_context(what)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            bail!("{}: no answer: {answer}", what())
        };
        let status =
            head.split(' ').nth(1).and_then(|it| it.parse().ok()).with_context(|| head.to_owned())?;
        Ok(Answer { status, body: body.to_owned() })
    }
}
