//! What a request may hold.

/// Texts of one call.
pub(super) const TEXTS_MAX: usize = 2048;
/// Bytes of one text.
pub(super) const TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes of a REST body, and of a gRPC message that comes over the network.
pub(crate) const BODY_BYTES_MAX: usize = 16 << 20;
/// Bytes of a gRPC answer, and of a message in memory: 2,048 embeddings of 768 components are 6 MiB.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Models of one page.
pub(super) const PAGE_SIZE_MAX: u32 = 1000;
/// Models of one page where the request does not say.
pub(super) const PAGE_SIZE_DEFAULT: u32 = 100;
