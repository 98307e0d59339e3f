//! Small collections that are one string: listpacks, ziplists, intsets, zipmaps. Items are read one by one, numbers
//! as the decimal text that clients see. `None` means that the bytes are invalid, or that there is no room for the items:
//! a number of two bytes takes 60 as an item.

/// The bytes that an item takes besides its own: its place in a list or a map, and what the allocator adds.
const ITEM: usize = 56;
/// The limit of the items of one listpack that are not kept, in bytes.
const PASSING: usize = 512 << 20;

/// Takes an item of that length from the room that is left.
pub(super) fn charge(room: &mut usize, length: usize) -> Option<()> {
    *room = room.checked_sub(length.checked_add(ITEM)?)?;
    Some(())
}

/// Items, as far as there is room for them.
struct Items<'a> {
    items: Vec<Vec<u8>>,
    room: &'a mut usize,
}

impl<'a> Items<'a> {
    fn new(room: &'a mut usize) -> Self {
        let items = Vec::new();
        Self { items, room }
    }

    fn push(&mut self, item: Vec<u8>) -> Option<()> {
        charge(self.room, item.len())?;
        self.items.push(item);
        Some(())
    }
}

/// Bytes, read from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Reads a signed little-endian number of `width` bytes.
    fn number(&mut self, width: usize) -> Option<i64> {
        let bytes = self.bytes(width)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..width].copy_from_slice(bytes);
        Some(i64::from_le_bytes(wide))
    }

    fn text(&mut self, width: usize) -> Option<Vec<u8>> {
        Some(decimal(self.number(width)?))
    }
}

pub(super) fn decimal(number: i64) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// A listpack whose items are not kept.
pub(super) fn listpack(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut room = PASSING;
    listpack_within(bytes, &mut room)
}

/// listpack.c
pub(super) fn listpack_within(bytes: &[u8], room: &mut usize) -> Option<Vec<Vec<u8>>> {
    let mut cursor = Cursor(bytes);
    let total = u32::from_le_bytes(cursor.array()?);
    if total as usize != bytes.len() {
        return None;
    }
    cursor.bytes(2)?;
    let mut items = Items::new(room);
    loop {
        let before = cursor.0.len();
        let first = cursor.byte()?;
        let item = match first {
            0xff => return cursor.0.is_empty().then_some(items.items),
            0x00..=0x7f => decimal(i64::from(first)),
            0x80..=0xbf => cursor.bytes(usize::from(first & 0x3f))?.to_vec(),
            0xc0..=0xdf => decimal(short(first, cursor.byte()?)),
            0xe0..=0xef => {
                let length = usize::from(first & 0x0f) << 8 | usize::from(cursor.byte()?);
                cursor.bytes(length)?.to_vec()
            }
            0xf0 => {
                let length = u32::from_le_bytes(cursor.array()?);
                cursor.bytes(length as usize)?.to_vec()
            }
            0xf1 => cursor.text(2)?,
            0xf2 => cursor.text(3)?,
            0xf3 => cursor.text(4)?,
            0xf4 => cursor.text(8)?,
            _ => return None,
        };
        // The length of the item follows, for reading backwards.
        let back = match before - cursor.0.len() {
            0..=127 => 1,
            128..=16_383 => 2,
            16_384..=2_097_151 => 3,
            2_097_152..=268_435_455 => 4,
            _ => 5,
        };
        cursor.bytes(back)?;
        items.push(item)?;
    }
}

/// The first item of a listpack, which is a number, and the number of items; `None` for 65,535 and more.
pub(super) fn listpack_head(bytes: &[u8]) -> Option<(i64, Option<u16>)> {
    let mut cursor = Cursor(bytes);
    let total = u32::from_le_bytes(cursor.array()?);
    if total as usize != bytes.len() {
        return None;
    }
    let items = u16::from_le_bytes(cursor.array()?);
    let first = cursor.byte()?;
    let number = match first {
        0x00..=0x7f => i64::from(first),
        0xc0..=0xdf => short(first, cursor.byte()?),
        0xf1 => cursor.number(2)?,
        0xf2 => cursor.number(3)?,
        0xf3 => cursor.number(4)?,
        0xf4 => cursor.number(8)?,
        _ => return None,
    };
    Some((number, (items != u16::MAX).then_some(items)))
}

/// A number of 13 bits, the highest of them the sign.
fn short(high: u8, low: u8) -> i64 {
    let number = i64::from(high & 0x1f) << 8 | i64::from(low);
    if number < 1 << 12 {
        number
    } else {
        number - (1 << 13)
    }
}

/// ziplist.c
pub(super) fn ziplist(bytes: &[u8], room: &mut usize) -> Option<Vec<Vec<u8>>> {
    let mut cursor = Cursor(bytes);
    let total = u32::from_le_bytes(cursor.array()?);
    if total as usize != bytes.len() {
        return None;
    }
    cursor.bytes(6)?;
    let mut items = Items::new(room);
    loop {
        // The length of the previous item.
        match cursor.byte()? {
            0xff => return cursor.0.is_empty().then_some(items.items),
            0xfe => drop(cursor.bytes(4)?),
            _ => {}
        }
        let first = cursor.byte()?;
        items.push(match first {
            0x00..=0x3f => cursor.bytes(usize::from(first))?.to_vec(),
            0x40..=0x7f => {
                let length = usize::from(first & 0x3f) << 8 | usize::from(cursor.byte()?);
                cursor.bytes(length)?.to_vec()
            }
            0x80..=0xbf => {
                let length = u32::from_be_bytes(cursor.array()?);
                cursor.bytes(length as usize)?.to_vec()
            }
            0xc0 => cursor.text(2)?,
            0xd0 => cursor.text(4)?,
            0xe0 => cursor.text(8)?,
            0xf0 => cursor.text(3)?,
            0xfe => cursor.text(1)?,
            0xf1..=0xfd => decimal(i64::from(first & 0x0f) - 1),
            _ => return None,
        })?;
    }
}

/// intset.c
pub(super) fn intset(bytes: &[u8], room: &mut usize) -> Option<Vec<Vec<u8>>> {
    let mut cursor = Cursor(bytes);
    let width = u32::from_le_bytes(cursor.array()?) as usize;
    let count = u32::from_le_bytes(cursor.array()?) as usize;
    if !matches!(width, 2 | 4 | 8) || cursor.0.len() != width.checked_mul(count)? {
        return None;
    }
    let mut items = Items::new(room);
    for _ in 0..count {
        items.push(cursor.text(width)?)?;
    }
    Some(items.items)
}

/// zipmap.c
pub(super) fn zipmap(bytes: &[u8], room: &mut usize) -> Option<Vec<Vec<u8>>> {
    let mut cursor = Cursor(bytes);
    cursor.byte()?;
    let mut items = Items::new(room);
    let mut is_value = false;
    loop {
        let length = match cursor.byte()? {
            0xff => return cursor.0.is_empty().then_some(items.items),
            0xfe => u32::from_le_bytes(cursor.array()?) as usize,
            length => usize::from(length),
        };
        let free = if is_value { cursor.byte()? } else { 0 };
        items.push(cursor.bytes(length)?.to_vec())?;
        cursor.bytes(usize::from(free))?;
        is_value = !is_value;
    }
}
