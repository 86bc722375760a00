//! waPC: how host and guest exchange bytes.
//!
//! Invariant: a guest's addresses and lengths are checked against its memory, and what is kept of its bytes is bounded.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::{Caller, InstancePre, Linker, Memory, ResourceLimiter, Store};

use super::meter::Meter;
use super::runtime::TABLE;
use super::verdict::EvaluateError;
use super::{Call, Limits, calls};
use crate::capabilities::Source;

/// The module that a guest imports from.
const MODULE: &str = "wapc";

/// What waPC calls the entry of a guest.
const ENTRY: &str = "__guest_call";

/// What is called before it where a guest has it, in this order.
const STARTS: [&str; 2] = ["_start", "wapc_init"];

/// The longest response. A verdict is some kilobytes.
const RESPONSE: usize = 1 << 20;

/// How much of an error is kept.
const ERROR: usize = 1 << 10;

/// The state of one call.
pub(super) struct State {
    call: Call,
    source: Arc<dyn Source>,
    limits: Limits,
    pub(super) meter: Meter,
    memory: Option<Memory>,
    response: Option<Vec<u8>>,
    error: Option<Vec<u8>>,
    calls: u32,
    /// What the host said to the guest's last call.
    host_response: Vec<u8>,
    host_error: Vec<u8>,
}

impl State {
    pub(super) fn new(call: Call, source: Arc<dyn Source>, limits: Limits, deadline: Instant) -> Self {
        Self {
            call,
            source,
            limits,
            meter: Meter::start(limits.time, deadline),
            memory: None,
            response: None,
            error: None,
            calls: 0,
            host_response: Vec::new(),
            host_error: Vec::new(),
        }
    }

    /// What a call that ended has answered.
    pub(super) fn answer(self, succeeded: bool) -> Result<Vec<u8>, EvaluateError> {
        match self.response {
            Some(response) if succeeded => Ok(response),
            None if succeeded => Err(EvaluateError::BadAnswer("there is none")),
            _ => Err(EvaluateError::BadAnswer("it says that it failed")),
        }
    }

    /// Why a call did not end.
    pub(super) fn fault(self, error: &wasmtime::Error) -> EvaluateError {
        EvaluateError::of(error, self.error.as_deref())
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.limits.memory {
            // Not a failure that the guest could go on after: what it then does is not what it was written to do.
            return Err(EvaluateError::OutOfMemory.into());
        }
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE)
    }
}

/// Makes an instance and calls it: whether the guest says that it succeeded.
pub(super) fn run(instance: &InstancePre<State>, store: &mut Store<State>) -> wasmtime::Result<bool> {
    let instance = instance.instantiate(&mut *store)?;
    store.data_mut().memory = instance.get_memory(&mut *store, "memory");
    for start in STARTS {
        if let Ok(start) = instance.get_typed_func::<(), ()>(&mut *store, start) {
            start.call(&mut *store, ())?;
        }
    }
    let entry = instance.get_typed_func::<(i32, i32), i32>(&mut *store, ENTRY)?;
    let call = &store.data().call;
    let (operation, payload) = (length(call.operation.len())?, length(call.length())?);
    Ok(entry.call(store, (operation, payload))? == 1)
}

/// Offers the functions of waPC, and no others.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "__guest_request", guest_request)?;
    linker.func_wrap(MODULE, "__guest_response", |mut caller: Caller<'_, State>, at: i32, length: i32| {
        let (memory, state) = parts(&mut caller)?;
        let response = slice(memory, at, length)?;
        if response.len() > RESPONSE {
            return Err(EvaluateError::BadAnswer("it is too long").into());
        }
        state.response = Some(response.to_vec());
        wasmtime::Result::Ok(())
    })?;
    linker.func_wrap(MODULE, "__guest_error", |mut caller: Caller<'_, State>, at: i32, length: i32| {
        let (memory, state) = parts(&mut caller)?;
        let error = slice(memory, at, length)?;
        state.error = Some(error[..error.len().min(ERROR)].to_vec());
        wasmtime::Result::Ok(())
    })?;
    linker.func_wrap(MODULE, "__host_call", host_call)?;
    linker.func_wrap(MODULE, "__host_response_len", |caller: Caller<'_, State>| {
        length(caller.data().host_response.len())
    })?;
    linker.func_wrap(MODULE, "__host_response", |mut caller: Caller<'_, State>, at: i32| {
        let (memory, state) = parts(&mut caller)?;
        write(memory, at, 0, &state.host_response)
    })?;
    linker.func_wrap(MODULE, "__host_error_len", |caller: Caller<'_, State>| {
        length(caller.data().host_error.len())
    })?;
    linker.func_wrap(MODULE, "__host_error", |mut caller: Caller<'_, State>, at: i32| {
        let (memory, state) = parts(&mut caller)?;
        write(memory, at, 0, &state.host_error)
    })?;
    // Dropped: it may say anything of a Secret.
    linker.func_wrap(MODULE, "__console_log", |_: i32, _: i32| {})?;
    Ok(())
}

fn guest_request(mut caller: Caller<'_, State>, operation: i32, payload: i32) -> wasmtime::Result<()> {
    let (memory, state) = parts(&mut caller)?;
    write(memory, operation, 0, state.call.operation.as_bytes())?;
    let mut offset = 0;
    for piece in &state.call.payload {
        write(memory, payload, offset, piece)?;
        offset += piece.len();
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "waPC's own signature")]
fn host_call(
    mut caller: Caller<'_, State>,
    binding: i32,
    binding_length: i32,
    namespace: i32,
    namespace_length: i32,
    operation: i32,
    operation_length: i32,
    payload: i32,
    payload_length: i32,
) -> wasmtime::Result<i32> {
    let (memory, state) = parts(&mut caller)?;
    state.calls += 1;
    if state.calls > state.limits.calls {
        return Err(EvaluateError::HostCall("it asks too often").into());
    }
    let call = calls::HostCall {
        binding: slice(memory, binding, binding_length)?,
        namespace: slice(memory, namespace, namespace_length)?,
        operation: slice(memory, operation, operation_length)?,
        payload: slice(memory, payload, payload_length)?,
    };
    state.meter.pause();
    let answer = call.answer(state.source.as_ref(), state.meter.deadline());
    state.meter.resume()?;
    match answer {
        Ok(response) => {
            state.host_response = response;
            Ok(1)
        }
        Err(error) => {
            state.host_error = error.into_bytes();
            Ok(0)
        }
    }
}

fn parts<'a>(caller: &'a mut Caller<'_, State>) -> Result<(&'a mut [u8], &'a mut State), EvaluateError> {
    let memory = caller.data().memory.ok_or(EvaluateError::HostCall("it exports no memory"))?;
    Ok(memory.data_and_store_mut(caller))
}

const OUTSIDE: EvaluateError = EvaluateError::HostCall("it points outside of its memory");

fn slice(memory: &[u8], at: i32, length: i32) -> Result<&[u8], EvaluateError> {
    let (at, length) = (address(at), address(length));
    memory.get(at..at + length).ok_or(OUTSIDE)
}

fn write(memory: &mut [u8], at: i32, offset: usize, bytes: &[u8]) -> wasmtime::Result<()> {
    let start = address(at) + offset;
    memory.get_mut(start..start + bytes.len()).ok_or(OUTSIDE)?.copy_from_slice(bytes);
    Ok(())
}

/// An address or length of the guest, whose numbers have no sign.
fn address(value: i32) -> usize {
    value.cast_unsigned() as usize
}

fn length(bytes: usize) -> wasmtime::Result<i32> {
    i32::try_from(bytes).map_err(|_| OUTSIDE.into())
}
