//! `vectron repair`: examines the logs of a data folder that no server uses, and mends them on demand.

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cli::console::{counted, grouped, results};
use crate::cli::exit::{Ended, Exit, Failure};
use crate::collection::FileLoss;
use crate::database::{LogFound, LogState, Mending, Owner, RepairOptions, repair};
use crate::types::CollectionName;

const EXAMPLES: &str = "\
Examples:
  vectron repair                                 is everything whole? (nothing is changed)
  vectron repair --data /var/lib/vectron         of a data folder elsewhere
  vectron repair -c notes                        of one collection
  vectron repair -c notes --accept-loss          cut its log where it is damaged, and lose what comes after

Stop the server first. A log is read operation by operation: a batch of records is one. Where bytes have changed that were
known to be on the disk, everything before them can be trusted and nothing after them. A backup that is whole is better
than a repair; where there is none, --accept-loss keeps what comes before the damage, and moves the rest into a folder
`damaged-SECONDS` beside the log. Nothing is deleted. Files of parts are read too: a damaged one is left out, with the records in it; a graph is not
looked at, since it is built again. A torn end of a log, which a power cut leaves, is no damage: the next
start cuts it off.

Exit code 0: every log opens; 3: one does not.";

/// Examine the logs of a data folder, and mend those that are damaged
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Repair {
    /// Folder of the logs. No server may use it meanwhile.
    #[arg(long, env = "VECTRON_DATA", default_value = "data", value_name = "FOLDER")]
    data: PathBuf,

    /// This collection alone. Default: all of them, and the catalogue.
    #[arg(long, short, value_name = "NAME", value_parser = read_name)]
    collection: Option<CollectionName>,

    /// Cut damaged logs at the break: what comes after it is lost, but kept beside the log.
    #[arg(long)]
    accept_loss: bool,
}

fn read_name(name: &str) -> Result<CollectionName, String> {
    CollectionName::new(name).map_err(|error| error.to_string())
}

/// Runs the command.
pub fn run(options: Repair) -> Ended {
    let now_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let Repair { data, collection, accept_loss } = options;
    let found = repair(&data, &RepairOptions { collection, accept_loss, now_unix_s }).map_err(Failure::new)?;
    let mut out = results();
    for log in &found {
        writeln!(out, "{}", describe(log))?;
    }
    let broken = found.iter().filter(|log| !log.opens()).count() as u64;
    if broken == 0 {
        writeln!(out, "{}: every one opens", counted(found.len() as u64, "log"))?;
    } else {
        writeln!(out, "{} of {} cannot be opened", grouped(broken), counted(found.len() as u64, "log"))?;
    }
    if found.iter().any(|log| {
        matches!(&log.state, LogState::Damaged { mending: Mending::NotAsked, .. })
            || !log.damaged_files.is_empty() && log.files_mending == Mending::NotAsked
    }) {
        writeln!(out, "nothing was changed: restore a backup, or run it again with --accept-loss")?;
    }
    out.flush()?;
    Ok(Exit::complete_if(broken == 0))
}

fn describe(log: &LogFound) -> String {
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
