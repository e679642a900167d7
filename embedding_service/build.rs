//! Compiles the contract: `proto/vectron/embedding/v1` → messages, client, server and descriptor set in `OUT_DIR`.
//!
//! protox reads the .proto files, so that no protoc has to be installed. Nothing generated is committed.

use std::path::{Path, PathBuf};
use std::{env, error, fs};

const PROTO_ROOT: &str = "../proto";
const PACKAGE_DIRECTORY: &str = "../proto/vectron/embedding/v1";

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed={PACKAGE_DIRECTORY}");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new([PROTO_ROOT])?;
    compiler.include_imports(true);
    compiler.open_files(proto_files(Path::new(PACKAGE_DIRECTORY))?)?;
    fs::write(out.join("descriptor_set.bin"), compiler.encode_file_descriptor_set())?;

    // Comments become the documentation of the generated code, so here they are needed.
    compiler.include_source_info(true);
    // Secrets are in these: their `Debug` is written by hand.
    let secret = ["PasswordCredential", "IssueTokenRequest", "IssueTokenResponse"];
    let secret = secret.map(|message| format!(".vectron.embedding.v1.{message}"));
    let configured = tonic_prost_build::configure().btree_map(".").bytes(".").skip_debug(secret);
    configured.compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// Sorted, so that the descriptor set is the same on every machine.
fn proto_files(directory: &Path) -> Result<Vec<PathBuf>, Box<dyn error::Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
