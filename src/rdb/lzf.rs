//! LZF, the compression of long strings in RDB files.

/// Expands `packed` to exactly `length` bytes; `None` if that is impossible, or longer than `limit`.
pub(super) fn expand(packed: &[u8], length: u64, limit: usize) -> Option<Vec<u8>> {
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= limit)?;
    // Three bytes expand to at most 264: never allocate more than the bytes could fill.
    let mut out = Vec::with_capacity(length.min(packed.len().saturating_mul(100)));
    let mut bytes = packed;
    while let Some((control, rest)) = bytes.split_first() {
        bytes = rest;
        let control = usize::from(*control);
        if control < 32 {
            let (literal, rest) = bytes.split_at_checked(control + 1)?;
            out.extend_from_slice(literal);
            bytes = rest;
        } else {
            let mut count = control >> 5;
            if count == 7 {
                let (more, rest) = bytes.split_first()?;
                count += usize::from(*more);
                bytes = rest;
            }
            let (low, rest) = bytes.split_first()?;
            bytes = rest;
            let back = ((control & 0x1f) << 8 | usize::from(*low)) + 1;
            let from = out.len().checked_sub(back)?;
            // Source and destination may overlap.
            for i in from..from + count + 2 {
                let byte = *out.get(i)?;
                out.push(byte);
            }
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}
