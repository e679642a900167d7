use super::*;

/// Random numbers, the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Few different ones, so that ties are common; some are infinite, as for missing neighbours, some no number.
    fn distance(&mut self) -> f32 {
        match self.next() % 20 {
            0 => f32::INFINITY,
            1 => f32::NAN,
            2 => -0.0,
            3 => -1e-7,
            _ => (self.next() % 64) as f32 / 16.0,
        }
    }
}

fn every() -> Vec<(&'static str, Steps)> {
    crate::distance::available().iter().map(|kernels| (kernels.name, Steps::of(kernels.name))).collect()
}

fn empty(steps: Steps) -> Frontier {
    let mut frontier = Frontier { steps, ..Frontier::default() };
    frontier.reset(1);
    frontier
}

fn content(frontier: &Frontier) -> Vec<(u32, u32)> {
    let pairs = frontier.distances.iter().zip(frontier.nodes.iter()).take(frontier.count);
    pairs.map(|(distance, &node)| (distance.to_bits(), node)).collect()
}

#[test]
fn every_instruction_set_admits_what_the_definition_admits() {
    const NODES: usize = 5000;
    for (name, steps) in every() {
        let mut random = Random(1);
        let visited: Vec<u32> = (0..NODES.div_ceil(32)).map(|_| random.next() as u32).collect();
        let (mut frontier, mut expected) = (empty(steps), empty(SCALAR));
        for round in 0..2000 {
            let distances: [f32; GROUP_ROWS] = std::array::from_fn(|_| random.distance());
            let nodes: [u32; GROUP_ROWS] = std::array::from_fn(|place| {
                // A place without a neighbour: far away, and of a number that has no bit.
                let is_missing = distances[place] == f32::INFINITY;
                if is_missing { u32::MAX } else { (random.next() % NODES as u64) as u32 }
            });
            let limit = [f32::INFINITY, 4.0, 2.0, 1.0, 0.0, -1.0][round % 6];
            let seen = Seen { distances: &distances, nodes: &nodes, visited: &visited };
            frontier.admit(&seen, limit);
            expected.admit(&seen, limit);
            assert!(content(&frontier) == content(&expected), "{name}, round {round}");
            assert!(frontier.count <= CAPACITY_MIN, "{name}, round {round}");
            // More come than go, so that the farther half is let go again and again.
            if round % 3 == 0 {
                let place = (steps.nearest)(&expected.distances[..expected.count]);
                let least = (0..expected.count).map(|place| expected.distances[place]).fold(f32::INFINITY, f32::min);
                let taken = frontier.take_nearest().unwrap();
                assert_eq!(taken, (least, expected.nodes[place]), "{name}, round {round}");
                expected.count -= 1;
                expected.distances[place] = expected.distances[expected.count];
                expected.nodes[place] = expected.nodes[expected.count];
            }
        }
    }
}

#[test]
fn every_instruction_set_finds_the_nearest() {
    for (name, steps) in every() {
        let mut random = Random(2);
        for length in (1..=100).chain([511, 512, 1000, 1023, 1024]) {
            for round in 0..20 {
                let mut distances: Vec<f32> = (0..length).map(|_| (random.next() % 64) as f32).collect();
                // The nearest at every place, and one that is farther than all others beside it.
                let place = (random.next() % length as u64) as usize;
                distances[place] = [-1.0, 0.0, 0.5][round % 3];
                let found = distances[(steps.nearest)(&distances)];
                let least = distances.iter().copied().fold(f32::INFINITY, f32::min);
                assert_eq!(found, least, "{name}, {length} nodes, round {round}");
            }
            let far = vec![f32::INFINITY; length];
            assert!((steps.nearest)(&far) < length, "{name}: {length} infinities");
        }
    }
}

#[test]
fn the_nearer_half_stays_where_there_is_no_more_room() {
    for (name, steps) in every() {
        let mut frontier = empty(steps);
        let mut order: Vec<u32> = (0..1056).collect();
        let mut random = Random(3);
        for place in (1..order.len()).rev() {
            order.swap(place, (random.next() % (place as u64 + 1)) as usize);
        }
        for nodes in order.as_chunks::<GROUP_ROWS>().0 {
            let distances = nodes.map(|node| node as f32);
            frontier.admit(&Seen { distances: &distances, nodes, visited: &[0; 33] }, f32::INFINITY);
        }
        // 1,024 were there when the last 32 came: 512 of them stayed.
        assert_eq!(frontier.count, 512 + 32, "{name}");
        let (before, last) = order.split_at(1024);
        let mut expected = before.to_vec();
        expected.sort_unstable();
        expected.truncate(512);
        expected.extend(last);
        expected.sort_unstable();
        let taken: Vec<u32> = std::iter::from_fn(|| frontier.take_nearest()).map(|taken| taken.1).collect();
        assert_eq!(taken, expected, "{name}: nearest first");
        assert!(frontier.take_nearest().is_none(), "{name}");
    }
}
