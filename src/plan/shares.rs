//! Proportional shares by largest remainder: they always add up to the total.

use std::cmp::Reverse;

/// Remainders that differ by less than one part in so many are equal: weights come from decimal
/// fractions, whose ties are not exact in binary.
const TIE: u128 = 1_000_000;

/// Shares `total` in proportion to `weights`: each gets its part rounded down, and the rest goes, one
/// each, to the largest remainders. Of equal remainders the lowest `rank` comes first, then the order
/// of the list. A weight of 0 gets 0; if all weights are 0, all shares are.
///
/// Exact for a `total` below 2^78 with weights below 2^32, or the other way round.
pub(super) fn apportion<R: Ord>(
    total: u128,
    weights: &[u64],
    rank: impl Fn(usize) -> R,
) -> Vec<u128> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let mut shares = Vec::with_capacity(weights.len());
    let mut remainders = Vec::new();
    for (index, weight) in weights.iter().enumerate() {
        let part = total * u128::from(*weight);
        shares.push(part / sum);
        if *weight > 0 {
            let remainder = (part % sum * TIE + sum / 2) / sum;
            remainders.push((Reverse(remainder), rank(index), index));
        }
    }
    remainders.sort_unstable();
    let mut left = total - shares.iter().sum::<u128>();
    for (_, _, index) in remainders {
        if left == 0 {
            break;
        }
        shares[index] += 1;
        left -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ties_go_by_rank_and_then_by_order() {
        assert_eq!(apportion(4, &[1, 1, 1], |_| ()), [2, 1, 1]);
        assert_eq!(apportion(4, &[1, 1, 1], Reverse), [1, 1, 2]);
        assert_eq!(apportion(2, &[0, 5, 5], |_| ()), [0, 1, 1]);
        assert_eq!(apportion(7, &[0, 0], |_| ()), [0, 0]);
    }

    proptest! {
        #[test]
        fn shares_add_up_and_are_off_by_less_than_one(
            total in 0..1_u128 << 78,
            weights in proptest::collection::vec(0..1_u64 << 32, 1..50),
        ) {
            let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
            let shares = apportion(total, &weights, |_| ());
            prop_assert_eq!(shares.iter().sum::<u128>(), if sum == 0 { 0 } else { total });
            for (share, weight) in shares.iter().zip(&weights) {
                let part = total * u128::from(*weight);
                prop_assert!(share * sum <= part + sum && part <= share * sum + sum);
                prop_assert!(*weight > 0 || *share == 0);
            }
        }
    }
}
