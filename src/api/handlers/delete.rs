//! Delete, by ids or by a filter.

use crate::api::convert::{invalid, read_durability, read_filter, read_ids, read_request_key};
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::Handlers;
use crate::collection::{Applied, Change, Operation, RecordRemoved, View};
use crate::filter::Filter;
use crate::pb::v1 as pb;
use crate::pb::v1::delete_request::Selector;
use crate::types::Sequence;
use crate::types::limits::DELETE_BYTES_MAX;

/// What each deleted record takes in the log beside its id: tags, lengths and the version.
const KEY_BYTES: usize = 16;

impl Handlers {
    /// `VectorService.Delete`. The records that a filter chooses go into the log by id, with the version that each had when it
    /// was looked at: one that is written meanwhile is left alone.
    pub async fn delete(&self, request: pb::DeleteRequest) -> Result<pb::DeleteResponse, ApiError> {
        let request_key = read_request_key(&request.request_id, &request)?;
        let durability = read_durability(request.durability)?;
        let (records, filter) = match request.selector {
            Some(Selector::Ids(keys)) => (read_keys(&keys.keys)?, None),
            Some(Selector::Filter(filter)) => (Vec::new(), read_filter(Some(filter))?),
            None => return Err(invalid("selector", "set `ids` or `filter`")),
        };
        let collection = self.collection(&request.collection)?;
        let records = match filter {
            None => records,
            Some(filter) => {
                let view = collection.view();
                self.pool.run(move || choose(&view, &filter)).await??
            }
        };
        let operation = Operation { change: Change::Deleted(records), stream_frame: None, request_key };
        let applied = self.write(&collection, operation, durability).await?;
        let Applied::Deleted { sequence, deleted_count } = applied else {
            return Err(ApiError::new(Reason::Internal, "a delete was answered as something else"));
        };
        Ok(pb::DeleteResponse { sequence: sequence.0, deleted_count: deleted_count as u64 })
    }
}

/// The records that fulfil the filter. They become one record of the log, which has its limit.
fn choose(view: &View, filter: &Filter) -> Result<Vec<RecordRemoved>, ApiError> {
    let mut chosen = Vec::new();
    let mut bytes = 0;
    for (row, _) in view.list(None).filter(|(row, _)| filter.matches(&row.content.metadata)) {
        bytes += KEY_BYTES + row.id.as_str().len();
        if bytes > DELETE_BYTES_MAX {
            let message = format_args!(
                "the filter chooses more than {} records, whose ids take more than the {DELETE_BYTES_MAX} bytes that one \
                 delete has room for, and nothing was deleted: narrow the filter, or List with it and Delete by ids",
                chosen.len()
            );
            return Err(ApiError::new(Reason::LimitReached, message));
        }
        chosen.push(RecordRemoved { id: row.id.clone(), if_version: None, observed_version: Some(row.version) });
    }
    Ok(chosen)
}

/// The records to delete; the same id may come twice only if it asks for the same.
fn read_keys(keys: &[pb::RecordKey]) -> Result<Vec<RecordRemoved>, ApiError> {
    let mut removed = Vec::with_capacity(keys.len());
    let ids: Vec<String> = keys.iter().map(|key| key.id.clone()).collect();
    for (index, (id, key)) in read_ids("ids.keys", ids.iter())?.into_iter().zip(keys).enumerate() {
        if key.if_version == Some(0) {
            let message = "a record that must not exist cannot be deleted; leave `if_version` out for any version";
            return Err(invalid(format!("ids.keys[{index}].if_version"), message));
        }
        removed.push(RecordRemoved { id, if_version: key.if_version.map(Sequence), observed_version: None });
    }
    removed.sort_by(|a, b| (&a.id, a.if_version).cmp(&(&b.id, b.if_version)));
    removed.dedup();
    if let Some(pair) = removed.windows(2).find(|pair| pair[0].id == pair[1].id) {
        let message = format_args!("id {:?} comes twice in one batch, with another if_version", pair[0].id.as_str());
        return Err(invalid("ids.keys", message));
    }
    Ok(removed)
}
