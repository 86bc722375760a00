//! What is in a module: the metadata that is put into it, and what it may import and export.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use selfhost_policy::metadata::SECTION;
use serde_json::Value;
use wasmparser::types::EntityType;
use wasmparser::{Parser, Payload, ValType, Validator};

/// The functions of waPC that the guest calls.
const IMPORTS: [&str; 8] = [
    "__guest_error",
    "__guest_request",
    "__guest_response",
    "__host_call",
    "__host_error",
    "__host_error_len",
    "__host_response",
    "__host_response_len",
];

/// The export that a host calls, with the lengths of an operation and of its payload. There is no `_start` and no
/// `wapc_init`: a host calls them where they are, and the guest has nothing to do there.
const CALL: &str = "__guest_call";

/// Puts the metadata of the policy into a module, at its end.
pub(super) fn annotate(module: &mut Vec<u8>, metadata: &[u8]) -> Result<()> {
    let mut section = Vec::new();
    number(&mut section, SECTION.len())?;
    section.extend(SECTION.as_bytes());
    section.extend(metadata);
    module.push(0);
    number(module, section.len())?;
    module.extend(section);
    Ok(())
}

/// LEB128.
fn number(out: &mut Vec<u8>, number: usize) -> Result<()> {
    let mut rest = u32::try_from(number).context("too long for a module")?;
    loop {
        let low = rest.to_le_bytes()[0] & 0x7f;
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return Ok(());
        }
        out.push(low | 0x80);
    }
}

/// Whether a module is what hosts run, and holds none of these paths.
pub(super) fn check(module: &[u8], places: &[PathBuf]) -> Result<()> {
    let types = Validator::new().validate_all(module).context("it is not valid")?;
    let types = types.as_ref();
    for (from, name, _) in types.core_imports().context("it is a component")? {
        ensure!(from == "wapc" && IMPORTS.contains(&name), "it imports {from}.{name}");
    }
    let exports: Vec<_> = types.core_exports().context("it is a component")?.collect();
    let exported = |name: &str| exports.iter().find(|(it, _)| *it == name).map(|(_, what)| what);
    ensure!(matches!(exported("memory"), Some(EntityType::Memory(_))), "it exports no memory");
    let Some(EntityType::Func(call)) = exported(CALL) else { bail!("it exports no {CALL}") };
    let call = types[*call].unwrap_func();
    let i32 = ValType::I32;
    ensure!(call.params() == [i32, i32] && call.results() == [i32], "{CALL} is {call:?}");
    let mut metadata = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.context("it cannot be parsed")? {
            Payload::CustomSection(section) if section.name() == SECTION => metadata.push(section.data()),
            Payload::StartSection { .. } => bail!("it runs something before it is called"),
            _ => {}
        }
    }
    let [metadata] = metadata[..] else { bail!("it has {} sections {SECTION}", metadata.len()) };
    let metadata: Value = serde_json::from_slice(metadata).context("read its metadata")?;
    ensure!(
        metadata["protocolVersion"] == "v1",
        "its metadata is of protocol {}",
        metadata["protocolVersion"]
    );
    for place in places {
        let path = place.join("");
        let path = path.as_os_str().as_encoded_bytes();
        let is_told = module.windows(path.len()).any(|it| it == path);
        ensure!(!is_told, "it tells where it was built: {}", place.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section: its number, and its content with the length before it.
    fn section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
        out.push(id);
        number(out, content.len()).unwrap();
        out.extend(content);
    }

    fn named(name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        number(&mut out, name.len()).unwrap();
        out.extend(name.as_bytes());
        out
    }

    /// A module that imports a function `from.import`, and exports a memory and a function with `params` parameters.
    fn module(from: &str, import: &str, memory: &str, call: &str, params: u8) -> Vec<u8> {
        let mut out = b"\0asm\x01\0\0\0".to_vec();
        let parameters = vec![0x7f; usize::from(params)];
        // Types: () -> (), (i32...) -> i32.
        let types = [&[2, 0x60, 0, 0, 0x60, params][..], &parameters, &[1, 0x7f]].concat();
        section(&mut out, 1, &types);
        section(&mut out, 2, &[&[1][..], &named(from), &named(import), &[0, 0]].concat());
        section(&mut out, 3, &[1, 1]);
        section(&mut out, 5, &[1, 0, 1]);
        section(&mut out, 7, &[&[2][..], &named(memory), &[2, 0], &named(call), &[0, 1]].concat());
        // i32.const 1
        section(&mut out, 10, &[1, 4, 0, 0x41, 1, 0x0b]);
        out
    }

    fn good() -> Vec<u8> {
        module("wapc", "__guest_request", "memory", "__guest_call", 2)
    }

    fn with(mut module: Vec<u8>, metadata: &str) -> Vec<u8> {
        annotate(&mut module, metadata.as_bytes()).unwrap();
        module
    }

    #[test]
    fn a_module_is_what_hosts_run() {
        let v1 = r#"{"protocolVersion": "v1"}"#;
        let long = format!(r#"{{"protocolVersion": "v1", "x": "{}"}}"#, "/home/ann/src ".repeat(2000));
        for (module, expected) in [
            (with(good(), v1), None),
            (with(good(), &long), Some("where it was built: /home/ann")),
            (good(), Some("0 sections")),
            (with(with(good(), v1), v1), Some("2 sections")),
            (with(good(), "{}"), Some("protocol null")),
            (with(good(), "{"), Some("read its metadata")),
            (
                with(module("env", "__guest_request", "memory", "__guest_call", 2), v1),
                Some("env.__guest_request"),
            ),
            (with(module("wapc", "clock", "memory", "__guest_call", 2), v1), Some("wapc.clock")),
            (with(module("wapc", "__host_call", "mem", "__guest_call", 2), v1), Some("no memory")),
            (with(module("wapc", "__host_call", "memory", "call", 2), v1), Some("no __guest_call")),
            (with(module("wapc", "__host_call", "memory", "__guest_call", 3), v1), Some("__guest_call is")),
            (b"\0asm\x01\0\0".to_vec(), Some("not valid")),
        ] {
            let found = check(&module, &["/home/ann".into()]).err().map(|error| format!("{error:#}"));
            match expected {
                None => assert_eq!(found, None),
                Some(part) => {
                    assert!(found.as_ref().is_some_and(|it| it.contains(part)), "{part}: {found:?}");
                }
            }
        }
    }
}
