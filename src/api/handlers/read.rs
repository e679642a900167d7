//! Get, List, and Count.

use std::sync::Arc;

use crate::api::convert::{Fields, invalid, read_filter, read_id, read_ids, to_record};
use crate::api::error::ApiError;
use crate::api::handlers::{AnswerSize, Handlers};
use crate::collection::{Row, View};
use crate::filter::Filter;
use crate::pb::v1 as pb;
use crate::types::RecordId;
use crate::types::limits::BATCH_RECORDS_MAX;

/// Records of a page where the client does not say.
const PAGE_RECORDS_DEFAULT: usize = 100;
/// Bytes of a page: gRPC clients take 4 MiB unless told otherwise, so a page ends early.
const PAGE_BYTES_MAX: usize = 3 << 20;
/// Conditions that are looked at for a page with a filter, some tens of milliseconds: a rare match must not hold a thread
/// until the end of a large collection.
const PAGE_CONDITIONS_MAX: usize = 200_000;
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

    /// `VectorService.List`. A page ends at `page_size` records or 3 MiB; with a filter also after some work, so that it may be
    /// empty and have a next one all the same.
    pub async fn list(&self, request: pb::ListRequest) -> Result<pb::ListResponse, ApiError> {
        let after = read_start(&request)?;
        let page = Page {
            after,
            size: read_page_size(request.page_size)?,
            fields: Fields::read(request.read_mask.as_ref(), Fields::ALL)?,
            filter: read_filter(request.filter)?,
        };
        let view = self.collection_at(&request.collection, request.min_sequence).await?.view();
        match page.filter {
            None => Ok(page.read(&view)),
            Some(_) => self.pool.run(move || page.read(&view)).await,
        }
    }

    /// `VectorService.Count`.
    pub async fn count(&self, request: pb::CountRequest) -> Result<pb::CountResponse, ApiError> {
        let filter = read_filter(request.filter)?;
        let view = self.collection_at(&request.collection, request.min_sequence).await?.view();
        let sequence = view.sequence().0;
        let record_count = match filter {
            None => view.record_count(),
            Some(filter) => {
                let matches = move |row: &Row<'_>| filter.matches(&row.content.metadata);
                self.pool.run(move || view.list(None).filter(|(row, _)| matches(row)).count()).await?
            }
        };
        Ok(pb::CountResponse { record_count: record_count as u64, sequence })
    }
}

/// A page of a list, as it was asked for.
struct Page {
    after: Option<RecordId>,
    size: usize,
    fields: Fields,
    filter: Option<Arc<Filter>>,
}

impl Page {
    fn read(&self, view: &View) -> pb::ListResponse {
        let mut response = pb::ListResponse { sequence: view.sequence().0, ..pb::ListResponse::default() };
        let mut bytes = 0;
        let mut conditions = 0;
        for (row, space) in view.list(self.after.as_ref()) {
            if let Some(filter) = &self.filter {
                conditions += filter.node_count();
                if !filter.matches(&row.content.metadata) {
                    if conditions >= PAGE_CONDITIONS_MAX {
                        response.next_page_token = page_token(row.id.as_str());
                        break;
                    }
                    continue;
                }
            }
            let record = to_record(&row, space, self.fields);
            bytes += prost::Message::encoded_len(&record);
            let is_full = response.records.len() == self.size || bytes > PAGE_BYTES_MAX;
            if let Some(last) = response.records.last().filter(|_| is_full) {
                response.next_page_token = page_token(&last.id);
                break;
            }
            response.records.push(record);
        }
        response
    }
}

fn page_token(last_id: &str) -> String {
    format!("{PAGE_TOKEN_PREFIX}{last_id}")
}

fn read_page_size(page_size: u32) -> Result<usize, ApiError> {
    match page_size as usize {
        0 => Ok(PAGE_RECORDS_DEFAULT),
        size if size <= BATCH_RECORDS_MAX => Ok(size),
        size => Err(invalid("page_size", format_args!("expected 1 to {BATCH_RECORDS_MAX}, but got {size}"))),
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
