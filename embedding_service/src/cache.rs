//! Embeddings that were asked for before, of local models and of providers' models, which cost money.
//!
//! An embedding depends on its text and on its `Space` alone, so nothing here ever grows old. Texts are told apart by their
//! SHA-256, which nobody can make collide: one caller must not choose what another gets. Bounded by bytes; texts that are
//! asked for once, as in a long import, do not drive out those that were asked for again.
//!
//! Identical texts of one call are embedded once. Those of two calls at the same time are embedded twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use quick_cache::sync::Cache as Entries;
use quick_cache::{OptionsBuilder, Weighter};
use sha2::{Digest, Sha256};

use crate::engine::TextEmbedding;
use crate::model::Input;

/// What an entry takes beside its components: its key, its place in tables and lists, what the allocator adds.
const ENTRY_BYTES: usize = 192;
/// Components of a usual embedding, from which the size of the tables is guessed.
const USUAL_COMPONENTS: usize = 384;
/// More are hashed on a thread that may block: that takes half a millisecond and more.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// The cache. Keeps nothing where it may have no bytes.
pub(crate) struct Cache {
    entries: Option<Entries<Key, Arc<Kept>, Bytes>>,
}

/// What embeddings of equal texts have in common.
#[derive(Clone, Copy)]
pub(crate) struct Space<'a> {
    /// See `ModelSpec::cache_identity`.
    pub(crate) model: &'a str,
    /// It decides the prompt, or the provider's input type.
    pub(crate) input: Input,
    pub(crate) normalize: bool,
}

/// A text in a space.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key([u8; 32]);

struct Kept {
    components: Box<[f32]>,
    tokens: usize,
    truncated: bool,
}

#[derive(Clone)]
struct Bytes;

/// What is known of the texts of one call.
pub(crate) struct Lookup {
    /// All of them; empty in the place of those that are missing.
    texts: Vec<String>,
    /// None where nothing is kept.
    keys: Vec<Key>,
    found: Vec<Found>,
    /// Where each of the missing is among the texts.
    missing: Vec<usize>,
}

enum Found {
    Kept(Arc<Kept>),
    /// Which of the missing it is, or is equal to.
    Missing(usize),
}

impl Cache {
    /// At most `bytes_max` bytes; 0: nothing is kept.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let items = bytes_max / (USUAL_COMPONENTS * 4 + ENTRY_BYTES);
        let options = OptionsBuilder::new()
            .weight_capacity(u64::try_from(bytes_max).unwrap_or(u64::MAX))
            .estimated_items_capacity(items)
            .build()
            .expect("both capacities are given");
        let entries = || Entries::with_options(options, Bytes, Default::default(), Default::default());
        Self { entries: (bytes_max > 0).then(entries) }
    }

    /// Bytes of all that is kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.as_ref().map_or(0, Entries::weight)
    }

    /// What is known of `texts`, and those that are still to be embedded, each once.
    pub(crate) async fn look_up(&self, space: Space<'_>, mut texts: Vec<String>) -> (Lookup, Vec<String>) {
        let Some(entries) = &self.entries else {
            let (found, missing) = (0..texts.len()).map(|index| (Found::Missing(index), index)).unzip();
            let left = vec![String::new(); texts.len()];
            return (Lookup { texts: left, keys: Vec::new(), found, missing }, texts);
        };
        let keys;
        (texts, keys) = keys_of(space, texts).await;
        let mut missing = Vec::new();
        let mut numbers = HashMap::new();
        let found = keys.iter().enumerate().map(|(index, key)| match entries.get(key) {
            Some(kept) => Found::Kept(kept),
            None => match numbers.entry(key) {
                Entry::Occupied(number) => Found::Missing(*number.get()),
                Entry::Vacant(vacant) => {
                    missing.push(index);
                    Found::Missing(*vacant.insert(missing.len() - 1))
                }
            },
        });
        let found = found.collect();
        drop(numbers);
        let wanted = missing.iter().map(|index| std::mem::take(&mut texts[*index])).collect();
        (Lookup { texts, keys, found, missing }, wanted)
    }

    /// The embeddings of all texts of the call, where `embedded` has those that were missing, which are kept from now on.
    pub(crate) fn complete(&self, lookup: Lookup, embedded: Vec<TextEmbedding>) -> Vec<TextEmbedding> {
        let Some(entries) = &self.entries else { return embedded };
        for (embedding, index) in embedded.iter().zip(&lookup.missing) {
            let TextEmbedding { components, tokens, truncated, .. } = embedding;
            let kept = Kept { components: components[..].into(), tokens: *tokens, truncated: *truncated };
            entries.insert(lookup.keys[*index], Arc::new(kept));
        }
        let answers = lookup.found.into_iter().enumerate().map(|(index, found)| match found {
            Found::Kept(kept) => TextEmbedding {
                components: kept.components.to_vec(),
                tokens: kept.tokens,
                truncated: kept.truncated,
                cached: true,
            },
            Found::Missing(number) => {
                TextEmbedding { cached: lookup.missing[number] != index, ..embedded[number].clone() }
            }
        });
        answers.collect()
    }
}

impl Lookup {
    /// Where the text is among those of the call that is `number` among the missing.
    pub(crate) fn index_of_missing(&self, number: usize) -> usize {
        self.missing.get(number).copied().unwrap_or(number)
    }

    /// All texts of the call again, of which `missing` were taken out.
    pub(crate) fn give_back(mut self, missing: Vec<String>) -> Vec<String> {
        for (text, index) in missing.into_iter().zip(self.missing) {
            self.texts[index] = text;
        }
        self.texts
    }
}

impl Weighter<Key, Arc<Kept>> for Bytes {
    fn weight(&self, _: &Key, kept: &Arc<Kept>) -> u64 {
        u64::try_from(size_of_val(&*kept.components) + ENTRY_BYTES).unwrap_or(u64::MAX)
    }
}

async fn keys_of(space: Space<'_>, texts: Vec<String>) -> (Vec<String>, Vec<Key>) {
    // The length in front: else one identity could end as the other fields begin.
    let mut beginning = Sha256::new();
    beginning.update((space.model.len() as u64).to_le_bytes());
    beginning.update(space.model);
    beginning.update([u8::from(matches!(space.input, Input::Query)), u8::from(space.normalize)]);

    let hash = move |texts: Vec<String>| {
        let key = |text: &String| Key(beginning.clone().chain_update(text).finalize().into());
        let keys = texts.iter().map(key).collect();
        (texts, keys)
    };
    if texts.iter().map(String::len).sum::<usize>() <= INLINE_BYTES_MAX {
        return hash(texts);
    }
    tokio::task::spawn_blocking(move || hash(texts)).await.expect("hashing does not panic, and nobody aborts it")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: Space<'static> = Space { model: "f", input: Input::Document, normalize: true };

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// Looks up, and embeds what is missing: each text as its length.
    async fn embed(cache: &Cache, space: Space<'_>, all: &[&str]) -> (Vec<String>, Vec<TextEmbedding>) {
        let (lookup, missing) = cache.look_up(space, texts(all)).await;
        let embedded = missing.iter().map(|text| TextEmbedding {
            components: vec![text.len() as f32; 4],
            tokens: text.len(),
            truncated: text.len() > 2,
            cached: false,
        });
        let embedded = embedded.collect();
        (missing, cache.complete(lookup, embedded))
    }

    fn told(embeddings: &[TextEmbedding]) -> Vec<(f32, usize, bool, bool)> {
        embeddings.iter().map(|one| (one.components[3], one.tokens, one.truncated, one.cached)).collect()
    }

    #[tokio::test]
    async fn text_is_embedded_once_in_a_call_and_never_again() {
        let cache = Cache::new(1 << 20);
        let (missing, answers) = embed(&cache, SPACE, &["a", "bbb", "a"]).await;
        assert_eq!(missing, ["a", "bbb"]);
        assert_eq!(told(&answers), [(1.0, 1, false, false), (3.0, 3, true, false), (1.0, 1, false, true)]);
        let (missing, answers) = embed(&cache, SPACE, &["cc", "bbb"]).await;
        assert_eq!(missing, ["cc"]);
        assert_eq!(told(&answers), [(2.0, 2, false, false), (3.0, 3, true, true)]);
    }

    #[tokio::test]
    async fn embeddings_of_another_space_are_not_taken() {
        let cache = Cache::new(1 << 20);
        embed(&cache, SPACE, &["a"]).await;
        for other in
            [Space { model: "g", ..SPACE }, Space { input: Input::Query, ..SPACE }, Space { normalize: false, ..SPACE }]
        {
            assert_eq!(embed(&cache, other, &["a"]).await.0, ["a"]);
        }
        assert!(embed(&cache, SPACE, &["a"]).await.0.is_empty());
    }

    #[tokio::test]
    async fn texts_that_were_taken_out_come_back_to_their_places() {
        let cache = Cache::new(1 << 20);
        embed(&cache, SPACE, &["known"]).await;
        let call = ["a", "known", "b", "a"];
        let (lookup, missing) = cache.look_up(SPACE, texts(&call)).await;
        assert_eq!((missing.len(), lookup.index_of_missing(1)), (2, 2));
        assert_eq!(lookup.give_back(missing), call);
    }

    #[tokio::test]
    async fn bytes_are_bounded() {
        let bytes_max = 1 << 20;
        let cache = Cache::new(bytes_max);
        for number in 0..20_000 {
            embed(&cache, SPACE, &[&number.to_string()]).await;
            assert!(cache.bytes() <= bytes_max as u64);
        }
        assert!(cache.bytes() > bytes_max as u64 / 2, "{}", cache.bytes());
    }

    #[tokio::test]
    async fn nothing_is_kept_where_there_are_no_bytes() {
        let cache = Cache::new(0);
        for _ in 0..2 {
            let (missing, answers) = embed(&cache, SPACE, &["a", "a"]).await;
            assert_eq!((missing.len(), cache.bytes()), (2, 0));
            assert_eq!(told(&answers), [(1.0, 1, false, false); 2]);
        }
        let (lookup, missing) = cache.look_up(SPACE, texts(&["a", "b"])).await;
        assert_eq!((lookup.index_of_missing(1), lookup.give_back(missing)), (1, texts(&["a", "b"])));
    }

    #[tokio::test]
    async fn large_calls_are_hashed_alike() {
        let cache = Cache::new(1 << 20);
        let large = "x".repeat(INLINE_BYTES_MAX + 1);
        embed(&cache, SPACE, &["a", &large]).await;
        assert!(embed(&cache, SPACE, &["a"]).await.0.is_empty());
        assert!(embed(&cache, SPACE, &[&large, "a"]).await.0.is_empty());
    }
}
