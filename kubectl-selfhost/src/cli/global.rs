//! The flags that every command takes: kubectl's own connection flags, with kubectl's meanings.
//!
//! Invariant: a flag of kubectl's name means what it means to kubectl. `--namespace` is absent on purpose: the control
//! plane lives in kube-system, and a flag that changed nothing would only mislead.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

use super::duration::Timeout;

/// Flags that every command takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// How to reach the cluster, and as whom.
    #[command(flatten)]
    pub connection: Connection,

    /// When to use colors
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub color: Color,

    /// Log level: 0 is silent, 2 shows retries, 6 shows requests, 8 shows everything
    #[arg(short = 'v', long = "v", global = true, value_name = "LEVEL", default_value_t)]
    pub verbosity: u8,
}

/// How to reach the cluster, and as whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Connection options")]
pub struct Connection {
    /// Path to the kubeconfig file to use, instead of the list in $KUBECONFIG
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub kubeconfig: Option<PathBuf>,

    /// Name of the kubeconfig context to use
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub context: Option<String>,

    /// Name of the kubeconfig cluster to use
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub cluster: Option<String>,

    /// Name of the kubeconfig user to use
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub user: Option<String>,

    /// Address and port of the API server
    #[arg(short, long, global = true, value_name = "URL", hide_short_help = true)]
    pub server: Option<String>,

    /// Server name to use for server certificate validation, instead of the host in the server's URL
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub tls_server_name: Option<String>,

    /// Path to a certificate file of the certificate authority
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub certificate_authority: Option<PathBuf>,

    /// Do not check the server's certificate; this makes the connection insecure
    #[arg(
        long,
        global = true,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = ArgAction::Set,
        hide_short_help = true
    )]
    pub insecure_skip_tls_verify: Option<bool>,

    /// Path to a client certificate file for TLS
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub client_certificate: Option<PathBuf>,

    /// Path to a client key file for TLS
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub client_key: Option<PathBuf>,

    /// Bearer token for authentication to the API server
    #[arg(long, global = true, value_name = "TOKEN", hide_short_help = true)]
    pub token: Option<String>,

    /// Username to impersonate; a user, or a service account as system:serviceaccount:NAMESPACE:NAME
    #[arg(long = "as", global = true, value_name = "USER", hide_short_help = true)]
    pub impersonate: Option<String>,

    /// Group to impersonate; can be repeated
    #[arg(long = "as-group", global = true, value_name = "GROUP", hide_short_help = true)]
    pub impersonate_groups: Vec<String>,

    /// UID to impersonate
    #[arg(long = "as-uid", global = true, value_name = "UID", hide_short_help = true)]
    pub impersonate_uid: Option<String>,

    /// How long to wait for a single server request, such as 1s, 2m, 3h; a bare number is seconds, 0 is no limit
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        default_value = "0",
        allow_negative_numbers = true,
        hide_short_help = true
    )]
    pub request_timeout: Timeout,

    /// Opt out of response compression for all requests to the server
    #[arg(
        long,
        global = true,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = ArgAction::Set,
        hide_short_help = true
    )]
    pub disable_compression: Option<bool>,
}

/// When to use colors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless the environment says otherwise.
    #[default]
    #[value(help = "On a terminal, unless NO_COLOR is set or TERM is dumb")]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl From<Color> for anstream::ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn parse(line: &str) -> Result<Global, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.global)
    }

    #[test]
    fn flags_stand_before_and_after_the_command() {
        for line in [
            "kubectl-selfhost --context c -s https://h:6443 status",
            "kubectl-selfhost status --context=c --server https://h:6443",
        ] {
            let connection = parse(line).unwrap().connection;
            assert_eq!(connection.context.as_deref(), Some("c"), "{line}");
            assert_eq!(connection.server.as_deref(), Some("https://h:6443"), "{line}");
        }
    }

    #[test]
    fn every_flag_of_kubectl_is_read() {
        let connection = parse(
            "kubectl-selfhost status --kubeconfig k --cluster c --user u --tls-server-name n \
             --certificate-authority ca --insecure-skip-tls-verify=false --client-certificate cc --client-key ck \
             --token t --as a --as-group g1 --as-group=g2 --as-uid i --request-timeout 90 --disable-compression",
        )
        .unwrap()
        .connection;
        assert_eq!(
            connection,
            Connection {
                kubeconfig: Some("k".into()),
                context: None,
                cluster: Some("c".into()),
                user: Some("u".into()),
                server: None,
                tls_server_name: Some("n".into()),
                certificate_authority: Some("ca".into()),
                insecure_skip_tls_verify: Some(false),
                client_certificate: Some("cc".into()),
                client_key: Some("ck".into()),
                token: Some("t".into()),
                impersonate: Some("a".into()),
                impersonate_groups: vec!["g1".into(), "g2".into()],
                impersonate_uid: Some("i".into()),
                request_timeout: Timeout::after(Duration::from_secs(90)),
                disable_compression: Some(true),
            }
        );
    }

    #[test]
    fn refuses_what_kubectl_refuses() {
        for line in [
            "kubectl-selfhost status --request-timeout soon",
            "kubectl-selfhost status --request-timeout -1s",
            "kubectl-selfhost status --color sometimes",
            "kubectl-selfhost status --namespace default",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
