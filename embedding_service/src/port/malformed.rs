//! What serde says of a malformed request, in the words of its caller: which field it is, without the names of our types.

use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tonic::Code;

use super::Failure;
use super::failure::{NAME_BYTES_MAX, cut};

/// How serde's messages begin that name a field themselves.
const NAMING: [&str; 3] = ["unknown field `", "missing field `", "duplicate field `"];
/// What serde calls what it expects, and what that is in JSON.
const EXPECTED: [(&str, &str); 8] = [
    ("u", "a whole number of 0 or more"),
    ("i", "a whole number"),
    ("f", "a number"),
    ("a sequence", "a list"),
    ("struct ", "an object"),
    ("a map", "an object"),
    ("map", "an object"),
    ("a tuple", "a list"),
];

/// A JSON body that is none, or not a `T`; `error` is what reading it said.
pub(super) fn json<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> Failure {
    let path = match error.classify() {
        Category::Data => path_to_error::<T>(body),
        Category::Syntax | Category::Eof | Category::Io => String::new(),
    };
    told(("MALFORMED_JSON", "the JSON body: "), &path, &error.to_string())
}

/// A query string that is not as it should be.
pub(super) fn query(message: &str) -> Failure {
    let message = message.strip_prefix("Failed to deserialize query string: ").unwrap_or(message);
    // Beginning with the field, unless it names one.
    let (path, message) = match message.split_once(": ") {
        Some((path, rest)) if !path.contains([' ', '`']) => (path, rest),
        _ => ("", message),
    };
    told(("INVALID_ARGUMENT", "the query string: "), path, message)
}

/// A mistake in a field.
pub(super) fn at((reason, field): (&'static str, String), message: String) -> Failure {
    let codes = (reason, Code::InvalidArgument, http::StatusCode::BAD_REQUEST);
    let field = Some(cut(field, NAME_BYTES_MAX)).filter(|field| !field.is_empty()).map(String::into_boxed_str);
    Failure { field, ..Failure::new(codes, message) }
}

fn path_to_error<T: DeserializeOwned>(body: &[u8]) -> String {
    let read = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_slice(body));
    // The whole body is "."; where only what follows it is wrong, there is none.
    read.err().map(|error| error.path().to_string()).filter(|path| path != ".").unwrap_or_default()
}

fn told((reason, of): (&'static str, &str), path: &str, message: &str) -> Failure {
    let message = in_json(message);
    let named = NAMING.iter().find_map(|naming| message.strip_prefix(naming)?.split('`').next());
    let (parent, field) = match named {
        // The path ends with it where it is in the body.
        Some(name) => {
            let parent = path.strip_suffix(name).unwrap_or(path).trim_end_matches('.');
            let dot = if parent.is_empty() { "" } else { "." };
            (parent, format!("{parent}{dot}{name}"))
        }
        None => (path, path.to_owned()),
    };
    let colon = if parent.is_empty() { "" } else { ": " };
    let text = format!("{of}{}{colon}{message}", cut(parent.to_owned(), NAME_BYTES_MAX));
    at((reason, field), text)
}

/// The message, where what it expects is named as one of our types.
fn in_json(message: &str) -> String {
    // The last one: what came is repeated before, and may have the same words.
    let Some((came, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let (expected, place) = match expected.rsplit_once(" at line ") {
        Some((expected, place)) => (expected, format!(" at line {place}")),
        None => (expected, String::new()),
    };
    let is_bits = |bits: &str| matches!(bits, "8" | "16" | "32" | "64" | "128" | "size");
    let told = EXPECTED.iter().find_map(|(name, told)| match expected.strip_prefix(name)? {
        bits if name.len() == 1 => is_bits(bits).then_some(*told),
        rest => (rest.is_empty() || name.ends_with(' ')).then_some(*told),
    });
    format!("{came}, expected {}{place}", told.unwrap_or(expected))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::port::AtMost;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by serde")]
    struct Body {
        texts: AtMost<String, 4>,
        count: Option<usize>,
        #[serde(default)]
        pairs: Vec<Pair>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by serde")]
    struct Pair {
        query: String,
        weight: f32,
    }

    #[test]
    fn field_is_told_and_no_type_of_ours() {
        let cases = [
            (r#"{"texts": "a"}"#, "texts", "texts: invalid type: string \"a\", expected a list at line 1"),
            (r#"{"texts": ["a", 1]}"#, "texts[1]", "texts[1]: invalid type: integer `1`, expected a string"),
            (
                r#"{"texts": [], "count": -1}"#,
                "count",
                "count: invalid value: integer `-1`, expected a whole number of 0",
            ),
            (
                r#"{"texts": [], "count": ", expected usize"}"#,
                "count",
                "\", expected a whole number of 0 or more at line",
            ),
            (r#"{"texts": [], "pairs": [1]}"#, "pairs[0]", "expected an object at line"),
            (r#"{"texts": [], "pairs": [{"query": "a"}]}"#, "pairs[0].weight", "pairs[0]: missing field `weight`"),
            (
                r#"{"texts": [], "pairs": [{"q": "a"}]}"#,
                "pairs[0].q",
                "pairs[0]: unknown field `q`, expected `query` or",
            ),
            (r#"{"texts": [], "pairs": [{"query": "a", "weight": "b"}]}"#, "pairs[0].weight", "expected a number at"),
            (r#"{"text": []}"#, "text", "the JSON body: unknown field `text`, expected one of `texts`,"),
            ("{}", "texts", "the JSON body: missing field `texts` at line 1"),
            (r#"{"texts": [], "texts": []}"#, "texts", "the JSON body: duplicate field `texts` at line 1"),
            (r#"{"texts": [] nonsense}"#, "", "the JSON body: expected `,` or `}` at line 1"),
            (r#"{"texts": []} nonsense"#, "", "the JSON body: trailing characters at line 1"),
        ];
        for (body, field, says) in cases {
            let error = serde_json::from_str::<Body>(body).unwrap_err();
            let failure = json::<Body>(body.as_bytes(), &error);
            assert_eq!(failure.field.as_deref().unwrap_or_default(), field, "{body}: {failure:?}");
            assert!(failure.message.contains(says), "{body}: {failure:?}");
        }
    }

    #[test]
    fn field_that_a_caller_thinks_of_is_cut() {
        let body = format!("{{\"{}\": 1}}", "x".repeat(1 << 20));
        let error = serde_json::from_str::<Body>(&body).unwrap_err();
        let failure = json::<Body>(body.as_bytes(), &error);
        assert!(failure.field.is_some_and(|field| field.len() < 600) && failure.message.len() < 1100);
    }

    #[test]
    fn field_of_a_query_is_told() {
        for (message, field, says) in [
            (
                "Failed to deserialize query string: top_k: invalid digit",
                "top_k",
                "the query string: top_k: invalid digit",
            ),
            (
                "Failed to deserialize query string: unknown field `x`, expected `y`",
                "x",
                "the query string: unknown field",
            ),
            (
                "Failed to deserialize query string: x: unknown field `x`, expected `y`",
                "x",
                "the query string: unknown",
            ),
        ] {
            let failure = query(message);
            assert_eq!(failure.field.as_deref(), Some(field), "{message}");
            assert!(failure.message.starts_with(says), "{message}: {}", failure.message);
        }
    }
}
