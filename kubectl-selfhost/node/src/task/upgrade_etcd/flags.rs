//! What has to be known of etcd's command line.
//!
//! Invariant: a flag that is not there as kubeadm writes it, `--name=value`, is an error, not a default.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::member::address;

/// The flags that matter here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flags {
    /// Where it listens for clients: on the loopback address if it does.
    pub(super) listens: SocketAddr,
    pub(super) ca: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) data_dir: OsString,
}

/// The command line does not tell.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("etcd's command line has no --{0}=")]
    Missing(&'static str),
    #[error("etcd's --listen-client-urls has no https://IP:PORT")]
    NoAddress,
}

impl Flags {
    /// Reads etcd's command line; the first word is the program.
    pub(super) fn read(command: &[OsString]) -> Result<Self, Error> {
        let value = |name: &'static str| {
            let of = |word: &OsString| {
                let rest = word.as_bytes().strip_prefix(b"--")?.strip_prefix(name.as_bytes())?;
                rest.strip_prefix(b"=").map(|value| OsStr::from_bytes(value).to_owned())
            };
            // As for etcd, the last one counts.
            command.iter().skip(1).filter_map(of).next_back().ok_or(Error::Missing(name))
        };
        let urls = value("listen-client-urls")?;
        let urls = urls.to_string_lossy();
        let addresses: Vec<SocketAddr> = urls.split(',').filter_map(address).collect();
        let loopback = addresses.iter().find(|address| address.ip().is_loopback());
        Ok(Self {
            listens: *loopback.or_else(|| addresses.first()).ok_or(Error::NoAddress)?,
            ca: value("trusted-ca-file")?.into(),
            certificate: value("cert-file")?.into(),
            key: value("key-file")?.into(),
            data_dir: value("data-dir")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBEADM: &str = "etcd --advertise-client-urls=https://10.0.0.11:2379 --cert-file=/p/server.crt \
        --data-dir=/var/lib/etcd --key-file=/p/server.key --peer-key-file=/p/peer.key \
        --listen-client-urls=https://10.0.0.11:2379,https://127.0.0.1:2379 --trusted-ca-file=/p/ca.crt";

    fn read(line: &str) -> Result<Flags, Error> {
        Flags::read(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn what_kubeadm_writes() {
        let flags = read(KUBEADM).unwrap();
        assert_eq!(flags.listens.to_string(), "127.0.0.1:2379");
        assert_eq!(
            (flags.ca, flags.certificate, flags.key),
            ("/p/ca.crt".into(), "/p/server.crt".into(), "/p/server.key".into())
        );
        assert_eq!(flags.data_dir, "/var/lib/etcd");
    }

    #[test]
    fn what_is_not_said_is_not_guessed() {
        for (from, to, expected) in [
            (" --data-dir=/var/lib/etcd", "", Err(Error::Missing("data-dir"))),
            (" --key-file=/p/server.key", "", Err(Error::Missing("key-file"))),
            ("--data-dir=/var", "--data-dir /var", Err(Error::Missing("data-dir"))),
            ("https://127.0.0.1:2379", "http://127.0.0.1:2379", Ok("10.0.0.11:2379")),
            ("urls=https://10.0.0.11:2379,https://127.0.0.1:2379", "urls=unix://a", Err(Error::NoAddress)),
        ] {
            let found = read(&KUBEADM.replace(from, to)).map(|flags| flags.listens.to_string());
            assert_eq!(found, expected.map(ToOwned::to_owned), "{from} {to}");
        }
    }
}
