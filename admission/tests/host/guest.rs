//! Guests for tests: written by hand, each for one way to behave; and the policy itself.

use std::fmt::Write;

/// What `validate_settings` is answered with.
const VALID: &str = r#"{"valid":true}"#;

/// At [`ACCEPTED_AT`].
pub(crate) const ACCEPTED: &str = r#"{"accepted":true}"#;

/// At [`DENIED_AT`].
pub(crate) const DENIED: &str = r#"{"accepted":false}"#;

pub(crate) const ACCEPTED_AT: u32 = 64;
pub(crate) const DENIED_AT: u32 = 128;

/// What [`ASK_CALL`] asks for.
const ASK: &str = r#"{"api_version":"v1","kind":"Node","name":"a"}"#;

/// Asks for the Node `a`: 1 where there is an answer.
pub(crate) const ASK_CALL: &str = "(call $__host_call (i32.const 256) (i32.const 10) (i32.const 266) (i32.const 10) \
                                   (i32.const 276) (i32.const 12) (i32.const 288) (i32.const 45))";

/// Answers with the text at an address.
pub(crate) fn respond(at: u32, text: &str) -> String {
    format!("(call $__guest_response (i32.const {at}) (i32.const {})) (i32.const 1)", text.len())
}

/// A guest with waPC's imports and sixteen pages of memory; `body` is what it does on `validate`. The two calls by which a
/// policy is loaded are answered before that; they are told apart by the length of the operation's name.
pub(crate) fn guest(body: &str) -> Vec<u8> {
    let mut text = String::from("(module\n");
    for (name, signature) in [
        ("__guest_request", "(param i32 i32)"),
        ("__guest_response", "(param i32 i32)"),
        ("__guest_error", "(param i32 i32)"),
        ("__host_call", "(param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)"),
        ("__host_response_len", "(result i32)"),
        ("__host_response", "(param i32)"),
        ("__host_error_len", "(result i32)"),
        ("__host_error", "(param i32)"),
        ("__console_log", "(param i32 i32)"),
    ] {
        writeln!(text, r#"(import "wapc" "{name}" (func ${name} {signature}))"#).unwrap();
    }
    let quoted = |json: &str| json.replace('"', "\\\"");
    write!(
        text,
        r#"(memory (export "memory") 16)
        (data (i32.const 0) "{version}")
        (data (i32.const 16) "{valid}")
        (data (i32.const {ACCEPTED_AT}) "{accepted}")
        (data (i32.const {DENIED_AT}) "{denied}")
        (data (i32.const 256) "kubewardenkubernetesget_resource{ask}")
        (global $times (mut i32) (i32.const 0))
        (func (export "__guest_call") (param $operation i32) (param $payload i32) (result i32)
          (if (i32.eq (local.get $operation) (i32.const {version_length}))
            (then (call $__guest_response (i32.const 0) (i32.const 4)) (return (i32.const 1))))
          (if (i32.eq (local.get $operation) (i32.const {settings_length}))
            (then (call $__guest_response (i32.const 16) (i32.const {valid_length})) (return (i32.const 1))))
          {body}))"#,
        version = quoted("\"v1\""),
        valid = quoted(VALID),
        accepted = quoted(ACCEPTED),
        denied = quoted(DENIED),
        ask = quoted(ASK),
        valid_length = VALID.len(),
        version_length = "protocol_version".len(),
        settings_length = "validate_settings".len(),
    )
    .unwrap();
    wat::parse_str(&text).unwrap()
}
