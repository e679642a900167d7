//! Vectron: a text-native vector database. Text goes in, ranked text comes out.
//!
//! Modules are declared in layer order; imports point up this list only, which `tests/tidy.rs` checks.
//! `ARCHITECTURE.md` is the map.

pub mod pb;
pub mod types;

pub mod distance;
pub mod filter;
pub mod quantization;

pub mod index;
pub mod storage;

pub mod collection;

pub mod database;
pub mod embedding;

pub mod api;

pub mod cli;
pub mod config;
pub mod server;
