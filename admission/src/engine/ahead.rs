//! Modules that were compiled ahead of time: a start takes milliseconds with one, and none of the compiler's memory.
//!
//! Invariant: what is compiled depends on the module and on this version of the engine alone, not on the machine.

use std::env::consts::ARCH;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use wasmtime::{Engine, Module};

use super::LoadError;
use super::runtime::{Limits, config};
use crate::digest::Digest;

/// What the code may use of a processor beyond its architecture's first version: that of x86-64-v2, which processors have
/// had since 2009. One that has it not compiles anew.
const FEATURES: &[&str] = if cfg!(target_arch = "x86_64") {
    &["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"]
} else {
    &[]
};

/// Why a compiled module is not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It is no module, or one that takes more than it may.
    #[error(transparent)]
    Compile(#[from] LoadError),
    /// There is no place for it.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Compiles a module for any machine of this architecture, and keeps the outcome in the directory, where [`load`] looks for it.
/// Returns the file.
pub fn keep(directory: &Path, wasm: &[u8]) -> Result<PathBuf, KeepError> {
    let path = file(directory, Digest::of(wasm));
    match fs::write(&path, compile(wasm)?) {
        Ok(()) => Ok(path),
        Err(source) => Err(KeepError::Write { path, source }),
    }
}

pub(super) fn compile(wasm: &[u8]) -> Result<Vec<u8>, LoadError> {
    let setup = |error: wasmtime::Error| LoadError::Setup(error.to_string());
    let mut config = config(&Limits::default(), 1);
    config.target(&format!("{ARCH}-unknown-linux-gnu")).map_err(setup)?;
    for feature in FEATURES {
        #[expect(unsafe_code, reason = "a flag could change what code means")]
        // SAFETY: these say what the processor has, and where it has not, the code is not loaded.
        unsafe {
            config.cranelift_flag_enable(feature);
        }
    }
    let compile = |error: wasmtime::Error| LoadError::Compile(error.root_cause().to_string());
    Engine::new(&config).map_err(setup)?.precompile_module(wasm).map_err(compile)
}

/// Where a module is kept as it was compiled.
pub(super) fn file(directory: &Path, module: Digest) -> PathBuf {
    directory.join(format!("{module}.cwasm"))
}

/// Takes a module from its file.
///
/// # Errors
///
/// There is none, or it is not for this engine or this processor: why, for those who run it.
pub(super) fn load(engine: &Engine, directory: &Path, module: Digest) -> Result<Module, String> {
    let file = file(directory, module);
    #[expect(unsafe_code, reason = "it is machine code")]
    // SAFETY: whoever can write to the directory is trusted as is whoever can write the program: they come in one image
    // (ADR 32). What another version of the engine has written is refused.
    let loaded = unsafe { Module::deserialize_file(engine, &file) };
    loaded.map_err(|error| format!("{}: {}", file.display(), error.root_cause()))
}
