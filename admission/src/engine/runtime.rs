//! The Wasm engine, which all policies of the process share.

use std::fmt;
use std::time::Duration;

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, Linker, OptLevel, PoolingAllocationConfig,
    WasmFeatures,
};

use super::LoadError;
use super::meter::{Ticker, Ticking};
use super::wapc::{self, State};

/// What one review may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The guest's time on a processor.
    pub time: Duration,
    /// The guest's memory, in bytes.
    pub memory: usize,
    /// How often the guest may ask the host.
    pub calls: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_millis(25), memory: 32 << 20, calls: 64 }
    }
}

/// As much of a memory is zeroed when it is used again, rather than given back and faulted in anew.
const KEEP_RESIDENT: usize = 1 << 20;

/// The most elements of a guest's table of functions.
pub(super) const TABLE: usize = 20_000;

/// Compiles and runs modules, `slots` of them at the same time.
pub struct Runtime {
    engine: Engine,
    linker: Linker<State>,
    ticker: Ticker,
    limits: Limits,
}

impl Runtime {
    /// Reserves what `slots` instances take.
    pub fn new(limits: Limits, slots: u32) -> Result<Self, LoadError> {
        let setup = |error: wasmtime::Error| LoadError::Setup(error.to_string());
        let engine = Engine::new(&config(&limits, slots)).map_err(setup)?;
        let mut linker = Linker::new(&engine);
        wapc::link(&mut linker).map_err(setup)?;
        let ticker = Ticker::start(engine.weak()).map_err(|error| LoadError::Setup(error.to_string()))?;
        Ok(Self { engine, linker, ticker, limits })
    }

    pub(super) fn wasmtime(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn linker(&self) -> &Linker<State> {
        &self.linker
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn ticking(&self) -> Ticking<'_> {
        self.ticker.tick()
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Code is made for one configuration, and loaded by an engine of the same.
pub(super) fn config(limits: &Limits, slots: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(slots)
        .total_memories(slots)
        .total_tables(slots)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .max_memory_size(limits.memory)
        .table_elements(TABLE)
        .max_unused_warm_slots(0)
        .linear_memory_keep_resident(KEEP_RESIDENT.min(limits.memory))
        // Only pages that the guest wrote to are reset, where the kernel can tell (Linux 6.7).
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cranelift_opt_level(OptLevel::Speed)
        // The same bytes are the same verdict on every machine.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_features(WasmFeatures::THREADS | WasmFeatures::MULTI_MEMORY | WasmFeatures::MEMORY64, false)
        .epoch_interruption(true)
        // Names of functions are of no use without the module, and cost time in every trap.
        .wasm_backtrace_max_frames(None);
    config
}
