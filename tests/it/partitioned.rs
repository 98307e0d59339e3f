//! A member that is cut off from all others, and from us, while nodes join and take over.

use std::time::Duration;

use crate::support::cluster::Nodes;
use crate::support::command::{Ended, Trib};
use crate::support::network::Network;
use crate::support::server::{Server, Spec};
use crate::support::views::{myself, owned_slots};
use crate::support::wait::{PATIENCE, until};

/// `count` servers on hosts of their own: 127.0.9.1 and on.
fn hosts(network: &Network, count: usize, from: usize) -> Nodes {
    Nodes::each(count, |index| {
        let host = format!("127.0.9.{}", from + index);
        Spec::new()
            .node_timeout(2000)
            .arg("--repl-diskless-sync-delay", 0)
            .host_in(network, &host)
    })
}

fn trib(network: &Network) -> Trib {
    network
        .trib()
        .args(["--connect-timeout", "1s", "--command-timeout", "5s"])
}

/// All know each other, and say ok.
#[track_caller]
fn assert_whole<'a>(nodes: impl IntoIterator<Item = &'a Server>, count: usize) {
    for server in nodes {
        until("the cluster to be whole again", PATIENCE, || {
            let text = server.nodes_text();
            let is_whole = text.lines().count() == count
                && !text.contains("fail")
                && !text.contains("handshake");
            match server.field("cluster_state").unwrap().as_str() {
                "ok" if is_whole => Ok(()),
                state => Err(format!("{state}\n{text}")),
            }
        });
    }
}

#[test]
fn while_a_node_joins() {
    let network = Network::new();
    let nodes = hosts(&network, 3, 1);
    nodes.form(3);
    let new = hosts(&network, 1, 4);
    let line = || {
        trib(&network)
            .args(["add-node", "--yes", &new[0].addr(), &nodes[0].addr()])
            .args(["--join-timeout", "4s", "-o", "json"])
    };
    let run = line().spawn();
    run.wait_stdout("\"phase\":\"meet\"");
    network.cut(nodes[2].host());
    let ended = run.wait().within(Duration::from_secs(60));
    network.heal();
    // The join takes a second: it may have ended before the cut.
    if ended.status != Ended::Status(0) {
        ended
            .status(6)
            .stderr_has(&nodes[2].addr())
            .stderr_has("To resume:");
    }
    // The join finishes by itself, or by running the same command again. Until the member that was cut off hears that the
    // first run has ended, it holds that one for at work.
    until("the same command to finish it", PATIENCE, || {
        let ended = line().args(["--join-timeout", "30s"]).run();
        if ended.stderr.contains("another redis-trib is at work") {
            return Err(ended.stderr);
        }
        assert!(
            ended.stderr.contains("is a member already")
                || ended.stdout.contains("\"event\":\"added\"")
                || ended.stderr.contains("in healthy clusters only"),
            "{}",
            ended.stderr
        );
        Ok(())
    });
    assert_whole(nodes.iter().chain(new.iter()), 4);
}

#[test]
fn while_a_replica_takes_over() {
    let network = Network::new();
    let nodes = hosts(&network, 5, 11);
    nodes.form(3);
    let line = |id: &str, flag: &str| {
        trib(&network).args(["failover", "--yes", &nodes[0].addr(), id, flag])
    };
    // One of three voters is cut off: the other two are a majority.
    network.cut(nodes[2].host());
    line(&nodes[3].id(), "--timeout=15s")
        .run()
        .status(0)
        .within(Duration::from_secs(30));
    assert_eq!(nodes[3].field("role").unwrap(), "master");
    network.heal();
    assert_whole(nodes.iter(), 5);
    // The one that was cut off has heard of it.
    until("the old master to be a replica for all", PATIENCE, || {
        let text = nodes[2].nodes_text();
        let line = text.lines().find(|line| line.starts_with(&nodes[0].id()));
        if line.unwrap().contains("slave") {
            Ok(())
        } else {
            Err(text)
        }
    });

    // A master that is cut off can't take part in a failover, and comes back as a replica.
    network.cut(nodes[1].host());
    let refused = line(&nodes[4].id(), "--timeout=15s").run().status(3);
    // By us, or by the others meanwhile.
    let said = [
        "does not answer, so it can't hand over: --force",
        "is a master",
    ];
    assert!(
        said.iter().any(|why| refused.stderr.contains(why)),
        "{}",
        refused.stderr
    );
    line(&nodes[4].id(), "--force")
        .run()
        .within(Duration::from_secs(45));
    until("its replica to be a master", PATIENCE, || {
        match nodes[4].field("role").unwrap().as_str() {
            "master" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    network.heal();
    until("the old master to follow", PATIENCE, || {
        match myself(&nodes[1])[3].clone() {
            master if master == nodes[4].id() => Ok(()),
            other => Err(other),
        }
    });
    assert_whole(nodes.iter(), 5);
}

#[test]
fn while_a_node_leaves() {
    let network = Network::new();
    let nodes = hosts(&network, 4, 31);
    nodes.form(4);
    let line = || {
        trib(&network)
            .args([
                "del-node",
                "--yes",
                "--drain",
                &nodes[0].addr(),
                &nodes[3].addr(),
            ])
            .args(["--timeout", "1s"])
    };
    // Of the three that take its slots one is cut off in the middle.
    let run = line().args(["--max-open-slots", "1"]).spawn();
    until(
        "some slots to have moved",
        PATIENCE,
        || match owned_slots(&nodes[3]).len() {
            left if left < 4090 => Ok(()),
            left => Err(format!("{left} are there")),
        },
    );
    network.cut(nodes[2].host());
    let ended = run.wait().status(6).stderr_has(&nodes[2].addr());
    network.heal();
    assert!(ended.stderr.contains("del-node"), "{}", ended.stderr);
    until("the same command to finish it", PATIENCE, || {
        let ended = line().run();
        match ended.stderr.contains("error:") {
            true => Err(ended.stderr),
            false => Ok(()),
        }
    });
    assert_whole(&nodes[..3], 3);
    assert_eq!(nodes[3].nodes_text().lines().count(), 1);
    let kept: usize = nodes[..3].iter().map(|node| owned_slots(node).len()).sum();
    assert_eq!(kept, 16_384);
}

#[test]
fn while_a_node_is_replaced() {
    let network = Network::new();
    let nodes = hosts(&network, 3, 21);
    nodes.form(3);
    let new = hosts(&network, 1, 24);
    let old = nodes[1].id();
    // Its waits take more than a minute if each of them is in vain: join and failover 20 s, settle and forget 15 s.
    let line = || {
        let line = trib(&network).args([
            "replace-node",
            "--yes",
            &nodes[0].addr(),
            &old,
            &new[0].addr(),
            "--join-timeout=20s",
            "--output=json",
        ]);
        line.timeout(Duration::from_secs(180))
    };
    let run = line().spawn();
    run.wait_stdout("\"event\":\"added\"");
    network.cut(nodes[2].host());
    let ended = run.wait();
    network.heal();
    // It may have come through, with the third left out; what is left is done by the same command.
    let cut_off = ended.stderr.contains("same command again");
    assert!(
        cut_off || ended.stdout.contains("has replaced "),
        "{}",
        ended.stderr
    );
    until("the same command to finish it", PATIENCE, || {
        let ended = line().run();
        if ended.stderr.contains("error:") {
            Err(ended.stderr)
        } else {
            Ok(())
        }
    });
    let now = [&nodes[0], &nodes[2], &new[0]];
    assert_whole(now, 3);
    assert_eq!(new[0].field("role").unwrap(), "master");
    assert!(!new[0].nodes_text().contains(&old));
}
