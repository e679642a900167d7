//! One model, measured: load, warm-up, single texts, batches, retrieval.
//!
//! The first answer and the warm-up are not timed: they load the model, open connections, and size buffers. The embeddings
//! of the warm-up are those of the contrast score. Times are what a caller waits for; each is repeated, and the median told.

use std::future::Future;
use std::time::{Duration, Instant};

use super::contrast::Contrast;
use super::input::Plan;
use super::report::{Measured, Retrieval};
use super::retrieval::{Rows, quality};
use crate::engine::TextEmbedding;
use crate::model::Input;

/// Texts that are sent one after the other: few enough for providers that bound the calls of a minute, evenly spread over
/// the samples.
const SINGLE_TEXTS_MAX: usize = 20;
/// Texts of one call where times are not measured.
const CALL_TEXTS_MAX: usize = 256;
/// For so long, all waits together, a model is waited for that wants to be asked later.
const WAIT_TIME_MAX: Duration = Duration::from_secs(5 * 60);
/// A call that was refused is not made again before.
const WAIT_TIME_MIN: Duration = Duration::from_secs(1);
/// Components of all embeddings that are there at once, for one model: 256 MiB of f32.
const COMPONENTS_MAX: usize = 64 << 20;

/// One model, as callers have it.
pub(crate) trait Embeds {
    /// Why it does not embed.
    type Error: Send;

    /// The embeddings of 1 to 2,048 texts, in their order, made by the model itself: neither remembered, nor another's.
    fn embed(
        &self,
        texts: Vec<String>,
        input: Input,
    ) -> impl Future<Output = Result<Vec<TextEmbedding>, Self::Error>> + Send;

    /// For how long it wants not to be asked, before a call is made in vain, or waits within its time.
    fn holds_off(&self) -> Option<Duration>;

    /// When to ask again after a call that was too much for it. Nothing after other errors.
    fn come_back_after(error: &Self::Error) -> Option<Duration>;
}

/// Whether the embeddings that are there at once, of a model of `dimension` components, are few enough; else what was
/// expected and what came.
pub(crate) fn check_components(plan: &Plan, dimension: usize) -> Result<(), String> {
    let count = plan.texts.len().max(plan.queries.len() + plan.documents.len());
    if count.saturating_mul(dimension) <= COMPONENTS_MAX {
        return Ok(());
    }
    Err(format!("expected at most {} texts of {dimension} components each, got {count}", COMPONENTS_MAX / dimension))
}

/// What is being done with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waiting for its first answer.
    Load,
    /// Embedding all samples, unmeasured.
    WarmUp,
    /// Measuring texts one after the other.
    Single,
    /// Measuring all samples in one call.
    Batch,
    /// Embedding the pairs, and looking for the documents.
    Retrieval,
}

/// How far a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    /// Texts embedded, each as often as it was.
    pub(crate) texts_done: usize,
    /// Texts to be embedded, counted alike.
    pub(crate) texts_total: usize,
}

/// Counts what is embedded, and tells it.
struct Course<'a> {
    /// How long the model may still be waited for.
    patience: Duration,
    progress: Progress,
    tell: &'a (dyn Fn(Progress) + Send + Sync),
}

/// Measures one model as `plan` says; `tell` hears of its progress, and must not wait.
pub(crate) async fn measure<M: Embeds + Sync>(
    model: &M,
    plan: &Plan,
    tell: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Measured, M::Error> {
    let single = spread(plan.texts.len());
    let texts_total = 1
        + plan.texts.len() * (1 + plan.repeats)
        + single.len() * plan.repeats
        + plan.queries.len()
        + plan.documents.len();
    let mut course =
        Course { patience: WAIT_TIME_MAX, progress: Progress { stage: Stage::Load, texts_done: 0, texts_total }, tell };
    course.enter(Stage::Load);
    embed(model, &plan.texts[..1], Input::Document, &mut course).await?;
    course.add(1);

    course.enter(Stage::WarmUp);
    let (embedded, _) = embed(model, &plan.texts, Input::Document, &mut course).await?;
    course.add(plan.texts.len());
    let tokens = embedded.iter().map(|one| one.tokens as u64).sum::<u64>();
    let truncated = embedded.iter().filter(|one| one.truncated).count();
    let (topic_of, topics) = (plan.topic_of.clone(), plan.topics);
    let contrast = compute(move || {
        let rows: Vec<&[f32]> = embedded.iter().map(|one| one.components.as_slice()).collect();
        Contrast::of(&rows, &topic_of, topics)
    });
    let contrast = contrast.await;

    course.enter(Stage::Single);
    let mut times = vec![Vec::with_capacity(plan.repeats); single.len()];
    // Round after round, so that something that disturbs the machine for a while does not disturb all times of a text.
    for _ in 0..plan.repeats {
        for (place, times) in single.iter().zip(&mut times) {
            times.push(embed(model, &plan.texts[*place..=*place], Input::Document, &mut course).await?.1);
            course.add(1);
        }
    }
    let singles: Vec<f64> = times.into_iter().map(median).collect();

    course.enter(Stage::Batch);
    let mut times = Vec::with_capacity(plan.repeats);
    for _ in 0..plan.repeats {
        times.push(embed(model, &plan.texts, Input::Document, &mut course).await?.1);
        course.add(plan.texts.len());
    }
    let processing_time = median(times);

    let retrieval = if plan.queries.is_empty() { None } else { Some(retrieval(model, plan, &mut course).await?) };
    let tokens = (tokens > 0).then_some(tokens);
    Ok(Measured {
        processing_time,
        contrast_score: contrast.score(),
        cosine_within: contrast.within,
        cosine_across: contrast.across,
        texts_per_second: plan.texts.len() as f64 / processing_time,
        tokens_per_second: tokens.map(|tokens| tokens as f64 / processing_time),
        tokens,
        truncated,
        single_mean: singles.iter().sum::<f64>() / singles.len() as f64,
        single_p50: median(singles),
        retrieval,
    })
}

async fn retrieval<M: Embeds + Sync>(model: &M, plan: &Plan, course: &mut Course<'_>) -> Result<Retrieval, M::Error> {
    course.enter(Stage::Retrieval);
    let queries = rows(model, &plan.queries, Input::Query, course).await?;
    let documents = rows(model, &plan.documents, Input::Document, course).await?;
    Ok(quality(queries, documents, &plan.right_of).await)
}

async fn rows<M: Embeds + Sync>(
    model: &M,
    texts: &[String],
    input: Input,
    course: &mut Course<'_>,
) -> Result<Rows, M::Error> {
    let mut embeddings = Vec::with_capacity(texts.len());
    for texts in texts.chunks(CALL_TEXTS_MAX) {
        embeddings.extend(embed(model, texts, input, course).await?.0.into_iter().map(|one| one.components));
        course.add(texts.len());
    }
    Ok(compute(|| Rows::of(embeddings)).await)
}

/// The embeddings of these texts, and the seconds that a caller waits for them. A model that wants to be asked later is waited
/// for, before its time begins; and a call that was too much for it is made again.
async fn embed<M: Embeds + Sync>(
    model: &M,
    texts: &[String],
    input: Input,
    course: &mut Course<'_>,
) -> Result<(Vec<TextEmbedding>, f64), M::Error> {
    loop {
        if let Some(time) = model.holds_off() {
            // Whatever patience is left: else the wait would be in the call's time.
            course.spend(time);
            tokio::time::sleep(time).await;
        }
        let started = Instant::now();
        match model.embed(texts.to_vec(), input).await {
            Ok(embeddings) => return Ok((embeddings, started.elapsed().as_secs_f64())),
            Err(error) => {
                let Some(time) = M::come_back_after(&error) else { return Err(error) };
                course.spend(started.elapsed());
                if !course.wait(time).await {
                    return Err(error);
                }
            }
        }
    }
}

/// What `work` gives, on a thread that may block: others' calls run on this one.
async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic, and nobody aborts it")
}

/// The places of the texts that are sent alone.
fn spread(texts: usize) -> Vec<usize> {
    let count = texts.min(SINGLE_TEXTS_MAX);
    (0..count).map(|index| index * texts / count).collect()
}

/// Of at least one; of an even number the mean of the middle two.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    if times.len().is_multiple_of(2) { (times[middle - 1] + times[middle]) / 2.0 } else { times[middle] }
}

impl Course<'_> {
    /// Waits before a call that was refused is made again, unless that is longer than there is patience left. Whether it has.
    async fn wait(&mut self, time: Duration) -> bool {
        // One that never relents has its end too.
        let time = time.max(WAIT_TIME_MIN);
        if time > self.patience {
            return false;
        }
        self.spend(time);
        tokio::time::sleep(time).await;
        true
    }

    fn spend(&mut self, time: Duration) {
        self.patience = self.patience.saturating_sub(time);
    }

    fn enter(&mut self, stage: Stage) {
        self.progress.stage = stage;
        (self.tell)(self.progress);
    }

    fn add(&mut self, texts: usize) {
        self.progress.texts_done += texts;
        (self.tell)(self.progress);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses each call, and may be asked again at once.
    struct NeverRelents;

    impl Embeds for NeverRelents {
        type Error = ();

        async fn embed(&self, _: Vec<String>, _: Input) -> Result<Vec<TextEmbedding>, ()> {
            Err(())
        }

        fn holds_off(&self) -> Option<Duration> {
            Some(Duration::from_millis(10))
        }

        fn come_back_after((): &()) -> Option<Duration> {
            Some(Duration::ZERO)
        }
    }

    #[tokio::test]
    async fn patience_with_a_model_that_never_relents_ends() {
        let progress = Progress { stage: Stage::Load, texts_done: 0, texts_total: 1 };
        let mut course = Course { patience: 2 * WAIT_TIME_MIN, progress, tell: &|_| () };
        let since = Instant::now();
        let text = ["x".to_owned()];
        let refused = tokio::time::timeout(Duration::from_secs(60), async {
            embed(&NeverRelents, &text, Input::Document, &mut course).await.map(drop)
        });
        assert_eq!(refused.await.unwrap(), Err(()));
        assert!(since.elapsed() >= WAIT_TIME_MIN);
    }

    #[test]
    fn medians_and_places() {
        assert_eq!(median(vec![3.0]), 3.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
        assert_eq!(spread(3), [0, 1, 2]);
        let places = spread(64);
        assert_eq!((places.len(), places[0], places[19]), (20, 0, 60));
        assert!(places.windows(2).all(|two| two[0] < two[1]));
    }
}
