//! Files of every server of the matrix (fixtures/rdb), whole and damaged.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::inspect::{Inspection, Sums, inspect_bytes};
use super::unpack::unpack;
use crate::cluster::slot::SlotSet;
use crate::rdb::{Checksum, Keep, RdbError, Reader, Record};

const FILES: [&str; 8] = [
    "redis-6.2",
    "redis-7.0",
    "redis-8.2",
    "redis-8.6",
    "redis-8.10",
    "valkey-8.0",
    "valkey-8.1",
    "valkey-9.1",
];

fn recorded(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/rdb/{name}.rdb"));
    fs::read(path).unwrap()
}

fn inspected(bytes: Vec<u8>) -> Result<Inspection, String> {
    let bytes = unpack(std::io::Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let found = inspect_bytes(bytes, &SlotSet::full(), Sums::Whole, &|_| {});
    found.map_err(|error| error.to_string())
}

/// All records, and the checksum at the end.
fn records(bytes: &[u8]) -> Result<(Vec<Record>, Checksum), RdbError> {
    let mut reader = Reader::new(bytes, Keep::UpTo(1 << 20))?;
    let mut records = Vec::new();
    loop {
        match reader.record()? {
            Record::End(checksum) => return Ok((records, checksum)),
            record => records.push(record),
        }
    }
}

#[test]
fn files_of_all_servers_are_read() {
    for name in FILES {
        let found = inspected(recorded(name)).unwrap();
        assert_eq!(
            found.server.replace(' ', "-").find(name),
            Some(0),
            "{}",
            found.server
        );
        assert_eq!(found.unread, None);
        assert!(
            found.keys > 20 && found.encodings.len() > 5,
            "{name}: {found:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// A damaged file is an error, or has the same values: a bit of its checksum may say that there is none.
    #[test]
    fn damaged_files_are_errors(file in 0..FILES.len(), place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let whole = recorded(FILES[file]);
        let at = place.index(whole.len());
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << bit;
        if let Ok((damaged, _)) = records(&flipped) {
            prop_assert_eq!(damaged, records(&whole).unwrap().0);
        }
        prop_assert!(records(&whole[..at]).is_err());
        prop_assert!(inspected(whole[..at].to_vec()).is_err());
    }

    /// The same for packed files.
    #[test]
    fn damaged_packed_files_are_errors(is_gzip: bool, place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        use std::io::Write;
        let plain = recorded(FILES[0]);
        let packed = match is_gzip {
            true => {
                let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packed.write_all(&plain).unwrap();
                packed.finish().unwrap()
            }
            false => ruzstd::encoding::compress_to_vec(
                plain.as_slice(),
                ruzstd::encoding::CompressionLevel::Fastest,
            ),
        };
        let whole = inspected(packed.clone()).unwrap();
        let at = place.index(packed.len());
        let mut flipped = packed.clone();
        flipped[at] ^= 1 << bit;
        if let Ok(found) = inspected(flipped) {
            prop_assert_eq!(found, whole);
        }
        let _ = inspected(packed[..at].to_vec());
    }
}
