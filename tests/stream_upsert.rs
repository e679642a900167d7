//! StreamUpsert through a real socket: marks, refusals, credit, takeover, and what is left after every kind of break.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use common::{Server, Texts, command, data_folder};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use vectron::pb::v1 as pb;
use vectron::pb::v1::stream_upsert_request::Message as Sent;
use vectron::pb::v1::stream_upsert_response::Message as Told;
use vectron::pb::v1::vector::Components;

/// One connection's end of a stream.
struct Client {
    requests: mpsc::Sender<pb::StreamUpsertRequest>,
    answers: Streaming<pb::StreamUpsertResponse>,
}

impl Client {
    /// Connects, and sends nothing yet.
    async fn connect(server: &Server) -> Self {
        let (requests, sent) = mpsc::channel(16);
        let answers = server.vectors().await.stream_upsert(ReceiverStream::new(sent)).await.unwrap().into_inner();
        Self { requests, answers }
    }

    async fn open(server: &Server, stream_id: &str) -> (Self, pb::StreamOpened) {
        let mut client = Self::connect(server).await;
        client.send(Sent::Open(open(stream_id))).await;
        match client.next().await.unwrap() {
            Told::Opened(opened) => (client, opened),
            other => panic!("expected `opened`, but got {other:?}"),
        }
    }

    async fn send(&self, message: Sent) {
        self.requests.send(pb::StreamUpsertRequest { message: Some(message) }).await.unwrap();
    }

    async fn send_frame(&self, frame: u64, records: Vec<pb::RecordInput>) {
        self.send(Sent::Frame(pb::UpsertFrame { frame, records })).await;
    }

    async fn next(&mut self) -> Result<Told, Status> {
        let response = self.answers.message().await?.ok_or_else(|| Status::ok("the stream has ended"))?;
        Ok(response.message.unwrap())
    }

    /// Reads until the frame is settled; returns the refusals on the way.
    async fn settled(&mut self, frame: u64) -> Vec<pb::FrameRefused> {
        let mut refused = Vec::new();
        loop {
            match self.next().await.unwrap() {
                Told::Progress(progress) if progress.settled_frame >= frame => return refused,
                Told::Progress(_) => {}
                Told::Refused(one) => refused.push(one),
                other => panic!("expected `progress`, but got {other:?}"),
            }
        }
    }

    async fn finish(mut self) -> pb::StreamFinished {
        self.send(Sent::Finish(pb::StreamFinish {})).await;
        loop {
            if let Told::Finished(finished) = self.next().await.unwrap() {
                assert_eq!(self.next().await.unwrap_err().code(), Code::Ok, "nothing comes after `finished`");
                return finished;
            }
        }
    }

    /// Reads to the end, and returns why it ended.
    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

fn open(stream_id: &str) -> pb::StreamOpen {
    pb::StreamOpen {
        stream_id: stream_id.into(),
        collection: "c".into(),
        create_missing: true,
        ..pb::StreamOpen::default()
    }
}

fn vector(id: &str, values: &[f32]) -> pb::RecordInput {
    let components =
        Some(Components::F32Le(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into()));
    let vector = Some(pb::Vector { components, space: String::new() });
    pb::RecordInput { id: id.into(), vector, ..pb::RecordInput::default() }
}

fn text(id: &str, text: &str) -> pb::RecordInput {
    pb::RecordInput { id: id.into(), text: Some(text.into()), ..pb::RecordInput::default() }
}

async fn count(server: &Server) -> u64 {
    let request = pb::CountRequest { collection: "c".into(), ..pb::CountRequest::default() };
    server.vectors().await.count(request).await.unwrap().into_inner().record_count
}

async fn record(server: &Server, id: &str) -> pb::Record {
    let request = pb::GetRequest { collection: "c".into(), ids: vec![id.into()], ..pb::GetRequest::default() };
    server.vectors().await.get(request).await.unwrap().into_inner().records.remove(0)
}

#[track_caller]
fn assert_ended(status: &Status, code: Code, reason: &str, says: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(status.get_details_error_info().map(|info| info.reason).as_deref(), Some(reason), "{status:?}");
    assert!(status.message().contains(says), "no {says:?} in {:?}", status.message());
}

#[tokio::test]
async fn a_stream_goes_on_from_its_mark_after_kill_9_and_begins_anew_after_finish() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let (mut client, opened) = Client::open(&server, "s").await;
    assert_eq!(opened.resume_from, 1);
    for frame in 1..=3 {
        client.send_frame(frame, vec![vector(&format!("r{frame}"), &[frame as f32, 1.0])]).await;
    }
    client.settled(3).await;
    let version = record(&server, "r3").await.version;
    server.kill();

    let server = Server::start(data.path(), Texts::Away);
    let (mut client, opened) = Client::open(&server, "s").await;
    assert_eq!((opened.resume_from, opened.refused_count), (4, 0));
    client.send_frame(4, vec![vector("r4", &[4.0, 1.0])]).await;
    client.settled(4).await;
    let finished = client.finish().await;
    assert_eq!((finished.settled_frame, finished.refused_count), (4, 0));
    assert_eq!(count(&server).await, 4);
    // Each frame has one sequence, and nothing was written twice.
    assert_eq!(record(&server, "r3").await.version, version);
    assert_eq!(record(&server, "r4").await.version, version + 1);

    let (_, opened) = Client::open(&server, "s").await;
    assert_eq!(opened.resume_from, 1, "a finished stream is forgotten");
    drop(server);
    let server = Server::start(data.path(), Texts::Away);
    let (_, opened) = Client::open(&server, "s").await;
    assert_eq!(opened.resume_from, 1, "after a restart too");
}

#[tokio::test]
async fn a_refused_frame_names_its_records_and_is_told_again() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let (mut client, _) = Client::open(&server, "s").await;
    let mut new = vector("a", &[9.0, 9.0]);
    new.if_version = Some(0);
    client.send_frame(1, vec![vector("a", &[1.0, 2.0]), vector("b", &[1.0, 2.0])]).await;
    // A bad id, a component that is no number, and a good one.
    client.send_frame(2, vec![vector("", &[1.0, 2.0]), vector("c", &[1.0, 2.0]), vector("d", &[f32::NAN, 2.0])]).await;
    // A dimension that has no place, beside one that has.
    client.send_frame(3, vec![vector("e", &[1.0, 2.0]), vector("f", &[1.0, 2.0, 3.0])]).await;
    client.send_frame(4, vec![vector("g", &[1.0, 2.0]), new]).await;
    client.send_frame(5, vec![]).await;
    client.send_frame(6, vec![vector("h", &[1.0, 2.0])]).await;
    let refused = client.settled(6).await;

    let told = |refused: &[pb::FrameRefused]| {
        let error = |error: &pb::RecordError| (error.index, error.id.clone(), error.reason.clone());
        let one = |one: &pb::FrameRefused| {
            let errors: Vec<_> = one.errors.iter().map(error).collect();
            (one.frame, one.error_count, errors, one.reason.clone())
        };
        refused.iter().map(one).collect::<Vec<_>>()
    };
    let error = |index, id: &str, reason: &str| (index, id.to_owned(), reason.to_owned());
    let expected = vec![
        (2, 2, vec![error(0, "", "INVALID_ID"), error(2, "d", "INVALID_VECTOR")], "INVALID_ID".to_owned()),
        (3, 1, vec![error(1, "f", "DIMENSION_MISMATCH")], "DIMENSION_MISMATCH".to_owned()),
        (4, 1, vec![error(1, "a", "VERSION_MISMATCH")], "VERSION_MISMATCH".to_owned()),
        (5, 0, vec![], "INVALID_ARGUMENT".to_owned()),
    ];
    assert_eq!(told(&refused), expected);
    assert!(refused[0].errors[1].message.contains("records[2].vector"), "{refused:?}");
    assert_eq!(count(&server).await, 3, "a, b and h: a refused frame writes nothing");
    server.kill();

    let server = Server::start(data.path(), Texts::Away);
    let (client, opened) = Client::open(&server, "s").await;
    assert_eq!((opened.resume_from, opened.refused_count), (7, 4));
    assert_eq!(told(&opened.refused), expected, "refusals survive like writes");
    assert_eq!(client.finish().await.refused_count, 4);
}

#[tokio::test]
async fn what_breaks_the_rules_ends_the_stream_and_keeps_what_was_settled() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let one = |id: &str| vec![vector(id, &[1.0, 2.0])];

    let mut client = Client::connect(&server).await;
    client.send_frame(1, one("x")).await;
    assert_ended(&client.end().await, Code::InvalidArgument, "STREAM_PROTOCOL", "`open`");
    for (stream_id, says) in [("", "got 0"), (&"x".repeat(65), "got 65")] {
        let mut client = Client::connect(&server).await;
        client.send(Sent::Open(open(stream_id))).await;
        assert_ended(&client.end().await, Code::InvalidArgument, "INVALID_ARGUMENT", says);
    }
    let mut client = Client::connect(&server).await;
    client.send(Sent::Open(pb::StreamOpen { create_missing: false, ..open("s") })).await;
    assert_ended(&client.end().await, Code::NotFound, "COLLECTION_NOT_FOUND", "\"c\"");

    let (mut client, _) = Client::open(&server, "s").await;
    client.send_frame(1, one("a")).await;
    client.send_frame(3, one("c")).await;
    assert_ended(&client.end().await, Code::InvalidArgument, "FRAME_OUT_OF_ORDER", "expected frame 2, but got 3");
    let (mut client, opened) = Client::open(&server, "s").await;
    assert_eq!(opened.resume_from, 2, "what came before the mistake is settled");
    client.send(Sent::Open(open("s"))).await;
    assert_ended(&client.end().await, Code::InvalidArgument, "STREAM_PROTOCOL", "open already");
    let (mut client, _) = Client::open(&server, "s").await;
    client.requests.send(pb::StreamUpsertRequest { message: None }).await.unwrap();
    assert_ended(&client.end().await, Code::InvalidArgument, "STREAM_PROTOCOL", "`frame` or `finish`");
    let (mut client, opened) = Client::open(&server, "s").await;
    let limits = opened.limits.unwrap();
    let large = pb::RecordInput { text: Some("x".repeat(1 << 20)), ..vector("l", &[1.0, 2.0]) };
    client.send_frame(2, vec![large; 9]).await;
    assert_ended(
        &client.end().await,
        Code::ResourceExhausted,
        "MESSAGE_TOO_LARGE",
        &limits.frame_bytes_max.to_string(),
    );
    assert_eq!(count(&server).await, 1);
}

#[tokio::test]
async fn a_client_that_sends_beyond_its_credit_is_stopped_and_can_go_on() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let (mut client, opened) = Client::open(&server, "s").await;
    let limits = opened.limits.unwrap();
    // Many small frames at once, more than may be unsettled: they are sent by one write, faster than any disk can sync.
    let frames = u64::from(limits.credit_frames) * 8;
    let sender = client.requests.clone();
    tokio::spawn(async move {
        for frame in 1..=frames {
            let frame = pb::UpsertFrame { frame, records: vec![vector(&format!("r{frame}"), &[1.0, 2.0])] };
            if sender.send(pb::StreamUpsertRequest { message: Some(Sent::Frame(frame)) }).await.is_err() {
                return;
            }
        }
    });
    let status = client.end().await;
    assert_ended(&status, Code::ResourceExhausted, "CREDIT_EXCEEDED", "1024 frames");
    let (client, opened) = Client::open(&server, "s").await;
    assert!(opened.resume_from > 1, "what came within the credit is settled");
    assert_eq!(count(&server).await, opened.resume_from - 1, "all of it, and nothing else");
    client.finish().await;
}

#[tokio::test]
async fn the_newer_of_two_connections_has_the_stream() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let (mut first, _) = Client::open(&server, "s").await;
    for frame in 1..=100 {
        first.send_frame(frame, vec![vector(&format!("r{frame}"), &[1.0, 2.0])]).await;
    }
    let (mut second, opened) = Client::open(&server, "s").await;
    assert_ended(&first.end().await, Code::Aborted, "STREAM_TAKEN_OVER", "\"s\"");
    // How many got through is chance; that the mark says it, is not.
    assert_eq!(count(&server).await, opened.resume_from - 1);
    for frame in opened.resume_from..=101 {
        second.send_frame(frame, vec![vector(&format!("r{frame}"), &[1.0, 2.0])]).await;
    }
    assert!(second.settled(101).await.is_empty());
    assert_eq!(count(&server).await, 101);
    // Another stream of the same collection is another stream.
    let (_third, opened) = Client::open(&server, "t").await;
    assert_eq!(opened.resume_from, 1);
    second.finish().await;
}

#[tokio::test]
async fn a_client_that_never_reads_holds_up_nobody() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let (deaf, opened) = Client::open(&server, "deaf").await;
    let limits = opened.limits.unwrap();
    let mut credit = limits.credit_bytes as usize;
    // Half a megabyte a frame; what is sent is within what it may send without having read anything.
    let payload = pb::RecordInput { text: Some("x".repeat(1 << 19)), ..vector("deaf", &[1.0, 2.0]) };
    let mut sent = 0;
    loop {
        let frame = pb::UpsertFrame { frame: sent + 1, records: vec![payload.clone()] };
        match credit.checked_sub(frame.encoded_len()) {
            None => break,
            Some(left) => credit = left,
        }
        deaf.send(Sent::Frame(frame)).await;
        sent += 1;
    }
    let (mut client, _) = Client::open(&server, "s").await;
    for frame in 1..=50 {
        client.send_frame(frame, vec![vector(&format!("r{frame}"), &[1.0, 2.0])]).await;
        client.settled(frame).await;
    }
    drop(deaf);
    let (_, opened) = Client::open(&server, "deaf").await;
    assert!(opened.resume_from <= sent + 1);
    assert_eq!(count(&server).await, 50 + u64::from(opened.resume_from > 1));
}

#[tokio::test]
async fn a_server_that_stops_settles_what_it_took_and_says_so() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let (mut client, _) = Client::open(&server, "s").await;
    client.send_frame(1, vec![vector("a", &[1.0, 2.0])]).await;
    client.settled(1).await;
    client.send_frame(2, vec![vector("b", &[1.0, 2.0])]).await;
    let (status, ended) = tokio::join!(client.end(), server.terminate());
    assert_ended(&status, Code::Unavailable, "NOT_READY", "open the stream again");
    assert!(ended.success());

    let server = Server::start(data.path(), Texts::Away);
    let (_, opened) = Client::open(&server, "s").await;
    assert_eq!(count(&server).await, opened.resume_from - 1);
}

#[tokio::test]
async fn texts_are_embedded_on_the_way_in_the_order_of_the_frames() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Embedded);
    let (mut client, _) = Client::open(&server, "s").await;
    // Frames of one text and of many, vectors between them; the same id again and again, so that order shows.
    let words = ["apple", "banana", "cherry", "dog", "elephant", "flute", "guitar", "house"];
    for (position, word) in words.iter().enumerate() {
        let mut records = vec![text("last", word)];
        records.extend((0..position * 7).map(|i| text(&format!("{word}{i}"), &format!("{word} number {i}"))));
        client.send_frame(2 * position as u64 + 1, records).await;
        client.send_frame(2 * position as u64 + 2, vec![vector("raw", &[position as f32, 1.0])]).await;
    }
    // Longer than the model reads.
    client.send_frame(17, vec![text("long", &"word ".repeat(1_000))]).await;
    let mut truncated = Vec::new();
    loop {
        match client.next().await.unwrap() {
            Told::Progress(progress) => {
                truncated.extend(progress.truncated_ids);
                if progress.settled_frame == 17 {
                    break;
                }
            }
            other => panic!("expected `progress`, but got {other:?}"),
        }
    }
    assert_eq!(truncated, ["long"]);
    assert_eq!(count(&server).await, 1 + 7 * 28 + 1 + 1);
    let last = record(&server, "last").await;
    assert_eq!(last.text.as_deref(), Some("house"));
    assert_eq!(
        record(&server, "raw").await.vector.unwrap().components,
        vector("", &[7.0, 1.0]).vector.unwrap().components
    );

    // The same embedding as by Upsert.
    let request = pb::UpsertRequest {
        collection: "other".into(),
        records: vec![text("last", "house")],
        create_missing: true,
        ..pb::UpsertRequest::default()
    };
    server.vectors().await.upsert(request).await.unwrap();
    let request = pb::GetRequest { collection: "other".into(), ids: vec!["last".into()], ..pb::GetRequest::default() };
    let by_upsert = server.vectors().await.get(request).await.unwrap().into_inner().records.remove(0);
    let components = |record: pb::Record| match record.vector.unwrap().components.unwrap() {
        Components::F32Le(bytes) => {
            bytes.chunks(4).map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap())).collect::<Vec<_>>()
        }
        Components::Floats(floats) => floats.values,
    };
    let cosine: f32 = components(last).iter().zip(components(by_upsert)).map(|(a, b)| a * b).sum();
    assert!(cosine > 0.99999, "{cosine}");
}

#[tokio::test]
async fn frames_that_are_still_being_embedded_are_settled_before_the_stream_ends() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Embedded);
    let frame_of =
        |frame: u64| (0..30).map(|i| text(&format!("{frame}-{i}"), &format!("text {i} of {frame}"))).collect();
    // Once by `finish`, once by closing this side without a word.
    let (client, _) = Client::open(&server, "finished").await;
    for frame in 1..=5 {
        client.send_frame(frame, frame_of(frame)).await;
    }
    assert_eq!(client.finish().await.settled_frame, 5);
    let (client, _) = Client::open(&server, "closed").await;
    for frame in 1..=5 {
        client.send_frame(frame, (0..30).map(|i| text(&format!("{}-{i}", 10 + frame), "another text")).collect()).await;
    }
    let Client { requests, answers } = client;
    drop(requests);
    let (unused, _) = mpsc::channel(1);
    let status = Client { requests: unused, answers }.end().await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    assert_eq!(count(&server).await, 300);
    let (_, opened) = Client::open(&server, "closed").await;
    assert_eq!(opened.resume_from, 6, "closing is not finishing");
}

#[tokio::test]
async fn where_a_vector_lands_does_not_depend_on_how_fast_it_comes() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Embedded);
    let (client, _) = Client::open(&server, "s").await;
    // The first frame makes the space that the second one belongs to.
    client.send_frame(1, vec![text("t", "a text")]).await;
    client.send_frame(2, vec![vector("v", &[1.0; 384])]).await;
    client.finish().await;
    assert_eq!(record(&server, "v").await.vector.unwrap().space, "minilm");
}

#[tokio::test]
async fn a_stream_that_was_forgotten_while_it_was_open_is_told_so() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let one = |id: &str| vec![vector(id, &[1.0, 2.0])];
    let (mut victim, _) = Client::open(&server, "victim").await;
    victim.send_frame(1, one("victim")).await;
    victim.settled(1).await;
    // As many as a collection remembers, each written to later.
    let mut store = server.vectors().await;
    for number in 0..1_000 {
        let buffered = pb::Durability::Buffered.into();
        let open = pb::StreamOpen { durability: buffered, ..open(&format!("other {number}")) };
        let frame = pb::UpsertFrame { frame: 1, records: one("other") };
        let messages = [Sent::Open(open), Sent::Frame(frame)];
        let requests = messages.map(|message| pb::StreamUpsertRequest { message: Some(message) });
        let mut answers = store.stream_upsert(tokio_stream::iter(requests)).await.unwrap().into_inner();
        while answers.message().await.unwrap().is_some() {}
    }
    victim.send_frame(2, one("victim")).await;
    assert_ended(&victim.end().await, Code::InvalidArgument, "FRAME_OUT_OF_ORDER", "expected frame 1, but got 2");
    let (_, opened) = Client::open(&server, "victim").await;
    assert_eq!(opened.resume_from, 1);
}

#[tokio::test]
async fn texts_without_an_embedding_service_end_the_stream_and_are_not_settled() {
    let data = data_folder();
    let mut command = command(data.path(), Texts::Away);
    command.args(["--embedding-timeout-s", "2"]);
    let server = Server::run(command, Texts::Away);
    let (mut client, _) = Client::open(&server, "s").await;
    client.send_frame(1, vec![vector("a", &[1.0, 2.0])]).await;
    client.send_frame(2, vec![text("b", "a text")]).await;
    let status = client.end().await;
    assert_eq!(status.get_details_error_info().map(|info| info.reason).as_deref(), Some("EMBEDDING_UNAVAILABLE"));
    let (mut client, opened) = Client::open(&server, "s").await;
    assert_eq!((opened.resume_from, opened.refused_count), (2, 0), "the text was not lost: it can be sent again");
    client.send_frame(2, vec![vector("b", &[1.0, 2.0])]).await;
    assert!(client.settled(2).await.is_empty());
}

#[tokio::test]
async fn nothing_is_lost_and_nothing_twice_through_ten_kills() {
    const FRAMES: u64 = 400;
    let data = data_folder();
    let frame_of = |frame: u64| -> Vec<pb::RecordInput> {
        (0..20).map(|i| vector(&format!("{frame}-{i}"), &[frame as f32, i as f32])).collect()
    };
    let mut kills = 0;
    loop {
        let server = Server::start(data.path(), Texts::Away);
        let (mut client, opened) = Client::open(&server, "s").await;
        assert_eq!(opened.refused_count, 0);
        if opened.resume_from > FRAMES {
            client.finish().await;
            break;
        }
        let requests = client.requests.clone();
        let sender = tokio::spawn(async move {
            for frame in opened.resume_from..=FRAMES.min(opened.resume_from + 40) {
                let message = Some(Sent::Frame(pb::UpsertFrame { frame, records: frame_of(frame) }));
                if requests.send(pb::StreamUpsertRequest { message }).await.is_err() {
                    return;
                }
            }
        });
        // The server dies in the middle of writing: after a number of frames that differs from run to run.
        let until = opened.resume_from + 3 * kills % 40;
        client.settled(until.min(FRAMES)).await;
        kills += 1;
        server.kill();
        sender.abort();
    }
    assert!(kills >= 10, "{kills}");
    let server = Server::start(data.path(), Texts::Away);
    assert_eq!(count(&server).await, 20 * FRAMES);
    // The collection's first record is its creation; after it each frame has one sequence.
    for frame in [1, 2, 77, FRAMES] {
        for i in [0, 19] {
            assert_eq!(record(&server, &format!("{frame}-{i}")).await.version, frame + 1, "frame {frame}");
        }
    }
}
