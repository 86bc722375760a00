//! waPC: how host and guest exchange bytes.
//!
//! A call comes with two lengths; the guest makes room and asks for the operation and its payload, and hands a response or
//! an error back. On the way it may call the host in the same manner. waPC's own guest library does this with a registry
//! of operations behind a lock, made by an initial call; here the operations are known when the guest is built.
//!
//! Invariant: the only unsafe code of the guest, and no state but whether a call runs. A panic ends the instance: its call
//! is an error to the host, and a host that calls the instance again is refused.

#![expect(unsafe_code, reason = "bytes go through linear memory, by address and length")]

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::lookup::{BINDING, Host, NAMESPACE};

#[link(wasm_import_module = "wapc")]
unsafe extern "C" {
    fn __guest_request(operation: *mut u8, payload: *mut u8);
    fn __guest_response(response: *const u8, length: usize);
    fn __guest_error(error: *const u8, length: usize);
    fn __host_call(
        binding: *const u8,
        binding_length: usize,
        namespace: *const u8,
        namespace_length: usize,
        operation: *const u8,
        operation_length: usize,
        payload: *const u8,
        payload_length: usize,
    ) -> usize;
    fn __host_response_len() -> usize;
    fn __host_response(response: *mut u8);
    fn __host_error_len() -> usize;
    fn __host_error(error: *mut u8);
}

/// Whether a call began that has not ended.
static RUNNING: AtomicBool = AtomicBool::new(false);

/// Runs one operation: 1 and a response, or 0 and an error.
#[unsafe(no_mangle)]
extern "C" fn __guest_call(operation_length: usize, payload_length: usize) -> i32 {
    if RUNNING.swap(true, Ordering::Relaxed) {
        return fail("an earlier call of this instance did not end; it takes a new instance");
    }
    std::panic::set_hook(Box::new(panicked));
    let mut operation = vec![0; operation_length];
    let mut payload = vec![0; payload_length];
    // SAFETY: the host writes as many bytes as it announced to each address, and the two have room for just that.
    unsafe { __guest_request(operation.as_mut_ptr(), payload.as_mut_ptr()) };
    let result = match crate::call(&String::from_utf8_lossy(&operation), &payload, &mut Wapc) {
        Ok(response) => {
            // SAFETY: the host reads `response.len()` bytes of `response`, which lives until it has returned.
            unsafe { __guest_response(response.as_ptr(), response.len()) };
            1
        }
        Err(error) => fail(&error),
    };
    RUNNING.store(false, Ordering::Relaxed);
    result
}

fn fail(error: &str) -> i32 {
    // SAFETY: the host reads `error.len()` bytes of `error`, which lives until it has returned.
    unsafe { __guest_error(error.as_ptr(), error.len()) };
    0
}

/// Tells the host where, and not what: a panic's message may quote a Secret. What follows is a trap.
fn panicked(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    fail(&format!("the policy panicked at {place}"));
}

/// The host, by waPC.
struct Wapc;

impl Host for Wapc {
    fn call(&mut self, operation: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
        // SAFETY: the host reads each text and the payload at its address, by its length, before it returns.
        let result = unsafe {
            __host_call(
                BINDING.as_ptr(),
                BINDING.len(),
                NAMESPACE.as_ptr(),
                NAMESPACE.len(),
                operation.as_ptr(),
                operation.len(),
                payload.as_ptr(),
                payload.len(),
            )
        };
        if result == 1 {
            // SAFETY: it takes nothing, and tells how many bytes `__host_response` writes.
            let mut response = vec![0; unsafe { __host_response_len() }];
            // SAFETY: there is room for as many bytes as the host has just announced.
            unsafe { __host_response(response.as_mut_ptr()) };
            return Ok(response);
        }
        // SAFETY: it takes nothing, and tells how many bytes `__host_error` writes.
        let mut error = vec![0; unsafe { __host_error_len() }];
        // SAFETY: there is room for as many bytes as the host has just announced.
        unsafe { __host_error(error.as_mut_ptr()) };
        Err(String::from_utf8_lossy(&error).into_owned())
    }
}
