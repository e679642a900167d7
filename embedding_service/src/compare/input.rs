//! What models are compared on: sample texts by topic, and pairs of query and document.
//!
//! A `Plan` is within all bounds; nobody behind it checks again. Files have a line for each sample or pair: two fields with a
//! tab between them. Empty lines and those that begin with `#` are passed over.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::{fs, io};

use serde::Deserialize;
use utoipa::ToSchema;

use crate::told::line_of;

/// The built-in set: 64 texts of 8 topics. docs/compare.md says how they were chosen.
const BUILT_IN: &str = include_str!("../../samples.tsv");
/// Sample texts: so many as a call may have, for they are embedded in one.
const SAMPLES_MAX: usize = 2048;
/// Pairs: each query is compared with each document.
const PAIRS_MAX: usize = 5000;
/// How often a time is measured.
const REPEATS_MAX: usize = 20;
const REPEATS_DEFAULT: usize = 3;
/// Bytes of a topic's name.
const TOPIC_BYTES_MAX: usize = 512;
/// Bytes of a text, as for any other call.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes of a file: what a call may have.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A text with its topic.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The topic, 1 to 512 bytes.
    pub topic: String,
    /// The text, 1 byte to 1 MiB.
    pub text: String,
}

/// A query with the document that it should find.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The query, 1 byte to 1 MiB.
    pub query: String,
    /// The document, 1 byte to 1 MiB.
    pub document: String,
}

/// What is measured of each model.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The sample texts.
    pub(crate) texts: Vec<String>,
    /// The topic of each sample text, as a number below `topics`.
    pub(crate) topic_of: Vec<usize>,
    /// How many topics there are: at least two.
    pub(crate) topics: usize,
    /// How many pairs there are.
    pub(crate) pairs: usize,
    /// The distinct queries.
    pub(crate) queries: Vec<String>,
    /// The distinct documents.
    pub(crate) documents: Vec<String>,
    /// The documents that each query should find, each once, by their places in `documents`.
    pub(crate) right_of: Vec<Vec<usize>>,
    /// How often each time is measured: at least once.
    pub(crate) repeats: usize,
}

/// What of the input is out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub(crate) struct PlanError {
    /// Which field of the request.
    pub(crate) field: String,
    /// What was expected and what came.
    pub(crate) reason: String,
}

/// Why a file of samples or pairs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// It is too long.
    #[error("{path} has {bytes} bytes: expected at most {FILE_BYTES_MAX} (16 MiB)")]
    TooLong {
        /// The file.
        path: String,
        /// How long it is.
        bytes: u64,
    },
    /// A line is none.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What was expected and what came.
        reason: String,
    },
    /// It has no lines to use.
    #[error("{path} has no lines: expected lines of {form}")]
    Empty {
        /// The file.
        path: String,
        /// What a line looks like.
        form: &'static str,
    },
}

impl Plan {
    /// No samples: the built-in set. No repeats: the default.
    pub(crate) fn new(samples: Vec<Sample>, pairs: Vec<Pair>, repeats: usize) -> Result<Self, PlanError> {
        let samples = if samples.is_empty() { built_in() } else { samples };
        let bounds = |field: &str, reason: String| Err(PlanError { field: field.to_owned(), reason });
        if !(2..=SAMPLES_MAX).contains(&samples.len()) {
            return bounds("samples", format!("expected 2 to {SAMPLES_MAX}, got {}", samples.len()));
        }
        if pairs.len() > PAIRS_MAX {
            return bounds("pairs", format!("expected at most {PAIRS_MAX}, got {}", pairs.len()));
        }
        if repeats > REPEATS_MAX {
            return bounds("repeats", format!("expected 1 to {REPEATS_MAX}, or 0 for the default, got {repeats}"));
        }
        for (index, Sample { topic, text }) in samples.iter().enumerate() {
            check_bytes(|| format!("samples[{index}].topic"), topic, TOPIC_BYTES_MAX)?;
            check_bytes(|| format!("samples[{index}].text"), text, TEXT_BYTES_MAX)?;
        }
        for (index, Pair { query, document }) in pairs.iter().enumerate() {
            check_bytes(|| format!("pairs[{index}].query"), query, TEXT_BYTES_MAX)?;
            check_bytes(|| format!("pairs[{index}].document"), document, TEXT_BYTES_MAX)?;
        }

        let (topics, texts): (Vec<_>, Vec<_>) = samples.into_iter().map(|sample| (sample.topic, sample.text)).unzip();
        let (topics, topic_of) = distinct(topics);
        if topics.len() < 2 {
            return bounds("samples", format!("expected at least 2 topics, got `{}` alone", topics[0]));
        }
        if topics.len() == texts.len() {
            return bounds("samples", format!("expected a topic of 2 texts or more, got {} of one text", topics.len()));
        }
        let (queries, documents): (Vec<_>, Vec<_>) = pairs.into_iter().map(|pair| (pair.query, pair.document)).unzip();
        let pairs = queries.len();
        let ((queries, query_of), (documents, document_of)) = (distinct(queries), distinct(documents));
        let mut right_of = vec![Vec::new(); queries.len()];
        for (query, document) in query_of.into_iter().zip(document_of) {
            let right: &mut Vec<usize> = &mut right_of[query];
            if !right.contains(&document) {
                right.push(document);
            }
        }
        let repeats = if repeats == 0 { REPEATS_DEFAULT } else { repeats };
        Ok(Self { texts, topic_of, topics: topics.len(), pairs, queries, documents, right_of, repeats })
    }
}

fn check_bytes(field: impl Fn() -> String, text: &str, bytes_max: usize) -> Result<(), PlanError> {
    match text.len() {
        0 => Err(PlanError { field: field(), reason: format!("expected 1 to {bytes_max} bytes, got none") }),
        bytes if bytes > bytes_max => {
            Err(PlanError { field: field(), reason: format!("expected 1 to {bytes_max} bytes, got {bytes}") })
        }
        _ => Ok(()),
    }
}

/// The distinct ones in the order of their first appearance, and for each of `all` its place among them.
fn distinct(all: Vec<String>) -> (Vec<String>, Vec<usize>) {
    let mut places = HashMap::new();
    let place_of = all.iter().map(|one| {
        let next = places.len();
        *places.entry(one.as_str()).or_insert(next)
    });
    let place_of: Vec<usize> = place_of.collect();
    let mut seen = HashSet::new();
    let distinct = all.iter().filter(|one| seen.insert(one.as_str())).cloned().collect();
    (distinct, place_of)
}

fn built_in() -> Vec<Sample> {
    samples_of("samples.tsv", BUILT_IN).expect("the tests read it")
}

/// The samples of a file of lines `topic<TAB>text`.
pub fn read_samples(path: &Path) -> Result<Vec<Sample>, FileError> {
    samples_of(&path.display().to_string(), &read(path)?)
}

/// The pairs of a file of lines `query<TAB>document`.
pub fn read_pairs(path: &Path) -> Result<Vec<Pair>, FileError> {
    let path_shown = path.display().to_string();
    let rows = rows(
        &path_shown,
        &read(path)?,
        [("query", TEXT_BYTES_MAX), ("document", TEXT_BYTES_MAX)],
        PAIRS_MAX,
        "query<TAB>document",
    )?;
    Ok(rows.into_iter().map(|[query, document]| Pair { query, document }).collect())
}

fn samples_of(path: &str, text: &str) -> Result<Vec<Sample>, FileError> {
    let rows = rows(path, text, [("topic", TOPIC_BYTES_MAX), ("text", TEXT_BYTES_MAX)], SAMPLES_MAX, "topic<TAB>text")?;
    Ok(rows.into_iter().map(|[topic, text]| Sample { topic, text }).collect())
}

fn read(path: &Path) -> Result<String, FileError> {
    let shown = || path.display().to_string();
    let refused = |source| FileError::Read { path: shown(), source };
    let bytes = fs::metadata(path).map_err(refused)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(FileError::TooLong { path: shown(), bytes });
    }
    let bytes = fs::read(path).map_err(refused)?;
    String::from_utf8(bytes).map_err(|error| {
        let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
        FileError::Line { path: shown(), line, reason: "expected UTF-8".to_owned() }
    })
}

/// `fields` are the names of a line's fields, and the bytes that each may have; there are at most `rows_max` lines to use.
fn rows(
    path: &str,
    text: &str,
    fields: [(&str, usize); 2],
    rows_max: usize,
    form: &'static str,
) -> Result<Vec<[String; 2]>, FileError> {
    let mut rows = Vec::new();
    // Some editors begin a file with the mark of its byte order.
    for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |reason: String| FileError::Line { path: path.to_owned(), line: index + 1, reason };
        let values: Vec<&str> = line.split('\t').map(str::trim).collect();
        let [first, second] = values[..] else {
            let tabs = values.len() - 1;
            return Err(wrong(format!("expected {form}, with one tab, got {tabs} tabs")));
        };
        for ((name, bytes_max), value) in fields.into_iter().zip([first, second]) {
            if value.is_empty() {
                return Err(wrong(format!("the {name} is empty: expected {form}")));
            }
            if value.len() > bytes_max {
                return Err(wrong(format!("the {name} has {} bytes: expected at most {bytes_max}", value.len())));
            }
        }
        if rows.len() == rows_max {
            return Err(wrong(format!("one too many: expected at most {rows_max} lines of {form}")));
        }
        rows.push([first.to_owned(), second.to_owned()]);
    }
    if rows.is_empty() {
        return Err(FileError::Empty { path: path.to_owned(), form });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(topic: &str, text: &str) -> Sample {
        Sample { topic: topic.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn the_built_in_set_is_as_documented() {
        let plan = Plan::new(Vec::new(), Vec::new(), 0).unwrap();
        assert_eq!((plan.texts.len(), plan.topics, plan.repeats), (64, 8, 3));
        for topic in 0..plan.topics {
            assert_eq!(plan.topic_of.iter().filter(|of| **of == topic).count(), 8);
        }
        assert_eq!(distinct(plan.texts.clone()).0.len(), 64, "no text stands there twice");
    }

    #[test]
    fn documents_and_queries_of_the_same_text_are_one() {
        let pair = |query: &str, document: &str| Pair { query: query.to_owned(), document: document.to_owned() };
        let pairs = [("q1", "a"), ("q2", "b"), ("q3", "a"), ("q1", "b"), ("q1", "a")];
        let plan = Plan::new(Vec::new(), pairs.map(|(query, document)| pair(query, document)).into(), 1).unwrap();
        assert_eq!((plan.documents, plan.pairs), (vec!["a".to_owned(), "b".to_owned()], 5));
        assert_eq!(
            (plan.queries, plan.right_of),
            (["q1", "q2", "q3"].map(str::to_owned).into(), vec![vec![0, 1], vec![1], vec![0]])
        );
    }

    #[test]
    fn bounds_are_told_by_field() {
        let refused = |samples, repeats| Plan::new(samples, Vec::new(), repeats).unwrap_err().to_string();
        let two = || vec![sample("a", "x"), sample("a", "y"), sample("b", "z")];
        assert!(Plan::new(two(), Vec::new(), 20).is_ok());
        assert_eq!(refused(two(), 21), "repeats: expected 1 to 20, or 0 for the default, got 21");
        assert_eq!(refused(vec![sample("a", "x")], 1), "samples: expected 2 to 2048, got 1");
        assert_eq!(refused(two()[..2].to_vec(), 1), "samples: expected at least 2 topics, got `a` alone");
        assert_eq!(refused(two()[1..].to_vec(), 1), "samples: expected a topic of 2 texts or more, got 2 of one text");
        let empty = vec![sample("a", "x"), sample("a", ""), sample("b", "z")];
        assert_eq!(refused(empty, 1), "samples[1].text: expected 1 to 1048576 bytes, got none");
        let long = vec![sample(&"a".repeat(513), "x"), sample("b", "y")];
        assert_eq!(refused(long, 1), "samples[0].topic: expected 1 to 512 bytes, got 513");
        let pairs = vec![Pair { query: "q".to_owned(), document: "d".to_owned() }; 5001];
        let refused = Plan::new(two(), pairs, 1).unwrap_err().to_string();
        assert_eq!(refused, "pairs: expected at most 5000, got 5001");
    }

    #[test]
    fn lines_are_read_or_named() {
        let text = "\u{feff}# a remark\r\na\tone \r\n\r\nb\ttwo\r\n";
        assert_eq!(samples_of("f", text).unwrap(), [sample("a", "one"), sample("b", "two")]);
        let refused = |text: &str| samples_of("f.tsv", text).unwrap_err().to_string();
        assert_eq!(refused("a\tx\n\nno tab\n"), "f.tsv, line 3: expected topic<TAB>text, with one tab, got 0 tabs");
        assert_eq!(refused("a\tx\ty\n"), "f.tsv, line 1: expected topic<TAB>text, with one tab, got 2 tabs");
        assert_eq!(refused("a\tx\n \tz\n"), "f.tsv, line 2: the topic is empty: expected topic<TAB>text");
        let long = format!("a\tx\n{}\tx\n", "a".repeat(513));
        assert_eq!(refused(&long), "f.tsv, line 2: the topic has 513 bytes: expected at most 512");
        let long = format!("a\t{}\n", "x".repeat((1 << 20) + 1));
        assert_eq!(refused(&long), "f.tsv, line 1: the text has 1048577 bytes: expected at most 1048576");
        let many = format!("# a remark\n{}", "a\tx\n".repeat(2049));
        assert_eq!(refused(&many), "f.tsv, line 2050: one too many: expected at most 2048 lines of topic<TAB>text");
        assert_eq!(refused("# nothing\n"), "f.tsv has no lines: expected lines of topic<TAB>text");
    }
}
