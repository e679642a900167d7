//! The threads that run models.
//!
//! Each runs its own batches alone: measured on 2,000 short texts, two threads with a batch each are 30 % faster than
//! two threads on one batch.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::priority::lower_priority;
use super::queue::{Batch, Done, Queue};
use crate::encoder::{Scratch, first_not_finite, normalize};
use crate::figures;
use crate::model::LoadedModel;
use crate::told::microseconds;

/// The worker threads of a queue. They end when the queue is closed and empty.
pub(crate) struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` threads.
    pub(crate) fn start(queue: &Arc<Queue<LoadedModel>>, count: usize) -> io::Result<Self> {
        queue.pace().set_threads(count);
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            let queue = queue.clone();
            threads.push(thread::Builder::new().name(format!("embed {index}")).spawn(move || work(&queue))?);
        }
        Ok(Self { threads })
    }

    /// Waits until all have ended.
    pub(crate) fn join(self) {
        for thread in self.threads {
            // A thread that panicked has said so in the log.
            let _ = thread.join();
        }
    }
}

fn work(queue: &Queue<LoadedModel>) {
    lower_priority();
    // The matrix product asks rayon how many threads there are. In a pool of this thread alone: one.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    if let Err(error) = &pool {
        tracing::warn!("embedding threads share their products, which is slower: {error}");
    }

    let mut scratch = Scratch::default();
    let mut embeddings = Vec::new();
    while let Some(batch) = queue.take() {
        // One text that trips over a bug must not take the thread with it: its callers see their channel close.
        let run = panic::catch_unwind(AssertUnwindSafe(|| run(queue, batch, &mut scratch, &mut embeddings)));
        if run.is_err() {
            scratch = Scratch::default();
        }
    }
}

fn run(queue: &Queue<LoadedModel>, batch: Batch<LoadedModel>, scratch: &mut Scratch, embeddings: &mut Vec<f32>) {
    let started = Instant::now();
    let texts: Vec<&[u32]> = batch.items.iter().map(|item| &*item.tokens.ids).collect();
    embeddings.clear();
    batch.model.encoder.embed(&texts, scratch, embeddings);
    let (time, tokens) = (started.elapsed(), texts.iter().map(|text| text.len()).sum());
    queue.pace().ran(tokens, time);
    figures::batch_ran(&batch.model.id, tokens, time);
    let inference_us = microseconds(time);

    let rows = embeddings.chunks_exact_mut(batch.model.encoder.dimension());
    let mut worthless = 0;
    for (item, embedding) in batch.items.into_iter().zip(rows) {
        // Not to be compared, nor remembered. Its caller sees its channel close, as after a panic.
        if first_not_finite(embedding).is_some() {
            worthless += 1;
            continue;
        }
        if item.normalize {
            normalize(embedding);
        }
        let waited = started.duration_since(item.since);
        figures::text_waited(waited);
        let queue_us = microseconds(waited);
        // A caller that has left does not want it any more.
        let _ = item.results.send(Done { index: item.index, embedding: embedding.to_vec(), queue_us, inference_us });
    }
    if worthless > 0 {
        tracing::error!(
            "model {} gave numbers that are not finite for {worthless} texts: their calls fail",
            batch.model.id
        );
    }
}
