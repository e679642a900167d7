//! `vectron search`: one query, or many from standard input.

mod many;
mod table;

use std::io::{IsTerminal, Write};
use std::time::Instant;

use serde::Serialize;

use crate::cli::console::{Console, results};
use crate::cli::exit::{Ended, Exit, Failure};
use crate::cli::filter;
use crate::cli::record_json::{RecordJson, to_vector};
use crate::cli::server_options::{CollectionOption, ServerOptions};
use crate::pb::v1 as pb;
use crate::pb::v1::search_request::Query;
use crate::types::Vector;
use table::Style;

const ABOUT: &str = "\
Find the records nearest to a text or a vector.

A text is embedded by the server, with the model of the collection's texts. The score is the cosine (greater is nearer), \
unless the space compares otherwise.";

const EXAMPLES: &str = "\
Examples:
  vectron search -c notes \"a sleeping pet\"
  vectron search -c notes -k 3 --json \"fruit\" | jq '.hits[].id'
  vectron search -c shapes --vector '[0.1, 0.7, 0.2]' --exact --explain
  vectron search -c notes \"sleep\" --filter '{\"equals\": {\"field\": \"kind\", \"value\": \"animal\"}}'
  vectron search -c notes \"sleep\" --filter '{\"range\": {\"field\": \"year\", \"at_least\": 1990, \"less_than\": 2000}}'
  vectron search -c notes --json - < queries.txt       one query a line, many at once, answers in their order";

/// Find the records nearest to a text or a vector
#[derive(clap::Args)]
#[command(long_about = ABOUT, after_help = EXAMPLES)]
pub struct Search {
    /// The text; `-`: texts from standard input, one a line.
    #[arg(required_unless_present = "vector", conflicts_with = "vector")]
    text: Option<String>,

    /// A vector instead, as JSON numbers.
    #[arg(long, value_name = "[…]", value_parser = read_vector, allow_hyphen_values = true)]
    vector: Option<Numbers>,

    /// The most hits.
    #[arg(long, short = 'k', default_value_t = 10, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    top_k: u32,

    /// Only records whose metadata fulfil this: all_of, any_of, not, equals, in, range, exists or contains.
    #[arg(long, value_name = "JSON", value_parser = filter::read)]
    filter: Option<pb::Filter>,

    /// The model of the text, and with it the space [default: the collection's, else the server's].
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID", conflicts_with = "vector")]
    model: String,

    /// The space of the vector [default: the one of its dimension].
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME", requires = "vector")]
    space: String,

    /// Compare with every record.
    #[arg(long)]
    exact: bool,

    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    collection: CollectionOption,

    /// Say how the search was answered.
    #[arg(long, help_heading = "Output")]
    explain: bool,

    /// Print one JSON object a query.
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Clone, Debug)]
struct Numbers(Vector);

fn read_vector(text: &str) -> Result<Numbers, String> {
    let numbers =
        serde_json::from_str(text).map_err(|error| format!("expected JSON numbers such as [0.1, 2], but {error}"))?;
    Vector::new(numbers).map(Numbers).map_err(|error| error.to_string())
}

/// One answer, for `--json`.
#[derive(Serialize)]
struct AnswerJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    space: String,
    hits: Vec<HitJson>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    query_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<ExplainJson>,
}

#[derive(Serialize)]
struct HitJson {
    score: f32,
    #[serde(flatten)]
    record: RecordJson,
}

#[derive(Serialize)]
struct ExplainJson {
    plan: &'static str,
    segments: u32,
    selectivity_estimated: f64,
    selectivity: Option<f64>,
    hops: u64,
    distances: u64,
    embed_us: u64,
    queue_us: u64,
    plan_us: u64,
    search_us: u64,
    fetch_us: u64,
}

/// Runs the command.
pub async fn run(options: Search) -> Ended {
    let console = options.server.console();
    let mut client = options.server.vectors().await?;
    if options.text.as_deref() == Some("-") {
        return many::run(&options, client, &console).await;
    }
    let query = match (&options.vector, &options.text) {
        (Some(Numbers(vector)), _) => Query::Vector(to_vector(vector, &options.space)),
        (None, text) => options.text_query(text.clone().unwrap_or_default()),
    };
    let started = Instant::now();
    let response = client.search(options.request(query)).await?.into_inner();
    let time = started.elapsed();
    let mut out = results();
    options.print(&mut out, options.text.as_deref(), response, &console)?;
    out.flush()?;
    if !options.json {
        console.say(format_args!("{:.1} ms", time.as_secs_f64() * 1e3));
    }
    Ok(Exit::Done)
}

impl Search {
    fn text_query(&self, text: String) -> Query {
        Query::Text(pb::TextQuery { text, model_id: self.model.clone() })
    }

    fn request(&self, query: Query) -> pb::SearchRequest {
        pb::SearchRequest {
            collection: self.collection.collection.clone(),
            query: Some(query),
            top_k: Some(self.top_k),
            filter: self.filter.clone(),
            exact: self.exact,
            explain: self.explain,
            ..pb::SearchRequest::default()
        }
    }

    /// Prints one answer: a table, or a line of JSON.
    fn print(
        &self,
        out: &mut impl Write,
        query: Option<&str>,
        response: pb::SearchResponse,
        console: &Console,
    ) -> Result<(), Failure> {
        let explain = response.explain.map(explain_json);
        let hits = response
            .hits
            .into_iter()
            .filter_map(|hit| Some(HitJson { score: hit.score, record: RecordJson::from(hit.record?) }));
        let hits: Vec<HitJson> = hits.collect();
        if self.json {
            let query_truncated = response.query_truncated;
            let answer = AnswerJson { query, space: response.space, hits, query_truncated, explain };
            serde_json::to_writer(&mut *out, &answer)?;
            return Ok(out.write_all(b"\n")?);
        }
        if hits.is_empty() {
            console.say("nothing was found");
        }
        let rows: Vec<table::Row> = hits.into_iter().map(|hit| table::Row::new(hit.score, hit.record)).collect();
        out.write_all(table::render(&rows, Style::of_stdout()).as_bytes())?;
        if response.query_truncated {
            console.say("the query is longer than the model reads: its beginning was searched for");
        }
        if let Some(explain) = explain {
            let ExplainJson { plan, distances, hops, embed_us, queue_us, plan_us, search_us, fetch_us, .. } = explain;
            out.flush()?;
            console.say(format_args!(
                "space {}: plan {plan}, {distances} distances, {hops} hops; embed {embed_us} us, queue {queue_us} us, \
                 plan {plan_us} us, search {search_us} us, fetch {fetch_us} us",
                response.space
            ));
        }
        Ok(())
    }
}

impl Style {
    /// Colour and width where standard output is a terminal.
    fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Style { width: None, has_colour: false };
        }
        let width = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style { width: width.filter(|&width| width > 0), has_colour: !no_colour }
    }
}

fn explain_json(explain: pb::Explain) -> ExplainJson {
    let plan = match explain.plan() {
        pb::Plan::Unspecified => "unspecified",
        pb::Plan::Flat => "flat",
        pb::Plan::FilteredScan => "filtered scan",
        pb::Plan::Graph => "graph",
    };
    ExplainJson {
        plan,
        segments: explain.segments,
        selectivity_estimated: explain.selectivity_estimated,
        selectivity: explain.selectivity,
        hops: explain.hops,
        distances: explain.distances,
        embed_us: explain.embed_us,
        queue_us: explain.queue_us,
        plan_us: explain.plan_us,
        search_us: explain.search_us,
        fetch_us: explain.fetch_us,
    }
}
