//! `reshard` where all goes well, at the prompt, and where it is asked for what can't be.

use std::time::Duration;

use redis::cmd;

use crate::support::cluster::{Nodes, walkthrough};
use crate::support::command::{Signal, Trib};
use crate::support::counting_writers::Writers;
use crate::support::keys::{assert_same, contents, fill, fill_all_types, on_owner};
use crate::support::server::{Server, quick, versions};
use crate::support::slots::{assert_closed, names, owned, until_moved};
use crate::support::stopped_run::told;
use crate::support::subcommands::reshard;
use crate::support::tls::Material;

fn count(server: &Server) -> usize {
    owned(server).iter().map(|(a, b)| b - a + 1).sum()
}

#[test]
fn the_walkthroughs_numbers() {
    let nodes = walkthrough(&quick());
    let to = nodes[3].id();
    let plan = reshard(&nodes[0])
        .args(["--slots", "4096", "--from", "all", "--to", &to, "--dry-run"])
        .run()
        .status(0);
    for (server, slots) in [
        (&nodes[0], 0..=1364),
        (&nodes[1], 5461..=6826),
        (&nodes[2], 10923..=12287),
    ] {
        let from = format!(" from {}", server.id());
        let lines = plan.stdout.lines().filter(|line| line.ends_with(&from));
        let wanted = slots.map(|slot| format!("    Moving slot {slot}{from}"));
        assert!(lines.eq(wanted), "{}", plan.stdout);
    }
    assert_eq!(count(&nodes[3]), 0);
    let keys: Vec<String> = (0..3000).map(|n| format!("key:{n}")).collect();
    fill(&nodes, &keys);
    fill_all_types(&nodes, "{types}");
    let before = contents(&nodes);
    reshard(&nodes[1])
        .args(["--slots", "4096", "--from", "all", "--to", &to, "--yes"])
        .run()
        .status(0)
        .stdout_has("[OK] 4,096 slots");
    assert_closed(&nodes);
    assert_eq!(owned(&nodes[3]), [(0, 1364), (5461, 6826), (10923, 12287)]);
    assert_same(&before, &contents(&nodes));
    // And back to one, from one.
    reshard(&nodes[0])
        .args([
            "--slots",
            "1365",
            "--from",
            &to[..8],
            "--to",
            &nodes[2].addr(),
            "--yes",
        ])
        .run()
        .status(0);
    assert_closed(&nodes);
    assert_eq!(count(&nodes[3]), 4096 - 1365);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn nothing_is_lost_while_clients_write_matrix() {
    for version in versions() {
        let spec = quick().version(version);
        let nodes = Nodes::with(6, &spec);
        nodes.form(3);
        let keys: Vec<String> = (0..2000).map(|n| format!("key:{n}")).collect();
        fill(&nodes[..3], &keys);
        for tag in ["{types}", "{t2}", "{t3}", "{t4}"] {
            fill_all_types(&nodes[..3], tag);
        }
        let before = contents(&nodes);
        // Some share a slot, most don't; all of them in slots that move.
        let lists = (0..3)
            .map(|one| {
                let mut keys = names([17 + one], 20);
                keys.extend(names((100..130).map(|slot| slot + one * 300), 1));
                keys.iter().map(|key| format!("{key}:w{one}")).collect()
            })
            .collect();
        let writers = Writers::start(&nodes.addrs(), lists);
        writers.wait(200);
        let [b, c] = [nodes[1].id(), nodes[2].id()];
        for (to, from) in [(&b, nodes[0].id()), (&c, b.clone())] {
            reshard(&nodes[0])
                .args(["--slots", "1000", "--from", &from, "--to", to, "--yes"])
                .run()
                .status(0);
            writers.wait(100);
        }
        assert_closed(&nodes);
        writers.finish(&nodes);
        let mut after = contents(&nodes);
        after.retain(|(_, key), _| before.contains_key(&(0, key.clone())));
        assert_same(&before, &after);
    }
}

#[test]
fn one_huge_slot_and_the_last_slots_of_a_master() {
    let nodes = walkthrough(&quick());
    let slot = owned(&nodes[0])[0].0;
    fill(&nodes[..3], &names([slot + 5], 20_000));
    let before = contents(&nodes);
    let to = nodes[3].id();
    reshard(&nodes[0])
        .args(["--slot-ranges", "5", "--to", &to, "--yes"])
        .run()
        .status(0)
        .stdout_has("20,000 keys");
    // An emptied master becomes a replica of the node that got its last slot.
    reshard(&nodes[1])
        .args(["--slot-ranges", "0-5460", "--to", &to, "--yes"])
        .run()
        .status(0)
        .stderr_has(&format!("no slot is left on {} (", nodes[0].addr()));
    assert_closed(&nodes);
    assert_eq!(owned(&nodes[3]), [(0, 5460)]);
    assert_same(&before, &contents(&nodes));
    reshard(&nodes[1])
        .args(["--slot-ranges", "0-5460", "--to", &to, "--yes"])
        .run()
        .status(0)
        .stdout_has("nothing to move");
}

#[test]
fn tags_several_targets_rates_and_streams() {
    let nodes = walkthrough(&quick());
    fill(&nodes[..3], &names(0..40, 5));
    let before = contents(&nodes);
    let home = tempfile::tempdir().unwrap();
    let plan = home.path().join("plan.json");
    let [c, d] = [nodes[2].id(), nodes[3].id()];
    reshard(&nodes[0])
        .args([
            "--tag",
            "{user1000}",
            "--to",
            &d,
            "--yes",
            "--pipeline",
            "1",
        ])
        .run()
        .status(0);
    assert_eq!(owned(&nodes[3]), [(3443, 3443)]);
    let run = reshard(&nodes[0])
        .args([
            "--slots",
            "30",
            "--from",
            &nodes[0].id(),
            "--to",
            &format!("{c},{d}"),
            "--yes",
        ])
        .args([
            "--rate",
            "500",
            "--output",
            "json",
            "--plan-out",
            plan.to_str().unwrap(),
        ])
        .run()
        .status(0);
    let events = run.json_lines();
    let done = events
        .iter()
        .filter(|event| event["event"] == "done")
        .count();
    assert_eq!(done, 1, "{}", run.stdout);
    let [.., moved, done] = &events[..] else {
        panic!("{}", run.stdout);
    };
    assert_eq!(done["event"], "done");
    assert_eq!(moved["event"], "moved");
    assert_eq!(moved["slot_count"], 30);
    assert!(moved["took_ms"].as_f64().unwrap() > 0.0, "{moved}");
    assert!(std::fs::read_to_string(plan).unwrap().contains("moves"));
    assert_closed(&nodes);
    assert_eq!(count(&nodes[3]), 16);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn passwords_users_and_tls() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let nodes = walkthrough(&quick().password("sesame"));
            fill(&nodes[..3], &names(0..20, 5));
            let before = contents(&nodes);
            let run = |pass: &str| {
                reshard(&nodes[0])
                    .env("REDISCLI_AUTH", pass)
                    .args(["--slot-ranges", "0-19", "--to", &nodes[3].id(), "--yes"])
                    .run()
            };
            run("wrong").status(4);
            run("sesame")
                .status(0)
                .stdout_lacks("sesame")
                .stderr_lacks("sesame");
            assert_closed(&nodes);
            assert_same(&before, &contents(&nodes));
            // The target has another password than the source would send: nothing is started.
            nodes[1].cmd(&["ACL", "SETUSER", "mover", "on", ">m", "~*", "&*", "+@all"]);
            nodes[3].cmd(&["ACL", "SETUSER", "mover", "on", ">m", "~*", "&*", "+@all"]);
            for node in [0, 2] {
                nodes[node].cmd(&["ACL", "SETUSER", "mover", "on", ">m", "~*", "&*", "+@all"]);
            }
            reshard(&nodes[0])
                .env("REDISCLI_AUTH", "m")
                .args([
                    "--user",
                    "mover",
                    "--slot-ranges",
                    "0-19",
                    "--to",
                    &nodes[0].id(),
                    "--yes",
                ])
                .run()
                .status(0);
            assert_closed(&nodes);
            assert_same(&before, &contents(&nodes));
        });
        scope.spawn(|| {
            let material = Material::new();
            let nodes = walkthrough(&quick().tls(&material));
            fill(&nodes[..3], &names(0..20, 5));
            let before = contents(&nodes);
            let run = reshard(&nodes[0])
                .args(["--tls", "--cacert", material.ca.to_str().unwrap()])
                .args(["--slot-ranges", "0-19", "--to", &nodes[3].id(), "--yes"])
                .args(["--rate", "20", "--max-open-slots", "2"])
                .spawn();
            until_moved(&nodes[3], 2);
            run.signal(Signal::SIGINT);
            let ended = run.wait().status(130);
            // What goes on reaches them in the same way.
            for command in told(&ended.stderr) {
                let quick = ["--yes", "--rate", "5000"];
                Trib::new().args(command).args(quick).run().status(0);
            }
            assert_closed(&nodes);
            assert_eq!(owned(&nodes[3]), [(0, 19)]);
            assert_same(&before, &contents(&nodes));
        });
    });
}

#[test]
fn keys_of_other_databases_move_too_in_the_matrix() {
    // Before Valkey 9 there is only database 0.
    if !crate::support::server::versions().contains(&"valkey-9.1") {
        return;
    }
    let spec = quick().version("valkey-9.1").arg("--cluster-databases", 16);
    let nodes = walkthrough(&spec);
    for (database, key) in [(0, 0), (3, 0), (15, 1)] {
        let name = &names([key], 1)[0];
        let mut connection = nodes[0].connection().unwrap();
        cmd("SELECT")
            .arg(database)
            .query::<()>(&mut connection)
            .unwrap();
        cmd("SET")
            .arg(name)
            .arg(database)
            .query::<()>(&mut connection)
            .unwrap();
    }
    let before = contents(&nodes);
    assert_eq!(before.len(), 3);
    reshard(&nodes[0])
        .args(["--slot-ranges", "0-3", "--to", &nodes[3].id(), "--yes"])
        .run()
        .status(0)
        .stdout_has("3 keys");
    assert_closed(&nodes);
    assert_eq!(owned(&nodes[3]), [(0, 3)]);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn at_the_prompt() {
    let nodes = walkthrough(&quick());
    let mut terminal = reshard(&nodes[0]).terminal();
    for wrong in ["many", "0", "-1", "16385"] {
        terminal.expect("How many slots").send_line(wrong);
        terminal.expect("is not a number from 1 to 16384");
    }
    terminal.expect("How many slots").send_line("1365");
    terminal.expect("receiving node ID").send_line("nobody");
    terminal.expect("is not a node of this cluster");
    terminal
        .expect("receiving node ID")
        .send_line(&nodes[3].id());
    terminal.expect("Source node #1").send_line("done");
    terminal.expect("name at least one source");
    terminal.expect("Source node #1").send_line(&nodes[3].id());
    terminal.expect("is the target of the move");
    terminal.expect("Source node #1").send_line(&nodes[0].id());
    terminal.expect("Source node #2").send_line(&nodes[0].id());
    terminal.expect("named already");
    terminal.expect("Source node #2").send_line("done");
    // A typing error at the last question does not discard the answers.
    terminal.expect("Do you want to proceed").send_line("yse");
    terminal.expect("type 'yes' to accept, or 'no' to decline");
    terminal.expect("Do you want to proceed").send_line("yes");
    let (from, to) = (nodes[0].id(), nodes[3].id());
    let line = format!("--slots 1365 --from {from} --to {to} --yes");
    terminal
        .expect("Without prompts:")
        .expect("redis-trib reshard")
        .expect(&line);
    terminal.finish().status(0);
    assert_closed(&nodes);
    assert_eq!(owned(&nodes[3]), [(0, 1364)]);
    let mut terminal = reshard(&nodes[0])
        .args(["--slot-ranges", "0", "--to", &nodes[0].id()])
        .terminal();
    terminal.expect("Do you want to proceed").send_line("no");
    terminal.finish().status(5);
    assert_eq!(owned(&nodes[3]), [(0, 1364)]);
}

#[test]
fn a_prompt_that_is_left() {
    let nodes = walkthrough(&quick());
    let to = nodes[3].id();
    let answers = ["10", &to, "all"];
    let questions = [
        "How many slots",
        "receiving node ID",
        "Source node #1",
        "Do you want to proceed",
    ];
    for (n, last) in questions.iter().enumerate() {
        for (key, code) in [('c', 130), ('d', if n == 3 { 5 } else { 2 })] {
            let mut terminal = reshard(&nodes[0]).terminal();
            for (question, answer) in questions.iter().zip(answers).take(n) {
                terminal.expect(question).send_line(answer);
            }
            terminal.expect(last).control(key);
            terminal.finish().status(code);
        }
    }
    assert_eq!(count(&nodes[3]), 0);
}

#[test]
fn ctrl_c_under_the_bars() {
    let nodes = walkthrough(&quick());
    fill(&nodes[..3], &names(0..100, 5));
    let mut terminal = reshard(&nodes[0])
        .args(["--slot-ranges", "0-99", "--to", &nodes[3].id(), "--yes"])
        .args(["--rate", "50", "--max-open-slots", "4"])
        .terminal();
    terminal.expect("keys/s").control('c');
    let ended = terminal.finish().status(130).stdout_has("not begun");
    // The cursor goes up to the first of two bars from the start of a line: after the last column, the
    // echo of ^C would start a new line, and leave a bar behind. (This terminal does not echo.)
    let drawn = ended.stdout.replace("\r\u{1b}[1A", "");
    assert!(
        drawn != ended.stdout && !drawn.contains(" \u{1b}[1A"),
        "{drawn}"
    );
    assert_closed(&nodes);
}

#[test]
fn a_list_to_choose_from() {
    let nodes = walkthrough(&quick());
    let begin = || {
        let mut terminal = reshard(&nodes[0]).args(["--slots", "10"]).terminal();
        terminal.expect("receiving node ID").send_line("");
        terminal.expect("Target").expect("slots");
        terminal
    };
    let mut terminal = begin();
    terminal.send("\r").expect("Source node #1").send_line("?");
    terminal.expect("Sources").expect("slots").send(" \r");
    terminal.expect("10 slots to move");
    terminal.expect("Do you want to proceed").send_line("yes");
    terminal.finish().status(0);
    assert_closed(&nodes);
    // Esc goes back to the question, and what is typed counts as before.
    let mut terminal = begin();
    terminal.send("\u{1b}").expect("receiving node ID");
    terminal.send_line(&nodes[3].id());
    terminal.expect("Source node #1").send_line("all");
    terminal.expect("Do you want to proceed").send_line("no");
    terminal.finish().status(5);
    // The cursor, hidden while a list is shown, is there again.
    let mut terminal = begin();
    terminal.control('c');
    let ended = terminal.finish().status(130);
    let shown = ended.stdout.rfind("\u{1b}[?25h");
    assert!(
        shown > ended.stdout.rfind("\u{1b}[?25l"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_prefix_of_three_characters_is_too_short() {
    let nodes = Nodes::with(2, &quick());
    nodes.form(2);
    let id = nodes[1].id();
    let to = |length: usize| {
        reshard(&nodes[0])
            .args(["--slots", "5", "--from", "all", "--to", &id[..length]])
            .arg("--yes")
            .run()
    };
    to(3).status(3).stderr_has(&id[..3]).stderr_has("too short");
    to(4).status(0);
}

/// Open slots are not finished first where the command is then refused for a flag that is missing.
#[test]
fn a_flag_is_missing_before_open_slots_are_finished() {
    let nodes = Nodes::with(2, &quick());
    nodes.form(2);
    let ids: Vec<String> = nodes.iter().map(Server::id).collect();
    nodes[1].cmd(&["CLUSTER", "SETSLOT", "5", "IMPORTING", &ids[0]]);
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "5", "MIGRATING", &ids[1]]);
    for (flags, missing) in [
        (vec!["--finish-open"], "--slots"),
        (vec!["--finish-open", "--slots", "5"], "--to"),
        (vec!["--finish-open", "--tag", "a"], "--to"),
        (
            vec!["--finish-open", "--slots", "5", "--to", &ids[1]],
            "--from",
        ),
    ] {
        let run = reshard(&nodes[0]).args(&flags).arg("--yes").run();
        run.status(2).stderr_has(&format!("{missing} is missing"));
    }
    assert!(nodes[0].nodes_text().contains("->-"));
}

#[test]
fn what_cannot_be() {
    let nodes = Nodes::with(4, &quick());
    nodes.form(3);
    let ids: Vec<String> = nodes.iter().map(Server::id).collect();
    let [a, b, replica] = [&ids[0], &ids[1], &ids[3]];
    let long = Duration::from_secs(5);
    let said = |args: &[&str], code: i32| {
        let ended = reshard(&nodes[0])
            .args(args)
            .run()
            .status(code)
            .within(long);
        ended.stderr
    };
    let has = |args: &[&str], code: i32, words: &[&str]| {
        let text = said(args, code);
        for word in words {
            assert!(text.contains(word), "{args:?}: {word} is not in {text}");
        }
    };
    for slots in ["0", "-1", "16385", "many"] {
        has(
            &["--slots", slots, "--from", "all", "--to", a, "--yes"],
            2,
            &["--slots"],
        );
    }
    has(
        &["--slots", "5462", "--from", a, "--to", b, "--yes"],
        3,
        &["5462", "5461"],
    );
    let named = format!("{} ({})", nodes[0].addr(), &a[..8]);
    for from in [a.clone(), format!("{b},{a}")] {
        has(
            &["--slots", "5", "--from", &from, "--to", a, "--yes"],
            3,
            &[&named, "both a source and a target"],
        );
    }
    has(
        &["--slots", "5", "--from", "nobody", "--to", a, "--yes"],
        3,
        &["nobody"],
    );
    // As a script has it whose variable is empty.
    has(&["--tag", "", "--to", a, "--yes"], 2, &["--tag"]);
    has(&["--slot-ranges", "", "--to", a], 2, &["--slot-ranges"]);
    has(&["--slots", "5", "--from", "", "--to", a], 3, &["\"\""]);
    has(
        &["--slots", "5", "--from", a, "--to", replica, "--yes"],
        3,
        &["replica", &nodes[0].addr()],
    );
    has(
        &["--slots", "5", "--from", replica, "--to", b, "--yes"],
        3,
        &["replica", &nodes[0].addr()],
    );
    has(
        &["--slots", "5", "--from", a, "--to", "zzzz", "--yes"],
        3,
        &["zzzz"],
    );
    has(
        &["--slot-ranges", "16384", "--to", a, "--yes"],
        2,
        &["--slot-ranges", "16384"],
    );
    has(&["--slot-ranges", "9-3", "--to", a, "--yes"], 2, &["9-3"]);
    has(&[], 2, &["--slots"]);
    has(&["--slots", "5"], 2, &["--to"]);
    has(&["--slots", "5", "--to", b], 2, &["--from"]);
    has(&["--slots", "5", "--to", b, "--from", a], 5, &["--yes"]);
    has(&["--slots", "5", "--tag", "x", "--to", b], 2, &["--tag"]);
    // Nothing of all that changed anything.
    assert_closed(&nodes);
    on_owner(&nodes[..3], b"x", &{
        let mut get = cmd("GET");
        get.arg("x");
        get
    });
    // A slot without owner.
    nodes[0].cmd(&["CLUSTER", "DELSLOTS", "7"]);
    has(
        &["--slots", "5", "--from", a, "--to", b, "--yes"],
        3,
        &["not healthy", "7"],
    );
}
