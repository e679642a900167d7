//! `--filter`, as `search`, `delete` and `export` have it.

use crate::api::convert::{filter_from_json, read_filter};
use crate::pb::v1 as pb;

/// Reads the JSON of a filter. What the server would refuse is refused here, before anything is done.
pub fn read(text: &str) -> Result<pb::Filter, String> {
    let example = r#"{"equals": {"field": "kind", "value": "animal"}}"#;
    let json = serde_json::from_str(text).map_err(|error| format!("expected JSON such as {example}, but {error}"))?;
    let filter = filter_from_json(json).map_err(|error| error.message)?;
    read_filter(Some(filter.clone())).map_err(|error| error.message)?;
    Ok(filter)
}
