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

/// Why it is refused, where one field of the first file is another.
fn refusal(field: &str, value: Value) -> String {
    let mut document = document();
    document["files"][0][field] = value;
    parse(&document).unwrap_err().to_string()
}

#[test]
fn what_makes_no_sense_is_named() {
    assert_eq!(parse(&document()).unwrap().keys(), 6);
    for (field, value, why) in [
        (
            "file",
            json!("../master.rdb"),
            "\"../master.rdb\" is no name",
        ),
        ("file", json!("master-2.rdb"), "is in it twice"),
        ("master", json!("xyz"), "\"xyz\" is no node id"),
        ("slots", json!([[0, 8192]]), "are another file's too"),
        ("slots", json!([[0, 99]]), "are of 8292 slots only"),
        ("slots", json!([[5, 3]]), "slots that there are not"),
        ("slots", json!([[0, 16384]]), "slots that there are not"),
        ("rdb_product", json!("kdb"), "\"kdb\" writes no RDB files"),
        ("crc64", json!("x"), "\"x\" is no checksum"),
        ("began", json!("yesterday"), "\"yesterday\" is no time"),
        ("keys", json!(u64::MAX), "more than can be counted"),
        ("bytes", json!(u64::MAX), "more than can be counted"),
        ("keys", json!(-1), "damaged"),
        (
            "server",
            json!("\u{1b}[2J"),
            "\"\\u{1b}[2J\" holds control characters",
        ),
        ("module_data", json!(["a\rb"]), "holds control characters"),
        (
            "replication_id",
            json!("a\u{2028}b"),
            "holds control characters",
        ),
        (
            "source_addr",
            json!("\u{feff}\u{202e}"),
            "holds control characters",
        ),
        (
            "encodings",
            json!({"\u{9b}2J": 1}),
            "holds control characters",
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

    /// Whatever happened to a file, it is read as one that holds together, or refused in one clean line.
    #[test]
    fn a_mangled_one_never_panics(
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
