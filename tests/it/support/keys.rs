//! Keys in a cluster: what they hold, and whether they are still where their slots are.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use redis::{Cmd, Connection, Value, cmd};
use redis_trib::cluster::slot::Slot;

use super::server::Server;
use super::slots::{owned, slot_of};
use super::views::{owned_slots, size};

/// What a key holds, by database and name: its type and value, and when it expires.
pub(crate) type Contents = BTreeMap<(u32, Vec<u8>), (String, Option<u128>)>;

/// How much later a key of an hour may expire, in milliseconds. Each MIGRATE adds the time on its way, tests move a key up
/// to twenty times, and between the answer to PTTL and the look at the clock a test may get no processor.
const TOLERANCE: u128 = 60_000;

/// One command on the master that owns the key's slot.
#[track_caller]
pub(crate) fn on_owner(nodes: &[Server], key: &[u8], command: &Cmd) -> Value {
    for server in nodes {
        let mut connection = server.connection().unwrap();
        match command.query::<Value>(&mut connection) {
            Ok(value) => return value,
            Err(error) if error.code() == Some("MOVED") => {}
            Err(error) => panic!("{}: {error}", server.addr()),
        }
    }
    panic!("nobody owns slot {}", slot_of(key));
}

/// Strings of about 100 bytes, sent many at once.
#[track_caller]
pub(crate) fn fill(nodes: &[Server], keys: &[String]) {
    let mut by_owner: Vec<redis::Pipeline> = nodes.iter().map(|_| redis::pipe()).collect();
    let owners: Vec<Vec<(usize, usize)>> = nodes.iter().map(owned).collect();
    for key in keys {
        let slot = slot_of(key.as_bytes());
        let owner = owners
            .iter()
            .position(|ranges| ranges.iter().any(|(a, b)| (*a..=*b).contains(&slot)))
            .unwrap();
        by_owner[owner]
            .cmd("SET")
            .arg(key)
            .arg(format!("{key}={}", "v".repeat(90)))
            .ignore();
    }
    for (server, pipe) in nodes.iter().zip(by_owner) {
        if !pipe.is_empty() {
            pipe.query::<()>(&mut server.connection().unwrap()).unwrap();
        }
    }
}

/// One key of every type, with and without TTL, with names and values that are no text.
#[track_caller]
pub(crate) fn fill_all_types(nodes: &[Server], tag: &str) {
    let key = |name: &str| format!("{tag}{name}").into_bytes();
    let mut binary = key("binary");
    binary.extend([0, 13, 10, 255, 128, b' ', b'"']);
    let mut commands: Vec<Cmd> = Vec::new();
    let mut add = |words: &[&[u8]]| {
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        commands.push(command);
    };
    add(&[b"SET", &key("string"), b"text"]);
    add(&[b"SET", &key("empty"), b""]);
    add(&[b"SET", &binary, &[0, 255, 13, 10]]);
    add(&[b"SET", &key("ttl"), b"1", b"PX", b"3600000"]);
    add(&[b"RPUSH", &key("list"), b"a", b"b", b"a"]);
    add(&[b"HSET", &key("hash"), b"f", b"1", b"g", b"2"]);
    add(&[b"ZADD", &key("zset"), b"1.5", b"m", b"-2", b"n"]);
    add(&[b"XADD", &key("stream"), b"1-1", b"f", b"v"]);
    add(&[b"XGROUP", b"CREATE", &key("stream"), b"group", b"0"]);
    let members: Vec<Vec<u8>> = (0..1000).map(|n| format!("m{n}").into_bytes()).collect();
    let mut words: Vec<&[u8]> = vec![b"SADD"];
    let set = key("set");
    words.push(&set);
    words.extend(members.iter().map(Vec::as_slice));
    add(&words);
    for command in commands {
        on_owner(nodes, tag.as_bytes(), &command);
    }
}

fn value_of(connection: &mut Connection, key: &[u8]) -> Option<String> {
    let kind: String = cmd("TYPE").arg(key).query(connection).unwrap();
    let mut ask = |words: &[&str]| -> Value {
        let mut command = cmd(words[0]);
        command.arg(key);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(connection).unwrap()
    };
    let value = match kind.as_str() {
        "none" => return None,
        "string" => ask(&["GET"]),
        "list" => ask(&["LRANGE", "0", "-1"]),
        "hash" => sorted(ask(&["HGETALL"]), 2),
        "set" => sorted(ask(&["SMEMBERS"]), 1),
        "zset" => ask(&["ZRANGE", "0", "-1", "WITHSCORES"]),
        "stream" => ask(&["XRANGE", "-", "+"]),
        "array" => ask(&["ARSCAN", "0", "18446744073709551614"]),
        other => panic!("{other}"),
    };
    Some(format!("{kind} {value:?}"))
}

fn sorted(value: Value, group: usize) -> Value {
    let Value::Array(items) = value else {
        return value;
    };
    let mut groups: Vec<Vec<Value>> = items.chunks(group).map(<[Value]>::to_vec).collect();
    groups.sort_by_key(|group| format!("{group:?}"));
    Value::Array(groups.into_iter().flatten().collect())
}

/// All keys of all masters. Each is on one node only, and that node owns its slot.
#[track_caller]
pub(crate) fn contents(nodes: &[Server]) -> Contents {
    read_keys(nodes, |server, key, slot| {
        panic!(
            "{key} is on {}, which does not own slot {slot}",
            server.addr()
        )
    })
}

/// All keys that clients can read. A replica that became a master may keep keys of a slot that its master got
/// just before, if it never learned of that: no client is redirected there.
#[track_caller]
pub(crate) fn readable_contents(nodes: &[Server]) -> Contents {
    read_keys(nodes, |_, _, _| {})
}

/// Reads the keys of the slots that their masters own. `stale` hears of the others.
#[track_caller]
fn read_keys(nodes: &[Server], stale: impl Fn(&Server, &str, usize)) -> Contents {
    let mut contents = Contents::new();
    for server in nodes {
        if server.field("role").as_deref() != Some("master") {
            continue;
        }
        let owned = owned(server);
        let databases: Vec<u32> = server
            .text(&["INFO", "keyspace"])
            .lines()
            .filter_map(|line| line.strip_prefix("db")?.split(':').next()?.parse().ok())
            .collect();
        let mut connection = server.connection().unwrap();
        for database in databases {
            cmd("SELECT")
                .arg(database)
                .query::<()>(&mut connection)
                .unwrap();
            let keys: Vec<Vec<u8>> = cmd("KEYS").arg("*").query(&mut connection).unwrap();
            for key in keys {
                if key.starts_with(b"redis-trib:barrier:") {
                    continue;
                }
                let shown = key.escape_ascii().to_string();
                let slot = slot_of(&key);
                if !owned.iter().any(|(a, b)| (*a..=*b).contains(&slot)) {
                    stale(server, &shown, slot);
                    continue;
                }
                let Some(value) = value_of(&mut connection, &key) else {
                    continue;
                };
                let ttl: i64 = cmd("PTTL").arg(&key).query(&mut connection).unwrap();
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap()
                    .as_millis();
                let expires = u128::try_from(ttl).ok().map(|ttl| now + ttl);
                let twice = contents.insert((database, key), (value, expires));
                assert!(twice.is_none(), "{shown} is there twice");
            }
        }
    }
    contents
}

/// The same keys, values and times to live.
#[track_caller]
pub(crate) fn assert_same(before: &Contents, after: &Contents) {
    let shown = |contents: &Contents| -> Vec<String> {
        let names = contents.keys();
        names
            .map(|(db, key)| format!("{db}:{}", key.escape_ascii()))
            .collect()
    };
    if before.len() != after.len() {
        let (then, now) = (shown(before), shown(after));
        let lost: Vec<_> = then.iter().filter(|key| !now.contains(key)).collect();
        panic!("{} keys became {}; lost: {lost:?}", then.len(), now.len());
    }
    for (key, (value, expires)) in before {
        let (value_now, expires_now) = &after[key];
        let name = key.1.escape_ascii();
        assert_eq!(value, value_now, "{name}");
        match (expires, expires_now) {
            (None, None) => {}
            (Some(then), Some(now)) => assert!(then.abs_diff(*now) < TOLERANCE, "{name}"),
            other => panic!("the time to live of {name}: {other:?}"),
        }
    }
}

/// A key on a node that imports its slot, or is made to for a moment.
pub(crate) fn put_asking(node: &Server, key: &str, value: &str) {
    let mut connection = node.connection().unwrap();
    cmd("ASKING").query::<()>(&mut connection).unwrap();
    cmd("SET")
        .arg(key)
        .arg(value)
        .query::<()>(&mut connection)
        .unwrap();
}

/// Keys in a cluster, spread over the given slots.
pub(crate) struct Keys {
    values: BTreeMap<String, String>,
}

impl Keys {
    /// `count` keys, of the slots that `wanted` lets through.
    #[track_caller]
    pub(crate) fn fill(nodes: &[Server], count: usize, wanted: impl Fn(Slot) -> bool) -> Self {
        let values: BTreeMap<String, String> = (0..)
            .map(|n| format!("key:{n}"))
            .filter(|key| wanted(Slot::of_key(key.as_bytes())))
            .take(count)
            .map(|key| (key.clone(), format!("value of {key}")))
            .collect();
        let keys = Self { values };
        let set = |pipe: &mut redis::Pipeline, key: &str, value: &str| {
            pipe.set(key, value).ignore();
        };
        keys.ask::<()>(nodes, set);
        keys
    }

    /// Every key is where its slot is, with its value, and there is no other.
    #[track_caller]
    pub(crate) fn assert_kept(&self, nodes: &[Server]) {
        let get = |pipe: &mut redis::Pipeline, key: &str, _: &str| {
            pipe.get(key);
        };
        for (keys, values) in self.ask::<Vec<Option<String>>>(nodes, get) {
            for (key, value) in keys.iter().zip(values) {
                assert_eq!(value.as_ref(), self.values.get(key), "{key}");
            }
        }
        let sizes = nodes.iter().filter(|server| is_master(server)).map(size);
        assert_eq!(sizes.sum::<usize>(), self.values.len());
    }

    /// One pipeline to each owner.
    #[track_caller]
    fn ask<T: redis::FromRedisValue>(
        &self,
        nodes: &[Server],
        add: impl Fn(&mut redis::Pipeline, &str, &str),
    ) -> Vec<(Vec<String>, T)> {
        let owners = owners(nodes);
        let mut pipes: BTreeMap<usize, (Vec<String>, redis::Pipeline)> = BTreeMap::new();
        for (key, value) in &self.values {
            let slot = Slot::of_key(key.as_bytes());
            let (keys, pipe) = pipes.entry(owners[&slot.number()]).or_default();
            add(pipe, key, value);
            keys.push(key.clone());
        }
        pipes
            .into_iter()
            .map(|(index, (keys, pipe))| {
                let client = redis::Client::open(format!("redis://{}", nodes[index].addr()));
                let mut connection = client.unwrap().get_connection().unwrap();
                (keys, pipe.query(&mut connection).unwrap())
            })
            .collect()
    }
}

fn is_master(server: &Server) -> bool {
    server.field("role").as_deref() == Some("master")
}

/// The index of the node that owns each slot.
fn owners(nodes: &[Server]) -> BTreeMap<u16, usize> {
    let of = |(index, server): (usize, &Server)| {
        let owned = owned_slots(server);
        owned.into_iter().map(move |slot| (slot, index))
    };
    nodes.iter().enumerate().flat_map(of).collect()
}
