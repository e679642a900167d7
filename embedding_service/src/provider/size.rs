//! What texts come to be in memory on their way to a provider.

use crate::model::{Input, ModelSpec};

/// Bytes of the texts themselves, of them with their prompts, and of the request.
pub(super) fn bytes_of_request(spec: &ModelSpec, texts: &[String], input: Input) -> usize {
    let prompt = spec.prompts.of(input);
    let of_prompt = prompt.len() + json_bytes(prompt);
    texts.iter().map(|text| 2 * text.len() + json_bytes(text) + of_prompt).sum()
}

/// Bytes of a text within a string of JSON: some characters are escaped, by one more byte or five.
fn json_bytes(text: &str) -> usize {
    let bytes = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_so_many_bytes() {
        let all: String = (0..0x180).filter_map(char::from_u32).collect();
        for text in ["", "plain", "\u{0}\u{1f}\u{7f}", "\"\\\n\r\t\u{8}\u{c}", "äß漢🦀", &all] {
            assert_eq!(json_bytes(text) + 2, serde_json::to_string(text).unwrap().len(), "{text:?}");
        }
    }
}
