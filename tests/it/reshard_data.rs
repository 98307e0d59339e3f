//! What `reshard` must not lose: keys of every kind, what they hold, and who writes to them meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::{Cmd, Connection, Value, cmd};
use redis_trib::cluster::slot::Slot;

use crate::support::cluster::Nodes;
use crate::support::server::Server;
use crate::support::wait::until;

/// What a key holds, by database and name: its type and value, and when it expires.
pub(crate) type Contents = BTreeMap<(u32, Vec<u8>), (String, Option<u128>)>;

pub(crate) fn slot_of(key: &[u8]) -> usize {
    usize::from(Slot::of_key(key).number())
}

/// Names that hash to these slots, `each` for each: `{tag}:0`, `{tag}:1`…
pub(crate) fn names(slots: impl IntoIterator<Item = usize>, each: usize) -> Vec<String> {
    let tag = |slot| {
        (0..)
            .map(|n| format!("{{{n}}}"))
            .find(|tag| slot_of(tag.as_bytes()) == slot)
            .unwrap()
    };
    slots
        .into_iter()
        .map(tag)
        .flat_map(|tag| (0..each).map(move |n| format!("{tag}:{n}")))
        .collect()
}

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

/// Ranges of slots that a node says it owns.
pub(crate) fn owned(server: &Server) -> Vec<(usize, usize)> {
    let text = server.nodes_text();
    let myself = text.lines().find(|line| line.contains("myself")).unwrap();
    myself
        .split(' ')
        .skip(8)
        .filter(|field| !field.starts_with('['))
        .map(|range| {
            let (a, b) = range.split_once('-').unwrap_or((range, range));
            (a.parse().unwrap(), b.parse().unwrap())
        })
        .collect()
}

/// Until so many of the slots below 200 are on that node: the middle of a move.
#[track_caller]
pub(crate) fn until_moved(target: &Server, slots: usize) {
    until("some slots to move", Duration::from_secs(20), || {
        let ranges = owned(target);
        let low = ranges.iter().filter(|(_, b)| *b < 200);
        match low.map(|(a, b)| b - a + 1).sum::<usize>() {
            has if has >= slots => Ok(()),
            has => Err(has.to_string()),
        }
    });
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
                assert!(
                    owned.iter().any(|(a, b)| (*a..=*b).contains(&slot)),
                    "{shown} is on {}, which does not own slot {slot}",
                    server.addr()
                );
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
            (Some(then), Some(now)) => assert!(then.abs_diff(*now) < 2000, "{name}"),
            other => panic!("the time to live of {name}: {other:?}"),
        }
    }
}

/// Every node agrees, no slot is open, all slots have an owner.
#[track_caller]
pub(crate) fn assert_closed(nodes: &Nodes) {
    for server in nodes.iter() {
        until("no slot to be open", Duration::from_secs(10), || {
            let text = server.nodes_text();
            if text.contains("->-") || text.contains("-<-") {
                Err(text)
            } else {
                Ok(())
            }
        });
    }
    nodes.wait_usable();
    let total: usize = nodes
        .iter()
        .filter(|server| server.field("role").as_deref() == Some("master"))
        .flat_map(owned)
        .map(|(a, b)| b - a + 1)
        .sum();
    assert_eq!(total, 16384);
}

/// Clients that follow MOVED and ASK, each with keys of its own, each value higher than the last.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<BTreeMap<String, u64>>>,
}

impl Writers {
    /// One thread for each list of keys.
    pub(crate) fn start(seeds: &[String], keys: Vec<Vec<String>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicUsize::new(0));
        let threads = keys
            .into_iter()
            .map(|keys| {
                let (stop, written, seeds) =
                    (Arc::clone(&stop), Arc::clone(&written), seeds.to_vec());
                thread::spawn(move || write(&seeds, &keys, &stop, &written))
            })
            .collect();
        Self {
            stop,
            written,
            threads,
        }
    }

    /// Until they have written so much more.
    pub(crate) fn wait(&self, more: usize) {
        let goal = self.written.load(Ordering::Relaxed) + more;
        until(
            "the writers to get on",
            Duration::from_secs(30),
            || match self.written.load(Ordering::Relaxed) {
                now if now >= goal => Ok(()),
                now => Err(format!("{now} of {goal}")),
            },
        );
    }

    /// Ends them. Whatever was acknowledged is still there, or something newer is.
    #[track_caller]
    pub(crate) fn finish(self, nodes: &[Server]) {
        self.stop.store(true, Ordering::Relaxed);
        let acknowledged: Vec<_> = self
            .threads
            .into_iter()
            .map(|one| one.join().unwrap())
            .collect();
        let contents = contents(nodes);
        for (key, number) in acknowledged.iter().flatten() {
            let Some((value, _)) = contents.get(&(0, key.clone().into_bytes())) else {
                panic!("{key} was written {number} times, and is gone");
            };
            let now: u64 = value
                .chars()
                .filter(char::is_ascii_digit)
                .collect::<String>()
                .parse()
                .unwrap();
            // One more may have arrived than was acknowledged.
            assert!(
                (*number..=number + 1).contains(&now),
                "{key} was acknowledged as {number}, and is {now}"
            );
        }
    }
}

fn write(
    seeds: &[String],
    keys: &[String],
    stop: &AtomicBool,
    written: &AtomicUsize,
) -> BTreeMap<String, u64> {
    let mut connections: BTreeMap<String, Connection> = BTreeMap::new();
    let mut owners: BTreeMap<usize, String> = BTreeMap::new();
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    let mut tries = 0;
    'next: while !stop.load(Ordering::Relaxed) {
        for key in keys {
            let number = acknowledged.get(key).map_or(1, |number| number + 1);
            let slot = slot_of(key.as_bytes());
            let mut asked: Option<String> = None;
            loop {
                if stop.load(Ordering::Relaxed) {
                    break 'next;
                }
                let addr = asked
                    .clone()
                    .or_else(|| owners.get(&slot).cloned())
                    .unwrap_or_else(|| seeds[tries % seeds.len()].clone());
                if !connections.contains_key(&addr) {
                    let client = redis::Client::open(format!("redis://{addr}/")).unwrap();
                    match client.get_connection_with_timeout(Duration::from_secs(1)) {
                        Ok(connection) => {
                            connection
                                .set_read_timeout(Some(Duration::from_secs(3)))
                                .unwrap();
                            connections.insert(addr.clone(), connection);
                        }
                        Err(_) => {
                            tries += 1;
                            owners.remove(&slot);
                            asked = None;
                            thread::sleep(Duration::from_millis(20));
                            continue;
                        }
                    }
                }
                let connection = connections.get_mut(&addr).unwrap();
                let asking = match asked {
                    Some(_) => cmd("ASKING").query::<()>(connection),
                    None => Ok(()),
                };
                let mut set = || cmd("SET").arg(key).arg(number).query::<()>(connection);
                match asking.and_then(|()| set()) {
                    Ok(()) => {
                        acknowledged.insert(key.clone(), number);
                        written.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Err(error) => {
                        asked = None;
                        let to = error.redirect_node().map(|(addr, _)| addr.to_owned());
                        match (error.code(), to) {
                            (Some("MOVED"), Some(to)) => drop(owners.insert(slot, to)),
                            (Some("ASK"), Some(to)) => asked = Some(to),
                            _ => {
                                connections.remove(&addr);
                                owners.remove(&slot);
                                tries += 1;
                                thread::sleep(Duration::from_millis(20));
                            }
                        }
                    }
                }
            }
            thread::sleep(Duration::from_micros(300));
        }
    }
    acknowledged
}
