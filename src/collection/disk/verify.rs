//! Looking at every checksum of a collection's files, and whether what they say can be, without taking anything in.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{
    AnswersFile, DiskError, FileKind, Manifest, PartEntry, answers, content, part, path_of, read_manifest, rows,
};
use crate::storage::fs::Fs;
use crate::storage::manifest::{self, ManifestError};
use crate::storage::sections::{Kind, SectionFile};
use crate::types::limits::SPACES_MAX;
use crate::types::{Sequence, Space};

/// Nobody comes as far: what is beyond would overflow one day.
const SEQUENCE_MAX: u64 = 1 << 62;
const NUMBER_MAX: u32 = 1 << 31;

/// What a collection's files hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The last record of the log that is in them.
    pub sequence: Sequence,
    /// Records.
    pub record_count: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// A file that a manifest names.
struct Named {
    number: u32,
    kind: FileKind,
}

/// Where the files of a collection lie, the manifest first, and what they are called within its folder.
pub fn files(fs: &dyn Fs, folder: &Path) -> Result<Vec<(String, PathBuf)>, DiskError> {
    let manifest = require_manifest(fs, folder)?;
    let named = named(&manifest).map(|file| {
        let path = path_of(folder, file.number, file.kind);
        (format!("parts/{:010}.{}", file.number, file.kind.suffix()), path)
    });
    Ok([(manifest::FILE_NAME.to_owned(), folder.join(manifest::FILE_NAME))].into_iter().chain(named).collect())
}

/// Reads all files that the manifest names, and the manifest. An error names the first that does not verify.
pub fn verify(fs: &dyn Fs, folder: &Path) -> Result<Figures, DiskError> {
    let manifest = require_manifest(fs, folder)?;
    check_manifest(&manifest, folder)?;
    let mut bytes = manifest::file_bytes(fs, folder, manifest::FILE_NAME)?;
    for part in &manifest.parts {
        bytes += verify_part(fs, folder, part, &manifest.spaces[usize::from(part.space)])?;
    }
    for file in &manifest.answers {
        bytes += examine_answers(fs, folder, file)?;
    }
    let live = manifest.parts.iter().map(|part| u64::from(part.row_count) - part.dead.len());
    Ok(Figures { sequence: manifest.sequence, record_count: live.sum(), bytes })
}

/// Reads the rows of a part whole, as a start would, and looks at every component. The graph, which can be built again, is left
/// alone.
pub fn examine_part(fs: &dyn Fs, folder: &Path, part: &PartEntry, space: &Space) -> Result<(), DiskError> {
    read_rows(fs, folder, part, space).map(|_| ())
}

/// Reads a file of answers whole, as a start would, and returns its bytes.
pub fn examine_answers(fs: &dyn Fs, folder: &Path, file: &AnswersFile) -> Result<u64, DiskError> {
    let section_file = verified(fs, folder, file.number, FileKind::Answers, file.id)?;
    answers::read_answers(fs, folder, file.number, file.id)?;
    Ok(section_file.file_bytes()?)
}

/// Reads the files of a part whole, and returns their bytes.
fn verify_part(fs: &dyn Fs, folder: &Path, part: &PartEntry, space: &Space) -> Result<u64, DiskError> {
    let (rows, inverse_norms) = read_rows(fs, folder, part, space)?;
    let mut bytes = rows.file_bytes()?;
    if let Some(graph_id) = part.graph_id {
        let graph = verified(fs, folder, part.number, FileKind::Graph, graph_id)?;
        content::check_norms(&graph, &inverse_norms)?;
        bytes += graph.file_bytes()?;
    }
    Ok(bytes)
}

fn read_rows(
    fs: &dyn Fs,
    folder: &Path,
    part: &PartEntry,
    space: &Space,
) -> Result<(SectionFile, Vec<f32>), DiskError> {
    let rows = verified(fs, folder, part.number, FileKind::Rows, part.rows_id)?;
    let inverse_norms = content::check_rows(&rows, part.row_count as usize, space)?;
    Ok((rows, inverse_norms))
}

/// A file all of whose checksums hold.
fn verified(fs: &dyn Fs, folder: &Path, number: u32, kind: FileKind, id: Uuid) -> Result<SectionFile, DiskError> {
    let path = path_of(folder, number, kind);
    let file = SectionFile::open(fs, &path, kind.sections())?;
    if file.id() != id {
        return Err(DiskError::Stranger { file: path, expected: id, got: file.id() });
    }
    file.verify()?;
    Ok(file)
}

impl FileKind {
    fn sections(self) -> Kind {
        match self {
            FileKind::Rows => rows::KIND,
            FileKind::Graph => part::GRAPH,
            FileKind::Answers => answers::KIND,
        }
    }
}

fn require_manifest(fs: &dyn Fs, folder: &Path) -> Result<Manifest, DiskError> {
    read_manifest(fs, folder)?.ok_or_else(|| {
        let file = folder.join(manifest::FILE_NAME);
        ManifestError::Damaged { file, reason: "it is missing".to_owned() }.into()
    })
}

fn named(manifest: &Manifest) -> impl Iterator<Item = Named> {
    let parts = manifest.parts.iter().flat_map(|part| {
        let rows = Named { number: part.number, kind: FileKind::Rows };
        let graph = part.graph_id.map(|_| Named { number: part.number, kind: FileKind::Graph });
        [Some(rows), graph].into_iter().flatten()
    });
    let answers = manifest.answers.iter().map(|file| Named { number: file.number, kind: FileKind::Answers });
    parts.chain(answers)
}

/// A manifest may come from elsewhere: its checksum says that it is whole, not who has written it.
pub fn check_manifest(manifest: &Manifest, folder: &Path) -> Result<(), DiskError> {
    let contradiction = |reason: String| {
        let file = folder.join(manifest::FILE_NAME);
        Err(DiskError::Contradiction { file, reason })
    };
    let sequence = manifest.sequence.0;
    if sequence == 0 || sequence > SEQUENCE_MAX {
        return contradiction(format!("it stands at sequence {sequence}, expected 1 to {SEQUENCE_MAX}"));
    }
    let parts = manifest.parts.iter().map(|part| part.number);
    let mut numbers: Vec<u32> = parts.chain(manifest.answers.iter().map(|file| file.number)).collect();
    numbers.sort_unstable();
    if let Some(pair) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
        return contradiction(format!("it gives number {} twice", pair[0]));
    }
    let (next, spaces) = (manifest.next_part, manifest.spaces.len());
    if numbers.last().is_some_and(|&last| last >= next) || next > NUMBER_MAX || spaces > SPACES_MAX {
        return contradiction(format!(
            "its next number is {next}, which is taken or too high, or it has {spaces} spaces"
        ));
    }
    let mut names: Vec<&str> = manifest.spaces.iter().map(|space| space.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return contradiction(format!("it has space {:?} twice", pair[0]));
    }
    Ok(())
}
