//! Hash slots: one slot, a range of them, a set of them.
//!
//! A cluster has exactly [`SLOTS`] slots (Redis Cluster specification). Every constructor keeps
//! within them, so a [`Slot`] is always valid.

use std::fmt;

use super::numbers::{plural, thousands};

/// How many hash slots a cluster has (Redis Cluster specification).
pub const SLOTS: u16 = 16384;

/// One hash slot, 0 to 16383.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of that number; `None` from 16384 on.
    pub fn new(number: u16) -> Option<Self> {
        (number < SLOTS).then_some(Self(number))
    }

    /// Its number, 0 to 16383.
    pub fn number(self) -> u16 {
        self.0
    }

    /// All slots, in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..SLOTS).map(Self)
    }

    /// The slot of a key: CRC16 (XMODEM) of its hash tag, or of the whole key if it has none (Redis Cluster
    /// specification, "Hash tags").
    pub fn of_key(key: &[u8]) -> Self {
        const CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);
        Self(CRC.checksum(hash_tag(key).unwrap_or(key)) % SLOTS)
    }
}

/// The part of a key that is hashed instead of the whole: between the first `{` and the first `}` after it, when that
/// is not empty.
pub fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let tag = &key[open + 1..];
    let close = tag.iter().position(|byte| *byte == b'}')?;
    (close > 0).then(|| &tag[..close])
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Slots from `start` to `end`, both included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotRange {
    start: Slot,
    end: Slot,
}

impl SlotRange {
    /// The range from `start` to `end`, both included; `None` when it would be empty.
    pub fn new(start: Slot, end: Slot) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// Its first slot.
    pub fn start(self) -> Slot {
        self.start
    }

    /// Its last slot.
    pub fn end(self) -> Slot {
        self.end
    }

    /// How many slots it holds, 1 to 16384.
    pub fn count(self) -> usize {
        usize::from(self.end.0 - self.start.0) + 1
    }

    /// Its slots, in order.
    pub fn slots(self) -> impl Iterator<Item = Slot> {
        (self.start.0..=self.end.0).map(Slot)
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.end {
            write!(f, "{}", self.start)
        } else {
            write!(f, "{}-{}", self.start, self.end)
        }
    }
}

const WORDS: usize = SLOTS as usize / 64;

/// A set of slots, as a bitmap of 2 KiB.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SlotSet {
    words: Box<[u64; WORDS]>,
}

impl SlotSet {
    /// No slot.
    pub fn new() -> Self {
        Self {
            words: Box::new([0; WORDS]),
        }
    }

    /// All 16384 slots.
    pub fn full() -> Self {
        Self {
            words: Box::new([u64::MAX; WORDS]),
        }
    }

    /// Adds a slot.
    pub fn insert(&mut self, slot: Slot) {
        self.words[usize::from(slot.0) / 64] |= 1 << (slot.0 % 64);
    }

    /// Removes a slot.
    pub fn remove(&mut self, slot: Slot) {
        self.words[usize::from(slot.0) / 64] &= !(1 << (slot.0 % 64));
    }

    /// Adds a range.
    pub fn insert_range(&mut self, range: SlotRange) {
        let (first, last) = (usize::from(range.start.0), usize::from(range.end.0));
        for i in first / 64..=last / 64 {
            let from = if i == first / 64 { first % 64 } else { 0 };
            let to = if i == last / 64 { last % 64 } else { 63 };
            self.words[i] |= (u64::MAX << from) & (u64::MAX >> (63 - to));
        }
    }

    /// Whether it holds that slot.
    pub fn contains(&self, slot: Slot) -> bool {
        self.words[usize::from(slot.0) / 64] & (1 << (slot.0 % 64)) != 0
    }

    /// How many slots it holds.
    pub fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Those that are in `self` or in `other`.
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a | b)
    }

    /// Adds all of `other`.
    pub fn union_with(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(other.words.iter()) {
            *word |= other;
        }
    }

    /// Those that are in both.
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & b)
    }

    /// Those of `self` that are not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & !b)
    }

    fn combine(&self, other: &Self, op: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = self.words.clone();
        for (word, other) in words.iter_mut().zip(other.words.iter()) {
            *word = op(*word, *other);
        }
        Self { words }
    }

    /// Its slots, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.words.iter().zip(0..).flat_map(|(word, i): (_, u16)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as u16;
                // Clears the lowest bit, or finds that none is left.
                rest &= rest.checked_sub(1)?;
                Some(Slot(i * 64 + bit))
            })
        })
    }

    /// Its slots as the fewest ranges, in order.
    pub fn ranges(&self) -> Vec<SlotRange> {
        let mut ranges: Vec<SlotRange> = Vec::new();
        for slot in self.iter() {
            match ranges.last_mut() {
                Some(range) if range.end.0 + 1 == slot.0 => range.end = slot,
                _ => ranges.push(SlotRange {
                    start: slot,
                    end: slot,
                }),
            }
        }
        ranges
    }

    /// The first ranges and the number of the others, for messages: `0,2,4,6,8,10,12,14 and 70 more ranges`.
    pub fn summary(&self) -> String {
        const SHOWN: usize = 8;
        let ranges = self.ranges();
        let first: Vec<String> = ranges.iter().take(SHOWN).map(ToString::to_string).collect();
        let first = first.join(",");
        match ranges.len().saturating_sub(SHOWN) {
            0 => first,
            more => format!(
                "{first} and {} more {}",
                thousands(more as u64),
                plural(more as u64, "range")
            ),
        }
    }
}

impl Default for SlotSet {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::new();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

impl FromIterator<SlotRange> for SlotSet {
    fn from_iter<I: IntoIterator<Item = SlotRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert_range(range);
        }
        set
    }
}

/// Ranges joined by commas, as redis-trib.rb wrote them: `0-5460,5500`. Empty for no slot.
impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.ranges().iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{range}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotSet({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    #[test]
    fn slots_end_at_16383() {
        assert_eq!(Slot::new(16383).map(Slot::number), Some(16383));
        assert_eq!(Slot::new(16384), None);
    }

    #[test]
    fn key_slots_are_those_of_the_specification() {
        // CLUSTER KEYSLOT on Redis 7.0.15.
        for (key, expected) in [
            ("123456789", 12739),
            ("a", 15495),
            ("", 0),
            ("foo{bar}", 5061),
            ("bar", 5061),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
        ] {
            assert_eq!(Slot::of_key(key.as_bytes()).number(), expected, "{key:?}");
        }
    }

    #[test]
    fn ranges_are_never_empty() {
        let range = |start, end| SlotRange::new(slot(start), slot(end));
        assert_eq!(range(5, 3), None);
        let one = range(5, 5).unwrap();
        assert_eq!((one.count(), one.to_string()), (1, "5".to_string()));
        let all = range(0, 16383).unwrap();
        assert_eq!((all.count(), all.to_string()), (16384, "0-16383".into()));
        assert_eq!(all.slots().count(), 16384);
    }

    #[test]
    fn ranges_read_as_people_write_them() {
        let set: SlotSet = [0, 1, 2, 5, 7, 8, 16383].map(slot).into_iter().collect();
        assert_eq!(set.to_string(), "0-2,5,7-8,16383");
        assert_eq!(SlotSet::new().to_string(), "");
        assert_eq!(SlotSet::full().to_string(), "0-16383");
        assert_eq!(SlotSet::full().count(), 16384);
    }

    proptest! {
        #[test]
        fn a_set_holds_what_was_put_in(
            ranges in proptest::collection::vec((0..SLOTS, 0..SLOTS), 0..4),
            out in proptest::collection::vec(0..SLOTS, 0..20),
        ) {
            let mut plain = std::collections::BTreeSet::new();
            let mut set = SlotSet::new();
            for (a, b) in ranges {
                let (start, end) = (a.min(b), a.max(b));
                plain.extend(start..=end);
                set.insert_range(SlotRange::new(slot(start), slot(end)).unwrap());
            }
            for number in out {
                prop_assert_eq!(set.contains(slot(number)), plain.contains(&number));
                plain.remove(&number);
                set.remove(slot(number));
                prop_assert!(!set.contains(slot(number)));
            }
            prop_assert_eq!(set.count(), plain.len());
            prop_assert_eq!(set.is_empty(), plain.is_empty());
            prop_assert!(set.iter().map(Slot::number).eq(plain));
        }

        #[test]
        fn ranges_lose_and_invent_nothing(numbers in proptest::collection::vec(0..SLOTS, 0..200)) {
            let set: SlotSet = numbers.iter().copied().map(slot).collect();
            let again: SlotSet = set.ranges().into_iter().collect();
            prop_assert_eq!(&again, &set);
            prop_assert_eq!(set.ranges().iter().map(|r| r.count()).sum::<usize>(), set.count());
        }

        #[test]
        fn difference_and_intersection_split_a_set(
            a in proptest::collection::vec(0..SLOTS, 0..100),
            b in proptest::collection::vec(0..SLOTS, 0..100),
        ) {
            let a: SlotSet = a.into_iter().map(slot).collect();
            let b: SlotSet = b.into_iter().map(slot).collect();
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a);
        }
    }
}
