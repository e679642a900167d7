//! What was found, for a program: the same findings as in `text`. The fields are explained in the command's help.

use std::path::Path;

use serde::Serialize;

use crate::collection::{DamagedFile, FileLoss};
use crate::database::{LogFound, LogState, Mending, Owner};

/// What `--json` prints.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    opens: bool,
    logs: Vec<Log<'a>>,
}

#[derive(Default, Serialize)]
struct Log<'a> {
    owner: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder_id: Option<String>,
    folder: String,
    opens: bool,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operations_lost_min: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mending: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_in: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    named_anew: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged_files: Vec<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files_mending: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files_kept_in: Option<String>,
}

#[derive(Serialize)]
struct File<'a> {
    file: String,
    reason: &'a str,
    lost: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_count: Option<u64>,
}

impl<'a> Report<'a> {
    pub fn of(found: &'a [LogFound]) -> Self {
        Self { opens: found.iter().all(LogFound::opens), logs: found.iter().map(Log::of).collect() }
    }
}

impl<'a> Log<'a> {
    fn of(found: &'a LogFound) -> Self {
        let (owner, collection, folder_id) = match &found.owner {
            Owner::Catalogue => ("catalogue", None, None),
            Owner::Collection(name) => ("collection", Some(name.as_str()), None),
            Owner::Unnamed(id) => ("unnamed", None, Some(id.to_string())),
        };
        let has_files = !found.damaged_files.is_empty();
        let log = Self {
            owner,
            collection,
            folder_id,
            folder: text(&found.folder),
            opens: found.opens(),
            damaged_files: found.damaged_files.iter().map(File::of).collect(),
            files_mending: has_files.then(|| done(&found.files_mending)),
            files_kept_in: kept_in(&found.files_mending),
            ..Self::default()
        };
        match &found.state {
            LogState::Whole { records } => Self { state: "whole", operations: Some(*records), ..log },
            LogState::Torn { file, offset } => {
                Self { state: "torn", file: Some(text(file)), offset: Some(*offset), ..log }
            }
            LogState::Unreadable { reason } => Self { state: "unreadable", reason: Some(reason), ..log },
            LogState::Damaged { records, damage, mending } => Self {
                state: "damaged",
                operations: Some(*records),
                file: Some(text(&damage.file)),
                offset: Some(damage.offset),
                sequence: Some(damage.sequence.0),
                reason: Some(&damage.reason),
                operations_lost_min: Some(damage.records_lost()),
                mending: Some(done(mending)),
                kept_in: kept_in(mending),
                named_anew: match mending {
                    Mending::Done { named_anew, .. } => named_anew.iter().map(|name| name.as_str()).collect(),
                    Mending::NotAsked | Mending::Hopeless => Vec::new(),
                },
                ..log
            },
        }
    }
}

impl<'a> File<'a> {
    fn of(damaged: &'a DamagedFile) -> Self {
        let (lost, lost_count) = match damaged.lost {
            FileLoss::Records(records) => ("records", Some(records)),
            FileLoss::Answers(answers) => ("answers", Some(answers)),
            FileLoss::Manifest => ("manifest", None),
        };
        Self { file: text(&damaged.file), reason: &damaged.reason, lost, lost_count }
    }
}

fn done(mending: &Mending) -> &'static str {
    match mending {
        Mending::NotAsked => "not_asked",
        Mending::Hopeless => "hopeless",
        Mending::Done { .. } => "done",
    }
}

fn kept_in(mending: &Mending) -> Option<String> {
    match mending {
        Mending::Done { aside, .. } => Some(text(aside)),
        Mending::NotAsked | Mending::Hopeless => None,
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
