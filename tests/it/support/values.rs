//! Commands that write values of every type, with their members in a given order: equal values then dump
//! differently.

use redis::{Cmd, Connection, cmd};

/// Sends a command to either node, as a client does after an ASK redirect.
pub(crate) fn on(connection: &mut Connection, command: &Cmd) {
    cmd("ASKING").query::<()>(connection).unwrap();
    command.query::<redis::Value>(connection).unwrap();
}

pub(crate) fn words<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word.as_ref());
    }
    command
}

pub(crate) fn command(line: &str) -> Cmd {
    words(line.split(' '))
}

/// One value of many members, its members in the order of these numbers.
fn many(name: &str, key: &str, numbers: &[usize]) -> Cmd {
    let mut all = vec![name.to_owned(), key.to_owned()];
    for n in numbers {
        match name {
            "ZADD" => all.extend([format!("{n}.5"), format!("m{n}")]),
            "HSET" => all.extend([format!("f{n}"), format!("v{n}")]),
            _ => all.push(format!("m{n}")),
        }
    }
    words(all)
}

/// Values of every type, some of which dump differently on each server; the last hash's fields expire. The array is
/// larger than what is compared by DUMP.
pub(crate) fn values(tag: &str, order: &[usize], expires: bool, arrays: bool) -> Vec<Cmd> {
    let key = |name: &str| format!("{tag}{name}");
    let stream = key("stream");
    let mut all = vec![
        words(["SET", &key("string"), &"x".repeat(700)]),
        words(["SET", &key("heavy"), &"y".repeat(3 << 20)]),
        words(["SET", &key("ttl"), "1", "PX", "3600000"]),
        many("RPUSH", &key("list"), &(0..3000).collect::<Vec<_>>()),
        many("SADD", &key("set"), order),
        many("ZADD", &key("zset"), order),
        many("HSET", &key("hash"), order),
    ];
    for n in 1..1200 {
        all.push(command(&format!("XADD {stream} {n}-1 field value{n}")));
    }
    all.extend([
        command(&format!("XGROUP CREATE {stream} readers 0")),
        command(&format!("XGROUP CREATE {stream} idlers $")),
        command(&format!(
            "XREADGROUP GROUP readers ann COUNT 700 STREAMS {stream} >"
        )),
        command(&format!("XACK {stream} readers 5-1")),
        command(&format!("XDEL {stream} 9-1")),
    ]);
    if arrays {
        let text = "z".repeat(4000);
        let array = key("array");
        for n in order {
            let index = (n * 7000).to_string();
            all.push(words(["ARSET", &array, &index, &text]));
        }
        all.push(words(["ARSET", &array, "18446744073709551614", "1.5"]));
    }
    if expires {
        let hash = key("hash");
        all.push(command(&format!(
            "HPEXPIREAT {hash} 4102444800000 FIELDS 2 f1 f500"
        )));
    }
    all
}
