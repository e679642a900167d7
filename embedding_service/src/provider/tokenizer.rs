//! Texts as they are sent: with their prompt, and cut where it is known here how many tokens they have.
//!
//! A text is cut between words, in front of the first that exceeds the limit; so no more of it is tokenized than is sent.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::model::{Input, ModelSpec, RemoteTokenizer};

/// Texts of so many bytes together are tokenized on a thread that may block: some milliseconds.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// A text as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prepared {
    pub(super) text: String,
    /// Where they can be counted here.
    pub(super) tokens: Option<usize>,
    pub(super) truncated: bool,
}

impl Prepared {
    /// What it counts towards the limit of a request: tokens, else bytes, which are never less.
    pub(super) fn weight(&self) -> usize {
        self.tokens.unwrap_or(self.text.len())
    }
}

/// The texts with their prompts, at most `tokens_max` tokens of each where there is a tokenizer.
pub(super) async fn prepare(
    spec: &ModelSpec,
    tokenizer: Option<RemoteTokenizer>,
    texts: &[String],
    input: Input,
    cutting: &Arc<Semaphore>,
) -> Vec<Prepared> {
    let prompt = spec.prompts.of(input);
    let texts: Vec<String> = texts.iter().map(|text| format!("{prompt}{text}")).collect();
    let tokens_max = spec.tokens_max;
    let cut = move |text: String| match tokenizer {
        None => Prepared { text, tokens: None, truncated: false },
        Some(RemoteTokenizer::Cl100kBase) => cut(bpe_openai::cl100k_base(), text, tokens_max),
    };
    let bytes: usize = texts.iter().map(String::len).sum();
    if tokenizer.is_none() || bytes <= INLINE_BYTES_MAX {
        return texts.into_iter().map(cut).collect();
    }
    // Held until the work ends, which it also does for a caller that has left: its part of the budget is free by then.
    let turn = cutting.clone().acquire_owned().await.expect("it is never closed");
    let all = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        texts.into_iter().map(cut).collect()
    });
    all.await.expect("cutting a text does not panic")
}

fn cut(tokenizer: &bpe_openai::Tokenizer, mut text: String, tokens_max: usize) -> Prepared {
    let (bytes, tokens) = beginning(tokenizer, &text, tokens_max);
    let truncated = bytes < text.len();
    text.truncate(bytes);
    Prepared { text, tokens: Some(tokens), truncated }
}

/// Bytes and tokens of the beginning that has at most `tokens_max` tokens.
fn beginning(tokenizer: &bpe_openai::Tokenizer, text: &str, tokens_max: usize) -> (usize, usize) {
    let (mut bytes, mut tokens) = (0, 0);
    for word in tokenizer.split(text) {
        let more = tokenizer.count(word);
        if tokens + more > tokens_max {
            break;
        }
        tokens += more;
        bytes += word.len();
    }
    if bytes == 0 {
        // One word of that many tokens. A token has a byte at least, so that so many bytes are sure to fit.
        bytes = text.floor_char_boundary(tokens_max);
        tokens = tokenizer.count(&text[..bytes]);
    }
    (bytes, tokens)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Registry;

    fn cut(text: &str, tokens_max: usize) -> Prepared {
        super::cut(bpe_openai::cl100k_base(), text.to_owned(), tokens_max)
    }

    #[test]
    fn text_is_cut_between_words_to_the_limit() {
        let whole = cut("The cat sat on the mat", 6);
        assert_eq!((whole.text.as_str(), whole.tokens, whole.truncated), ("The cat sat on the mat", Some(6), false));
        let less = cut("The cat sat on the mat", 4);
        assert_eq!((less.text.as_str(), less.tokens, less.truncated), ("The cat sat on", Some(4), true));
    }

    #[tokio::test]
    async fn a_caller_that_leaves_keeps_its_turn_until_its_work_ends() {
        let spec = Registry::load(None, None).unwrap().get("openai-small").unwrap().clone();
        let spec = ModelSpec { tokens_max: usize::MAX, ..spec };
        let (cutting, texts) = (Arc::new(Semaphore::new(1)), vec!["The cat sat on the mat. ".repeat(100_000)]);
        let work = prepare(&spec, Some(RemoteTokenizer::Cl100kBase), &texts, Input::Document, &cutting);
        assert!(tokio::time::timeout(Duration::from_millis(1), work).await.is_err(), "it takes longer");
        assert_eq!(cutting.available_permits(), 0);
        drop(tokio::time::timeout(Duration::from_secs(10), cutting.acquire()).await.unwrap().unwrap());
    }

    #[test]
    fn word_without_end_is_cut_too() {
        let cut = cut(&"漢".repeat(10_000), 100);
        assert!(cut.truncated && cut.tokens.unwrap() <= 100, "{cut:?}");
        assert!(cut.text.chars().all(|char| char == '漢') && !cut.text.is_empty(), "{cut:?}");
    }
}
