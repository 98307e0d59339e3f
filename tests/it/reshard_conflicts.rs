//! `reshard` where a key is on both ends: equal values are one, whatever they dump as; differing ones are
//! named, and both stay.

use redis::{Arg, Connection, cmd};

use crate::support::cluster::{Nodes, walkthrough};
use crate::support::keys::{assert_same, contents, fill, put_asking};
use crate::support::server::{quick, versions};
use crate::support::slots::{assert_closed, names, owned, setslot, slot_of};
use crate::support::subcommands::reshard;
use crate::support::values::{command, on, values, words};

const SLOT: usize = 7;

/// A slot as a broken move leaves it, once both ends have been filled by these.
fn open(nodes: &Nodes, mut fill: impl FnMut(usize, &mut Connection)) {
    let (from, to, slot) = (nodes[0].id(), nodes[3].id(), SLOT.to_string());
    nodes[0].cmd(&["CLUSTER", "SETSLOT", &slot, "STABLE"]);
    nodes[3].cmd(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from]);
    for end in [0, 3] {
        fill(end, &mut nodes[end].connection().unwrap());
    }
    nodes[0].cmd(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to]);
}

/// A call that meets a key at the target moves its other keys.
#[test]
fn keys_that_move_beside_one_that_is_at_the_target_count() {
    let nodes = walkthrough(&quick());
    let keys = names([SLOT], 500);
    fill(&nodes[..3], &keys);
    let before = contents(&nodes);
    let value = nodes[0].text(&["GET", &keys[250]]);
    setslot(&nodes[3], SLOT, &["IMPORTING", &nodes[0].id()]);
    put_asking(&nodes[3], &keys[250], &value);
    setslot(&nodes[3], SLOT, &["STABLE"]);
    let lines = reshard(&nodes[0])
        .args(["--slot-ranges", "7", "--to", &nodes[3].id(), "--yes"])
        .args(["--strategy", "keys", "--pipeline", "100", "-o", "json"])
        .run()
        .status(0)
        .json_lines();
    let moved = lines.iter().find(|line| line["event"] == "moved").unwrap();
    assert_eq!(moved["keys"], 500, "{moved}");
    // Each value has 90 bytes and more.
    assert!(moved["bytes"].as_u64().unwrap() >= 500 * 90, "{moved}");
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

fn has_arrays(version: &str) -> bool {
    version == "redis-8.10"
}

fn has_field_times(version: &str) -> bool {
    ["redis-8.2", "redis-8.6", "redis-8.10", "valkey-9.1"].contains(&version)
}

#[test]
fn equal_values_of_every_type_are_one_matrix() {
    for version in versions() {
        let nodes = walkthrough(&quick().version(version));
        let tag = &names([SLOT], 1)[0];
        let order: Vec<usize> = (0..900).collect();
        let reversed: Vec<usize> = (0..900).rev().collect();
        open(&nodes, |end, connection| {
            let order = if end == 0 { &order } else { &reversed };
            for command in values(tag, order, has_field_times(version), has_arrays(version)) {
                on(connection, &command);
            }
        });
        // The target's are there a second time.
        let before = contents(&nodes[..3]);
        assert_eq!(before.len(), 8 + usize::from(has_arrays(version)));
        reshard(&nodes[0])
            .args(["--slot-ranges", "7", "--to", &nodes[3].id(), "--yes"])
            .arg("--finish-open")
            .run()
            .status(0);
        assert_closed(&nodes);
        assert_same(&before, &contents(&nodes));
        assert_eq!(owned(&nodes[3]), [(SLOT, SLOT)]);
        let stream = format!("{tag}stream");
        let pending = nodes[3].cmd(&["XPENDING", &stream, "readers"]);
        assert!(format!("{pending:?}").contains("int(699)"), "{pending:?}");
        if has_field_times(version) {
            let hash = format!("{tag}hash");
            let times = nodes[3].cmd(&["HPEXPIRETIME", &hash, "FIELDS", "2", "f500", "f3"]);
            assert!(
                format!("{times:?}").contains("int(4102444800000)"),
                "{times:?}"
            );
        }
    }
}

/// Both start equal; then one is changed a little.
#[test]
fn the_least_difference_is_named_matrix() {
    for version in versions() {
        let nodes = walkthrough(&quick().version(version));
        let tag = &names([SLOT], 1)[0];
        assert_eq!(slot_of(tag.as_bytes()), SLOT);
        let order: Vec<usize> = (0..900).collect();
        let mut differences = vec![
            ("heavy", "SETRANGE KEY 2000000 z", "their bytes"),
            ("heavy", "APPEND KEY z", "bytes at the source"),
            ("list", "LSET KEY 2999 other", "their elements"),
            ("set", "SREM KEY m899", "members at the source"),
            ("zset", "ZADD KEY 7 m899", "their scores"),
            ("hash", "HSET KEY f899 other", "their fields"),
            ("stream", "XADD KEY 1300-1 f v", "entries at the source"),
            (
                "stream",
                "XSETID KEY 2000-1",
                "the facts of their streams (length, ids or number of groups)",
            ),
            ("stream", "XGROUP SETID KEY idlers 3-1", "their groups"),
            ("stream", "XACK KEY readers 700-1", "their groups"),
            ("ttl", "PERSIST KEY", "time to live"),
            ("string", "LPUSH KEY a", "a list at the target"),
        ];
        if has_field_times(version) {
            differences.push((
                "hash",
                "HPEXPIREAT KEY 4102444800001 FIELDS 1 f899",
                "when their fields expire",
            ));
        }
        if has_arrays(version) {
            differences.extend([
                ("array", "ARSET KEY 7000 other", "their items"),
                ("array", "ARINSERT KEY more", "what their arrays have seen"),
                ("array", "ARDEL KEY 7000", "members at the source"),
            ]);
        }
        // Each run waits a second to detect other runs, so most versions test only their own cases.
        let all = *version == "redis-7.0";
        let chosen = differences.into_iter().filter(|(_, change, _)| {
            let few = ["HPEXPIREAT", "XGROUP", "AR"];
            all || few.iter().any(|some| change.starts_with(some))
        });
        for (name, change, told) in chosen {
            let key = format!("{tag}{name}");
            open(&nodes, |end, connection| {
                on(connection, &words(["FLUSHALL"]));
                for command in values(tag, &order, has_field_times(version), has_arrays(version)) {
                    let about = |arg| matches!(arg, Arg::Simple(arg) if arg == key.as_bytes());
                    if command.args_iter().any(about) {
                        on(connection, &command);
                    }
                }
                if end == 3 {
                    if change.starts_with("LPUSH") {
                        on(connection, &words(["DEL", &key]));
                    }
                    on(connection, &command(&change.replace("KEY", &key)));
                }
            });
            let ended = reshard(&nodes[0])
                .args(["--slot-ranges", "7", "--to", &nodes[3].id(), "--yes"])
                .arg("--finish-open")
                .run()
                .status(6)
                .stderr_has(name)
                .stderr_has(told)
                .stderr_has("--on-move-conflict");
            assert!(ended.stderr.contains("open: slots 7"), "{}", ended.stderr);
            // Both stay.
            for end in [0, 3] {
                let mut connection = nodes[end].connection().unwrap();
                cmd("ASKING").query::<()>(&mut connection).unwrap();
                let there: usize = cmd("EXISTS").arg(&key).query(&mut connection).unwrap();
                assert_eq!(there, 1);
            }
        }
    }
}
