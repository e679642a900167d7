//! AdminService's snapshots: make, list, delete, restore; sending and taking in are `download` and `upload`.

mod download;
mod upload;

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use tokio::sync::OwnedSemaphorePermit;

use crate::api::convert::{invalid, read_request_key};
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::{Handlers, blocking, read_name};
use crate::database::snapshots::{Listed, SnapshotError, SnapshotInfo};
use crate::pb::v1 as pb;
use crate::types::limits::NAME_BYTES_MAX;
use crate::types::{CollectionName, SnapshotName};

/// Snapshots of a page where the client does not say, and at the most.
const PAGE_SNAPSHOTS_DEFAULT: usize = 100;
const PAGE_SNAPSHOTS_MAX: usize = 1_000;
/// Snapshots that are sent or taken in at a time: each has a thread that waits for the disk and the network.
pub const TRANSFERS_MAX: usize = 8;
/// Bytes of a message of a transfer.
pub(super) const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Chunks that wait between network and disk.
const CHUNKS_WAITING_MAX: usize = 4;
/// A transfer in which nothing moves is given up.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// Names that are tried where the client chooses none: several may be made within a second.
const NAMES_MAX: usize = 10;

impl Handlers {
    /// `AdminService.CreateSnapshot`.
    pub async fn create_snapshot(
        &self,
        request: pb::CreateSnapshotRequest,
    ) -> Result<pb::CreateSnapshotResponse, ApiError> {
        let key = read_request_key(&request.request_id, &request)?;
        let collection = read_name("collection", &request.collection)?;
        let now = Timestamp::from(SystemTime::now());
        let names = match request.snapshot_name.as_str() {
            "" => names_of(&collection, &now),
            name => vec![read_snapshot_name(name)?],
        };
        let database = self.database()?.clone();
        let create_time_us = now.seconds * 1_000_000 + i64::from(now.nanos) / 1_000;
        let info = blocking(move || {
            let (last, others) = names.split_last().expect("there is a name");
            for name in others {
                match database.create_snapshot(&collection, name, create_time_us, key.clone()) {
                    Err(SnapshotError::AlreadyExists { .. } | SnapshotError::Busy { .. }) => {}
                    made => return Ok(made?),
                }
            }
            Ok(database.create_snapshot(&collection, last, create_time_us, key)?)
        })
        .await?;
        Ok(pb::CreateSnapshotResponse { snapshot: Some(to_snapshot(info)) })
    }

    /// `AdminService.ListSnapshots`.
    pub async fn list_snapshots(
        &self,
        request: pb::ListSnapshotsRequest,
    ) -> Result<pb::ListSnapshotsResponse, ApiError> {
        let page_size = match request.page_size as usize {
            0 => PAGE_SNAPSHOTS_DEFAULT,
            size if size <= PAGE_SNAPSHOTS_MAX => size,
            size => {
                return Err(invalid("page_size", format_args!("expected 1 to {PAGE_SNAPSHOTS_MAX}, but got {size}")));
            }
        };
        let collection = match request.collection.as_str() {
            "" => None,
            name => Some(read_name("collection", name)?),
        };
        let after = read_page_token(&request.page_token)?;
        let database = self.database()?.clone();
        let mut listed = blocking(move || Ok(database.snapshots()?)).await?;
        listed.retain(|listed| {
            is_of(listed, collection.as_ref()) && after.as_ref().is_none_or(|after| place(listed) > *after)
        });
        let has_more = listed.len() > page_size;
        listed.truncate(page_size);
        let next_page_token = match listed.last() {
            Some(last) if has_more => to_page_token(last),
            _ => String::new(),
        };
        Ok(pb::ListSnapshotsResponse { snapshots: listed.into_iter().map(to_listed).collect(), next_page_token })
    }

    /// `AdminService.DeleteSnapshot`.
    pub async fn delete_snapshot(
        &self,
        request: pb::DeleteSnapshotRequest,
    ) -> Result<pb::DeleteSnapshotResponse, ApiError> {
        let name = read_snapshot_name(&request.snapshot_name)?;
        let database = self.database()?.clone();
        blocking(move || Ok(database.delete_snapshot(&name)?)).await?;
        Ok(pb::DeleteSnapshotResponse {})
    }

    /// `AdminService.RestoreSnapshot`.
    pub async fn restore_snapshot(
        &self,
        request: pb::RestoreSnapshotRequest,
    ) -> Result<pb::RestoreSnapshotResponse, ApiError> {
        let key = read_request_key(&request.request_id, &request)?;
        let name = read_snapshot_name(&request.snapshot_name)?;
        let collection = read_name("collection", &request.collection)?;
        let database = self.database()?.clone();
        let restored = blocking(move || Ok(database.restore_snapshot(&name, &collection, key)?)).await?;
        let view = restored.view();
        Ok(pb::RestoreSnapshotResponse { record_count: view.record_count() as u64, sequence: view.sequence().0 })
    }

    /// A turn to send a snapshot, or to take one in.
    fn transfer(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.transfers.clone().try_acquire_owned().map_err(|_| {
            let message = format_args!("{TRANSFERS_MAX} snapshots are being sent or taken in already");
            ApiError::new(Reason::Overloaded, message).with_retry_after(Duration::from_secs(5))
        })
    }
}

fn read_snapshot_name(name: &str) -> Result<SnapshotName, ApiError> {
    SnapshotName::new(name).map_err(|error| invalid("snapshot_name", error))
}

/// The collection's name and the time, and a number where that is taken: `notes-20261120T202546Z`, `notes-20261120T202546Z-2`.
fn names_of(collection: &CollectionName, now: &Timestamp) -> Vec<SnapshotName> {
    let second = Timestamp { seconds: now.seconds, nanos: 0 };
    let time = second.to_string().replace(['-', ':'], "");
    let name = |number: usize| {
        let end = if number == 1 { format!("-{time}") } else { format!("-{time}-{number}") };
        let collection: String = collection.as_str().chars().take(NAME_BYTES_MAX - end.len()).collect();
        SnapshotName::new(&format!("{collection}{end}")).expect("letters, digits and dashes")
    };
    (1..=NAMES_MAX).map(name).collect()
}

fn is_of(listed: &Listed, collection: Option<&CollectionName>) -> bool {
    collection.is_none_or(|name| listed.info.as_ref().is_ok_and(|info| info.collection == *name))
}

/// Where a snapshot stands in the list, newest first.
fn place(listed: &Listed) -> (std::cmp::Reverse<i64>, SnapshotName) {
    let time = listed.info.as_ref().map_or(i64::MIN, |info| info.create_time_us);
    (std::cmp::Reverse(time), listed.name.clone())
}

fn to_page_token(last: &Listed) -> String {
    let (time, name) = place(last);
    format!("{}/{name}", time.0)
}

fn read_page_token(token: &str) -> Result<Option<(std::cmp::Reverse<i64>, SnapshotName)>, ApiError> {
    if token.is_empty() {
        return Ok(None);
    }
    let parts = token.split_once('/');
    let place =
        parts.and_then(|(time, name)| Some((std::cmp::Reverse(time.parse().ok()?), SnapshotName::new(name).ok()?)));
    place.map(Some).ok_or_else(|| invalid("page_token", "expected a `next_page_token` of this method"))
}

fn to_snapshot(info: SnapshotInfo) -> pb::Snapshot {
    let (seconds, us) = (info.create_time_us.div_euclid(1_000_000), info.create_time_us.rem_euclid(1_000_000));
    pb::Snapshot {
        name: info.name.to_string(),
        collection: info.collection.to_string(),
        sequence: info.figures.sequence.0,
        create_time: Some(Timestamp { seconds, nanos: us as i32 * 1_000 }),
        size_bytes: info.figures.bytes,
        record_count: info.figures.record_count,
        program_version: info.program_version,
        damage: String::new(),
    }
}

fn to_listed(listed: Listed) -> pb::Snapshot {
    match listed.info {
        Ok(info) => to_snapshot(info),
        Err(error) => {
            pb::Snapshot { name: listed.name.to_string(), damage: error.to_string(), ..pb::Snapshot::default() }
        }
    }
}
