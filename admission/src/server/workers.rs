//! The threads that evaluate reviews, and the queue before them.
//!
//! Invariant: bounded, in number and in bytes. What does not fit is refused at once, and what nobody waits for any more is
//! not begun, so that under too many reviews those that are answered are answered in time.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::Guard;
use crate::engine::{EvaluateError, Verdict};
use crate::health;

/// A request, and whom to tell of the verdict.
struct Job {
    request: Bytes,
    since: Instant,
    deadline: Instant,
    reply: oneshot::Sender<Result<Verdict, EvaluateError>>,
}

/// The threads and their queue. They end when this is dropped.
pub struct Workers {
    queue: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
    pub(super) room: Room,
}

/// Room for the bytes of reviews that are held at the same time. It is counted in KiB, and each takes one at least.
pub(super) struct Room(Semaphore);

/// 64 MiB: some thousands of common reviews, or nine of the longest.
const ROOM: u32 = 64 << 10;

impl Default for Room {
    fn default() -> Self {
        Self(Semaphore::new(ROOM as usize))
    }
}

impl Room {
    /// Waits until there is room. It is given back when the result is dropped.
    pub(super) async fn take(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let size = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(ROOM).clamp(1, ROOM);
        self.0.acquire_many(size).await.ok()
    }
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Workers {
    /// Starts `count` threads with a queue of `capacity` reviews.
    pub fn start(guard: &Arc<Guard>, count: usize, capacity: usize) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(capacity);
        let jobs = Arc::new(Mutex::new(jobs));
        let start = |index| {
            let (guard, jobs) = (Arc::clone(guard), Arc::clone(&jobs));
            thread::Builder::new().name(format!("worker-{index}")).spawn(move || work(&guard, &jobs))
        };
        let threads = (0..count).map(start).collect::<Result<_, _>>()?;
        Ok(Self { queue: Some(queue), threads, room: Room::default() })
    }

    /// Queues a request: where its verdict will be.
    pub(super) fn submit(
        &self,
        request: Bytes,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Verdict, EvaluateError>>, Full> {
        let (reply, verdict) = oneshot::channel();
        let job = Job { request, since: Instant::now(), deadline, reply };
        match self.queue.as_ref().ok_or(Full)?.try_send(job) {
            Ok(()) => Ok(verdict),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Full),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // It ends by itself, and has nothing to tell.
            let _ = thread.join();
        }
    }
}

fn work(guard: &Guard, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { request, since, deadline, reply }) = job else { return };
        if reply.is_closed() {
            continue;
        }
        let begun = Instant::now();
        let policy = guard.policy.load_full();
        let verdict = policy.evaluate(request, health::now(), deadline, Arc::clone(&guard.source));
        guard.metrics.evaluated(begun - since, begun.elapsed());
        // Whoever asked has gone: there is nobody to tell.
        let _ = reply.send(verdict);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_has_no_room_waits() {
        let room = Room::default();
        let most = room.take((ROOM as usize - 1) << 10).await;
        let last = room.take(1).await;
        assert!(timeout(Duration::from_millis(20), room.take(1)).await.is_err());
        drop(last);
        assert!(room.take(0).await.is_some());
        drop(most);
        assert!(room.take(usize::MAX).await.is_some(), "more than there is takes all");
    }
}
