//! Many queries in flight on one stream: what has arrived together is answered together, so that both sides handle few
//! large pieces.

use std::sync::Arc;
use std::time::Instant;

use h2::SendStream;
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

use super::load::{Phase, Seen};
use super::queries::Queries;
use crate::cli::bench::BenchError;
use crate::cli::bench::connection::{Call, Connection, Endpoint, Receiving};
use crate::cli::bench::messages::{PREFIX_BYTES, put_prefix};
use crate::pb::v1::{self as pb, stream_search_response as answered};

/// Tags of `StreamSearchRequest` and `StreamSearchResponse`: the number of a query is field 1, the query or its answer
/// field 2.
const TAG_INDEX: u8 = 1 << 3;
const TAG_SEARCH: u8 = 2 << 3 | 2;

/// A stream of queries.
pub struct StreamClient {
    sending: SendStream<Bytes>,
    receiving: Receiving,
    /// Held, since the connection ends with its last user.
    _connection: Connection,
    queries: Arc<Queries>,
    slots: Slots,
    in_flight: usize,
}

/// A query in flight.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    number: u64,
    sent: Instant,
}

/// The queries in flight, by their `query_index`: its low bits are the slot, the others change with each use, so that an
/// answer to another query is noticed.
struct Slots {
    slots: Vec<(u64, Option<InFlight>)>,
    index_step: u64,
}

impl Slots {
    fn new(in_flight: usize) -> Self {
        let index_step = in_flight.next_power_of_two() as u64;
        Self { slots: (0..in_flight as u64).map(|slot| (slot, None)).collect(), index_step }
    }

    /// Puts a query into a free slot; returns its index, which is never 0.
    fn put(&mut self, slot: usize, query: InFlight) -> u64 {
        let (index, in_flight) = &mut self.slots[slot];
        assert!(in_flight.is_none(), "the slot is free");
        *index += self.index_step;
        *in_flight = Some(query);
        *index
    }

    /// Takes the query that was answered, and tells its slot.
    fn take(&mut self, index: u64) -> Result<(usize, InFlight), BenchError> {
        let slot = (index % self.index_step) as usize;
        match self.slots.get_mut(slot) {
            Some((expected, in_flight)) if *expected == index => {
                let query = in_flight.take().ok_or_else(|| format!("query {index} was answered twice"))?;
                Ok((slot, query))
            }
            _ => Err(format!("query {index} was answered, but not asked").into()),
        }
    }
}

impl StreamClient {
    /// Opens the stream.
    pub async fn open(
        mut connection: Connection,
        endpoint: &Endpoint,
        queries: Arc<Queries>,
        in_flight: usize,
    ) -> Result<Self, BenchError> {
        let (sending, receiving) = connection.open_call(&Call::new(endpoint, "StreamSearch")).await?;
        Ok(Self { sending, receiving, _connection: connection, queries, slots: Slots::new(in_flight), in_flight })
    }

    /// Keeps the window full until the phase is over.
    pub async fn run(&mut self, phase: Phase) -> Result<Seen, BenchError> {
        let mut seen = Seen::default();
        let mut batch = BytesMut::new();
        let mut open = 0;
        let mut now = Instant::now();
        for slot in 0..self.in_flight {
            let Some(number) = phase.take(now) else { break };
            self.ask(slot, InFlight { number, sent: now }, &mut batch);
            open += 1;
        }
        self.send(&mut batch)?;
        while open > 0 {
            if !self.receiving.more().await? {
                return Err("the server ended the stream of queries".into());
            }
            now = Instant::now();
            while let Some(message) = self.receiving.arrived()? {
                let (index, answer) = split(message)?;
                let (slot, query) = self.slots.take(index)?;
                seen.record(&phase, query.number, now - query.sent, answer);
                match phase.take(now) {
                    Some(number) => self.ask(slot, InFlight { number, sent: now }, &mut batch),
                    None => open -= 1,
                }
            }
            self.send(&mut batch)?;
        }
        Ok(seen)
    }

    fn ask(&mut self, slot: usize, query: InFlight, batch: &mut BytesMut) {
        let search = self.queries.message(query.number);
        put_request(self.slots.put(slot, query), search, batch);
    }

    /// No more than the window is ever on its way, so nobody needs to wait for the connection here.
    fn send(&mut self, batch: &mut BytesMut) -> Result<(), BenchError> {
        if batch.is_empty() {
            return Ok(());
        }
        Ok(self.sending.send_data(batch.split().freeze(), false)?)
    }
}

/// A `StreamSearchRequest` around an encoded `SearchRequest`.
fn put_request(index: u64, search: &[u8], out: &mut BytesMut) {
    let search_bytes = search.len() as u64;
    let length = 1 + encoded_len_varint(index) + 1 + encoded_len_varint(search_bytes) + search.len();
    out.reserve(PREFIX_BYTES + length);
    put_prefix(length, out);
    out.put_u8(TAG_INDEX);
    encode_varint(index, out);
    out.put_u8(TAG_SEARCH);
    encode_varint(search_bytes, out);
    out.put_slice(search);
}

/// The number of the query, and the encoded `SearchResponse`.
fn split(message: Bytes) -> Result<(u64, Bytes), BenchError> {
    let mut rest = message.clone();
    if rest.first() == Some(&TAG_INDEX) {
        rest.advance(1);
        let index = decode_varint(&mut rest)?;
        if rest.first() == Some(&TAG_SEARCH) {
            rest.advance(1);
            if decode_varint(&mut rest)? == rest.len() as u64 {
                return Ok((index, rest));
            }
        }
    }
    // Fields may come in any order, and an error comes in another one.
    let answer = pb::StreamSearchResponse::decode(message)?;
    match answer.result {
        Some(answered::Result::Response(response)) => Ok((answer.query_index, response.encode_to_vec().into())),
        Some(answered::Result::Error(error)) => {
            let (code, reason, message) = (tonic::Code::from_i32(error.code), error.reason, error.message);
            Err(format!("the server refused a query: {code:?}: {reason}: {message}").into())
        }
        None => Err("the server answered a query with nothing".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> InFlight {
        InFlight { number: 7, sent: Instant::now() }
    }

    #[test]
    fn every_query_is_answered_once_in_any_order() {
        let mut slots = Slots::new(3);
        let indexes = [0, 1, 2].map(|slot| slots.put(slot, query()));
        assert!(indexes.iter().all(|&index| index > 0));
        assert_eq!(slots.take(indexes[2]).unwrap().0, 2);
        assert!(slots.take(indexes[2]).unwrap_err().to_string().contains("twice"));
        let again = slots.put(2, query());
        assert_ne!(again, indexes[2]);
        assert!(slots.take(indexes[2]).unwrap_err().to_string().contains("not asked"));
        assert!(slots.take(3).is_err());
        assert_eq!([again, indexes[0], indexes[1]].map(|index| slots.take(index).unwrap().0), [2, 0, 1]);
    }

    #[test]
    fn requests_are_what_the_contract_says() {
        for (index, top_k) in [(1, 1), (300, 7), (u64::MAX, 10_000)] {
            let search = pb::SearchRequest { collection: "c".repeat(200), top_k: Some(top_k), ..Default::default() };
            let mut out = BytesMut::new();
            put_request(index, &search.encode_to_vec(), &mut out);
            let expected = pb::StreamSearchRequest { query_index: index, search: Some(search), deadline_ms: 0 };
            assert_eq!(out.split_off(PREFIX_BYTES), expected.encode_to_vec());
        }
    }

    #[test]
    fn answers_are_split_without_being_decoded() {
        let hit = pb::Hit { record: None, score: 0.5 };
        let response = pb::SearchResponse { hits: vec![hit], ..Default::default() };
        let result = Some(answered::Result::Response(response.clone()));
        let answer = pb::StreamSearchResponse { query_index: 300, result };
        let (index, rest) = split(answer.encode_to_vec().into()).unwrap();
        assert_eq!((index, rest), (300, response.encode_to_vec().into()));
        // The fields the other way round.
        let mut turned = answer.encode_to_vec().split_off(3);
        turned.extend(pb::StreamSearchResponse { query_index: 300, result: None }.encode_to_vec());
        assert_eq!(split(turned.into()).unwrap(), (300, response.encode_to_vec().into()));
    }

    #[test]
    fn a_refused_query_is_told() {
        let error = pb::QueryError { code: 8, reason: "OVERLOADED".to_owned(), message: "too many".to_owned() };
        let answer = pb::StreamSearchResponse { query_index: 1, result: Some(answered::Result::Error(error)) };
        let said = split(answer.encode_to_vec().into()).unwrap_err().to_string();
        assert!(said.contains("ResourceExhausted") && said.contains("OVERLOADED"), "{said}");
    }
}
