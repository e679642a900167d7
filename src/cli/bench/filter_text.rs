//! A filter on the command line, with the JSON that it was given as.

use std::sync::Arc;

use serde_json::Value;

use crate::api::convert::read_filter;
use crate::cli::filter;
use crate::filter::Filter;

/// A filter, and how it is told.
#[derive(Clone, Debug)]
pub struct FilterText {
    /// As it was given.
    pub json: Value,
    /// What it means.
    pub filter: Arc<Filter>,
}

impl FilterText {
    /// Reads the JSON of a filter.
    pub fn read(text: &str) -> Result<Self, String> {
        let filter = read_filter(Some(filter::read(text)?)).map_err(|error| error.message)?;
        let filter = filter.ok_or("expected a condition")?;
        Ok(Self { json: serde_json::from_str(text).map_err(|error| error.to_string())?, filter })
    }
}
