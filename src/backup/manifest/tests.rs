use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Two masters, half of the slots each.
fn document() -> Value {
    let file = |n: u32, slots: [u16; 2]| {
        json!({
            "file": format!("master-{n}.rdb"), "master": format!("{n:040x}"), "master_addr": "10.0.0.1:6379",
            "slots": [slots], "source": format!("{n:040x}"), "source_addr": "10.0.0.1:6379",
            "source_role": "master", "server": "redis 7.0.15", "rdb_product": "redis", "rdb_version": 10,
            "replication_id": format!("{n:040x}"), "offset": 7, "began": "2026-11-22T21:33:03Z",
            "bytes": 100, "sha256": "00", "crc64": "0123456789abcdef", "keys": 3, "expiring": 1,
            "databases": {"0": 3}, "encodings": {"string": 3}, "functions": 0, "module_data": [],
            "strays": 0,
        })
    };
    json!({
        "format": FORMAT, "version": VERSION, "made_by": "redis-trib", "began": "2026-11-22T21:33:03Z",
        "ended": "2026-11-22T21:33:04Z", "keys": 6, "bytes": 200,
        "files": [file(1, [0, 8191]), file(2, [8192, 16383])],
    })
}

fn parse(value: &Value) -> Result<Manifest, ManifestError> {
    Manifest::parse(value.to_string().as_bytes())
}

/// The error for a manifest with another value in one field of the first file.
fn refusal(field: &str, value: Value) -> String {
    let mut document = document();
    document["files"][0][field] = value;
    parse(&document).unwrap_err().to_string()
}

#[test]
fn invalid_values_are_named() {
    assert_eq!(parse(&document()).unwrap().keys(), 6);
    for (field, value, why) in [
        (
            "file",
            json!("../master.rdb"),
            "\"../master.rdb\" is not a file name",
        ),
        ("file", json!("master-2.rdb"), "is listed twice"),
        ("master", json!("xyz"), "\"xyz\" is not a node id"),
        ("slots", json!([[0, 8192]]), "belong to another file"),
        ("slots", json!([[0, 99]]), "cover only 8292 slots"),
        ("slots", json!([[5, 3]]), "invalid slots"),
        ("slots", json!([[0, 16384]]), "invalid slots"),
        (
            "rdb_product",
            json!("kdb"),
            "\"kdb\" is not a known product",
        ),
        ("crc64", json!("x"), "\"x\" is not a checksum"),
        ("began", json!("yesterday"), "\"yesterday\" is not a time"),
        ("keys", json!(u64::MAX), "sums over its files are too large"),
        (
            "bytes",
            json!(u64::MAX),
            "sums over its files are too large",
        ),
        ("keys", json!(-1), "damaged"),
        (
            "unread",
            json!({"at": 1, "keys": 1}),
            "the unread part of a file has no type",
        ),
        (
            "server",
            json!("\u{1b}[2J"),
            "\"\\u{1b}[2J\" has control characters",
        ),
        ("module_data", json!(["a\rb"]), "has control characters"),
        (
            "replication_id",
            json!("a\u{2028}b"),
            "has control characters",
        ),
        (
            "source_addr",
            json!("\u{feff}\u{202e}"),
            "has control characters",
        ),
        (
            "encodings",
            json!({"\u{9b}2J": 1}),
            "has control characters",
        ),
    ] {
        let said = refusal(field, value);
        assert!(said.contains(why), "{field}: {said}");
        assert!(!said.contains(is_unsafe), "{said:?}");
    }
    let mut newer = document();
    newer["version"] = json!(2);
    assert!(matches!(parse(&newer), Err(ManifestError::Newer(2))));
    // Deep is not endless.
    let deep = "[".repeat(100_000);
    assert!(matches!(
        Manifest::parse(deep.as_bytes()),
        Err(ManifestError::Damaged(_))
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Manifest::parse(&bytes).is_err());
    }

    /// A damaged file is read as a consistent manifest, or refused with one clean line.
    #[test]
    fn a_damaged_manifest_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = document().to_string().into_bytes();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        match Manifest::parse(&bytes) {
            Ok(read) => {
                let slots: usize = read.files.iter().map(|file| file.slots.count()).sum();
                prop_assert_eq!(slots, usize::from(SLOTS));
                let _ = (read.keys(), read.bytes());
            }
            Err(error) => prop_assert!(!error.to_string().contains(is_unsafe), "{error}"),
        }
    }
}
