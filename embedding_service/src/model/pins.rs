//! The hashes of files that the registry does not pin, written down when the files were first used.
//!
//! `<model cache>/<id>/SHA256SUMS` has a line `# <repository> <revision>`, which says whose files they are, and a line for
//! each file, in the format of coreutils: hash, two spaces, name; so that `sha256sum -c` checks it. It is written after the
//! files were loaded: what is no model is not trusted. Removing it means to trust anew.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::hash::Sha256Hex;
use super::registry::{LocalSpec, ModelFiles};
use crate::part::Part;

const FILE: &str = "SHA256SUMS";

/// Why the hashes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// The file is there, but not readable.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not as it was written.
    #[error(
        "{path}: expected `# <repository> <revision>`, and a line `<SHA-256>  <name>` for each of config.json, tokenizer.json \
         and model.safetensors, got `{got}`; remove it to trust the files as they are",
        path = path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Its content, or the beginning of it.
        got: String,
    },
    /// The file is of another model, or of another revision, than models.toml says now.
    #[error(
        "{folder} has files of {pinned}, as its {FILE} says, and models.toml says {expected}: remove the folder to use the \
         latter",
        folder = folder.display()
    )]
    OfAnother {
        /// Where the file is.
        folder: PathBuf,
        /// Repository and revision in the file.
        pinned: String,
        /// Repository and revision in models.toml.
        expected: String,
    },
}

/// The hashes of the files in their first use. Nothing where they were never used.
pub(super) fn read(folder: &Path, model: &LocalSpec) -> Result<Option<ModelFiles>, PinsError> {
    let path = folder.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(PinsError::Read { path, source }),
    };
    let malformed = || PinsError::Malformed { path: path.clone(), got: text.trim_end().chars().take(200).collect() };
    let pinned = text.lines().find_map(|line| line.strip_prefix("# ")).ok_or_else(malformed)?;
    let expected = whose(model);
    if pinned != expected {
        return Err(PinsError::OfAnother { folder: folder.to_owned(), pinned: pinned.to_owned(), expected });
    }
    let hash = |name: &str| {
        let line = text.lines().find_map(|line| line.split_once("  ").filter(|(_, named)| *named == name));
        line.and_then(|(hash, _)| Sha256Hex::try_from(hash.to_owned()).ok())
    };
    let [config, tokenizer, weights] = LocalSpec::FILES.map(hash);
    match (config, tokenizer, weights) {
        (Some(config), Some(tokenizer), Some(weights)) => Ok(Some(ModelFiles { config, tokenizer, weights })),
        _ => Err(malformed()),
    }
}

/// Where they are.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn whose(model: &LocalSpec) -> String {
    format!("{} {}", model.repository, model.revision)
}

/// Writes them down, and says so in the log. Where they cannot be written, that is a warning: the model's fingerprint holds
/// them too, so that other files are noticed by whoever has stored it.
pub(super) fn write(folder: &Path, model: &LocalSpec, hashes: &ModelFiles) {
    let id = &model.id;
    let hashes = hashes.named().map(|(name, hash)| format!("{hash}  {name}\n")).concat();
    let lines = format!("# {}\n{hashes}", whose(model));
    tracing::warn!(
        "the files of model {id} are not pinned in models.toml, and are trusted as they are:\n{}",
        lines.trim_end()
    );
    if let Err(error) = replace(folder, &lines) {
        tracing::warn!(
            "cannot write {}: {error}; after the next start other files would be trusted too",
            folder.join(FILE).display()
        );
    }
}

/// Whole or not at all: a file of half a line would be refused at the next start.
fn replace(folder: &Path, lines: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let part = Part::of(&folder.join(FILE), 0o666)?;
    part.file().write_all(lines.as_bytes())?;
    part.put_into_place()
}
