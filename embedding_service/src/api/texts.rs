//! The texts of a call: so many as it may have, each of a length that it may have; and what its door calls them.

use std::fmt;

use super::limits::{TEXT_BYTES_MAX, TEXTS_MAX};
use crate::port::AtMost;

/// 1 to `TEXTS_MAX` texts, each of 1 to `TEXT_BYTES_MAX` bytes. Whoever has them need not look again.
#[derive(Debug, Clone)]
pub(crate) struct CheckedTexts(Vec<String>);

/// Texts that no call may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TextsError {
    /// None at all.
    None,
    /// More than a call may have.
    TooMany {
        /// How many.
        count: usize,
    },
    /// One of no bytes.
    Empty {
        /// Which one.
        index: usize,
    },
    /// One of too many bytes.
    TooLong {
        /// Which one.
        index: usize,
        /// How long it is.
        bytes: usize,
    },
}

/// What a request calls what went wrong in it. Errors know places alone; the door that tells them has the names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    /// The field of the texts.
    pub(super) texts: &'static str,
    /// Whether that is a list, or one text.
    pub(super) is_list: bool,
    /// The field of the model.
    pub(super) model: &'static str,
}

impl CheckedTexts {
    pub(crate) fn new(texts: Vec<String>) -> Result<Self, TextsError> {
        if texts.is_empty() {
            return Err(TextsError::None);
        }
        if texts.len() > TEXTS_MAX {
            return Err(TextsError::TooMany { count: texts.len() });
        }
        for (index, text) in texts.iter().enumerate() {
            if text.is_empty() {
                return Err(TextsError::Empty { index });
            }
            if text.len() > TEXT_BYTES_MAX {
                return Err(TextsError::TooLong { index, bytes: text.len() });
            }
        }
        Ok(Self(texts))
    }

    /// Of a list of JSON, which is kept no further than it takes to refuse it.
    pub(super) fn of(list: AtMost<String, TEXTS_MAX>) -> Result<Self, TextsError> {
        Self::new(list.all().map_err(|count| TextsError::TooMany { count })?)
    }

    pub(crate) fn into_inner(self) -> Vec<String> {
        self.0
    }
}

impl std::ops::Deref for CheckedTexts {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl TextsError {
    /// The field that is at fault.
    pub(super) fn field(&self, names: Names) -> String {
        match self {
            Self::None | Self::TooMany { .. } => names.texts.to_owned(),
            Self::Empty { index } | Self::TooLong { index, .. } => names.text(*index),
        }
    }

    /// What was expected and what came.
    pub(super) fn message(&self, names: Names) -> String {
        let field = self.field(names);
        match self {
            Self::None => format!("{field}: expected 1 to {TEXTS_MAX}, got none"),
            Self::TooMany { count } => format!("{field}: expected 1 to {TEXTS_MAX}, got {count}"),
            Self::Empty { .. } => format!("{field} is empty: expected 1 byte to 1 MiB ({TEXT_BYTES_MAX} bytes)"),
            Self::TooLong { bytes, .. } => {
                format!("{field} has {bytes} bytes: expected 1 byte to 1 MiB ({TEXT_BYTES_MAX} bytes)")
            }
        }
    }
}

impl fmt::Display for TextsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message(Names::CONTRACT))
    }
}

impl std::error::Error for TextsError {}

impl Names {
    /// Of gRPC, and of most of REST.
    pub(super) const CONTRACT: Self = Self { texts: "texts", is_list: true, model: "model_id" };
    /// Of `POST /embed`.
    pub(super) const OF_ONE: Self = Self { texts: "text", is_list: false, ..Self::CONTRACT };

    /// The field of one of the texts.
    pub(super) fn text(&self, index: usize) -> String {
        if self.is_list { format!("{}[{index}]", self.texts) } else { self.texts.to_owned() }
    }
}
