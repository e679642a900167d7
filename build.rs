//! Compiles the contract below `proto/` without protoc: messages, services, and the descriptor set for reflection.

use std::path::Path;
use std::{env, error::Error, fs};

const SERVICES: [&str; 3] =
    ["vectron/v1/admin_service.proto", "vectron/v1/collection_service.proto", "vectron/v1/vector_service.proto"];
const STORAGE: [&str; 3] =
    ["vectron/storage/v1/manifest.proto", "vectron/storage/v1/operation.proto", "vectron/storage/v1/snapshot.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out_dir = env::var("OUT_DIR")?;
    // What is stored is private: reflection shows the services alone.
    let mut public = protox::Compiler::new(["proto"])?;
    public.include_imports(true).open_files(SERVICES)?;
    fs::write(Path::new(&out_dir).join("descriptor_set.bin"), public.encode_file_descriptor_set())?;

    let all = protox::compile(SERVICES.iter().chain(&STORAGE), ["proto"])?;
    tonic_prost_build::configure().btree_map(".").bytes(".").compile_fds(all)?;
    Ok(())
}
