//! Batches cut into parts that the service takes at once, and put together again from the answers.
//!
//! A part waits, is on its way, or is answered. The service answers in the order in which parts were sent, so that what is
//! on its way is a queue; each time a part is sent it gets a number of its own, which its answer must carry. A batch is
//! answered when all of its parts are, or at the first that fails. Knows nothing of connections and time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use tonic::Code;
use vectron_embedding::pb::v1 as pb;

use super::answer::{append, check, error_of_batch, garbled};
use super::{EmbedError, Embedded, RETRIES};

/// Texts of one part.
const PART_TEXTS_MAX: usize = 512;
/// Bytes of the texts of one part, which is under the service's limit of a message.
const PART_BYTES_MAX: usize = 8 << 20;
/// A part is put off for at most this time: a provider may ask to be left alone for an hour, and its writer is told so.
const PUT_OFF_MAX: Duration = Duration::from_secs(10);
/// Parts on their way at once: as many as the service takes in of a stream.
pub(super) const ON_THEIR_WAY_MAX: usize = 16;

/// Where a batch is answered.
pub(super) type Answer = oneshot::Sender<Result<Embedded, EmbedError>>;

/// All batches that are not answered yet.
pub(super) struct Parts {
    /// For messages: where the service is.
    place: String,
    batches: HashMap<u64, Batch>,
    batches_count: u64,
    waiting: VecDeque<Part>,
    on_their_way: VecDeque<(u64, Part)>,
    sent_count: u64,
}

struct Batch {
    answer: Answer,
    /// In their order.
    parts: Vec<Option<Embedded>>,
    missing: usize,
}

struct Part {
    batch: u64,
    /// Which part of its batch it is.
    index: usize,
    texts: Vec<String>,
    /// How often the service has put it off.
    put_off: usize,
}

/// What an answer means for what comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// The part is done with.
    Go,
    /// The service wants it again, after that time.
    Pause(Duration),
}

impl Parts {
    pub(super) fn new(place: &str) -> Self {
        Self {
            place: place.to_owned(),
            batches: HashMap::new(),
            batches_count: 0,
            waiting: VecDeque::new(),
            on_their_way: VecDeque::new(),
            sent_count: 0,
        }
    }

    pub(super) fn add(&mut self, texts: Vec<String>, answer: Answer) {
        let batch = self.batches_count;
        self.batches_count += 1;
        let before = self.waiting.len();
        let parts = split(texts).into_iter().enumerate();
        self.waiting.extend(parts.map(|(index, texts)| Part { batch, index, texts, put_off: 0 }));
        let count = self.waiting.len() - before;
        self.batches.insert(batch, Batch { answer, parts: (0..count).map(|_| None).collect(), missing: count });
    }

    /// Nothing waits to be sent.
    pub(super) fn none_wait(&self) -> bool {
        self.waiting.is_empty()
    }

    /// No answer is outstanding.
    pub(super) fn none_on_their_way(&self) -> bool {
        self.on_their_way.is_empty()
    }

    /// The next part to send, with its number, where no more than `ON_THEIR_WAY_MAX` are then on their way. Batches that
    /// failed meanwhile, or that nobody waits for any more, are left out.
    pub(super) fn send_next(&mut self) -> Option<(u64, Vec<String>)> {
        if self.on_their_way.len() == ON_THEIR_WAY_MAX {
            return None;
        }
        while let Some(part) = self.waiting.pop_front() {
            let is_wanted = self.batches.get(&part.batch).is_some_and(|batch| !batch.answer.is_closed());
            if !is_wanted {
                self.batches.remove(&part.batch);
                continue;
            }
            let (number, texts) = (self.sent_count, part.texts.clone());
            self.sent_count += 1;
            self.on_their_way.push_back((number, part));
            return Some((number, texts));
        }
        None
    }

    /// Takes the answer to the part that was sent first. An error means that the stream is not to be trusted any more.
    pub(super) fn take(&mut self, answer: pb::StreamEmbedResponse) -> Result<Next, EmbedError> {
        let got = answer.batch_index;
        let (number, mut part) =
            self.on_their_way.pop_front_if(|(number, _)| *number == got).ok_or_else(|| {
                match self.on_their_way.front() {
                    Some((number, _)) => garbled(format!("it answered batch {got} where it had to answer {number}")),
                    None => garbled(format!("it answered batch {got} without being asked")),
                }
            })?;
        debug_assert_eq!(number, got);
        let result = match (answer.response, answer.error) {
            (_, Some(error)) => Err(error_of_batch(error, &self.place)),
            (Some(response), None) => check(response, part.texts.len()),
            (None, None) => Err(garbled("neither embeddings nor an error".to_owned())),
        };
        match result {
            Err(EmbedError { code: Code::ResourceExhausted | Code::Unavailable, retry_after: Some(pause), .. })
                if part.put_off < RETRIES && pause <= PUT_OFF_MAX =>
            {
                part.put_off += 1;
                self.waiting.push_front(part);
                return Ok(Next::Pause(pause));
            }
            Err(error) => self.fail(part.batch, error),
            Ok(embedded) => self.put(&part, embedded),
        }
        Ok(Next::Go)
    }

    /// The connection is gone: what was on its way has to be sent again.
    pub(super) fn send_again(&mut self) {
        while let Some((_, part)) = self.on_their_way.pop_back() {
            self.waiting.push_front(part);
        }
    }

    /// Fails the batch that the service had to answer next.
    pub(super) fn fail_first(&mut self, error: EmbedError) {
        if let Some((_, part)) = self.on_their_way.pop_front() {
            self.fail(part.batch, error);
        }
    }

    /// Fails every batch of which a part is on its way.
    pub(super) fn fail_on_their_way(&mut self, error: &EmbedError) {
        while let Some((_, part)) = self.on_their_way.pop_front() {
            self.fail(part.batch, error.clone());
        }
    }

    pub(super) fn fail_all(&mut self, error: &EmbedError) {
        self.waiting.clear();
        self.on_their_way.clear();
        for (_, batch) in self.batches.drain() {
            // Here and below: whoever has dropped the answer does not want it any more.
            let _ = batch.answer.send(Err(error.clone()));
        }
    }

    fn fail(&mut self, batch: u64, error: EmbedError) {
        if let Some(batch) = self.batches.remove(&batch) {
            let _ = batch.answer.send(Err(error));
        }
    }

    fn put(&mut self, part: &Part, embedded: Embedded) {
        let Some(batch) = self.batches.get_mut(&part.batch) else { return };
        batch.parts[part.index] = Some(embedded);
        batch.missing -= 1;
        if batch.missing == 0
            && let Some(batch) = self.batches.remove(&part.batch)
        {
            let _ = batch.answer.send(join(batch.parts));
        }
    }
}

fn join(parts: Vec<Option<Embedded>>) -> Result<Embedded, EmbedError> {
    let mut all = None;
    for part in parts {
        append(&mut all, part.expect("none is missing"))?;
    }
    Ok(all.expect("a batch has at least one part"))
}

/// Cuts texts into what the service takes at once.
pub(super) fn split(texts: Vec<String>) -> Vec<Vec<String>> {
    let mut parts: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for text in texts {
        bytes += text.len();
        match parts.last_mut() {
            Some(part) if part.len() < PART_TEXTS_MAX && bytes <= PART_BYTES_MAX => part.push(text),
            _ => {
                bytes = text.len();
                parts.push(vec![text]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_by_count_and_by_bytes() {
        let sizes = |texts: Vec<String>| split(texts).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec!["x".to_owned(); 1025]), [512, 512, 1]);
        assert_eq!(sizes(vec!["x".repeat(3 << 20); 5]), [2, 2, 1]);
        assert_eq!(sizes(vec!["x".repeat(9 << 20); 2]), [1, 1]);
    }

    /// Every text is answered with its length as its only component.
    fn answer(number: u64, texts: &[String], fingerprint: &str) -> pb::StreamEmbedResponse {
        let embeddings = texts.iter().map(|text| pb::Embedding {
            f32_le: (text.len() as f32).to_le_bytes().to_vec().into(),
            ..Default::default()
        });
        let embeddings = embeddings.collect();
        let response =
            pb::EmbedResponse { embeddings, dimension: 1, fingerprint: fingerprint.to_owned(), ..Default::default() };
        pb::StreamEmbedResponse { batch_index: number, response: Some(response), error: None }
    }

    fn batch(parts: &mut Parts, count: usize) -> oneshot::Receiver<Result<Embedded, EmbedError>> {
        let (sender, answer) = oneshot::channel();
        parts.add((1..=count).map(|length| "x".repeat(length)).collect(), sender);
        answer
    }

    fn lengths(answer: &mut oneshot::Receiver<Result<Embedded, EmbedError>>) -> Vec<f32> {
        let embedded = answer.try_recv().unwrap().unwrap();
        embedded.embeddings.iter().map(|embedding| embedding.vector.components()[0]).collect()
    }

    #[test]
    fn batch_is_put_together_even_where_its_parts_are_sent_again() {
        let mut parts = Parts::new("here");
        let mut large = batch(&mut parts, 1025);
        let mut small = batch(&mut parts, 1);
        let (number, texts) = parts.send_next().unwrap();
        let _on_its_way = parts.send_next().unwrap();
        parts.take(answer(number, &texts, "f")).unwrap();
        parts.send_again();
        assert!(parts.none_on_their_way());
        for left in [512, 1, 1] {
            let (number, texts) = parts.send_next().unwrap();
            assert_eq!(texts.len(), left);
            parts.take(answer(number, &texts, "f")).unwrap();
        }
        assert_eq!(lengths(&mut large), (1..=1025).map(|length| length as f32).collect::<Vec<_>>());
        assert_eq!(lengths(&mut small), [1.0]);
        assert!(parts.none_wait() && parts.batches.is_empty());
    }

    #[test]
    fn batch_of_two_models_is_refused() {
        let mut parts = Parts::new("here");
        let mut large = batch(&mut parts, 513);
        for fingerprint in ["before", "after"] {
            let (number, texts) = parts.send_next().unwrap();
            parts.take(answer(number, &texts, fingerprint)).unwrap();
        }
        let error = large.try_recv().unwrap().unwrap_err();
        assert!(error.message.contains("from before to after"), "{error}");
    }

    #[test]
    fn what_nobody_waits_for_is_not_sent() {
        let mut parts = Parts::new("here");
        drop(batch(&mut parts, 1025));
        let mut failed = batch(&mut parts, 1025);
        let _stays = batch(&mut parts, 7);
        let (number, _) = parts.send_next().unwrap();
        let error = pb::StreamEmbedError { code: Code::InvalidArgument.into(), ..Default::default() };
        parts.take(pb::StreamEmbedResponse { batch_index: number, response: None, error: Some(error) }).unwrap();
        assert_eq!(failed.try_recv().unwrap().unwrap_err().code, Code::InvalidArgument);
        assert_eq!(parts.send_next().unwrap().1.len(), 7);
        assert!(parts.send_next().is_none());
    }

    #[test]
    fn only_so_many_are_on_their_way() {
        let mut parts = Parts::new("here");
        let answers: Vec<_> = (0..20).map(|_| batch(&mut parts, 1)).collect();
        let sent: Vec<_> = std::iter::from_fn(|| parts.send_next()).collect();
        assert_eq!(sent.len(), ON_THEIR_WAY_MAX);
        parts.take(answer(sent[0].0, &sent[0].1, "f")).unwrap();
        assert!(parts.send_next().is_some() && parts.send_next().is_none());
        drop(answers);
    }

    #[test]
    fn answers_out_of_turn_and_batches_that_are_put_off_for_ever_are_errors() {
        let mut parts = Parts::new("here");
        let wrong = parts.take(answer(0, &[], "f")).unwrap_err();
        assert!(wrong.message.contains("without being asked"), "{wrong}");
        let mut put_off = batch(&mut parts, 1);
        let (number, texts) = parts.send_next().unwrap();
        let wrong = parts.take(answer(number + 1, &texts, "f")).unwrap_err();
        assert!(wrong.message.contains("batch 1 where it had to answer 0"), "{wrong}");

        let busy = |batch_index| {
            let code = Code::ResourceExhausted.into();
            let error = pb::StreamEmbedError { code, retry_after_ms: 20, ..Default::default() };
            pb::StreamEmbedResponse { batch_index, response: None, error: Some(error) }
        };
        let mut number = number;
        for _ in 0..RETRIES {
            let next = parts.take(busy(number)).unwrap();
            assert!(matches!(next, Next::Pause(pause) if pause == Duration::from_millis(20)), "{next:?}");
            number = parts.send_next().unwrap().0;
        }
        assert!(matches!(parts.take(busy(number)).unwrap(), Next::Go));
        assert_eq!(put_off.try_recv().unwrap().unwrap_err().code, Code::ResourceExhausted);
    }
}
