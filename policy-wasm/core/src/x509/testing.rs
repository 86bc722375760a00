//! Certificates for the tables: made anew, for one authority or another.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// A chain of two with RSA keys, as OpenSSL makes it: leaf, then authority. Valid for a hundred years.
pub(crate) const RSA_CHAIN: &str = include_str!("testing/rsa.crt");

/// The key of the leaf, in PKCS#1, as kubeadm writes it. It opens nothing.
pub(crate) const RSA_KEY: &str = include_str!("testing/rsa.key");

/// An authority that is valid from 2026 to 2036.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a leaf says. The tables' time is January 2027.
pub(crate) struct Leaf {
    pub(crate) name: &'static str,
    pub(crate) organizations: Vec<&'static str>,
    pub(crate) names: Vec<&'static str>,
    pub(crate) purposes: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) is_authority: bool,
    pub(crate) since: (i32, u8, u8),
    pub(crate) until: (i32, u8, u8),
}

impl Leaf {
    /// A client's, valid from 2026 to 2028.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            organizations: Vec::new(),
            names: Vec::new(),
            purposes: vec![ExtendedKeyUsagePurpose::ClientAuth],
            is_authority: false,
            since: (2026, 1, 1),
            until: (2028, 1, 1),
        }
    }

    /// An API server's.
    pub(crate) fn server() -> Self {
        Self {
            names: vec![
                "cp1",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
                "10.96.0.1",
                "10.0.0.11",
            ],
            purposes: vec![ExtendedKeyUsagePurpose::ServerAuth],
            ..Self::new("kube-apiserver")
        }
    }
}

impl Authority {
    pub(crate) fn new(name: &'static str) -> Self {
        Self::until(name, (2036, 1, 1))
    }

    pub(crate) fn until(name: &'static str, until: (i32, u8, u8)) -> Self {
        Self(CertifiedIssuer::self_signed(Self::params(name, until), KeyPair::generate().unwrap()).unwrap())
    }

    fn params(name: &'static str, until: (i32, u8, u8)) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        params
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn public_key(&self) -> String {
        use rcgen::PublicKeyData as _;
        let spki = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            self.0.key().subject_public_key_info(),
        );
        format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n")
    }

    pub(crate) fn key(&self) -> String {
        self.0.key().serialize_pem()
    }

    /// Another certificate of the same key.
    pub(crate) fn renewed(&self, name: &'static str, until: (i32, u8, u8)) -> String {
        let params = Self::params(name, until);
        params.self_signed(self.0.key()).unwrap().pem()
    }

    /// A certificate and its key.
    pub(crate) fn issue(&self, leaf: &Leaf) -> (String, String) {
        self.issue_with(leaf, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// A certificate and its key, of this kind.
    pub(crate) fn issue_with(
        &self,
        leaf: &Leaf,
        kind: &'static rcgen::SignatureAlgorithm,
    ) -> (String, String) {
        let mut params =
            CertificateParams::new(leaf.names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, leaf.name);
        for organization in &leaf.organizations {
            params.distinguished_name.push(DnType::OrganizationName, *organization);
        }
        params.extended_key_usages = leaf.purposes.clone();
        if leaf.is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.not_before = date_time_ymd(leaf.since.0, leaf.since.1, leaf.since.2);
        params.not_after = date_time_ymd(leaf.until.0, leaf.until.1, leaf.until.2);
        let key = KeyPair::generate_for(kind).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}
