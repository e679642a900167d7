//! One frame: what of it is at fault, and how that is told.

use crate::api::convert::{NewRecord, read_records};
use crate::api::error::ApiError;
use crate::collection::{FrameFault, RecordFault, Refusal};
use crate::pb::v1 as pb;
use crate::types::limits::FRAME_FAULTS_MAX;

/// Bytes of an id or a message that are kept; ids of 512 bytes are told whole.
const KEPT_BYTES_MAX: usize = 512;

/// The records of a frame that are at fault.
#[derive(Default)]
pub(super) struct Faults {
    /// At most `FRAME_FAULTS_MAX`; more are counted.
    named: Vec<RecordFault>,
    count: usize,
}

impl Faults {
    pub(super) fn add(&mut self, index: usize, id: &str, error: &ApiError) {
        self.count += 1;
        if self.named.len() < FRAME_FAULTS_MAX {
            let (index, id) = (index as u32, shorten(id));
            let (reason, message) = (error.reason.codes().0.to_owned(), shorten(&error.message));
            self.named.push(RecordFault { index, id, reason, message });
        }
    }

    /// Nothing where no record is at fault.
    pub(super) fn into_fault(self) -> Option<FrameFault> {
        let first = self.named.first()?;
        let (reason, message) = (first.reason.clone(), first.message.clone());
        Some(FrameFault { reason, message, errors: self.named, error_count: self.count })
    }
}

/// The records of a frame, or what is wrong with which of them.
pub(super) fn read(inputs: Vec<pb::RecordInput>) -> Result<Vec<NewRecord>, FrameFault> {
    let mut faults = Faults::default();
    let records = read_records(inputs, |index: usize, id: &str, error: ApiError| {
        faults.add(index, id, &error);
        Ok(())
    });
    match (records, faults.into_fault()) {
        (Ok(records), None) => Ok(records),
        (Ok(_), Some(fault)) => Err(fault),
        (Err(error), _) => Err(whole(&error)),
    }
}

/// A frame that is at fault as a whole.
pub(super) fn whole(error: &ApiError) -> FrameFault {
    let (reason, message) = (error.reason.codes().0.to_owned(), shorten(&error.message));
    FrameFault { reason, message, ..FrameFault::default() }
}

/// A frame that was refused when it was applied.
pub(super) fn decided(refusal: &Refusal) -> FrameFault {
    let error = ApiError::from(refusal.clone());
    let Refusal::VersionMismatch { id, index, .. } = refusal else { return whole(&error) };
    let mut faults = Faults::default();
    faults.add(*index, id.as_str(), &error);
    faults.into_fault().expect("it was just added")
}

/// As it is told.
pub(super) fn to_refused(frame: u64, fault: &FrameFault) -> pb::FrameRefused {
    let to_error = |fault: &RecordFault| pb::RecordError {
        index: fault.index,
        id: fault.id.clone(),
        reason: fault.reason.clone(),
        message: fault.message.clone(),
    };
    pb::FrameRefused {
        frame,
        errors: fault.errors.iter().map(to_error).collect(),
        error_count: fault.error_count as u32,
        reason: fault.reason.clone(),
        message: fault.message.clone(),
    }
}

/// What is kept of a client's mistake must not grow with it.
fn shorten(text: &str) -> String {
    text[..text.floor_char_boundary(KEPT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_up_to_a_bound_and_all_are_counted() {
        let inputs = vec![pb::RecordInput { id: "ü".repeat(1_000), ..pb::RecordInput::default() }; 20];
        let fault = read(inputs).err().unwrap();
        assert_eq!(
            (fault.errors.len(), fault.error_count, fault.reason.as_str()),
            (FRAME_FAULTS_MAX, 20, "INVALID_ID")
        );
        assert!(fault.errors.iter().all(|error| error.id.len() <= KEPT_BYTES_MAX));
        assert_eq!(fault.errors[15].index, 15);
    }

    #[test]
    fn an_empty_frame_is_at_fault_as_a_whole() {
        let fault = read(Vec::new()).err().unwrap();
        assert_eq!((fault.errors.len(), fault.reason.as_str()), (0, "INVALID_ARGUMENT"));
    }
}
