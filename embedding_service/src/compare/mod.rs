//! Comparison of models: how fast they are, and how well their embeddings tell texts apart.
//!
//! Knows texts, embeddings and times; who embeds is told by `Embeds`, so that a model is measured by what a caller of the
//! service would get. Nothing here is kept: what a comparison has found out is in its answer alone.
//!
//! - `input`: what is compared on: sample texts by topic, pairs of query and document; their bounds, and their files;
//! - `contrast`: mean cosine within topics minus mean cosine across topics;
//! - `retrieval`: whether queries find their documents;
//! - `measure`: one model, stage by stage;
//! - `report`: the table, as JSON has it;
//! - `wire`: the same to and from the messages of the contract.

mod contrast;
mod input;
mod measure;
mod report;
mod retrieval;
mod wire;

pub(crate) use input::Plan;
pub use input::{FileError, Pair, Sample, read_pairs, read_samples};
pub(crate) use measure::{Embeds, Progress, check_components, measure};
pub use report::{Comparison, Measured, ModelReport, Outcome, Retrieval, Setting};
