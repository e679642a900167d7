use std::cmp::Ordering;

/// Keeps the `k` nearest of what it is offered: smallest key first, ties by the item's own order.
///
/// What is near enough is put aside, and cut down to the nearest `k` when there is no more room: a few selections, where a
/// heap would be put in order again for every item.
pub struct Nearest<T> {
    k: usize,
    /// The nearest so far, and others, in no order.
    aside: Vec<Neighbor<T>>,
    room: usize,
    /// What is farther cannot be among the nearest: most of what is offered, and a comparison is all that it costs.
    key_max: f32,
}

/// Room for so many at least, so that few selections are needed for small `k`.
const ROOM_MIN: usize = 32;

/// An item and how far away it is; a smaller key is nearer.
#[derive(Clone, Copy, Debug)]
pub struct Neighbor<T> {
    /// Ordered as the metric orders: see `flat::Query::key`.
    pub key: f32,
    /// What is there.
    pub item: T,
}

impl<T: Ord> Nearest<T> {
    /// Keeps at most `k`, which is at least 1.
    pub fn new(k: usize) -> Self {
        assert!(k > 0, "a search for nothing is refused at the edge");
        // A large `k` on a small collection must not reserve what it never fills.
        let room = (2 * k).max(ROOM_MIN);
        Self { k, aside: Vec::with_capacity(room.min(2048)), room, key_max: f32::INFINITY }
    }

    /// Offers many at once: most stretches of keys have none that is near enough, and are passed over as a whole.
    #[inline]
    pub fn offer_all(&mut self, keys: &[f32], item: impl Fn(usize) -> T) {
        const STRETCH: usize = 16;
        let is_near = |keys: &[f32], key_max: f32| keys.iter().map(|&key| u32::from(key <= key_max)).sum::<u32>() > 0;
        // Sums of comparisons, unlike a search for the least, are done many at once.
        if !is_near(keys, self.key_max) {
            return;
        }
        for (stretch, keys) in keys.chunks(STRETCH).enumerate() {
            if !is_near(keys, self.key_max) {
                continue;
            }
            for (number, &key) in keys.iter().enumerate() {
                self.offer(key, || item(stretch * STRETCH + number));
            }
        }
    }

    /// The item is built only where the key is good enough, since most are not.
    #[inline]
    pub fn offer(&mut self, key: f32, item: impl FnOnce() -> T) {
        if key > self.key_max {
            return;
        }
        self.take(Neighbor { key, item: item() });
    }

    #[inline]
    fn take(&mut self, candidate: Neighbor<T>) {
        self.aside.push(candidate);
        if self.aside.len() == self.room {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.aside.len() > self.k {
            let (_, worst, _) = self.aside.select_nth_unstable(self.k - 1);
            self.key_max = worst.key;
            self.aside.truncate(self.k);
        }
    }

    /// What was kept, nearest first.
    pub fn into_sorted(mut self) -> Vec<Neighbor<T>> {
        self.cut();
        self.aside.sort_unstable();
        self.aside
    }
}

impl<T: Ord> Ord for Neighbor<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.total_cmp(&other.key).then_with(|| self.item.cmp(&other.item))
    }
}

impl<T: Ord> PartialOrd for Neighbor<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for Neighbor<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ord> Eq for Neighbor<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_smaller_item_in_any_order_of_arrival() {
        for order in [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]] {
            let mut nearest = Nearest::new(2);
            for item in order {
                nearest.offer(1.0, || item);
            }
            let items: Vec<_> = nearest.into_sorted().iter().map(|neighbor| neighbor.item).collect();
            assert_eq!(items, ["a", "b"]);
        }
    }

    #[test]
    fn offers_of_many_keep_what_single_offers_keep() {
        let keys: Vec<f32> = (0..100).map(|i| ((i * 37 % 50) as f32).sin()).collect();
        for k in [1, 3, 16, 100, 200] {
            let (mut one_by_one, mut at_once) = (Nearest::new(k), Nearest::new(k));
            keys.iter().enumerate().for_each(|(i, &key)| one_by_one.offer(key, || i));
            at_once.offer_all(&keys[..70], |i| i);
            at_once.offer_all(&keys[70..], |i| 70 + i);
            let items = |nearest: Nearest<usize>| nearest.into_sorted().iter().map(|one| one.item).collect::<Vec<_>>();
            assert_eq!(items(at_once), items(one_by_one), "{k}");
        }
    }

    #[test]
    fn the_nearest_come_first_and_no_more_than_asked() {
        let mut nearest = Nearest::new(3);
        for key in [5.0, -1.0, 3.0, f32::INFINITY, 0.0] {
            nearest.offer(key, || 0);
        }
        let keys: Vec<_> = nearest.into_sorted().iter().map(|neighbor| neighbor.key).collect();
        assert_eq!(keys, [-1.0, 0.0, 3.0]);
    }
}
