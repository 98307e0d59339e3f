//! `reshard` while clients delete and write the keys that move.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{Connection, cmd};

use crate::support::cluster::walkthrough;
use crate::support::keys::{contents, fill};
use crate::support::server::{Server, quick};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::subcommands::reshard;
use crate::support::wait::until;

/// As clients do: where the key's slot is, and on where they are sent.
fn send(nodes: &[Server], connections: &mut BTreeMap<String, Connection>, words: &[&str]) {
    let mut addr = nodes[0].addr();
    let mut asking = false;
    loop {
        let server = nodes.iter().find(|server| server.addr() == addr).unwrap();
        let connection = connections
            .entry(addr.clone())
            .or_insert_with(|| server.connection().unwrap());
        if asking {
            cmd("ASKING").query::<()>(connection).unwrap();
        }
        let mut command = cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        match command.query::<redis::Value>(connection) {
            Ok(_) => return,
            Err(error) => match (error.code(), error.redirect_node()) {
                (Some(code @ ("ASK" | "MOVED")), Some((to, _))) => {
                    asking = code == "ASK";
                    addr = to.to_owned();
                }
                _ => panic!("{words:?}: {error}"),
            },
        }
    }
}

#[test]
fn keys_are_deleted_and_written_anew_meanwhile() {
    let nodes = walkthrough(&quick());
    let keys = names(0..60, 20);
    fill(&nodes[..3], &keys);
    let run = reshard(&nodes[0])
        .args(["--slot-ranges", "0-59", "--to", &nodes[3].id(), "--yes"])
        .args(["--rate", "600", "--max-open-slots", "8"])
        .spawn();
    until(
        "some slots to move",
        Duration::from_secs(20),
        || match owned(&nodes[3]).is_empty() {
            true => Err("none".to_owned()),
            false => Ok(()),
        },
    );
    let mut connections = BTreeMap::new();
    for (n, key) in keys.iter().enumerate().rev() {
        let words: &[&str] = match n % 4 {
            0 => &["DEL", key],
            1 => &["SET", key, "new"],
            2 => &["RENAME", key, key],
            _ => continue,
        };
        send(&nodes, &mut connections, words);
        // Another type in its place.
        if n % 8 == 0 {
            send(&nodes, &mut connections, &["SADD", key, "member"]);
        }
    }
    run.wait().status(0);
    assert_closed(&nodes);
    assert_eq!(owned(&nodes[3]), [(0, 59)]);
    let after = contents(&nodes);
    for (n, key) in keys.iter().enumerate() {
        let value = after.get(&(0, key.clone().into_bytes()));
        let value = value.map(|(value, _)| value.as_str());
        match n % 8 {
            0 => assert!(value.unwrap().starts_with("set "), "{key}: {value:?}"),
            4 => assert_eq!(value, None, "{key}"),
            1 | 5 => assert!(value.unwrap().contains("\"new\""), "{key}: {value:?}"),
            _ => assert!(value.unwrap().contains(key.as_str()), "{key}: {value:?}"),
        }
    }
}
