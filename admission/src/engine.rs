//! What runs the policy: a waPC host for one module, with one instance for each review.
//!
//! Invariant: nothing outlives a review. Whatever a guest did, or was done to it, ends with its instance; the next review
//! has memory as the module says it begins.
//!
//! Invariant: a guest can take the time and the memory of its own review and no more, and reads nothing but what a
//! [`Source`] gives it. A module that imports more than waPC's functions is refused when it is loaded.

pub mod ahead;
mod calls;
mod meter;
mod runtime;
mod verdict;
mod wapc;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use wasmtime::{InstancePre, Module, Store};

use crate::capabilities::{Nothing, Source};
use crate::digest::Digest;
pub use runtime::{Limits, Runtime};
pub use verdict::{EvaluateError, Verdict};
use wapc::State;

/// How long the calls that load a policy may take: they are made once, maybe on a machine that has just started.
const PATIENCE: Duration = Duration::from_secs(5);

/// The only version of Kubewarden's protocol that there is.
const PROTOCOL: &[u8] = b"\"v1\"";

/// A policy's module, compiled and linked. Whether it is a policy is not known yet.
#[derive(Clone)]
pub struct Program {
    id: Digest,
    /// Why it was compiled here, where it might have been taken as it was compiled before.
    compiled: Option<Arc<str>>,
    instance: InstancePre<State>,
    runtime: Arc<Runtime>,
}

/// A policy: a module, and settings that it has accepted.
pub struct Engine {
    program: Program,
    settings: Digest,
    /// The payload of `validate` up to the time. The settings are in it.
    head: Bytes,
}

/// Why a policy is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The engine does not take what it is configured with.
    #[error("cannot set up the Wasm engine: {0}")]
    Setup(String),
    /// It is no module, or one that takes more than it may.
    #[error("the policy's module cannot be compiled: {0}")]
    Compile(String),
    /// It wants something that is not offered.
    #[error("the policy's module cannot be linked: {0}")]
    Link(String),
    /// It does not answer as a policy does.
    #[error("the policy does not answer {operation}")]
    Call {
        /// The operation.
        operation: &'static str,
        /// What happened.
        #[source]
        source: EvaluateError,
    },
    /// It speaks another protocol.
    #[error("the policy does not speak version v1 of Kubewarden's protocol")]
    Protocol,
    /// The settings are no JSON.
    #[error("the settings are not JSON (line {line}, column {column})")]
    NotJson {
        /// Where.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// The policy does not accept the settings.
    #[error("the policy refuses its settings: {0}")]
    Settings(String),
}

/// What `validate_settings` answers.
#[derive(Deserialize)]
struct SettingsAnswer {
    valid: bool,
    #[serde(default)]
    message: Option<String>,
}

impl Program {
    /// Compiles a module, which takes a second or so, and links it.
    pub fn compile(runtime: &Arc<Runtime>, wasm: &[u8]) -> Result<Self, LoadError> {
        let module = Module::new(runtime.wasmtime(), wasm)
            .map_err(|error| LoadError::Compile(error.root_cause().to_string()))?;
        Self::link(runtime, Digest::of(wasm), &module)
    }

    /// Takes a module as it was compiled [`ahead`] of time, where the directory has it, and compiles it where not.
    pub fn load(runtime: &Arc<Runtime>, wasm: &[u8], directory: &Path) -> Result<Self, LoadError> {
        let id = Digest::of(wasm);
        match ahead::load(runtime.wasmtime(), directory, id) {
            Ok(module) => Self::link(runtime, id, &module),
            Err(reason) => Ok(Self { compiled: Some(reason.into()), ..Self::compile(runtime, wasm)? }),
        }
    }

    fn link(runtime: &Arc<Runtime>, id: Digest, module: &Module) -> Result<Self, LoadError> {
        let instance =
            runtime.linker().instantiate_pre(module).map_err(|error| LoadError::Link(error.to_string()))?;
        Ok(Self { id, compiled: None, instance, runtime: Arc::clone(runtime) })
    }

    /// Why it was compiled, where it might have been [loaded](Self::load).
    pub fn compiled(&self) -> Option<&str> {
        self.compiled.as_deref()
    }

    /// The SHA-256 of the module.
    pub fn id(&self) -> Digest {
        self.id
    }

    fn call(&self, call: Call, deadline: Instant, source: Arc<dyn Source>) -> Result<Vec<u8>, EvaluateError> {
        let ticking = self.runtime.ticking();
        let mut store =
            Store::new(self.runtime.wasmtime(), State::new(call, source, self.runtime.limits(), deadline));
        store.limiter(|state| state);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| store.data().meter.tick());
        let result = wapc::run(&self.instance, &mut store);
        drop(ticking);
        match result {
            Ok(succeeded) => store.into_data().answer(succeeded),
            Err(error) => Err(store.into_data().fault(&error)),
        }
    }
}

impl Engine {
    /// Asks a module whether it is a policy and takes these settings. Empty settings are the policy's own.
    pub fn load(program: Program, settings: &[u8]) -> Result<Self, LoadError> {
        let text = if settings.trim_ascii().is_empty() { b"{}".as_slice() } else { settings };
        // One value and nothing after it: it goes into a larger one as it is.
        let settings: Box<RawValue> = serde_json::from_slice(text)
            .map_err(|error| LoadError::NotJson { line: error.line(), column: error.column() })?;
        let ask = |operation, payload: Bytes| {
            let call = Call { operation, payload: [payload, Bytes::new(), Bytes::new(), Bytes::new()] };
            program
                .call(call, Instant::now() + PATIENCE, Arc::new(Nothing))
                .map_err(|source| LoadError::Call { operation, source })
        };
        if ask("protocol_version", Bytes::new())?.trim_ascii() != PROTOCOL {
            return Err(LoadError::Protocol);
        }
        let answer = ask("validate_settings", Bytes::copy_from_slice(settings.get().as_bytes()))?;
        let answer: SettingsAnswer = serde_json::from_slice(&answer).map_err(|_| LoadError::Call {
            operation: "validate_settings",
            source: EvaluateError::BadAnswer("it is not what the protocol says"),
        })?;
        if !answer.valid {
            return Err(LoadError::Settings(
                answer.message.unwrap_or_else(|| "it does not say why".to_owned()),
            ));
        }
        let head = Bytes::from(format!("{{\"settings\":{},\"now\":", settings.get()));
        Ok(Self { program, settings: Digest::of(text), head })
    }

    /// The module.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The SHA-256 of the settings.
    pub fn settings(&self) -> Digest {
        self.settings
    }

    /// The verdict on a request: the `request` of an AdmissionReview, in JSON and nothing but that.
    ///
    /// `now` is in seconds since 1970; at `deadline` nobody waits for the verdict any more.
    pub fn evaluate(
        &self,
        request: Bytes,
        now: i64,
        deadline: Instant,
        source: Arc<dyn Source>,
    ) -> Result<Verdict, EvaluateError> {
        let time = Bytes::from(format!("{now},\"request\":"));
        let payload = [self.head.clone(), time, request, Bytes::from_static(b"}")];
        let answer = self.program.call(Call { operation: "validate", payload }, deadline, source)?;
        Verdict::parse(&answer)
    }
}

/// The answer to what a guest asks its host, for another host of the same guest.
pub fn answer(
    binding: &str,
    namespace: &str,
    operation: &str,
    payload: &[u8],
    source: &dyn Source,
) -> Result<Vec<u8>, String> {
    let (binding, namespace, operation) = (binding.as_bytes(), namespace.as_bytes(), operation.as_bytes());
    calls::HostCall { binding, namespace, operation, payload }.answer(source, Instant::now() + PATIENCE)
}

/// One call of the guest.
struct Call {
    operation: &'static str,
    /// One payload in pieces, so that a review is copied once: into the guest.
    payload: [Bytes; 4],
}

impl Call {
    fn length(&self) -> usize {
        self.payload.iter().map(Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests;
