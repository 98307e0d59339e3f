//! Nodes that lie, never stop talking, or say what would steer a terminal, met by every command.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::command::{Ended, Finished, Trib};
use crate::support::findings::codes;
use crate::support::hostile_text::{HOSTILE, is_unsafe};
use crate::support::proxy::Proxy;
use crate::support::scripted::{FakeCluster, Reply, Script, Scripted, fake_cluster_where};
use crate::support::subcommands::check_json;
use crate::support::wait::PATIENCE;

/// The commands that are sent to a node, besides those that identify it.
const QUESTIONS: [&str; 29] = [
    "ACL",
    "CLIENT",
    "CLUSTER COUNTKEYSINSLOT",
    "CLUSTER FAILOVER",
    "CLUSTER FORGET",
    "CLUSTER GETKEYSINSLOT",
    "CLUSTER GETSLOTMIGRATIONS",
    "CLUSTER MEET",
    "CLUSTER REPLICATE",
    "CLUSTER RESET",
    "CLUSTER SETSLOT",
    "CLUSTER SLOT-STATS",
    "COMMAND",
    "CONFIG",
    "DBSIZE",
    "FUNCTION",
    "MEMORY",
    "MIGRATE",
    "MODULE",
    "MULTI",
    "EXEC",
    "PSYNC",
    "PTTL",
    "REPLCONF",
    "SCAN",
    "SYNC",
    "TIME",
    "TYPE",
    "WAIT",
];

fn asked(reply: &Reply, script: Script) -> Script {
    let on = |script: Script, question: &&str| script.on(question, reply.clone());
    QUESTIONS.iter().fold(script, on)
}

/// Three masters with a replica each; the second master answers everything else with that.
fn cluster(reply: &Reply) -> FakeCluster {
    fake_cluster_where(3, 3, |index, script| match index {
        1 => asked(reply, script),
        _ => script,
    })
}

fn said_by(trib: Trib) -> Finished {
    let limits = ["--command-timeout", "500ms", "--connect-timeout", "500ms"];
    trib.args(limits).timeout(Duration::from_secs(60)).run()
}

#[test]
fn no_answer_steers_the_terminal() {
    let replies = [
        Reply::error(&format!("ERR {HOSTILE}")),
        Reply::simple(HOSTILE),
        Reply::bulk(&format!("{HOSTILE}\n{HOSTILE}")),
        Reply::array([Reply::bulk(HOSTILE), Reply::bulk(HOSTILE)]),
    ];
    thread::scope(|scope| {
        for reply in &replies {
            scope.spawn(move || answers(reply));
        }
    });
}

fn answers(reply: &Reply) {
    let cluster = cluster(reply);
    let stranger = asked(reply, Script::new())
        .on(
            "INFO",
            Reply::bulk(&format!("redis_version:{HOSTILE}\r\nrole:{HOSTILE}\r\n")),
        )
        .start();
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup").display().to_string();
    let journal = folder.path().join("journal").display().to_string();
    let (seed, evil) = (cluster.nodes[0].addr(), cluster.nodes[1].addr());
    let (replica, stranger) = (&cluster.ids[4], stranger.addr());
    let lines: [&[&str]; 21] = [
        &["info", &seed],
        &["watch", &seed, "--once", "-n=100ms"],
        &["where", &seed, "a", "b", "c", "--slot", "6000"],
        &["drift", &seed],
        &[
            "drift",
            &seed,
            "--fix",
            "config:hz",
            "--from",
            &evil,
            "--yes",
        ],
        &["slots", &seed, "--for=100ms"],
        &["slots", &seed, "--for=100ms", "--enable-stats", "--yes"],
        &["fix", &seed, "--yes"],
        &[
            "reshard", &seed, "--yes", "--slots", "3", "--from", &evil, "--to", &seed,
        ],
        &[
            "reshard", &seed, "--yes", "--slots", "3", "--from", &seed, "--to", &evil,
        ],
        &[
            "rebalance",
            &seed,
            "--yes",
            "--weight",
            &format!("{evil}=2"),
        ],
        &["add-node", &stranger, &seed, "--yes", "--join-timeout=1s"],
        &["create", &stranger, &evil, &seed, "--yes"],
        &["del-node", &seed, replica, "--yes"],
        &["failover", &seed, replica, "--yes", "--timeout=1s"],
        &["ok-to-stop", &seed, &evil],
        &["ok-to-stop", &seed, "--max"],
        &["set-timeout", &seed, "15s", "--yes"],
        &["import", "--from", &stranger, &seed, "--yes"],
        &["verify", "--from", &stranger, &seed],
        &["backup", &seed, &backup, "--stall-timeout=1s"],
    ];
    for line in lines {
        for format in ["classic", "table", "json"] {
            let ended = said_by(Trib::new().args(line).args([
                "-o",
                format,
                "--verbose",
                "--journal",
                &journal,
            ]));
            harmless(&format!("{line:?} {format}"), &ended);
        }
    }
    let written = fs::read_to_string(&journal).unwrap_or_default();
    assert!(!written.contains(is_unsafe), "{written:?}");
}

#[track_caller]
fn harmless(line: &str, ended: &Finished) {
    for text in [&ended.stdout, &ended.stderr] {
        assert!(!text.contains(is_unsafe), "{line}: {text:?}");
        // Nor does it pass for a line of ours.
        let passes = text.lines().any(|line| line.starts_with("INJECTED"));
        assert!(!passes, "{line}: {text}");
    }
    let orderly = matches!(ended.status, Ended::Status(code) if code != 101);
    assert!(
        orderly,
        "{line}: {:?}\n{}{}",
        ended.status, ended.stdout, ended.stderr
    );
}

#[test]
fn endless_answers_end_and_take_no_memory() {
    let replies = [
        Reply::endless_bulk(),
        Reply::endless_line(),
        Reply::claims(1 << 40),
        Reply::claims_items(1 << 40),
    ];
    thread::scope(|scope| {
        for reply in &replies {
            scope.spawn(move || {
                let cluster = cluster(reply);
                let (seed, evil) = (cluster.nodes[0].addr(), cluster.nodes[1].addr());
                let lines: [&[&str]; 3] = [
                    &["fix", &seed, "--yes"],
                    &[
                        "reshard",
                        &seed,
                        "--yes",
                        "--slots=3",
                        "--from",
                        &evil,
                        "--to",
                        &seed,
                    ],
                    &["set-timeout", &seed, "15s", "--yes"],
                ];
                for line in lines {
                    let ended = within_memory(Trib::new().args(line));
                    assert!(
                        matches!(ended.status, Ended::Status(1 | 3 | 4 | 6)),
                        "{line:?}: {:?}\n{}{}",
                        ended.status,
                        ended.stdout,
                        ended.stderr
                    );
                    ended.stderr_has(&evil);
                }
            });
        }
    });
}

/// Runs it, and it never takes more than 300 MiB: a reply of 32 MiB is the longest that is read.
fn within_memory(trib: Trib) -> Finished {
    // The nodes of the test share its threads with endless answers: those that are no fault come late.
    let limits = ["--command-timeout", "5s"];
    let mut run = trib.args(limits).timeout(PATIENCE * 3).spawn();
    let file = format!("/proc/{}/status", run.pid());
    let began = Instant::now();
    while !run.has_ended() && began.elapsed() < PATIENCE * 3 {
        let status = fs::read_to_string(&file).unwrap_or_default();
        let most = status.lines().find_map(|line| {
            let number = line.strip_prefix("VmHWM:")?.trim().split(' ').next()?;
            number.parse::<usize>().ok()
        });
        assert!(most.unwrap_or(0) < 300 << 10, "{most:?} kB");
        thread::sleep(Duration::from_millis(5));
    }
    run.wait()
}

#[test]
fn files_without_an_end_are_not_read() {
    for line in [
        &["apply", "/dev/zero", "127.0.0.1:1"][..],
        &["check", "127.0.0.1:1", "--pass-file", "/dev/zero"],
    ] {
        within_memory(Trib::new().args(line))
            .status(2)
            .stderr_has("/dev/zero")
            .stderr_has("larger than 64 MiB");
    }
}

/// Three masters, of which the second tells at each look that it is the one whose number stands there.
fn with_a_liar(is: &[usize]) -> Vec<(Proxy, Scripted)> {
    let proxies: Vec<Proxy> = (0..3).map(|_| Proxy::unconnected()).collect();
    let table = |myself: usize| {
        let slots = ["0-5460", "5461-10922", "10923-16383"];
        let line = |index: usize, id: usize| {
            let me = if id == myself { "myself," } else { "" };
            let (addr, epoch) = (proxies[index].addr(), index + 1);
            let slots = slots[index];
            format!("{id:040x} {addr}@1 {me}master - 0 1 {epoch} connected {slots}\n")
        };
        // An id that none of the three nodes has takes the place of the second.
        let ids = [1, if myself > 3 { myself } else { 2 }, 3];
        let lines: String = (0..3).map(|index| line(index, ids[index])).collect();
        Reply::bulk(&lines)
    };
    let nodes: Vec<Scripted> = (0..3)
        .map(|index| {
            let tables = match index {
                1 => is.iter().map(|id| table(*id)).collect(),
                _ => vec![table(index + 1)],
            };
            Script::new()
                .on_each("CLUSTER NODES", tables)
                .on("CLUSTER INFO", Reply::bulk("cluster_state:ok\r\n"))
                .on("CLUSTER SETSLOT", Reply::ok())
                .on("CLUSTER FORGET", Reply::ok())
                .on("CLUSTER COUNTKEYSINSLOT", Reply::int(0))
                .on("CLUSTER GETKEYSINSLOT", Reply::array([]))
                .start()
        })
        .collect();
    for (proxy, node) in proxies.iter().zip(&nodes) {
        proxy.point_at(&node.addr());
    }
    proxies.into_iter().zip(nodes).collect()
}

/// A false answer is not trusted: nothing is changed on any node, and the message names the node.
#[track_caller]
fn not_believed(is: &[usize]) {
    let nodes = with_a_liar(is);
    let addr = |index: usize| nodes[index].0.addr();
    for line in [
        &[
            "reshard",
            &addr(0),
            "--yes",
            "--slots=3",
            "--from",
            &addr(1),
            "--to",
            &addr(2),
        ][..],
        &[
            "reshard",
            &addr(0),
            "--yes",
            "--slots=3",
            "--from",
            &addr(0),
            "--to",
            &addr(1),
        ],
        &[
            "rebalance",
            &addr(0),
            "--yes",
            "--threshold=0",
            "--weight",
            &format!("{}=2", addr(0)),
        ],
        &["fix", &addr(0), "--yes", "--assign-uncovered", "0-16383"],
        &["del-node", &addr(0), &addr(1), "--yes", "--drain"],
    ] {
        let ended = Trib::new().args(line).run();
        assert_ne!(ended.status, Ended::Status(0), "{line:?}: {}", ended.stdout);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains(&addr(1)), "{line:?}: {said}");
        for (_, node) in &nodes {
            let changes = |command: &String| {
                [
                    "CLUSTER SETSLOT",
                    "CLUSTER FORGET",
                    "CLUSTER RESET",
                    "CLUSTER ADDSLOTS",
                    "CLUSTER MEET",
                ]
                .iter()
                .any(|change| command.to_uppercase().starts_with(change))
            };
            let changed: Vec<String> = node.commands().into_iter().filter(changes).collect();
            assert!(changed.is_empty(), "{line:?}: {changed:?}");
        }
    }
}

#[test]
fn who_claims_another_members_id_is_not_believed() {
    let nodes = with_a_liar(&[1]);
    let json = check_json(&nodes[0].0.addr()).run().status(1).json();
    let found = codes(&json);
    assert!(found.contains(&"foreign-node"), "{:#}", json["findings"]);
    not_believed(&[1]);
}

#[test]
fn who_is_another_at_each_look_is_not_believed() {
    not_believed(&[9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
    // True at first.
    not_believed(&[2, 9]);
}
