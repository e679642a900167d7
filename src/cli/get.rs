//! `vectron get`.

use std::io::Write;

use crate::cli::console::{counted, results};
use crate::cli::exit::{Ended, Exit};
use crate::cli::id_list;
use crate::cli::record_json::{RecordJson, read_mask};
use crate::cli::server_options::{CollectionOption, ServerOptions};
use crate::pb::v1 as pb;

const EXAMPLES: &str = "\
Examples:
  vectron get -c notes 17 18                   two records, for reading
  vectron get -c notes 17 --no-vectors         without the numbers
  vectron get -c notes - --json < ids.txt      one JSON object a line";

/// Print records by id, as JSON
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Get {
    /// The ids; `-`: from standard input, one a line.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,

    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    collection: CollectionOption,

    /// One record a line, as `import` reads them.
    #[arg(long, help_heading = "Output")]
    json: bool,

    /// Leave the vectors out.
    #[arg(long, help_heading = "Output")]
    no_vectors: bool,
}

/// Runs the command.
pub async fn run(options: Get) -> Ended {
    let console = options.server.console();
    let mut client = options.server.vectors().await?;
    let mut out = results();
    let mut missing = 0;
    for ids in id_list::batches(options.ids) {
        let request = pb::GetRequest {
            collection: options.collection.collection.clone(),
            ids: ids?,
            read_mask: if options.no_vectors { read_mask(&["text", "metadata", "version"]) } else { None },
            min_sequence: 0,
        };
        let response = client.get(request).await?.into_inner();
        for record in response.records {
            let record = RecordJson::from(record);
            match options.json {
                true => serde_json::to_writer(&mut out, &record),
                false => serde_json::to_writer_pretty(&mut out, &record),
            }?;
            out.write_all(b"\n")?;
        }
        missing += response.missing_ids.len() as u64;
        for id in response.missing_ids {
            console.complain(format_args!("there is no record {id:?}"));
        }
    }
    out.flush()?;
    if missing > 1 {
        console.say(format_args!("{} do not exist", counted(missing, "id")));
    }
    Ok(Exit::complete_if(missing == 0))
}
