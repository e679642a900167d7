//! Sends frames, and knows which of them are settled.
//!
//! Invariants: `unsettled` holds frames with consecutive numbers; of these the first `sent` were sent on the stream that
//! is open. A frame leaves it when the server says that it is settled, so that whatever breaks can be sent again. What the
//! server may have unsettled at once (its credit) bounds the memory here too.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tonic::Status;
use tonic::transport::Channel;

use super::bad_lines::{BadLines, Rejects};
use super::frame::{Frame, FrameOptions};
use super::reading::Read;
use super::repair::{Refused, Repairs};
use super::retry::{Trouble, is_temporary};
use crate::cli::console::{Console, counted};
use crate::cli::exit::{Exit, Failure, Told, is_unreachable, reason};
use crate::pb::v1 as pb;
use crate::pb::v1::vector_service_client::VectorServiceClient;

/// Frames that may be under way at once. After a break the server tells the latest 64 that it has refused: with no more
/// than these under way, none is missed.
const UNSETTLED_FRAMES_MAX: usize = 64;

/// One import on its way.
pub struct Sending {
    pub(super) client: VectorServiceClient<Channel>,
    /// What each stream is opened with.
    pub(super) open: pb::StreamOpen,
    pub(super) reads: mpsc::Receiver<Read>,
    pub(super) unsettled: VecDeque<Arc<Frame>>,
    /// Of the unsettled frames, those that were sent on the stream that is open.
    pub(super) sent: usize,
    sent_bytes: u64,
    limits: pb::StreamLimits,
    frames: FrameOptions,
    /// Frames before this one are settled.
    resume_from: u64,
    /// The number of the next frame that is read from the file.
    next_number: u64,
    /// Frames that were refused before this process began, until they are read.
    awaited: HashMap<u64, pb::FrameRefused>,
    pub(super) repairs: Repairs,
    /// Whether the file has ended, or cannot be read any further.
    is_read: bool,
    failed_read: Option<String>,
    pub(super) is_finishing: bool,
    is_begun: bool,
    is_resuming_told: bool,
    rejects: Option<(PathBuf, Option<Vec<u8>>)>,
    pub(super) trouble: Trouble,
    retry_s: u64,
    /// What was done so far.
    pub totals: Totals,
    /// Lines that were not imported.
    pub bad_lines: BadLines,
    /// Where it speaks.
    pub console: Console,
}

/// What an import is made of.
pub struct Import {
    /// The service of records.
    pub client: VectorServiceClient<Channel>,
    /// What each stream is opened with.
    pub open: pb::StreamOpen,
    /// What the file gives.
    pub reads: mpsc::Receiver<Read>,
    /// How records are put together.
    pub frames: FrameOptions,
    /// Where bad lines are set aside, and what stands before them.
    pub rejects: Option<(PathBuf, Option<Vec<u8>>)>,
    /// For how long something is tried again without progress, in seconds.
    pub retry_s: u64,
    /// Lines that were not imported.
    pub bad_lines: BadLines,
    /// Where it speaks.
    pub console: Console,
}

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records that were written.
    pub records: u64,
    /// Records of frames that were settled before this process began.
    pub records_before: u64,
    /// Texts that were longer than their model reads.
    pub truncated: u64,
}

/// Why a stream has ended too early.
pub enum Stop {
    /// Another try may help.
    Broken(Status),
    /// It cannot go on.
    Fatal(Failure),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        if is_temporary(&status) {
            return Stop::Broken(status);
        }
        Stop::Fatal(match reason(&status).as_deref() {
            Some("STREAM_TAKEN_OVER") => Failure::new(format_args!(
                "another import of the same file has taken over, and goes on where this one was: {}",
                Told(&status)
            )),
            _ => status.into(),
        })
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Fatal(failure)
    }
}

impl Sending {
    /// Nothing is sent yet.
    pub fn new(import: Import) -> Self {
        let Import { client, open, reads, frames, rejects, retry_s, bad_lines, console } = import;
        Self {
            client,
            open,
            reads,
            unsettled: VecDeque::new(),
            sent: 0,
            sent_bytes: 0,
            limits: pb::StreamLimits::default(),
            frames,
            resume_from: 1,
            next_number: 1,
            awaited: HashMap::new(),
            repairs: Repairs::default(),
            is_read: false,
            failed_read: None,
            is_finishing: false,
            is_begun: false,
            is_resuming_told: false,
            rejects,
            trouble: Trouble::new(Duration::from_secs(retry_s)),
            retry_s,
            totals: Totals::default(),
            bad_lines,
            console,
        }
    }

    /// Sends everything, on as many streams as it takes.
    pub async fn run(&mut self) -> Result<(), Failure> {
        loop {
            let status = match self.stream().await {
                Ok(()) => return Ok(()),
                Err(Stop::Fatal(failure)) => return Err(failure),
                Err(Stop::Broken(status)) => status,
            };
            let was_idle = self.limits.credit_frames > 0 && self.unsettled.is_empty() && !self.is_read;
            self.limits = pb::StreamLimits::default();
            if was_idle {
                // The server closes a stream on which nothing comes for a while: a slow file is no trouble.
                while self.unsettled.is_empty() && !self.is_read {
                    self.receive().await?;
                }
                continue;
            }
            self.pause(status).await?;
        }
    }

    /// Waits before another try, or gives up.
    pub(super) async fn pause(&mut self, status: Status) -> Result<(), Failure> {
        let is_new = self.trouble.is_new();
        let Some(pause) = self.trouble.next_pause() else {
            let advice = "run the same command again to go on";
            let message = format!("{}; gave up after {} s without progress; {advice}", Told(&status), self.retry_s);
            return Err(if is_unreachable(&status) { Failure::unreachable(message) } else { Failure::new(message) });
        };
        if is_new {
            self.console.say(format_args!("interrupted: {}; trying again for {} s", Told(&status), self.retry_s));
        }
        self.console.bar().set_message("waiting for the server");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Takes what the file gives next.
    pub(super) async fn receive(&mut self) -> Result<(), Failure> {
        let read = self.reads.recv().await;
        self.take(read)
    }

    pub(super) fn take(&mut self, read: Option<Read>) -> Result<(), Failure> {
        match read {
            Some(Read::Frame(frame)) => {
                self.next_number = frame.number + 1;
                let frame = Arc::new(frame);
                match frame.number < self.resume_from {
                    true => self.skip(&frame),
                    false => self.unsettled.push_back(frame),
                }
            }
            Some(Read::Bad(bad)) => return self.bad_lines.add(&bad, &self.console),
            Some(Read::End) => self.is_read = true,
            Some(Read::Failed(error)) => {
                self.failed_read = Some(error);
                self.is_read = true;
            }
            None => return Err(Failure::new("the thread that reads the file has ended; this is a mistake of ours")),
        }
        if self.next_number > self.resume_from || self.is_read {
            self.tell_resuming();
        }
        Ok(())
    }

    /// A frame that was settled before this process began.
    fn skip(&mut self, frame: &Arc<Frame>) {
        match self.awaited.remove(&frame.number) {
            Some(answer) => self.repairs.add(Refused { frame: frame.clone(), answer, may_be_written: true }),
            None => {
                self.totals.records_before += frame.records.len() as u64;
                self.repairs.written(frame);
            }
        }
        self.console.bar().set_position(frame.offset);
    }

    fn tell_resuming(&mut self) {
        if !self.is_resuming_told && self.totals.records_before > 0 {
            self.console
                .say(format_args!(
                    "resuming: {} are there already; lines that were left out before are not looked at again (--restart begins anew)",
                    counted(self.totals.records_before, "record")
                ));
            self.console.bar().reset_eta();
        }
        self.is_resuming_told = true;
    }

    /// The stream is open. Returns whether it had been finished already, and only the answer was lost.
    pub(super) fn opened(&mut self, opened: pb::StreamOpened) -> Result<bool, Failure> {
        self.limits = opened.limits.unwrap_or_default();
        (self.sent, self.sent_bytes) = (0, 0);
        self.check_limits()?;
        let resume_from = opened.resume_from;
        if !self.is_begun {
            self.is_begun = true;
            if let Some((path, header)) = self.rejects.take() {
                self.bad_lines.set_aside_in(Rejects::open(&path, resume_from > 1, header)?);
            }
        }
        let oldest = self.unsettled.front().map_or(self.next_number, |frame| frame.number);
        if resume_from < oldest {
            if self.is_finishing && resume_from == 1 {
                return Ok(true);
            }
            // With buffered writes a power cut may have taken the last ones.
            let message = format!(
                "the server knows frames before {resume_from} only, but had settled those before {oldest}: it has lost \
                 its last writes; run the same command again to go on from there"
            );
            return Err(Failure::new(message));
        }
        for answer in opened.refused {
            if answer.frame >= oldest && answer.frame < resume_from && !self.repairs.knows(answer.frame) {
                self.awaited.insert(answer.frame, answer);
            }
        }
        while let Some(frame) = self.unsettled.pop_front_if(|frame| frame.number < resume_from) {
            match self.awaited.remove(&frame.number) {
                Some(answer) => self.repairs.add(Refused { frame, answer, may_be_written: false }),
                None => self.count(&frame),
            }
            self.went_well();
        }
        self.resume_from = self.resume_from.max(resume_from);
        Ok(false)
    }

    fn check_limits(&self) -> Result<(), Failure> {
        let pb::StreamLimits { frame_records_max, frame_bytes_max, .. } = self.limits;
        if self.frames.batch_records > frame_records_max {
            let message = format!("--batch-records: the server takes at most {frame_records_max} at once");
            return Err(Failure::usage(message));
        }
        if u64::from(self.frames.batch_bytes) > frame_bytes_max {
            return Err(Failure::usage(format_args!(
                "--batch-bytes: the server takes at most {frame_bytes_max} at once"
            )));
        }
        Ok(())
    }

    /// The frame that may be sent now, if any: not more than the server wants to have, and nothing while refused frames
    /// are gone through.
    pub(super) fn next_to_send(&self) -> Option<&Arc<Frame>> {
        let frame = self.unsettled.get(self.sent)?;
        let fits = self.sent_bytes + frame.bytes <= self.limits.credit_bytes && self.sent < self.credit_frames();
        // With nothing under way no progress would come that brings credit.
        ((fits || self.sent == 0) && !self.repairs.are_needed()).then_some(frame)
    }

    fn credit_frames(&self) -> usize {
        (self.limits.credit_frames as usize).min(UNSETTLED_FRAMES_MAX)
    }

    /// Takes the next frame as sent.
    pub(super) fn send_next(&mut self) -> Result<pb::UpsertFrame, Failure> {
        let frame = &self.unsettled[self.sent];
        if frame.bytes > self.limits.frame_bytes_max {
            let (place, bytes) = (self.bad_lines.place(frame.places[0].number), frame.bytes);
            let max = self.limits.frame_bytes_max;
            return Err(Failure::new(format_args!(
                "{place}: this has {bytes} bytes, but the server takes {max} at once"
            )));
        }
        self.sent += 1;
        self.sent_bytes += frame.bytes;
        Ok(frame.message())
    }

    /// Whether more of the file is wanted.
    pub(super) fn wants_more(&self) -> bool {
        let is_skipping = self.next_number < self.resume_from;
        !self.is_read && self.sent == self.unsettled.len() && (is_skipping || !self.repairs.are_needed())
    }

    /// Whether refused frames are to be gone through now: nothing is under way, so that it is known which others were
    /// refused.
    pub(super) fn repairs_are_due(&self) -> bool {
        let is_skipping = self.next_number < self.resume_from && !self.is_read;
        self.repairs.are_needed() && self.sent == 0 && !is_skipping
    }

    /// Whether nothing is left to do but to say so; fails where the file could not be read to its end.
    pub(super) fn is_done(&self) -> Result<bool, Failure> {
        let is_done = self.is_read && self.unsettled.is_empty() && !self.repairs.are_needed();
        match &self.failed_read {
            Some(error) if is_done => Err(Failure::new(format_args!("{}: {error}", self.bad_lines.file()))),
            _ => Ok(is_done),
        }
    }

    /// The server has settled frames.
    pub(super) fn settle(&mut self, progress: pb::StreamProgress) {
        self.limits.credit_bytes = progress.credit_bytes;
        self.totals.truncated += progress.truncated_ids.len() as u64;
        while let Some(frame) = self.unsettled.pop_front_if(|frame| frame.number <= progress.settled_frame) {
            self.sent = self.sent.saturating_sub(1);
            self.sent_bytes = self.sent_bytes.saturating_sub(frame.bytes);
            if !self.repairs.knows(frame.number) {
                self.count(&frame);
            }
        }
        self.went_well();
    }

    /// Something was settled: whatever trouble there was is over.
    pub(super) fn went_well(&mut self) {
        if !self.trouble.is_new() {
            self.console.say("the server answers again");
        }
        self.trouble.end();
        self.console.show_records(self.totals.records);
    }

    fn count(&mut self, frame: &Frame) {
        self.totals.records += frame.records.len() as u64;
        self.repairs.written(frame);
        self.console.bar().set_position(frame.offset);
    }

    /// The server has refused a frame.
    pub(super) fn refuse(&mut self, answer: pb::FrameRefused) -> Result<(), Failure> {
        let found = self.unsettled.iter().find(|frame| frame.number == answer.frame).cloned();
        match found {
            Some(frame) => self.repairs.add(Refused { frame, answer, may_be_written: false }),
            None => {
                let message = format!("the server refuses frame {}, which was not under way", answer.frame);
                return Err(Failure::new(message));
            }
        }
        Ok(())
    }

    /// Says how far it came, where it has failed.
    pub fn tell_stored(&self) {
        let stored = self.totals.records + self.totals.records_before;
        if stored > 0 {
            self.console.say(format_args!("{} of the file are stored", counted(stored, "record")));
        }
    }

    /// How it ends where it is interrupted.
    pub fn interrupted(&self, can_resume: bool) -> Exit {
        let stored = counted(self.totals.records + self.totals.records_before, "record");
        let advice = match can_resume {
            true => "the same command goes on from there",
            false => "a pipe cannot be read again",
        };
        self.console.complain(format_args!("interrupted: {stored} of the file are stored; {advice}"));
        Exit::Interrupted
    }
}
