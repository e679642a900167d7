//! vectron-embedding: texts in, embeddings out, over gRPC and REST on one port.
//!
//! The binary serves on TCP; `vectron` embeds the same service in its process, through `EmbeddingService`.
//! Modules, lower first; imports point down only:
//!
//! - `encoder`: text → tokens → embedding, on the CPU;
//! - `model`: which models there are, where their weights come from, which are in memory;
//! - `batch`: the queue between callers and worker threads;
//! - `engine`: one call from texts to embeddings;
//! - `port`, `telemetry`, `shutdown`: what any service of ours needs, shared with `vectron`;
//! - `api`: gRPC and REST over the same handlers;
//! - `service`: all of it, running.

pub mod api;
pub mod batch;
pub mod encoder;
mod engine;
pub mod model;
pub mod pb;
pub mod port;
mod service;
pub mod shutdown;
pub mod telemetry;

pub use service::{EmbeddingService, Options, StartError, client};
