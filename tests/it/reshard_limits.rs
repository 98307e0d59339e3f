//! `reshard` where moving would do harm: big keys, replicas that stay behind, targets that evict.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::cluster::{Nodes, walkthrough};
use crate::support::command::{Ended, Trib};
use crate::support::journal::{lines, words};
use crate::support::keys::{assert_same, contents, fill};
use crate::support::server::{Server, quick};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::stopped_run::{assert_all_named, told};
use crate::support::subcommands::reshard;
use crate::support::wait::{PATIENCE, until};

fn slots_of(server: &Server) -> usize {
    owned(server).iter().map(|(a, b)| b - a + 1).sum()
}

#[track_caller]
fn begun(server: &Server, slots: usize) {
    until(
        "some slots to move",
        Duration::from_secs(20),
        || match slots_of(server) {
            has if has >= slots => Ok(()),
            has => Err(has.to_string()),
        },
    );
}

#[test]
fn a_big_key_is_named_before_its_slot_is_opened() {
    let nodes = walkthrough(&quick());
    // More than one request brings, the big one somewhere among them.
    let keys = names([3], 5_000);
    fill(&nodes[..3], &keys);
    let big = names([3], 1)[0].replace(":0", ":big");
    nodes[0].cmd(&["SETRANGE", &big, "3000000", "x"]);
    let before = contents(&nodes);
    let to = nodes[3].id();
    let go = || reshard(&nodes[0]).args(["--slot-ranges", "2-4", "--to", &to, "--yes"]);
    let ended = go().args(["--big-key", "1MiB"]).run().status(3);
    for word in [
        &big,
        "slot 3",
        "MiB",
        "--on-big-key",
        "0 slots moved, 0 open",
    ] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
    assert!(!nodes[0].nodes_text().contains("->-"));
    let ended = go()
        .args(["--big-key", "1MiB", "--on-big-key", "skip", "-o", "json"])
        .run()
        .status(0)
        .stderr_has("slots 3 stay");
    let events = ended.json_lines();
    let named = |name| events.iter().filter(move |event| event["event"] == name);
    let skipped: Vec<&Value> = named("slots-skipped")
        .map(|event| &event["slots"])
        .collect();
    assert_eq!(skipped, [&json!([[3, 3]])]);
    let moved = named("slots-moved").filter_map(|event| event["slot_count"].as_u64());
    assert_eq!(moved.sum::<u64>(), 2);
    assert_eq!(owned(&nodes[3]), [(2, 2), (4, 4)]);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
    // Whatever --big-key says: more than half of cluster-node-timeout (here 2 s) is too long.
    nodes[0].cmd(&["SETRANGE", &big, "30000000", "x"]);
    let before = contents(&nodes);
    go().args(["--big-key", "1GiB"])
        .run()
        .status(3)
        .stderr_has(&big);
    go().args(["--on-big-key", "move"]).run().status(0);
    assert_eq!(owned(&nodes[3]), [(2, 4)]);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn one_pair_fails_and_the_others_go_on() {
    let nodes = walkthrough(&quick());
    let slots = || (0..20).chain(6000..6020).chain(11000..11020);
    fill(&nodes[..3], &names(slots(), 10));
    let big = names([2], 1)[0].replace(":0", ":big");
    nodes[0].cmd(&["SETRANGE", &big, "3000000", "x"]);
    let before = contents(&nodes);
    let go = |rate: &str| {
        reshard(&nodes[0])
            .args(["--slot-ranges", "0-19,6000-6019,11000-11019"])
            .args(["--to", &nodes[3].id(), "--yes", "--rate", rate])
            .args(["--big-key", "1MiB", "--max-open-slots", "4"])
    };
    // One that can't begin stops the others after the slots that they have in hand.
    let ended = go("100").run().status(6).stderr_has(&big);
    assert_all_named(&ended.stderr, 60);
    let stopped = slots_of(&nodes[3]);
    assert!((1..40).contains(&stopped), "{stopped}: {}", ended.stderr);
    assert_closed(&nodes);
    let ended = go("100000").arg("--keep-going").run().status(6);
    let ended = ended.stderr_has(&big).stderr_has(&nodes[0].addr());
    assert_eq!(owned(&nodes[3]), [(6000, 6019), (11000, 11019)]);
    assert_closed(&nodes);
    // Only that pair has slots left, and the message says so.
    let [next] = &told(&ended.stderr)[..] else {
        panic!("{}", ended.stderr);
    };
    Trib::new()
        .args(next)
        .args(["--on-big-key", "move", "--yes"])
        .run()
        .status(0);
    assert_closed(&nodes);
    assert_eq!(owned(&nodes[3])[0], (0, 19));
    assert_same(&before, &contents(&nodes));
}

/// What was done, as the journal has it.
fn journal(nodes: &[Server], ranges: &str, more: &[&str]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    reshard(&nodes[0])
        .args(["--slot-ranges", ranges, "--to", &nodes[3].id(), "--yes"])
        .args(["--journal", &path.display().to_string()])
        .args(more)
        .run()
        .status(0);
    lines(&path)
}

#[test]
fn no_more_lanes_at_once_than_allowed() {
    let nodes = walkthrough(&quick());
    fill(
        &nodes[..3],
        &names((0..12).chain(6000..6012).chain(11000..11012), 20),
    );
    let ranges = "0-11,6000-6011,11000-11011";
    let all = journal(&nodes, ranges, &["--lanes", "1", "--max-open-slots", "3"]);
    // The sources of the moved keys, in order: no source comes back after another one.
    let mut sources: Vec<&str> = all
        .iter()
        .filter(|line| {
            let command = line["command"].as_str().unwrap();
            // Not the trial of the login, which is made for all before.
            command.starts_with("MIGRATE ") && !command.contains(" COPY ")
        })
        .map(|line| line["node"]["addr"].as_str().unwrap())
        .collect();
    assert!(sources.len() > 12, "{all:#?}");
    sources.dedup();
    assert_eq!(sources.len(), 3, "{sources:?}");
    assert_eq!(slots_of(&nodes[3]), 36);
    assert_closed(&nodes);
}

#[test]
fn calls_take_fewer_keys_where_they_may_take_less_time() {
    let nodes = walkthrough(&quick());
    for slot in [3, 4] {
        for key in names([slot], 200) {
            nodes[0].cmd(&["SETRANGE", &key, "65535", "x"]);
        }
    }
    let most = |ranges: &str, stall: &str| {
        let all = journal(&nodes, ranges, &["--max-stall", stall]);
        let calls = all.iter().filter(|line| words(line) == "MIGRATE");
        calls
            .filter_map(|line| line["keys"].as_u64())
            .max()
            .unwrap()
    };
    let (short, long) = (most("3", "1ms"), most("4", "10s"));
    assert!(short < long, "{short} and {long}");
    assert_eq!(owned(&nodes[3]), [(3, 4)]);
}

#[test]
fn a_big_key_of_a_huge_slot_is_named_when_it_is_met() {
    let nodes = walkthrough(&quick());
    let keys = names([3], 20_000);
    fill(&nodes[..3], &keys);
    // The server gives keys out in an order of its own: all but the first thousands are big.
    for key in keys.iter().step_by(40) {
        nodes[0].cmd(&["SETRANGE", key, "40000", "x"]);
    }
    let listed: Vec<String> = {
        let mut connection = nodes[0].connection().unwrap();
        redis::cmd("CLUSTER")
            .arg("GETKEYSINSLOT")
            .arg(3)
            .arg(8_192)
            .query(&mut connection)
            .unwrap()
    };
    for key in &listed {
        nodes[0].cmd(&["SET", key, "small"]);
    }
    let before = contents(&nodes);
    let to = nodes[3].id();
    let go = || {
        reshard(&nodes[0])
            .args(["--slot-ranges", "3", "--to", &to, "--yes", "--finish-open"])
            .args(["--big-key", "20KiB"])
    };
    let ended = go().run().status(6);
    for word in ["weighs", "slot 3", "--on-big-key move", "open: slots 3"] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
    go().args(["--on-big-key", "move"]).run().status(0);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn replicas_that_stay_behind_are_waited_for() {
    let nodes = Nodes::with(6, &quick().node_timeout(15_000));
    nodes.form(3);
    fill(&nodes[..3], &names(0..200, 10));
    let before = contents(&nodes);
    let to = nodes[1].id();
    let first = slots_of(&nodes[1]);
    let run = reshard(&nodes[0])
        .args(["--slot-ranges", "0-199", "--to", &to, "--yes"])
        .args(["--max-open-slots", "4", "--rate", "100"])
        .args(["--max-replica-lag", "2s"])
        .spawn();
    begun(&nodes[1], first + 4);
    // The source's replica: nothing else waits for that one.
    nodes[3].stop();
    let stopped = Instant::now();
    let mut last = (slots_of(&nodes[1]), Instant::now());
    until("the move to wait", PATIENCE, || {
        let now = slots_of(&nodes[1]);
        if now != last.0 {
            last = (now, Instant::now());
        }
        // It may go on until the replica is 2 s behind. A busy machine may hold it up before that.
        let is_behind = stopped.elapsed() > Duration::from_secs(5);
        match is_behind && last.1.elapsed() > Duration::from_secs(2) {
            true => Ok(()),
            false => Err(now.to_string()),
        }
    });
    assert!(last.0 < first + 200);
    nodes[3].cont();
    run.wait().status(0);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
    for wrong in ["0", "5", "0s", "much"] {
        reshard(&nodes[0])
            .args(["--max-replica-lag", wrong])
            .run()
            .status(2)
            .stderr_has("--max-replica-lag");
    }
}

#[test]
fn a_target_that_evicts_is_given_no_more() {
    let nodes = walkthrough(&quick());
    fill(&nodes[..3], &names(0..200, 10));
    // What it may lose: not what we look at later.
    fill(&nodes[..3], &names([6000], 2000));
    let to = nodes[1].id();
    let first = slots_of(&nodes[1]);
    let run = reshard(&nodes[0])
        .args(["--slot-ranges", "0-199", "--to", &to, "--yes"])
        .args(["--max-open-slots", "2", "--rate", "200"])
        .spawn();
    begun(&nodes[1], first + 2);
    let used: u64 = nodes[1].field("used_memory").unwrap().parse().unwrap();
    nodes[1].cmd(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
    nodes[1].cmd(&["CONFIG", "SET", "maxmemory", &(used - 20_000).to_string()]);
    until("it to evict", Duration::from_secs(10), || {
        match nodes[1].field("evicted_keys").as_deref() {
            Some("0") | None => Err("nothing".to_owned()),
            Some(_) => Ok(()),
        }
    });
    // There is room again, so nothing but the count tells.
    nodes[1].cmd(&["CONFIG", "SET", "maxmemory", "0"]);
    let ended = run.wait();
    assert_eq!(ended.status, Ended::Status(6), "{}", ended.stderr);
    let says = |word: &str| ended.stderr.contains(word);
    // It may have been seen in the moment in which there was none.
    assert!(says("evicts keys") || says("maxmemory"), "{}", ended.stderr);
    assert!(slots_of(&nodes[1]) < first + 200);
}

#[test]
fn open_slots_are_offered_to_a_person() {
    let nodes = walkthrough(&quick());
    fill(&nodes[..3], &names([5, 9], 5));
    let before = contents(&nodes);
    let (from, to) = (nodes[0].id(), nodes[3].id());
    let open = || {
        nodes[3].cmd(&["CLUSTER", "SETSLOT", "5", "IMPORTING", &from]);
        nodes[0].cmd(&["CLUSTER", "SETSLOT", "5", "MIGRATING", &to]);
    };
    open();
    // No terminal for a prompt: refused as before.
    reshard(&nodes[0])
        .args(["--slot-ranges", "9", "--to", &to])
        .run()
        .status(3)
        .stderr_has("--finish-open");
    let go = || reshard(&nodes[0]).args(["--slot-ranges", "9", "--to", &to]);
    let mut terminal = go().terminal();
    terminal.expect("Slots 5 are open").send_line("no");
    terminal.finish().status(5);
    assert!(owned(&nodes[3]).is_empty());
    let mut terminal = go().terminal();
    terminal.expect("Slots 5 are open").send_line("yes");
    terminal.expect("Do you want to proceed").send_line("yes");
    terminal.finish().status(0);
    assert_eq!(owned(&nodes[3]), [(5, 5), (9, 9)]);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}
