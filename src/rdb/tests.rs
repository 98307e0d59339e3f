//! The reader on invalid bytes. Files of real servers are compared in `tests/it/backup.rs`.

use proptest::prelude::*;

use super::*;
use crate::cluster::parse::{Product, Version as ServerVersion};

mod redis_8_10;

/// `REDIS0011`, then these bytes, the end and the right checksum.
fn file(records: &[u8]) -> Vec<u8> {
    file_of(b"REDIS0011", records)
}

fn file_of(header: &[u8], records: &[u8]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(records);
    bytes.push(255);
    let sum = crc64::checksum(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn read_all(bytes: &[u8], keep: Keep) -> Result<Vec<Record>, RdbError> {
    let mut reader = Reader::new(bytes, keep)?;
    let mut records = Vec::new();
    loop {
        let record = reader.record()?;
        let ended = matches!(record, Record::End(_));
        records.push(record);
        if ended {
            return Ok(records);
        }
    }
}

fn entry(bytes: &[u8]) -> Entry {
    let records = read_all(bytes, Keep::UpTo(1 << 20)).unwrap();
    match records.into_iter().next() {
        Some(Record::Entry(entry)) => entry,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_entry_becomes_what_dump_answers() {
    // Redis 7.0.15: SET a 1; DUMP a, except for the version: strings are older than it.
    let entry = entry(&file(&[0, 1, b'a', 0xc0, 1]));
    let Value::Payload(payload) = entry.value else {
        panic!("no payload");
    };
    assert_eq!(entry.key, b"a");
    assert_eq!(&payload[..5], [0, 0xc0, 1, 6, 0]);
    assert_eq!(Payload::read(&payload).unwrap().version, 6);
}

/// What is lent stays as it is while the reader goes on, in any order with what is appended or skipped.
#[test]
fn strings_are_lent_appended_or_skipped() {
    let length = |number: u8| usize::from(number % 50);
    let text = |number: u8| vec![number; length(number)];
    let mut records = Vec::new();
    for number in 0..200 {
        records.extend([0, 1, number, length(number) as u8]);
        records.extend(text(number));
    }
    let bytes = file(&records);
    for buffer in [1, 7, 64, 4096] {
        let mut reader =
            Reader::with_buffers(&bytes[..], Keep::ButText(40), Buffers::of(buffer)).unwrap();
        let mut lent = Vec::new();
        loop {
            let entry = match reader.record().unwrap() {
                Record::Entry(entry) => entry,
                Record::End(Checksum::Right(_)) => break,
                other => panic!("{other:?}"),
            };
            let number = entry.key[0];
            if length(number) > 40 {
                assert_eq!(entry.value, Value::TooLarge(length(number) as u64));
                continue;
            }
            assert_eq!(entry.value, Value::Ahead(length(number) as u64));
            match number % 3 {
                0 => lent.push((number, reader.lend().unwrap())),
                1 => {
                    let mut out = b"before".to_vec();
                    reader.append(&mut out).unwrap();
                    assert_eq!(out, [&b"before"[..], &text(number)].concat());
                }
                _ => {}
            }
            // Some come back meanwhile, and their buffers are used again.
            if lent.len() > 5 {
                let (number, pieces) = lent.remove(0);
                assert_eq!(
                    pieces
                        .iter()
                        .map(|piece| &**piece)
                        .collect::<Vec<_>>()
                        .concat(),
                    text(number)
                );
            }
        }
        for (number, pieces) in lent {
            let is = pieces.iter().map(|piece| &**piece).collect::<Vec<_>>();
            assert_eq!(is.concat(), text(number), "buffer of {buffer}");
        }
    }
}

#[test]
fn a_payload_in_pieces_is_the_same() {
    for length in [0, 1, 63, 64, 20_000] {
        let text = vec![b'x'; length];
        for cut in [0, length / 3, length] {
            let (one, other) = text.split_at(cut);
            let pieces = payload_of_pieces(vec![one.to_vec().into(), other.to_vec().into()]);
            let is = pieces.iter().map(|piece| &**piece).collect::<Vec<_>>();
            assert_eq!(is.concat(), payload_of_text(&text));
        }
    }
}

#[test]
fn payloads_of_real_servers() {
    // Redis 6.2.5, SADD s x y.
    let six = b"\x02\x02\x01y\x01x\x09\x00\xdc\x2d\x3a\xf1\xe7\xb6\xdfA";
    // Redis 8.2.3 and Valkey 9.1.2, the same.
    let eight =
        b"\x14\x0d\x0d\x00\x00\x00\x02\x00\x81x\x02\x81y\x02\xff\x0c\x00\xbe9\xd2\xd8\xd0M\xe0J";
    let valkey =
        b"\x14\x0d\x0d\x00\x00\x00\x02\x00\x81x\x02\x81y\x02\xffP\x00\xbae/\x89\xb45\x19\xf7";
    for dump in [&six[..], eight, valkey] {
        let payload = Payload::read(dump).unwrap();
        let (framed, encoding) = portable(dump.to_vec());
        assert_eq!(encoding, payload.encoding());
        assert_eq!(Payload::read(&framed).unwrap().value, payload.value);
        for other in [&six[..], eight, valkey] {
            assert_eq!(same_value(dump, other), Sameness::Same);
        }
        assert_eq!(same_value(dump, &framed), Sameness::Same);
    }
    let (framed, _) = portable(valkey.to_vec());
    assert_eq!(Payload::read(&framed).unwrap().version, 11);
    let mut broken = six.to_vec();
    broken[3] ^= 1;
    assert_eq!(Payload::read(&broken), Err(NotAPayload));
    assert_eq!(portable(broken.clone()), (broken, None));
}

#[test]
fn types_above_21_depend_on_the_product() {
    assert_eq!(
        Encoding::of(22, Dialect::Redis, 12),
        Some(Encoding::HashMetadataPreGa)
    );
    assert_eq!(
        Encoding::of(22, Dialect::Valkey, 80),
        Some(Encoding::ValkeyHash2)
    );
    assert_eq!(Encoding::of(24, Dialect::Valkey, 80), None);
    assert_eq!(Encoding::of(8, Dialect::Redis, 15), None);
    // Redis 8.8 may have a rate limiter of that number.
    assert_eq!(Encoding::of(33, Dialect::Redis, 14), None);
    assert_eq!(Encoding::of(33, Dialect::Redis, 16), Some(Encoding::Bitmap));
    assert_eq!(Encoding::of(33, Dialect::Valkey, 80), None);
}

#[test]
fn a_server_accepts_the_types_it_knows() {
    let server = |product, major, minor| ServerVersion {
        product,
        numbers: [major, minor, 0],
    };
    let (redis, valkey) = (Product::Redis, Product::Valkey);
    for (encoding, server, expected) in [
        // In the form of a stream-2.
        (Encoding::Stream3, server(redis, 7, 0), Some(true)),
        (Encoding::Stream3, server(redis, 7, 2), Some(true)),
        (Encoding::HashMetadata, server(redis, 7, 4), Some(true)),
        (Encoding::HashMetadata, server(valkey, 8, 1), Some(false)),
        // In the form of Valkey, and of Redis.
        (Encoding::HashMetadata, server(valkey, 9, 0), Some(true)),
        (Encoding::ValkeyHash2, server(redis, 7, 4), Some(true)),
        (Encoding::ValkeyHash2, server(redis, 7, 2), Some(false)),
        // Between its own version and the last that it shares with Redis.
        (Encoding::Array, server(valkey, 9, 0), Some(false)),
        (Encoding::ValkeyHash2, server(valkey, 9, 0), Some(true)),
        (Encoding::Stream3, server(valkey, 9, 1), Some(true)),
        (Encoding::String, server(redis, 99, 0), None),
    ] {
        assert_eq!(
            encoding.is_accepted_by(server),
            expected,
            "{encoding} {server}"
        );
    }
}

#[test]
fn hashes_whose_fields_expire_are_converted_between_the_products() {
    let valkey = |times: [i64; 2]| {
        let mut value = vec![22, 2];
        for (field, time) in ["a", "b"].into_iter().zip(times) {
            value.extend([1, field.as_bytes()[0], 1, b'v']);
            value.extend(time.to_le_bytes());
        }
        super::payload::frame(value, 80)
    };
    let encoding = |payload: &[u8]| Payload::read(payload).unwrap().encoding();
    for times in [[-1, 4_102_444_800_000], [1, i64::MAX], [5, 5]] {
        let one = valkey(times);
        let (other, kind) = translated(&one).unwrap();
        assert_eq!(kind, Encoding::HashMetadata);
        assert_eq!(encoding(&other), Some(kind));
        assert_eq!(same_value(&one, &other), Sameness::Same);
        assert_eq!(translated(&other), Some((one, Encoding::ValkeyHash2)));
    }
    let (plain, kind) = translated(&valkey([-1, -1])).unwrap();
    assert_eq!((kind, encoding(&plain)), (Encoding::Hash, Some(kind)));
    assert_eq!(same_value(&plain, &valkey([-1, -1])), Sameness::Same);
    assert_ne!(same_value(&plain, &valkey([-1, 9])), Sameness::Same);
    assert_eq!(translated(&plain), None);
    assert_eq!(translated(b"nothing"), None);
}

#[test]
fn unknown_types_and_opcodes_are_named() {
    let unknown = read_all(&file(&[60, 1, b'a', 0]), Keep::Nothing).unwrap_err();
    assert!(
        unknown.to_string().contains("type 60 at byte 9"),
        "{unknown}"
    );
    let first = unknown.unread().unwrap();
    assert_eq!((first.number, first.at), (60, 9));
    assert_eq!(first.to_string(), "values of type 60");
    assert!(matches!(unknown, RdbError::UnknownType { key: Some(key), .. } if key == b"a"));
    let opcode = read_all(&file(&[241, 0]), Keep::Nothing).unwrap_err();
    assert!(opcode.to_string().contains("record 241"), "{opcode}");
    assert_eq!(opcode.unread().unwrap().to_string(), "records of type 241");
    let importing = file_of(b"VALKEY080", &[243, 0]);
    let importing = read_all(&importing, Keep::Nothing).unwrap_err();
    assert_eq!(importing.unread(), None);
}

/// What follows an unknown record is not read, but the file is checked to its end.
#[test]
fn the_rest_of_a_file_is_verified() {
    let rest = |bytes: &[u8]| {
        let mut reader = Reader::new(bytes, Keep::Nothing).unwrap();
        while !matches!(reader.record(), Err(error) if error.unread().is_some()) {}
        (reader.announced(), reader.skip_rest())
    };
    let good = file(&[251, 7, 0, 0, 1, b'a', 1, b'b', 60, 1, b'c', 9, 9, 9]);
    let (announced, checksum) = rest(&good);
    assert_eq!(announced, 7);
    assert!(matches!(checksum, Ok(Checksum::Right(_))));
    for cut in good.len() - 9..good.len() {
        assert!(rest(&good[..cut]).1.is_err(), "{cut}");
    }
    let mut flipped = good.clone();
    flipped[20] ^= 4;
    assert!(matches!(rest(&flipped).1, Err(RdbError::Checksum { .. })));
    let mut without = good;
    let sum = without.len() - 8;
    without[sum..].fill(0);
    assert!(matches!(rest(&without).1, Ok(Checksum::Absent)));
}

#[test]
fn versions_that_no_server_writes_are_refused() {
    for header in [b"REDIS0099", b"REDIS0000", b"REDIS0080"] {
        let error = read_all(&file_of(header, &[]), Keep::Nothing).unwrap_err();
        assert!(error.to_string().contains("has RDB version"), "{error}");
        assert_eq!(error.unread(), None);
    }
    assert!(read_all(&file_of(b"REDIS0017", &[]), Keep::Nothing).is_ok());
}

#[test]
fn damage_is_detected() {
    let good = file(&[0, 1, b'a', 1, b'b']);
    for cut in 0..good.len() {
        let error = read_all(&good[..cut], Keep::Nothing).unwrap_err();
        assert!(
            matches!(error, RdbError::Truncated { .. }),
            "{cut}: {error}"
        );
    }
    let mut flipped = good.clone();
    flipped[11] ^= 4;
    assert!(matches!(
        read_all(&flipped, Keep::Nothing),
        Err(RdbError::Checksum { .. })
    ));
    let mut longer = good;
    longer.push(0);
    assert!(matches!(
        read_all(&longer, Keep::Nothing),
        Err(RdbError::Trailing { .. })
    ));
    assert!(matches!(
        read_all(b"GET / HTTP/1.1", Keep::Nothing),
        Err(RdbError::NotRdb { .. })
    ));
}

#[test]
fn false_lengths_allocate_no_memory() {
    // A string of 2^62 bytes, a list of 2^62 items, a name of 2^40 bytes.
    let huge = [0x81, 0x40, 0, 0, 0, 0, 0, 0, 0];
    let value = [&[0, 1, b'a'][..], &huge].concat();
    let list = [&[1, 1, b'a'][..], &huge].concat();
    let name = [&[0][..], &huge].concat();
    for records in [value, list, name] {
        assert!(read_all(&file(&records), Keep::UpTo(usize::MAX)).is_err());
    }
}

#[test]
fn large_values_are_counted_and_not_kept() {
    let mut records = vec![0, 1, b'a', 0x80, 0, 1, 0, 0];
    records.extend(vec![b'x'; 1 << 16]);
    let bytes = file(&records);
    let records = read_all(&bytes, Keep::UpTo(1000)).unwrap();
    let Some(Record::Entry(entry)) = records.first() else {
        panic!("{records:?}");
    };
    assert_eq!(entry.value, Value::TooLarge(1 << 16));
}

#[test]
fn keys_are_expanded() {
    // "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" as liblzf packs it: one literal, one reference.
    let key = [0xc3, 5, 30, 0, b'a', 0xe0, 20, 0];
    let records = [&[0][..], &key, &[1, b'v']].concat();
    assert_eq!(entry(&file(&records)).key, [b'a'; 30]);
    let number = [&[0][..], &[0xc1, 0x39, 0x30], &[1, b'v']].concat();
    assert_eq!(entry(&file(&number)).key, b"12345");
}

#[test]
fn module_types_have_names() {
    // `vectorset` of Redis 8.6.2, as DUMP writes it.
    assert_eq!(reader::module_name(0xbde7_2da2_bb1e_b400), "vectorset");
}

proptest! {
    /// No bytes make the reader panic or run forever.
    #[test]
    fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_all(&bytes, Keep::UpTo(100));
        let _ = read_all(&file(&bytes), Keep::UpTo(100));
        let mut valkey = b"VALKEY080".to_vec();
        valkey.extend(&bytes);
        let _ = read_all(&valkey, Keep::Nothing);
    }

    /// The same for values of every type.
    #[test]
    fn any_value_is_compared_or_not(kind in 0_u8..36, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for version in [9, 12, 16, 80] {
            let dump = payload::frame([&[kind][..], &bytes].concat(), version);
            let other = payload::frame([&[kind][..], &bytes, &[0]].concat(), version);
            let _ = same_value(&dump, &other);
            let _ = older(&dump);
            prop_assert_eq!(same_value(&dump, &dump), Sameness::Same);
        }
    }

    /// Every skipped value is kept whole, byte by byte, and nothing else is.
    #[test]
    fn a_value_is_cut_out_whole(value in prop::collection::vec(any::<u8>(), 0..300), rest in prop::collection::vec(any::<u8>(), 0..20)) {
        let length = value.len() as u32;
        let body = [&[0x80][..], &length.to_be_bytes(), &value].concat();
        let tail = [&[0, rest.len() as u8][..], &rest, &[1, b'z']].concat();
        let records = [&[0, 1, b'k'][..], &body, &tail].concat();
        let read = read_all(&file(&records), Keep::UpTo(1 << 20)).unwrap();
        prop_assert_eq!(read.len(), 3);
        let Record::Entry(entry) = &read[0] else { panic!() };
        let Value::Text(text) = &entry.value else { panic!() };
        prop_assert_eq!(text, &value);
        let payload = payload_of_text(text);
        let payload = Payload::read(&payload).unwrap();
        prop_assert_eq!(payload.encoding(), Some(Encoding::String));
        prop_assert!(payload.value.ends_with(&value));
    }

    #[test]
    fn strings_come_out_of_payloads_as_they_went_in(text in prop::collection::vec(any::<u8>(), 0..300), more in 0_usize..20_000) {
        let text = [text, vec![b'x'; more]].concat();
        let payload = payload_of_text(&text);
        prop_assert_eq!(text_of(&payload), Some(text.as_slice()));
        prop_assert_eq!(text_of(&payload[1..]), None);
        prop_assert_eq!(text_of(&payload[..payload.len() - 1]), None);
    }

    #[test]
    fn any_bytes_have_a_string_or_none(payload in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Some(text) = text_of(&payload) {
            prop_assert!(text.len() < payload.len());
        }
    }

    #[test]
    fn lzf_never_gives_more_than_it_says(packed in prop::collection::vec(any::<u8>(), 0..100), length in 0_u64..10_000) {
        if let Some(bytes) = lzf::expand(&packed, length, 5_000) {
            prop_assert_eq!(bytes.len() as u64, length);
            prop_assert!(length <= 5_000);
        }
    }
}
