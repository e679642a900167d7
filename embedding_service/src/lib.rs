//! vectron-embedding: texts in, embeddings out, over gRPC and REST on one port.
//!
//! The binary serves on TCP; `vectron` embeds the same service in its process, through `EmbeddingService`.
//! Modules, lower first; imports point down only, which `tests/tidy.rs` of the workspace checks:
//!
//! - `pb`: the contract's messages;
//! - `locality`, `told`: what is this machine, and how errors, times and places in files are told;
//! - `port`, `telemetry`, `shutdown`, `command_line`: what any service of ours needs, shared with `vectron`;
//! - `figures`: what is counted;
//! - `part`: files that are put into their place whole;
//! - `encoder`: text → tokens → embedding, on the CPU;
//! - `model`: which models there are, where the weights of local ones come from, which are in memory;
//! - `batch`: the queues between callers and the threads that tokenize and run models, and what a call does where they are full;
//! - `provider`: models that others run, asked over HTTP;
//! - `catalogue`: the models of the registry, each with who runs it;
//! - `engine`: one call from texts to embeddings;
//! - `compare`: models beside each other, on sample texts;
//! - `auth`: who may use the service, and for what;
//! - `cache`: embeddings that were asked for before;
//! - `api`: gRPC and REST over the same handlers;
//! - `service`: all of it, running;
//! - `remote`: a service elsewhere, for its clients.

#![warn(unreachable_pub)]

mod api;
pub mod auth;
mod batch;
mod cache;
mod catalogue;
pub mod command_line;
pub mod compare;
mod encoder;
mod engine;
mod figures;
mod locality;
pub mod model;
mod part;
pub mod pb;
pub mod port;
mod provider;
pub mod remote;
mod service;
pub mod shutdown;
pub mod telemetry;
mod told;

pub use encoder::Precision;
pub use figures::PREFIX as FIGURES_PREFIX;
pub use service::{EmbeddingService, ListenError, Listener, Options, StartError, client};
