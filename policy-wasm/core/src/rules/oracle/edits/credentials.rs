//! Edits of Secrets.

use serde_json::{Value, json};

use super::{Edit, METADATA, at, forget, push};
use crate::rules::oracle::pki::made;
use crate::rules::testing::{encryption, kubeconfig, put};

/// What a file of certificates may become.
fn chain(n: usize) -> String {
    let made = made();
    let names = [
        "server",
        "server-longer",
        "server-shorter",
        "server-more",
        "server-p384",
        "server-today",
        "kubelet",
        "kubelet-longer",
        "etcd-client",
        "front-proxy",
        "front-proxy-longer",
        "cluster",
        "renewed",
        "twin",
        "other",
        "front",
        "etcd",
        "short",
        "server-ed25519",
        "server-ending",
        "server-expired",
        "server-early",
        "server-less",
        "server-no-service",
        "server-no-short",
        "server-wild",
        "server-nameless",
        "server-for-clients",
        "server-for-all",
        "server-for-none",
        "server-authority",
        "server-master",
        "server-of-other",
        "server-of-twin",
        "kubelet-master",
        "kubelet-for-servers",
        "front-proxy-x",
        "front-proxy-of-other",
    ];
    let authorities = ["cluster", "renewed", "twin", "other", "front", "etcd", "short"];
    let one = made.certificate(names[n % names.len()]);
    let authority = made.certificate(authorities[n / names.len() % 7]);
    let n = n / (names.len() * 7);
    match n % 12 {
        0..4 => one.to_owned(),
        4 => format!("{one}{authority}"),
        5 => format!("{authority}{one}"),
        6 => format!("{}{authority}", made.certificate("cluster")),
        7 => format!("subject: CN=x\n{one}").replace('\n', "\r\n"),
        8 => one[..one.len() / 2].to_owned(),
        9 => format!("{one}{}", made.key("other")),
        10 => format!("x{one}"),
        _ => {
            ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", made.key("other")]
                [n / 12 % 4]
                .to_owned()
        }
    }
}

fn key(n: usize) -> String {
    let made = made();
    let names = [
        "server",
        "server-longer",
        "server-p384",
        "server-ed25519",
        "kubelet",
        "kubelet-longer",
        "other",
        "twin",
        "cluster",
    ];
    let one = made.key(names[n % names.len()]);
    match n / names.len() % 8 {
        0 => String::new(),
        1 => format!("{one}{}", made.key("other")),
        2 => {
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
                .to_owned()
        }
        3 => format!("# a key\n{one}"),
        _ => one.to_owned(),
    }
}

/// Writes into a Secret what it is made for.
fn rotate(object: &mut Value, n: usize) {
    let name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
    if !object["data"].is_object() {
        object["data"] = json!({});
    }
    match name.as_str() {
        "sa" => {
            let made = made();
            let (old, new) = (made.public("other"), made.public("twin"));
            let (field, text) = [
                ("sa.pub", format!("{old}{new}")),
                ("sa.pub", new.to_owned()),
                ("sa.pub", String::new()),
                ("sa.pub", format!("{}{new}", made.certificate("other"))),
                ("sa.pub", format!("{new}{}", made.key("other"))),
                ("sa.key", made.key("twin").to_owned()),
                ("sa.key", old.to_owned()),
                ("sa.key", made.key("other").to_owned()),
                ("sa.key", made.key("server-ed25519").to_owned()),
                ("sa.pub", format!("{old}x-----BEGIN")),
            ][n % 10]
                .clone();
            put(object, field, &text);
        }
        "encryption" => put(object, "encryption.yaml", &encrypting(n)),
        "scheduler.conf" | "controller-manager.conf" => put(object, &name, &configuring(n)),
        _ => {
            // Mostly a certificate with its own key.
            let made = made();
            let fitting = match name.as_str() {
                "apiserver" => [
                    "server",
                    "server-longer",
                    "server-more",
                    "server-p384",
                    "server-shorter",
                    "server-less",
                    "server-master",
                    "server-of-twin",
                ],
                "apiserver-kubelet-client" => [
                    "kubelet",
                    "kubelet-longer",
                    "kubelet-master",
                    "kubelet-for-servers",
                    "kubelet",
                    "server",
                    "other",
                    "kubelet-longer",
                ],
                "front-proxy-client" => [
                    "front-proxy",
                    "front-proxy-longer",
                    "front-proxy-x",
                    "front-proxy-of-other",
                    "front-proxy",
                    "front-proxy-longer",
                    "kubelet",
                    "front",
                ],
                _ => ["cluster", "renewed", "twin", "front", "etcd", "other", "short", "etcd-client"],
            }[n / 2 % 8];
            if n.is_multiple_of(2) {
                put(object, "tls.crt", made.certificate(fitting));
                put(object, "tls.key", made.key(fitting));
            } else if (n / 16).is_multiple_of(2) {
                put(object, "tls.crt", &chain(n / 32));
            } else {
                put(object, "tls.crt", made.certificate(fitting));
                put(object, "tls.key", &key(n / 32));
            }
        }
    }
}

fn encrypting(n: usize) -> String {
    let orders: [&[&str]; 7] = [
        &["one"],
        &["one", "two"],
        &["two", "one"],
        &["one", "three", "two"],
        &["three", "one", "two"],
        &["two"],
        &[],
    ];
    let text = encryption(orders[n % 7]);
    let mut value: Value = serde_json::from_str(&text).unwrap();
    match n / 7 % 10 {
        0 => return format!("# rotated\n{text}"),
        1 => {
            *at(&mut value, &["resources", "0", "providers", "0", "aescbc", "keys", "0", "secret"]) =
                json!("AAAA")
        }
        2 => {
            let keys = value["resources"][0]["providers"][0]["aescbc"].take();
            value["resources"][0]["providers"][0] = json!({"secretbox": keys});
        }
        3 => value["resources"][0]["providers"].as_array_mut().unwrap().reverse(),
        4 => push(&mut value["resources"][0]["resources"], json!("configmaps")),
        5 => value["resources"][0]["resources"] = json!([(["configmaps", "secrets."][n / 70 % 2])]),
        6 => value["resources"]
            .as_array_mut()
            .unwrap()
            .insert(0, json!({"resources": ["secrets"], "providers": [{"identity": {}}]})),
        7 => push(
            &mut value["resources"][0]["providers"],
            json!({"kms": {"name": "k", "endpoint": "unix:///k"}}),
        ),
        8 => {
            return [
                "{",
                "",
                "kind: Config",
                "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n",
            ][n / 70 % 4]
                .to_owned();
        }
        _ => {}
    }
    value.to_string()
}

fn configuring(n: usize) -> String {
    let made = made();
    let who = [
        "scheduler",
        "manager",
        "scheduler-master",
        "scheduler-expired",
        "scheduler-for-servers",
        "scheduler-of-other",
    ][n % 6];
    let authority = [
        made.certificate("cluster").to_owned(),
        format!("{}{}", made.certificate("cluster"), made.certificate("other")),
        made.certificate("renewed").to_owned(),
        made.certificate("twin").to_owned(),
        String::new(),
    ][n / 6 % 5]
        .clone();
    let server =
        ["https://10.0.0.10:6443", "https://10.0.0.10:6443", "https://evil.org", "http://10.0.0.10:6443"]
            [n / 30 % 4];
    let key = [made.key(who), made.key(who), made.key("other"), "x"][n / 120 % 4];
    let mut value: Value =
        serde_json::from_str(&kubeconfig(server, &authority, made.certificate(who), key)).unwrap();
    let (cluster, user) = ("/clusters/0/cluster", "/users/0/user");
    let mut set = |pointer: &str, field: &str, to: Value| value.pointer_mut(pointer).unwrap()[field] = to;
    match n / 480 % 20 {
        0 => set(cluster, "insecure-skip-tls-verify", json!(true)),
        1 => set(user, "exec", json!({"command": "sh"})),
        2 => set(user, "tokenFile", json!("/tmp/t")),
        3 => set(
            user,
            "client-key",
            json!(["/tmp/key", "/etc/kubernetes/key", "/etc/kubernetes/../key"][n / 9600 % 3]),
        ),
        4 => set(cluster, "proxy-url", json!("http://evil.org")),
        5 => set("", "current-context", json!("d")),
        6 => push(&mut value["users"], json!({"name": "u", "user": {"token": "x"}})),
        7 => {
            *value.pointer_mut(user).unwrap() =
                [json!({}), json!({"token": "x"}), json!({"client-certificate": "/etc/kubernetes/a"})]
                    [n / 9600 % 3]
                    .clone()
        }
        8 => set(cluster, "certificate-authority", json!("/etc/kubernetes/pki/ca.crt")),
        9 => set(cluster, "tls-server-name", json!(["", "x"][n / 9600 % 2])),
        10 => return ["{", "", "[]"][n / 9600 % 3].to_owned(),
        11 => set(user, "client-key-data", json!(null)),
        _ => {}
    }
    value.to_string()
}

pub(in crate::rules::oracle) const SECRET: &[Edit] = &[
    rotate,
    rotate,
    rotate,
    rotate,
    |it, n| forget(at(it, &["data"]), n),
    |it, n| *at(it, &["data", "x"]) = json!(["", "not base64", "eA=="][n % 3]),
    |it, n| {
        *at(it, &["type"]) =
            json!(["Opaque", "kubernetes.io/tls", "kubernetes.io/service-account-token"][n % 3])
    },
    |it, n| *at(it, &["immutable"]) = json!(n % 3 < 2),
    |it, n| *at(it, &["stringData"]) = json!({"tls.crt": chain(n)}),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];
