//! What kind of trouble a failed request is in, told from the errors of five libraries, and what to do about it.
//!
//! Invariant: the kind is told by type, never by message, except where a library gives nothing but a message.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// What kind of trouble a failed request is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// Nobody listens at the address.
    Refused,
    /// No answer in time.
    TimedOut,
    /// The host name has no address.
    UnknownHost,
    /// The connection broke, or could not be made for another reason.
    Broken,
    /// The server's certificate is of a CA that is not trusted.
    UntrustedCertificate,
    /// The server's certificate is for other names.
    WrongName,
    /// The server's certificate has expired, or is not valid yet.
    ServerCertificateExpired,
    /// TLS failed for another reason.
    Tls,
    /// The credentials could not be had: a plugin failed, a file is missing.
    Credentials,
    /// 401: the server does not know these credentials.
    Unauthorized,
    /// 403: a right is missing.
    Forbidden,
    /// 404: the object, or the whole API group, does not exist.
    NotFound,
    /// 429 or 503: the server asks for patience. Or it is not ready, and refuses everybody.
    Busy,
    /// The server answered with something else.
    Other,
}

impl Trouble {
    /// The trouble that `error` tells of.
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Self::Unauthorized,
                403 => Self::Forbidden,
                404 => Self::NotFound,
                429 | 503 => Self::Busy,
                _ => Self::Other,
            },
            kube::Error::Auth(_) => Self::Credentials,
            kube::Error::RustlsTls(_) => Self::Tls,
            other => Self::of_chain(other),
        }
    }

    /// The trouble of an error that came instead of an answer.
    pub(super) fn of_chain(error: &(dyn Error + 'static)) -> Self {
        let mut found = Self::Other;
        let mut next = Some(error);
        while let Some(error) = next {
            // The innermost error says most.
            if let Some(trouble) = Self::of_link(error) {
                found = trouble;
            }
            next = inner(error);
        }
        found
    }

    fn of_link(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(Self::of_tls(error));
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::ConnectionRefused => Some(Self::Refused),
                io::ErrorKind::TimedOut => Some(Self::TimedOut),
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::NotConnected
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable => Some(Self::Broken),
                _ => None,
            };
        }
        if error.is::<super::patience::OutOfTime>() {
            return Some(Self::TimedOut);
        }
        if error.is::<super::patience::NotReady>() {
            return Some(Self::Busy);
        }
        if error.is::<kube::client::AuthError>() {
            return Some(Self::Credentials);
        }
        if error.is::<hyper::Error>() {
            return Some(Self::Broken);
        }
        // hyper-util's resolver error has no type of its own that could be named.
        if error.to_string().starts_with("dns error") {
            return Some(Self::UnknownHost);
        }
        error.is::<hyper_util::client::legacy::Error>().then_some(Self::Broken)
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    Self::UntrustedCertificate
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::WrongName
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::ServerCertificateExpired,
                _ => Self::Tls,
            },
            _ => Self::Tls,
        }
    }

    /// Whether there was no answer from an API server at all.
    pub const fn is_no_answer(self) -> bool {
        match self {
            Self::Refused
            | Self::TimedOut
            | Self::UnknownHost
            | Self::Broken
            | Self::UntrustedCertificate
            | Self::WrongName
            | Self::ServerCertificateExpired
            | Self::Tls
            | Self::Credentials => true,
            Self::Unauthorized | Self::Forbidden | Self::NotFound | Self::Busy | Self::Other => false,
        }
    }

    /// Whether a later attempt may succeed without anybody changing anything.
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::Refused | Self::TimedOut | Self::Broken | Self::Busy)
    }

    /// The innermost cause of `error`, as text.
    pub fn cause(self, error: &kube::Error) -> String {
        match self {
            Self::NotFound => "not found".to_owned(),
            _ => cause(error),
        }
    }

    /// What to do next.
    pub fn hint(self) -> Option<String> {
        let hint = match self {
            Self::Refused => {
                "no API server listens there; is it the right cluster (`kubectl config current-context`), and does \
                 kube-apiserver run on that node (`crictl ps --name kube-apiserver`)?"
            }
            Self::TimedOut => {
                "check the address, the route and firewalls on the way; --request-timeout sets the limit"
            }
            Self::UnknownHost => "check the host name in the kubeconfig's `server`, and this machine's DNS",
            Self::Broken => {
                "the connection was cut; try again, and check load balancers and proxies on the way"
            }
            Self::UntrustedCertificate => {
                "the server's certificate is not of the kubeconfig's CA; pass the right one with \
                 --certificate-authority, or fetch a new kubeconfig"
            }
            Self::WrongName => {
                "the server's certificate is not for this host; pass a name that it has with --tls-server-name"
            }
            Self::ServerCertificateExpired => {
                "renew the API server's certificate on the node (`kubeadm certs renew apiserver`), or set this \
                 machine's clock"
            }
            Self::Tls => "check --client-certificate, --client-key and --certificate-authority",
            Self::Credentials => {
                "run the credential command of the kubeconfig's user by hand, or log in again"
            }
            Self::Unauthorized => {
                "log in again, or fetch a new kubeconfig: the token or the client certificate is not valid (any more)"
            }
            Self::Forbidden => "docs/reference/rbac.md has the roles that each command needs, ready to apply",
            Self::NotFound | Self::Busy | Self::Other => return None,
        };
        Some(hint.to_owned())
    }
}

/// The innermost cause, as text: the outer layers say only that something failed.
pub(super) fn cause(error: &(dyn Error + 'static)) -> String {
    if let Some(kube::Error::Api(status)) = error.downcast_ref::<kube::Error>() {
        return if status.message.is_empty() {
            format!("status {}", status.code)
        } else {
            status.message.clone()
        };
    }
    let mut last = error;
    while let Some(error) = inner(last) {
        last = error;
    }
    last.to_string()
}

/// The next error inwards. An [`io::Error`] that wraps another error hides it from `source`.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(error: io::Error) -> kube::Error {
        kube::Error::Service(Box::new(error))
    }

    #[test]
    fn tells_the_kind_by_type() {
        let tls =
            |error| io::Error::new(io::ErrorKind::InvalidData, rustls::Error::InvalidCertificate(error));
        for (error, trouble) in [
            (service(io::ErrorKind::ConnectionRefused.into()), Trouble::Refused),
            (service(io::ErrorKind::ConnectionReset.into()), Trouble::Broken),
            (service(io::Error::new(io::ErrorKind::TimedOut, "deadline has elapsed")), Trouble::TimedOut),
            (service(tls(CertificateError::UnknownIssuer)), Trouble::UntrustedCertificate),
            (service(tls(CertificateError::NotValidForName)), Trouble::WrongName),
            (service(tls(CertificateError::Expired)), Trouble::ServerCertificateExpired),
            (service(io::Error::other("?")), Trouble::Other),
        ] {
            assert_eq!(Trouble::of(&error), trouble, "{error}");
            assert_eq!(Trouble::of(&error).is_no_answer(), trouble != Trouble::Other, "{error}");
        }
    }

    #[test]
    fn tells_the_kind_by_status() {
        for (code, trouble) in [
            (401, Trouble::Unauthorized),
            (403, Trouble::Forbidden),
            (404, Trouble::NotFound),
            (429, Trouble::Busy),
            (503, Trouble::Busy),
            (500, Trouble::Other),
        ] {
            let status = kube::core::Status::failure("no", "Reason").with_code(code);
            assert_eq!(Trouble::of(&kube::Error::Api(status.boxed())), trouble, "{code}");
        }
    }

    #[test]
    fn names_the_innermost_cause() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = service(io::Error::new(io::ErrorKind::InvalidData, inner));
        assert_eq!(cause(&error), "invalid peer certificate: UnknownIssuer");
    }
}
