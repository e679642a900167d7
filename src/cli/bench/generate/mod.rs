//! `vectron bench generate`: a large data set of a small one, with its true answers. Memory does not grow with the number
//! of rows.

mod nearest;
mod rows;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use half::f16;

use super::array::{read_vectors, told};
use super::bar::Bar;
use super::{BenchError, until_interrupted};
use crate::cli::npy::{Header, Number};
use nearest::NearestRows;
use rows::{Chunk, Generator};

/// Rows that are made, written and compared at a time: some megabytes.
const CHUNK_COMPONENTS: usize = 1 << 21;

/// For `--help`.
pub const EXAMPLES: &str = "\
Examples:
  vectron bench generate --base base.npy --count 1000000 --out big.npy
  vectron bench generate --base base.npy --count 1000000 --out big.npy --queries queries.npy --truth-out truth.npy
  vectron bench generate --base base.npy --count 50000 --out other.npy --seed 1
  vectron bench ann --base big.npy --queries queries.npy --truth truth.npy

With n rows in the base, row i of the result is row i of the base for i < n. Every further row is
  normalize((1 - t) a + t b + noise)
with a and b two rows of the base at unit length, each chosen with equal chance, t uniform from 0 to 0.3, and noise of d
independent normal components of mean 0 and deviation 0.1 / sqrt(d), so of length about 0.1. As t is small, rows lie in
the neighbourhood of their a, which becomes denser with the count, and spread towards the others as the base does.
Numbers are rounded to 16 bits, little-endian, NumPy format version 1. A row depends on the base, the seed and its own
number alone: the same again, and a larger count begins with the same rows.

With --queries, --truth-out has for each query the rows (32 bit numbers) of its k nearest by cosine, best first, by
comparing all rows as they were written; of rows that are equally near the lower number comes first.";

/// What `bench generate` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct GenerateOptions {
    /// The vectors to begin with (.npy).
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// Rows of the result.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=i32::MAX as u64))]
    count: u64,
    /// Where the result goes (.npy); what was there is replaced at the end.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Other rows, for another number.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    seed: u64,
    /// Find the nearest rows of these vectors (.npy).
    #[arg(long, value_name = "FILE", requires = "truth_out")]
    queries: Option<PathBuf>,
    /// Where the nearest rows go (.npy).
    #[arg(long, value_name = "FILE", requires = "queries")]
    truth_out: Option<PathBuf>,
    /// How many of the nearest.
    #[arg(short = 'k', long = "top-k", default_value = "100", value_name = "COUNT")]
    top_k: NonZeroU32,
}

/// Generates.
pub async fn run(options: GenerateOptions) -> Result<(), BenchError> {
    // Dropped here, so that an interruption removes them while the work is still on its thread.
    let _unfinished =
        Unfinished([Some(&options.out), options.truth_out.as_ref()].map(|path| path.map(|path| part(path))));
    let work = tokio::task::spawn_blocking(move || generate(&options));
    until_interrupted(async { work.await? }).await
}

fn generate(options: &GenerateOptions) -> Result<(), BenchError> {
    let generator = Generator::read(&options.base, options.seed)?;
    let mut nearest = options.queries.as_deref().map(|path| nearest_rows(path, options, &generator)).transpose()?;
    let header = Header { rows: options.count, columns: generator.dimension(), number: Number::F16 };
    let bar = Bar::new("generating", options.count, "rows");
    write_array(&options.out, header, |out| {
        let mut chunk = Chunk::new(generator.dimension());
        let chunk_rows = (CHUNK_COMPONENTS / generator.dimension()).max(1) as u64;
        for first in (0..options.count).step_by(chunk_rows as usize) {
            generator.fill(first..options.count.min(first + chunk_rows), &mut chunk);
            for &component in chunk.components() {
                out.write_all(&f16::from_f32(component).to_le_bytes())?;
            }
            if let Some(nearest) = &mut nearest {
                nearest.compare(first as u32, &chunk);
            }
            bar.set(first + chunk.row_count() as u64);
        }
        Ok(())
    })?;
    let (Some(nearest), Some(path)) = (nearest, &options.truth_out) else { return Ok(()) };
    let answers = nearest.into_sorted();
    let header = Header { rows: answers.len() as u64, columns: options.top_k.get() as usize, number: Number::I32 };
    write_array(path, header, |out| {
        for row in answers.into_iter().flatten() {
            out.write_all(&row.to_le_bytes())?;
        }
        Ok(())
    })
}

fn nearest_rows(path: &Path, options: &GenerateOptions, generator: &Generator) -> Result<NearestRows, BenchError> {
    let top_k = options.top_k.get();
    if u64::from(top_k) > options.count {
        return Err(format!("-k {top_k} asks for more rows than --count {} makes", options.count).into());
    }
    let queries = read_vectors(path)?;
    let (got, expected) = (queries[0].dimension().get(), generator.dimension());
    if got != expected {
        let (base, queries) = (options.base.display(), path.display());
        return Err(format!("the vectors of {base} have {expected} components, but those of {queries} {got}").into());
    }
    NearestRows::new(&queries, top_k as usize).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The file appears under its name when it is whole.
fn write_array(
    path: &Path,
    header: Header,
    rows: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), BenchError> {
    let part = part(path);
    let write = || {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&part)?);
        header.write(&mut out)?;
        rows(&mut out)?;
        out.flush()?;
        fs::rename(&part, path)
    };
    write().map_err(|error| told(path, &error))
}

/// Where a file grows.
fn part(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".part");
    name.into()
}

/// Files that are removed unless they were given their names.
struct Unfinished([Option<PathBuf>; 2]);

impl Drop for Unfinished {
    fn drop(&mut self) {
        for part in self.0.iter().flatten() {
            let _ = fs::remove_file(part);
        }
    }
}
