//! What a comparison of keys finds, and when two times to live are the same.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::Expiry;
use crate::cluster::functions::Functions;

/// By how much times to live may differ, unless the user says otherwise: a key is on its way for a moment, and the two
/// sides are not read at the same one.
pub const TTL_TOLERANCE: Duration = Duration::from_secs(5);
/// The number of keys that are named of each kind.
pub(super) const NAMED: usize = 100;
/// Why two values can't be compared by their dumps.
pub(super) const UNKNOWN_DUMPS: &str =
    "the dumps of the values differ, and redis-trib can't decode them";

/// How a key is not equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Discrepancy {
    /// The cluster does not have it.
    Missing,
    /// Only the cluster has it.
    Extra,
    /// The values, the types or the times to live differ.
    Different,
    /// It is not known whether the values differ.
    Uncompared,
}

/// A key that is not equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKey {
    /// How it is not equal.
    pub discrepancy: Discrepancy,
    /// The database of the source.
    pub database: u32,
    /// The key at the source, printable and without quotes.
    pub key: String,
    /// What differs, or why that is not known; empty for keys of one side.
    pub what: String,
}

/// The counts of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Equal keys. SCAN may return a key twice, and keys of slots that move are read twice: each time counts.
    pub same: u64,
    /// Keys that were deleted at the source, or expired, before they were compared.
    pub gone: u64,
    /// Keys that the cluster does not have.
    pub missing: u64,
    /// Keys that only the cluster has.
    pub extra: u64,
    /// Keys with different values, types or times to live.
    pub different: u64,
    /// Keys that were equal only when they were compared again; they count as equal, too.
    pub settled: u64,
    /// Keys that could not be compared: their dumps differ and can't be decoded, or they are larger than a server accepts.
    /// Of files also keys that a later version wrote, or what stands before them; these are not named.
    pub uncompared: u64,
    /// The function libraries of files.
    pub functions: BTreeMap<String, Functions>,
    /// The first keys that are not equal, of each kind.
    pub found: Vec<FoundKey>,
}

/// How a key is on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    Same,
    /// Neither side has it, or the source has it no more, or it is about to expire on the side that has it.
    Gone,
    Missing,
    Extra,
    /// With the reason, if it is known already.
    Different(Option<String>),
    /// It can't be told, with the reason.
    Unknown(String),
}

impl VerifyReport {
    /// Counts a key that is not equal. The first ones are named.
    pub(super) fn count(&mut self, key: FoundKey) {
        let count = match key.discrepancy {
            Discrepancy::Missing => &mut self.missing,
            Discrepancy::Extra => &mut self.extra,
            Discrepancy::Different => &mut self.different,
            Discrepancy::Uncompared => &mut self.uncompared,
        };
        *count += 1;
        self.name(key);
    }

    /// Names a key that is not equal, if it is one of the first.
    fn name(&mut self, key: FoundKey) {
        let found = self.found.iter();
        let kind = found.filter(|found| found.discrepancy == key.discrepancy);
        if kind.count() < NAMED {
            self.found.push(key);
        }
    }

    /// Adds the counts of another part.
    pub fn add(&mut self, other: Self) {
        self.same += other.same;
        self.gone += other.gone;
        self.missing += other.missing;
        self.extra += other.extra;
        self.different += other.different;
        self.settled += other.settled;
        self.uncompared += other.uncompared;
        self.functions.extend(other.functions);
        for one in other.found {
            self.name(one);
        }
    }
}

/// Compares the milliseconds that a key has left on both sides; `None` if it does not expire.
pub(super) fn same_ttl(here: Option<u64>, there: Option<u64>, tolerance: Duration) -> Sight {
    let tolerance = millis(tolerance);
    match (here, there) {
        (None, None) => Sight::Same,
        (Some(here), Some(there)) if here.abs_diff(there) <= tolerance => Sight::Same,
        (here, there) => Sight::Different(Some(format!(
            "they expire at different times: {} at the source, {} in the cluster",
            expiry(here),
            expiry(there)
        ))),
    }
}

/// What a key is that one side has, for these milliseconds: the other side may have had it for a shorter time.
pub(super) fn on_one_side(sight: Sight, left: Option<u64>, tolerance: Duration) -> Sight {
    match left {
        Some(left) if left <= millis(tolerance) => Sight::Gone,
        _ => sight,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The milliseconds that a key has left, as PTTL tells for them.
pub(super) fn left(expires: Expiry) -> Option<u64> {
    match expires {
        Expiry::Never => None,
        Expiry::At(left) | Expiry::In(left) => Some(left),
    }
}

fn expiry(left: Option<u64>) -> String {
    match left {
        None => "never".to_string(),
        Some(left) => {
            let left = Duration::from_millis(left);
            format!("in {}", humantime::format_duration(left))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_about_to_expire_may_have_expired_on_the_other_side() {
        let tolerance = Duration::from_secs(5);
        for (left, expected) in [
            (Some(0), Sight::Gone),
            (Some(5_000), Sight::Gone),
            (Some(5_001), Sight::Missing),
            (None, Sight::Missing),
        ] {
            assert_eq!(on_one_side(Sight::Missing, left, tolerance), expected);
        }
        assert_eq!(
            on_one_side(Sight::Extra, Some(1), Duration::ZERO),
            Sight::Extra
        );
    }
}
