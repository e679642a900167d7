//! Which streams are open, each on one connection.
//!
//! A client whose connection broke may come back before the server has noticed, so the newer connection wins: it tells the
//! older one to stop, and waits until nothing of it is on its way to the log any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::timeout;

use crate::api::error::{ApiError, Reason};
use crate::types::{CollectionName, StreamId};

/// Streams that are open at once, of all collections: fewer than one collection remembers, so that no open one is forgotten
/// for the sake of another.
const OPEN_MAX: usize = 512;
/// The older connection has this long to stop: the time of a sync.
const TAKEOVER_TIME_MAX: Duration = Duration::from_secs(10);

type Key = (CollectionName, StreamId);

/// The streams that are open; clones share them.
#[derive(Clone, Default)]
pub struct OpenStreams(Arc<Mutex<HashMap<Key, Arc<Slot>>>>);

/// One stream, while any connection has it or waits for it.
#[derive(Default)]
struct Slot {
    /// Held by the connection that has the stream.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Counts the connections that have asked for it: only the latest may have it.
    asked: watch::Sender<u64>,
}

/// The right to write to a stream, until another connection asks for it.
pub struct Lease {
    streams: OpenStreams,
    key: Key,
    /// Let go of under the table's lock.
    slot: Option<Arc<Slot>>,
    number: u64,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl OpenStreams {
    /// Takes the stream over from whoever has it.
    pub async fn lease(&self, collection: CollectionName, stream_id: StreamId) -> Result<Lease, ApiError> {
        let mut lease = self.ask(collection, stream_id)?;
        let turn = lease.slot().turn.clone().lock_owned();
        let waited = tokio::select! {
            biased;
            () = lease.taken_over() => return Err(lease.taken_over_error()),
            turn = timeout(TAKEOVER_TIME_MAX, turn) => turn,
        };
        let still_settling = |_| {
            ApiError::new(
                Reason::Overloaded,
                "the connection that had this stream before is still writing its last frames",
            )
            .with_retry_after(Duration::from_secs(1))
        };
        lease._turn = Some(waited.map_err(still_settling)?);
        Ok(lease)
    }

    fn ask(&self, collection: CollectionName, stream_id: StreamId) -> Result<Lease, ApiError> {
        let key = (collection, stream_id);
        let mut open = self.lock();
        if open.len() >= OPEN_MAX && !open.contains_key(&key) {
            let message = format_args!("{OPEN_MAX} streams are open, and there can be no more");
            return Err(ApiError::new(Reason::LimitReached, message).with_retry_after(Duration::from_secs(5)));
        }
        let slot = open.entry(key.clone()).or_default().clone();
        let mut number = 0;
        slot.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        Ok(Lease { streams: self.clone(), key, slot: Some(slot), number, _turn: None })
    }

    /// Nothing that runs under the lock can leave the table half changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Waits until another connection asks for the stream.
    pub async fn taken_over(&self) {
        let mut asked = self.slot().asked.subscribe();
        let later = asked.wait_for(|&asked| asked > self.number).await;
        assert!(later.is_ok(), "the sender lives in the slot");
    }

    fn slot(&self) -> &Slot {
        self.slot.as_ref().expect("it is there until the lease is dropped")
    }

    /// What the older connection is told.
    pub fn taken_over_error(&self) -> ApiError {
        let message = format_args!("another connection has opened stream {:?}", self.key.1);
        ApiError::new(Reason::StreamTakenOver, message)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        self.slot = None;
        // The table alone: nobody has the stream or waits for it.
        if open.get(&self.key).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            open.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (CollectionName, StreamId) {
        (CollectionName::new("c").unwrap(), StreamId::new("s").unwrap())
    }

    #[tokio::test]
    async fn the_newer_connection_wins_once_the_older_has_stopped() {
        let streams = OpenStreams::default();
        let (collection, stream_id) = names();
        let first = streams.lease(collection.clone(), stream_id.clone()).await.unwrap();
        let (taken, second) = tokio::join!(
            async {
                first.taken_over().await;
                drop(first);
            },
            streams.lease(collection, stream_id)
        );
        let () = taken;
        drop(second.unwrap());
        assert!(streams.lock().is_empty());
    }

    #[tokio::test]
    async fn of_two_that_wait_the_later_gets_the_stream() {
        let streams = OpenStreams::default();
        let (collection, stream_id) = names();
        let first = streams.lease(collection.clone(), stream_id.clone()).await.unwrap();
        let early = streams.lease(collection.clone(), stream_id.clone());
        let late = streams.lease(collection, stream_id);
        let (early, late, ()) = tokio::join!(early, late, async {
            first.taken_over().await;
            tokio::task::yield_now().await;
            drop(first);
        });
        assert_eq!(early.err().map(|error| error.reason), Some(Reason::StreamTakenOver));
        assert!(late.is_ok());
    }
}
