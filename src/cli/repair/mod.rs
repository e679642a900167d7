//! `vectron repair`: examines the logs of a data folder that no server uses, and mends them on demand.

mod json;
mod text;

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cli::console::{counted, grouped, results};
use crate::cli::exit::{Ended, Exit, Failure};
use crate::database::{LogState, Mending, RepairOptions, repair};
use crate::types::CollectionName;

const EXAMPLES: &str = "\
Examples:
  vectron repair                                 is everything whole? (nothing is changed)
  vectron repair --data /var/lib/vectron         of a data folder elsewhere
  vectron repair -c notes                        of one collection
  vectron repair --json                          the same, for a program
  vectron repair -c notes --accept-loss          cut its log where it is damaged, and lose what comes after

Stop the server first. A log is read operation by operation: a batch of records is one. Where bytes have changed that were
known to be on the disk, everything before them can be trusted and nothing after them. A backup that is whole is better
than a repair; where there is none, --accept-loss keeps what comes before the damage, and moves the rest into a folder
`damaged-SECONDS` beside the log. Nothing is deleted. Files of parts are read too: a damaged one is left out, with the records in it; a graph is not
looked at, since it is built again. A torn end of a log, which a power cut leaves, is no damage: the next
start cuts it off.

A collection that the catalogue does not know, because a crash has cost it the end, is told; --accept-loss gives it the name
recovered-ID.

--json prints one object, with exit codes as without it (paths are absolute or as --data is):
  opens            whether every log opens (now, after what was done)
  logs[]           one for each log:
    owner          \"catalogue\", \"collection\" or \"unnamed\" (the name is lost)
    collection     its name; folder_id where the name is lost: the name of its folder
    folder         of the log
    opens          whether what it belongs to opens
    state          \"whole\", \"torn\" (the next start cuts it off), \"damaged\" or \"unreadable\"
    operations     in it (whole), or before the damage (damaged)
    file, offset   where it is torn or damaged; offset in bytes
    sequence       of the operation that is damaged
    reason         what was expected and found, or why it cannot be read
    operations_lost_min   operations from the damage on, as far as can be told; 0: nobody can tell
    mending        of a damaged log: \"not_asked\", \"hopeless\" (nothing would be left to open) or \"done\"
    kept_in        the folder with what was damaged, where it was mended
    named_anew     names that collections got whose own were lost
    damaged_files[]       files beside the log: file, reason, lost (\"records\", \"answers\" or \"manifest\"), lost_count
    files_mending, files_kept_in   as above, of those files; where there are any
Fields that do not apply are left out.

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

    /// Print one JSON object for a program; its fields are explained below.
    #[arg(long)]
    json: bool,
}

fn read_name(name: &str) -> Result<CollectionName, String> {
    CollectionName::new(name).map_err(|error| error.to_string())
}

/// Runs the command.
pub fn run(options: Repair) -> Ended {
    let now_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let Repair { data, collection, accept_loss, json } = options;
    let found = repair(&data, &RepairOptions { collection, accept_loss, now_unix_s }).map_err(Failure::new)?;
    let mut out = results();
    let broken = found.iter().filter(|log| !log.opens()).count() as u64;
    if json {
        serde_json::to_writer_pretty(&mut out, &json::Report::of(&found))?;
        writeln!(out)?;
        out.flush()?;
        return Ok(Exit::complete_if(broken == 0));
    }
    for log in &found {
        writeln!(out, "{}", text::describe(log))?;
    }
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
