//! Roaring bitmaps (RoaringFormatSpec, the portable form of 64 bits): the same bits can be packed in several ways.

use super::packed::Cursor;

/// The first bytes of a bitmap of 32 bits, without and with containers of runs.
const WITHOUT_RUNS: u32 = 12_346;
const WITH_RUNS: u32 = 12_347;
/// From so many containers on, their offsets are written even if there are runs.
const OFFSETS_FROM: u32 = 4;
/// The most bits of a container that is a list of them.
const LISTED: u32 = 4096;
/// The words of a container that has a bit for each number.
const WORDS: usize = 1024;

/// The bits of a container, packed in the one way that is smaller: listed, or all words.
#[derive(Debug, PartialEq)]
pub(super) struct Container {
    /// The upper 48 bits of its numbers.
    key: u64,
    bits: Vec<u8>,
}

/// Reads a bitmap; `None` if it is invalid, or needs more than `room` bytes.
pub(super) fn containers(bytes: &[u8], mut room: usize) -> Option<Vec<Container>> {
    let mut cursor = Cursor(bytes);
    let mut all = Vec::new();
    for _ in 0..u64::from_le_bytes(cursor.array()?) {
        let high = u64::from(u32::from_le_bytes(cursor.array()?));
        for (low, words) in bitmap(&mut cursor, &mut room)? {
            all.push(Container {
                key: high << 16 | u64::from(low),
                bits: words,
            });
        }
    }
    cursor.0.is_empty().then_some(all)
}

/// Reads a bitmap of 32 bits: the upper 16 bits of each container, and its bits.
fn bitmap(cursor: &mut Cursor<'_>, room: &mut usize) -> Option<Vec<(u16, Vec<u8>)>> {
    let cookie = u32::from_le_bytes(cursor.array()?);
    let (count, runs) = if cookie == WITHOUT_RUNS {
        (u32::from_le_bytes(cursor.array()?), None)
    } else if cookie & 0xffff == WITH_RUNS {
        let count = (cookie >> 16) + 1;
        (count, Some(cursor.bytes(count.div_ceil(8) as usize)?))
    } else {
        return None;
    };
    let heads = cursor.bytes((count as usize).checked_mul(4)?)?;
    if runs.is_none() || count >= OFFSETS_FROM {
        cursor.bytes((count as usize).checked_mul(4)?)?;
    }
    let mut all = Vec::new();
    for (i, head) in heads.chunks_exact(4).enumerate() {
        let key = u16::from_le_bytes([head[0], head[1]]);
        let cardinality = u32::from(u16::from_le_bytes([head[2], head[3]])) + 1;
        let is_runs = runs.is_some_and(|runs| runs[i / 8] >> (i % 8) & 1 == 1);
        let bits = packed(&container(cursor, cardinality, is_runs)?);
        *room = room.checked_sub(bits.len() + size_of::<Container>())?;
        if !bits.is_empty() {
            all.push((key, bits));
        }
    }
    Some(all)
}

fn container(cursor: &mut Cursor<'_>, cardinality: u32, is_runs: bool) -> Option<[u64; WORDS]> {
    let mut words = [0; WORDS];
    let mut set = |number: u16| words[usize::from(number) / 64] |= 1 << (number % 64);
    if is_runs {
        for _ in 0..u16::from_le_bytes(cursor.array()?) {
            let start = u16::from_le_bytes(cursor.array()?);
            let more = u16::from_le_bytes(cursor.array()?);
            (start..=start.checked_add(more)?).for_each(&mut set);
        }
    } else if cardinality <= LISTED {
        for _ in 0..cardinality {
            set(u16::from_le_bytes(cursor.array()?));
        }
    } else {
        for word in &mut words {
            *word = u64::from_le_bytes(cursor.array()?);
        }
    }
    Some(words)
}

fn packed(words: &[u64; WORDS]) -> Vec<u8> {
    let count: u32 = words.iter().map(|word| word.count_ones()).sum();
    if count > LISTED {
        return words.iter().flat_map(|word| word.to_le_bytes()).collect();
    }
    let mut numbers = Vec::with_capacity(2 * count as usize);
    for (i, word) in words.iter().enumerate() {
        let mut left = *word;
        while left != 0 {
            let number = 64 * i + left.trailing_zeros() as usize;
            numbers.extend_from_slice(&(number as u16).to_le_bytes());
            left &= left - 1;
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bitmap of 64 bits with one container of 32 bits.
    fn whole(bitmap: &[u8]) -> Vec<u8> {
        [&1_u64.to_le_bytes()[..], &7_u32.to_le_bytes(), bitmap].concat()
    }

    fn words(numbers: &[u16]) -> Vec<u8> {
        numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect()
    }

    /// The numbers from 10 to 10 + `count` as a list, or as words.
    fn listed(count: u16) -> Vec<u8> {
        let numbers: Vec<u16> = (10..10 + count).collect();
        let mut bytes = WITHOUT_RUNS.to_le_bytes().to_vec();
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(words(&[3, count - 1]));
        bytes.extend(16_u32.to_le_bytes());
        if u32::from(count) <= LISTED {
            bytes.extend(words(&numbers));
        } else {
            let mut bits = [0_u8; 8192];
            for number in numbers {
                bits[usize::from(number) / 8] |= 1 << (number % 8);
            }
            bytes.extend(bits);
        }
        bytes
    }

    /// The same as runs.
    fn runs(count: u16) -> Vec<u8> {
        let mut bytes = WITH_RUNS.to_le_bytes().to_vec();
        bytes.push(1);
        bytes.extend(words(&[3, count - 1, 2, 10, 0, 11, count - 2]));
        bytes
    }

    #[test]
    fn bits_are_compared_and_not_how_they_are_packed() {
        for count in [3, 4096, 4097, 30_000] {
            let (one, other) = (whole(&listed(count)), whole(&runs(count)));
            let room = 1 << 20;
            assert_eq!(containers(&one, room), containers(&other, room), "{count}");
            assert_eq!(containers(&one, room).unwrap()[0].key, 7 << 16 | 3);
            assert_ne!(
                containers(&one, room),
                containers(&whole(&listed(count + 1)), room)
            );
            assert_eq!(containers(&one, 1), None);
            for cut in 0..other.len() {
                assert_eq!(containers(&other[..cut], room), None, "{cut}");
            }
        }
        assert_eq!(containers(&[0; 8], 0), Some(Vec::new()));
    }
}
