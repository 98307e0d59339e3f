//! Work in many small steps: a line for all, and one for each of the files or nodes that take longest.

use std::cmp::Reverse;
use std::time::Duration;

use console::truncate_str;

use crate::event::{Amount, AmountProgress, Unit};
use crate::ui::style::{about, bytes, plain, thousands};

/// How many files or nodes have lines of their own, at most.
const SHOWN: usize = 4;

/// `writing keys into the cluster: 1,200 of 5,000 keys, 400 a second, 10 s left`.
pub(super) fn sum(doing: &str, progress: &AmountProgress) -> String {
    line(doing, &progress.sum, progress.unit)
}

/// The lines of the parts that take longest, if there are several: `  nodes.rdb: 200 of 900 keys, 50 a second, 14 s left`.
pub(super) fn parts(progress: &AmountProgress) -> Vec<String> {
    if progress.parts.len() < 2 {
        return Vec::new();
    }
    let parts = progress.parts.iter();
    let mut running: Vec<_> = parts
        .filter(|(_, amount)| amount.is_in_progress())
        .collect();
    // Of those whose end is not known, the slowest ones.
    running.sort_by_key(|(_, amount)| {
        let left = amount.left.unwrap_or(Duration::ZERO);
        (Reverse(left), amount.per_second)
    });
    let shown = running.iter().take(SHOWN);
    let mut lines: Vec<String> = shown
        .map(|(name, amount)| line(&format!("  {}", plain(name)), amount, progress.unit))
        .collect();
    if let Some(more @ 1..) = running.len().checked_sub(SHOWN) {
        lines.push(format!("  and {} more", thousands(more as u64)));
    }
    lines
}

/// The same above another line on a terminal of that width: a line that is wider would become two.
pub(super) fn above(progress: &AmountProgress, width: usize) -> String {
    let lines = parts(progress).into_iter();
    lines
        .map(|line| truncate_str(&line, width.saturating_sub(1), "…").into_owned() + "\n")
        .collect()
}

fn line(label: &str, amount: &Amount, unit: Unit) -> String {
    let shown = |count| match unit {
        Unit::Keys => thousands(count),
        Unit::Bytes => bytes(count),
    };
    let of = match amount.total {
        Some(total) => format!(" of {}", shown(total)),
        None => String::new(),
    };
    let noun = match unit {
        Unit::Keys => " keys",
        Unit::Bytes => "",
    };
    let left = match amount.left {
        Some(left) if amount.is_in_progress() => format!(", {} left", about(left)),
        _ => String::new(),
    };
    let (done, speed) = (shown(amount.done), shown(amount.per_second));
    format!("{label}: {done}{of}{noun}, {speed} a second{left}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Phase;

    fn amount(done: u64, total: Option<u64>, per_second: u64, left: Option<u64>) -> Amount {
        Amount {
            done,
            total,
            per_second,
            left: left.map(Duration::from_secs),
        }
    }

    fn progress(unit: Unit, sum: Amount, parts: &[(&str, Amount)]) -> AmountProgress {
        let parts = parts.iter().map(|(name, amount)| ((*name).into(), *amount));
        AmountProgress {
            phase: Phase::Copy,
            unit,
            sum,
            parts: parts.collect(),
        }
    }

    #[test]
    fn a_line_for_all_and_one_for_each_of_the_slowest() {
        let many: Vec<(String, Amount)> = (0..100)
            .map(|n| {
                let name = format!("10.0.0.{n}:6379");
                (name, amount(n, Some(1_000), 10, Some(100 - n)))
            })
            .collect();
        let many: Vec<(&str, Amount)> = many.iter().map(|(name, one)| (&**name, *one)).collect();
        let sum_of_all = amount(4_950, Some(100_000), 1_000, Some(95));
        let far = progress(Unit::Keys, sum_of_all, &many);
        assert_eq!(
            sum("comparing keys", &far),
            "comparing keys: 4,950 of 100,000 keys, 1,000 a second, 95 s left"
        );
        // The first one has not begun.
        assert_eq!(
            parts(&far),
            [
                "  10.0.0.1:6379: 1 of 1,000 keys, 10 a second, 99 s left",
                "  10.0.0.2:6379: 2 of 1,000 keys, 10 a second, 98 s left",
                "  10.0.0.3:6379: 3 of 1,000 keys, 10 a second, 97 s left",
                "  10.0.0.4:6379: 4 of 1,000 keys, 10 a second, 96 s left",
                "  and 95 more",
            ]
        );
        for line in above(&far, 40).lines() {
            assert!(line.chars().count() < 40, "{line:?}");
        }
        assert_eq!(above(&far, 40).lines().count(), 5);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let parts_of = [
            ("a", amount(3 << 20, None, 2 << 20, None)),
            ("b", amount(2 << 20, None, 1 << 20, None)),
            ("ended", amount(9, Some(9), 0, Some(0))),
        ];
        let far = progress(Unit::Bytes, amount(5 << 20, None, 3 << 20, None), &parts_of);
        assert_eq!(sum("fetching", &far), "fetching: 5.0 MiB, 3.0 MiB a second");
        assert_eq!(
            parts(&far),
            [
                "  b: 2.0 MiB, 1.0 MiB a second",
                "  a: 3.0 MiB, 2.0 MiB a second"
            ]
        );
        let whole = progress(Unit::Keys, amount(7, Some(7), 7, Some(0)), &parts_of[..1]);
        assert_eq!(
            sum("comparing", &whole),
            "comparing: 7 of 7 keys, 7 a second"
        );
        assert!(parts(&whole).is_empty(), "one part is the sum");
    }

    #[test]
    fn a_long_time_is_told_as_such() {
        let days = amount(1, Some(1 << 40), 0, Some(40 * 24 * 3600));
        let far = progress(Unit::Keys, days, &[]);
        assert!(sum("a", &far).ends_with(", 0 a second, >99 h left"));
    }
}
