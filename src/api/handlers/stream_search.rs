//! StreamSearch: many queries in flight on one stream, answered as they are ready.
//!
//! What needs no waiting is answered where it is read, as many queries at a time as have come, so that the rows are read from
//! memory once for all of them; everything else (texts, long searches, `min_sequence`) runs beside it. So short queries
//! cost no thread and no queue, and none waits for a long one.
//!
//! Bounds: `QUERIES_MAX` of a stream are in the server, answers that nobody has read included; beyond that nothing is read.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use crate::api::convert::invalid;
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::Handlers;
use crate::api::handlers::search::{Asked, Located, Ready, Unfilled};
use crate::pb::v1 as pb;
use crate::pb::v1::stream_search_response::Result as Outcome;

/// Queries of one stream that the server has taken in and not yet handed over.
const QUERIES_MAX: usize = 512;
/// Queries that are answered at one go; then the connection gets its turn.
const TURN_QUERIES_MAX: usize = 96;
/// So many short queries are worth a task of their own: meanwhile the next ones are read, on another core.
const ASIDE_QUERIES_MIN: usize = 8;

/// The answers of one stream.
pub struct SearchAnswers<S> {
    handlers: Handlers,
    queries: S,
    /// Nothing more is read: the client has closed its side, or its end is due.
    is_ended: bool,
    /// Told after every answer.
    end: Option<Status>,
    running: JoinSet<Vec<Answered>>,
    /// Queries in `running`.
    running_queries: usize,
    answered: VecDeque<Answered>,
    /// Long searches of this stream that wait for the pool, or are in it: no more than run at once.
    pool_turns: Arc<Semaphore>,
    stopping: WatchStream<bool>,
}

/// What came of a query, before it is put into words.
struct Answered {
    query_index: u64,
    outcome: Result<Unfilled, ApiError>,
}

impl Handlers {
    /// `VectorService.StreamSearch`.
    pub fn stream_search<S>(&self, queries: S) -> SearchAnswers<S>
    where
        S: Stream<Item = Result<pb::StreamSearchRequest, Status>> + Unpin,
    {
        SearchAnswers {
            handlers: self.clone(),
            queries,
            is_ended: false,
            end: None,
            running: JoinSet::new(),
            running_queries: 0,
            answered: VecDeque::new(),
            pool_turns: Arc::new(Semaphore::new(self.pool.threads())),
            stopping: WatchStream::new(self.stopping.subscribe()),
        }
    }
}

impl<S> Stream for SearchAnswers<S>
where
    S: Stream<Item = Result<pb::StreamSearchRequest, Status>> + Unpin,
{
    type Item = Result<pb::StreamSearchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(answered) = this.answered.pop_front() {
                return Poll::Ready(Some(Ok(answered.into_response())));
            }
            this.look_for_stop(context);
            while let Poll::Ready(Some(joined)) = this.running.poll_join_next(context) {
                match joined {
                    Ok(answered) => {
                        this.running_queries -= answered.len();
                        this.answered.extend(answered);
                    }
                    Err(error) => {
                        let error = ApiError::new(Reason::Internal, format_args!("a query has failed: {error}"));
                        return Poll::Ready(Some(Err(error.into())));
                    }
                }
            }
            let queries = this.read(context);
            if queries.is_empty() && this.answered.is_empty() {
                return match this.is_ended && this.running.is_empty() {
                    true => Poll::Ready(this.end.take().map(Err)),
                    false => Poll::Pending,
                };
            }
            this.begin(queries);
        }
    }
}

impl<S> SearchAnswers<S>
where
    S: Stream<Item = Result<pb::StreamSearchRequest, Status>> + Unpin,
{
    /// A server that stops answers what it has taken in.
    fn look_for_stop(&mut self, context: &mut Context<'_>) {
        while !self.is_ended
            && let Poll::Ready(Some(is_stopping)) = Pin::new(&mut self.stopping).poll_next(context)
        {
            if is_stopping {
                let message = "the server is stopping; ask again when it is back";
                self.end_with(ApiError::new(Reason::NotReady, message).with_retry_after(Duration::from_secs(1)).into());
            }
        }
    }

    /// The queries that have come, up to the bounds.
    fn read(&mut self, context: &mut Context<'_>) -> Vec<pb::StreamSearchRequest> {
        let mut queries = Vec::new();
        let room = QUERIES_MAX.saturating_sub(self.running_queries).min(TURN_QUERIES_MAX);
        while !self.is_ended && queries.len() < room {
            match Pin::new(&mut self.queries).poll_next(context) {
                Poll::Ready(Some(Ok(query))) => queries.push(query),
                Poll::Ready(Some(Err(status))) => self.end_with(status),
                Poll::Ready(None) => self.is_ended = true,
                Poll::Pending => break,
            }
        }
        queries
    }

    fn end_with(&mut self, status: Status) {
        self.is_ended = true;
        self.end = Some(status);
    }

    /// Answers what can be answered at once, and starts the rest.
    fn begin(&mut self, queries: Vec<pb::StreamSearchRequest>) {
        let mut short = Vec::with_capacity(queries.len());
        let mut short_indexes = Vec::with_capacity(queries.len());
        for pb::StreamSearchRequest { query_index, search, deadline_ms } in queries {
            let asked = search.ok_or_else(|| invalid("search", "must be set")).and_then(Asked::read);
            match asked.and_then(|asked| self.handlers.locate_now(asked)) {
                Ok(Located::Ready(ready)) if ready.is_short() => {
                    short.push(ready);
                    short_indexes.push(query_index);
                }
                Ok(Located::Ready(ready)) => self.start(query_index, std::future::ready(Ok(ready)), deadline_ms),
                Ok(Located::Later(asked)) => {
                    let handlers = self.handlers.clone();
                    self.start(query_index, async move { handlers.locate(asked).await }, deadline_ms);
                }
                Err(error) => self.answered.push_back(Answered { query_index, outcome: Err(error) }),
            }
        }
        let count = short.len();
        let run = move || -> Vec<Answered> {
            let found = Ready::run_all_here(short).into_iter().zip(short_indexes);
            found.map(|(found, query_index)| Answered { query_index, outcome: Ok(found) }).collect()
        };
        if count < ASIDE_QUERIES_MIN {
            self.answered.extend(run());
        } else {
            self.running_queries += count;
            self.running.spawn(async move { run() });
        }
    }

    fn start(
        &mut self,
        query_index: u64,
        located: impl Future<Output = Result<Ready, ApiError>> + Send + 'static,
        deadline_ms: u32,
    ) {
        let handlers = self.handlers.clone();
        let pool_turns = self.pool_turns.clone();
        let search = async move {
            let ready = located.await?;
            let _turn = pool_turns.acquire().await.map_err(|closed| ApiError::new(Reason::Internal, closed))?;
            handlers.run(ready).await
        };
        self.running.spawn(async move {
            let outcome = match deadline_ms {
                0 => search.await,
                ms => timeout(Duration::from_millis(ms.into()), search).await.unwrap_or_else(|_| {
                    Err(ApiError::new(
                        Reason::QueryTimeout,
                        format_args!("the query was given {ms} ms, which are over"),
                    ))
                }),
            };
            vec![Answered { query_index, outcome }]
        });
        self.running_queries += 1;
    }
}

impl Answered {
    fn into_response(self) -> pb::StreamSearchResponse {
        let result = match self.outcome.and_then(Unfilled::fill) {
            Ok(response) => Outcome::Response(response),
            Err(error) => {
                let (reason, code, _) = error.reason.codes();
                Outcome::Error(pb::QueryError { code: code.into(), reason: reason.to_owned(), message: error.message })
            }
        };
        pb::StreamSearchResponse { query_index: self.query_index, result: Some(result) }
    }
}
