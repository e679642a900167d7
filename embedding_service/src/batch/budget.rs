//! A bounded amount of something, of which every call in flight holds its part.
//!
//! Where there is no room, a call is refused at once or waits in line; the line is served in its order, and before calls
//! that would be refused. Those who wait are the batches of streams. All of them together hold at most half, so that
//! however many there are, single calls find the other half.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The amount, and what is left of it.
pub(crate) struct Budget {
    left: Arc<Semaphore>,
    /// What is left of the part that those who wait may hold.
    left_to_wait_for: Arc<Semaphore>,
    max: usize,
}

/// What a call does where there is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// It is refused.
    Refuse,
    /// It waits in line.
    Wait,
}

/// A call's part of a budget, which it gives back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    part: OwnedSemaphorePermit,
    _part_of_those_who_wait: Option<OwnedSemaphorePermit>,
}

/// Why a call has no part of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// Others hold too much of it.
    Full { wanted: usize, held: usize, held_max: usize },
    /// The service stops.
    Closed,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let left_to_wait_for = Arc::new(Semaphore::new(max.div_ceil(2)));
        Self { left: Arc::new(Semaphore::new(max)), left_to_wait_for, max }
    }

    /// A call that is larger than all there is gets all there is: else it could never be served.
    pub(crate) async fn take(&self, wanted: usize, when_full: WhenFull) -> Result<Held, NoRoom> {
        match when_full {
            WhenFull::Refuse => self.take_now(wanted),
            WhenFull::Wait => self.take_in_line(wanted).await,
        }
    }

    pub(super) fn take_now(&self, wanted: usize) -> Result<Held, NoRoom> {
        let part = self.left.clone().try_acquire_many_owned(permits(wanted.min(self.max)));
        match part {
            Ok(part) => Ok(Held { part, _part_of_those_who_wait: None }),
            Err(_) if self.left.is_closed() => Err(NoRoom::Closed),
            Err(_) => Err(NoRoom::Full { wanted, held: self.held(), held_max: self.max }),
        }
    }

    async fn take_in_line(&self, wanted: usize) -> Result<Held, NoRoom> {
        let wanted = permits(wanted.min(self.max.div_ceil(2)));
        let closed = |_| NoRoom::Closed;
        let of_those_who_wait = self.left_to_wait_for.clone().acquire_many_owned(wanted).await.map_err(closed)?;
        let part = self.left.clone().acquire_many_owned(wanted).await.map_err(closed)?;
        Ok(Held { part, _part_of_those_who_wait: Some(of_those_who_wait) })
    }

    pub(crate) fn left(&self) -> usize {
        self.left.available_permits()
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    pub(crate) fn held(&self) -> usize {
        self.max - self.left()
    }

    /// Nobody gets a part any more; those who wait learn it at once.
    pub(crate) fn close(&self) {
        self.left_to_wait_for.close();
        self.left.close();
    }
}

impl Held {
    /// Gives back what exceeds `amount`.
    pub(crate) fn shrink_to(&mut self, amount: usize) {
        for part in [Some(&mut self.part), self._part_of_those_who_wait.as_mut()].into_iter().flatten() {
            drop(part.split(part.num_permits().saturating_sub(amount)));
        }
    }
}

fn permits(amount: usize) -> u32 {
    u32::try_from(amount).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_that_is_dropped_or_shrunk_is_there_for_others() {
        let budget = Budget::new(100);
        let mut held = budget.take_now(60).unwrap();
        let refused = budget.take_now(41).unwrap_err();
        assert_eq!(refused, NoRoom::Full { wanted: 41, held: 60, held_max: 100 });
        drop(budget.take_now(40).unwrap());
        held.shrink_to(20);
        held.shrink_to(50);
        let _rest = budget.take_now(80).unwrap();
        drop(held);
        let _rest = budget.take_now(20).unwrap();
    }

    #[test]
    fn call_larger_than_the_budget_is_let_in_where_nobody_holds_any() {
        let budget = Budget::new(100);
        let mut large = budget.take_now(1000).unwrap();
        assert!(budget.take_now(1).is_err());
        large.shrink_to(200);
        assert!(budget.take_now(1).is_err(), "it still needs more than there is");
        large.shrink_to(99);
        assert!(budget.take_now(1).is_ok());
    }

    #[tokio::test]
    async fn those_who_wait_come_in_their_order_and_leave_half_to_the_others() {
        let budget = Arc::new(Budget::new(100));
        let wait = |wanted| {
            let budget = budget.clone();
            tokio::spawn(async move { budget.take(wanted, WhenFull::Wait).await.unwrap() })
        };
        let first = budget.take(40, WhenFull::Wait).await.unwrap();
        let (second, third) = (wait(30), wait(1));
        tokio::task::yield_now().await;
        assert!(!second.is_finished() && !third.is_finished(), "the small one does not pass the large one");
        let single = budget.take_now(60).unwrap();
        drop(first);
        let (second, third) = (second.await.unwrap(), third.await.unwrap());
        assert!(budget.take_now(10).is_err(), "all is held: 60, 30, and 1");
        drop((second, third, single));
        assert_eq!((budget.left(), budget.left_to_wait_for.available_permits()), (100, 50));
    }

    #[tokio::test]
    async fn those_who_wait_come_before_those_who_would_be_refused() {
        let budget = Arc::new(Budget::new(100));
        let (a, b) = (budget.take_now(50).unwrap(), budget.take_now(50).unwrap());
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(50, WhenFull::Wait).await.unwrap() }
        });
        tokio::task::yield_now().await;
        drop(a);
        assert!(budget.take_now(1).is_err());
        let _held = waiting.await.unwrap();
        drop(b);
        assert!(budget.take_now(50).is_ok());
    }

    #[tokio::test]
    async fn closed_budget_tells_those_who_wait() {
        let budget = Arc::new(Budget::new(10));
        let _all = budget.take_now(10).unwrap();
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(1, WhenFull::Wait).await.map(drop) }
        });
        tokio::task::yield_now().await;
        budget.close();
        assert_eq!(waiting.await.unwrap(), Err(NoRoom::Closed));
        assert_eq!(budget.take_now(1).map(drop), Err(NoRoom::Closed));
    }
}
