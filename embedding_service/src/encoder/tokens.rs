//! Text to token ids, cut to the model's limit.
//!
//! A long text is tokenized piece by piece until the limit is reached, which gives the first tokens of the whole text:
//! the last word of a piece may go on in the next one, so it is left to it. The tokenizer's own truncation and padding
//! are off: it would tokenize everything first, it would not say that it cut, and padding is wasted work.

use tokenizers::{
    AddedToken, Encoding, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper, PreTokenizerWrapper, Tokenizer,
};

use super::LoadError;

/// A piece has this many bytes for each token of the limit: more than most languages need.
const PIECE_BYTES_PER_TOKEN: usize = 8;

/// A text as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Ids, special tokens included.
    pub ids: Box<[u32]>,
    /// Whether the text was longer than the model's limit, so that only its beginning is here.
    pub truncated: bool,
}

pub(super) struct TextTokenizer {
    tokenizer: Tokenizer,
    /// Special tokens before and after the text: `[CLS]` and `[SEP]`.
    before: u32,
    after: u32,
    pub(super) tokens_max: usize,
    /// Absent: texts cannot be divided, and are tokenized whole.
    pieces: Option<Pieces>,
}

/// What has to be known of a tokenizer to divide texts.
struct Pieces {
    bytes_min: usize,
    /// Texts that are one token wherever they stand: not to be cut.
    added: Vec<String>,
    /// So many characters of `a` are a word that is too long for the vocabulary, and so is every longer one.
    overlong: String,
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
        // Told by the post-processor, which need not ask the vocabulary.
        if let Some(id) = [before, after].into_iter().find(|id| *id as usize >= vocabulary) {
            return Err(malformed(format!(
                "puts the id {id} beside each text, but config.json says vocab_size {vocabulary}"
            )));
        }
        let pieces = Pieces::of(&tokenizer, tokens_max * PIECE_BYTES_PER_TOKEN);
        Ok(Self { tokenizer, before, after, tokens_max, pieces })
    }

    /// Never fails for a WordPiece tokenizer: what it does not know becomes `[UNK]`.
    pub(super) fn tokenize(&self, text: &str) -> Result<Tokens, tokenizers::Error> {
        // `[CLS]` and `[SEP]`.
        let content_max = self.tokens_max - 2;
        let (mut content, mut truncated) = match &self.pieces {
            Some(pieces) if text.len() > pieces.bytes_min => {
                let encode = |piece| self.tokenizer.encode(piece, false);
                pieces.tokenize(&self.tokenizer, text, content_max, encode)?
            }
            _ => (self.tokenizer.encode_fast(text, false)?.get_ids().to_vec(), false),
        };
        truncated |= content.len() > content_max;
        content.truncate(content_max);
        let ids = [&[self.before], &content[..], &[self.after]].concat().into_boxed_slice();
        Ok(Tokens { ids, truncated })
    }
}

impl Pieces {
    /// Nothing where the tokenizer is not of BERT's kind: white space and punctuation divide words, whatever is around
    /// them, and each word is tokenized by itself.
    fn of(tokenizer: &Tokenizer, bytes_min: usize) -> Option<Self> {
        let Some(NormalizerWrapper::BertNormalizer(_)) = tokenizer.get_normalizer() else { return None };
        let Some(PreTokenizerWrapper::BertPreTokenizer(_)) = tokenizer.get_pre_tokenizer() else { return None };
        let ModelWrapper::WordPiece(model) = tokenizer.get_model() else { return None };
        let plain = |token: &AddedToken| {
            let changed = token.normalized || token.lstrip || token.rstrip || token.single_word;
            !changed && token.content.starts_with(|first: char| first.is_ascii_punctuation())
        };
        let added: Vec<AddedToken> = tokenizer.get_added_tokens_decoder().into_values().collect();
        let added_bytes_max = added.iter().map(|token| token.content.len()).max().unwrap_or(0);
        added.iter().all(plain).then(|| Self {
            // Room for each of them: a piece that ends before one must have a beginning.
            bytes_min: bytes_min.max(2 * added_bytes_max),
            added: added.into_iter().map(|token| token.content).collect(),
            overlong: "a".repeat(model.max_input_chars_per_word + 1),
        })
    }

    /// The first tokens of `text`, and whether there are more: all of them, or at least `content_max`. `encode` has the tokenizer
    /// split a piece, which is nearly all of the work.
    fn tokenize(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        content_max: usize,
        mut encode: impl FnMut(String) -> Result<Encoding, tokenizers::Error>,
    ) -> Result<(Vec<u32>, bool), tokenizers::Error> {
        let mut content = Vec::new();
        let mut rest = text;
        let mut piece_bytes = self.bytes_min;
        // Whether `rest` begins within a word that is overlong already: what it goes on with changes nothing.
        let mut within_overlong = false;
        loop {
            rest = if within_overlong { rest.trim_start_matches(goes_on) } else { rest.trim_start() };
            let piece = &rest[..self.cut(rest, piece_bytes)];
            let stand_in = if within_overlong { self.overlong.as_str() } else { "" };
            let encoding = encode(format!("{stand_in}{piece}"))?;
            let (ids, words, offsets) = (encoding.get_ids(), encoding.get_word_ids(), encoding.get_offsets());
            if piece.len() == rest.len() {
                content.extend_from_slice(ids);
                return Ok((content, false));
            }

            // Of the words before the last.
            let last_word = words.last().copied().flatten();
            let whole = words.iter().position(|word| *word == last_word).unwrap_or(0);
            if content.len() + whole >= content_max && !ids.is_empty() {
                // The last word, which is not in it, is a token at least.
                content.extend_from_slice(&ids[..whole]);
                return Ok((content, true));
            }
            if ids.is_empty() {
                rest = &rest[piece.len()..];
            } else if whole == 0 {
                let normalized = normalize(tokenizer, piece)?;
                let characters = normalized.chars().filter(|char| !char.is_whitespace()).count();
                if normalized.ends_with(char::is_whitespace) {
                    content.extend_from_slice(ids);
                    within_overlong = false;
                } else if within_overlong || characters >= self.overlong.len() {
                    within_overlong = true;
                } else {
                    piece_bytes *= 2;
                    continue;
                }
                rest = &rest[piece.len()..];
            } else if let Some(last_start) = offsets[whole].0.checked_sub(stand_in.len())
                && divides(tokenizer, piece, last_start, stand_in, (&ids[..whole], &ids[whole..]))?
            {
                content.extend_from_slice(&ids[..whole]);
                rest = &rest[last_start..];
                within_overlong = false;
            } else {
                piece_bytes *= 2;
                continue;
            }
            piece_bytes = self.bytes_min;
        }
    }

    /// Where the piece of `text` ends that has some `bytes`: not within a character, nor within an added token.
    fn cut(&self, text: &str, bytes: usize) -> usize {
        if text.len() <= bytes {
            return text.len();
        }
        let mut cut = text.floor_char_boundary(bytes);
        for token in &self.added {
            let from = text.floor_char_boundary(cut.saturating_sub(token.len() - 1));
            let to = text.ceil_char_boundary(text.len().min(cut + token.len() - 1));
            if let Some(start) = text[from..to].find(token.as_str()).map(|start| from + start)
                && start > 0
                && start < cut
            {
                cut = start;
            }
        }
        cut
    }
}

fn normalize(tokenizer: &Tokenizer, piece: &str) -> Result<String, tokenizers::Error> {
    let mut normalized = NormalizedString::from(piece);
    if let Some(normalizer) = tokenizer.get_normalizer() {
        normalizer.normalize(&mut normalized)?;
    }
    Ok(normalized.get().to_owned())
}

/// Whether the two parts of `piece` have these tokens. The tokenizer's offsets are not always right: where combining
/// marks change places, they stay behind.
fn divides(
    tokenizer: &Tokenizer,
    piece: &str,
    at: usize,
    stand_in: &str,
    (before, after): (&[u32], &[u32]),
) -> Result<bool, tokenizers::Error> {
    if piece.is_ascii() {
        return Ok(true);
    }
    let Some((first, second)) = piece.split_at_checked(at) else { return Ok(false) };
    Ok(tokenizer.encode_fast(format!("{stand_in}{first}"), false)?.get_ids() == before
        && tokenizer.encode_fast(second, false)?.get_ids() == after)
}

/// Whether `char` is one of those of which is known that they divide nothing, so that a run of them need not be
/// tokenized: letters of alphabets, syllables, and pictures. Chinese characters are words by themselves.
fn goes_on(char: char) -> bool {
    char.is_ascii_alphanumeric()
        || char < '\u{3400}' && char.is_alphabetic()
        || matches!(char, '\u{ac00}'..='\u{d7a3}' | '\u{1f300}'..='\u{1faff}')
}

#[cfg(test)]
mod tests;
