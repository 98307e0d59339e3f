//! The checksum of RDB files and payloads: CRC-64 with Jones' polynomial, reflected, from 0.

use std::sync::LazyLock;

use crc_fast::CrcParams;
pub(super) use crc_fast::Digest;

static PARAMS: LazyLock<CrcParams> = LazyLock::new(|| {
    const POLYNOMIAL: u64 = 0xad93_d235_94c9_35a9;
    const CHECK: u64 = 0xe9c6_d914_c4b8_d9ca;
    CrcParams::new("CRC-64/REDIS", 64, POLYNOMIAL, 0, true, 0, CHECK)
});

/// A checksum of bytes that follow.
pub(super) fn digest() -> Digest {
    Digest::new_with_params(*PARAMS)
}

/// The checksum of these bytes.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    let mut digest = digest();
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bit by bit, as the specification has it.
    fn slow(bytes: &[u8]) -> u64 {
        let mut sum = 0_u64;
        for byte in bytes {
            sum ^= u64::from(*byte);
            for _ in 0..8 {
                let carry = if sum & 1 == 1 {
                    0xad93_d235_94c9_35a9_u64.reverse_bits()
                } else {
                    0
                };
                sum = (sum >> 1) ^ carry;
            }
        }
        sum
    }

    #[test]
    fn checksum_is_jones() {
        assert_eq!(checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(slow(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    proptest! {
        /// The fast forms have thresholds: all lengths give what the slow form gives, in pieces, too.
        #[test]
        fn checksums_do_not_depend_on_pieces(bytes in prop::collection::vec(any::<u8>(), 0..3_000), cut in 0_usize..3_000) {
            prop_assert_eq!(checksum(&bytes), slow(&bytes));
            let (one, other) = bytes.split_at(cut.min(bytes.len()));
            let mut digest = digest();
            digest.update(one);
            digest.update(other);
            prop_assert_eq!(digest.finalize(), slow(&bytes));
        }
    }
}
