//! Tokenizing in pieces against tokenizing the whole, which is the definition, with the real vocabulary.

use std::path::PathBuf;
use std::{env, fs};

use super::*;

fn tokenizer() -> TextTokenizer {
    let cache = env::var_os("VECTRON_MODEL_CACHE").map_or_else(|| PathBuf::from("../model_cache"), PathBuf::from);
    let json = fs::read(cache.join("minilm/tokenizer.json")).expect("run `make weights`");
    TextTokenizer::from_json(&json, 256, 30522).unwrap()
}

/// The definition: all of the text, and then its beginning.
fn tokenize_whole(tokenizer: &TextTokenizer, text: &str) -> Tokens {
    let content = tokenizer.tokenizer.encode_fast(text, false).unwrap();
    let kept = &content.get_ids()[..content.len().min(254)];
    Tokens { ids: [&[101], kept, &[102]].concat().into(), truncated: content.len() > 254 }
}

/// Pieces as small as makes sense, so that every text has many ends of pieces.
fn with_pieces_of(bytes_min: usize) -> TextTokenizer {
    let mut tokenizer = tokenizer();
    tokenizer.pieces.as_mut().unwrap().bytes_min = bytes_min;
    tokenizer
}

#[test]
fn long_texts_have_the_tokens_of_the_whole() {
    let tokenizer = tokenizer();
    let long = |unit: &str| unit.repeat(100_000 / unit.len());
    let kinds = [
        "中文字符没有空格",
        "(",
        "a",
        "😀",
        "ä",
        "각",
        "ひら",
        "Привет",
        "word ",
        "[SEP]",
        "[SEP] x",
        "!?…",
        "\u{c}",
        "x\u{c}",
        " \u{c}",
    ];
    for unit in kinds {
        for text in [long(unit), format!("start {}", long(unit)), format!("{} end", long(unit))] {
            assert!(tokenizer.tokenize(&text).unwrap() == tokenize_whole(&tokenizer, &text), "{unit:?}");
        }
    }
    // Exactly the limit, and one more, with much that is no token after it.
    for (count, truncated) in [(254, false), (255, true)] {
        let text = format!("{}{}", "word ".repeat(count), " \u{c}".repeat(50_000));
        let tokens = tokenizer.tokenize(&text).unwrap();
        assert_eq!((tokens.ids.len(), tokens.truncated), (256, truncated));
    }
}

#[test]
fn mixed_texts_have_the_tokens_of_the_whole_wherever_they_are_cut() {
    let seed = 7_u64;
    let mut state = seed;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let units = [
        "word",
        "un",
        "##ing",
        "中",
        "文字",
        "(",
        ")",
        "!",
        "…",
        "[SEP]",
        "[",
        "SEP]",
        "[MASK",
        "😀",
        "각각하",
        "ひらがな",
        "Привет",
        "👩‍👩‍👧",
        "ä",
        "a\u{308}",
        "\u{1d165}",
        "\u{301}",
        "\u{338}",
        "≠",
        "\u{37e}",
        "ﷺ",
        "각",
        "ひ",
        "İ",
        "ß",
        "\u{c}",
        "\u{0}",
        "\u{b}",
        "\u{85}",
        "\u{200b}",
        "\u{feff}",
        "\u{a0}",
        "\u{3000}",
        " ",
        "\n",
        "豈",
        "\u{2f800}",
        "0123456789",
        "\u{fffd}",
        "q",
    ];
    for bytes_min in [16, 50, 301] {
        let tokenizer = with_pieces_of(bytes_min);
        for round in 0..600 {
            // Few units at a time: repetitions give long words of every kind.
            let few: Vec<&str> = (0..1 + random(6)).map(|_| units[random(units.len())]).collect();
            let text: String = (0..random(1200)).map(|_| few[random(few.len())]).collect();
            let (got, expected) = (tokenizer.tokenize(&text).unwrap(), tokenize_whole(&tokenizer, &text));
            assert!(got == expected, "seed {seed}, round {round}, pieces of {bytes_min}: {few:?}");
        }
    }
}

#[test]
fn of_a_long_text_little_more_is_tokenized_than_the_model_uses() {
    let TextTokenizer { tokenizer, pieces, tokens_max, .. } = tokenizer();
    let pieces = pieces.unwrap();
    let megabyte = |unit: &str| unit.repeat((1 << 20) / unit.len());
    for unit in ["中文字符没有空格", "(", "a", "ä", "😀", " ", "word "] {
        let mut encoded_bytes = 0;
        let encode = |piece: String| {
            encoded_bytes += piece.len();
            tokenizer.encode(piece, false)
        };
        pieces.tokenize(&tokenizer, &megabyte(unit), tokens_max - 2, encode).unwrap();
        assert_eq!(encoded_bytes == 0, unit == " ", "white space alone is nothing to encode");
        // Three pieces: the first, and where a word goes on, one or two more.
        assert!(encoded_bytes <= 3 * 256 * PIECE_BYTES_PER_TOKEN, "{encoded_bytes} of 1 MiB of {unit:?}");
    }
}

#[test]
fn pieces_end_before_an_added_token() {
    let tokenizer = tokenizer();
    let pieces = tokenizer.pieces.as_ref().unwrap();
    assert_eq!(pieces.cut("one [SEP] two", 3), 3);
    for bytes in 4..9 {
        assert_eq!(pieces.cut("one [SEP] two", bytes), 4);
    }
    assert_eq!(pieces.cut("one [SEP] two", 9), 9);
    assert_eq!(pieces.cut("äöü", 3), 2);
    assert_eq!(pieces.cut("one", 9), 3);
}

#[test]
fn special_tokens_beyond_the_vocabulary_are_refused() {
    let with = |separator: u32| {
        let tokenizer = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": null,
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", separator], "cls": ["[CLS]", 1]},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}},
        });
        TextTokenizer::from_json(&serde_json::to_vec(&tokenizer).unwrap(), 16, 3)
    };
    assert!(with(2).is_ok());
    let error = with(3).map(drop).unwrap_err().to_string();
    assert!(error.contains("puts the id 3 beside each text, but config.json says vocab_size 3"), "{error}");
}
