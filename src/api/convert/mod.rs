//! The contract's messages to the engine's types and back. Everything that a client can get wrong within one message
//! is found here.

mod collection;
mod filter;
mod filter_json;
mod record;
mod value;

use std::fmt::Display;

use crate::api::error::{ApiError, Reason};
use crate::collection::RequestKey;
use crate::pb::v1 as pb;
use crate::storage::log::Durability;
use crate::types::SpaceName;
use crate::types::limits::{NAME_BYTES_MAX, REQUEST_ID_BYTES_MAX, TEXT_BYTES_MAX};

pub use collection::{NewSpace, read_new_spaces, to_collection};
pub use filter::read_filter;
pub use filter_json::filter_from_json;
pub use record::{AtFault, Fields, NewRecord, read_id, read_ids, read_records, read_vector, refuse, to_record};
pub use value::{from_json, read_metadata, to_json, to_value};

/// The durability asked for; durable by default.
pub fn read_durability(durability: i32) -> Result<Durability, ApiError> {
    match pb::Durability::try_from(durability) {
        Ok(pb::Durability::Unspecified | pb::Durability::Durable) => Ok(Durability::Durable),
        Ok(pb::Durability::Buffered) => Ok(Durability::Buffered),
        Err(_) => Err(unknown_enum("durability", durability)),
    }
}

/// The request id, and a hash of the request that it stands for.
pub fn read_request_key(request_id: &str, request: &impl prost::Message) -> Result<Option<RequestKey>, ApiError> {
    match request_id.len() {
        0 => Ok(None),
        1..=REQUEST_ID_BYTES_MAX => {
            let content_hash = xxhash_rust::xxh3::xxh3_64(&request.encode_to_vec());
            Ok(Some(RequestKey { request_id: request_id.to_owned(), content_hash }))
        }
        bytes => {
            Err(invalid("request_id", format_args!("expected 1 to {REQUEST_ID_BYTES_MAX} bytes, but got {bytes}")))
        }
    }
}

/// The id of a model, or nothing for the default: it is echoed and passed on, so its form is checked first.
pub fn read_model_id(field: &str, model_id: &str) -> Result<String, ApiError> {
    if model_id.is_empty() || SpaceName::new(model_id).is_ok() {
        return Ok(model_id.to_owned());
    }
    let start: String = model_id.chars().take(32).collect();
    let message = format_args!("expected 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 _ . -, but got {start:?}");
    Err(invalid(field, message))
}

/// A text to be embedded or stored.
pub fn check_text(field: &str, text: &str) -> Result<(), ApiError> {
    let expected = format_args!("expected a text of 1 to {TEXT_BYTES_MAX} bytes");
    match text.len() {
        0 => Err(ApiError::field(Reason::InvalidText, field, format_args!("{expected}, but it is empty"))),
        1..=TEXT_BYTES_MAX => Ok(()),
        bytes => Err(ApiError::field(Reason::InvalidText, field, format_args!("{expected}, but got {bytes}"))),
    }
}

/// A field that breaks its rules.
pub fn invalid(field: impl Into<String>, message: impl Display) -> ApiError {
    ApiError::field(Reason::InvalidArgument, field, message)
}

fn unknown_enum(field: &str, value: i32) -> ApiError {
    invalid(field, format_args!("{value} is no value of this enumeration"))
}
