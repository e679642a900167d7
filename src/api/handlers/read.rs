//! Get, List, Count, and Delete.

use crate::api::convert::{
    Fields, invalid, read_durability, read_id, read_ids, read_request_key, refuse_filter, to_record,
};
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::{AnswerSize, Handlers};
use crate::collection::{Applied, Change, Operation, RecordRemoved};
use crate::pb::v1 as pb;
use crate::pb::v1::delete_request::Selector;
use crate::types::limits::BATCH_RECORDS_MAX;
use crate::types::{RecordId, Sequence};

/// Records of a page where the client does not say.
const PAGE_RECORDS_DEFAULT: usize = 100;
/// Bytes of a page: gRPC clients take 4 MiB unless told otherwise, so a page ends early.
const PAGE_BYTES_MAX: usize = 3 << 20;
/// Page tokens begin with their version.
const PAGE_TOKEN_PREFIX: &str = "1:";

impl Handlers {
    /// `VectorService.Get`.
    pub async fn get(&self, request: pb::GetRequest) -> Result<pb::GetResponse, ApiError> {
        let fields = Fields::read(request.read_mask.as_ref(), Fields::ALL)?;
        let ids = read_ids("ids", request.ids.iter())?;
        let view = self.collection_at(&request.collection, request.min_sequence).await?.view();
        let mut response = pb::GetResponse { sequence: view.sequence().0, ..pb::GetResponse::default() };
        let mut size = AnswerSize::new("fewer ids");
        for id in ids {
            let Some((row, space)) = view.get(id.as_str()) else {
                response.missing_ids.push(id.as_str().to_owned());
                continue;
            };
            let record = to_record(&row, space, fields);
            size.add(&record)?;
            response.records.push(record);
        }
        Ok(response)
    }

    /// `VectorService.List`. A page ends at `page_size` records or 3 MiB.
    pub async fn list(&self, request: pb::ListRequest) -> Result<pb::ListResponse, ApiError> {
        refuse_filter(request.filter.as_ref())?;
        let fields = Fields::read(request.read_mask.as_ref(), Fields::ALL)?;
        let page_size = match request.page_size as usize {
            0 => PAGE_RECORDS_DEFAULT,
            size if size <= BATCH_RECORDS_MAX => size,
            size => {
                return Err(invalid("page_size", format_args!("expected 1 to {BATCH_RECORDS_MAX}, but got {size}")));
            }
        };
        let after = read_start(&request)?;
        let view = self.collection_at(&request.collection, request.min_sequence).await?.view();
        let mut response = pb::ListResponse { sequence: view.sequence().0, ..pb::ListResponse::default() };
        let mut bytes = 0;
        for (row, space) in view.list(after.as_ref()) {
            let record = to_record(&row, space, fields);
            bytes += prost::Message::encoded_len(&record);
            let is_full = response.records.len() == page_size || bytes > PAGE_BYTES_MAX;
            if let Some(last) = response.records.last().filter(|_| is_full) {
                response.next_page_token = format!("{PAGE_TOKEN_PREFIX}{}", last.id);
                break;
            }
            response.records.push(record);
        }
        Ok(response)
    }

    /// `VectorService.Count`.
    pub async fn count(&self, request: pb::CountRequest) -> Result<pb::CountResponse, ApiError> {
        refuse_filter(request.filter.as_ref())?;
        let view = self.collection_at(&request.collection, request.min_sequence).await?.view();
        Ok(pb::CountResponse { record_count: view.record_count() as u64, sequence: view.sequence().0 })
    }

    /// `VectorService.Delete`.
    pub async fn delete(&self, request: pb::DeleteRequest) -> Result<pb::DeleteResponse, ApiError> {
        let request_key = read_request_key(&request.request_id, &request)?;
        let durability = read_durability(request.durability)?;
        let keys = match request.selector {
            Some(Selector::Ids(keys)) => keys.keys,
            Some(Selector::Filter(_)) => return Err(ApiError::not_implemented("`Delete.filter`")),
            None => return Err(invalid("selector", "set `ids` or `filter`")),
        };
        let change = Change::Deleted(read_keys(&keys)?);
        let collection = self.collection(&request.collection)?;
        let applied =
            self.write(&collection, Operation { change, stream_frame: None, request_key }, durability).await?;
        let Applied::Deleted { sequence, deleted_count } = applied else {
            return Err(ApiError::new(Reason::Internal, "a delete was answered as something else"));
        };
        Ok(pb::DeleteResponse { sequence: sequence.0, deleted_count: deleted_count as u64 })
    }
}

/// Where a page begins: after this id.
fn read_start(request: &pb::ListRequest) -> Result<Option<RecordId>, ApiError> {
    match (request.page_token.as_str(), request.after_id.as_str()) {
        ("", "") => Ok(None),
        ("", after) => read_id("after_id", after).map(Some),
        (token, "") => {
            let id = token.strip_prefix(PAGE_TOKEN_PREFIX).and_then(|id| RecordId::new(id).ok());
            id.map(Some).ok_or_else(|| invalid("page_token", "expected the `next_page_token` of an answer"))
        }
        _ => Err(invalid("after_id", "must be empty where a page token is given")),
    }
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
