//! The generated code of the contract: messages, clients and servers. What each means is said in `proto/`.

#[allow(missing_docs, clippy::all)]
/// Package `vectron.v1`: the store's services.
pub mod v1 {
    tonic::include_proto!("vectron.v1");
}

#[allow(missing_docs, clippy::all)]
/// Package `vectron.storage.v1`: what the logs hold.
pub mod storage {
    tonic::include_proto!("vectron.storage.v1");
}

/// The encoded `FileDescriptorSet` of the store's services, for reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.bin"));
