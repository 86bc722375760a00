//! Guests that do harm where a review is a long one, and accept others at once.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use bytes::Bytes;
use selfhost_admission::capabilities::Nothing;
use selfhost_admission::engine::{Engine, EvaluateError, Program, Runtime};
use serde_json::{Value, json};

use crate::guest::{ACCEPTED, ACCEPTED_AT, guest, respond};
use crate::times::{ClockId, Stopwatch, Taken};
use crate::{NOW, PATIENCE};

/// From so many bytes on, a payload does harm.
const LONG: usize = 4096;

/// What a guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It computes for ever.
    Runaway,
    /// It takes more and more memory, and writes to each page of it.
    MemoryBomb,
}

impl Harm {
    /// The policy that does it.
    pub fn policy(self, runtime: &Arc<Runtime>) -> Result<Engine> {
        let harm = match self {
            Self::Runaway => "(loop $again (br $again))",
            // A megabyte more each time.
            Self::MemoryBomb => {
                "(loop $again
                   (drop (memory.grow (i32.const 16)))
                   (memory.fill
                     (i32.shl (i32.sub (memory.size) (i32.const 16)) (i32.const 16))
                     (i32.const 1)
                     (i32.const 0x100000))
                   (br $again))"
            }
        };
        let accept = respond(ACCEPTED_AT, ACCEPTED);
        let module =
            guest(&format!("(if (i32.gt_u (local.get $payload) (i32.const {LONG})) (then {harm})) {accept}"));
        Ok(Engine::load(Program::compile(runtime, &module)?, b"")?)
    }

    /// What ends it.
    pub fn end(self) -> EvaluateError {
        match self {
            Self::Runaway => EvaluateError::Timeout,
            Self::MemoryBomb => EvaluateError::OutOfMemory,
        }
    }

    /// Does it once.
    pub fn time(self, policy: &Engine) -> Result<Taken> {
        let request = Bytes::from(request().to_string());
        // The guest runs in this thread.
        let stopwatch = Stopwatch::start(ClockId::ThreadCPUTime);
        match policy.evaluate(request, NOW, Instant::now() + PATIENCE, Arc::new(Nothing)) {
            Err(error) if error == self.end() => Ok(stopwatch.stop()),
            Err(error) => bail!("{self:?} was ended otherwise: {error}"),
            Ok(_) => bail!("{self:?} was not ended"),
        }
    }
}

/// A request that does harm.
pub fn request() -> Value {
    json!({"uid": "harm", "object": "a".repeat(LONG)})
}

/// A request that does not.
pub fn harmless() -> Value {
    json!({"uid": "none"})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::runtime;

    #[test]
    fn each_harm_is_ended_and_nothing_else_is() {
        let runtime = runtime().unwrap();
        for harm in [Harm::Runaway, Harm::MemoryBomb] {
            let policy = harm.policy(&runtime).unwrap();
            harm.time(&policy).unwrap();
            let request = Bytes::from(harmless().to_string());
            let verdict = policy.evaluate(request, NOW, Instant::now() + PATIENCE, Arc::new(Nothing));
            assert!(verdict.unwrap().accepted, "{harm:?}");
        }
    }
}
