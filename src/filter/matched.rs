//! Rows that fulfil a condition, as far as an index can tell.

use std::borrow::Cow;

use roaring::{MultiOps, RoaringBitmap};

/// Which rows match. What is certain lies within what is possible, and the truth lies between the two: so `not` of
/// something that is not known exactly still has bounds.
pub enum Matched<'a> {
    /// These rows and no others.
    Exact(Cow<'a, RoaringBitmap>),
    /// All of `certain`, and some of the rest of `possible`.
    Between { certain: RoaringBitmap, possible: RoaringBitmap },
}

impl<'a> Matched<'a> {
    pub fn none() -> Self {
        Matched::Exact(Cow::Owned(RoaringBitmap::new()))
    }

    pub fn exact(rows: &'a RoaringBitmap) -> Self {
        Matched::Exact(Cow::Borrowed(rows))
    }

    pub fn possible(&self) -> &RoaringBitmap {
        match self {
            Matched::Exact(rows) => rows,
            Matched::Between { possible, .. } => possible,
        }
    }

    /// The rows that every part matches; there is at least one part.
    pub fn all_of(mut parts: Vec<Matched<'a>>) -> Self {
        if parts.len() == 1 {
            return parts.remove(0);
        }
        // The smallest first: what is left never grows.
        parts.sort_by_key(|part| part.possible().len());
        let possible = parts.iter().map(Matched::possible).intersection();
        if possible.is_empty() || parts.iter().all(Matched::is_exact) {
            return Matched::Exact(Cow::Owned(possible));
        }
        let certain = parts.iter().map(Matched::certain).intersection();
        Matched::between(certain, possible)
    }

    /// The rows that at least one part matches.
    pub fn any_of(mut parts: Vec<Matched<'a>>) -> Self {
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let possible = parts.iter().map(Matched::possible).union();
        if parts.iter().all(Matched::is_exact) {
            return Matched::Exact(Cow::Owned(possible));
        }
        let certain = parts.iter().map(Matched::certain).union();
        Matched::between(certain, possible)
    }

    /// The other rows of `all`.
    pub fn not(self, all: &RoaringBitmap) -> Self {
        match self {
            Matched::Exact(rows) => Matched::Exact(Cow::Owned(all - rows.as_ref())),
            Matched::Between { certain, possible } => {
                Matched::Between { certain: all - possible, possible: all - certain }
            }
        }
    }

    pub fn is_exact(&self) -> bool {
        matches!(self, Matched::Exact(_))
    }

    pub fn into_possible(self) -> RoaringBitmap {
        match self {
            Matched::Exact(rows) => rows.into_owned(),
            Matched::Between { possible, .. } => possible,
        }
    }

    fn certain(&self) -> &RoaringBitmap {
        match self {
            Matched::Exact(rows) => rows,
            Matched::Between { certain, .. } => certain,
        }
    }

    fn between(certain: RoaringBitmap, possible: RoaringBitmap) -> Self {
        match certain.len() == possible.len() {
            true => Matched::Exact(Cow::Owned(possible)),
            false => Matched::Between { certain, possible },
        }
    }
}

/// A bitmap of rows in any order, some of them more than once perhaps.
pub fn to_bitmap<'a>(slices: impl Iterator<Item = &'a [u32]> + Clone, row_count: u32) -> RoaringBitmap {
    let count: usize = slices.clone().map(<[u32]>::len).sum();
    if count < row_count as usize / 64 {
        let mut rows: Vec<u32> = slices.flatten().copied().collect();
        rows.sort_unstable();
        return sorted_to_bitmap(rows);
    }
    // Setting bits of a plain set takes a nanosecond each; sorting takes ten times that.
    let mut bits = vec![0_u8; (row_count as usize).div_ceil(8)];
    for &row in slices.flatten() {
        bits[row as usize / 8] |= 1 << (row % 8);
    }
    RoaringBitmap::from_lsb0_bytes(0, &bits)
}

/// A bitmap of rows in their order, in as few bytes as there can be.
pub fn sorted_to_bitmap(mut rows: Vec<u32>) -> RoaringBitmap {
    rows.dedup();
    let mut bitmap = RoaringBitmap::from_sorted_iter(rows).expect("rows in their order, each once");
    bitmap.optimize();
    // What grew has room to spare; its copy has none.
    bitmap.clone()
}

/// Bytes of a bitmap in memory.
pub fn bitmap_bytes(bitmap: &RoaringBitmap) -> usize {
    /// What a container takes beside its values: key, kind, pointer, length, capacity.
    const CONTAINER_BYTES: usize = 40;
    let statistics = bitmap.statistics();
    let values =
        statistics.n_bytes_array_containers + statistics.n_bytes_run_containers + statistics.n_bytes_bitset_containers;
    size_of::<RoaringBitmap>() + statistics.n_containers as usize * CONTAINER_BYTES + values as usize
}
