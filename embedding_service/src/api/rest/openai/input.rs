//! `input` of `POST /v1/embeddings`: one text, or a list of them; what else OpenAI takes there is recognized, and refused by name.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use utoipa::PartialSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{OneOfBuilder, Schema};

use crate::api::limits::TEXTS_MAX;
use crate::api::texts::{CheckedTexts, Names, TextsError};

/// What it has to be, or what it is instead.
pub(super) enum OpenAiInput {
    Text(String),
    Texts(Vec<String>),
    /// So many, which were not kept.
    TooMany(usize),
    Tokens,
}

impl OpenAiInput {
    /// As errors name it.
    pub(super) fn names(&self) -> Names {
        Names { texts: "input", is_list: !matches!(self, Self::Text(_)), model: "model" }
    }

    /// `None`: it is tokens.
    pub(super) fn checked(self) -> Option<Result<CheckedTexts, TextsError>> {
        match self {
            Self::Text(text) => Some(CheckedTexts::new(vec![text])),
            Self::Texts(texts) => Some(CheckedTexts::new(texts)),
            Self::TooMany(count) => Some(Err(TextsError::TooMany { count })),
            Self::Tokens => None,
        }
    }

    pub(super) fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .description(Some("A text, or 1 to 2,048 of them; each 1 byte to 1 MiB. Tokens are refused."))
            .item(String::schema())
            .item(Vec::<String>::schema())
            .examples([serde_json::json!(["hello"])])
            .into()
    }
}

impl<'de> Deserialize<'de> for OpenAiInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputVisitor)
    }
}

/// Reads texts one by one, and passes over tokens without keeping them: a body may have millions.
struct InputVisitor;

impl<'de> Visitor<'de> for InputVisitor {
    type Value = OpenAiInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<OpenAiInput, E> {
        Ok(OpenAiInput::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<OpenAiInput, E> {
        Ok(OpenAiInput::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OpenAiInput, A::Error> {
        let (mut texts, mut count, mut has_tokens) = (Vec::new(), 0, false);
        while let Some(element) = list.next_element()? {
            count += 1;
            match element {
                Element::Text(text) if texts.len() < TEXTS_MAX => texts.push(text),
                Element::Text(_) => {}
                Element::Token | Element::Tokens => has_tokens = true,
            }
        }
        Ok(match count > texts.len() {
            _ if has_tokens => OpenAiInput::Tokens,
            true => OpenAiInput::TooMany(count),
            false => OpenAiInput::Texts(texts),
        })
    }
}

/// An element of the list.
enum Element {
    Text(String),
    Token,
    Tokens,
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Element, E> {
        Ok(Element::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Element, E> {
        Ok(Element::Text(text))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Element, E> {
        Ok(Element::Token)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
        let mut is_all_tokens = true;
        while let Some(IsToken(is_token)) = list.next_element()? {
            is_all_tokens &= is_token;
        }
        if is_all_tokens { Ok(Element::Tokens) } else { Err(A::Error::invalid_type(Unexpected::Seq, &"a text")) }
    }
}

/// Whether an element of a list in the list is a token. Whatever it is, it is read and not kept.
struct IsToken(bool);

impl<'de> Deserialize<'de> for IsToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IsTokenVisitor).map(Self)
    }
}

struct IsTokenVisitor;

impl<'de> Visitor<'de> for IsTokenVisitor {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_text_nor_token_is_told() {
        let read = |json: &str| serde_json::from_str::<OpenAiInput>(json);
        assert!(matches!(read("[1, [2, 3], \"x\"]"), Ok(OpenAiInput::Tokens)));
        assert!(matches!(read("[[]]"), Ok(OpenAiInput::Tokens)));
        assert!(matches!(read("[]"), Ok(OpenAiInput::Texts(texts)) if texts.is_empty()));
        for wrong in ["[[\"a\"]]", "[[1, -1]]", "[[1.5]]", "[[true]]", "[[null]]", "[[[1]]]", "[[{\"a\": 1}]]"] {
            let told = read(wrong).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(told.starts_with("invalid type: sequence, expected a text at line 1"), "{wrong}: {told}");
        }
        let broken = read("[[1, x]]").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(broken.starts_with("expected value"), "{broken}");
        let many = format!("[\"\"{}]", ",\"\"".repeat(TEXTS_MAX));
        assert!(matches!(read(&many), Ok(OpenAiInput::TooMany(count)) if count == TEXTS_MAX + 1));
    }
}
