//! Secrets and `ConfigMaps` that the control plane mounts.

use anyhow::Result;
use serde_json::{Value, json};

use super::call::Call;
use super::case::{Cases, label, object};
use super::seed::{
    self, Leaf, SYSTEM, TEAM, World, authority, configurations, data, encryption, kubeconfig, public,
};

const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
const NAMESPACES: &str = "system:serviceaccount:kube-system:namespace-controller";
const LABEL: &str = "a label more";

/// What must not come out of the guard.
pub(crate) const CANARY: &str = "canary-5e1f0b7a";

fn secret(name: &str) -> String {
    format!("{SYSTEM}/secrets/{name}")
}

fn map(name: &str) -> String {
    format!("{SYSTEM}/configmaps/{name}")
}

/// Other values in a Secret.
fn put(name: &str, values: &[(&str, &str)]) -> Call {
    Call::merge(&secret(name), &json!({"data": data(values)}))
}

/// Another value in a `ConfigMap`.
fn write(name: &str, key: &str, value: &str) -> Call {
    Call::merge(&map(name), &json!({"data": {key: value}}))
}

pub(crate) fn cases(world: &World, cases: &mut Cases) -> Result<()> {
    lost(cases);
    kinds_of_edit(cases);
    certificates(world, cases)?;
    keys(world, cases)?;
    config_maps(cases);
    large(cases)?;
    Ok(())
}

fn lost(cases: &mut Cases) {
    let other = Call::delete(&secret("mine"));
    let collection = |kind: &str, name: &str| {
        Call::delete(&format!("{SYSTEM}/{kind}?fieldSelector=metadata.name%3D{name}"))
    };
    cases
        .of(2)
        .add(
            "`deletecollection` of Secrets",
            "SEC-1",
            collection("secrets", "ca"),
            "of others",
            collection("secrets", "mine"),
        )
        .add(
            "`deletecollection` of ConfigMaps",
            "CM-1",
            collection("configmaps", "apiserver-config"),
            "of others",
            collection("configmaps", "mine"),
        )
        .of(3)
        .add("DELETE of a Secret", "SEC-1", Call::delete(&secret("sa")), "of another", other.clone())
        .add(
            "DELETE of a ConfigMap",
            "CM-1",
            Call::delete(&map("apiserver-config")),
            "of another",
            Call::delete(&map("mine")),
        )
        .add(
            "DELETE of kubeadm's ConfigMap",
            "CM-3",
            Call::delete(&map("kubeadm-config")),
            "of another",
            Call::delete(&map("mine")),
        )
        .of(4)
        .add(
            "DELETE of a Secret by the garbage collector",
            "SEC-1",
            Call::delete(&secret("ca")).by(COLLECTOR),
            "of another",
            other.clone().by(COLLECTOR),
        )
        .of(7)
        .add(
            "`deletecollection` of Secrets by the namespace controller",
            "SEC-1",
            collection("secrets", "ca").by(NAMESPACES),
            "of others",
            collection("secrets", "mine").by(NAMESPACES),
        );
}

fn kinds_of_edit(cases: &mut Cases) {
    let (path, keys) = (secret("apiserver"), secret("sa"));
    let less = json!({"data": {"sa.pub": null}});
    let frozen = object("v1/Secret", "kube-system", "apiserver", &json!({"immutable": true}));
    let labelled = object(
        "v1/Secret",
        "kube-system",
        "apiserver",
        &json!({"metadata": {"labels": {"example.org/team": "a"}}}),
    );
    cases
        .of(9)
        .add("merge patch of a Secret", "SEC-1", Call::merge(&keys, &less), LABEL, label(&keys))
        .add(
            "JSON patch of a Secret",
            "SEC-2",
            Call::json(&path, &json!([{"op": "replace", "path": "/data/tls.crt", "value": ""}])),
            LABEL,
            Call::json(
                &path,
                &json!([{"op": "add", "path": "/metadata/labels", "value": {"example.org/team": "a"}}]),
            ),
        )
        .add(
            "strategic merge patch of a Secret",
            "SEC-1",
            Call::strategic(&path, &json!({"immutable": true})),
            LABEL,
            Call::strategic(&path, &json!({"metadata": {"labels": {"example.org/team": "a"}}})),
        )
        .add(
            "server-side apply of a Secret",
            "SEC-1",
            Call::apply(&path, &frozen),
            LABEL,
            Call::apply(&path, &labelled),
        )
        .add(
            "`stringData` in a Secret",
            "SEC-2",
            Call::merge(&path, &json!({"stringData": {"tls.key": "no key"}})),
            LABEL,
            label(&path),
        );
}

fn certificates(world: &World, cases: &mut Cases) -> Result<()> {
    let pki = &world.pki;
    let server = Leaf { name: "kube-apiserver", serves: true, ..Leaf::default() };
    let pair = |pair: &(String, String)| put("apiserver", &[("tls.crt", &pair.0), ("tls.key", &pair.1)]);
    let (fresh, another) = (pki.issue(&server)?, pki.issue(&server)?);
    let renewed = "a renewed certificate";
    let client = Leaf { name: "kube-apiserver", ..Leaf::default() };
    let kubelet_client = Leaf { name: "kube-apiserver-kubelet-client", ..Leaf::default() };
    let masters = pki.issue(&Leaf { organization: Some("system:masters"), ..kubelet_client })?;
    let kubelet = pki.issue(&Leaf { name: "kube-apiserver-kubelet-client", ..Leaf::default() })?;
    let of_kubelet = |pair: &(String, String)| {
        put("apiserver-kubelet-client", &[("tls.crt", &pair.0), ("tls.key", &pair.1)])
    };
    let strange = seed::issue(&pki.other, &server)?;
    cases
        .of(18)
        .add(
            "a certificate for `system:masters` in a Secret",
            "SEC-4",
            of_kubelet(&masters),
            renewed,
            of_kubelet(&kubelet),
        )
        .of(32)
        .add(
            "a certificate with another's key",
            "SEC-2",
            put("apiserver", &[("tls.crt", &fresh.0), ("tls.key", &another.1)]),
            renewed,
            pair(&fresh),
        )
        .add(
            "a certificate that lapses soon",
            "SEC-3",
            pair(&pki.issue(&Leaf { lasts: 2, name: "kube-apiserver", serves: true, ..Leaf::default() })?),
            renewed,
            pair(&fresh),
        )
        .add(
            "a client's certificate to serve with",
            "SEC-4",
            pair(&pki.issue(&client)?),
            renewed,
            pair(&fresh),
        )
        .add(
            "a certificate of an authority that nobody knows",
            "SEC-6",
            pair(&strange),
            renewed,
            pair(&fresh),
        )
        .of(33)
        .add(
            "a Secret that cannot be read, with a canary in it",
            "SEC-2",
            put(
                "apiserver",
                &[(
                    "tls.key",
                    &format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"),
                )],
            ),
            renewed,
            pair(&fresh),
        );
    Ok(())
}

fn keys(world: &World, cases: &mut Cases) -> Result<()> {
    let pki = &world.pki;
    let (old, new) = (public(pki.account()), public(pki.other.key()));
    let both = format!("{}{}", pki.ca(), pki.other.pem());
    let user = Leaf { name: "system:kube-scheduler", ..Leaf::default() };
    let (certificate, key) = pki.issue(&user)?;
    let config = |server: &str| {
        let text = kubeconfig(server, &pki.ca(), &certificate, &key);
        put("scheduler.conf", &[("scheduler.conf", &text)])
    };
    cases
        .of(32)
        .add(
            "an authority replaced in one step",
            "SEC-6",
            put("ca", &[("tls.crt", &pki.other.pem()), ("tls.key", &pki.other.key().serialize_pem())]),
            "the new one beside the old",
            put("ca", &[("tls.crt", &both)]),
        )
        .add(
            "the key of ServiceAccounts replaced in one step",
            "SEC-7",
            put("sa", &[("sa.pub", &new), ("sa.key", &pki.other.key().serialize_pem())]),
            "the new public half beside the old",
            put("sa", &[("sa.pub", &format!("{old}{new}"))]),
        )
        .add(
            "a key of the encryption at rest lost",
            "SEC-8",
            put("encryption", &[("encryption.yaml", &encryption(&["two"]))]),
            "a second key",
            put("encryption", &[("encryption.yaml", &encryption(&["one", "two"]))]),
        )
        .add(
            "a kubeconfig that leads elsewhere",
            "SEC-9",
            config("https://192.0.2.9:6443"),
            "one with a renewed certificate",
            config("https://10.0.0.10:6443"),
        );
    Ok(())
}

fn config_maps(cases: &mut Cases) {
    let path = map("apiserver-config");
    let audit = |rest: &str| {
        write(
            "apiserver-config",
            "audit.yaml",
            &format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rest}\n"),
        )
    };
    let manifest = configurations()["guard.yaml"].as_str().unwrap_or_default().to_owned();
    let version = |line: &str| write("kubeadm-config", "ClusterConfiguration", line);
    let recorded = "the version that runs";
    cases
        .of(15)
        .add(
            "a static manifest that fails open",
            "CM-4",
            write("apiserver-config", "guard.yaml", &manifest.replace("Fail", "Ignore")),
            LABEL,
            label(&path),
        )
        .add(
            "a static manifest taken out of its ConfigMap",
            "CM-4",
            write("apiserver-config", "guard.yaml", ""),
            "a comment in it",
            write("apiserver-config", "guard.yaml", &format!("# ours\n{manifest}")),
        )
        .of(32)
        .add(
            "a ConfigMap's key lost",
            "CM-1",
            Call::merge(&path, &json!({"data": {"audit.yaml": null}})),
            "a key more",
            write("apiserver-config", "mine.yaml", "a: b"),
        )
        .add(
            "a ConfigMap frozen",
            "CM-1",
            Call::merge(&path, &json!({"immutable": true})),
            LABEL,
            label(&path),
        )
        .add(
            "an audit policy that drops everything",
            "CM-2",
            audit("rules: [{level: None}]"),
            "one that tells more",
            audit("rules: [{level: RequestResponse}]"),
        )
        .add(
            "another kind of configuration under a flag",
            "CM-2",
            write("apiserver-config", "audit.yaml", "apiVersion: v1\nkind: ConfigMap\n"),
            "one that tells more",
            audit("rules: [{level: RequestResponse}]"),
        )
        .add(
            "what `kubeadm join` reads",
            "CM-3",
            version("kubernetesVersion: v1.36.2\nclusterName: b"),
            recorded,
            version("kubernetesVersion: v1.36.3\nclusterName: a"),
        )
        .add(
            "whom extension servers believe",
            "CM-3",
            Call::merge(
                &map("extension-apiserver-authentication"),
                &json!({"data": {"client-ca-file": "x"}}),
            ),
            "as the API server",
            Call::merge(
                &map("extension-apiserver-authentication"),
                &json!({"data": {"client-ca-file": "x"}}),
            )
            .by("system:apiserver"),
        )
        .add(
            "what nodes that join believe",
            "CM-3",
            Call::merge(
                "/api/v1/namespaces/kube-public/configmaps/cluster-info",
                &json!({"data": {"kubeconfig": "y"}}),
            ),
            "a signature, by its signer",
            Call::merge(
                "/api/v1/namespaces/kube-public/configmaps/cluster-info",
                &json!({"data": {"jws-kubeconfig-abc": "z"}}),
            )
            .by("system:serviceaccount:kube-system:bootstrap-signer"),
        )
        .add(
            "what the Pods of a namespace believe",
            "CM-3",
            Call::merge(&format!("{TEAM}/configmaps/kube-root-ca.crt"), &json!({"data": {"ca.crt": "y"}})),
            "another ConfigMap there",
            Call::merge(&format!("{TEAM}/configmaps/mine"), &json!({"data": {"a": "c"}})),
        );
}

/// Padding and slow paths: what is too large or too much work must not get through for it.
fn large(cases: &mut Cases) -> Result<()> {
    let padding = "x".repeat(900 * 1024);
    let padded = |content: &Value| {
        let mut patch = content.clone();
        patch["data"]["padding"] = data(&[("a", &padding)])["a"].clone();
        patch
    };
    let path = secret("encryption");
    let mut many = String::new();
    for index in 0..40 {
        many += &authority(&format!("other-{index}"))?.pem();
    }
    cases
        .of(12)
        .add(
            "a Secret of almost 1 MiB with a key less",
            "SEC-1",
            Call::merge(&path, &padded(&json!({"data": {"encryption.yaml": null}}))),
            "the padding alone",
            Call::merge(&path, &padded(&json!({"data": {}}))),
        )
        .of(13)
        .add(
            "an authority that leaves a bundle of forty",
            "SEC-6",
            put("ca", &[("tls.crt", &many)]),
            LABEL,
            label(&secret("ca")),
        )
        .but(super::case::Case::or_late);
    Ok(())
}
