//! `failover`: votes that will not come are foreseen.

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::server::{Server, Spec, versions};
use crate::support::wait::{PATIENCE, until};

fn role(server: &Server) -> String {
    server.field("role").unwrap()
}

/// The epoch of that node in the view of a server.
fn epoch(server: &Server, id: &str) -> String {
    let text = server.nodes_text();
    let line = text.lines().find(|line| line.starts_with(id)).unwrap();
    line.split(' ').nth(6).unwrap().to_owned()
}

/// Redis elects no replica of a master without slots, and a takeover leaves two such masters. Valkey elects it.
#[test]
fn matrix_a_master_without_slots() {
    for version in versions() {
        let spec = Spec::new().quick().version(version);
        let spec = spec.arg("--cluster-allow-replica-migration", "no");
        let (nodes, proxies) = Nodes::behind_proxies(5, &spec);
        let seed = proxies[0].addr();
        for (index, slots) in [0..=5460, 5461..=10922, 10923..=16383]
            .into_iter()
            .enumerate()
        {
            nodes.assign(index, slots);
        }
        for index in 0..4 {
            nodes[index].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        nodes.join();
        nodes.replicate(4, 3);
        nodes.wait_usable();
        let line = |flags: &[&str]| {
            Trib::new()
                .args(["failover", "--yes", &seed, "--to", &nodes[4].id()])
                .args(flags)
        };
        if version.starts_with("valkey") {
            line(&[]).run().status(0);
            assert_eq!(role(&nodes[4]), "master");
            assert_eq!(role(&nodes[3]), "slave");
            continue;
        }
        for flags in [&[][..], &["--force"], &["--takeover"]] {
            line(flags)
                .run()
                .status(3)
                .stderr_has("owns no slots")
                .stderr_has(&format!("redis-trib reshard {seed} --to "));
        }
        // No votes were asked for.
        assert_eq!(proxies[4].count("CLUSTER FAILOVER"), 0);
        assert_eq!(role(&nodes[4]), "slave");
        // Dead, it holds nothing up.
        let master = nodes[3].id();
        nodes[3].kill();
        line(&["--force"])
            .run()
            .status(3)
            .stderr_has("owns no slots")
            .stderr_has(&format!("redis-trib del-node {seed} "))
            .stderr_has(&master);
    }
}

/// A replica that was down while its master took a new config epoch, and whose master is dead now, gets no vote.
#[test]
fn matrix_a_replica_with_an_old_epoch() {
    for version in versions() {
        let spec = Spec::new().quick().version(version);
        let nodes = Nodes::with(4, &spec);
        nodes.form(3);
        let (master, replica) = (nodes[0].id(), nodes[3].id());
        // Its file tells that it has a copy.
        nodes[0].cmd(&["SET", "{06S}a", "1"]);
        until("the key to arrive", PATIENCE, || {
            match nodes[3].text(&["INFO", "keyspace"]) {
                text if text.contains("keys=1") => Ok(()),
                text => Err(text),
            }
        });
        nodes[3].cmd(&["SAVE"]);
        nodes[3].kill();
        nodes[0].cmd(&["CLUSTER", "BUMPEPOCH"]);
        let new = epoch(&nodes[0], &master);
        for voter in &nodes[1..3] {
            until(
                "the voters to hear of the epoch",
                PATIENCE,
                || match epoch(voter, &master) {
                    known if known == new => Ok(()),
                    known => Err(known),
                },
            );
        }
        nodes[0].kill();
        nodes[3].restart();
        for server in &nodes[1..] {
            until("the master to be flagged as failed", PATIENCE, || {
                let text = server.nodes_text();
                let line = text.lines().find(|line| line.starts_with(&master)).unwrap();
                match line.contains("fail ") {
                    true => Ok(()),
                    false => Err(text),
                }
            });
        }
        let line = |flags: &[&str]| {
            Trib::new()
                .args(["failover", "--yes", &nodes[1].addr(), "--to", &replica])
                .args(flags)
        };
        line(&["--force"])
            .run()
            .status(3)
            .stderr_has("will not vote for ")
            .stderr_has("--takeover needs no votes")
            .stderr_lacks("writes go on")
            .stderr_lacks("old votes");
        let fix =
            |how: &str| Trib::new().args(["fix", "--yes", &nodes[1].addr(), "--failover", how]);
        fix("force")
            .run()
            .status(3)
            .stderr_has("--takeover needs no votes")
            .stderr_lacks("To resume");
        // `check` names no failover that would fail.
        Trib::new()
            .args(["check", &nodes[1].addr()])
            .run()
            .stdout_lacks("--force");
        fix("takeover").run().status(0);
        assert_eq!(role(&nodes[3]), "master");
        assert!(nodes[3].text(&["INFO", "keyspace"]).contains("keys=1"));
    }
}

/// The remedy for a dead master is the command of this program.
#[test]
fn check_names_the_failover() {
    let spec = Spec::new()
        .quick()
        .arg("--cluster-replica-no-failover", "yes");
    let nodes = Nodes::with(4, &spec);
    nodes.form(3);
    let master = nodes[0].id();
    nodes[0].kill();
    let remedy = format!(
        "redis-trib failover {} --of {master} --force",
        nodes[1].addr()
    );
    until("check to name the failover", PATIENCE, || {
        let ended = Trib::new().args(["check", &nodes[1].addr()]).run();
        match ended.stdout.contains(&remedy) {
            true => Ok(()),
            false => Err(ended.stdout.clone()),
        }
    });
    Trib::new()
        .args(["failover", &nodes[1].addr(), "--of", &master, "--force"])
        .arg("--yes")
        .run()
        .status(0);
    assert_eq!(role(&nodes[3]), "master");
}
