//! The contract, generated from `proto/` by build.rs.

/// `vectron.embedding.v1`: messages, clients and servers.
pub mod v1 {
    #![allow(missing_docs, reason = "generated: clients and servers come without some")]
    tonic::include_proto!("vectron.embedding.v1");
}

/// All files of the contract, for reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.bin"));
