//! Texts into requests of what a provider takes at once, and its count of tokens back onto the texts.

use std::ops::Range;

/// Neighbouring texts, at most `texts_max` and of at most `weight_max` together; a text that has more is alone.
pub(super) fn into_requests(
    weights: impl Iterator<Item = usize>,
    texts_max: usize,
    weight_max: usize,
) -> Vec<Range<usize>> {
    let mut requests: Vec<Range<usize>> = Vec::new();
    let mut sum = 0;
    for (index, weight) in weights.enumerate() {
        match requests.last_mut() {
            Some(last) if last.len() < texts_max && sum + weight <= weight_max => {
                last.end += 1;
                sum += weight;
            }
            _ => {
                requests.push(index..index + 1);
                sum = weight;
            }
        }
    }
    requests
}

/// `tokens` divided among the texts in proportion of their bytes. They add up to `tokens` again.
pub(super) fn share(tokens: usize, texts: &[&str]) -> Vec<usize> {
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let (mut before, mut given) = (0, 0);
    let share = |text: &&str| {
        before += text.len();
        let until = (tokens as u128 * before as u128 / bytes.max(1) as u128) as usize;
        let share = until - given;
        given = until;
        share
    };
    texts.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_keep_both_limits_and_the_order() {
        let split = |weights: &[usize]| into_requests(weights.iter().copied(), 3, 10);
        assert_eq!(split(&[1, 1, 1, 1]), [0..3, 3..4]);
        assert_eq!(split(&[5, 5, 1]), [0..2, 2..3]);
        assert_eq!(split(&[50, 1, 50]), [0..1, 1..2, 2..3]);
        assert!(split(&[]).is_empty());
    }

    #[test]
    fn shares_add_up() {
        assert_eq!(share(10, &["aa", "b", "cc"]), [4, 2, 4]);
        assert_eq!(share(1, &["a", "b", "c"]).iter().sum::<usize>(), 1);
        assert_eq!(share(0, &["a", "b"]), [0, 0]);
    }
}
