//! Certificates, keys and requests of the cases, with what each of them is: known because it was made so, and not read.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    SignatureAlgorithm,
};

use crate::rules::testing::pki;
use crate::x509::testing::{Authority, Leaf};

/// What a certificate is.
#[expect(clippy::struct_excessive_bools, reason = "they are independent")]
#[derive(Debug)]
pub(super) struct Certificate {
    /// Tells it from all others.
    pub(super) id: usize,
    pub(super) subject: String,
    pub(super) name: &'static str,
    pub(super) names: Vec<&'static str>,
    pub(super) for_servers: bool,
    pub(super) for_clients: bool,
    pub(super) authority: bool,
    /// In `system:masters`.
    pub(super) master: bool,
    /// When it is valid, in seconds since 1970.
    pub(super) since: i64,
    pub(super) until: i64,
    /// Its key, and the key that signed it: by number.
    pub(super) key: usize,
    pub(super) issuer: usize,
    pub(super) issuer_name: String,
    pub(super) weak: bool,
}

/// What a block of PEM is.
enum What {
    Certificate(Certificate),
    /// A key by its number, where it is of a kind that is read.
    Private(Option<usize>),
    Public(usize),
    /// Who it asks to be, and of which group.
    Request(&'static str, &'static str),
}

/// Everything that was made.
pub(super) struct Made {
    /// By the base64 between its lines.
    blocks: BTreeMap<String, What>,
    /// Certificate and key by what the cases call them; authorities alone have both halves of their key too.
    pairs: BTreeMap<&'static str, (String, String)>,
    publics: BTreeMap<&'static str, String>,
    requests: BTreeMap<(&'static str, &'static str), String>,
}

/// Days since 1970 of the days that the cases use.
fn seconds((year, month, day): (i32, u8, u8)) -> i64 {
    let days = match (year, month, day) {
        (2026, 1, 1) => 20_454,
        (2027, 1, 1) => 20_819,
        (2027, 1, 15) => 20_833,
        (2027, 1, 16) => 20_834,
        (2027, 1, 20) => 20_838,
        (2027, 6, 1) => 20_970,
        (2028, 1, 1) => 21_184,
        (2029, 1, 1) => 21_550,
        (2036, 1, 1) => 24_106,
        (2037, 1, 1) => 24_472,
        other => unreachable!("{other:?}"),
    };
    days * 86_400
}

fn body(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

impl Made {
    fn add(&mut self, pem: &str, what: What) {
        self.blocks.insert(body(pem), what);
    }

    fn authority(
        &mut self,
        name: &'static str,
        subject: &str,
        key: usize,
        authority: &Authority,
        until: (i32, u8, u8),
    ) {
        let certificate = Certificate {
            id: self.blocks.len(),
            subject: format!("CN={subject}"),
            name: "",
            names: Vec::new(),
            for_servers: false,
            for_clients: false,
            authority: true,
            master: false,
            since: seconds((2026, 1, 1)),
            until: seconds(until),
            key,
            issuer: key,
            issuer_name: format!("CN={subject}"),
            weak: false,
        };
        let public = authority.public_key();
        self.add(&authority.pem(), What::Certificate(certificate));
        self.add(&authority.key(), What::Private(Some(key)));
        self.add(&public, What::Public(key));
        self.pairs.insert(name, (authority.pem(), authority.key()));
        self.publics.insert(name, public);
    }

    fn leaf(
        &mut self,
        name: &'static str,
        by: (&Authority, &str, usize),
        leaf: &Leaf,
        kind: &'static SignatureAlgorithm,
    ) {
        let key = 100 + self.blocks.len();
        let weak = std::ptr::eq(kind, &raw const PKCS_ED25519);
        let certificate = Certificate {
            id: self.blocks.len(),
            subject: format!("CN={},O={:?}", leaf.name, leaf.organizations),
            name: leaf.name,
            names: leaf.names.clone(),
            for_servers: leaf.purposes.contains(&ServerAuth) || leaf.purposes.contains(&Any),
            for_clients: leaf.purposes.contains(&ClientAuth) || leaf.purposes.contains(&Any),
            authority: leaf.is_authority,
            master: leaf.organizations.contains(&"system:masters"),
            since: seconds(leaf.since),
            until: seconds(leaf.until),
            key,
            issuer: by.2,
            issuer_name: format!("CN={}", by.1),
            weak,
        };
        let (pem, private) = by.0.issue_with(leaf, kind);
        self.add(&pem, What::Certificate(certificate));
        self.add(&private, What::Private((!weak).then_some(key)));
        self.pairs.insert(name, (pem, private));
    }

    /// The certificate that the cases call so.
    pub(super) fn certificate(&self, name: &str) -> &str {
        &self.pairs[name].0
    }

    /// Its key.
    pub(super) fn key(&self, name: &str) -> &str {
        &self.pairs[name].1
    }

    /// The public half of an authority's key.
    pub(super) fn public(&self, name: &str) -> &str {
        &self.publics[name]
    }

    /// A request for a certificate, in base64.
    pub(super) fn request(&self, name: &'static str, group: &'static str) -> &str {
        &self.requests[&(name, group)]
    }
}

/// All of it, made once.
pub(super) fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(make)
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn make() -> Made {
    let mut made = Made {
        blocks: BTreeMap::new(),
        pairs: BTreeMap::new(),
        publics: BTreeMap::new(),
        requests: BTreeMap::new(),
    };
    let pki = pki();
    let (twin, short) = (Authority::new("kubernetes"), Authority::until("short", (2027, 1, 1)));
    let renewed = pki.cluster.renewed("kubernetes", (2037, 1, 1));
    let usual = (2036, 1, 1);
    made.authority("cluster", "kubernetes", 0, &pki.cluster, usual);
    made.authority("front", "front-proxy-ca", 1, &pki.front_proxy, usual);
    made.authority("etcd", "etcd-ca", 2, &pki.etcd, usual);
    made.authority("other", "other", 3, &pki.other, usual);
    made.authority("twin", "kubernetes", 4, &twin, usual);
    made.authority("short", "short", 5, &short, (2027, 1, 1));
    made.add(
        &renewed,
        What::Certificate(Certificate {
            id: made.blocks.len(),
            subject: "CN=kubernetes".to_owned(),
            name: "",
            names: Vec::new(),
            for_servers: false,
            for_clients: false,
            authority: true,
            master: false,
            since: seconds((2026, 1, 1)),
            until: seconds((2037, 1, 1)),
            key: 0,
            issuer: 0,
            issuer_name: "CN=kubernetes".to_owned(),
            weak: false,
        }),
    );
    made.pairs.insert("renewed", (renewed, pki.cluster.key()));
    let cluster = (&pki.cluster, "kubernetes", 0);
    let front = (&pki.front_proxy, "front-proxy-ca", 1);
    let etcd = (&pki.etcd, "etcd-ca", 2);
    let other = (&pki.other, "other", 3);
    let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
    let server = Leaf::server;
    let without = |name: &str| {
        let mut leaf = Leaf::server();
        leaf.names.retain(|it| *it != name);
        leaf
    };
    let with = |name: &'static str| {
        let mut leaf = Leaf::server();
        leaf.names.push(name);
        leaf
    };
    for (name, by, leaf, kind) in [
        ("server", cluster, server(), p256),
        ("server-p384", cluster, server(), &PKCS_ECDSA_P384_SHA384),
        ("server-ed25519", cluster, server(), &PKCS_ED25519),
        ("server-longer", cluster, Leaf { until: (2029, 1, 1), ..server() }, p256),
        ("server-shorter", cluster, Leaf { until: (2027, 6, 1), ..server() }, p256),
        ("server-ending", cluster, Leaf { until: (2027, 1, 20), ..server() }, p256),
        ("server-expired", cluster, Leaf { until: (2027, 1, 1), ..server() }, p256),
        ("server-early", cluster, Leaf { since: (2027, 1, 16), until: (2029, 1, 1), ..server() }, p256),
        ("server-today", cluster, Leaf { since: (2027, 1, 15), ..server() }, p256),
        ("server-more", cluster, with("10.0.0.12"), p256),
        ("server-less", cluster, without("cp1"), p256),
        ("server-no-service", cluster, without("10.96.0.1"), p256),
        ("server-no-short", cluster, without("kubernetes"), p256),
        ("server-wild", cluster, Leaf { names: vec!["*.example.org"], ..server() }, p256),
        ("server-nameless", cluster, Leaf { names: vec![], ..server() }, p256),
        ("server-for-clients", cluster, Leaf { purposes: vec![ClientAuth], ..server() }, p256),
        ("server-for-all", cluster, Leaf { purposes: vec![Any], ..server() }, p256),
        ("server-for-none", cluster, Leaf { purposes: vec![], ..server() }, p256),
        ("server-authority", cluster, Leaf { is_authority: true, ..server() }, p256),
        ("server-master", cluster, Leaf { organizations: vec!["system:masters"], ..server() }, p256),
        ("server-of-other", other, server(), p256),
        ("server-of-twin", (&twin, "kubernetes", 4), server(), p256),
        ("kubelet", cluster, Leaf::new("kube-apiserver-kubelet-client"), p256),
        (
            "kubelet-longer",
            cluster,
            Leaf { until: (2029, 1, 1), ..Leaf::new("kube-apiserver-kubelet-client") },
            p256,
        ),
        (
            "kubelet-master",
            cluster,
            Leaf {
                organizations: vec!["dev", "system:masters"],
                ..Leaf::new("kube-apiserver-kubelet-client")
            },
            p256,
        ),
        (
            "kubelet-for-servers",
            cluster,
            Leaf { purposes: vec![ServerAuth], ..Leaf::new("kube-apiserver-kubelet-client") },
            p256,
        ),
        ("etcd-client", etcd, Leaf::new("kube-apiserver-etcd-client"), p256),
        ("front-proxy", front, Leaf::new("front-proxy-client"), p256),
        ("front-proxy-longer", front, Leaf { until: (2029, 1, 1), ..Leaf::new("front-proxy-client") }, p256),
        ("front-proxy-x", front, Leaf::new("x"), p256),
        ("front-proxy-of-other", other, Leaf::new("front-proxy-client"), p256),
        ("scheduler", cluster, Leaf::new("system:kube-scheduler"), p256),
        (
            "scheduler-master",
            cluster,
            Leaf { organizations: vec!["system:masters"], ..Leaf::new("system:kube-scheduler") },
            p256,
        ),
        (
            "scheduler-expired",
            cluster,
            Leaf { until: (2027, 1, 1), ..Leaf::new("system:kube-scheduler") },
            p256,
        ),
        (
            "scheduler-for-servers",
            cluster,
            Leaf { purposes: vec![ServerAuth], ..Leaf::new("system:kube-scheduler") },
            p256,
        ),
        ("scheduler-of-other", other, Leaf::new("system:kube-scheduler"), p256),
        ("manager", cluster, Leaf::new("system:kube-controller-manager"), p256),
    ] {
        made.leaf(name, by, &leaf, kind);
    }
    for (name, group) in REQUESTS {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        made.add(&pem, What::Request(name, group));
        made.requests.insert((name, group), STANDARD.encode(pem));
    }
    made
}

/// Who the requests for certificates ask to be.
pub(super) const REQUESTS: [(&str, &str); 5] = [
    ("bob", "dev"),
    ("bob", "system:masters"),
    ("system:kube-controller-manager", "x"),
    ("system:node:w", "system:nodes"),
    ("systematic", "x"),
];

/// The blocks of a text by label, with what each is; `None` where any cannot be read as a block.
fn blocks(text: &str) -> Option<Vec<(String, Option<&'static What>)>> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines().map(str::trim_end) {
        match &mut open {
            Some((label, body)) => {
                if line == format!("-----END {label}-----") {
                    STANDARD.decode(&*body).ok()?;
                    found.push((label.clone(), made().blocks.get(&*body)));
                    open = None;
                } else if line.contains(':') {
                    return None;
                } else {
                    body.push_str(line.trim());
                }
            }
            None if line.contains("-----BEGIN") => {
                let label = line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
                open = Some((label.to_owned(), String::new()));
            }
            None => {}
        }
    }
    open.is_none().then_some(found)
}

/// The certificates of a text; `None` where anything in it cannot be read.
pub(super) fn certificates(text: &str) -> Option<Vec<&'static Certificate>> {
    let mut found = Vec::new();
    for (label, what) in blocks(text)? {
        match what {
            Some(What::Certificate(certificate)) if label == "CERTIFICATE" => found.push(certificate),
            _ if label == "CERTIFICATE" => return None,
            _ => {}
        }
    }
    Some(found)
}

/// Whether a private key is among the blocks.
pub(super) fn has_private(text: &str) -> bool {
    blocks(text).is_some_and(|it| it.iter().any(|(label, _)| label.ends_with("PRIVATE KEY")))
}

/// The one private key of a text.
pub(super) fn private_key(text: &str) -> Option<usize> {
    let all = blocks(text)?;
    let keys: Vec<_> = all.iter().filter(|(label, _)| label.ends_with("PRIVATE KEY")).collect();
    match keys.as_slice() {
        [(_, Some(What::Private(key)))] => *key,
        _ => None,
    }
}

/// Every key of a text, by its public half.
pub(super) fn public_keys(text: &str) -> Option<Vec<usize>> {
    let all = blocks(text)?;
    all.iter()
        .map(|(_, what)| match what {
            Some(What::Certificate(certificate)) => Some(certificate.key),
            Some(What::Private(key)) => *key,
            Some(What::Public(key)) => Some(*key),
            _ => None,
        })
        .collect()
}

/// Who a request asks to be, and of which group.
pub(super) fn requested(text: &str) -> Option<(&'static str, &'static str)> {
    blocks(text)?.iter().find_map(|(_, what)| match what {
        Some(What::Request(name, group)) => Some((*name, *group)),
        _ => None,
    })
}
