//! Text to token ids, cut to the model's limit.
//!
//! The tokenizer's own truncation and padding are off: it would not say that it cut, and padding is wasted work.

use tokenizers::Tokenizer;

use super::LoadError;

/// A text of this many bytes is first tokenized in part: only its beginning can count.
const PREFIX_BYTES_MIN: usize = 16 << 10;

/// A text as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Ids, special tokens included.
    pub ids: Box<[u32]>,
    /// Whether the text was longer than the model's limit, so that only its beginning is here.
    pub truncated: bool,
}

pub(super) struct TextTokenizer {
    tokenizer: Tokenizer,
    /// Special tokens before and after the text: `[CLS]` and `[SEP]`.
    before: Vec<u32>,
    after: Vec<u32>,
    tokens_max: usize,
}

impl TextTokenizer {
    pub(super) fn from_json(json: &[u8], tokens_max: usize, vocabulary: usize) -> Result<Self, LoadError> {
        let malformed = |reason: String| LoadError::Malformed { file: "tokenizer.json", reason };
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| malformed(error.to_string()))?;
        tokenizer.with_truncation(None).map_err(|error| malformed(error.to_string()))?;
        tokenizer.with_padding(None);

        let ids_max = tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if ids_max >= vocabulary {
            return Err(malformed(format!("has the id {ids_max}, but config.json says vocab_size {vocabulary}")));
        }
        let special = tokenizer.encode_fast("", true).map_err(|error| malformed(error.to_string()))?;
        let &[before, after] = special.get_ids() else {
            return Err(malformed(format!(
                "puts {} special tokens around a text; supported is one before and one after",
                special.len()
            )));
        };
        Ok(Self { tokenizer, before: vec![before], after: vec![after], tokens_max })
    }

    /// Never fails for a WordPiece tokenizer: what it does not know becomes `[UNK]`.
    pub(super) fn tokenize(&self, text: &str) -> Result<Tokens, tokenizers::Error> {
        let content_max = self.tokens_max - self.before.len() - self.after.len();
        let mut prefix_bytes = PREFIX_BYTES_MIN;
        loop {
            let prefix = prefix(text, prefix_bytes);
            let encoding = self.tokenizer.encode_fast(prefix, false)?;
            let content = encoding.get_ids();
            if prefix.len() < text.len() && content.len() <= content_max {
                prefix_bytes *= 4;
                continue;
            }
            let kept = &content[..content.len().min(content_max)];
            return Ok(Tokens {
                ids: [&self.before, kept, &self.after].concat().into_boxed_slice(),
                truncated: content.len() > content_max,
            });
        }
    }
}

/// The beginning of `text`, cut at the first white space or mark after `bytes_min`: no token reaches over those, so the
/// tokens of the beginning are the first tokens of the text. Brackets do not count: `[SEP]` is one token.
fn prefix(text: &str, bytes_min: usize) -> &str {
    let divides = |byte: &u8| byte.is_ascii_whitespace() || b"!\"',-.:;?".contains(byte);
    let rest = text.as_bytes().get(bytes_min..).unwrap_or_default();
    match rest.iter().position(divides) {
        Some(cut) => &text[..bytes_min + cut],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_ends_at_white_space_or_a_mark() {
        assert_eq!(prefix("one two three", 4), "one two");
        assert_eq!(prefix("one two three", 3), "one");
        assert_eq!(prefix("one two three", 9), "one two three");
        assert_eq!(prefix("äöü ß", 1), "äöü");
        assert_eq!(prefix("one!!!", 4), "one!");
        assert_eq!(prefix("[SEP][SEP]", 2), "[SEP][SEP]");
        assert_eq!(prefix("one", 9), "one");
    }
}
