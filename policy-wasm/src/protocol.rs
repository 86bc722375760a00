//! The operations of Kubewarden's protocol.
//!
//! Invariant: `validate` answers whatever it is given. A request that it cannot read is one that it does not accept.

use std::collections::BTreeMap;

use selfhost_core::review::settings::BadSettings;
use selfhost_core::review::{Facts, NotAReview, Request, Settings, Verdict, Violation};
use selfhost_core::rules;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::lookup::{self, Host};

/// The version of the protocol.
pub(crate) const VERSION: &str = "v1";

/// The status of a request that is denied.
const FORBIDDEN: u16 = 403;

/// The status where the settings are at fault, and not the request.
const INTERNAL: u16 = 500;

/// What `validate` is given.
#[derive(Deserialize)]
struct Envelope<'a> {
    request: Request,
    #[serde(borrow, default)]
    settings: Option<&'a RawValue>,
    /// The host's time in seconds since 1970. Kubewarden's hosts do not tell it: there, what depends on it is denied.
    #[serde(default)]
    now: Option<i64>,
}

/// What `validate` answers.
#[derive(Debug, Default, Serialize)]
struct Validation {
    accepted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<&'static str, String>,
}

/// What `validate_settings` answers.
#[derive(Serialize)]
struct SettingsValidation {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Runs an operation: its response in JSON, or why there is none.
pub fn call(operation: &str, payload: &[u8], host: &mut impl Host) -> Result<Vec<u8>, String> {
    match operation {
        "validate" => serialize(&validate(payload, host)),
        "validate_settings" => serialize(&validate_settings(payload)),
        "protocol_version" => serialize(&VERSION),
        _ => Err(format!(
            "the policy has no operation {operation:?}; it has validate, validate_settings and protocol_version"
        )),
    }
}

fn validate(payload: &[u8], host: &mut impl Host) -> Validation {
    let Envelope { request, settings, now } = match serde_json::from_slice(payload) {
        Ok(envelope) => envelope,
        Err(error) => return Validation::of(&rules::unreadable(&NotAReview::from(error))),
    };
    // Validated again, and not only by `validate_settings`: with a host that forgot to ask, a rule would silently be off.
    let settings =
        match settings.map_or_else(|| Ok(Settings::default()), |it| Settings::parse(it.get().as_bytes())) {
            Ok(settings) => settings,
            Err(error) => {
                let message = Some(format!("the policy's settings are refused: {}", explained(&error)));
                return Validation { message, code: Some(INTERNAL), ..Validation::default() };
            }
        };
    let facts = now.map_or_else(Facts::default, Facts::at);
    Validation::of(&rules::conclude(&request, &settings, facts, |it| lookup::fetch(host, it)))
}

impl Validation {
    fn of(verdict: &Verdict) -> Self {
        let ids = |found: &[Violation]| found.iter().map(|it| it.rule).collect::<Vec<_>>().join(",");
        let annotations = [
            ("denied", ids(&verdict.violations)),
            ("warned", ids(&verdict.warnings)),
            ("approved", ids(&verdict.approved)),
            ("approval", verdict.approvals.join("; ")),
        ];
        Self {
            accepted: verdict.allowed,
            message: (!verdict.allowed).then(|| verdict.message()),
            code: (!verdict.allowed).then_some(FORBIDDEN),
            warnings: verdict.warning_texts(),
            audit_annotations: annotations.into_iter().filter(|(_, text)| !text.is_empty()).collect(),
        }
    }
}

fn validate_settings(payload: &[u8]) -> SettingsValidation {
    let message = Settings::parse(payload).err().map(|error| explained(&error));
    SettingsValidation { valid: message.is_none(), message }
}

fn explained(error: &BadSettings) -> String {
    format!("{error}\n  hint: {}", error.hint())
}

fn serialize(response: &impl Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec(response).map_err(|error| format!("cannot write the response: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A host with these objects, that writes down what it was asked for.
    #[derive(Default)]
    struct Cluster {
        objects: Vec<Value>,
        calls: Vec<(String, Value)>,
        down: bool,
    }

    impl Host for Cluster {
        fn call(&mut self, operation: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
            let payload: Value = serde_json::from_slice(payload).unwrap();
            self.calls.push((operation.to_owned(), payload.clone()));
            if self.down {
                return Err("connect: connection refused".to_owned());
            }
            if operation != lookup::GET {
                return Ok(json!({"items": []}).to_string().into_bytes());
            }
            let text = |key: &str| payload[key].as_str().unwrap_or_default().to_owned();
            let (api_version, kind) = (text("api_version"), text("kind"));
            let (namespace, name) = (text("namespace"), text("name"));
            let found = self.objects.iter().find(|it| {
                it["kind"] == kind
                    && it["metadata"]["namespace"] == namespace
                    && it["metadata"]["name"] == name
            });
            found
                .map(|object| object.to_string().into_bytes())
                .ok_or_else(|| lookup::missing(&api_version, &kind, &namespace, &name))
        }
    }

    fn called(operation: &str, payload: &Value, host: &mut Cluster) -> Value {
        let response = call(operation, payload.to_string().as_bytes(), host).unwrap();
        serde_json::from_slice(&response).unwrap()
    }

    fn validated(payload: &Value, host: &mut Cluster) -> Value {
        called("validate", payload, host)
    }

    /// The deletion of a Secret, of which rules need to know whether a DaemonSet mounts it.
    fn deletion(name: &str) -> Value {
        json!({
            "uid": "1", "operation": "DELETE", "name": name, "namespace": "kube-system",
            "kind": {"group": "", "version": "v1", "kind": "Secret"},
            "resource": {"group": "", "version": "v1", "resource": "secrets"},
            "userInfo": {"username": "ann", "groups": ["system:authenticated"]},
            "object": null,
            "oldObject": {
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": name, "namespace": "kube-system", "uid": "u", "resourceVersion": "1"},
                "data": {"tls.key": "c2VjcmV0"},
            },
        })
    }

    #[test]
    fn what_is_not_guarded_is_accepted_and_nothing_more_is_said() {
        let host = &mut Cluster::default();
        let payload = json!({"request": deletion("other"), "settings": {}, "now": 1_800_000_000});
        assert_eq!(validated(&payload, host), json!({"accepted": true}));
        assert!(!host.calls.is_empty(), "whether it is guarded has to be looked up");
    }

    #[test]
    fn what_a_rule_is_against_is_not_accepted() {
        let host = &mut Cluster::default();
        let settings = json!({"secrets": ["kube-system/mine"]});
        let response = validated(&json!({"request": deletion("mine"), "settings": settings}), host);
        assert_eq!(response["accepted"], false);
        assert_eq!(response["code"], 403);
        assert_eq!(response["audit_annotations"]["denied"], "SEC-1");
        let message = response["message"].as_str().unwrap();
        assert!(message.starts_with("SEC-1: ") && message.contains("hint: "), "{message}");
    }

    #[test]
    fn a_rule_may_warn() {
        let settings = json!({"secrets": ["kube-system/mine"], "rules": {"SEC-1": "warn"}});
        let response =
            validated(&json!({"request": deletion("mine"), "settings": settings}), &mut Cluster::default());
        assert_eq!(response["accepted"], true);
        assert_eq!(response["audit_annotations"], json!({"warned": "SEC-1"}));
        assert!(response["warnings"][0].as_str().unwrap().starts_with("SEC-1: "), "{response}");
    }

    #[test]
    fn what_cannot_be_looked_up_is_not_accepted() {
        let host = &mut Cluster { down: true, ..Cluster::default() };
        let response = validated(&json!({"request": deletion("other"), "now": 0}), host);
        assert_eq!(response["accepted"], false);
        assert!(response["message"].as_str().unwrap().contains("connection refused"), "{response}");
    }

    #[test]
    fn what_cannot_be_read_is_not_accepted_and_not_quoted() {
        let mut wrong_type = deletion("other");
        wrong_type["operation"] = json!("c2VjcmV0");
        let mut nameless = deletion("other");
        nameless.as_object_mut().unwrap().remove("resource");
        let twice = format!(r#"{{"request": {0}, "request": {0}}}"#, deletion("other"));
        for payload in [
            json!({"request": wrong_type}).to_string(),
            json!({"request": nameless}).to_string(),
            json!({"request": deletion("other"), "now": "c2VjcmV0"}).to_string(),
            json!({"settings": {}}).to_string(),
            twice,
            r#"{"request": "c2VjcmV0"#.to_owned(),
            String::new(),
        ] {
            let response = call("validate", payload.as_bytes(), &mut Cluster::default()).unwrap();
            let response: Value = serde_json::from_slice(&response).unwrap();
            assert_eq!(response["accepted"], false, "{payload}");
            assert_eq!(response["audit_annotations"]["denied"], "G-1", "{payload}");
            assert!(!response.to_string().contains("c2VjcmV0"), "{response}");
        }
    }

    #[test]
    fn settings_that_are_refused_accept_nothing() {
        let settings = json!({"rules": {"DS-99": "off"}});
        let response = called("validate_settings", &settings, &mut Cluster::default());
        let message = "rules.DS-99: there is no rule \"DS-99\"\n  hint: docs/reference/rules.md has them all";
        assert_eq!(response, json!({"valid": false, "message": message}));
        let payload = json!({"request": deletion("other"), "settings": settings});
        let response = validated(&payload, &mut Cluster::default());
        let message = format!("the policy's settings are refused: {message}");
        assert_eq!(response, json!({"accepted": false, "code": 500, "message": message}));
    }

    #[test]
    fn settings_that_are_good_are_valid() {
        for settings in [json!({}), json!(null), json!({"rules": {"DS-13": "deny"}})] {
            let response = called("validate_settings", &settings, &mut Cluster::default());
            assert_eq!(response, json!({"valid": true}), "{settings}");
        }
    }

    /// DS-16 alone, with a freeze that is over.
    #[test]
    fn without_the_time_what_depends_on_it_is_not_accepted() {
        let daemonset = |image: &str| {
            json!({
                "apiVersion": "apps/v1", "kind": "DaemonSet",
                "metadata": {"name": "self-hosted-kube-scheduler", "namespace": "kube-system", "uid": "u"},
                "spec": {"template": {"spec": {"containers": [{"name": "kube-scheduler", "image": image}]}}},
            })
        };
        let edit = json!({
            "uid": "1", "operation": "UPDATE", "name": "self-hosted-kube-scheduler", "namespace": "kube-system",
            "kind": {"group": "apps", "version": "v1", "kind": "DaemonSet"},
            "resource": {"group": "apps", "version": "v1", "resource": "daemonsets"},
            "userInfo": {"username": "ann", "groups": ["system:authenticated"]},
            "object": daemonset("x:v2"), "oldObject": daemonset("x:v1"),
        });
        let others = rules::ALL.iter().filter(|rule| !rule.fixed && rule.id != "DS-16");
        let settings = json!({
            "rules": others.map(|rule| (rule.id, "off")).collect::<BTreeMap<_, _>>(),
            "freeze": [{"from": 1, "until": 2, "reason": "x"}],
        });
        let mut payload = json!({"request": edit, "settings": settings});
        let response = validated(&payload, &mut Cluster::default());
        assert_eq!(response["audit_annotations"]["denied"], "DS-16", "{response}");
        assert!(response["message"].as_str().unwrap().contains("does not tell the time"), "{response}");
        for (now, accepted) in [(1, false), (2, true)] {
            payload["now"] = json!(now);
            let response = validated(&payload, &mut Cluster::default());
            assert_eq!(response["accepted"], accepted, "{response}");
        }
    }

    #[test]
    fn the_protocol_has_a_version_and_no_other_operation() {
        assert_eq!(called("protocol_version", &json!(null), &mut Cluster::default()), "v1");
        let error = call("mutate", b"", &mut Cluster::default()).unwrap_err();
        assert!(error.contains("\"mutate\"") && error.contains("validate_settings"), "{error}");
    }
}
