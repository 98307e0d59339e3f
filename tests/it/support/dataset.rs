//! A dataset with every type in every encoding, and a digest of one: what each key holds,
//! read with the commands of its type. So clusters of different shapes and versions can be compared.

use std::collections::BTreeMap;

use redis::{Cmd, Connection, Value};
use redis_trib::cluster::slot::Slot;

use super::server::Server;

/// Expiry is a round time in the far future, so that clocks and answers in whole milliseconds agree.
const EXPIRES: i64 = 4_000_000_000_000;

/// What each key holds, by its name: type, content, expiry.
pub(crate) type Digest = BTreeMap<Vec<u8>, String>;

/// One command on whichever of these servers takes its key.
#[track_caller]
pub(crate) fn send(servers: &[Server], words: &[&[u8]]) -> Value {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    for server in servers {
        match command.query::<Value>(&mut server.connection().unwrap()) {
            Ok(value) => return value,
            Err(error) if error.code() == Some("MOVED") => {}
            Err(error) => panic!("{}: {command:?}: {error}", server.addr()),
        }
    }
    panic!("nobody owns slot {}", Slot::of_key(words[1]));
}

/// Whether these servers know a command.
fn knows(server: &Server, command: &str) -> bool {
    let known = server.cmd(&["COMMAND", "INFO", command]);
    !matches!(known, Value::Array(infos) if infos == [Value::Nil])
}

/// Keys of every type: small ones in their packed form, large ones in theirs, binary names and values, with and
/// without expiry, and whatever else these servers know.
#[track_caller]
pub(crate) fn fill(servers: &[Server]) {
    let send = |words: &[&[u8]]| drop(send(servers, words));
    let long = "x".repeat(3000);
    send(&[b"SET", b"string", b"text"]);
    send(&[b"SET", b"string:empty", b""]);
    send(&[b"SET", b"string:int", b"-123456789"]);
    send(&[b"SET", b"string:long", long.as_bytes()]);
    send(&[b"SET", b"binary\0\r\n\xff\x80 \"", b"\0\xff\r\n"]);
    send(&[b"SET", b"", b"the empty name"]);
    let name = "a long name that repeats itself a long name that repeats itself";
    send(&[b"SET", name.as_bytes(), b"compressed name"]);
    send(&[b"SET", b"12345", b"a name that is a number"]);
    for (kind, add) in [("list", "RPUSH"), ("set", "SADD")] {
        let key = |what: &str| format!("{kind}:{what}").into_bytes();
        send(&[add.as_bytes(), &key("small"), b"a", b"", b"17", b"\0\xff"]);
        send(&[add.as_bytes(), &key("long"), long.as_bytes(), b"b"]);
        send(&[
            add.as_bytes(),
            &key("numbers"),
            b"1",
            b"-70000",
            b"5000000000",
        ]);
        many(servers, add, &key("many"), |n| {
            vec![format!("item {n}").into_bytes()]
        });
    }
    send(&[b"HSET", b"hash:small", b"f", b"1", b"g", b"\0\xff"]);
    send(&[b"HSET", b"hash:long", b"f", long.as_bytes()]);
    many(servers, "HSET", b"hash:many", |n| {
        vec![format!("f{n}").into_bytes(), format!("v{n}").into_bytes()]
    });
    send(&[
        b"ZADD",
        b"zset:small",
        b"1.5",
        b"m",
        b"-inf",
        b"n",
        b"3",
        b"17",
    ]);
    many(servers, "ZADD", b"zset:many", |n| {
        vec![
            format!("{}.25", n * 7).into_bytes(),
            format!("m{n}").into_bytes(),
        ]
    });
    for n in 1..=250 {
        let id = format!("{n}-1");
        send(&[
            b"XADD",
            b"stream",
            id.as_bytes(),
            b"field",
            n.to_string().as_bytes(),
        ]);
    }
    send(&[
        b"XADD", b"stream", b"300-7", b"other", b"fields", b"than", b"before",
    ]);
    send(&[b"XDEL", b"stream", b"5-1"]);
    send(&[b"XGROUP", b"CREATE", b"stream", b"group", b"0"]);
    send(&[b"XGROUP", b"CREATE", b"stream", b"idle", b"$"]);
    for consumer in [b"ann", b"bob"] {
        let words: [&[u8]; 9] = [
            b"XREADGROUP",
            b"stream",
            b"group",
            consumer,
            b"COUNT",
            b"3",
            b"STREAMS",
            b"stream",
            b">",
        ];
        // The key is not the second word here.
        let mut command = Cmd::new();
        command.arg("XREADGROUP").arg("GROUP");
        for word in &words[2..] {
            command.arg(*word);
        }
        on_owner(servers, b"stream", &command);
    }
    send(&[b"XACK", b"stream", b"group", b"2-1"]);
    send(&[b"XADD", b"stream:empty", b"1-1", b"f", b"v"]);
    send(&[b"XDEL", b"stream:empty", b"1-1"]);
    for key in [&b"string"[..], b"list:many", b"hash:small", b"stream"] {
        send(&[b"PEXPIREAT", key, EXPIRES.to_string().as_bytes()]);
    }
    if knows(&servers[0], "hpexpireat") {
        let expires = EXPIRES.to_string();
        for (key, fields) in [("fields:small", 3), ("fields:many", 700)] {
            for n in 0..fields {
                let field = format!("f{n}");
                send(&[b"HSET", key.as_bytes(), field.as_bytes(), b"v"]);
            }
            let words: [&[u8]; 6] = [
                b"HPEXPIREAT",
                key.as_bytes(),
                expires.as_bytes(),
                b"FIELDS",
                b"1",
                b"f1",
            ];
            send(&words);
        }
    }
    fill_newer(servers);
    if knows(&servers[0], "vadd") {
        send(&[
            b"VADD", b"vectors", b"VALUES", b"3", b"1", b"2", b"3", b"elem",
        ]);
    }
}

/// What came with Redis 8.6 to 8.10, as far as these servers know it.
fn fill_newer(servers: &[Server]) {
    let send = |words: &[&[u8]]| drop(send(servers, words));
    if knows(&servers[0], "xcfgset") {
        let key = b"stream:producers";
        send(&[b"XADD", key, b"IDMP", b"ann", b"1", b"*", b"f", b"v"]);
    }
    if knows(&servers[0], "xnack") {
        let key = &b"stream:released"[..];
        for id in [b"1-1", b"2-1", b"3-1"] {
            send(&[b"XADD", key, id, b"f", b"v"]);
        }
        send(&[b"XGROUP", b"CREATE", key, b"group", b"0"]);
        let mut read = Cmd::new();
        read.arg(&["XREADGROUP", "GROUP", "group", "ann", "STREAMS"]);
        on_owner(servers, key, read.arg(key).arg(">"));
        send(&[b"XNACK", key, b"group", b"FAIL", b"IDS", b"1", b"2-1"]);
    }
    if knows(&servers[0], "arset") {
        for value in [
            &b"text"[..],
            b"-17",
            b"1.5",
            b"1e300",
            b"",
            b"\0\xff",
            &[b'x'; 3000],
        ] {
            let index = (value.len() * 1000 + 3).to_string();
            send(&[b"ARSET", b"array", index.as_bytes(), value]);
        }
        send(&[b"ARSET", b"array:far", b"18446744073709551000", b"end"]);
        send(&[b"ARINSERT", b"array:inserted", b"a", b"b", b"c"]);
    }
    let Value::Array(setting) = servers[0].cmd(&["CONFIG", "GET", "hash-min-template-entries"])
    else {
        panic!("no settings");
    };
    if !setting.is_empty() {
        // Hashes share templates, in their listpack form and in their array form.
        for server in servers {
            server.cmd(&["CONFIG", "SET", "hash-min-template-entries", "2"]);
        }
        for n in 0..100 {
            let (key, value) = (format!("template:{n}"), n.to_string());
            let fields: [&[u8]; 6] = [b"name", value.as_bytes(), b"17", b"x", b"city", b"\0\xff"];
            send(&[&[&b"HSET"[..], key.as_bytes()], &fields[..]].concat());
            let key = format!("template:long:{n}");
            send(&[
                b"HSET",
                key.as_bytes(),
                b"name",
                &[b'x'; 500],
                b"age",
                value.as_bytes(),
            ]);
        }
        many(servers, "HSET", b"template:wide", |n| {
            vec![format!("f{n}").into_bytes(), n.to_string().into_bytes()]
        });
        let long = "field".repeat(100);
        send(&[b"HSET", b"template:name", long.as_bytes(), b"1", b"f", b"2"]);
        for server in servers {
            server.cmd(&["CONFIG", "SET", "hash-min-template-entries", "0"]);
        }
    }
}

/// A thousand items, many in each command.
fn many(servers: &[Server], add: &str, key: &[u8], item: impl Fn(usize) -> Vec<Vec<u8>>) {
    let items: Vec<Vec<u8>> = (0..1000).flat_map(item).collect();
    let mut words: Vec<&[u8]> = vec![add.as_bytes(), key];
    words.extend(items.iter().map(Vec::as_slice));
    send(servers, &words);
}

#[track_caller]
fn on_owner(servers: &[Server], key: &[u8], command: &Cmd) -> Value {
    for server in servers {
        match command.query::<Value>(&mut server.connection().unwrap()) {
            Ok(value) => return value,
            Err(error) if error.code() == Some("MOVED") => {}
            Err(error) => panic!("{}: {error}", server.addr()),
        }
    }
    panic!("nobody owns slot {}", Slot::of_key(key));
}

/// Every key of these masters (or standalone servers).
#[track_caller]
pub(crate) fn digest(servers: &[Server]) -> Digest {
    let mut digest = Digest::new();
    for server in servers {
        let mut connection = server.connection().unwrap();
        for key in keys(&mut connection) {
            let what = content(&mut connection, &key);
            assert!(
                digest.insert(key, what).is_none(),
                "a key is on two servers"
            );
        }
    }
    digest
}

/// What differs between two digests, in a form that a person can read.
pub(crate) fn difference(one: &Digest, other: &Digest) -> Vec<String> {
    let shown = |text: Option<&String>| {
        text.map_or("(none)".to_owned(), |text| text.chars().take(200).collect())
    };
    let keys: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    keys.into_iter()
        .filter(|key| one.get(*key) != other.get(*key))
        .map(|key| {
            let (was, is) = (shown(one.get(key)), shown(other.get(key)));
            format!("{:?}: {was} — {is}", String::from_utf8_lossy(key))
        })
        .collect()
}

fn keys(connection: &mut Connection) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let mut cursor = 0_u64;
    loop {
        let (next, some): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("COUNT")
            .arg(1000)
            .query(connection)
            .unwrap();
        keys.extend(some);
        cursor = next;
        if cursor == 0 {
            // A table that grows meanwhile may name a key twice.
            keys.sort();
            keys.dedup();
            return keys;
        }
    }
}

fn content(connection: &mut Connection, key: &[u8]) -> String {
    let mut ask = |words: &[&[u8]]| -> Value {
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command
            .query(connection)
            .unwrap_or_else(|error| panic!("{command:?}: {error}"))
    };
    let Value::SimpleString(kind) = ask(&[b"TYPE", key]) else {
        panic!("no type");
    };
    let value = match kind.as_str() {
        "string" => format!("{:?}", ask(&[b"GET", key])),
        "list" => format!("{:?}", ask(&[b"LRANGE", key, b"0", b"-1"])),
        "set" => sorted(ask(&[b"SMEMBERS", key]), 1),
        "zset" => format!("{:?}", ask(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"])),
        "hash" => {
            let pairs = ask(&[b"HGETALL", key]);
            let times = if key.starts_with(b"fields") {
                format!(
                    "{:?}",
                    ask(&[b"HPEXPIRETIME", key, b"FIELDS", b"2", b"f1", b"f2"])
                )
            } else {
                String::new()
            };
            format!("{}{times}", sorted(pairs, 2))
        }
        "stream" => {
            let entries = ask(&[b"XRANGE", key, b"-", b"+"]);
            let mut text = format!(
                "{entries:?} last {:?}",
                field(&ask(&[b"XINFO", b"STREAM", key]), "last-generated-id")
            );
            if key.ends_with(b"producers") {
                let info = ask(&[b"XINFO", b"STREAM", key]);
                text += &format!(" producers {:?}", field(&info, "pids-tracked"));
            }
            if let Value::Array(groups) = ask(&[b"XINFO", b"GROUPS", key]) {
                for group in groups {
                    let Some(Value::BulkString(name)) = field(&group, "name") else {
                        panic!("a group without a name");
                    };
                    text += &format!("\n{name:?} {:?}", field(&group, "last-delivered-id"));
                    let pending = ask(&[b"XPENDING", key, &name, b"-", b"+", b"1000"]);
                    if let Value::Array(pending) = pending {
                        for one in pending {
                            // Id, consumer, how long ago, how often: time goes on.
                            let Value::Array(mut one) = one else {
                                panic!("not pending")
                            };
                            one.remove(2);
                            text += &format!(" {one:?}");
                        }
                    }
                }
            }
            text
        }
        "array" => {
            let items = ask(&[b"ARSCAN", key, b"0", b"18446744073709551614"]);
            let next = field(&ask(&[b"ARINFO", key]), "next-insert-index");
            format!("{items:?} next {next:?}")
        }
        other => {
            let Value::BulkString(mut dump) = ask(&[b"DUMP", key]) else {
                panic!("no DUMP");
            };
            // Version and checksum are the server's.
            dump.truncate(dump.len() - 10);
            format!("{other} {dump:?}")
        }
    };
    let Value::Int(ttl) = ask(&[b"PTTL", key]) else {
        panic!("no TTL");
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    // A minute is more than any clock or test is off, and less than any mistake.
    let expires = (ttl >= 0).then(|| (i64::try_from(now).unwrap() + ttl + 30_000) / 60_000);
    format!("{kind} {value} {expires:?}")
}

/// A flat list of items of `width` each, in an order that does not depend on the server.
fn sorted(value: Value, width: usize) -> String {
    let Value::Array(items) = value else {
        panic!("no array: {value:?}");
    };
    let mut groups: Vec<String> = items
        .chunks(width)
        .map(|group| format!("{group:?}"))
        .collect();
    groups.sort();
    groups.join(",")
}

/// A field of a flat map.
fn field(map: &Value, name: &str) -> Option<Value> {
    let Value::Array(items) = map else {
        return None;
    };
    items.chunks(2).find_map(|pair| match pair {
        [Value::BulkString(key), value] if key == name.as_bytes() => Some(value.clone()),
        _ => None,
    })
}
