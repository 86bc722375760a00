//! The kubeconfig and the flags, merged as kubectl merges them.
//!
//! Invariant: a flag beats the file; of several files the first that sets a value wins; a name that does not exist is
//! an error that lists the names that do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};

use super::proxy::Proxies;
use crate::cli::global::Connection;
use crate::error::Explain;

#[cfg(test)]
mod tests;

/// The name under which flags alone describe a cluster, when no kubeconfig does.
const FLAGS_ONLY: &str = "command-line";

/// What of the process's environment matters here.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    /// `$KUBECONFIG`: a list of files.
    pub(super) kubeconfig: Option<OsString>,
    /// The user's home directory.
    pub(super) home: Option<PathBuf>,
    /// The proxy variables.
    pub(super) proxies: Proxies,
}

/// Why the kubeconfig and the flags name no cluster.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// A file could not be read.
    #[error("cannot read kubeconfig {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// The files, taken together, make no configuration.
    #[error("cannot use the kubeconfig")]
    Use(#[source] kube::config::KubeconfigError),
    /// There is no kubeconfig, and this is no Pod of a cluster.
    #[error("no cluster is configured: {0}")]
    Missing(String),
    /// No context is current.
    #[error("no current context is set in the kubeconfig")]
    NoCurrentContext(Vec<String>),
    /// A context, cluster or user of this name does not exist.
    #[error("{kind} {name:?} does not exist in the kubeconfig")]
    Unknown {
        /// `context`, `cluster` or `user`.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// `--certificate-authority` and `--insecure-skip-tls-verify` contradict each other.
    #[error("--certificate-authority cannot be used together with --insecure-skip-tls-verify")]
    InsecureWithAuthority,
    /// The server's address is no URL.
    #[error("{0:?} is not the URL of an API server")]
    BadServer(String),
    /// The proxy's address is no URL.
    #[error("{0:?} is not the URL of a proxy")]
    BadProxy(String),
}

impl Explain for KubeconfigError {
    fn hint(&self) -> Option<String> {
        let list = |kind: &str, known: &[String]| match known {
            [] => format!("the kubeconfig has no {kind}"),
            known => format!("there are: {}", known.join(", ")),
        };
        match self {
            Self::Missing(_) => Some("set KUBECONFIG, or pass --kubeconfig FILE or --server URL".to_owned()),
            Self::NoCurrentContext(known) => Some(format!("pass --context; {}", list("context", known))),
            Self::Unknown { kind, known, .. } => Some(list(kind, known)),
            Self::BadServer(_) => Some("for example https://10.0.0.1:6443".to_owned()),
            Self::Read { .. } | Self::Use(_) | Self::InsecureWithAuthority | Self::BadProxy(_) => None,
        }
    }

    fn exit(&self) -> crate::exit::Exit {
        match self {
            Self::InsecureWithAuthority => crate::exit::Exit::Usage,
            _ => crate::exit::Exit::Failure,
        }
    }
}

impl Environment {
    /// The environment of this process.
    pub(super) fn of_process() -> Self {
        let any = |names: [&str; 2]| names.into_iter().find_map(|name| std::env::var(name).ok());
        Self {
            kubeconfig: std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()),
            home: std::env::home_dir(),
            proxies: Proxies {
                https: any(["HTTPS_PROXY", "https_proxy"]),
                http: any(["HTTP_PROXY", "http_proxy"]),
                none: any(["NO_PROXY", "no_proxy"]),
            },
        }
    }
}

/// The configuration that kubectl would use with these flags in this environment.
pub(super) async fn load(flags: &Connection, environment: &Environment) -> Result<Config, KubeconfigError> {
    let kubeconfig = read(flags, environment)?;
    let described =
        flags.server.is_some() || !kubeconfig.clusters.is_empty() || !kubeconfig.contexts.is_empty();
    if !described && flags.context.is_none() && flags.cluster.is_none() {
        let mut config = Config::incluster().map_err(|in_cluster| {
            KubeconfigError::Missing(match files(flags, environment).as_slice() {
                [] => format!("there is no home directory for a kubeconfig, and {in_cluster}"),
                files => format!("none in {}, and {in_cluster}", display(files)),
            })
        })?;
        apply_user(&mut config.auth_info, flags);
        return Ok(config);
    }
    let (kubeconfig, options) = apply(kubeconfig, flags)?;
    let explicit_proxy = selected(&kubeconfig, &options).and_then(|cluster| cluster.proxy_url.clone());
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(KubeconfigError::Use)?;
    let proxy = explicit_proxy.filter(|url| !url.is_empty());
    config.proxy_url = match proxy.or_else(|| environment.proxies.for_server(&config.cluster_url)) {
        Some(url) => Some(url.parse().map_err(|_| KubeconfigError::BadProxy(url))?),
        None => None,
    };
    Ok(config)
}

/// The files that the kubeconfig is read from.
fn files(flags: &Connection, environment: &Environment) -> Vec<PathBuf> {
    match (&flags.kubeconfig, &environment.kubeconfig, &environment.home) {
        (Some(file), _, _) => vec![file.clone()],
        (None, Some(list), _) => {
            std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect()
        }
        (None, None, Some(home)) => vec![home.join(".kube").join("config")],
        (None, None, None) => Vec::new(),
    }
}

fn display(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// All files, merged. Only a file that a flag names must exist: kubectl passes over the others.
fn read(flags: &Connection, environment: &Environment) -> Result<Kubeconfig, KubeconfigError> {
    let mut merged = Kubeconfig::default();
    for path in files(flags, environment) {
        if flags.kubeconfig.is_none() && !Path::new(&path).exists() {
            continue;
        }
        let next = Kubeconfig::read_from(&path).map_err(|source| KubeconfigError::Read { path, source })?;
        merged = merged.merge(next).map_err(KubeconfigError::Use)?;
    }
    Ok(merged)
}

/// The kubeconfig with the flags written into the context that they select.
fn apply(
    mut kubeconfig: Kubeconfig,
    flags: &Connection,
) -> Result<(Kubeconfig, KubeConfigOptions), KubeconfigError> {
    if flags.certificate_authority.is_some() && flags.insecure_skip_tls_verify == Some(true) {
        return Err(KubeconfigError::InsecureWithAuthority);
    }
    let context = context(&kubeconfig, flags)?;
    let cluster_name = flags.cluster.clone().unwrap_or(context.cluster);
    let user_name = flags.user.clone().or(context.user);

    let clusters = &mut kubeconfig.clusters;
    let position = clusters.iter().position(|cluster| cluster.name == cluster_name);
    let cluster = match (position, &flags.server) {
        (Some(position), _) => &mut clusters[position],
        // A server from the command line needs no entry in the file.
        (None, Some(_)) if flags.cluster.is_none() => {
            clusters.push(NamedCluster { name: cluster_name.clone(), ..NamedCluster::default() });
            clusters.last_mut().expect("just pushed")
        }
        (None, _) => {
            let known = clusters.iter().map(|cluster| cluster.name.clone()).collect();
            return Err(KubeconfigError::Unknown { kind: "cluster", name: cluster_name, known });
        }
    };
    apply_cluster(cluster.cluster.get_or_insert_default(), flags)?;

    let user_name = user_name.unwrap_or_default();
    let users = &mut kubeconfig.auth_infos;
    if !users.iter().any(|user| user.name == user_name) {
        if flags.user.is_some() {
            let known = users.iter().map(|user| user.name.clone()).collect();
            return Err(KubeconfigError::Unknown { kind: "user", name: user_name, known });
        }
        users.push(NamedAuthInfo { name: user_name.clone(), ..NamedAuthInfo::default() });
    }
    if let Some(user) = users.iter_mut().find(|user| user.name == user_name) {
        apply_user(user.auth_info.get_or_insert_default(), flags);
    }

    let chosen = Context {
        cluster: cluster_name,
        user: Some(user_name),
        namespace: None,
        extensions: None,
        ..Context::default()
    };
    kubeconfig.contexts =
        vec![NamedContext { name: FLAGS_ONLY.to_owned(), context: Some(chosen), ..NamedContext::default() }];
    let options = KubeConfigOptions { context: Some(FLAGS_ONLY.to_owned()), cluster: None, user: None };
    Ok((kubeconfig, options))
}

/// The context that the flags select.
fn context(kubeconfig: &Kubeconfig, flags: &Connection) -> Result<Context, KubeconfigError> {
    let known = || kubeconfig.contexts.iter().map(|context| context.name.clone()).collect::<Vec<_>>();
    let current = kubeconfig.current_context.clone().filter(|name| !name.is_empty());
    let Some(name) = flags.context.clone().or(current) else {
        return if flags.server.is_some() || flags.cluster.is_some() {
            Ok(Context { cluster: FLAGS_ONLY.to_owned(), ..Context::default() })
        } else {
            Err(KubeconfigError::NoCurrentContext(known()))
        };
    };
    kubeconfig
        .contexts
        .iter()
        .find(|context| context.name == name)
        .and_then(|context| context.context.clone())
        .ok_or_else(|| KubeconfigError::Unknown { kind: "context", name, known: known() })
}

fn apply_cluster(cluster: &mut Cluster, flags: &Connection) -> Result<(), KubeconfigError> {
    if let Some(server) = &flags.server {
        let url = if server.contains("://") { server.clone() } else { format!("https://{server}") };
        match url.parse::<http::Uri>() {
            Ok(uri) if uri.host().is_some() => cluster.server = Some(url),
            _ => return Err(KubeconfigError::BadServer(server.clone())),
        }
    }
    if let Some(name) = &flags.tls_server_name {
        cluster.tls_server_name = Some(name.clone());
    }
    if let Some(insecure) = flags.insecure_skip_tls_verify {
        cluster.insecure_skip_tls_verify = Some(insecure);
    }
    if let Some(file) = &flags.certificate_authority {
        cluster.certificate_authority = Some(file.display().to_string());
        cluster.certificate_authority_data = None;
        cluster.insecure_skip_tls_verify = Some(false);
    }
    if let Some(disabled) = flags.disable_compression {
        cluster.disable_compression = Some(disabled);
    }
    Ok(())
}

fn apply_user(user: &mut AuthInfo, flags: &Connection) {
    if let Some(file) = &flags.client_certificate {
        user.client_certificate = Some(file.display().to_string());
        user.client_certificate_data = None;
    }
    if let Some(file) = &flags.client_key {
        user.client_key = Some(file.display().to_string());
        user.client_key_data = None;
    }
    if let Some(token) = &flags.token {
        // The token is the answer to "who": whatever else the file has to say about it would win over it otherwise.
        user.token = Some(token.clone().into());
        user.token_file = None;
        user.username = None;
        user.password = None;
        user.auth_provider = None;
        user.exec = None;
    }
    if let Some(name) = &flags.impersonate {
        user.impersonate = Some(name.clone());
    }
    if let Some(uid) = &flags.impersonate_uid {
        user.impersonate_uid = Some(uid.clone());
    }
    if !flags.impersonate_groups.is_empty() {
        user.impersonate_groups = Some(flags.impersonate_groups.clone());
    }
}

/// The cluster that `options` select.
fn selected<'a>(kubeconfig: &'a Kubeconfig, options: &KubeConfigOptions) -> Option<&'a Cluster> {
    let context =
        kubeconfig.contexts.iter().find(|context| Some(&context.name) == options.context.as_ref())?;
    let name = &context.context.as_ref()?.cluster;
    kubeconfig.clusters.iter().find(|cluster| &cluster.name == name)?.cluster.as_ref()
}
