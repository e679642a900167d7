//! A limit on everything. `AdminService.GetServerInfo` tells them to clients.

/// Bytes of one gRPC message.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Bytes of a REST body, which holds one record.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// Records of one batch, ids of one read or delete, records of one page.
pub const BATCH_RECORDS_MAX: usize = 10_000;
/// Components of a vector.
pub const DIMENSION_MAX: usize = 65_536;
/// Euclidean length of a vector: the square of a distance, and every product, then fits 32-bit numbers.
pub const NORM_MAX: f64 = 9e18;
/// Hits of one search.
pub const TOP_K_MAX: usize = 10_000;
/// Bytes of a record's id.
pub const ID_BYTES_MAX: usize = 512;
/// Bytes of a text.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes of a record's metadata: names and texts, and 8 for each value.
pub const METADATA_BYTES_MAX: usize = 1 << 20;
/// Levels of lists and objects within metadata. Each takes up to three of the 100 levels that prost decodes, here and in
/// the log.
pub const METADATA_DEPTH_MAX: usize = 24;
/// Bytes of a collection's or a space's name.
pub const NAME_BYTES_MAX: usize = 128;
/// Bytes of a collection's description.
pub const DESCRIPTION_BYTES_MAX: usize = 4096;
/// Bytes of a request id.
pub const REQUEST_ID_BYTES_MAX: usize = 64;
/// Bytes of a stream's id.
pub const STREAM_ID_BYTES_MAX: usize = 64;
/// Streams that a collection remembers.
pub const STREAMS_MAX: usize = 1_000;
/// Refused frames that a stream remembers.
pub const REFUSED_FRAMES_MAX: usize = 64;
/// Records at fault that a refused frame names.
pub const FRAME_FAULTS_MAX: usize = 16;
/// Spaces of a collection.
pub const SPACES_MAX: usize = 64;
/// Collections of a server: each has a log with threads of its own.
pub const COLLECTIONS_MAX: usize = 1_000;
/// Snapshots of a server: each is looked at to list them.
pub const SNAPSHOTS_MAX: usize = 10_000;
/// Bytes of a snapshot's archive that is sent to the server.
pub const ARCHIVE_BYTES_MAX: u64 = 1 << 44;
/// Request ids that a collection remembers.
pub const REQUEST_IDS_MAX: usize = 1_000_000;
/// Bytes of the records that a filter chooses for one delete, 16 beside each id: a record of the log holds them all.
pub const DELETE_BYTES_MAX: usize = 64 << 20;
/// Nodes of a filter.
pub const FILTER_NODES_MAX: usize = 1_024;
/// Levels of a filter.
pub const FILTER_DEPTH_MAX: usize = 16;
/// Values of an `in`.
pub const FILTER_VALUES_MAX: usize = 10_000;
/// Bytes of a field's name in a filter.
pub const FILTER_FIELD_BYTES_MAX: usize = 1_024;
/// Dots of a field's name in a filter: each is a place where it may descend into an object.
pub const FILTER_FIELD_DOTS_MAX: usize = 32;
