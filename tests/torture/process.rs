//! The real process: under any command, killed at any moment, and what it answers compared with what is expected.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tonic::transport::Channel;
use vectron::pb::v1 as pb;
use vectron::pb::v1::collection_service_client::CollectionServiceClient;
use vectron::pb::v1::vector_service_client::VectorServiceClient;

use crate::common::{self, Texts};
use crate::model::{bits, score};

/// A start takes no longer, also under a tracer on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);
/// An answer takes no longer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A server that may die at any moment.
pub struct Process {
    child: Child,
    pub address: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts a server and waits until it is ready. If it ends before: how, and what it said. It keeps nothing of the disk free:
    /// on a small one it would take no writes.
    pub fn start(data: &Path) -> Result<Self, (ExitStatus, String)> {
        let mut command = common::command(data, Texts::Away);
        command.args(["--disk-free-bytes-min", "0"]);
        Self::run(command)
    }

    /// As `start`, where nothing may keep it from starting.
    pub fn healthy(data: &Path) -> Self {
        Self::start(data).unwrap_or_else(|(status, log)| panic!("the server ended with {status}:\n{log}"))
    }

    pub fn run(command: Command) -> Result<Self, (ExitStatus, String)> {
        let mut process = Self::spawn(command);
        let deadline = Instant::now() + START_MAX;
        loop {
            let ended = process.child.try_wait().expect("the process can be asked");
            if let (Some(address), Some(_)) = (
                process.logged_after("vectron listens on http://"),
                process.logged_after("vectron::server: ready after"),
            ) {
                process.address = address;
                return Ok(process);
            }
            if let Some(status) = ended {
                return Err((status, process.logged()));
            }
            assert!(Instant::now() < deadline, "it does not start:\n{}", process.logged());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts a command and waits for nothing.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let log = Arc::new(Mutex::new(Vec::new()));
        thread::spawn({
            let log = log.clone();
            move || stderr.lines().map_while(Result::ok).for_each(|line| log.lock().unwrap().push(line))
        });
        Self { child, address: String::new(), log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn logged(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    fn logged_after(&self, text: &str) -> Option<String> {
        let log = self.log.lock().unwrap();
        let rest = log.iter().find_map(|line| line.split_once(text).map(|(_, rest)| rest))?;
        Some(rest.split_whitespace().next().unwrap_or_default().to_owned())
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process can be asked")
    }

    pub fn signal(&self, signal: &str) {
        // It may have ended by itself.
        let _ =
            Command::new("kill").args([&format!("-{signal}"), &self.id().to_string()]).stderr(Stdio::null()).status();
    }

    /// kill -9, and waits.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("the process has ended");
        assert!(!self.logged().contains("panicked"), "the server panicked:\n{}", self.logged());
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().expect("the process has ended")
    }

    pub async fn client(&self) -> Option<Client> {
        Client::connect(&self.address).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both services of one server.
#[derive(Clone)]
pub struct Client {
    pub vectors: VectorServiceClient<Channel>,
    pub collections: CollectionServiceClient<Channel>,
}

/// What a record is to be: its components are made from a number, and so are text and metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub number: u32,
    /// None where the writer was never told.
    pub version: Option<u64>,
}

pub type Records = BTreeMap<String, Written>;

pub const DIMENSION: usize = 8;

pub fn components(number: u32) -> Vec<f32> {
    (0..DIMENSION as u32).map(|i| (number.wrapping_mul(2_654_435_761).rotate_left(i * 4) % 64) as f32 - 31.5).collect()
}

pub fn record(id: &str, number: u32) -> pb::RecordInput {
    let vector = pb::Vector {
        components: Some(pb::vector::Components::Floats(pb::FloatArray { values: components(number) })),
        space: String::new(),
    };
    let value = pb::Value { kind: Some(pb::value::Kind::IntValue(number.into())) };
    pb::RecordInput {
        id: id.to_owned(),
        vector: Some(vector),
        text: Some(format!("text {number}")),
        metadata: [("n".to_owned(), value)].into(),
        if_version: None,
    }
}

impl Client {
    pub async fn connect(address: &str) -> Option<Self> {
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("a URL").timeout(ANSWER_MAX);
        let channel = endpoint.connect().await.ok()?;
        let limit = 64 << 20;
        let vectors = VectorServiceClient::new(channel.clone());
        Some(Self {
            vectors: vectors.max_decoding_message_size(limit).max_encoding_message_size(limit),
            collections: CollectionServiceClient::new(channel),
        })
    }

    pub async fn upsert(
        &mut self,
        collection: &str,
        records: Vec<pb::RecordInput>,
        durability: pb::Durability,
    ) -> Result<u64, tonic::Status> {
        let request = pb::UpsertRequest {
            collection: collection.to_owned(),
            records,
            durability: durability.into(),
            create_missing: true,
            ..pb::UpsertRequest::default()
        };
        self.vectors.upsert(request).await.map(|response| response.into_inner().sequence)
    }

    pub async fn delete(&mut self, collection: &str, ids: &[String]) -> Result<u64, tonic::Status> {
        let keys = ids.iter().map(|id| pb::RecordKey { id: id.clone(), if_version: None }).collect();
        let request = pb::DeleteRequest {
            collection: collection.to_owned(),
            selector: Some(pb::delete_request::Selector::Ids(pb::RecordKeys { keys })),
            ..pb::DeleteRequest::default()
        };
        self.vectors.delete(request).await.map(|response| response.into_inner().sequence)
    }

    pub async fn names(&mut self) -> Vec<String> {
        let request = pb::ListCollectionsRequest { page_size: 1000, ..Default::default() };
        let listed = self.collections.list_collections(request).await.expect("collections are listed").into_inner();
        for collection in &listed.collections {
            assert_eq!(collection.state_reason, "", "{}", collection.name);
        }
        listed.collections.into_iter().map(|collection| collection.name).collect()
    }

    /// Every record, as it is listed.
    pub async fn all(&mut self, collection: &str) -> BTreeMap<String, pb::Record> {
        let mut found = BTreeMap::new();
        let mut page_token = String::new();
        loop {
            let collection = collection.to_owned();
            let request = pb::ListRequest { collection, page_size: 10_000, page_token, ..pb::ListRequest::default() };
            let page = match self.vectors.list(request).await {
                Ok(page) => page.into_inner(),
                Err(status) if status.code() == tonic::Code::NotFound => return found,
                Err(status) => panic!("wrong answer: the list is refused: {status}"),
            };
            found.extend(page.records.into_iter().map(|record| (record.id.clone(), record)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return found;
            }
        }
    }

    /// Counting and searching agree with what was listed.
    pub async fn check_search(&mut self, collection: &str, found: &BTreeMap<String, pb::Record>, scene: &str) {
        if found.is_empty() {
            return;
        }
        let request = pb::CountRequest { collection: collection.to_owned(), ..pb::CountRequest::default() };
        let count = self.vectors.count(request).await.expect("a count").into_inner().record_count;
        assert_eq!(count, found.len() as u64, "{scene}: wrong answer: the count of {collection}");
        for query in [1, 77, 4096].map(components) {
            let mut expected: Vec<f64> =
                found.values().map(|record| score(vectron::types::Metric::Cosine, &query, &values(record))).collect();
            expected.sort_by(|a, b| b.total_cmp(a));
            let request = pb::SearchRequest {
                collection: collection.to_owned(),
                query: Some(pb::search_request::Query::Vector(pb::Vector {
                    components: Some(pb::vector::Components::Floats(pb::FloatArray { values: query.clone() })),
                    space: String::new(),
                })),
                exact: true,
                ..pb::SearchRequest::default()
            };
            let hits = self.vectors.search(request).await.expect("a search").into_inner().hits;
            assert_eq!(hits.len(), expected.len().min(10), "{scene}: wrong answer: hits in {collection}");
            for (hit, expected) in hits.iter().zip(expected) {
                let difference = (f64::from(hit.score) - expected).abs();
                assert!(
                    difference < 1e-4,
                    "{scene}: wrong answer: {} instead of {expected} in {collection}",
                    hit.score
                );
            }
        }
    }
}

pub fn values(record: &pb::Record) -> Vec<f32> {
    match record.vector.as_ref().and_then(|vector| vector.components.as_ref()) {
        Some(pb::vector::Components::Floats(floats)) => floats.values.clone(),
        Some(pb::vector::Components::F32Le(bytes)) => {
            bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("4 bytes"))).collect()
        }
        None => Vec::new(),
    }
}

/// What is wrong with the records of one writer, whose ids begin with `prefix`.
pub fn compare(found: &BTreeMap<String, pb::Record>, prefix: &str, expected: &Records) -> Result<(), String> {
    let mut theirs = found.iter().filter(|(id, _)| id.starts_with(prefix));
    for (id, written) in expected {
        let Some((found_id, record)) = theirs.next() else { return Err(format!("{id} is gone")) };
        if found_id != id {
            return Err(format!("expected {id}, but found {found_id}"));
        }
        let wanted = self::record(id, written.number);
        let version = written.version.unwrap_or(record.version);
        let is_same = bits(&values(record)) == bits(&components(written.number))
            && record.text == wanted.text
            && record.metadata == wanted.metadata
            && record.version == version;
        if !is_same {
            return Err(format!("{id}: expected {wanted:?} of version {version}, but found {record:?}"));
        }
    }
    match theirs.next() {
        Some((id, _)) => Err(format!("{id} was deleted, or never written")),
        None => Ok(()),
    }
}
