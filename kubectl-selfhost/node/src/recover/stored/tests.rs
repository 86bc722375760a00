//! Values as Kubernetes' own code wrote them; `tests/fixtures/README.md` says how.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;

const KEY: &str = "/registry/daemonsets/kube-system/self-hosted-kube-apiserver";

const DAEMON_SET: &[u8] = include_bytes!("../../../tests/fixtures/daemonset.pb");

/// Every field of a template that is read has a value in one, and in the other the zero of its type.
const TEMPLATES: [(&[u8], &str); 2] = [
    (include_bytes!("../../../tests/fixtures/full.pb"), include_str!("../../../tests/fixtures/full.json")),
    (include_bytes!("../../../tests/fixtures/zero.pb"), include_str!("../../../tests/fixtures/zero.json")),
];

const ENCRYPTED: &str = include_str!("../../../tests/fixtures/encrypted.txt");

fn template_of(stored: &[u8]) -> Result<Value, Error> {
    template(stored.to_vec(), KEY, None)
}

/// Without empty strings, which say nothing, and are in JSON where a pointer or a habit puts them.
fn essence(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(key, value)| {
                *value != "" && !value.is_null() && !(key == "containerPort" && *value == 0)
            })
            .map(|(key, value)| (key, essence(value)))
            .collect(),
        Value::Array(list) => list.into_iter().map(essence).collect(),
        other => other,
    }
}

#[test]
fn protobuf_is_read_into_the_json_that_kubernetes_writes() {
    for (stored, json) in TEMPLATES {
        let expected: Value = serde_json::from_str(json).unwrap();
        assert_eq!(essence(template_of(stored).unwrap()), essence(expected));
    }
}

#[test]
fn a_daemonset_as_an_api_server_stores_it() {
    let template = template_of(DAEMON_SET).unwrap();
    let spec = &template["spec"];
    let container = &spec["containers"][0];
    assert_eq!(container["image"], "registry.k8s.io/kube-apiserver:v1.37.2");
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"], "status.hostIP");
    assert_eq!(container["livenessProbe"]["httpGet"]["port"], 6443);
    assert_eq!(container["resources"], json!({"requests": {"cpu": "250m"}}));
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(spec["volumes"][1]["hostPath"]["type"], "DirectoryOrCreate");
    assert_eq!(template["metadata"]["labels"]["tier"], "control-plane");
}

#[test]
fn json_is_read_as_it_is() {
    let stored =
        br#"{"apiVersion":"apps/v1","kind":"DaemonSet","spec":{"template":{"spec":{"hostNetwork":true}}}}"#;
    assert_eq!(template_of(stored).unwrap(), json!({"spec": {"hostNetwork": true}}));
}

#[test]
fn what_is_no_daemonset_is_refused() {
    let cut = &DAEMON_SET[..DAEMON_SET.len() - 7];
    for (stored, expected) in [
        (&b""[..], "the value is neither JSON nor protobuf of Kubernetes"),
        (b"\xd9\xd9\xf7", "the value is neither JSON nor protobuf of Kubernetes"),
        (b"{", "the value is no JSON"),
        (br#"{"apiVersion":"v1","kind":"Pod"}"#, "the value is a Pod of v1"),
        (br#"{"apiVersion":"apps/v1","kind":"DaemonSet","spec":{}}"#, "the DaemonSet has no template"),
        (b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod", "the value is a Pod of v1"),
        (b"k8s\0\x1a\x04gzip", "the value is compressed or wrapped (\"gzip\")"),
        (b"k8s\0\x2a\x01x", "the value is no protobuf"),
        (cut, "the value is no protobuf"),
    ] {
        assert_eq!(template_of(stored).unwrap_err().to_string(), expected, "{stored:x?}");
    }
}

#[test]
fn an_encrypted_value_is_opened_by_the_key_that_closed_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("encryption.yaml");
    let lines: Vec<Vec<&str>> = ENCRYPTED.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), 7, "three lengths of keys with each mode of AES, and secretbox");
    for line in &lines {
        let &[provider, secret, value] = &line[..] else { panic!("{line:?}") };
        let stored = STANDARD.decode(value).unwrap();
        let open = |stored: &[u8], key: &str| template(stored.to_vec(), key, Some(&file));
        // Among others, of which one has the same length.
        let wrong = STANDARD.encode([7; 32]);
        std::fs::write(&file, format!("- secret: {wrong}\n- secret: no-base64\n- secret: {secret}\n"))
            .unwrap();
        assert_eq!(open(&stored, KEY).unwrap()["spec"]["hostNetwork"], true, "{line:?}");
        let elsewhere = open(&stored, "/registry/elsewhere");
        assert_eq!(elsewhere.is_err(), provider == "aesgcm", "a value is bound to its place");
        assert!(open(&stored[..30], KEY).is_err(), "{line:?}");

        std::fs::write(&file, format!("- secret: {wrong}\n")).unwrap();
        let error = open(&stored, KEY).unwrap_err().to_string();
        let expected = format!("the value is encrypted ({provider}, key key1), and none of the 1 keys in ");
        assert!(error.starts_with(&expected), "{error}");
        let error = template(stored, KEY, None).unwrap_err().to_string();
        assert!(error.ends_with("and no file with its key is known"), "{error}");
    }
}

#[test]
fn what_nobody_here_can_open_is_named() {
    for (stored, expected) in [
        (
            "k8s:enc:kms:v2:vault:x",
            "the value is encrypted by a key management service (provider vault), which only an API server can ask",
        ),
        ("k8s:enc:rot13:v1:key1:x", "the value is encrypted in a way that is not known here: rot13:v1"),
        ("k8s:enc:aescbc:v2:key1:x", "the value is encrypted in a way that is not known here: aescbc:v2"),
        ("k8s:enc:", "the value is encrypted in a way that is not known here: :"),
    ] {
        assert_eq!(template_of(stored.as_bytes()).unwrap_err().to_string(), expected);
    }
}
