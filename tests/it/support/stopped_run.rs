//! The output of a run that stopped part-way: the commands that resume it, and the counts of slots.

use super::command::{Finished, Trib};

/// The command that a stopped run tells to go on with.
#[track_caller]
pub(crate) fn resume(ended: &Finished) -> Trib {
    let line = ended.stderr.lines().map(str::trim);
    let line = line.clone().find(|line| line.starts_with("redis-trib "));
    let line = line.unwrap_or_else(|| panic!("{}", ended.stderr));
    Trib::new().args(line.split(' ').skip(1)).arg("--yes")
}

/// The commands that a failed run tells to go on with.
pub(crate) fn told(said: &str) -> Vec<Vec<String>> {
    said.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("redis-trib "))
        .map(|line| line.split(' ').skip(1).map(str::to_owned).collect())
        .collect()
}

/// Each of `total` slots is in one of the three numbers of the last line: moved, open, not begun.
#[track_caller]
pub(crate) fn assert_all_named(said: &str, total: usize) {
    let line = said.lines().find(|line| line.contains(" not begun"));
    let numbers: Vec<usize> = line
        .unwrap_or_else(|| panic!("{said}"))
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    assert_eq!(numbers.len(), 3, "{said}");
    assert_eq!(numbers.iter().sum::<usize>(), total, "{said}");
}
