//! Goes through refused frames: bad records are told, the others are written by calls of their own.

use std::collections::{HashMap, HashSet};

use tonic::{Code, Status};

use super::frame::Frame;
use super::reading::BadLine;
use super::repair::{Refused, get_request, is_same};
use super::retry::is_temporary;
use super::sending::Sending;
use crate::cli::exit::{Failure, Told, reason};
use crate::pb::v1 as pb;

/// Records that are read at once: with vectors of the largest dimension they fit a message.
const READ_RECORDS_MAX: usize = 200;

impl Sending {
    /// From the last refused frame to the first; see `repair`.
    pub(super) async fn go_through_refused(&mut self) -> Result<(), Failure> {
        while let Some(refused) = self.repairs.take_last() {
            self.mend(refused).await?;
            self.went_well();
        }
        self.repairs.end();
        Ok(())
    }

    async fn mend(&mut self, refused: Refused) -> Result<(), Failure> {
        let Refused { frame, answer, may_be_written } = refused;
        if frame.is_unfit {
            return Ok(());
        }
        let mut bad = HashSet::new();
        for error in &answer.errors {
            let position = error.index as usize;
            if position < frame.records.len() && bad.insert(position) {
                self.refuse_record(&frame, position, &format!("{} [{}]", error.message, error.reason))?;
            }
        }
        let mut positions: Vec<usize> = (0..frame.records.len()).filter(|position| !bad.contains(position)).collect();
        if may_be_written {
            positions = self.leave_out_what_is_there(&frame, positions).await?;
        }
        let (replaced, positions) = positions
            .into_iter()
            .partition::<Vec<_>, _>(|&position| self.repairs.is_replaced(frame.number, &frame.records[position].id));
        // Written, and then written over.
        self.totals.records += replaced.len() as u64;

        // A part that is refused is halved, until the record that is at fault stands alone. The first half first: of
        // several records with the same id the last wins.
        let mut parts = if positions.is_empty() { Vec::new() } else { vec![positions] };
        while let Some(part) = parts.pop() {
            match self.upsert(&frame, &part).await? {
                Ok(response) => {
                    self.totals.records += part.len() as u64;
                    self.totals.truncated += response.truncated_ids.len() as u64;
                    for &position in &part {
                        self.repairs.record_written(frame.number, &frame.records[position].id);
                    }
                }
                Err(status) if !is_of_a_record(&status) => {
                    let (first, last) = (part[0], part[part.len() - 1]);
                    let (first, last) = (frame.places[first].number, frame.places[last].number);
                    let place = self.bad_lines.place(first);
                    let told = Told(&status);
                    return Err(Failure::new(format_args!("{place} to {last} were refused: {told}")));
                }
                Err(status) => match part[..] {
                    [position] => self.refuse_record(&frame, position, &Told(&status).to_string())?,
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second.to_vec(), first.to_vec()]);
                    }
                },
            }
        }
        Ok(())
    }

    fn refuse_record(&mut self, frame: &Frame, position: usize, why: &str) -> Result<(), Failure> {
        // The position within a batch says nothing to a person; the line does.
        let reason = match why.strip_prefix("records[").and_then(|rest| rest.split_once("]")) {
            Some((_, rest)) => rest.trim_start_matches(['.', ':', ' ']),
            None => why,
        };
        let bad = BadLine { place: frame.places[position].clone(), reason: reason.to_owned() };
        self.bad_lines.add(&bad, &self.console)
    }

    /// Another process may have been killed after it had written some records of the frame.
    async fn leave_out_what_is_there(&mut self, frame: &Frame, positions: Vec<usize>) -> Result<Vec<usize>, Failure> {
        if positions.is_empty() {
            return Ok(positions);
        }
        let mut there: HashMap<String, pb::Record> = HashMap::new();
        for part in positions.chunks(READ_RECORDS_MAX) {
            let request = get_request(&self.open.collection, frame, part);
            let response = loop {
                match self.client.get(request.clone()).await {
                    Ok(response) => break response.into_inner(),
                    // Refused before the collection was made.
                    Err(status) if status.code() == Code::NotFound => return Ok(positions),
                    Err(status) if is_temporary(&status) => self.pause(status).await?,
                    Err(status) => return Err(status.into()),
                }
            };
            there.extend(response.records.into_iter().map(|record| (record.id.clone(), record)));
        }
        let is_there =
            |record: &pb::RecordInput| there.get(record.id.as_str()).is_some_and(|found| is_same(found, record));
        // Of several with the same id the last wins: where it is there, those before it must not come after it.
        let last: HashMap<&str, usize> = positions.iter().map(|&at| (frame.records[at].id.as_str(), at)).collect();
        let is_known = |at: usize| is_there(&frame.records[last[frame.records[at].id.as_str()]]);
        let (known, unknown) = positions.into_iter().partition::<Vec<_>, _>(|&at| is_known(at));
        self.totals.records_before += known.len() as u64;
        Ok(unknown)
    }

    /// Writes some records of a frame; what breaks is tried again under the same request id, so that nothing is written
    /// twice. The inner error is the server's refusal.
    async fn upsert(&mut self, frame: &Frame, part: &[usize]) -> Result<Result<pb::UpsertResponse, Status>, Failure> {
        let request = pb::UpsertRequest {
            collection: self.open.collection.clone(),
            records: part.iter().map(|&position| frame.records[position].clone()).collect(),
            model_id: self.open.model_id.clone(),
            durability: self.open.durability,
            request_id: uuid::Uuid::new_v4().to_string(),
            create_missing: self.open.create_missing,
        };
        loop {
            match self.client.upsert(request.clone()).await {
                Ok(response) => return Ok(Ok(response.into_inner())),
                Err(status) if is_temporary(&status) => self.pause(status).await?,
                Err(status) => return Ok(Err(status)),
            }
        }
    }
}

/// Whether one record is at fault, and the others may be taken without it.
fn is_of_a_record(status: &Status) -> bool {
    status.code() == Code::InvalidArgument || reason(status).as_deref() == Some("SPACE_NOT_FOUND")
}
