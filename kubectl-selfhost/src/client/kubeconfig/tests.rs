//! The kubeconfig and the flags, in directories of their own.

use std::ffi::OsString;
use std::fs;

use tempfile::TempDir;

use super::*;
use crate::cli::global::Connection;

const MAIN: &str = r"
apiVersion: v1
kind: Config
current-context: prod
contexts:
- name: prod
  context: {cluster: prod, user: ann}
- name: lab
  context: {cluster: lab, user: bob}
clusters:
- name: prod
  cluster: {server: 'https://prod:6443', tls-server-name: kubernetes, proxy-url: ''}
- name: lab
  cluster: {server: 'https://lab:6443', proxy-url: 'http://labproxy:8080'}
users:
- name: ann
  user: {token: ann-token}
- name: bob
  user: {token: bob-token, as: carol}
";

const SECOND: &str = r"
apiVersion: v1
kind: Config
current-context: other
contexts:
- name: other
  context: {cluster: other, user: ann}
clusters:
- name: prod
  cluster: {server: 'https://not-this-one:6443'}
- name: other
  cluster: {server: 'https://other:6443'}
";

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(TempDir::new().unwrap());
        fs::create_dir(home.0.path().join(".kube")).unwrap();
        home
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn environment(&self) -> Environment {
        Environment { home: Some(self.0.path().to_owned()), ..Environment::default() }
    }
}

fn with_main() -> (Home, Environment) {
    let home = Home::new();
    home.write(".kube/config", MAIN);
    let environment = home.environment();
    (home, environment)
}

fn token(config: &Config) -> Option<String> {
    // Serialised, a secret is told.
    Some(serde_json::to_value(&config.auth_info).unwrap()["token"].as_str()?.to_owned())
}

async fn server(flags: &Connection, environment: &Environment) -> String {
    load(flags, environment).await.unwrap().cluster_url.to_string()
}

#[tokio::test]
async fn the_file_at_home_is_used_without_flags() {
    let (_home, environment) = with_main();
    let config = load(&Connection::default(), &environment).await.unwrap();
    assert_eq!(config.cluster_url.to_string(), "https://prod:6443/");
    assert_eq!(config.tls_server_name.as_deref(), Some("kubernetes"));
    assert_eq!(token(&config).as_deref(), Some("ann-token"));
}

#[tokio::test]
async fn of_a_list_the_first_file_wins_and_missing_ones_are_passed_over() {
    let home = Home::new();
    let files = [home.0.path().join("none"), home.write("b", MAIN), PathBuf::new(), home.write("c", SECOND)];
    let list: OsString = std::env::join_paths(files).unwrap();
    let environment = Environment { kubeconfig: Some(list), ..home.environment() };
    assert_eq!(server(&Connection::default(), &environment).await, "https://prod:6443/");
    let other = Connection { context: Some("other".into()), ..Connection::default() };
    let config = load(&other, &environment).await.unwrap();
    assert_eq!(config.cluster_url.to_string(), "https://other:6443/");
    assert_eq!(
        token(&config).as_deref(),
        Some("ann-token"),
        "users of the first file serve contexts of the second"
    );
}

#[tokio::test]
async fn a_file_that_a_flag_names_must_exist() {
    let (home, environment) = with_main();
    let flags = Connection { kubeconfig: Some(home.0.path().join("none")), ..Connection::default() };
    let error = load(&flags, &environment).await.unwrap_err();
    assert!(matches!(error, KubeconfigError::Read { .. }), "{error}");
    let flags = Connection { kubeconfig: Some(home.write("second", SECOND)), ..Connection::default() };
    assert_eq!(server(&flags, &environment).await, "https://other:6443/");
}

#[tokio::test]
async fn flags_beat_the_file() {
    let (_home, environment) = with_main();
    let flags = Connection {
        context: Some("lab".into()),
        user: Some("ann".into()),
        server: Some("127.0.0.1:7443".into()),
        tls_server_name: Some("kubernetes.default".into()),
        insecure_skip_tls_verify: Some(true),
        impersonate: Some("dora".into()),
        impersonate_groups: vec!["g".into()],
        impersonate_uid: Some("u".into()),
        disable_compression: Some(true),
        ..Connection::default()
    };
    let config = load(&flags, &environment).await.unwrap();
    assert_eq!(config.cluster_url.to_string(), "https://127.0.0.1:7443/");
    assert_eq!(config.tls_server_name.as_deref(), Some("kubernetes.default"));
    assert!(config.accept_invalid_certs && config.disable_compression);
    assert_eq!(token(&config).as_deref(), Some("ann-token"));
    assert_eq!(config.auth_info.impersonate.as_deref(), Some("dora"));
    assert_eq!(config.auth_info.impersonate_groups, Some(vec!["g".to_owned()]));
    assert_eq!(config.auth_info.impersonate_uid.as_deref(), Some("u"));
}

#[tokio::test]
async fn a_token_replaces_every_other_way_to_say_who() {
    let home = Home::new();
    let with_plugin = MAIN.replace(
        "{token: ann-token}",
        "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /none}}",
    );
    home.write(".kube/config", &with_plugin);
    let flags = Connection { token: Some("t".into()), ..Connection::default() };
    let config = load(&flags, &home.environment()).await.unwrap();
    assert_eq!(token(&config).as_deref(), Some("t"));
    assert!(config.auth_info.exec.is_none());
}

#[tokio::test]
async fn a_server_needs_no_file() {
    let home = Home::new();
    let flags = Connection {
        server: Some("https://10.0.0.1:6443".into()),
        token: Some("t".into()),
        ..Connection::default()
    };
    let config = load(&flags, &home.environment()).await.unwrap();
    assert_eq!(config.cluster_url.to_string(), "https://10.0.0.1:6443/");
    assert_eq!(token(&config).as_deref(), Some("t"));
}

#[tokio::test]
async fn names_that_do_not_exist_are_told_with_those_that_do() {
    let (_home, environment) = with_main();
    for (flags, message) in [
        (
            Connection { context: Some("x".into()), ..Connection::default() },
            "context \"x\" does not exist in the kubeconfig | there are: prod, lab",
        ),
        (
            Connection { cluster: Some("x".into()), ..Connection::default() },
            "cluster \"x\" does not exist in the kubeconfig | there are: prod, lab",
        ),
        (
            Connection { user: Some("x".into()), ..Connection::default() },
            "user \"x\" does not exist in the kubeconfig | there are: ann, bob",
        ),
        (
            Connection { server: Some("https://".into()), ..Connection::default() },
            "\"https://\" is not the URL of an API server | for example https://10.0.0.1:6443",
        ),
    ] {
        let error = load(&flags, &environment).await.unwrap_err();
        assert_eq!(format!("{error} | {}", error.hint().unwrap()), message);
    }
}

#[tokio::test]
async fn a_kubeconfig_without_a_current_context_asks_for_one() {
    let home = Home::new();
    home.write(".kube/config", &MAIN.replace("current-context: prod", ""));
    let error = load(&Connection::default(), &home.environment()).await.unwrap_err();
    assert_eq!(error.hint().unwrap(), "pass --context; there are: prod, lab");
}

#[tokio::test]
async fn nothing_configured_says_where_it_looked() {
    let home = Home::new();
    let error = load(&Connection::default(), &home.environment()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("no cluster is configured: none in ") && text.contains(".kube"), "{text}");
    assert!(error.hint().unwrap().contains("--kubeconfig"));
}

#[tokio::test]
async fn authority_and_insecure_contradict_each_other() {
    let (_home, environment) = with_main();
    let flags = Connection {
        certificate_authority: Some("ca.crt".into()),
        insecure_skip_tls_verify: Some(true),
        ..Connection::default()
    };
    let error = load(&flags, &environment).await.unwrap_err();
    assert_eq!(error.exit(), crate::exit::Exit::Usage);
}

#[tokio::test]
async fn the_kubeconfigs_proxy_beats_the_environments() {
    let (_home, mut environment) = with_main();
    environment.proxies.https = Some("http://everywhere:3128".into());
    environment.proxies.none = Some("lab,prod".into());
    let lab = Connection { context: Some("lab".into()), ..Connection::default() };
    let proxy = |config: Config| config.proxy_url.map(|url| url.to_string());
    assert_eq!(proxy(load(&lab, &environment).await.unwrap()).as_deref(), Some("http://labproxy:8080/"));
    assert_eq!(proxy(load(&Connection::default(), &environment).await.unwrap()), None);
    environment.proxies.none = None;
    let everywhere = load(&Connection::default(), &environment).await.unwrap();
    assert_eq!(proxy(everywhere).as_deref(), Some("http://everywhere:3128/"));
}
