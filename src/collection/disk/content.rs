//! Whether what the files of a part say can be. Checksums tell that a file is whole, not who has written it: a snapshot may come from
//! anybody, and what a search is to compute with has to be numbers.

use super::{DiskError, rows};
use crate::index::graph::{INVERSE_NORMS, NODES, VECTORS};
use crate::storage::sections::SectionFile;
use crate::types::{Space, check_row};

/// How far a stored norm may lie from the true one: another processor may add in another order.
const NORM_ERROR_MAX: f32 = 1e-6;

/// Reads everything of a rows file as a start does, and looks at every component. Returns one over the length of each vector, in the
/// order of the file. An error names the file and the vector.
pub fn check_rows(file: &SectionFile, row_count: usize, space: &Space) -> Result<Vec<f32>, DiskError> {
    rows::read(file, row_count)?;
    let inverse_norms = check_vectors(file, space)?;
    let vectors = inverse_norms.len();
    if file.bytes(NODES).is_none() {
        if vectors != row_count {
            return Err(file.nonsense(VECTORS, format!("expected {row_count} vectors, got {vectors}")).into());
        }
        return Ok(inverse_norms);
    }
    let nodes = file.read(NODES)?;
    if nodes.len() != 4 * row_count {
        let reason = format!("expected {} bytes of section {NODES}, got {}", 4 * row_count, nodes.len());
        return Err(file.nonsense(NODES, reason).into());
    }
    let nodes = nodes.as_chunks::<4>().0.iter().map(|node| u32::from_le_bytes(*node));
    match nodes.enumerate().find(|&(_, node)| node as usize >= vectors) {
        None => Ok(inverse_norms),
        Some((row, node)) => {
            let reason = format!("row {row} has vector {node}, but there are {vectors}");
            Err(file.nonsense(NODES, reason).into())
        }
    }
}

/// Looks at what a graph says of the length of each vector: `expected` is one over it, as `check_rows` returns it.
pub fn check_norms(graph: &SectionFile, expected: &[f32]) -> Result<(), DiskError> {
    let stored = graph.read(INVERSE_NORMS)?;
    if stored.len() != 4 * expected.len() {
        let reason = format!("expected the norms of {} vectors, got {} bytes", expected.len(), stored.len());
        return Err(graph.nonsense(INVERSE_NORMS, reason).into());
    }
    let stored = stored.as_chunks::<4>().0.iter().map(|norm| f32::from_le_bytes(*norm));
    let is_other = |&(_, (stored, &expected)): &(usize, (f32, &f32))| {
        let is_near = expected.is_finite() && (stored - expected).abs() <= NORM_ERROR_MAX * expected;
        !is_near && stored.to_bits() != expected.to_bits()
    };
    match stored.zip(expected).enumerate().find(is_other) {
        None => Ok(()),
        Some((vector, (stored, expected))) => {
            let reason =
                format!("vector {vector}: its stored norm is 1 / {stored:e}, that of its components 1 / {expected:e}");
            Err(graph.nonsense(INVERSE_NORMS, reason).into())
        }
    }
}

fn check_vectors(file: &SectionFile, space: &Space) -> Result<Vec<f32>, DiskError> {
    let vector_bytes = 4 * space.dimension.get();
    let bytes = file.bytes(VECTORS).unwrap_or_default();
    if !bytes.is_multiple_of(vector_bytes as u64) {
        let reason = format!("{bytes} bytes are no whole number of vectors of dimension {}", space.dimension);
        return Err(file.nonsense(VECTORS, reason).into());
    }
    let mut inverse_norms = Vec::with_capacity((bytes / vector_bytes as u64) as usize);
    let mut components = Vec::with_capacity(space.dimension.get());
    let mut check = |vector: &[u8]| {
        components.clear();
        components.extend(vector.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        let norm = check_row(&components, space.metric)
            .map_err(|why| file.nonsense(VECTORS, format!("vector {}: {why}", inverse_norms.len())))?;
        inverse_norms.push((1.0 / norm) as f32);
        Ok(())
    };
    // A vector may begin in one piece and end in a later one.
    let mut begun: Vec<u8> = Vec::new();
    file.read_pieces(VECTORS, |mut piece| {
        if !begun.is_empty() {
            let (end, rest) = piece.split_at(piece.len().min(vector_bytes - begun.len()));
            begun.extend_from_slice(end);
            piece = rest;
            if begun.len() == vector_bytes {
                check(&begun)?;
                begun.clear();
            }
        }
        let whole = piece.chunks_exact(vector_bytes);
        begun.extend_from_slice(whole.remainder());
        whole.into_iter().try_for_each(&mut check)
    })?;
    Ok(inverse_norms)
}
