//! Which models there are, a page at a time.

use std::sync::Arc;

use super::Handlers;
use crate::api::error::ApiError;
use crate::api::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
use crate::catalogue::Model;

/// Models of the registry.
pub(crate) struct Page {
    pub(crate) models: Vec<Arc<Model>>,
    /// Empty where this is the last page.
    pub(crate) next_token: String,
}

impl Handlers {
    /// A page token is the id of the last model of the page before.
    pub(crate) fn list(&self, page_size: u32, page_token: &str) -> Result<Page, ApiError> {
        let size = match page_size {
            0 => PAGE_SIZE_DEFAULT,
            1..=PAGE_SIZE_MAX => page_size,
            size => return Err(ApiError::PageSize { size }),
        } as usize;
        let all = self.models.all();
        let start = if page_token.is_empty() {
            0
        } else {
            let last = all.iter().position(|model| model.spec().id == page_token);
            1 + last.ok_or_else(|| ApiError::PageToken { token: page_token.to_owned() })?
        };
        let end = all.len().min(start + size);
        let models = all[start..end].to_vec();
        let more = end < all.len();
        let next_token = models.last().filter(|_| more).map_or_else(String::new, |model| model.spec().id.clone());
        Ok(Page { models, next_token })
    }
}
