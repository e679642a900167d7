//! What was found, for a person.

use crate::cli::console::counted;
use crate::collection::FileLoss;
use crate::database::{LogFound, LogState, Mending, Owner};

/// One log, in one line or a few.
pub(super) fn describe(log: &LogFound) -> String {
    let owner = match &log.owner {
        Owner::Catalogue => "the catalogue".to_owned(),
        Owner::Collection(name) => format!("collection {name}"),
        Owner::Unnamed(id) => format!("the collection in folder {id}, whose name is lost"),
    };
    let says = match &log.state {
        LogState::Whole { records } => format!("whole, {}", counted(*records, "operation")),
        LogState::Torn { file, offset } => format!(
            "torn by a crash at offset {offset} of {}; the next start cuts that off, none of it was known to be durable",
            file.display()
        ),
        LogState::Unreadable { reason } => format!("cannot be read: {reason}"),
        LogState::Damaged { records, damage, mending } => {
            let (file, offset, sequence) = (damage.file.display(), damage.offset, damage.sequence);
            let lost = match damage.records_lost() {
                0 => "nobody can tell how many operations".to_owned(),
                lost => format!("at least {}, from there on", counted(lost, "operation")),
            };
            let kept = counted(*records, "operation");
            let (reason, done) = (&damage.reason, mended(mending, log));
            [
                "DAMAGED".to_owned(),
                format!("  file      {file}"),
                format!("  offset    {offset}"),
                format!("  sequence  {sequence}"),
                format!("  found     {reason}"),
                format!("  kept      {kept}, before it"),
                format!("  lost      {lost}"),
                format!("  {done}"),
            ]
            .join("\n")
        }
    };
    let files = log.damaged_files.iter().map(|damaged| {
        let lost = match damaged.lost {
            FileLoss::Records(records) => counted(records, "record"),
            FileLoss::Answers(answers) => format!("what {} was answered", counted(answers, "request")),
            FileLoss::Manifest => "what the parts hold: the log alone is left".to_owned(),
        };
        let done = match &log.files_mending {
            Mending::NotAsked => "nothing".to_owned(),
            Mending::Hopeless => "nothing: the log does not have everything; restore a snapshot".to_owned(),
            Mending::Done { aside, .. } => format!("left out; the file is kept in {}", aside.display()),
        };
        format!("\n  DAMAGED   {}\n  lost      {lost}\n  done      {done}", damaged.reason)
    });
    format!("{owner}: {says}{}", files.collect::<String>())
}

fn mended(mending: &Mending, log: &LogFound) -> String {
    match mending {
        Mending::NotAsked => "done      nothing".to_owned(),
        Mending::Hopeless => {
            let name = match &log.owner {
                Owner::Collection(name) => name.as_str(),
                _ => "NAME",
            };
            format!(
                "done      nothing: the operation that creates the collection is lost, so nothing would be left to open; \
                 restore a backup, or start the server and run `vectron collections delete {name}`"
            )
        }
        Mending::Done { aside, named_anew } => {
            let mut done = match &log.owner {
                Owner::Catalogue => "done      written anew from what could be read".to_owned(),
                _ => "done      the log was cut there, and opens again".to_owned(),
            };
            done += &format!("; what was damaged is kept in {}", aside.display());
            for name in named_anew {
                done += &format!("\n  named     a collection whose name was lost is now {name}");
            }
            done
        }
    }
}
