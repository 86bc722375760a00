//! The plugin as users run it: a process, with an API server in memory on the other side.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// An API server that answers with the files of a fixture, over plain HTTP.
struct ApiServer {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    /// Methods of the requests so far.
    methods: Arc<Mutex<BTreeSet<String>>>,
}

impl ApiServer {
    fn start(fixture: &str) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap(), fixture)
    }

    fn listen(listener: TcpListener, fixture: &str) -> Self {
        let address = listener.local_addr().unwrap();
        let directory = Path::new("../tests/fixtures").join(fixture);
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stopped);
        let methods = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = Arc::clone(&methods);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if flag.load(Ordering::SeqCst) {
                    return;
                }
                let (directory, seen) = (directory.clone(), Arc::clone(&seen));
                std::thread::spawn(move || answer(connection.unwrap(), &directory, &seen));
            }
        });
        Self { address, stopped, methods }
    }

    /// Stops listening; the port is free when this returns.
    fn stop(self) -> SocketAddr {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        while TcpStream::connect(self.address).is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.address
    }
}

/// One request for each connection.
fn answer(mut stream: TcpStream, directory: &Path, methods: &Mutex<BTreeSet<String>>) {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => head.extend_from_slice(&buffer[..n]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    methods.lock().unwrap().insert(head.split(' ').next().unwrap_or_default().to_owned());
    let path = head.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
    let (status, body) = match std::fs::read_to_string(directory.join(file_of(path))) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", "404 page not found\n".to_owned()),
    };
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    // A client that went away has no use for the answer.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

/// The naming that `tests/fixtures/README.md` tells.
fn file_of(path: &str) -> String {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let resource = match parts.iter().position(|part| *part == "namespaces") {
        Some(at) => &parts[at + 2..],
        None if parts[0] == "api" => &parts[2..],
        None => &parts[..],
    };
    match resource {
        [list] => format!("{list}.json"),
        [list, name, ..] => format!("{}-{name}.json", list.trim_end_matches('s')),
        [] => String::new(),
    }
}

/// The plugin in an environment of its own.
fn plugin(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-selfhost"));
    command.args(arguments).env_clear().env("HOME", env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    plugin(arguments).output().unwrap()
}

fn server_flag(server: &ApiServer) -> String {
    format!("--server=http://{}", server.address)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_format_has_the_same_exit_code() {
    let server = ApiServer::start("v1.11/hostpath");
    let server = server_flag(&server);
    for format in ["table", "wide", "json", "yaml"] {
        for (fail_on, code) in [("error", 0), ("warning", 4), ("never", 0)] {
            let output = run(&["status", &server, "-o", format, "--fail-on", fail_on]);
            assert_eq!(output.status.code(), Some(code), "{format} {fail_on}: {}", text(&output.stderr));
            assert_eq!(text(&output.stderr), "", "results go to standard output, and nothing else does");
            assert!(text(&output.stdout).contains("SH0110"), "{format}");
        }
    }
}

#[test]
fn a_kubeadm_cluster_of_the_v1_11_era_is_shown() {
    let server = ApiServer::start("v1.11/secrets");
    let output = run(&["status", &server_flag(&server), "-o", "wide"]);
    let shown = text(&output.stdout);
    assert!(shown.starts_with("Control plane   self-hosted   v1.10.13   1/1 node ready\n"), "{shown}");
    for component in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let row = shown.lines().find(|line| line.starts_with(component)).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells[1..5], ["kube-master-1", "self-hosted", "1/1", "v1.10.13"]);
        // Its certificates ended in 2019.
        assert_eq!(cells[8..11], ["secret", "expired", "RollingUpdate"], "{row}");
    }
    assert_eq!(output.status.code(), Some(4), "expired certificates are errors");
    assert!(shown.contains("SH0113"));
}

#[test]
fn an_upgrade_of_the_v1_11_era_is_planned_and_not_done() {
    let server = ApiServer::start("v1.11/hostpath");
    let flag = server_flag(&server);
    let output = run(&["upgrade", "v1.11.10", &flag, "--dry-run=client"]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}{}", text(&output.stderr));
    let steps: Vec<String> = shown
        .lines()
        .skip_while(|line| !line.starts_with("STEP"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
        .collect();
    let swaps = |component: &str| -> Vec<String> {
        let here: Vec<&String> = steps.iter().filter(|step| step.contains(component)).collect();
        here.iter().map(|step| step.split_once(component).unwrap().1.trim().to_owned()).collect()
    };
    // Adopted first, then API server, controller manager, scheduler, each under its bridge.
    assert_eq!(steps[0], "- kube-apiserver adopt DaemonSet");
    for component in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let swap = swaps(component);
        assert_eq!(swap[..2], ["adopt DaemonSet", "start bridge"], "{component}");
        let position = |verb: &str| swap.iter().position(|step| step == verb);
        assert!(position("replace Pod") < position("wait until ready"), "{swap:?}");
        assert!(position("wait until ready") < position("release bridge"), "{swap:?}");
    }
    let last = |component: &str| steps.iter().rposition(|step| step.contains(component));
    assert!(last("kube-apiserver") < last("kube-controller-manager"));
    assert!(last("kube-controller-manager") < last("kube-scheduler"));

    for (arguments, code) in [
        (["upgrade", "v1.11.10", "--yes"], "SH0223"),
        (["upgrade", "v1.12.0", "--dry-run=client"], "SH0215"),
        (["upgrade", "v1.9.0", "--dry-run=client"], "SH0216"),
    ] {
        let mut arguments = arguments.to_vec();
        arguments.push(&flag);
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(4), "{arguments:?}");
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(told.contains(code), "{told}");
    }
    assert_eq!(*server.methods.lock().unwrap(), BTreeSet::from(["GET".to_owned()]), "nothing was written");
}

#[test]
fn colours_come_when_asked_for_and_never_into_a_pipe() {
    let server = ApiServer::start("v1.11/hostpath");
    let server = server_flag(&server);
    let escapes = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = plugin(arguments).envs(variables.iter().copied()).output().unwrap();
        output.stdout.contains(&0x1b)
    };
    assert!(!escapes(&["status", &server], &[]));
    assert!(escapes(&["status", &server, "--color=always"], &[]));
    assert!(
        escapes(&["status", &server, "--color=always"], &[("NO_COLOR", "1")]),
        "a flag beats the environment"
    );
    assert!(!escapes(&["status", &server, "--color=never"], &[("CLICOLOR_FORCE", "1")]));
    assert!(!escapes(&["status", &server, "-o", "json", "--color=always"], &[]));
}

#[test]
fn trouble_has_one_error_and_one_hint() {
    let gone = ApiServer::start("v1.11/hostpath").stop();
    let output = run(&["status", &format!("--server=http://{gone}")]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    let told = text(&output.stderr);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(
        lines[0].starts_with(&format!("error: cannot reach the API server at http://{gone}/: ")),
        "{told}"
    );
    assert!(lines[1].starts_with("hint: "), "{told}");

    let output = run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with("error: no cluster is configured: none in "),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn usage_errors_are_two_and_help_is_none() {
    for (arguments, code) in [
        (&["--help"] as &[&str], 0),
        (&["status", "--help"], 0),
        (&["--version"], 0),
        (&["version", "--client"], 0),
        (&[], 2),
        (&["stat"], 2),
        (&["status", "-o", "xml"], 2),
        (&["upgrade", "--emulate"], 2),
        (&["upgrade", "v1.37.2", "--emulate", "--rollback"], 2),
        (&["status", "--insecure-skip-tls-verify", "--certificate-authority=x", "--server=https://x"], 2),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {}", text(&output.stderr));
    }
    assert!(text(&run(&["status", "--help"]).stdout).contains("Usage: kubectl selfhost status [OPTIONS]"));
}

#[test]
fn help_reads_no_kubeconfig() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("help");
    std::fs::create_dir_all(&directory).unwrap();
    // Whoever opens it waits for a writer that never comes.
    let fifo = directory.join("kubeconfig");
    let _ = std::fs::remove_file(&fifo);
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let out = directory.join("out");
    let mut help = plugin(&["--help"]);
    help.env("KUBECONFIG", &fifo).stdout(std::fs::File::create(&out).unwrap());
    let mut help = Running(help.spawn().unwrap());
    wait_for(&out, "Usage: kubectl selfhost");
    assert!(help.0.wait().unwrap().success());
}

#[test]
fn versions_are_told() {
    let server = ApiServer::start("v1.11/hostpath");
    let output = run(&["version", &server_flag(&server)]);
    let expected = format!("Client version: v{}\nServer version: v1.10.13\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&output.stdout), expected);
    let json: serde_json::Value =
        serde_json::from_slice(&run(&["version", "--client", "-o", "json"]).stdout).unwrap();
    assert_eq!(json["kind"], "Version");
    assert_eq!(json["clientVersion"], format!("v{}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_shell_gets_a_script() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = run(&["completion", shell]);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("kubectl-selfhost"), "{shell}");
    }
}

/// A child that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `file` holds `wanted`.
fn wait_for(file: &Path, wanted: &str) -> String {
    let begin = Instant::now();
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.contains(wanted) {
            return text;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "no {wanted:?} in {text:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_watch_survives_the_api_server_and_ends_when_asked() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("watch");
    std::fs::create_dir_all(&directory).unwrap();
    let (out, err) = (directory.join("out"), directory.join("err"));
    let server = ApiServer::start("v1.11/hostpath");
    let mut watch = plugin(&["status", "--watch", &server_flag(&server)]);
    watch.stdout(std::fs::File::create(&out).unwrap()).stderr(std::fs::File::create(&err).unwrap());
    let mut watch = Running(watch.spawn().unwrap());
    wait_for(&out, "To see what an upgrade would do");

    let address = server.stop();
    wait_for(&err, "no answer for");
    let listener = loop {
        match TcpListener::bind(address) {
            Ok(listener) => break listener,
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    // It comes back with other credentials, as after a change of the mode.
    let server = ApiServer::listen(listener, "v1.11/secrets");
    wait_for(&err, "API server is back");
    let shown = wait_for(&out, "found SH0113");
    assert!(!shown.contains('\u{1b}'), "no control characters without a terminal");
    assert_eq!(shown.matches("COMPONENT").count(), 1, "changes are lines, not tables");

    #[cfg(unix)]
    {
        let killed = Command::new("kill").args(["-INT", &watch.0.id().to_string()]).status().unwrap();
        assert!(killed.success());
        assert_eq!(watch.0.wait().unwrap().code(), Some(130));
    }
    drop(watch);
    drop(server);
}

#[test]
#[cfg(unix)]
fn a_reader_that_went_away_is_no_failure() {
    let server = ApiServer::start("v1.11/hostpath");
    let mut child = plugin(&["status", &server_flag(&server), "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
#[cfg(unix)]
fn kubectl_gets_candidates_under_its_own_name() {
    use std::os::unix::process::CommandExt as _;
    let output = plugin(&["status", "--fail-on", ""]).arg0("kubectl_complete-selfhost").output().unwrap();
    assert!(output.status.success());
    let told = text(&output.stdout);
    assert!(told.contains("warning\t") && told.ends_with(":4\n"), "{told}");
}

#[test]
fn without_an_open_operation_there_is_nothing_to_resume_or_to_abort() {
    let server = ApiServer::start("v1.11/hostpath");
    let flag = server_flag(&server);
    for command in ["resume", "abort"] {
        let output = run(&[command, &flag, "--yes"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "No operation is open: there is nothing to do.\n");
        let output = run(&[command, &flag, "--yes", "-o", "json"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("\"changed\": false"), "{}", text(&output.stdout));
    }
    assert_eq!(*server.methods.lock().unwrap(), BTreeSet::from(["GET".to_owned()]));
}

#[test]
fn the_guard_is_asked_without_a_cluster_and_with_one() {
    let fixture = |name: &str| format!("../tests/fixtures/v1.11/secrets/{name}.json");
    let secret = fixture("secret-sa");
    let there: Vec<String> = ["daemonsets", "pods", "nodes"]
        .iter()
        .flat_map(|name| ["--with".to_owned(), fixture(name)])
        .collect();
    let server = ApiServer::start("v1.11/secrets");
    let live = ["--live".to_owned(), server_flag(&server)];
    for facts in [&there[..], &live] {
        for format in ["table", "json", "yaml"] {
            let mut arguments = vec!["guard", "test", &secret, "--delete", "-o", format];
            arguments.extend(facts.iter().map(String::as_str));
            let output = run(&arguments);
            let shown = text(&output.stdout);
            assert_eq!(output.status.code(), Some(4), "{shown}{}", text(&output.stderr));
            assert!(shown.contains("SEC-1"), "{shown}");
        }
    }
    assert_eq!(*server.methods.lock().unwrap(), BTreeSet::from(["GET".to_owned()]));
    // What nobody mounts may go.
    let output = run(&["guard", "test", &secret, "--delete", "--with", &fixture("service-kubernetes")]);
    assert_eq!(text(&output.stdout), "DELETE Secret kube-system/sa: admitted\n");
    assert_eq!(output.status.code(), Some(0));
}
