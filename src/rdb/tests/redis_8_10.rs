//! The types of Redis 8.8 and later, in the bytes that Redis 8.10.2 writes.

use super::*;

/// HSET h name n city c age 12, with `hash-min-template-entries 1`.
const LISTPACK_DUMP: &str =
    "1d00181800000003008361676504846369747905846e616d6505ff1111000000040000010c01816302816e02ff";
/// The same with `hash-max-listpack-entries 0`.
const ARRAY_DUMP: &str = "1f00181800000003008361676504846369747905846e616d6505ffc00c0163016e";
/// The template in the RDB file: id 0, three fields.
const TEMPLATE: &str = "f20003036167650463697479046e616d65";
/// The hashes in the RDB file: type, key, the rest.
const LISTPACK_REF: &str = "1e01681111000000040000010c01816302816e02ff";
const ARRAY_REF: &str = "20016100c00c0163016e";
/// Two strings by ARINSERT.
const ARRAY: &str = "1c0201010003017801030179";
/// Integers, floats, short and long strings.
const MIXED_ARRAY: &str = "1c0900000300030301780601ffffffffffffffff0902000000000000f83f0f03053165333030150307332e\
     3134313539180008616263646566676821000b68656c6c6f20776f726c642701ff9f724e18090000";
/// Three entries, a group, a consumer with three pending entries.
const STREAM: &str = "1b011000000000000000010000000000000001c3273011300000001400030100010101816102000102200a400c0004200900\
     01e00009401520130101ff03030101010000030101670301030300000000000000010000000000000001008a0129a2010000\
     0100000000000000020000000000000001008a0129a20100000100000000000000030000000000000001008a0129a2010000\
     01010163008a0129a2010000008a0129a2010000030000000000000001000000000000000100000000000000020000000000\
     000001000000000000000300000000000000010040644064000000";
/// The same after XNACK of one of them.
const RELEASED: &str = "1b011000000000000000010000000000000001c3273011300000001400030100010101816102000102200a400c0004200900\
     01e00009401520130101ff03030101010000030101670301030300000000000000010000000000000001008a0129a2010000\
     010000000000000002000000000000000100000000000000000100000000000000030000000000000001008a0129a2010000\
     01010163008a0129a2010000008a0129a2010000020000000000000001000000000000000100000000000000030000000000\
     000001010000000000000002000000000000000140644064000000";
/// An empty bitmap, as the tests of Redis 8.12 have it.
const BITMAP: &str = "2100080000000000000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn template() -> Vec<u8> {
    bytes(TEMPLATE)
}

fn array() -> Vec<u8> {
    bytes(ARRAY)
}

fn released() -> Vec<u8> {
    bytes(RELEASED)
}

/// As DUMP answers.
fn dump(value: &[u8]) -> Vec<u8> {
    payload::frame(value.to_vec(), 15)
}

/// A file of version 15 with these records.
fn file(records: &[&[u8]]) -> Vec<u8> {
    file_of(b"REDIS0015", &records.concat())
}

/// The values, each as a record with the key `k`.
fn values() -> Vec<Vec<u8>> {
    [
        bytes(LISTPACK_DUMP),
        bytes(ARRAY_DUMP),
        array(),
        bytes(MIXED_ARRAY),
        bytes(STREAM),
        released(),
    ]
    .to_vec()
}

fn record(value: &[u8]) -> Vec<u8> {
    [&value[..1], b"\x01k", &value[1..]].concat()
}

fn payload_of(entry: &Entry) -> &[u8] {
    let Value::Payload(payload) = &entry.value else {
        panic!("{entry:?}");
    };
    payload
}

#[test]
fn values_are_cut_out_whole() {
    for value in values() {
        let bytes = file(&[&record(&value), &[0, 1, b'z', 1, b'v']]);
        let records = read_all(&bytes, Keep::UpTo(1 << 20)).unwrap();
        assert_eq!(records.len(), 3);
        let Record::Entry(entry) = &records[0] else {
            panic!("{records:?}");
        };
        assert_eq!(Payload::read(payload_of(entry)).unwrap().value, value);
        let skipped = read_all(&bytes, Keep::Nothing).unwrap();
        assert_eq!(skipped.len(), 3);
    }
    let bitmap = file_of(b"REDIS0016", &record(&bytes(BITMAP)));
    assert_eq!(read_all(&bitmap, Keep::Nothing).unwrap().len(), 2);
}

#[test]
fn references_to_templates_become_payloads() {
    let records = [template(), bytes(LISTPACK_REF), bytes(ARRAY_REF)];
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let read = read_all(&file(&records), Keep::UpTo(1000)).unwrap();
    let [
        Record::Entry(listpack),
        Record::Entry(array),
        Record::End(_),
    ] = read.as_slice()
    else {
        panic!("{read:?}");
    };
    for (entry, encoding, expected) in [
        (listpack, Encoding::TemplateListpack, LISTPACK_DUMP),
        (array, Encoding::TemplateArray, ARRAY_DUMP),
    ] {
        assert_eq!(entry.encoding, encoding);
        let payload = Payload::read(payload_of(entry)).unwrap();
        assert_eq!(payload.encoding(), Some(encoding));
        assert_eq!(payload.version, 15);
        // Redis 8.10.2 takes fields one by one, too.
        assert_eq!(payload.value[1], 1);
        let theirs = dump(&bytes(expected));
        assert_eq!(same_value(payload_of(entry), &theirs), Sameness::Same);
    }
    // With the field names, this one is too large.
    let read = read_all(&file(&records), Keep::UpTo(30)).unwrap();
    assert!(
        matches!(
            &read[0],
            Record::Entry(Entry {
                value: Value::TooLarge(35),
                ..
            })
        ),
        "{read:?}"
    );
}

#[test]
fn damaged_templates_are_named() {
    let template = template();
    let (listpack, array) = (bytes(LISTPACK_REF), bytes(ARRAY_REF));
    let fail = |records: &[&[u8]]| {
        for keep in [Keep::Nothing, Keep::UpTo(1000)] {
            let error = read_all(&file(records), keep).unwrap_err();
            assert_eq!(error.unread(), None);
            if keep == Keep::Nothing {
                continue;
            }
            return error.to_string();
        }
        unreachable!()
    };
    for hash in [&listpack, &array] {
        let said = fail(&[hash]);
        assert!(
            said.contains("refers to template 0, which the file does not have"),
            "{said}"
        );
    }
    assert!(fail(&[&template, &template]).contains("two hash templates with the same id"));
    assert!(fail(&[&[0xf2, 0, 0]]).contains("without fields"));
    // A template of two fields for three values.
    let two = [&[0xf2, 0, 2][..], b"\x03age\x04city"].concat();
    assert!(fail(&[&two, &listpack]).contains("more or fewer values than fields"));
    let mut text = listpack.clone();
    text[10] = 0x81;
    assert!(fail(&[&template, &text]).contains("without the id of its template"));

    let whole = file(&[&template, &listpack, &array]);
    for cut in 0..whole.len() {
        let error = read_all(&whole[..cut], Keep::UpTo(1000)).unwrap_err();
        assert!(
            matches!(error, RdbError::Truncated { .. }),
            "{cut}: {error}"
        );
    }
    // Valkey has no templates.
    let valkey = read_all(&file_of(b"VALKEY080", &template), Keep::Nothing).unwrap_err();
    assert!(valkey.to_string().contains("record 242"), "{valkey}");
}

/// A hash whose values have no id of their template.
#[test]
fn an_empty_listpack_of_values_is_no_hash() {
    let empty = b"\x07\x07\x00\x00\x00\x00\x00\xff";
    // No field names either.
    let names = b"\x00\x07\x07\x00\x00\x00\x00\x00\xff";
    let hash = dump(&[&[0x1d][..], names, empty].concat());
    assert_eq!(older(&hash), None);
    assert_eq!(
        same_value(&hash, &dump(&bytes(LISTPACK_DUMP))),
        Sameness::Unknown
    );
}

#[test]
fn values_are_compared_by_what_they_hold() {
    let values = values();
    for (i, one) in values.iter().enumerate() {
        for (k, other) in values.iter().enumerate() {
            // The first two are the same hash.
            let expected = match i == k || (i < 2 && k < 2) {
                true => Sameness::Same,
                false => Sameness::Different,
            };
            assert_eq!(same_value(&dump(one), &dump(other)), expected, "{i} {k}");
        }
    }
    let bitmap = payload::frame(bytes(BITMAP), 16);
    let mut longer = bytes(BITMAP);
    longer[1] = 1;
    let longer = payload::frame(longer, 16);
    assert_eq!(same_value(&bitmap, &bitmap), Sameness::Same);
    assert_eq!(same_value(&bitmap, &longer), Sameness::Different);
    let mut later = array();
    // The index of the last ARINSERT.
    later[3] = 2;
    assert_eq!(
        same_value(&dump(&array()), &dump(&later)),
        Sameness::Different
    );
}

#[test]
fn older_servers_get_an_older_form() {
    let forms = |value: &[u8]| {
        let first = dump(value);
        let mut next = older(&first);
        let mut names = Vec::new();
        while let Some((payload, encoding)) = next {
            assert_eq!(same_value(&first, &payload), Sameness::Same, "{encoding}");
            let read = Payload::read(&payload).unwrap();
            assert_eq!(read.encoding(), Some(encoding));
            assert_eq!(read.version, encoding.version().max(6));
            let bytes = file(&[&record(read.value)]);
            assert_eq!(
                read_all(&bytes, Keep::Nothing).unwrap().len(),
                2,
                "{encoding}"
            );
            names.push(encoding.word());
            next = older(&payload);
        }
        names
    };
    assert_eq!(forms(&bytes(LISTPACK_DUMP)), ["hash"]);
    assert_eq!(forms(&bytes(ARRAY_DUMP)), ["hash"]);
    assert_eq!(
        forms(&bytes(STREAM)),
        ["stream-4", "stream-3", "stream-2", "stream"]
    );
    // Without a form for entries that no consumer has.
    assert_eq!(forms(&released()), [""; 0]);
    assert_eq!(forms(&array()), [""; 0]);
    assert_eq!(forms(&bytes(BITMAP)), [""; 0]);
    // SADD s x y, RPUSH l a b, ZADD z 1.5 a of Redis 8.2.3.
    assert_eq!(forms(&bytes("140d0d0000000200817802817902ff")), ["set"]);
    assert_eq!(
        forms(&bytes("1201020d0d0000000200816102816202ff")),
        ["list"]
    );
    assert_eq!(
        forms(&bytes("110f0f00000002008161028331 2e3504ff")),
        ["zset-2"]
    );
}

#[test]
fn warnings_know_the_older_forms() {
    let redis = |major, minor| ServerVersion {
        product: Product::Redis,
        numbers: [major, minor, 0],
    };
    for (encoding, server, expected) in [
        (Encoding::TemplateListpack, redis(6, 2), Some(true)),
        (Encoding::Stream5, redis(7, 0), Some(true)),
        (Encoding::Array, redis(8, 6), Some(false)),
        (Encoding::Array, redis(8, 8), Some(true)),
        (Encoding::HashMetadata, redis(7, 2), Some(false)),
        (Encoding::Array, redis(99, 0), None),
    ] {
        assert_eq!(
            encoding.is_accepted_by(server),
            expected,
            "{encoding} {server}"
        );
    }
}

proptest! {
    /// A damaged file is an error; a damaged value without a checksum is one, too, or another value.
    #[test]
    fn damage_never_panics(
        which in 0_usize..8,
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let records = match which {
            6 => [template(), bytes(LISTPACK_REF)].concat(),
            7 => [template(), bytes(ARRAY_REF)].concat(),
            value => record(&values()[value]),
        };
        let good = file(&[&records]);
        let expected = read_all(&good, Keep::UpTo(1 << 20)).unwrap();
        let mut damaged = good.clone();
        let at = at.index(damaged.len());
        damaged[at] ^= 1 << bit;
        if let Some(cut) = cut {
            damaged.truncate(cut.index(damaged.len()));
        }
        match read_all(&damaged, Keep::UpTo(1 << 20)) {
            // A version without a checksum, or one that knows the same records.
            Ok(read) => prop_assert!(at < 9 || read == expected),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        let mut value = records;
        let at = at % value.len();
        value[at] ^= 1 << bit;
        let _ = read_all(&file(&[&value]), Keep::UpTo(1 << 20));
        let value = payload::frame(value, 15);
        let _ = (older(&value), same_value(&value, &dump(&array())));
    }
}
