//! `failover` and `fix --failover`: only a replica with a safe copy takes over without its master.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::keys::fill;
use crate::support::proxy::Proxy;
use crate::support::server::{Server, Spec, versions};
use crate::support::wait::{PATIENCE, until};

/// Servers that elect no replica by themselves.
fn spec(version: &str) -> Spec {
    Spec::new()
        .quick()
        .version(version)
        .arg("--cluster-replica-no-failover", "yes")
}

/// Three masters, and replicas of the first.
#[track_caller]
fn shard(replicas: usize, spec: &Spec) -> Nodes {
    shard_of(Nodes::with(3 + replicas, spec))
}

/// The same, of these servers.
#[track_caller]
fn shard_of(nodes: Nodes) -> Nodes {
    let replicas = nodes.len() - 3;
    nodes.form(3);
    for index in 4..nodes.len() {
        nodes.replicate(index, 0);
    }
    let follows = format!(" {} ", nodes[0].id());
    for server in nodes.iter() {
        until("all to know the replicas", PATIENCE, || {
            let text = server.nodes_text();
            match text.matches(&follows).count() == replicas {
                true => Ok(()),
                false => Err(text),
            }
        });
    }
    nodes.wait_usable();
    nodes
}

/// Keys on all masters, which the replicas have, too.
#[track_caller]
fn fill_with(nodes: &[Server], tag: &str, count: usize) {
    let keys: Vec<String> = (0..count).map(|number| format!("{tag}{number}")).collect();
    fill(&nodes[..3], &keys);
}

#[track_caller]
fn wait_for_copies(nodes: &[Server]) {
    for replica in &nodes[3..] {
        until("the replica to have all keys", PATIENCE, || {
            match (size(&nodes[0]), size(replica)) {
                (all, some) if all == some => Ok(()),
                sizes => Err(format!("{sizes:?}")),
            }
        });
    }
}

fn size(server: &Server) -> i64 {
    redis::from_redis_value(server.cmd(&["DBSIZE"])).unwrap()
}

fn offset(server: &Server) -> String {
    server.field("master_repl_offset").unwrap()
}

fn role(server: &Server) -> String {
    server.field("role").unwrap()
}

/// `failover` through the second master.
fn failover(nodes: &[Server], args: &[&str]) -> Trib {
    Trib::new()
        .args(["failover", "--yes", &nodes[1].addr()])
        .args(args)
}

fn fix(nodes: &[Server], args: &[&str]) -> Trib {
    Trib::new()
        .args(["fix", "--yes", &nodes[1].addr()])
        .args(args)
}

#[track_caller]
fn until_failed(nodes: &[Server], master: &str) {
    for server in &nodes[1..3] {
        until("the master to be flagged as failed", PATIENCE, || {
            let text = server.nodes_text();
            let mut lines = text.lines().map(|line| line.split(' '));
            let mut line = lines
                .find(|line| line.clone().next() == Some(master))
                .unwrap();
            match line.nth(2).unwrap().split(',').any(|flag| flag == "fail") {
                true => Ok(()),
                false => Err(text),
            }
        });
    }
}

/// A replica that starts without its data, while its master is dead, has no keys: it takes over only if that is given
/// up by name.
#[test]
fn matrix_a_replica_that_restarted_empty() {
    for version in versions() {
        let nodes = shard(1, &spec(version));
        fill_with(&nodes, "k", 300);
        wait_for_copies(&nodes);
        let (master, replica) = (nodes[0].id(), nodes[3].id());
        nodes[3].kill();
        nodes[0].kill();
        let _ = std::fs::remove_file(nodes[3].dir().join("dump.rdb"));
        nodes[3].restart();
        until_failed(&nodes, &master);
        let accept = format!("--accept-data-loss-of {}", &replica[..8]);
        for how in ["--force", "--takeover"] {
            for member in [["--to", &replica], ["--of", &master]] {
                failover(&nodes, &[&[how], &member[..]].concat())
                    .run()
                    .status(3)
                    .stderr_has("it has no keys, and has completed no full resync")
                    .stderr_has("no safe copy answers")
                    .stderr_has(&accept)
                    .stderr_has("0 keys, offset ")
                    .stderr_has("link not up since its server started");
            }
        }
        for how in ["force", "takeover"] {
            fix(&nodes, &["--failover", how])
                .run()
                .status(3)
                .stderr_has(&accept);
        }
        let told = fix(&nodes, &["--failover", "force", "--dry-run", "-o", "json"]);
        let told = told.run().json_lines();
        let plan = told
            .iter()
            .find(|line| line["event"] == "remedies")
            .unwrap();
        let mut refused = plan["refused"].as_array().unwrap().iter();
        let copies = refused.find_map(|one| one["copies"].as_array()).unwrap();
        assert_eq!(copies.len(), 1, "{plan}");
        assert_eq!(copies[0]["id"], replica.as_str());
        assert_eq!(copies[0]["key_count"], 0);
        assert_eq!(role(&nodes[3]), "slave");
        // `check` proposes no failover that is refused.
        Trib::new()
            .args(["check", &nodes[1].addr()])
            .run()
            .stdout_lacks("--force");
        fix(
            &nodes,
            &[
                "--failover",
                "takeover",
                "--accept-data-loss-of",
                &replica[..12],
            ],
        )
        .run()
        .status(0);
        assert_eq!(role(&nodes[3]), "master");
    }
}

/// A failover that fails does not make the copy worthless: `--accept-data-loss` gives up nothing that a replica has.
#[test]
fn matrix_a_copy_outlasts_a_failover_that_failed() {
    for version in versions().iter().filter(|name| **name != "redis-6.2") {
        let nodes = shard(1, &spec(version));
        fill_with(&nodes, "k", 300);
        wait_for_copies(&nodes);
        let (master, keys) = (nodes[0].id(), size(&nodes[0]));
        nodes[0].kill();
        until_failed(&nodes, &master);
        let line = |how| fix(&nodes, &["--failover", how, "--accept-data-loss", "0-5460"]);
        nodes[3].cmd(&["ACL", "SETUSER", "default", "-cluster|failover"]);
        for how in ["force", "takeover"] {
            let refused = line(how).run();
            refused.stderr_has("did not take over").status(3);
            for server in &nodes[1..] {
                let view = server.nodes_text();
                let mut lines = view.lines();
                let owner = lines.find(|line| line.contains(" 0-5460")).unwrap();
                assert!(owner.starts_with(&master), "{view}");
            }
        }
        nodes[3].cmd(&["ACL", "SETUSER", "default", "+cluster|failover"]);
        line("force").run().status(0);
        assert_eq!(role(&nodes[3]), "master");
        assert_eq!(size(&nodes[3]), keys);
    }
}

/// A replica that is loading its data set may have a safe copy, which is not given up either.
#[test]
fn a_copy_that_is_being_loaded_is_not_given_up() {
    let nodes = shard(
        1,
        &spec("redis-7.0").arg("--loading-process-events-interval-bytes", 1024),
    );
    let value = "v".repeat(180);
    let mut words = vec!["MSET".to_string()];
    for key in 0..5_000 {
        words.extend([format!("{{06S}}{key}"), value.clone()]);
    }
    nodes[0].cmd(&words);
    wait_for_copies(&nodes);
    let master = nodes[0].id();
    nodes[3].cmd(&["SAVE"]);
    nodes[3].kill();
    nodes[0].kill();
    until_failed(&nodes, &master);
    // Almost two minutes.
    nodes[3].restart_with(&["--key-load-delay", "20000"]);
    let loads = |wanted: &str| {
        until(
            "the replica to load, or to have loaded",
            PATIENCE,
            || match nodes[3].field("loading").as_deref() {
                Some(now) if now == wanted => Ok(()),
                other => Err(format!("{other:?}")),
            },
        );
    };
    loads("1");
    let line = || {
        fix(
            &nodes,
            &["--failover", "force", "--accept-data-loss", "0-5460"],
        )
    };
    line().run().status(3).stderr_has("loading its data set");
    nodes[3].cmd(&["CONFIG", "SET", "key-load-delay", "0"]);
    loads("0");
    line().run().status(0);
    assert_eq!((role(&nodes[3]), size(&nodes[3])), ("master".into(), 5_000));
}

/// The same, with the master in the place of its replica, and `failover`.
#[test]
fn what_is_given_up_by_name() {
    let nodes = shard(1, &spec("redis-7.0"));
    fill_with(&nodes, "k", 100);
    wait_for_copies(&nodes);
    let (master, replica) = (nodes[0].id(), nodes[3].id());
    nodes[3].kill();
    nodes[0].kill();
    let _ = std::fs::remove_file(nodes[3].dir().join("dump.rdb"));
    nodes[3].restart();
    until_failed(&nodes, &master);
    // Another node does not stand for it.
    failover(
        &nodes,
        &[
            "--to",
            &replica,
            "--force",
            "--accept-data-loss-of",
            &nodes[2].id(),
        ],
    )
    .run()
    .status(3)
    .stderr_has("must not take over from ");
    let lines = failover(
        &nodes,
        &["--of", &master, "--force", "--accept-data-loss-of", &master],
    )
    .args(["-o", "json"])
    .run()
    .status(0)
    .json_lines();
    let copies = lines[0]["copies"].as_array().unwrap();
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(copies[0]["id"], replica);
    assert_eq!(copies[0]["key_count"], 0);
    assert_eq!(copies[0]["link"], "down");
    assert_eq!(copies[0]["unsafe"], "never-synced");
    assert_eq!(role(&nodes[3]), "master");
}

/// A replica that started with an old file has data, and less than the other one.
#[test]
fn matrix_the_most_advanced_copy_is_chosen() {
    for version in versions() {
        let nodes = shard(2, &spec(version));
        fill_with(&nodes, "k", 300);
        wait_for_copies(&nodes);
        nodes[4].cmd(&["SAVE"]);
        nodes[4].kill();
        fill_with(&nodes, "more", 600);
        wait_for_copies(&nodes[..4]);
        let (master, all) = (nodes[0].id(), size(&nodes[3]));
        nodes[0].kill();
        nodes[4].restart();
        until_failed(&nodes, &master);
        let (best, old) = (nodes[3].id(), nodes[4].id());
        failover(&nodes, &["--to", &old, "--force"])
            .run()
            .status(3)
            .stderr_has(" behind ")
            .stderr_has(&format!(
                "{} ({}) has the better copy (--to {})",
                nodes[3].addr(),
                &best[..8],
                &best[..8]
            ))
            .stderr_has(&format!("--accept-data-loss-of {}", &old[..8]));
        failover(&nodes, &["--of", &master, "--takeover", "--dry-run"])
            .run()
            .status(0)
            .stdout_has(&format!("{all} keys, offset "))
            .stdout_has(&format!("{} keys, offset ", size(&nodes[4])))
            .stdout_has("It has the most of the data, of 2 replicas.");
        fix(&nodes, &["--failover", "force"])
            .run()
            .status(0)
            .stdout_has(&format!("failover to {} (", nodes[3].addr()));
        assert_eq!(role(&nodes[3]), "master");
        assert_eq!(size(&nodes[3]), all);
    }
}

/// A copy that started with an old file is all that is left: it is shown, and takes over.
#[test]
fn the_only_copy_is_an_old_one() {
    let nodes = shard(1, &spec("redis-7.0"));
    fill_with(&nodes, "k", 300);
    wait_for_copies(&nodes);
    nodes[3].cmd(&["SAVE"]);
    let (master, keys) = (nodes[0].id(), size(&nodes[3]));
    nodes[3].kill();
    nodes[0].kill();
    nodes[3].restart();
    until_failed(&nodes, &master);
    failover(&nodes, &["--to", &nodes[3].id(), "--force"])
        .run()
        .status(0)
        .stdout_has(&format!("{keys} keys, offset "))
        .stdout_has("link not up since its server started");
    assert_eq!(size(&nodes[3]), keys);
}

/// No node has keys: there is nothing to lose.
#[test]
fn matrix_an_empty_shard() {
    for version in versions() {
        let nodes = shard(1, &spec(version));
        let master = nodes[0].id();
        nodes[0].kill();
        until_failed(&nodes, &master);
        fix(&nodes, &["--failover", "force"]).run().status(0);
        assert_eq!(role(&nodes[3]), "master");
    }
}

/// A copy of a master that has replicated nothing yet is not taken for a lost one after a restart: `create` and `add-node`
/// see to it that the stream has begun when it is made. (Redis 6.2 makes it at once, and leaves no time for that.)
#[test]
fn matrix_the_copy_of_an_empty_master_after_a_restart() {
    for version in versions().iter().filter(|name| **name != "redis-6.2") {
        let spec = spec(version).arg("--repl-diskless-sync-delay", 8);
        let nodes = Nodes::with(4, &spec);
        Trib::new()
            .args(["create", "--yes"])
            .args(nodes[..3].iter().map(Server::addr))
            .run()
            .status(0);
        let master = nodes[0].id();
        Trib::new()
            .args(["add-node", "--yes", &nodes[3].addr(), &nodes[1].addr()])
            .args(["--replica", "--master-id", &master])
            .run()
            .status(0);
        nodes[0].kill();
        nodes[3].kill();
        nodes[3].restart();
        until_failed(&nodes, &master);
        let taken = failover(&nodes, &["--takeover", "--of", &master]);
        taken.run().status(0);
        assert_eq!(role(&nodes[3]), "master");
    }
}

/// The stream of an empty master begins while nodes do not agree yet: its copy does not wait for them.
#[test]
fn a_stream_begins_before_all_agree() {
    // Pings to replicas are a part of the stream, too.
    let spec = spec("redis-7.0")
        .arg("--repl-diskless-sync-delay", 8)
        .arg("--repl-ping-replica-period", 3600);
    let (nodes, proxies) = Nodes::behind_proxies(4, &spec);
    Trib::new()
        .args(["create", "--yes"])
        .args(proxies[..3].iter().map(Proxy::addr))
        .run()
        .status(0);
    proxies[3].stall_at("CLUSTER REPLICATE", 1);
    let run = Trib::new()
        .args(["add-node", "--yes", &proxies[3].addr(), &proxies[1].addr()])
        .args(["--replica", "--master-id", &nodes[0].id()])
        .args(["--command-timeout", "60s"])
        .spawn();
    assert!(proxies[3].wait_stalled(PATIENCE), "it never came to that");
    proxies[2].stall();
    proxies[3].resume();
    until("the stream to begin", PATIENCE, || {
        match offset(&nodes[0]).as_str() {
            "0" => Err(run.stdout_so_far()),
            _ => Ok(()),
        }
    });
    proxies[2].resume();
    run.wait().status(0);
}

/// The master answers, and its replica lost the link to it before the last writes.
#[test]
fn a_master_that_answers_has_the_better_copy() {
    let nodes = shard(1, &spec("redis-7.0"));
    fill_with(&nodes, "k", 300);
    wait_for_copies(&nodes);
    nodes[0].cmd(&["ACL", "SETUSER", "default", "-psync", "-sync"]);
    nodes[0].cmd(&["CLIENT", "KILL", "TYPE", "replica"]);
    until("the link to be down", PATIENCE, || {
        match nodes[3].field("master_link_status").unwrap() {
            status if status == "down" => Ok(()),
            status => Err(status),
        }
    });
    fill_with(&nodes, "more", 600);
    let replica = nodes[3].id();
    for how in ["--force", "--takeover"] {
        let refused = failover(&nodes, &["--to", &replica, how])
            .run()
            .status(3)
            .stderr_has("answers and has the better copy");
        // It asks for SYNC when PSYNC is refused, and says for a moment that it is under way.
        let behind = format!("behind {} (", nodes[0].addr());
        let said = [&behind, "its full resync is under way"];
        assert!(
            said.iter().any(|why| refused.stderr.contains(why)),
            "{}",
            refused.stderr
        );
    }
    // Small differences between copies with a link are normal.
    nodes[0].cmd(&["ACL", "SETUSER", "default", "+psync", "+sync"]);
    nodes.wait_usable();
    failover(&nodes, &["--to", &replica, "--takeover"])
        .run()
        .status(0);
    assert_eq!(role(&nodes[3]), "master");
}

/// Nothing arrives any more over a link that says up, and the master answers: the replica lacks far less than what could
/// be in flight, and does not take over.
#[test]
fn matrix_a_link_that_says_up_and_brings_nothing() {
    for version in versions() {
        let (nodes, proxies) = Nodes::behind_proxies(4, &spec(version));
        nodes.form(3);
        fill_with(&nodes, "k", 300);
        wait_for_copies(&nodes);
        let (master, replica) = (nodes[0].id(), nodes[3].id());
        let had = size(&nodes[3]);
        // The stream comes through it, and redis-trib goes around it.
        proxies[0].stall();
        fill_with(&nodes, "more", 600);
        let map = format!("--address-map={}={}", proxies[0].addr(), nodes[0].addr());
        let line = |args: &[&str]| failover(&nodes, args).arg(&map);
        let accept = format!("--accept-data-loss-of {}", &replica[..8]);
        for how in ["--force", "--takeover"] {
            for member in [["--to", &replica], ["--of", &master]] {
                line(&[&[how], &member[..]].concat())
                    .run()
                    .status(3)
                    .stderr_has(&format!("behind {} (", nodes[0].addr()))
                    .stderr_has(&accept)
                    .stderr_has("nothing was changed");
            }
        }
        assert_eq!(nodes[3].field("master_link_status").unwrap(), "up");
        assert_eq!((role(&nodes[3]), size(&nodes[3])), ("slave".into(), had));
        let run = line(&["--to", &replica, "--force"])
            .args(["--accept-data-loss-of", &replica, "--timeout", "2s"])
            .run();
        assert_eq!(role(&nodes[3]), "master", "{}", run.stderr);
    }
}

/// A replica under writes takes over at once: it has soon what its master had when it was asked.
#[test]
fn a_forced_failover_under_writes() {
    let nodes = shard(1, &spec("redis-7.0"));
    let value = "x".repeat(10_000);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = nodes[0].connection().unwrap();
            while !stop.load(Ordering::Relaxed) {
                // It is refused once the master has become a replica.
                let mut set = redis::cmd("SET");
                set.arg("{06S}a").arg(&value);
                if set.query::<()>(&mut connection).is_err() {
                    break;
                }
                // A replica that gets no processor time for seconds has at most 64 MiB to catch up with.
                thread::sleep(Duration::from_millis(1));
            }
        });
        let run = failover(&nodes, &["--to", &nodes[3].id(), "--force"]).run();
        stop.store(true, Ordering::Relaxed);
        run.status(0);
    });
    assert_eq!(role(&nodes[3]), "master");
}

/// A replica in its first full resync has no copy yet, however it takes over.
#[test]
fn a_replica_in_its_first_full_resync() {
    let late = spec("redis-7.0").arg("--repl-diskless-sync-delay", 1000);
    let nodes = Nodes::with(4, &late);
    for index in 0..3 {
        nodes.assign(index, (index * 5462)..((index + 1) * 5462).min(16384));
        nodes[index].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
    }
    nodes.join();
    nodes.wait_usable();
    fill_with(&nodes, "k", 300);
    nodes.replicate(3, 0);
    let replica = nodes[3].id();
    until("the master to list the replica", PATIENCE, || {
        match nodes[0].field("slave0") {
            Some(_) => Ok(()),
            None => Err(nodes[0].nodes_text()),
        }
    });
    failover(&nodes, &["--to", &replica])
        .run()
        .status(3)
        .stderr_has("has not finished its full resync");
    for how in ["--force", "--takeover"] {
        failover(&nodes, &["--to", &replica, how])
            .run()
            .status(3)
            .stderr_has("answers and has the better copy");
    }
    assert_eq!(role(&nodes[3]), "slave");
}

/// A replica that was given another master, and got nothing from it, has the data of the former one.
#[test]
fn matrix_the_data_of_another_shard() {
    for version in versions() {
        let nodes = shard(1, &spec(version));
        fill_with(&nodes, "k", 300);
        wait_for_copies(&nodes);
        let (second, replica) = (nodes[1].id(), nodes[3].id());
        nodes[1].stop();
        nodes[3].cmd(&["CLUSTER", "REPLICATE", &second]);
        let follows = format!(" {second} ");
        until("the first master to hear of it", PATIENCE, || {
            let text = nodes[0].nodes_text();
            match text.contains(&follows) {
                true => Ok(()),
                false => Err(text),
            }
        });
        let run = Trib::new()
            .args(["failover", "--yes", &nodes[0].addr(), "--to", &replica])
            .args(["--takeover", "--command-timeout", "3s"])
            .run();
        nodes[1].cont();
        run.status(3)
            .stderr_has("its data is that of another shard");
        assert_eq!(role(&nodes[3]), "slave");
    }
}

/// A master that runs an older version can't load what the new one sends.
#[test]
fn matrix_a_failover_to_a_newer_version() {
    if !versions().contains(&"redis-8.2") {
        return;
    }
    let nodes = Nodes::each(4, |index| {
        spec(match index {
            3 => "redis-8.2",
            _ => "redis-7.0",
        })
    });
    nodes.form(3);
    let line = |args: &[&str]| failover(&nodes, args).arg("--dry-run");
    line(&["--to", &nodes[3].id()])
        .run()
        .status(0)
        .stdout_has(&format!("[WARNING] {} (", nodes[0].addr()))
        .stdout_has("it will be unable to follow ");
    let lines = line(&["--of", &nodes[0].id(), "-o", "json"])
        .run()
        .status(0)
        .json_lines();
    assert_eq!(lines[0]["warnings"].as_array().unwrap().len(), 1);
}

/// The same warning wherever a replica takes over.
#[test]
fn a_newer_master_is_warned_of_in_all_plans() {
    // Pings to replicas are a part of the stream, too.
    let quiet = |version| spec(version).arg("--repl-ping-replica-period", 3600);
    let nodes = Nodes::each(5, |index| {
        quiet(match index {
            3 => "redis-8.2",
            _ => "redis-7.0",
        })
    });
    // Of equal copies the lowest id is chosen.
    while nodes[4].id() < nodes[3].id() {
        for server in &nodes[3..] {
            server.cmd(&["CLUSTER", "RESET", "HARD"]);
        }
    }
    let nodes = shard_of(nodes);
    let name = |server: &Server| format!("{} ({})", server.addr(), &server.id()[..8]);
    let [old, new, beside] = [&nodes[0], &nodes[3], &nodes[4]];
    let newer = spec("redis-8.2").start();
    let told = |command: &str, args: &[&str]| {
        let line = Trib::new().args([command, &nodes[1].addr(), "--dry-run"]);
        let run = line.args(args).run().status(0);
        // Lines are wrapped.
        let words = [run.stdout.as_str(), run.stderr.as_str()].join(" ");
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let warns = |text: &str, older: &Server, master: &Server| {
        let begins = format!("{} runs redis 7.0.15 and can't load", name(older));
        let ends = format!("it will be unable to follow {} as soon", name(master));
        text.contains(&begins) && text.contains(&ends)
    };
    let place = told("place", &["--masters", &new.id()]);
    assert!(
        warns(&place, old, new) && warns(&place, beside, new),
        "{place}"
    );
    let replace = told("replace-node", &[&old.id(), &newer.addr()]);
    assert!(
        warns(&replace, old, &newer) && warns(&replace, beside, &newer),
        "{replace}"
    );
    // No other node has to follow it.
    let replace = told("replace-node", &[&new.id(), &newer.addr()]);
    assert!(!replace.contains("unable to follow"), "{replace}");
    until("both copies to be equal", PATIENCE, || {
        match (offset(new), offset(beside)) {
            (one, other) if one == other => Ok(()),
            offsets => Err(format!("{offsets:?}")),
        }
    });
    let master = old.id();
    old.kill();
    until_failed(&nodes, &master);
    let fix = told("fix", &["--failover", "force"]);
    assert!(fix.contains(&format!("failover to {}", name(new))), "{fix}");
    assert!(warns(&fix, beside, new), "{fix}");
}
